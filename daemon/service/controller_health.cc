// SPDX-License-Identifier: Apache-2.0
#include "service/controller_health.h"

#include <algorithm>

#include "api/operator.h"
#include "service/findings.h"

namespace ebb::service {

namespace {

constexpr double ns_per_second = 1e9;

// Why everything of a disk is gone over, and what to do so that it does not happen again. `why`
// ends in the reason's name.
struct ReasonWords {
    std::string_view name;
    std::string_view sentence;
    std::string_view remedy;
};

constexpr ReasonWords reason_words[] = {
    {"new", "was attached without knowing what had been written before",
     "Nothing: it goes on by itself"},
    {"not-attached-at-boot", "was not attached before the system could write to it",
     "Make the initramfs anew: update-initramfs -u, or dracut -f"},
    {"boot-without-module", "was booted without the module in between",
     "Build the module for every kernel that is booted: dkms status"},
    {"kdump", "was written to by a crash kernel",
     "Have kdump write to a disk that is not protected"},
    {"map-lost", "has lost its map, or it is damaged", "Look after the map device"},
    {"map-foreign", "came up with the map of another disk, or was another size",
     "See whether disks were swapped"},
    {"map-stale", "was written to without the module, or is older or newer than its map",
     "Boot no other system from it; if a snapshot was restored, nothing"},
    {"map-out-of-step", "came up with a map that is older or newer than the replica",
     "Nothing, if a snapshot of the machine or of its map was restored"},
    {"map-of-another-protection", "came up with the map of another protection", "Nothing"},
    {"map-failed", "could not keep its map", "Look after the map device"},
    {"detached", "was detached and attached again", "Nothing: it goes on by itself"},
    {"hibernated", "was hibernated", "Do not hibernate a protected machine"},
};

Error resync_reason(const std::string& machine, const std::string& why) {
    const auto colon = why.rfind(": ");
    const auto name = colon == std::string::npos ? why : why.substr(colon + 2);
    const auto disk = colon == std::string::npos ? std::string("a disk") : why.substr(0, colon);
    const auto found = std::ranges::find(reason_words, name, &ReasonWords::name);
    if (found == std::end(reason_words)) {
        return {ErrorCode::resync_required,
                "writes on " + machine + " went by untracked: " + why,
                "Have everything gone over: ebbctl resync " + machine + " --checksum",
                {}};
    }
    return {ErrorCode::resync_required,
            disk + " of " + machine + " " + std::string(found->sentence) + " (" + name +
                "): all of it is gone over",
            std::string(found->remedy),
            {}};
}

class Assessment {
public:
    Assessment(api::Json protection, std::int64_t now_ns)
        : document_(std::move(protection)), now_ns_(now_ns) {
        document_["rpo_clock"] = "controller";
    }

    void critical(const Error& error) { add(error, "critical"); }
    void warning(const Error& error) { add(error, "warning"); }

    // Whether data should be flowing.
    [[nodiscard]] bool active() const {
        const auto state = document_.value("state", "");
        return state == "protected" || state == "initial-sync";
    }

    void look_at_source(const std::string& name, const std::optional<AgentView>& view) {
        if (auto problem = agent_problem(name, view)) critical(*problem);
        if (!view || view->revoked) return;
        const auto* part = source_part(view, id());
        if (view->last.source && !view->last.source->module.loaded) {
            critical(view->last.source->module.error
                         ? api::from_info(*view->last.source->module.error)
                         : Error{ErrorCode::refused, "the module is not loaded on " + name,
                                 "modprobe ebb there", "E_MODULE_NOT_LOADED"});
        }
        if (view->last.source) {
            for (const auto& told : view->last.source->warnings) warning(api::from_info(told));
        }
        if (part == nullptr) {
            if (!preparing()) {
                critical({ErrorCode::refused,
                          name + " does not replicate: it knows of no protection",
                          "Have everything gone over: ebbctl resync " + name + " --checksum",
                          "E_NOT_REPLICATING"});
            }
            return;
        }
        // Cut times are of that clock.
        if (const auto clock = view->last.source->clock_ns; clock != 0) {
            now_ns_ = clock + static_cast<std::int64_t>(view->seconds_silent * ns_per_second);
            document_["rpo_clock"] = "source";
        }
        pace_ = part->pace;
        rate_ = part->rate_bytes_per_s;
        document_["pace"] = std::string(api::enum_name(part->pace));
        document_["interval_effective_ms"] = part->effective_interval_ms;
        tell_interval(*part);
        document_["app_running"] = part->app.running;
        if (part->app.error) warning(api::from_info(*part->app.error));
        document_["source"] = std::string(api::enum_name(part->state));
        document_["cuts_closed"] = part->cuts_closed;
        document_["cuts_void"] = part->cuts_void;
        if (part->error) critical(api::from_info(*part->error));
        for (const auto& why : part->resync_required) {
            warning(resync_reason(name, why));
        }
    }

