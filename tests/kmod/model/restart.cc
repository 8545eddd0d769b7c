// SPDX-License-Identifier: Apache-2.0
// The operator where the machine, the module or the daemon has ended and another one goes on: what
// came back must be enough to make the replica equal to the disk, as it is found, and no more than
// it must be.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "lib/text.h"
#include "model/operator.h"

namespace ebb::kmodmodel {
namespace {

using kmodtest::Reply;
using kmodtest::Request;
using kmodtest::text;

constexpr int patience = 60000;  // of a millisecond each: then it hangs

unsigned long long n(std::uint64_t value) {
    return value;
}

std::uint64_t count(const Blocks& blocks) {
    return static_cast<std::uint64_t>(std::ranges::count(blocks, true));
}

}  // namespace

std::string cookie_of(std::uint64_t confirmation) {
    std::string cookie(EBB_COOKIE_LEN, '\0');
    std::memcpy(cookie.data(), &confirmation, sizeof(confirmation));
    return cookie;
}

std::string shown_cookie(std::uint64_t confirmation) {
    std::string digits;
    for (char c : cookie_of(confirmation)) digits += text("%02x", static_cast<unsigned char>(c));
    return digits;
}

// What has been confirmed must be kept before the module forgets it.
void Operator::keep_confirmed() {
    Keep& keep = *machine_.keep();
    std::vector<std::byte> data;
    BlockKey first{};
    std::uint64_t blocks = 0;
    auto put = [&] {
        if (blocks) keep.put(first.first, first.second, data.data(), blocks);
        data.clear();
        blocks = 0;
    };
    for (const auto& [key, bytes] : unconfirmed_) {
        bool goes_on = blocks > 0 && blocks < 256 && key.first == first.first &&
                       key.second == first.second + blocks;
        if (!goes_on || bytes.empty()) put();
        if (bytes.empty()) {
            keep.discard(key.first, key.second);
            continue;
        }
        if (blocks++ == 0) first = key;
        data.insert(data.end(), bytes.begin(), bytes.end());
    }
    put();
    unconfirmed_.clear();
}

bool Operator::has_right_reasons(std::uint64_t reasons) const {
    constexpr std::uint64_t fresh = 1u << EBB_RESYNC_NEW, detached = 1u << EBB_RESYNC_DETACHED;
    // A map that was just being made anew, or a reason that was not yet noted.
    constexpr std::uint64_t possible =
        fresh | detached | 1u << EBB_RESYNC_MAP_LOST | 1u << EBB_RESYNC_UNTRACKED_WRITE;
    switch (tracked_before_) {
        case Tracked::never: return reasons == fresh;
        case Tracked::yes: return reasons == 0;
        case Tracked::no: return reasons == detached;
        default: return (reasons & ~possible) == 0;
    }
}

Blocks Operator::differing(std::uint32_t disk) {
    int fd = open(machine_.disk(disk).device.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    Blocks out = machine_.keep()->differing(disk, fd);
    if (out.empty()) verdict_.fault("a disk or its replica cannot be read");
    close(fd);
    return out;
}

void Operator::judge_all_recovered(std::uint32_t disk, const Blocks& differ, const char* when) {
    int faults = 0;
    for (std::uint64_t b = 0; b < differ.size() && faults < 5; ++b) {
        if (!differ[b] || pass_->seen[disk][b]) continue;
        verdict_.fault(text("disk %u block %llu: is not that of the replica, and not in the map %s",
                            disk, n(b), when));
        ++faults;
    }
}

// Whole regions, of what may have been hot, and nothing else.
void Operator::judge_crash(std::uint32_t disk) {
    const Blocks& seen = pass_->seen[disk];
    std::uint64_t region = attached_[disk].found[EBB_DISK_A_REGION_SECTORS] / sectors_of_block;
    for (std::uint64_t first = 0; first < seen.size(); first += region) {
        std::uint64_t end = std::min<std::uint64_t>(first + region, seen.size()), in = 0;
        for (std::uint64_t b = first; b < end; ++b) in += seen[b];
        if (in == 0) continue;
        if (in != end - first)
            verdict_.fault(text("disk %u: a part of the region at block %llu", disk, n(first)));
        if (!machine_.keep()->is_touched(disk, first, end - first))
            verdict_.fault(text("disk %u: the region at block %llu was cold", disk, n(first)));
    }
    if (attached_[disk].found[EBB_DISK_A_SUSPECT_BLOCKS] != count(seen))
        verdict_.fault(text("disk %u: recovered after a crash, and not suspect", disk));
}

// To a block, if nobody wrote until the end.
void Operator::judge_clean(std::uint32_t disk) {
    Keep& keep = *machine_.keep();
    const Blocks& seen = pass_->seen[disk];
    std::uint64_t region = attached_[disk].found[EBB_DISK_A_REGION_SECTORS] / sectors_of_block;
    int faults = 0;
    for (std::uint64_t b = 0; b < seen.size() && faults < 5; ++b) {
        bool may = keep.is_exact() ? keep.may_hold(disk, b)
                                   : keep.is_touched(disk, b / region * region, region);
        if (!seen[b] || may) continue;
        verdict_.fault(text("disk %u block %llu: in a sealed map, but %s", disk, n(b),
                            keep.is_exact() ? "it was not dirty" : "its region was cold"));
        ++faults;
    }
}

void Operator::judge_cookie(std::uint32_t disk) {
    Keep& keep = *machine_.keep();
    std::string cookie = attached_[disk].found.text(EBB_DISK_A_COOKIE);
    // A map that was made since has none.
    for (std::uint64_t due : {keep.asked(), keep.answered(), std::uint64_t{0}})
        if (cookie == shown_cookie(due)) return;
    verdict_.fault(
        text("disk %u: the map has the cookie of another confirmation, %s; asked for %llu, "
             "answered %llu",
             disk, cookie.c_str(), n(keep.asked()), n(keep.answered())));
}

void Operator::judge_recovered(std::uint32_t disk, Area area, const Blocks& differ) {
    const auto& found = attached_[disk].found;
    std::uint64_t recovery = found[EBB_DISK_A_RECOVERY];
    const Blocks& seen = pass_->seen[disk];
    static constexpr const char* const names[] = {"nothing", "sealed map", "log"};
    std::printf("recovered disk %u: %s, %llu blocks, %llu differ, reasons %llu\n", disk,
                names[recovery % 3], n(found[EBB_DISK_A_RECOVERED_BLOCKS]), n(count(differ)),
                n(found[EBB_DISK_A_RESYNC_REASONS]));
    std::fflush(stdout);
    judge_all_recovered(disk, differ, "that was recovered");
    if (found[EBB_DISK_A_RESYNC_REASONS]) return;
    bool clean = recovery == EBB_RECOVERY_CLEAN, crash = recovery == EBB_RECOVERY_CRASH;
    if (!clean && !crash) verdict_.fault(text("disk %u: nothing was recovered", disk));
    if ((clean && area == Area::in_use) || (crash && area == Area::sealed))
        verdict_.fault(text("disk %u: %s was recovered", disk, names[recovery % 3]));
    if (found[EBB_DISK_A_RECOVERED_BLOCKS] != count(seen))
        verdict_.fault(text("disk %u: %llu blocks recovered, %llu in the map", disk,
                            n(found[EBB_DISK_A_RECOVERED_BLOCKS]), n(count(seen))));
    if (crash) judge_crash(disk);
    if (clean) judge_clean(disk);
    judge_cookie(disk);
    ++tally_.recovered;
    tally_.differed += count(differ);
}

// By what is in the pass alone; the replica is the disk then.
void Operator::catch_up() {
    end(1);
    if (verdict_.failed()) return;
    confirm();
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d) {
        if (!attached_[d].id) continue;
        Blocks differ = differing(d);
        if (std::uint64_t bad = count(differ))
            verdict_.fault(text(
                "disk %u: brought up to date by what was recovered alone, %llu "
                "blocks of the replica differ, the first is %llu",
                d, n(bad),
                n(static_cast<std::uint64_t>(std::ranges::find(differ, true) - differ.begin()))));
    }
}

void Operator::resume(Kind how) {
    Keep& keep = *machine_.keep();
    if (how == Kind::reboot || how == Kind::poweroff) keep.set_areas(Area::sealed);
    if (is_halt_cut(how)) keep.set_areas(Area::perhaps);
    std::vector<Blocks> differ;
    std::vector<Area> areas;
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d) {
        differ.push_back(differing(d));
        areas.push_back(keep.area(d));
        attach(d);
    }
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d) {
        bool known = attached_[d].found[EBB_DISK_A_RESYNC_REASONS] == 0;
        if (!known) mark_all(d);
        keep.set_tracked(d, Tracked::yes);
        ledger_.known(d);
        bound_.mark(d, Blocks(ledger_.blocks(d), true));
    }
    if (verdict_.failed()) return;
    begin(Kind::live);
    if (!pass_ || !take_map()) return verdict_.fault("no pass over what was recovered");
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d)
        judge_recovered(d, areas[d], differ[d]);
    if (!verdict_.failed()) catch_up();
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d) {
        bool good = true;
        std::vector<Code> codes = read_disk(attached_[d].disk, d, good);
        if (!good) return verdict_.fault("a disk cannot be read");
        replica_.load(d, codes);
        model_.set_before(d, std::move(codes));
    }
    keep.forget_exact();
}

