// SPDX-License-Identifier: Apache-2.0
// The operator's passes: begun, read in some order and more than once, released, ended, judged.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "lib/text.h"
#include "model/operator.h"

namespace ebb::kmodmodel {
namespace {

using kmodtest::Reply;
using kmodtest::Request;
using kmodtest::text;

constexpr std::uint32_t group = 1;
constexpr std::size_t read_bytes = 1 << 20;
constexpr int patience = 60000;  // of a millisecond each: then it hangs

}  // namespace

// Attaching a disk without requests does not wait for what is in flight: so do we.
bool Operator::wait_landed() {
    for (std::uint32_t d = 0; d < attached_.size(); ++d) {
        if (!attached_[d].id || !machine_.disk(d).by_bios) continue;
        for (int i = 0; model_.is_busy(d, attached_[d].attached); ++i) {
            if (verdict_.failed()) return false;
            if (i == patience) {
                verdict_.fault("a write from before the attach never ends");
                return false;
            }
            usleep(1000);
        }
    }
    return true;
}

void Operator::begin(Kind kind) {
    if ((pass_ && !is_void()) || !wait_landed()) return;
    Request request{.command = EBB_CMD_PASS_BEGIN,
                    .group = group,
                    .kind = kind == Kind::live ? EBB_PASS_LIVE : EBB_PASS_FROZEN,
                    .flags = kind == Kind::whole ? EBB_PASS_F_WHOLE : 0u};
    Reply reply;
    Pass pass;
    pass.kind = kind;
    int error = -EAGAIN;
    // A pass whose owner is gone may take a moment to be void: -EBUSY.
    for (int i = 0; (error == -EAGAIN || error == -EBUSY) && i < patience; ++i) {
        pass.cut.asked = model_.ticket();
        error = call(request, reply);
        pass.cut.granted = model_.ticket();
        if (error == -EAGAIN || error == -EBUSY) usleep(1000);
    }
    bool any = std::ranges::any_of(attached_, [](const Attached& a) { return a.id != 0; });
    if (error == -ENOENT && !any) return;
    if (error) return unexpected("pass-begin", error);
    pass.id = reply.pass[EBB_PASS_A_ID];
    pass.seen.resize(attached_.size());
    pass.left = pass.discarded = pass.seen;
    for (std::uint32_t d = 0; d < attached_.size(); ++d)
        if (attached_[d].id) pass.seen[d].resize(ledger_.blocks(d));
    ledger_.begin();
    bound_.begin(written(), pass.cut, kind == Kind::whole);
    reasons_ = {"deadline", "pool-full", "cut-race"};
    random_.seed(pass.id);
    pass_ = std::move(pass);
    ++tally_.passes;
}

Maps Operator::written() {
    Maps out;
    for (std::uint32_t d = 0; d < attached_.size(); ++d)
        out.push_back(model_.written(d, bound_.since(d)));
    return out;
}

bool Operator::is_void() {
    Request request{.command = EBB_CMD_PASS_GET, .group = group, .pass = pass_->id};
    Reply reply;
    if (int error = call(request, reply)) {
        unexpected("pass-get", error);
        return false;
    }
    if (reply.pass[EBB_PASS_A_STATE] != EBB_PASS_VOID) return false;
    std::string reason = kmodtest::void_reason(reply.pass[EBB_PASS_A_VOID_REASON]);
    if (!reasons_.contains(reason))
        verdict_.fault("the pass is void without any reason: " + reason);
    ++tally_.voided[reason];
    tally_.preserved += reply.pass[EBB_PASS_A_PRESERVED];
    tally_.held += reply.pass[EBB_PASS_A_HELD];
    gone();
    return true;
}

void Operator::gone() {
    ledger_.come_back(pass_->seen);
    bound_.come_back();
    pass_.reset();
}

// What is left to release, by the module. False: there is no pass any more.
bool Operator::take_map() {
    for (std::uint32_t d = 0; pass_ && d < attached_.size(); ++d) {
        if (!attached_[d].id) continue;
        int error = -EAGAIN;
        for (int i = 0; error == -EAGAIN && i < patience && !verdict_.failed(); ++i) {
            error = take_extents(d);
            if (error == -EAGAIN) usleep(1000);
        }
        if (error == -ESTALE && is_void()) return false;
        if (error) {
            unexpected("pass-map", error);
            return false;
        }
    }
    return pass_.has_value();
}

int Operator::take_extents(std::uint32_t disk) {
    Blocks& left = pass_->left[disk];
    Blocks& discarded = pass_->discarded[disk];
    left.assign(ledger_.blocks(disk), false);
    discarded.assign(ledger_.blocks(disk), false);
    for (std::int64_t sector = 0; sector >= 0;) {
        Request request{.command = EBB_CMD_PASS_MAP,
                        .disk = attached_[disk].id,
                        .pass = pass_->id,
                        .sector = sector};
        Reply reply;
        if (int error = call(request, reply)) return error;
        for (const auto& extent : reply.extents) {
            std::uint64_t end = (extent.sector + extent.nr_sectors + 7) / sectors_of_block;
            for (std::uint64_t b = extent.sector / sectors_of_block; b < end; ++b) {
                pass_->seen[disk][b] = left[b] = true;
                discarded[b] = (extent.flags & EBB_EXTENT_DISCARDED) != 0;
            }
        }
        bool more = reply.top.numbers.contains(EBB_A_NEXT_SECTOR);
        sector = more ? static_cast<std::int64_t>(reply.top[EBB_A_NEXT_SECTOR]) : -1;
    }
    return 0;
}

// A disk may end within a block.
ebb_extent Operator::extent_of(std::uint32_t disk, std::uint64_t block, std::uint64_t count) const {
    std::uint64_t first = block * sectors_of_block;
    std::uint64_t rest = machine_.disk(disk).traits.sectors - first;
    return {first, static_cast<__u32>(std::min(count * sectors_of_block, rest)), 0};
}

// Reads a run from the image device; what was read of it before must be the same.
bool Operator::read_run(const Run& run) {
    std::uint64_t first = run.block * sectors_of_block;
    std::uint64_t sectors =
        std::min(run.count * sectors_of_block, machine_.disk(run.disk).traits.sectors - first);
    std::size_t length = sectors * sector_bytes;
    if (!run.discarded &&
        pread(attached_[run.disk].image, buffer_.get(), length,
              static_cast<off_t>(first * sector_bytes)) != static_cast<ssize_t>(length)) {
        int error = -errno;
        if (!is_void()) unexpected("reading the image of a pass that goes on", error);
        return false;
    }
    for (std::uint64_t b = 0; b < run.count; ++b) {
        BlockCodes codes{};
        for (std::uint64_t s = 0; s < sectors_of_block; ++s) {
            std::uint64_t at = b * sectors_of_block + s;
            if (run.discarded) codes[s] = code_discarded;
            if (run.discarded || at >= sectors) continue;
            codes[s] = sector_read(buffer_.get() + at * sector_bytes, run_,
                                   model_.origin({run.disk, first + at}));
        }
        BlockKey key{run.disk, run.block + b};
        if (machine_.keep()) {
            const std::byte* from = buffer_.get() + b * sectors_of_block * sector_bytes;
            std::size_t count = std::min(sectors - b * sectors_of_block, sectors_of_block);
            auto& bytes = pass_->bytes[key];
            bytes.clear();
            if (!run.discarded) bytes.assign(from, from + count * sector_bytes);
        }
        auto [before, is_new] = pass_->read.try_emplace(key, codes);
        if (is_new || before->second == codes) continue;
        bool discarded = run.discarded || before->second[0] == code_discarded;
        for (std::uint64_t s = 0; s < sectors_of_block && pass_->is_frozen() && !discarded; ++s) {
            const unsigned long long sector = key.second * sectors_of_block + s;
            if (before->second[s] != codes[s])
                pass_->differs[key] = text(
                    "disk %u sector %llu: read as %s, and once more as %s, in pass %llu", run.disk,
                    sector, model_.describe(before->second[s]).c_str(),
                    model_.describe(codes[s]).c_str(), static_cast<unsigned long long>(pass_->id));
        }
        before->second = codes;
    }
    return true;
}

void Operator::vouch(const Run& run) {
    for (std::uint64_t b = run.block; b < run.block + run.count; ++b) {
        BlockKey key{run.disk, b};
        if (auto found = pass_->differs.find(key); found != pass_->differs.end())
            verdict_.fault(found->second);
        pass_->vouched[key] = pass_->read[key];
        pass_->left[run.disk][b] = false;
        ++tally_.blocks;
    }
}

// Each was read; runs of one disk go into one command.
bool Operator::release_runs(const std::vector<Run>& runs) {
    for (std::size_t first = 0; first < runs.size();) {
        Request request{.command = EBB_CMD_PASS_RELEASE,
                        .disk = attached_[runs[first].disk].id,
                        .pass = pass_->id};
        std::size_t end = first;
        for (; end < runs.size() && end < first + 16 && runs[end].disk == runs[first].disk; ++end)
            request.extents.push_back(extent_of(runs[end].disk, runs[end].block, runs[end].count));
        int error = call(request);
        if (error == -ESTALE && is_void()) return false;
        if (error == -ENOMEM) continue;
        if (error) {
            unexpected("release", error);
            return false;
        }
        for (std::size_t i = first; i < end; ++i) vouch(runs[i]);
        first = end;
    }
    return true;
}

// Reads about so much of what is left, in an order and in pieces by the seed.
void Operator::some(std::uint64_t per_cent, std::uint64_t seed, bool release) {
    if (!pass_ || !take_map()) return;
    random_.seed(seed * 1000003 + pass_->id);
    // In small pieces only if there are few.
    std::uint64_t count = 0;
    for (const auto& left : pass_->left) count += std::ranges::count(left, true);
    static constexpr std::uint64_t lengths[] = {1, 4, 16, 64, 256};
    std::vector<Run> runs = pass_->runs(lengths[random_() % 3 + (count > 400) + (count > 1500)]);
    if (random_() % 2) std::ranges::shuffle(runs, random_);
    runs.resize((runs.size() * per_cent + 99) / 100);
    std::size_t batch = 1 + random_() % 64;
    std::vector<Run> read;
    for (const auto& run : runs) {
        if (verdict_.failed() || !read_run(run)) return;
        read.push_back(run);
        if (!release || read.size() < batch) continue;
        if (!release_runs(read)) return;
        read.clear();
    }
    if (release) (void)release_runs(read);
}

std::vector<Code> Operator::read_disk(int fd, std::uint32_t disk, bool& good) {
    std::vector<Code> codes;
    std::uint64_t bytes = machine_.disk(disk).traits.sectors * sector_bytes;
    for (std::uint64_t at = 0; at < bytes && good; at += read_bytes) {
        std::size_t length = std::min<std::uint64_t>(read_bytes, bytes - at);
        good = pread(fd, buffer_.get(), length, static_cast<off_t>(at)) ==
               static_cast<ssize_t>(length);
        for (std::size_t i = 0; good && i < length; i += sector_bytes)
            codes.push_back(sector_read(buffer_.get() + i, run_,
                                        model_.origin({disk, (at + i) / sector_bytes})));
    }
    return codes;
}

// The image of each disk of a whole pass, of which nothing has been let go yet or all.
bool Operator::read_whole() {
    pass_->whole.resize(attached_.size());
    for (std::uint32_t d = 0; d < attached_.size(); ++d) {
        if (!attached_[d].id) continue;
        bool good = true;
        pass_->whole[d] = read_disk(attached_[d].image, d, good);
        int error = -errno;
        if (good) continue;
        if (!is_void()) unexpected("reading a whole image", error);
        return false;
    }
    return true;
}

void Operator::end(std::uint64_t seed) {
    for (int turn = 0; pass_ && !verdict_.failed(); ++turn) {
        if (turn == 1000) return verdict_.fault("a pass has always something left");
        some(100, seed + static_cast<std::uint64_t>(turn), true);
        if (!pass_) return;
        if (pass_->kind == Kind::whole && pass_->whole.empty() && !read_whole()) return;
        Request request{.command = EBB_CMD_PASS_END, .pass = pass_->id};
        int error = call(request);
        if (error == -EBUSY) continue;
        if (error == -ESTALE && is_void()) return;
        if (error) return unexpected("end", error);
        return ended();
    }
}

void Operator::ended() {
    Request request{.command = EBB_CMD_PASS_GET, .group = group, .pass = pass_->id};
    Reply reply;
    if (call(request, reply) == 0) {
        tally_.preserved += reply.pass[EBB_PASS_A_PRESERVED];
        tally_.held += reply.pass[EBB_PASS_A_HELD];
    }
    Pass pass = std::move(*pass_);
    pass_.reset();
    for (const auto& [key, codes] : pass.vouched) replica_.apply(key.first, key.second, codes);
    verdict_.fault(ledger_.end(pass.seen, model_.take_done(pass.cut.asked), pass.cut));
    if (machine_.keep()) {
        verdict_.fault(bound_.end(pass.seen));
        for (const auto& [key, codes] : pass.vouched)
            unconfirmed_[key] = std::move(pass.bytes[key]);
    }
    if (pass.is_frozen()) judge(pass);
}

void Operator::judge(const Pass& pass) {
    State state(attached_.size());
    bool any = false;
    for (std::uint32_t d = 0; d < attached_.size(); ++d)
        if (attached_[d].id && ledger_.is_whole(d) && is_tracked(d)) {
            state[d] = replica_.state(d);
            any = true;
        }
    if (any) verdict_.fault(model_.judge(state, pass.cut));
    ++tally_.cuts;
    for (std::uint32_t d = 0; d < pass.whole.size(); ++d)
        if (!state[d].empty()) {
            verdict_.fault(model_.compare(d, state[d], pass.whole[d], "the whole image"));
            ++tally_.wholes;
        }
}

}  // namespace ebb::kmodmodel
