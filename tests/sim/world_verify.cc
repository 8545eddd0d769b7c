// SPDX-License-Identifier: Apache-2.0
// Source and replica are compared in the middle of it all; and at the end the replica rots.
#include <algorithm>

#include "world.h"

namespace ebb::sim {

namespace {

constexpr std::int64_t verify_patience = 600 * second;

core::VerifyRequest request(Rng& rng) {
    core::VerifyRequest wanted;
    wanted.repair = true;
    wanted.slice_bytes = (1 + rng.below(40)) * block_bytes;
    wanted.bytes_per_s = rng.chance(30) ? (50 + rng.below(200)) * block_bytes : 0;
    return wanted;
}

}  // namespace

// Whatever happens meanwhile, nothing is said to differ that does not.
void World::verify() {
    if (!source_run_ || disabling_ || verifying_) return;
    verifying_ = true;
    auto wanted = request(executor_.rng);
    wanted.repair = false;
    source_run_->source->verify(wanted, [this](Result<core::VerifyResult> result) {
        verifying_ = false;
        if (!result) {
            const auto code = result.error().code;
            if (code != ErrorCode::cancelled && code != ErrorCode::fenced &&
                code != ErrorCode::version)
                problem("verify: " + result.error().message);
            return;
        }
        hit("verified");
        const std::string wrong = check_found(*result, {});
        if (!wrong.empty()) problem(wrong);
    });
}

// What was sent of a point can be read back, whatever was overwritten since and is meanwhile.
void World::certify() {
    if (!target_run_ || !target_run_->open || operation_ || disabling_) return;
    const auto points = target_run_->target->points();
    if (points.empty()) return;
    std::size_t which = executor_.rng.below(points.size());
    // Or the next one that stands for several.
    const auto merged = [&](std::size_t i) {
        return i != 0 && points[i].epoch != points[i - 1].epoch + 1;
    };
    if (executor_.rng.chance(50)) {
        std::size_t next = which;
        while (next < points.size() && !merged(next)) ++next;
        if (next < points.size()) which = next;
    }
    const std::uint64_t epoch = points[which].epoch;
    const bool whole = executor_.rng.chance(50);
    if (whole && epoch % 2 == 0 && volume_.capacity == UINT64_MAX) {
        hit("small-volume");
        volume_.capacity = volume_.used();
        later(4 * second, [this] { volume_.capacity = UINT64_MAX; });
    }
    certify(epoch, whole);
}

void World::certify(std::uint64_t epoch, bool whole) {
    certifying_ = target_run_.get();
    target_run_->target->certify(epoch, whole, [=, this](Result<core::CertifiedPoint> result) {
        certifying_ = nullptr;
        // The journal is read all the time while there is no room.
        if (result && volume_.capacity != UINT64_MAX) {
            later(20 * ms, [=, this, run = target_run_.get()] {
                if (run == target_run_.get() && target_run_ && target_run_->open)
                    certify(epoch, whole);
            });
        }
        if (!result) {
            const bool large = result.error().name() == "E_POINT_TOO_LARGE";
            if (large || result.error().code == ErrorCode::corrupt)
                problem("certify: " + result.error().message);
            if (result.error().code == ErrorCode::no_space) hit("certify-given-up");
            return;
        }
        hit("certified");
        const core::CertifiedPoint& it = *result;
        if (it.point.epoch != epoch) return problem("another point is certified");
        if (it.different_bytes != 0) return problem("what was sent is not on the disks");
        if (it.bytes !=
            it.equal_bytes + it.superseded_bytes + it.discarded_bytes + it.unreadable_bytes)
            problem("certified more, or less, than was sent");
        if (it.equal_bytes != 0) ++faults_.hits["certified-equal"];
        if (it.journal_bytes > it.equal_bytes) problem("certified more of the journal than of all");
        if (it.journal_bytes != 0) hit("certified-overwritten");
        if (it.whole != whole || it.equal_bytes > it.disk_bytes) problem("certified too much");
        if (it.equal_bytes + it.discarded_bytes + it.unreadable_bytes + it.undigested_bytes >
            it.disk_bytes)
            problem("certified a block twice");
        if (!whole && !it.merged && it.undigested_bytes != 0)
            problem("a point that was not merged lacks digests");
        if (it.merged && it.equal_bytes != 0) hit("certified-merged");
        if (whole) hit("certified-whole");
    });
}

// Only what is rotten, or what nobody promised, may be said to differ.
std::string World::check_found(const core::VerifyResult& result,
                               const std::set<std::pair<DiskIndex, Block>>& rotten) {
    std::uint64_t all = 0;
    for (DiskIndex i = 0; i < source_->disk_count(); ++i) all += source_->size(i);
    if (result.equal_bytes + result.discarded_bytes + result.different_bytes != all)
        return "verify did not look at everything, or at some of it twice";
    for (const core::Difference& found : result.differences) {
        if (found.kind != core::DifferenceKind::differs) continue;
        for (std::uint64_t at = found.offset; at < found.offset + found.length; at += block_bytes) {
            const Block block = at / block_bytes;
            const bool loose =
                std::ranges::any_of(source_->cuts(),
                                    [&](const auto& cut) {
                                        return cut.second.loose[found.disk].contains(block);
                                    }) ||
                source_->now().loose[found.disk].contains(block);
            if (loose || rotten.contains({found.disk, block})) continue;
            return "verify says that disk " + std::to_string(found.disk) + ", block " +
                   std::to_string(block) + " differs";
        }
    }
    return {};
}

std::set<std::pair<DiskIndex, Block>> World::plant_rot() {
    std::set<std::pair<DiskIndex, Block>> rotten;
    const auto now = source_->now();
    for (std::uint64_t i = 1 + executor_.rng.below(4); i > 0; --i) {
        const auto disk = static_cast<DiskIndex>(executor_.rng.below(source_->disk_count()));
        const Block block = executor_.rng.below(source_->size(disk) / block_bytes);
        if (now.loose[disk].contains(block) || !disks_[disk].pending.empty()) continue;
        if (!rotten.insert({disk, block}).second) continue;
        const std::size_t at = block * block_bytes + executor_.rng.below(block_bytes);
        disks_[disk].current[at] ^= std::byte{4};
        disks_[disk].durable[at] ^= std::byte{4};
    }
    return rotten;
}

// While it is being looked for.
void World::disturb() {
    if (!verifying_) return;
    if (executor_.rng.chance(40)) network_.break_all();
    if (executor_.rng.chance(15) && target_run_) {
        const bool power = executor_.rng.chance(50);
        target_run_.reset();
        for (DiskState& disk : disks_) {
            if (power) disk.power_cut(executor_.rng, faults_);
        }
        if (power) volume_.power_cut(executor_.rng, faults_);
        later(second / 10, [this] { start_target(); });
    }
    if (executor_.rng.chance(20)) source_->void_pass("simulated");
    later(static_cast<std::int64_t>(executor_.rng.below(3 * second)), [this] { disturb(); });
}

// Rot of the replica, which nothing else notices, is found and mended, while the application goes
// on or not.
void World::rot_and_verify() {
    const auto rotten = plant_rot();
    if (rotten.empty()) return;
    faults_.always_same = faults_.always_same || options_.mutation == "verify:always-same";
    busy_ = executor_.rng.chance(60);
    if (busy_) application();
    const bool quiet = !busy_;
    std::optional<Result<core::VerifyResult>> result;
    verifying_ = true;
    source_run_->source->verify(request(executor_.rng),
                                [&](Result<core::VerifyResult> done) { result = std::move(done); });
    if (executor_.rng.chance(60)) disturb();
    const std::int64_t until = executor_.now() + verify_patience;
    while (!result && executor_.now() < until && executor_.step()) continue;
    verifying_ = busy_ = false;
    if (!result) return problem("verify does not end");
    if (!*result) {
        if (result->error().code != ErrorCode::version)
            problem("verify: " + result->error().message);
        return;
    }
    const std::string wrong = check_found(**result, rotten);
    if (!wrong.empty()) return problem(wrong);
    if ((*result)->different_bytes != 0) return problem("what differed is not mended");
    std::uint64_t found = 0;
    for (const core::Difference& difference : (*result)->differences) found += difference.length;
    if (quiet && found < rotten.size() * block_bytes) return problem("verify finds no rot");
    hit("verify-rot");
    // What it was at older points nobody knows any more.
    for (auto& [time, cut] : source_->cuts()) {
        for (const auto& [disk, block] : rotten) cut.loose[disk].insert(block);
    }
    finish();
}

}  // namespace ebb::sim