    void look_at_target(const std::string& name, const std::optional<AgentView>& view) {
        if (auto problem = agent_problem(name, view)) critical(*problem);
        if (!view || view->revoked) return;
        const auto* part = target_part(view, id());
        if (part == nullptr) {
            if (active() && !preparing()) {
                critical({ErrorCode::refused, name + " knows nothing of this protection",
                          "If its state is lost, end the protection and begin anew: ebbctl disable",
                          "E_NOT_REPLICATING"});
            }
            return;
        }
        document_["target_state"] = std::string(api::enum_name(part->state));
        document_["points"] = part->points;
        oldest_epoch_ = part->oldest_epoch;
        if (oldest_epoch_ != 0) document_["oldest_epoch"] = oldest_epoch_;
        document_["retention_bytes"] = part->retention_bytes;
        document_["rollback_bytes"] = part->rollback_bytes;
        document_["served"] = api::encode(*part)["served"];
        for (const auto& served : part->served) {
            if (served.error) warning(api::from_info(*served.error));
        }
        if (part->error) critical(api::from_info(*part->error));
        if (!part->newest_point) return;
        document_["newest_point"] = api::encode(*part->newest_point);
        const double age = age_of(part->newest_point->cut_time_ns);
        document_["rpo_seconds"] = age;
        const double interval = number("interval_ms") / 1000;
        const double limit = std::max(number("rpo_s", api::default_rpo_s), 3 * interval);
        document_["rpo_limit_s"] = limit;
        if (active() && interval > 0 && age > limit) {
            warning({ErrorCode::refused,
                     "the newest recovery point is " + std::to_string(static_cast<long>(age)) +
                         " s old, " + std::to_string(static_cast<long>(limit)) + " are allowed" +
                         (why().empty() ? "" : ": " + why()),
                     "See what else is wrong here, and whether the link can carry the changes",
                     "E_POINT_OLD"});
        }
        look_at_application_points(*part);
    }

    void look_at_application_points(const api::TargetProtection& part) {
        const double interval = number("app_interval_ms", api::default_app_interval_ms) / 1000;
        if (part.newest_app_point) {
            document_["newest_app_point"] = api::encode(*part.newest_app_point);
            document_["app_seconds"] = age_of(part.newest_app_point->cut_time_ns);
        }
        const auto since =
            part.newest_app_point ? part.newest_app_point->cut_time_ns : part.oldest_point_ns;
        if (!active() || interval <= 0 || since == 0) return;
        const double age = age_of(since);
        if (age <= 2 * interval) return;
        const std::string words =
            part.newest_app_point
                ? "the newest application-consistent recovery point is " +
                      std::to_string(static_cast<long>(age / 60)) + " min old"
                : std::string("there is no application-consistent recovery point");
        warning({ErrorCode::refused, words,
                 "Make one, and see why it fails: ebbctl checkpoint " +
                     document_.value("machine", "") + " --app --wait",
                 "E_APP_OLD"});
    }

    // What the last verifications came to.
    void look_at_findings() {
        forget_given_up(document_, oldest_epoch_);
        for (const auto& found : findings(document_)) {
            if (found.critical)
                critical(found.error);
            else
                warning(found.error);
        }
    }

    api::Json take() {
        document_["health"] = health_;
        document_["problems"] = std::move(problems_);
        return std::move(document_);
    }

private:
    [[nodiscard]] std::string id() const { return document_.value("id", ""); }
    [[nodiscard]] bool preparing() const { return document_.value("preparing", false); }
    [[nodiscard]] double number(const char* key, std::uint64_t otherwise = 0) const {
        return static_cast<double>(document_.value(key, otherwise));
    }
    [[nodiscard]] double age_of(std::int64_t cut_ns) const {
        return std::max(0.0, static_cast<double>(now_ns_ - cut_ns) / ns_per_second);
    }
    // Why points are further apart than was asked for, and the newest is old.
    [[nodiscard]] std::string why() const {
        switch (pace_) {
            case api::Pace::kept:
            case api::Pace::on_demand: return "";
            case api::Pace::disconnected: return "the source has no connection to the target";
            case api::Pace::target_waits: return "the target takes nothing now";
            case api::Pace::quiescing:
                return "scripts of an application-consistent point are at work";
            case api::Pace::voids: return "cuts had to be given up, so that no writer had to wait";
            case api::Pace::link:
                return "what changes takes longer to send, at " + std::to_string(rate_ >> 10) +
                       " KiB/s";
        }
        return "";
    }

