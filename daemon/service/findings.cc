// SPDX-License-Identifier: Apache-2.0
#include "service/findings.h"

#include <algorithm>
#include <set>

namespace ebb::service {

namespace {

using api::Json;
using api::text;

constexpr const char* journal_key = "retention_verified";
constexpr const char* checked_key = "point_checked";
constexpr const char* damaged_key = "damaged_points";
constexpr std::size_t kept_points = 64;
// So many are named in a sentence.
constexpr std::size_t told_points = 4;

// Null where the document has none, be it of an older controller.
Json object_of(const Json& document, const char* key) {
    const auto found = document.find(key);
    return found != document.end() && found->is_object() ? *found : Json();
}

std::vector<Json> damaged_of(const Json& protection) {
    std::vector<Json> list;
    const auto found = protection.find(damaged_key);
    if (found == protection.end() || !found->is_array()) return list;
    for (const auto& point : *found) {
        if (point.is_object()) list.push_back(point);
    }
    return list;
}

std::uint64_t number(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number_integer() ? found->get<std::uint64_t>() : 0;
}

Json damage_of(const Json& protection) {
    const auto journal = object_of(protection, journal_key);
    return journal.is_object() ? object_of(journal, "damage") : Json();
}

Finding points_differ(const std::string& machine, const std::vector<Json>& damaged) {
    std::string names;
    for (std::size_t i = 0; i < std::min(damaged.size(), told_points); ++i) {
        const Json& point = damaged[damaged.size() - 1 - i];
        names += (i == 0 ? "" : ", ") + std::to_string(number(point, "epoch"));
        if (const auto name = text(point, "name"); !name.empty()) names += " (" + name + ")";
    }
    if (damaged.size() > told_points)
        names += " and " + std::to_string(damaged.size() - told_points) + " more";
    return {{ErrorCode::corrupt,
             "recovery points of " + machine +
                 " are not as they were sent, when they were compared last: epochs " + names,
             "Choose another one; when the target's disks were looked after, compare it again: "
             "ebbctl verify " +
                 machine + " --at EPOCH",
             "E_POINT_DIFFERS"}};
}

}  // namespace

Json journal_was_whole(const api::VerifyValue& value, std::int64_t time) {
    auto found = api::encode(value);
    found.update({{"time", time}, {"outcome", "whole"}, {"error", nullptr}, {"damage", nullptr}});
    return {{journal_key, found}};
}

std::optional<Json> journal_was_not_whole(const Json& protection, const Error& error,
                                          const api::Point* newest, bool certifying,
                                          std::int64_t time) {
    const bool damaged = error.name() == code_name(ErrorCode::corrupt) ||
                         (!certifying && error.name() == code_name(ErrorCode::io));
    const bool full = !certifying && error.name() == code_name(ErrorCode::no_space);
    if (!damaged && !full) return std::nullopt;
    Json damage = damage_of(protection);
    if (damaged) {
        damage = {{"time", time}, {"message", error.message}};
        if (newest != nullptr) damage["newest_epoch"] = newest->epoch;
    }
    return Json{{journal_key,
                 {{"time", time},
                  {"outcome", damaged ? "damaged" : "full"},
                  {"error", api::encode(api::to_info(error))},
                  {"damage", damage}}}};
}

Json point_was_checked(const Json& protection, const api::CertifyValue& value, std::int64_t time) {
    const auto& point = value.point;
    Json found{{"time", time},
               {"epoch", point.epoch},
               {"name", point.name},
               {"whole", value.whole},
               {"different_bytes", value.different_bytes}};
    auto damaged = damaged_of(protection);
    const bool differs = value.different_bytes != 0;
    // Less was compared now than what had been found to differ: that stands.
    std::erase_if(damaged, [&](const Json& old) {
        return number(old, "epoch") == point.epoch && (value.whole || !old.value("whole", false));
    });
    const bool listed = std::ranges::any_of(
        damaged, [&](const Json& old) { return number(old, "epoch") == point.epoch; });
    if (differs && !listed) damaged.push_back(found);
    std::ranges::sort(damaged, {}, [](const Json& one) { return number(one, "epoch"); });
    if (damaged.size() > kept_points)
        damaged.erase(damaged.begin(), damaged.end() - std::ptrdiff_t{kept_points});
    found.update({{"bytes", value.bytes}, {"equal_bytes", value.equal_bytes}});
    return {{checked_key, found}, {damaged_key, damaged}};
}

Json points_are(const Json& protection, const std::vector<api::Point>& points) {
    std::set<std::uint64_t> there;
    for (const auto& point : points) there.insert(point.epoch);
    auto damaged = damaged_of(protection);
    std::erase_if(damaged, [&](const Json& one) { return !there.contains(number(one, "epoch")); });
    return {{damaged_key, damaged}};
}

void forget_given_up(Json& protection, std::uint64_t oldest_epoch) {
    if (oldest_epoch == 0) return;
    if (auto damaged = damaged_of(protection); !damaged.empty()) {
        std::erase_if(damaged,
                      [&](const Json& one) { return number(one, "epoch") < oldest_epoch; });
        protection[damaged_key] = damaged;
    }
    const auto damage = damage_of(protection);
    const auto newest = damage.is_object() ? number(damage, "newest_epoch") : 0;
    if (newest != 0 && newest < oldest_epoch) protection[journal_key]["damage"] = nullptr;
}

std::vector<Finding> findings(const Json& protection) {
    std::vector<Finding> list;
    const auto machine = text(protection, "machine");
    const auto verified = object_of(protection, "verified");
    if (const auto bytes = verified.is_object() ? number(verified, "different_bytes") : 0;
        bytes != 0) {
        list.push_back({{ErrorCode::corrupt,
                         std::to_string(bytes) +
                             " bytes of the replica were not what the disks "
                             "of " +
                             machine + " have, when that was verified last",
                         "ebbctl verify " + machine + " --repair", "E_REPLICA_DIFFERS"}});
    }
    // The commit has dropped the journal and its points.
    if (text(protection, "state") == "failed-back") return list;
    const std::string again = "ebbctl retention verify " + machine;
    if (const auto damage = damage_of(protection); damage.is_object()) {
        list.push_back({{ErrorCode::corrupt,
                         "the journal of " + machine +
                             " was damaged when it was read last: " + text(damage, "message"),
                         "Look after the disk of the retention volume. Points from before the "
                         "damage may not be reached. When they are given up, verify again: " +
                             again,
                         "E_RETENTION_DAMAGED"}});
    }
    if (auto damaged = damaged_of(protection); !damaged.empty())
        list.push_back(points_differ(machine, damaged));
    const auto journal = object_of(protection, journal_key);
    if (journal.is_object() && text(journal, "outcome") == "full") {
        list.push_back(
            {{ErrorCode::no_space,
              "the journal of " + machine +
                  " was not read to its end: the retention volume was full",
              "Make room on the volume, and verify again: " + again, "E_RETENTION_UNREAD"},
             false});
    }
    return list;
}

}  // namespace ebb::service
