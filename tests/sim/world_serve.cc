// SPDX-License-Identifier: Apache-2.0
// Points that are served: read at random places and times, while epochs are applied and closed,
// points are merged and given up, and compared with what the cut was.
#include <algorithm>
#include <cstring>

#include "world.h"

namespace ebb::sim {

namespace {

constexpr std::size_t sessions_at_once = 3;
constexpr std::uint64_t reads_at_once = 3;

}  // namespace

// One point; it ends with the daemon's life.
struct World::Session : std::enable_shared_from_this<World::Session> {
    Session(World& of, TargetRun& with, core::Point what)
        : world(of), run(with), point(std::move(what)) {}
    World& world;
    TargetRun& run;
    const core::Point point;
    bool over = false;

    void begin() {
        run.target->serve(point.epoch, [self = shared_from_this()](Status status) {
            self->world.hit("served");
            if (!status) return self->not_begun(status.error());
            for (std::uint64_t i = 0; i < reads_at_once; ++i) self->later();
        });
    }
    void end() {
        over = true;
        run.served.erase(point.epoch);
        run.target->unserve(point.epoch, [](const Status&) {});
    }
    void later() {
        const auto delay = static_cast<std::int64_t>(world.executor_.rng.below(12 * ms));
        run.life.at(delay, [self = shared_from_this()] { self->read(); });
    }
    void read() {
        if (over) return;
        Rng& rng = world.executor_.rng;
        const auto disk = static_cast<DiskIndex>(rng.below(world.source_->disk_count()));
        const std::uint64_t sectors = world.source_->size(disk) / sector_bytes;
        const std::uint64_t from = rng.below(sectors);
        const std::uint64_t most =
            std::min<std::uint64_t>(sectors - from, rng.chance(20) ? 400 : 40);
        const std::uint64_t offset = from * sector_bytes;
        auto into = std::make_shared<Buffer>((1 + rng.below(most)) * sector_bytes);
        run.target->read_served(point.epoch, disk, offset, into,
                                [self = shared_from_this(), disk, offset, into](Status status) {
                                    if (self->over || !self->world.faulty_) return;
                                    if (!status) return self->failed(status.error());
                                    self->check(disk, offset, into->span());
                                    self->later();
                                });
    }
    void check(DiskIndex disk, std::uint64_t offset, std::span<const std::byte> got) {
        ++world.faults_.hits["served-read"];
        const std::string wrong = world.compare_part(point.cut_time.ns, disk, offset, got);
        if (!wrong.empty())
            world.problem("epoch " + std::to_string(point.epoch) + " as it is served, " + wrong);
    }
    void failed(const Error& error) {
        if (over) return;
        // Of a disk, once.
        if (error.code == ErrorCode::io && error.name() == code_name(error.code)) return later();
        over = true;
        if (error.name() != "E_POINT_GIVEN_UP")
            return world.problem("a served point cannot be read: " + error.message);
        world.hit("served-given-up");
    }
    // The point is gone, or the target is broken or failed over.
    void not_begun(const Error& error) {
        over = true;
        if (error.code == ErrorCode::internal || error.code == ErrorCode::corrupt)
            world.problem("a point cannot be served: " + error.message);
    }
};

void World::end_serving() {
    if (!target_run_) return;
    for (const auto& served : target_run_->target->status().served)
        target_run_->target->unserve(served.epoch, [](const Status&) {});
}

std::string World::compare_part(std::int64_t cut_time, DiskIndex disk, std::uint64_t offset,
                                std::span<const std::byte> got) {
    const auto at = source_->cuts().find(cut_time);
    if (at == source_->cuts().end()) return "a point of a cut that never was";
    const Cut& cut = at->second;
    for (std::uint64_t done = 0; done < got.size(); done += sector_bytes) {
        const std::uint64_t place = offset + done;
        const Block block = place / block_bytes;
        if (std::memcmp(cut.content[disk].data() + place, got.data() + done, sector_bytes) == 0)
            continue;
        if (cut.loose[disk].contains(block)) continue;
        if (source_->bad_block == std::optional(std::pair(disk, block)) &&
            cut.over >= source_->bad_since) {
            continue;
        }
        return "disk " + std::to_string(disk) + ", sector " + std::to_string(place / sector_bytes) +
               " is not that of the cut";
    }
    return {};
}

void World::serve() {
    if (!target_run_ || !target_run_->open || operation_) return;
    Rng& rng = executor_.rng;
    const auto points = target_run_->target->points();
    // The target itself knows of it when it has ended what stands in the way.
    auto& served = target_run_->served;
    if (points.empty() || served.size() >= sessions_at_once) return;
    // Old ones have more to tell.
    const std::uint64_t among = rng.chance(50) ? (points.size() + 2) / 3 : points.size();
    const core::Point& point = points[rng.below(among)];
    if (!served.insert(point.epoch).second) return;
    auto session = std::make_shared<Session>(*this, *target_run_, point);
    session->begin();
    target_run_->life.at(static_cast<std::int64_t>(rng.below(8 * second)),
                         [session] { session->end(); });
}

// What has been seen of it, before the daemon goes or in the end.
void World::observe_served() {
    if (!target_run_) return;
    for (const auto& served : target_run_->target->status().served) {
        auto& before = counted_[served.epoch];
        if (served.reads < before.reads) before = {};  // it is another time
        faults_.hits["served-raced"] +=
            served.repeated - std::min(served.repeated, before.repeated);
        faults_.hits["served-merged"] +=
            served.merges_followed - std::min(served.merges_followed, before.merges_followed);
        before = served;
        if (!served.error) continue;
        const ErrorCode code = served.error->code;
        if (code == ErrorCode::internal || code == ErrorCode::corrupt)
            problem("a served point was given up: " + served.error->message);
    }
}

}  // namespace ebb::sim
