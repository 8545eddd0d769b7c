// SPDX-License-Identifier: Apache-2.0
// What every recovery point must hold, and what would be had if everything stopped now.
#include <algorithm>
#include <cstring>

#include "core/journal.h"
#include "core/rewind.h"
#include "journal_records.h"
#include "world.h"

namespace ebb::sim {

// One failover on a copy.
struct World::Attempt {
    core::FailoverResult result;
    std::vector<core::Point> points;
    std::string problem;
    bool corrupt = false;      // that is the problem
    bool fenced = false;       // it was failed over before
    bool moved_again = false;  // the disks were moved before anybody asked
};

std::string World::compare(const std::vector<const Bytes*>& disks, std::int64_t cut_time) {
    ++report_.checks;
    const auto at = source_->cuts().find(cut_time);
    if (at == source_->cuts().end()) return "a point of a cut that never was";
    const Cut& cut = at->second;
    for (DiskIndex i = 0; i < cut.content.size(); ++i) {
        const Bytes& wanted = cut.content[i];
        if (std::memcmp(wanted.data(), disks[i]->data(), wanted.size()) == 0) continue;
        for (Block block = 0; block * block_bytes < wanted.size(); ++block) {
            if (cut.loose[i].contains(block)) continue;
            if (source_->bad_block == std::optional(std::pair(i, block)) &&
                cut.over >= source_->bad_since) {
                continue;
            }
            const std::size_t from = block * block_bytes;
            const std::size_t size = std::min<std::size_t>(block_bytes, wanted.size() - from);
            if (std::memcmp(wanted.data() + from, disks[i]->data() + from, size) != 0) {
                return "disk " + std::to_string(i) + ", block " + std::to_string(block) +
                       " is not that of the cut";
            }
        }
    }
    return {};
}

std::string World::compare(const std::vector<DiskState>& disks, const core::Point& point) {
    std::vector<const Bytes*> contents;
    for (const DiskState& disk : disks) contents.push_back(&disk.current);
    const std::string difference = compare(contents, point.cut_time.ns);
    return difference.empty() ? difference
                              : "epoch " + std::to_string(point.epoch) + ", " + difference;
}

std::int64_t World::age(const core::Point& point, const core::Point& newest) const {
    return source_steps_ ? newest.closed_time.ns - point.closed_time.ns
                         : newest.cut_time.ns - point.cut_time.ns;
}

// Those with a name stay, and bear it; of the younger ones all are there.
std::string World::check_points(const std::vector<core::Point>& points) {
    std::set<std::uint64_t> there;
    // For want of space all may go.
    const bool wanting = retention_ != 0 || faults_.hits.contains("small-volume");
    for (std::size_t i = 0; i < points.size(); ++i) {
        const core::Point& point = points[i];
        there.insert(point.epoch);
        const auto named = named_.find(point.epoch);
        if (named != named_.end() && !named->second.contains(point.name))
            return "point " + *named->second.begin() + " is called '" + point.name + "'";
        if (named != named_.end() && kinds_.at(point.epoch) != point.kind)
            return "point " + point.name + " is of another kind";
        const auto marked = marked_.find(point.epoch);
        const std::uint64_t number = number_of(point.common);
        const bool right = marked == marked_.end() ? number == 0 : marked->second.contains(number);
        // Who disables it has forgotten them.
        if (!right && !disabling_)
            return "epoch " + std::to_string(point.epoch) + " is of another common cut";
        if (i == 0 || point.epoch == points[i - 1].epoch + 1) continue;
        if (point.epoch <= points[i - 1].epoch) return "points out of order";
        for (std::uint64_t gone = points[i - 1].epoch + 1; gone < point.epoch && !wanting; ++gone) {
            // Who never saw it knows that it is younger than that.
            const auto seen = seen_.find(gone);
            const core::Point& older = seen == seen_.end() ? points[i - 1] : seen->second;
            if (age(older, points.back()) < target_config().retention.all_for.count())
                return "points with a gap: " + std::to_string(gone) + " is gone too early";
        }
    }
    for (const auto& [epoch, names] : named_) {
        if (!there.contains(epoch) && !names.contains(""))
            return "point " + *names.begin() + " was given up";
    }
    return wanting || points.empty() ? std::string() : check_marks(points);
}

// A sector of another file, or of another place, was written here; or none was.
void World::misdirect(const VolumeState& volume, FileState& file, std::size_t vouched) {
    Rng& rng = executor_.rng;
    const std::size_t at = rng.below(vouched) / sector_bytes * sector_bytes;
    const std::size_t size = std::min<std::size_t>(sector_bytes, vouched - at);
    Bytes other(size);
    const auto from = std::next(volume.names.begin(),
                                static_cast<std::ptrdiff_t>(rng.below(volume.names.size())));
    const Bytes& there = from->second->current;
    if (rng.chance(70) && there.size() > sector_bytes) {
        const std::size_t place = rng.below(there.size() / sector_bytes) * sector_bytes;
        std::copy_n(there.begin() + static_cast<std::ptrdiff_t>(place),
                    std::min(size, there.size() - place), other.begin());
    }
    if (std::memcmp(other.data(), file.current.data() + at, size) == 0) {
        // What was to be there is: no damage.
        other[rng.below(size)] ^= std::byte{1};
    }
    std::memcpy(file.current.data() + at, other.data(), size);
    ++faults_.hits["misdirected-sector"];
}

// Damages an epoch's file where something vouches for it: a later record, a later file, or the
// source, which has heard that the epoch is closed. False: there is none.
bool World::rot(VolumeState& volume) {
    std::vector<std::pair<core::EpochSpan, std::string>> files;
    for (const auto& [name, file] : volume.names) {
        const auto span = core::Journal::span_of(name);
        if (span) files.emplace_back(*span, name);
    }
    if (files.empty()) return false;
    std::ranges::sort(files);
    const std::size_t which =
        executor_.rng.chance(50) ? files.size() - 1 : executor_.rng.below(files.size());
    // What is left of a merge bears no witness to anything.
    for (const auto& [span, name] : files) {
        if (span != files[which].first && span.contains(files[which].first)) return false;
    }
    FileState& file = *volume.find(files[which].second);
    std::uint64_t vouched = 0;
    for (const JournalRecord& record : records_of(file.current)) {
        vouched = std::max(vouched, record.header.durable_bytes);
        const bool closed = record.header.type == format::RecordType::closed;
        const bool older = which + 1 < files.size();
        if (closed && (older || (record.header.epoch <= acknowledged_ && !file.troubled))) {
            vouched = std::max<std::uint64_t>(vouched, record.end());
            break;
        }
    }
    if (vouched == 0) return false;
    if (executor_.rng.chance(40)) {
        misdirect(volume, file, vouched);
        file.durable = file.current;
        return true;
    }
    // The end is where the closed record is, which is small.
    const std::uint64_t from = executor_.rng.chance(40) ? vouched - vouched / 8 - 1 : 0;
    const std::size_t at = from + executor_.rng.below(vouched - from);
    const auto bit = std::byte{static_cast<std::uint8_t>(1U << executor_.rng.below(8))};
    file.current[at] ^= bit;
    file.durable = file.current;
    ++faults_.hits["bit-rot"];
    return true;
}

// Goes to points at random, and looks each time whether it is there.
struct World::Wander : std::enable_shared_from_this<World::Wander> {
    Wander(World& of, core::Target& with, std::vector<DiskState>& on, Rng& random)
        : world(of), target(with), disks(on), rng(random) {}
    World& world;
    core::Target& target;
    std::vector<DiskState>& disks;
    Rng& rng;
    std::uint64_t left = 0;
    // The result of the last move; or what went wrong.
    std::function<void(Result<core::FailoverResult>)> done;
    core::FailoverResult last{};