    void tell_interval(const api::SourceProtection& part) {
        if (!active() || why().empty()) return;
        std::string words = "points are " + seconds_of(part.effective_interval_ms) +
                            " apart, not the " + seconds_of(part.interval_ms) +
                            " that are asked for: " + why();
        if (part.epoch_ms != 0 && part.pace == api::Pace::link) {
            words += "; the newest took " + seconds_of(part.epoch_ms) + " for " +
                     std::to_string(part.epoch_bytes >> 10) + " KiB";
        }
        document_["interval_why"] = words;
    }

    static std::string seconds_of(std::uint64_t ms) {
        constexpr std::uint64_t exact_ms = 10'000;
        if (ms % 1000 == 0 || ms >= exact_ms) return std::to_string(ms / 1000) + " s";
        return std::to_string(ms) + " ms";
    }

    void add(const Error& error, const char* severity) {
        auto item = api::encode(api::to_info(error));
        item["severity"] = severity;
        const bool grave = std::string(severity) == "critical";
        if (grave || health_ == "ok") health_ = severity;
        problems_.insert(grave ? problems_.begin() + critical_++ : problems_.end(),
                         std::move(item));
    }

    api::Json document_;
    std::int64_t now_ns_;
    api::Pace pace_ = api::Pace::kept;
    std::uint64_t rate_ = 0;
    std::uint64_t oldest_epoch_ = 0;  // 0: nobody knows
    std::string health_ = "ok";
    api::Json problems_ = api::Json::array();
    std::ptrdiff_t critical_ = 0;
};

template <class Parts>
auto find_part(const Parts& parts, const std::string& id) -> decltype(&parts.front()) {
    const auto found = std::ranges::find(parts, id, [](const auto& part) { return part.id; });
    return found == parts.end() ? nullptr : &*found;
}

}  // namespace

std::optional<Error> agent_problem(const std::string& name, const std::optional<AgentView>& view) {
    if (!view) {
        return Error{ErrorCode::not_found,
                     "the agent of " + name + " has not registered since the controller started",
                     "Wait and retry; if it lasts, see whether ebbd runs on " + name,
                     "E_AGENT_NOT_REGISTERED"};
    }
    if (view->revoked) {
        return Error{
            ErrorCode::denied, "the certificate of " + name + " is revoked",
            "Join it anew (ebbctl token create --machine " + name + "), or end its protections",
            "E_REVOKED"};
    }
    if (view->seconds_silent > ControllerAgents::silent_seconds) {
        return Error{ErrorCode::timeout, "the agent of " + name + " is silent",
                     "See whether ebbd runs on " + name + " and reaches the controller",
                     "E_AGENT_SILENT"};
    }
    return std::nullopt;
}

const api::SourceProtection* source_part(const std::optional<AgentView>& view,
                                         const std::string& protection) {
    if (!view || !view->last.source) return nullptr;
    return find_part(view->last.source->protections, protection);
}

const api::TargetProtection* target_part(const AgentView& view, const std::string& protection) {
    if (!view.last.target) return nullptr;
    return find_part(view.last.target->protections, protection);
}

const api::TargetProtection* target_part(const std::optional<AgentView>& view,
                                         const std::string& protection) {
    return view ? target_part(*view, protection) : nullptr;
}

bool has_test(const api::Json& protection) {
    return protection.contains("test") && protection["test"].is_object();
}

Error test_runs(const std::string& machine) {
    return refusal("E_TEST_RUNS", "a test failover of " + machine + " was not cleaned up",
                   "ebbctl test-failover " + machine + " --clean");
}

api::Json with_health(api::Json protection, const std::optional<AgentView>& source,
                      const std::optional<AgentView>& target, std::int64_t now_ns) {
    const auto machine = protection.value("machine", "");
    const auto other = protection.value("target", "");
    const auto state = protection.value("state", "");
    Assessment assessment(std::move(protection), now_ns);
    if (assessment.active()) assessment.look_at_source(machine, source);
    if (state != "failed-back") assessment.look_at_target(other, target);
    assessment.look_at_findings();
    if (state == "failing-over") {
        assessment.warning({ErrorCode::refused, "the failover of " + machine + " has not ended",
                            "Run it again, it goes on where it was: ebbctl failover " + machine,
                            "E_STATE"});
    }
    if (state == "rolling-back") {
        assessment.warning(
            {ErrorCode::refused, "the way of " + machine + " back to replication has not ended",
             "Run it again, it goes on where it was: ebbctl rollback " + machine, "E_STATE"});
    }
    return assessment.take();
}

}  // namespace ebb::service
