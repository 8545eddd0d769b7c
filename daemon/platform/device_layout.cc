// SPDX-License-Identifier: Apache-2.0
#include "platform/device_layout.h"

#include <libdevmapper.h>

#include <charconv>
#include <fstream>
#include <memory>
#include <mutex>

#include "base/units.h"

namespace ebb::platform {

namespace {

std::vector<std::string_view> words_of(std::string_view text) {
    std::vector<std::string_view> words;
    for (std::size_t at = 0; (at = text.find_first_not_of(' ', at)) != std::string_view::npos;) {
        const auto end = std::min(text.find(' ', at), text.size());
        words.push_back(text.substr(at, end - at));
        at = end;
    }
    return words;
}

std::optional<std::uint64_t> number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::string line_of(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

bool add_piece(DmTarget& target, std::string_view device, std::string_view start) {
    const auto sector = number(start);
    if (!sector) return false;
    target.pieces.push_back({std::string(device), *sector});
    return true;
}

std::optional<DmTarget> striped(const std::vector<std::string_view>& words) {
    DmTarget target;
    const auto stripes = words.size() < 2 ? std::nullopt : number(words[0]);
    const auto chunk = words.size() < 2 ? std::nullopt : number(words[1]);
    if (!stripes || !chunk || *stripes == 0 || *chunk == 0 || *stripes > words.size() ||
        words.size() != 2 + 2 * *stripes)
        return std::nullopt;
    target.chunk = *chunk;
    for (std::size_t i = 2; i < words.size(); i += 2) {
        if (!add_piece(target, words[i], words[i + 1])) return std::nullopt;
    }
    return target;
}

struct EndTask {
    void operator()(dm_task* task) const { dm_task_destroy(task); }
};
using Task = std::unique_ptr<dm_task, EndTask>;

// The library says on stderr what it fails by, unless it has somewhere else to say it.
void say_nothing(int, const char*, int, int, const char*, ...) {}

std::optional<std::vector<DmTarget>> load_table(const std::string& device) {
    const auto colon = device.find(':');
    const auto major = number(std::string_view(device).substr(0, colon));
    const auto minor = colon == std::string::npos
                           ? std::nullopt
                           : number(std::string_view(device).substr(colon + 1));
    const Task task(dm_task_create(DM_DEVICE_TABLE));
    // What has keys in it is wiped when it is not needed any more.
    if (!task || !major || !minor || dm_task_set_major(task.get(), static_cast<int>(*major)) == 0 ||
        dm_task_set_minor(task.get(), static_cast<int>(*minor)) == 0 ||
        dm_task_secure_data(task.get()) == 0 || dm_task_no_open_count(task.get()) == 0 ||
        dm_task_run(task.get()) == 0)
        return std::nullopt;
    std::vector<DmTarget> targets;
    for (void* next = nullptr;;) {
        std::uint64_t start = 0;
        std::uint64_t length = 0;
        char* type = nullptr;
        char* arguments = nullptr;
        next = dm_get_next_target(task.get(), next, &start, &length, &type, &arguments);
        if (type != nullptr && arguments != nullptr) {
            auto target = parse_dm_target(type, arguments);
            if (!target) return std::nullopt;
            target->start = start;
            target->length = length;
            targets.push_back(std::move(*target));
        }
        if (next == nullptr) return targets;
    }
}

// No stack is so high: tables that were read one after the other may contradict each other.
constexpr unsigned int most_levels = 32;

struct Place {
    const BlockDevice* device;
    std::uint64_t offset;
    unsigned int level = 0;
};

void add_dm(const BlockTable& table, const std::vector<DmTarget>& targets, std::uint64_t offset,
            std::vector<Place>& below) {
    for (const auto& target : targets) {
        const std::uint64_t begin = target.start * sector_bytes;
        if (offset < begin || offset - begin >= target.length * sector_bytes) continue;
        if (target.pieces.empty()) return;
        std::uint64_t within = offset - begin;
        std::size_t piece = 0;
        if (target.chunk != 0) {
            const std::uint64_t chunk = target.chunk * sector_bytes;
            const std::uint64_t turn = within / chunk;
            piece = turn % target.pieces.size();
            within = turn / target.pieces.size() * chunk + within % chunk;
        }
        const auto* device = table.find_number(target.pieces[piece].device);
        if (device != nullptr)
            below.push_back({device, target.pieces[piece].start * sector_bytes + within});
    }
}

// Each member has the array's data from its own offset on.
void add_mirror(const BlockTable& table, const BlockDevice& device, std::uint64_t offset,
                std::vector<Place>& below) {
    if (line_of(device.path + "/md/level") != "raid1") return;
    for (const auto& name : device.slaves) {
        const auto start = number(line_of(device.path + "/md/dev-" + name + "/offset"));
        const auto* member = table.find(name);
        if (start && member != nullptr) below.push_back({member, *start * sector_bytes + offset});
    }
}

std::vector<Place> next_below(const BlockTable& table, const DmTables& tables,
                              const BlockDevice& device, std::uint64_t offset) {
    std::vector<Place> below;
    if (!device.parent.empty()) {
        const auto start = number(line_of(device.path + "/start"));
        const auto* parent = table.find(device.parent);
        if (start && parent != nullptr) below.push_back({parent, *start * sector_bytes + offset});
    } else if (const auto it = tables.find(device.number); it != tables.end()) {
        add_dm(table, it->second, offset, below);
    } else {
        add_mirror(table, device, offset, below);
    }
    return below;
}

}  // namespace

std::optional<DmTarget> parse_dm_target(std::string_view type, std::string_view arguments) {
    const auto words = words_of(arguments);
    DmTarget target;
    if (type == "striped") return striped(words);
    if (type == "linear") {
        if (words.size() != 2 || !add_piece(target, words[0], words[1])) return std::nullopt;
    } else if (type == "crypt") {
        // cipher, key, what is added to a sector's number for its IV, device, sector
        if (words.size() < 5 || !add_piece(target, words[3], words[4])) return std::nullopt;
    } else if (type == "snapshot-origin") {
        if (words.empty() || !add_piece(target, words[0], "0")) return std::nullopt;
    }
    return target;
}

DmTables load_dm_tables(const BlockTable& table) {
    static std::mutex one_at_a_time;  // the library has one descriptor and one log for all
    const std::lock_guard lock(one_at_a_time);
    DmTables tables;
    dm_log_with_errno_init(say_nothing);
    for (const auto& [name, device] : table.devices()) {
        if (device.dm_name.empty()) continue;
        if (auto targets = load_table(device.number)) tables.emplace(device.number, *targets);
    }
    dm_lib_release();
    return tables;
}

std::vector<std::uint64_t> places_on(const BlockTable& table, const DmTables& tables,
                                     const BlockDevice& disk, const BlockDevice& device,
                                     std::uint64_t offset) {
    std::vector<std::uint64_t> places;
    std::vector<Place> todo{{&device, offset}};
    while (!todo.empty()) {
        const Place at = todo.back();
        todo.pop_back();
        if (at.offset >= at.device->size || at.level == most_levels) continue;
        if (at.device->name == disk.name) {
            places.push_back(at.offset);
            continue;
        }
        for (const auto& place : next_below(table, tables, *at.device, at.offset))
            todo.push_back({place.device, place.offset, at.level + 1});
    }
    return places;
}

}  // namespace ebb::platform
