// SPDX-License-Identifier: Apache-2.0
// The operator has a journal verified: at any time, on full volumes too, with and without damage.
#include <algorithm>

#include "core/journal.h"
#include "journal_records.h"
#include "world.h"

namespace ebb::sim {

// While a target lives. What is damaged for it is mended at its end, whatever ends it.
struct World::Reading {
    explicit Reading(TargetRun* of) : run(of) {}
    ~Reading() { mend(); }
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

    TargetRun* run;
    std::uint64_t oldest = 0;  // point, as it was begun
    bool tight = false;        // the volume was full then
    // Damage: an epoch's file, and where.
    std::string name;
    std::shared_ptr<FileState> file;
    std::size_t at = 0;
    std::byte bit{};

    void damage(VolumeState& volume, std::string which, Rng& rng) {
        name = std::move(which);
        (void)volume.find(name);  // from here on it is nobody else's
        file = volume.names.at(name);
        at = rng.below(closed_bytes(*file));
        bit = static_cast<std::byte>(1U << rng.below(8));
        flip();
    }
    void mend() {
        if (!file) return;
        flip();
        file.reset();
    }
    // A file that is closed has nothing behind its closed record.
    static std::size_t closed_bytes(const FileState& of) {
        for (const JournalRecord& record : records_of(of.current)) {
            if (record.header.type == format::RecordType::closed) return record.end();
        }
        return 0;
    }

private:
    void flip() {
        file->current[at] ^= bit;
        if (at < file->durable.size()) file->durable[at] ^= bit;
    }
};

// Nothing else is to come across what was damaged: nobody asked it to be borne.
bool World::damage_is_planted() const {
    return reading_ && reading_->file;
}

void World::verify_retention() {
    if (!target_run_ || !target_run_->open || disabling_ || reading_) return;
    Rng& rng = executor_.rng;
    if (rng.chance(60) && volume_.capacity == UINT64_MAX) {
        hit("small-volume");
        volume_.capacity = volume_.used();
        later(4 * second, [this] { volume_.capacity = UINT64_MAX; });
    }
    TargetRun* run = target_run_.get();
    const auto points = run->target->points();
    reading_ = std::make_shared<Reading>(run);
    reading_->oldest = points.empty() ? 0 : points.front().epoch;
    reading_->tight = volume_.capacity != UINT64_MAX;
    if (rng.chance(40)) plant_damage();
    run->target->verify([this, now = std::weak_ptr(reading_)](auto result) {
        const auto reading = now.lock();
        if (!reading || reading != reading_) return;
        retention_verified(*reading, result);
        // It is read all the time while there is no room.
        const bool again = result && reading->tight && !reading->file;
        reading_.reset();
        if (again && faulty_) later(20 * ms, [this] { verify_retention(); });
    });
}

// In a file that is closed, and that the target has just now.
void World::plant_damage() {
    const auto status = reading_->run->target->status();
    if (operation_ || naming_ || put_back_ || older_ || certifying_ != nullptr ||
        !reading_->run->served.empty() || status.merging || !status.served.empty())
        return;
    std::vector<std::string> names;
    for (const auto& [name, file] : volume_.names) {
        const auto span = core::Journal::span_of(name);
        const bool there = span && std::ranges::any_of(reading_->run->target->points(),
                                                       [&](const core::Point& point) {
                                                           return point.epoch == span->last;
                                                       });
        if (there && Reading::closed_bytes(*file) != 0) names.push_back(name);
    }
    if (names.empty()) return;
    reading_->damage(volume_, names[executor_.rng.below(names.size())], executor_.rng);
}

void World::retention_verified(const Reading& reading,
                               const Result<core::VerifiedJournal>& result) {
    const auto points = reading.run->target->points();
    const bool pruned = !points.empty() && points.front().epoch > reading.oldest;
    const bool planted = reading.file != nullptr;
    const auto there = volume_.names.find(reading.name);
    const bool stays = planted && there != volume_.names.end() && there->second == reading.file;
    if (result) {
        if (stays) return problem("retention verify finds no damage");
        if (!pruned && result->points > points.size())
            return problem("retention verify counts points that are not there");
        hit("journal-verified");
        if (reading.tight) hit("journal-verified-full");
        if (pruned) hit("journal-verified-pruned");
        return;
    }
    switch (result.error().code) {
        case ErrorCode::corrupt:
            if (!planted) return problem("retention verify: " + result.error().message);
            return hit("journal-damage-found");
        case ErrorCode::no_space: return hit("journal-verify-given-up");
        // Of the target, or of somebody else who reads.
        case ErrorCode::busy:
        case ErrorCode::io:
        case ErrorCode::cancelled:
        case ErrorCode::fenced: return;
        default: return problem("retention verify: " + result.error().message);
    }
}

// It ends, whatever has happened.
void World::await_retention_verify() {
    const std::int64_t until = executor_.now() + 60 * second;
    while (report_.passed && reading_ && executor_.now() < until && executor_.step()) continue;
    if (reading_) problem("retention verify does not end");
}

}  // namespace ebb::sim
