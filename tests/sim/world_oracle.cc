// SPDX-License-Identifier: Apache-2.0
// What every recovery point must hold, and what would be had if everything stopped now.
#include <algorithm>
#include <cstring>

#include "core/journal.h"
#include "world.h"

namespace ebb::sim {

// One failover on a copy.
struct World::Attempt {
    core::FailoverResult result;
    std::vector<core::Point> points;
    std::string problem;
    bool corrupt = false;  // that is the problem
    bool fenced = false;   // it was failed over before
};

namespace {

// Whole records of a journal file, and where each begins.
struct JournalRecord {
    std::size_t at = 0;
    format::RecordHeader header;
    std::span<const std::byte> payload;
    [[nodiscard]] std::size_t end() const {
        return at + format::record_header_bytes + payload.size() + format::record_trailer_bytes;
    }
};

std::vector<JournalRecord> records_of(const Bytes& file) {
    std::vector<JournalRecord> records;
    std::size_t at = 0;
    while (file.size() - at >= format::record_header_bytes) {
        const auto here = std::span(file).subspan(at);
        auto header = format::decode_record_header(here);
        if (!header) break;
        const auto rest = here.subspan(format::record_header_bytes);
        const std::uint64_t size = header->payload_bytes + format::record_trailer_bytes;
        if (rest.size() < size || !format::check_record(*header, rest.first(size))) break;
        records.push_back({at, *header, rest.first(header->payload_bytes)});
        at = records.back().end();
    }
    return records;
}

}  // namespace

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

// Those that are kept are without gaps, and bear the names they were given.
std::string World::check_points(const std::vector<core::Point>& points) {
    for (std::size_t i = 0; i < points.size(); ++i) {
        const core::Point& point = points[i];
        if (i > 0 && point.epoch != points[i - 1].epoch + 1) return "points with a gap";
        const auto named = named_.find(point.epoch);
        if (named != named_.end() && named->second != point.name) {
            return "point " + named->second + " is called '" + point.name + "'";
        }
    }
    return {};
}

// Back from the newest point, one after the other, by the undo alone.
std::string World::rewind(std::vector<DiskState>& disks, const VolumeState& volume,
                          const std::vector<core::Point>& points) {
    std::uint64_t steps = executor_.rng.chance(20) ? UINT64_MAX : executor_.rng.below(4);
    for (std::size_t i = points.size(); i > 1 && steps > 0; --i, --steps) {
        const auto file = volume.names.find(core::Journal::epoch_name(points[i - 1].epoch));
        if (file == volume.names.end()) return "a point without a file";
        std::set<std::pair<DiskIndex, std::uint64_t>> seen;
        for (const JournalRecord& record : records_of(file->second->current)) {
            if (record.header.type != format::RecordType::undo) continue;
            auto entries = format::decode_undo_table(record.payload, record.payload.size());
            if (!entries) return "undo that cannot be read";
            for (const format::UndoEntry& entry : *entries) {
                Bytes data(entry.length);
                if (!entry.zero) {
                    const auto old = record.payload.subspan(entry.at, entry.length);
                    data.assign(old.begin(), old.end());
                }
                for (std::uint64_t at = 0; at < entry.length; at += block_bytes) {
                    if (!seen.emplace(entry.disk, entry.offset + at).second) {
                        return "a block is twice in the undo of an epoch";
                    }
                }
                std::copy(
                    data.begin(), data.end(),
                    disks[entry.disk].current.begin() + static_cast<std::ptrdiff_t>(entry.offset));
            }
        }
        const std::string difference = compare(disks, points[i - 2]);
        if (!difference.empty()) return "rewound: " + difference;
        ++faults_.hits["rewound"];
    }
    return {};
}

// Damages a byte of the newest epoch's file that something vouches for: a later record, or the
// source, which has heard that the epoch is closed. False: there is none.
bool World::rot(VolumeState& volume) {
    std::string newest;
    for (const auto& [name, file] : volume.names) {
        if (core::Journal::epoch_of(name)) newest = name;
    }
    if (newest.empty()) return false;
    FileState& file = *volume.find(newest);
    std::uint64_t vouched = 0;
    for (const JournalRecord& record : records_of(file.current)) {
        vouched = std::max(vouched, record.header.durable_bytes);
        const bool closed = record.header.type == format::RecordType::closed;
        if (closed && record.header.epoch <= acknowledged_ && !file.troubled) {
            vouched = std::max<std::uint64_t>(vouched, record.end());
        }
    }
    if (vouched == 0) return false;
    // The end is where the closed record is, which is small.
    const std::uint64_t from = executor_.rng.chance(40) ? vouched - vouched / 8 - 1 : 0;
    const std::size_t at = from + executor_.rng.below(vouched - from);
    const auto bit = std::byte{static_cast<std::uint8_t>(1U << executor_.rng.below(8))};
    file.current[at] ^= bit;
    file.durable = file.current;
    ++faults_.hits["bit-rot"];
    return true;
}

// `interrupted`: the power fails somewhere in it. True: it answered.
bool World::try_failover(std::vector<DiskState>& disks, VolumeState& volume, std::uint64_t seed,
                         bool interrupted, Attempt& attempt) {
    Executor executor(seed);
    Faults faults;
    faults.removed_site = faults_.removed_site;
    volume.capacity = UINT64_MAX;
    auto run = std::make_unique<TargetRun>(executor, disks, volume, faults, target_config());
    bool answered = false;
    const auto troubled = [&](const std::string& what, const Error& error) {
        attempt.problem = what + error.message;
        attempt.corrupt = error.code == ErrorCode::corrupt;
        answered = true;
    };
    const auto failed_over = [&] {
        return run->target->status().state == core::TargetState::failed_over;
    };
    run->target->open([&](Status opened) {
        if (!opened) return troubled("recovery: ", opened.error());
        if (attempt.fenced && !failed_over()) {
            return troubled("a failover that was answered is forgotten", {});
        }
        run->target->failover(session_ + 1, [&](Result<core::FailoverResult> done) {
            answered = true;
            if (done) {
                attempt.result = std::move(*done);
            } else if (done.error().code != ErrorCode::not_found) {
                troubled("failover: ", done.error());
            }
        });
    });
    const std::uint64_t steps = interrupted ? executor.rng.below(120) : 1'000'000;
    for (std::uint64_t i = 0; i < steps && !answered; ++i) {
        if (!executor.step()) break;
    }
    if (!answered && !interrupted) troubled("failover does not end", {});
    if (answered && attempt.problem.empty() && attempt.result.point.epoch != 0 && !failed_over()) {
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
    if (!report_.passed) return;
    observe();
    const std::uint64_t acknowledged = acknowledged_;
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
        (void)try_failover(disks, volume, rng.next(), true, attempt);
    }
    attempt.result = {};
    if (attempt.problem.empty()) (void)try_failover(disks, volume, rng.next(), false, attempt);
    if (rotten && attempt.corrupt) {
        ++faults_.hits["rot-found"];
        return;
    }
    if (!attempt.problem.empty()) return problem(attempt.problem);
    const core::Point point = attempt.result.point;
    if (point.epoch < acknowledged) {
        return problem("acknowledged epoch " + std::to_string(acknowledged) +
                       " is lost, there is " + std::to_string(point.epoch));
    }
    if (point.epoch == 0) return;
    std::string difference = compare(disks, point);
    if (!difference.empty()) return problem("after recovery: " + difference);
    difference = check_points(attempt.points);
    if (!difference.empty()) return problem("after recovery: " + difference);
    // Rolled back is rolled back: what the machine writes now is its own, and stays.
    Attempt again;
    again.fenced = true;
    (void)try_failover(disks, volume, rng.next(), false, again);
    if (!again.problem.empty()) return problem("second failover: " + again.problem);
    if (again.result.point.epoch != point.epoch || again.result.rolled_back_bytes != 0) {
        return problem("a finished rollback was done again");
    }
    if (rotten) return;
    difference = rewind(disks, volume, attempt.points);
    if (!difference.empty()) problem(difference);
}

}  // namespace ebb::sim
