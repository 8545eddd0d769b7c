// SPDX-License-Identifier: Apache-2.0
#include "model/model.h"

#include <algorithm>

#include "lib/text.h"

namespace ebb::kmodmodel {
namespace {

using kmodtest::text;

// Sectors of a write that no disk splits.
constexpr std::uint64_t longest_whole = 128;

unsigned long long n(std::uint64_t value) {
    return value;
}

}  // namespace

Model::Model(std::vector<Traits> disks) {
    for (const auto& traits : disks)
        disks_.push_back(
            {traits, std::vector<std::vector<Code>>(traits.sectors),
             std::vector<Code>(traits.sectors),
             std::vector<Disk::Block>((traits.sectors + sectors_of_block - 1) / sectors_of_block)});
}

std::span<Model::Disk::Block> Model::blocks_of(const Extent& extent) {
    std::span blocks(disks_[extent.disk].blocks);
    std::uint64_t first = extent.first / sectors_of_block;
    std::uint64_t end = (extent.first + extent.count + sectors_of_block - 1) / sectors_of_block;
    return blocks.subspan(first, std::min<std::uint64_t>(end, blocks.size()) - first);
}

std::optional<Extent> Model::below(const Extent& extent) const {
    const Traits& traits = disks_[extent.disk].traits;
    if (!traits.lies_on) return std::nullopt;
    return Extent{*traits.lies_on, traits.lies_at + extent.first, extent.count};
}

Place Model::origin(Place place) const {
    for (std::uint32_t d = 0; d < disks_.size(); ++d) {
        const Traits& traits = disks_[d].traits;
        if (traits.lies_on == place.disk && place.sector >= traits.lies_at &&
            place.sector < traits.lies_at + traits.sectors)
            return {d, place.sector - traits.lies_at};
    }
    return place;
}

bool Model::is_seen(const Write& write, std::uint32_t disk) const {
    return write.extent.disk == disk ? write.seen : write.seen_below;
}

// Below, a long one may be in parts.
void Model::see(Write& write, std::uint32_t disk) {
    if (write.extent.disk == disk)
        write.seen = true;
    else
        write.seen_below = write.extent.count <= longest_whole;
}

void Model::add(Code code, const Extent& extent, const Extent& reach) {
    for (auto& block : blocks_of(reach)) ++block.under_way;
    auto& history = disks_[extent.disk].history;
    for (std::uint64_t i = 0; i < extent.count; ++i) history[extent.first + i].push_back(code);
}

Code Model::issue(const Extent& extent, Content content, bool atomic, const Extent& reach) {
    std::lock_guard lock(mutex_);
    Write write{.extent = extent, .content = content, .atomic = atomic};
    write.reach = reach.count ? reach : extent;
    write.issued = ticket();
    writes_.push_back(write);
    Code code = writes_.size();
    add(code, extent, write.reach);
    if (auto lower = below(extent)) add(code, *lower, *below(write.reach));
    untaken_.push_back(code);
    return code;
}

void Model::done(Code write, bool ok, bool sent) {
    std::lock_guard lock(mutex_);
    at(write).ok = ok;
    if (!ok) at(write).atomic = false;  // any part of it may be there
    at(write).sent = sent;
    at(write).done = ticket();
    auto end = [&](const Extent& reach) {
        for (auto& block : blocks_of(reach)) {
            --block.under_way;
            block.done = at(write).done;
        }
    };
    end(at(write).reach);
    if (auto lower = below(at(write).reach)) end(*lower);
}

void Model::set_before(std::uint32_t disk, std::vector<Code> codes) {
    std::lock_guard lock(mutex_);
    disks_[disk].before = std::move(codes);
}

std::vector<bool> Model::written(std::uint32_t disk, std::uint64_t since) {
    std::lock_guard lock(mutex_);
    std::vector<bool> out;
    for (const auto& block : disks_[disk].blocks)
        out.push_back(block.under_way > 0 || block.done > since);
    return out;
}

std::string Model::tell(Code code) {
    if (!is_write(code) || code > writes_.size()) return code_name(code);
    const Write& w = at(code);
    static constexpr const char* const contents[] = {"data", "zeroes", "discard"};
    return text("write %llu (%s, disk %u, sectors %llu+%llu, tickets %llu to %lld%s)", n(code),
                contents[static_cast<int>(w.content)], w.extent.disk, n(w.extent.first),
                n(w.extent.count), n(w.issued), static_cast<long long>(w.done),
                w.done == never ? ""
                : w.ok          ? ", ok"
                                : ", failed");
}

std::string Model::describe(Code code) {
    std::lock_guard lock(mutex_);
    return tell(code);
}

// The newest write that must be there: of those done before the ticket, or seen elsewhere.
Model::Need Model::need(std::uint32_t disk, const std::vector<Code>& history,
                        std::uint64_t before) {
    Need need;
    for (Code code : history) {
        const Write& w = at(code);
        bool due = (w.ok && w.done < before) || is_seen(w, disk);
        if (due && w.issued > need.issued) need = {w.issued, code};
    }
    return need;
}

bool Model::has_discard(Place place, Need need, Cut cut) {
    const Disk& disk = disks_[place.disk];
    return std::ranges::any_of(disk.history[place.sector], [&](Code code) {
        const Write& w = at(code);
        return w.content == Content::discard && w.issued <= cut.granted && w.done >= need.issued;
    });
}

// Two writes that overlapped in time, of which either could be what is there.
bool Model::is_torn(Place place, Need need, Cut cut) {
    const Disk& disk = disks_[place.disk];
    if (!disk.traits.tears) return false;
    int candidates = 0;
    for (Code code : disk.history[place.sector])
        candidates += at(code).issued <= cut.granted && at(code).done >= need.issued;
    return candidates >= 2;
}

// Whether a sector may hold that, given what must be there.
bool Model::explains(Place place, Code code, Need need, Cut cut) {
    const Disk& disk = disks_[place.disk];
    if (code == code_unsent) return false;
    if (need.issued == 0 && code == disk.before[place.sector]) return true;
    if (has_discard(place, need, cut) && (code == code_discarded || !disk.traits.discard_zeroes))
        return true;
    if (is_write(code)) return at(code).done >= need.issued;
    if (code & code_damaged) return is_torn(place, need, cut);
    if (code != code_zero) return false;
    return std::ranges::any_of(disk.history[place.sector], [&](Code candidate) {
        const Write& w = at(candidate);
        return w.content != Content::data && w.issued <= cut.granted && w.done >= need.issued;
    });
}

// What is wrong with a code by itself; empty: nothing.
std::string Model::fault_of(Place place, Code code, Cut cut) {
    if (!is_write(code)) return {};
    if (code > writes_.size()) return "holds a write that nobody issued";
    const Extent& e = at(code).extent;
    place = origin(place);
    if (e.disk != place.disk || place.sector < e.first || place.sector >= e.first + e.count)
        return text("holds a write that did not go there: %s", tell(code).c_str());
    if (at(code).issued > cut.granted)
        return text("holds %s, issued after the cut", tell(code).c_str());
    return {};
}

Faults Model::judge(const State& state, Cut cut, std::size_t limit) {
    std::lock_guard lock(mutex_);
    Faults faults;
    auto fault = [&](Place place, const std::string& what) {
        if (faults.size() < limit)
            faults.push_back(text("disk %u sector %llu: %s (cut: tickets %llu to %llu)", place.disk,
                                  n(place.sector), what.c_str(), n(cut.asked), n(cut.granted)));
    };
    std::uint64_t newest = cut.asked;
    std::vector<Code> seen;
    for (std::uint32_t d = 0; d < state.size(); ++d)
        for (std::uint64_t s = 0; s < state[d].size(); ++s) {
            Code code = state[d][s];
            if (std::string wrong = fault_of({d, s}, code, cut); !wrong.empty()) {
                fault({d, s}, wrong);
            } else if (is_write(code)) {
                newest = std::max(newest, at(code).issued);
                if (is_seen(at(code), d) || !at(code).atomic) continue;
                see(at(code), d);
                seen.push_back(code);
            }
        }
    for (std::uint32_t d = 0; d < state.size() && faults.empty(); ++d)
        for (std::uint64_t s = 0; s < state[d].size(); ++s) {
            Need due = need(d, disks_[d].history[s], newest);
            if (explains({d, s}, state[d][s], due, cut)) continue;
            const Write* w = due.write ? &at(due.write) : nullptr;
            const char* why = !w                    ? "without any reason"
                              : w->done < cut.asked ? "which had succeeded before the cut"
                              : w->done < newest    ? "before one in the cut was issued"
                                                    : "of which a part is in the cut";
            fault({d, s}, text("holds %s and lacks %s, %s", tell(state[d][s]).c_str(),
                               tell(due.write).c_str(), why));
        }
    for (Code code : seen) at(code).seen = at(code).seen_below = false;
    if (faults.empty()) forget(cut.asked);
    return faults;
}

// What was overwritten for certain before a cut that was good cannot come up again.
void Model::forget(std::uint64_t before) {
    for (std::uint32_t d = 0; d < disks_.size(); ++d)
        for (auto& history : disks_[d].history) {
            if (history.size() < 8) continue;
            std::uint64_t issued = need(d, history, before).issued;
            std::erase_if(history, [&](Code code) { return at(code).done < issued; });
        }
}

Faults Model::compare(std::uint32_t disk, std::span<const Code> replica,
                      std::span<const Code> found, const char* what, std::size_t limit) {
    std::lock_guard lock(mutex_);
    Faults faults;
    for (std::uint64_t s = 0; s < found.size() && faults.size() < limit; ++s)
        if (replica[s] != found[s] && replica[s] != code_discarded)
            faults.push_back(text("disk %u sector %llu: the replica holds %s, %s %s", disk, n(s),
                                  tell(replica[s]).c_str(), what, tell(found[s]).c_str()));
    return faults;
}

std::vector<Write> Model::take_done(std::uint64_t before) {
    std::lock_guard lock(mutex_);
    std::vector<Write> taken;
    std::erase_if(untaken_, [&](Code code) {
        if (at(code).done >= before) return false;
        taken.push_back(at(code));
        if (auto lower = below(at(code).extent)) {
            taken.push_back(at(code));
            taken.back().extent = *lower;
        }
        return true;
    });
    return taken;
}

bool Model::is_busy(std::uint32_t disk, std::uint64_t before, std::uint64_t since) {
    std::lock_guard lock(mutex_);
    return std::ranges::any_of(untaken_, [&](Code code) {
        const Write& w = at(code);
        bool is_there = w.extent.disk == disk || disks_[w.extent.disk].traits.lies_on == disk;
        return is_there && w.issued < before && w.done > since;
    });
}

std::uint64_t Model::writes() {
    std::lock_guard lock(mutex_);
    return writes_.size();
}

}  // namespace ebb::kmodmodel