    void next() {
        const auto points = target.points();
        if (left == 0 || points.empty()) return done(last);
        --left;
        const std::uint64_t epoch = points[rng.below(points.size())].epoch;
        target.change_point(epoch, [self = shared_from_this(), epoch](auto moved) {
            if (!moved) return self->done(std::move(moved));
            if (moved->point.epoch != epoch)
                return self->done(fail(ErrorCode::internal, "moved to another point"));
            const std::string difference = self->world.compare(self->disks, moved->point);
            if (!difference.empty())
                return self->done(fail(ErrorCode::internal, "rewound: " + difference));
            ++self->world.faults_.hits["rewound"];
            self->last = std::move(*moved);
            self->next();
        });
    }
};

void World::wander(core::Target& target, std::vector<DiskState>& disks, std::uint64_t moves,
                   Rng& rng, const core::FailoverResult& from,
                   std::function<void(Result<core::FailoverResult>)> done) {
    auto walk = std::make_shared<Wander>(*this, target, disks, rng);
    walk->left = moves;
    walk->done = std::move(done);
    walk->last = from;
    walk->next();
}

// The power may fail somewhere in it. True: it answered.
bool World::try_failover(std::vector<DiskState>& disks, VolumeState& volume, const Try& how,
                         Attempt& attempt) {
    Executor executor(how.seed);
    Faults faults;
    faults.mutation = faults_.mutation;
    volume.capacity = UINT64_MAX;
    volume.overstated = 0;
    auto run = std::make_unique<TargetRun>(executor, disks, volume, faults, target_config(),
                                           clock_stepped_);
    bool answered = false;
    const auto troubled = [&](const std::string& what, const Error& error) {
        attempt.problem = what + error.message;
        attempt.corrupt = error.code == ErrorCode::corrupt;
        answered = true;
    };
    const auto failed_over = [&] {
        return run->target->status().state == core::TargetState::failed_over;
    };
    const auto resume = [&] {
        run->target->resume([&](Status status) {
            answered = true;
            if (!status) troubled("resume: ", status.error());
        });
    };
    const auto verify = [&] {
        run->target->verify([&](Result<core::VerifiedJournal> verified) {
            answered = true;
            if (!verified) troubled("verify: ", verified.error());
        });
    };
    const auto stays = [&] {
        for (const core::Point& point : run->target->points())
            if (point.epoch == run->target->status().point) attempt.result.point = point;
        ++faults_.hits["no-room-to-rewind"];
        if (how.verify) return verify();
        answered = true;
    };
    run->target->open([&](Status opened) {
        if (!opened) return troubled("recovery: ", opened.error());
        if (attempt.fenced && !failed_over()) {
            return troubled("a failover that was answered is forgotten", {});
        }
        attempt.moved_again = faults.sites.contains("rewound");
        run->target->failover(session_ + 1, [&](Result<core::FailoverResult> done) {
            if (!done) {
                answered = true;
                if (done.error().code != ErrorCode::not_found) troubled("failover: ", done.error());
                return;
            }
            attempt.result = *done;
            if (how.tight) {
                volume.capacity = volume.used() + executor.rng.below(8 * block_bytes);
                volume.overstated = executor.rng.chance(60) ? 1ULL << 20 : 0;
            }
            wander(*run->target, disks, how.moves, executor.rng, *done, [&](auto moved) {
                if (!moved && how.tight && moved.error().code == ErrorCode::no_space)
                    return stays();
                if (!moved) return troubled("changing the point: ", moved.error());
                moved->rolled_back_bytes = attempt.result.rolled_back_bytes;
                attempt.result = std::move(*moved);
                if (how.verify) return verify();
                if (how.resume) return resume();
                answered = true;
            });
        });
    });
    const std::uint64_t steps = how.interrupted ? executor.rng.below(300) : 1'000'000;
    // The moment when a session file says what is only true without the other one.
    const auto ripe = [&] {
        const auto gone = [](const auto& change) {
            return change.remove == core::Rewind::file_name;
        };
        const auto comes = [](const auto& change) { return change.add == "session"; };
        return how.resume && std::ranges::any_of(volume.pending, gone) &&
               std::ranges::any_of(volume.pending, comes);
    };
    for (std::uint64_t i = 0; i < steps && !answered; ++i) {
        if (!executor.step() || (how.interrupted && ripe())) break;
    }
    if (!answered && !how.interrupted) troubled("failover does not end", {});
    if (answered && attempt.problem.empty() && attempt.result.point.epoch != 0 &&
        failed_over() == how.resume) {
        troubled("not failed over after failover", {});
    }
    attempt.points = run->target->points();
    run.reset();
    for (DiskState& disk : disks) disk.power_cut(executor.rng, faults);
    volume.power_cut(executor.rng, faults);
    for (const auto& [site, count] : faults.sites) report_.sites[site] += count;
    return answered;
}

// What would be had if the power failed now, or the daemon died, and it was failed over?
void World::check_replica() {
    if (damage_is_planted()) return;  // it would be copied
    if (!report_.passed) return;
    observe();
    std::vector<DiskState> disks = disks_;
    VolumeState volume = volume_.copy();
    Rng& rng = executor_.rng;
    if (rng.chance(70)) {
        for (DiskState& disk : disks) disk.power_cut(rng, faults_);
        volume.power_cut(rng, faults_);
    }
    const bool rotten = rng.chance(15) && rot(volume);
    Attempt attempt;
    for (int i = 0; i < 3 && rng.chance(50) && attempt.problem.empty(); ++i) {
        ++faults_.hits["crash-in-failover"];
        Try how{rng.next(), true, rng.below(5)};
        how.resume = rng.chance(30);
        (void)try_failover(disks, volume, how, attempt);
    }
    attempt.result = {};
    const std::uint64_t moves = rng.chance(40) ? rng.below(4) : 0;
    Try how{rng.next(), false, moves};
    how.verify = true;
    how.tight = rng.chance(30);
    if (attempt.problem.empty()) (void)try_failover(disks, volume, how, attempt);
    if (rotten) {
        if (attempt.corrupt) {
            ++faults_.hits["rot-found"];
        } else {
            problem(attempt.problem.empty() ? "verified what is damaged" : attempt.problem);
        }
        return;
    }
    if (!attempt.problem.empty()) return problem(attempt.problem);
    const core::Point point = attempt.result.point;
    const std::uint64_t newest = attempt.points.empty() ? 0 : attempt.points.back().epoch;
    if (newest < acknowledged_) {
        return problem("acknowledged epoch " + std::to_string(acknowledged_) +
                       " is lost, there is " + std::to_string(newest));
    }
    if (point.epoch == 0) return;
    std::string difference = compare(disks, point);
    if (!difference.empty()) return problem("after recovery: " + difference);
    difference = check_points(attempt.points);
    if (!difference.empty()) return problem("after recovery: " + difference);
    // Rolled back is rolled back: what the machine writes now is its own, and stays.
    Attempt again;
    again.fenced = true;
    (void)try_failover(disks, volume, {.seed = rng.next()}, again);
    if (!again.problem.empty()) return problem("second failover: " + again.problem);
    if (again.result.point.epoch != point.epoch || again.result.rolled_back_bytes != 0)
        return problem("a finished rollback was done again");
    // Unless there was no room to note that it was finished.
    if (again.moved_again && !how.tight) return problem("a finished move was done again");
    // And from there to any other.
    if (rng.chance(70)) return;
    again = {};
    (void)try_failover(disks, volume, {.seed = rng.next(), .moves = rng.chance(20) ? 8U : 1U},
                       again);
    if (!again.problem.empty()) problem("third failover: " + again.problem);
}

}  // namespace ebb::sim
