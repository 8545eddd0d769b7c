// SPDX-License-Identifier: Apache-2.0
#include "platform/restart_record.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <memory>

#include "base/uuid_text.h"
#include "platform/file_store.h"
#include "platform/map_config.h"
#include "platform/netlink.h"

namespace ebb::platform {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t boots_kept = 64;

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    while (!line.empty()) {
        const auto word = line.substr(0, line.find(' '));
        if (!word.empty()) words.push_back(word);
        line.remove_prefix(std::min(line.size(), word.size() + 1));
    }
    return words;
}

std::int64_t now_seconds() {
    timespec time{};
    ::clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec;
}

std::int64_t boot_seconds() {
    timespec time{};
    ::clock_gettime(CLOCK_BOOTTIME, &time);
    return now_seconds() - time.tv_sec;
}

// Names that kdump-tools and kexec-tools give.
bool is_dump(const std::string& name) {
    return name.starts_with("vmcore") || name.starts_with("dump.") || name.starts_with("dmesg.") ||
           name.starts_with("kexec-dmesg");
}

bool dumped_between(const std::string& folder, std::int64_t from, std::int64_t to) {
    std::error_code error;
    for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
         it.increment(error)) {
        if (it.depth() > 1) it.disable_recursion_pending();
        struct stat status = {};
        if (!is_dump(it->path().filename().string()) || ::stat(it->path().c_str(), &status) != 0)
            continue;
        if (status.st_mtime > from && status.st_mtime <= to) return true;
    }
    return false;
}

}  // namespace

RestartState parse_restart_state(std::string_view text) {
    RestartState state;
    while (!text.empty()) {
        const auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        const auto words = words_of(line);
        const auto uuid = words.size() < 2 ? std::nullopt : parse_uuid(words.back());
        if (words.size() == 3 && words[0] == "boot") {
            Boot boot;
            const auto id = parse_uuid(words[1]);
            std::from_chars(words[2].data(), words[2].data() + words[2].size(), boot.seen);
            if (!id) continue;
            boot.id = *id;
            state.boots.push_back(boot);
        } else if (words.size() == 3 && words[0] == "settled" && uuid) {
            state.settled[std::string(words[1])] = *uuid;
        } else if (words.size() == 3 && words[0] == "relied" && uuid) {
            state.relied[std::string(words[1])] = *uuid;
        } else if (words.size() == 2 && words[0] == "distrusted" && uuid) {
            state.distrusted.insert(*uuid);
        }
    }
    return state;
}

std::string restart_state_text(const RestartState& state) {
    std::string text;
    for (const auto& boot : state.boots)
        text += "boot " + to_text(boot.id) + " " + std::to_string(boot.seen) + "\n";
    for (const auto& [disk, boot] : state.settled)
        text += "settled " + disk + " " + to_text(boot) + "\n";
    for (const auto& [disk, boot] : state.relied)
        text += "relied " + disk + " " + to_text(boot) + "\n";
    for (const auto& map : state.distrusted) text += "distrusted " + to_text(map) + "\n";
    return text;
}

Result<std::shared_ptr<RestartRecord>> RestartRecord::open(const std::string& path,
                                                           const std::string& dumps) {
    auto boot = boot_id();
    if (!boot) return std::unexpected(boot.error());
    std::shared_ptr<RestartRecord> record(new RestartRecord(path));
    auto text = read_file(path);
    if (!text && text.error().code != ErrorCode::not_found) return std::unexpected(text.error());
    if (text) record->state_ = parse_restart_state(*text);
    record->boot_ = *boot;
    auto& boots = record->state_.boots;
    const bool noted = std::ranges::find(boots, *boot, &Boot::id) != boots.end();
    if (!noted) boots.push_back({*boot, now_seconds()});
    if (boots.size() > boots_kept) boots.erase(boots.begin());
    if (boots.size() > 1) {
        record->dumped_ = dumped_between(dumps, boots[boots.size() - 2].seen, boot_seconds());
    }
    if (auto ok = make_directories(path.substr(0, path.rfind('/'))); !ok)
        return std::unexpected(ok.error());
    if (auto ok = record->save(); !ok) return std::unexpected(ok.error());
    return record;
}

Status RestartRecord::save() const {
    return replace_file(path_, restart_state_text(state_), private_mode);
}

// Of the boots since the first that the map knows, and since all of the disk was marked last, the
// map must know each.
bool RestartRecord::missed_boot(const std::string& stable_id,
                                const std::vector<Uuid>& sessions) const {
    const auto known = [&](const Uuid& id) {
        return std::ranges::find(sessions, id) != sessions.end();
    };
    const auto settled = state_.settled.find(stable_id);
    bool begun = false;
    for (const auto& boot : state_.boots) {
        const bool here = settled != state_.settled.end() && boot.id == settled->second;
        if (here || known(boot.id)) begun = true;
        if (here) continue;
        if (begun && !known(boot.id)) return true;
    }
    return false;
}

bool RestartRecord::went_back(const std::string& stable_id,
                              const std::vector<Uuid>& sessions) const {
    const auto relied = state_.relied.find(stable_id);
    return relied != state_.relied.end() &&
           std::ranges::find(sessions, relied->second) == sessions.end();
}

std::vector<std::string> RestartRecord::gaps(const std::string& stable_id, const Uuid& map,
                                             const std::vector<Uuid>& sessions, bool known) {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> reasons;
    const auto settled = state_.settled.find(stable_id);
    const bool new_now = settled != state_.settled.end() && settled->second == boot_;
    if (known && !new_now && missed_boot(stable_id, sessions)) {
        reasons.emplace_back(went_back(stable_id, sessions) ? "map-out-of-step"
                                                            : "boot-without-module");
    }
    if (known && !new_now && dumped_) reasons.emplace_back("kdump");
    if (known && state_.distrusted.contains(map)) reasons.emplace_back("map-failed");
    const auto relied = state_.relied.find(stable_id);
    if (known && reasons.empty() && (relied == state_.relied.end() || relied->second != boot_)) {
        state_.relied[stable_id] = boot_;
        // Without it a gap has another name, no more.
        static_cast<void>(save());
    }
    return reasons;
}

bool RestartRecord::knew(const std::string& stable_id) {
    const std::lock_guard lock(mutex_);
    const auto settled = state_.settled.find(stable_id);
    return settled != state_.settled.end() && settled->second != boot_;
}

Status RestartRecord::distrust(const Uuid& map) {
    const std::lock_guard lock(mutex_);
    if (!state_.distrusted.insert(map).second) return {};
    auto saved = save();
    if (!saved) state_.distrusted.erase(map);  // it is not known: to be tried again
    return saved;
}

Status RestartRecord::settle(const std::string& stable_id, const Uuid& map) {
    const std::lock_guard lock(mutex_);
    state_.settled[stable_id] = boot_;
    state_.relied[stable_id] = boot_;
    state_.distrusted.erase(map);
    return save();
}

}  // namespace ebb::platform