// The next one knows nothing of an epoch that was not confirmed.
void Operator::daemon() {
    if (!machine_.keep()) return settle();
    kill();
    abandon();
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d) {
        attach(d);
        if (!ledger_.is_marked(d)) mark_all(d);
        (void)is_tracked(d);
    }
    if (verdict_.failed()) return;
    begin(Kind::frozen);
    if (!pass_ || !take_map()) return verdict_.fault("no pass for another daemon");
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d)
        judge_all_recovered(d, differing(d), "of another daemon");
    if (!verdict_.failed()) catch_up();
    ++tally_.daemons;
}

bool Operator::are_cold() {
    for (const auto& a : attached_) {
        Request request{.command = EBB_CMD_DISK_GET, .disk = a.id};
        Reply reply;
        if (int error = call(request, reply)) unexpected("get", error);
        if (reply.disk[EBB_DISK_A_HOT_REGIONS]) return false;
    }
    return true;
}

void Operator::wait_cold() {
    for (int i = 0; i < patience / 10 && !verdict_.failed(); ++i) {
        confirm();
        if (are_cold()) return;
        usleep(10000);
    }
    verdict_.fault("regions do not go cold");
}

// When a region goes cold that became hot after all had, those are cold in the area as well: one
// round of cooling ends before the next one begins.
void Operator::cool() {
    settle();
    if (!machine_.keep() || verdict_.failed()) return;
    if (!machine_.set_parameter("log_cool_s", 0)) verdict_.fault("cannot set log_cool_s");
    wait_cold();
    for (std::uint32_t d = 0; d < attached_.size(); ++d) mark(d, 0, 1);
    settle();
    if (!verdict_.failed()) wait_cold();
    if (!machine_.set_parameter("log_cool_s")) verdict_.fault("cannot set log_cool_s");
    if (verdict_.failed()) return;
    machine_.keep()->all_cold();
    for (std::uint32_t d = 0; d < attached_.size(); ++d) machine_.keep()->touch(d, 0, 1);
    ++tally_.cooled;
}

void Operator::set_exact() {
    Maps may, now = written();
    for (std::uint32_t d = 0; d < attached_.size(); ++d) may.push_back(bound_.all(d, now[d]));
    machine_.keep()->set_exact(may);
}

void Operator::leave() {
    pass_.reset();
    for (auto& a : attached_) {
        if (a.id == 0) continue;
        close(a.image);
        close(a.disk);
        a = {};
    }
}

}  // namespace ebb::kmodmodel
