// SPDX-License-Identifier: Apache-2.0
// A disk's last quarter is for buffered writes, in slots of one lane each: pages are written whole,
// so nobody else may write beside them meanwhile. All the rest is for direct writes of every lane.
#include "model/generator.h"

#include <algorithm>
#include <random>

#include "model/sector.h"

namespace ebb::kmodmodel {
namespace {

constexpr std::uint64_t slot_sectors = 256;
constexpr std::uint64_t gap = 16;  // pages of a path may lie across the border
constexpr std::uint64_t most_polled = 128;

// How a leg comes to its end: with all data confirmed, and nobody or few who write; or with writes
// to clean blocks while the map is sealed.
enum class Ending : std::uint8_t { any, calm, sealing };

class Generator {
public:
    explicit Generator(std::uint64_t seed) : random_(seed) { scenario_.seed = seed; }

    Scenario run() {
        make_parameters();
        std::uint64_t disks = 1 + pick({4, 4, 2, 1});
        for (std::uint64_t d = 0; d < disks; ++d) make_disk();
        for (std::uint32_t p = 0; p < scenario_.paths.size(); ++p)
            if (scenario_.disks[scenario_.paths[p].disk].kind == "erasable") erasable_.push_back(p);
        find_removable();
        hot_ = below(scenario_.disks[0].sectors / 2);
        std::uint64_t lanes = 2 + below(4), phases = 1 + pick({3, 2, 1});
        for (std::uint64_t phase = 0; phase < phases; ++phase) {
            for (std::uint64_t lane = 1; lane <= lanes; ++lane)
                make_lane(static_cast<std::uint32_t>(lane));
            make_operator();
            add(make_rest());
        }
        return std::move(scenario_);
    }

    Scenario run_restarts() {
        make_parameters();
        // The first one: not by itself. Nor is a disk flushed for that then.
        static constexpr std::uint64_t cool[] = {3600, 0, 1};
        scenario_.parameters["log_cool_s"] = cool[pick({5, 3, 2})];
        scenario_.parameters["log_deadline_ms"] = 60000;
        std::uint64_t disks = 1 + pick({5, 3, 1});
        for (std::uint64_t d = 0; d < disks; ++d) make_host_disk(static_cast<std::uint32_t>(d));
        hot_ = below(scenario_.disks[0].sectors / 2);
        // Not NVMe: QEMU's takes writes with FUA, and leaves them in the cache.
        scenario_.map = host_kinds[pick({3, 2, 1})];
        if (chance(20)) scenario_.map_block = 4096;
        std::uint64_t restarts = 2 + below(4), lanes = 2 + below(3);
        for (std::uint64_t restart = 0; restart <= restarts; ++restart) {
            bool last = restart == restarts;
            auto ending = last ? Ending::any : static_cast<Ending>(pick({4, 3, 3}));
            if (ending == Ending::calm || chance(30)) {
                auto phase = static_cast<std::ptrdiff_t>(scenario_.operations.size());
                make_phase(lanes);
                if (ending == Ending::calm) leave_unflushed(phase);
                make_boundary(ending);
            }
            make_last_phase(lanes, ending);
            if (!last) make_restart(ending);
        }
        add({.kind = Kind::settle});
        return std::move(scenario_);
    }

private:
    static constexpr const char* const host_kinds[] = {"virtio", "virtio-scsi", "pvscsi", "nvme"};
    static constexpr std::uint64_t spot_sectors = 600;
    std::uint64_t below(std::uint64_t limit) { return limit ? random_() % limit : 0; }
    bool chance(std::uint64_t per_cent) { return below(100) < per_cent; }
    // An index, by weight.
    std::uint64_t pick(std::initializer_list<std::uint64_t> weights) {
        std::uint64_t sum = 0, index = 0;
        for (std::uint64_t w : weights) sum += w;
        std::uint64_t at = below(sum);
        for (std::uint64_t w : weights) {
            if (at < w) return index;
            at -= w;
            ++index;
        }
        return 0;
    }
    void add(const Operation& operation) { scenario_.operations.push_back(operation); }

    void make_parameters() {
        static constexpr std::uint64_t pools[] = {16 << 20, 4 << 20, 256 << 10, 64 << 10};
        static constexpr std::uint64_t deadlines[] = {2000, 300, 50, 5};
        scenario_.parameters["pool_bytes"] = pools[pick({6, 2, 1, 1})];
        scenario_.parameters["hold_deadline_ms"] = deadlines[pick({6, 2, 1, 1})];
        scenario_.parameters["owner_timeout_ms"] = 60000;
    }

    void make_disk() {
        static constexpr const char* const kinds[] = {"nullb",    "delay",  "flakey", "brd", "scsi",
                                                      "erasable", "stripe", "crypt",  "thin"};
        DiskPlan disk;
        disk.kind = kinds[pick({10, 3, 2, 2, 3, 3, 2, 2, 2})];
        disk.sectors = chance(70) ? 8192 : 16384;
        if (disk.kind == "nullb" && chance(25)) disk.block = 4096;
        disk.queues = 1 + below(2);
        if (disk.kind == "nullb") disk.irqmode = pick({2, 2, 3});
        if (disk.kind == "nullb") disk.polls = below(2);
        if (disk.irqmode == 2) disk.nsec = 10000ull << below(9);
        if (disk.kind == "delay") disk.delay_ms = 1 + below(20);
        std::uint64_t unit = disk.block / sector_bytes;
        auto first = [&] { return (1 + below(2000 / unit)) * unit; };
        bool delays = disk.kind == "delay" || disk.kind == "flakey";
        bool is_dm = delays || disk.kind == "stripe" || disk.kind == "crypt" || disk.kind == "thin";
        if (disk.kind == "stripe") disk.first = 8ull << below(5);
        if ((delays || disk.kind == "nullb" || disk.kind == "scsi") && chance(15)) {
            disk.sectors = 16384;
            scenario_.disks.push_back(disk);
            // All writes go by the upper one, which sees no others.
            disk = {
                .kind = "stacked", .sectors = disk.sectors, .block = disk.block, .first = first()};
            disk.sectors -= disk.first + below(1000 / unit) * unit;
            is_dm = true;
        }
        scenario_.disks.push_back(disk);
        auto number = static_cast<std::uint32_t>(scenario_.disks.size() - 1);
        scenario_.paths.push_back({number, "whole", 0});
        if (!is_dm && chance(50)) scenario_.paths.push_back({number, "partition", first()});
        if (chance(35)) scenario_.paths.push_back({number, "linear", first()});
    }

    void make_host_disk(std::uint32_t number) {
        DiskPlan disk;
        disk.kind = host_kinds[pick({3, 3, 1, 2})];
        disk.sectors = 32768 + below(49152);
        // Maps of several fine blocks; then it is the only disk.
        if (number == 0 && chance(10)) disk.sectors = 300000 + below(100000);
        disk.block = chance(25) ? 4096 : 512;
        if (disk.block == 4096 || chance(50)) disk.sectors = disk.sectors / 8 * 8;
        scenario_.disks.push_back(disk);
        scenario_.paths.push_back({number, "whole", 0});
        std::uint64_t unit = disk.block / sector_bytes;
        auto first = [&] { return (1 + below(4000 / unit)) * unit; };
        if (chance(40)) scenario_.paths.push_back({number, "partition", first()});
        if (chance(25)) scenario_.paths.push_back({number, "linear", first()});
        auto& spots = spots_.emplace_back();
        for (std::uint64_t i = 2 + below(4); i > 0; --i)
            spots.push_back(below(disk.sectors * 3 / 4 - 8000));
    }

    void make_phase(std::uint64_t lanes) {
        for (std::uint64_t lane = 1; lane <= lanes; ++lane)
            make_lane(static_cast<std::uint32_t>(lane));
        make_operator();
    }

    // From that operation on.
    void leave_unflushed(std::ptrdiff_t first) {
        auto& all = scenario_.operations;
        auto flushes = [](const Operation& o) {
            return o.kind == Kind::flush || o.kind == Kind::buffered;
        };
        all.erase(std::remove_if(all.begin() + first, all.end(), flushes), all.end());
        for (auto o = all.begin() + first; o != all.end(); ++o)
            if (o->kind == Kind::sync) o->kind = Kind::direct;
    }

    // Nothing is above them that would have to be made anew.
    void find_removable() {
        for (std::uint32_t d = 0; d < scenario_.disks.size(); ++d) {
            const auto paths = std::ranges::count(scenario_.paths, d, &PathPlan::disk);
            if (scenario_.disks[d].kind == "scsi" && paths == 1 && !is_below(d))
                removable_.push_back(d);
        }
    }

    // Whether another one is stacked on it.
    bool is_below(std::size_t number) const {
        return number + 1 < scenario_.disks.size() && scenario_.disks[number + 1].kind == "stacked";
    }

    // Between phases. The disk may turn out to be none for which that is possible.
    Operation make_rest() {
        Operation o{.kind = chance(20) ? Kind::reload : Kind::settle};
        auto number = static_cast<std::uint32_t>(below(scenario_.disks.size()));
        const DiskPlan& disk = scenario_.disks[number];
        if (disk.kind == "scsi" && chance(60)) {
            o = {.kind = Kind::passthrough, .disk = number, .at = below(disk.sectors * 3 / 4)};
        } else if ((disk.kind == "delay" || disk.kind == "flakey") && !is_below(number) &&
                   chance(40)) {
            o = {.kind = Kind::resize, .disk = number};
        }
        return o;
    }

    void make_boundary(Ending ending) {
        static constexpr Kind kinds[] = {Kind::settle, Kind::reload, Kind::daemon, Kind::cool};
        add({.kind = kinds[ending == Ending::calm ? pick({6, 1, 2, 1}) : pick({3, 2, 3, 4})]});
    }

    void make_last_phase(std::uint64_t lanes, Ending ending) {
        if (ending == Ending::any) return make_phase(lanes);
        std::uint64_t rest = ending != Ending::calm ? 0 : chance(80) ? 100 : 50;
        for (std::uint64_t lane = 1; lane <= lanes; ++lane)
            if (!chance(rest))
                make_lane(static_cast<std::uint32_t>(lane),
                          ending == Ending::sealing && lane == lanes);
        if (ending == Ending::sealing)
            make_daemon();
        else if (chance(20))
            make_operator();
    }

    Kind pick_restart(Ending ending) {
        static constexpr Kind kinds[] = {Kind::reboot,   Kind::poweroff, Kind::cut,
                                         Kind::cutwrite, Kind::cutflush, Kind::haltwrite,
                                         Kind::haltflush};
        switch (ending) {
            case Ending::calm: return kinds[pick({3, 3, 1, 1, 1, 1, 6})];
            case Ending::sealing: return kinds[pick({0, 8, 0, 0, 0, 1, 1})];
            default: return kinds[pick({3, 3, 4, 5, 2, 1, 1})];
        }
    }

    void make_restart(Ending ending) {
        Operation o{.kind = pick_restart(ending)};
        o.seed = random_() % 100000;
        if (o.kind != Kind::reboot) o.n = below(chance(50) ? 300000 : 3000000);
        if (o.kind == Kind::cut && chance(30)) o.at = 1;
        if (o.kind == Kind::poweroff && ending == Ending::sealing) o.at = 1;
        if (is_at_request(o.kind)) choose_request(o, ending);
        add(o);
    }

    void choose_request(Operation& o, Ending ending) {
        auto disks = static_cast<std::uint32_t>(scenario_.disks.size());
        // The data that is in the cache is of a disk; else more often the map device.
        auto disk = static_cast<std::uint32_t>(below(disks + (ending == Ending::calm ? 1 : 2)));
        o.disk = std::min(disk, disks);
        std::uint64_t most = is_halt_cut(o.kind)   ? 1ull << below(3)
                             : is_at_flush(o.kind) ? 8
                                                   : 1ull << below(10);
        o.at = 1 + below(most);
    }

    // Sectors of a path that are for direct writes, and the unit of its disk.
    std::uint64_t free_of(const PathPlan& path) const {
        return scenario_.disks[path.disk].sectors * 3 / 4 - path.first - gap;
    }
    std::uint64_t unit_of(const PathPlan& path) const {
        return scenario_.disks[path.disk].block / sector_bytes;
    }

    Operation make_range(std::uint32_t lane, Kind kind) {
        Operation o{.lane = lane, .kind = kind};
        o.path = kind == Kind::erase ? erasable_[below(erasable_.size())]
                                     : static_cast<std::uint32_t>(below(scenario_.paths.size()));
        const PathPlan& path = scenario_.paths[o.path];
        // 7.2's dm-crypt asks the disk below to be polled, and nobody does: the write times out.
        if (kind == Kind::polled && scenario_.disks[path.disk].kind == "crypt")
            o.kind = kind = Kind::uring;
        std::uint64_t unit = unit_of(path), free = free_of(path);
        static constexpr std::uint64_t longest[] = {1, 8, 24, 64, 256};
        o.n = 1 + below(longest[pick({2, 4, 3, 3, 1})]);
        if (kind == Kind::zero || kind == Kind::discard || kind == Kind::erase)
            o.n *= 1 + below(16);
        if (chance(40)) o.n = (o.n + 7) / 8 * 8;
        // A polled write that has to be split is refused for ever, which io_uring on 6.1 tries.
        if (kind == Kind::polled) o.n = std::min(o.n, most_polled);
        std::uint64_t hot = hot_ > path.first ? hot_ - path.first : 0;
        std::uint64_t window = chance(50) ? 64 : 2048;
        o.at = chance(70) ? hot + below(window) : below(free);
        if (!spots_.empty() && chance(wanders_ ? 40 : 97)) {
            const auto& spots = spots_[path.disk];
            std::uint64_t spot = spots[below(spots.size())];
            o.at = (spot > path.first ? spot - path.first : 0) + below(spot_sectors);
        }
        if (chance(40)) o.at = o.at / 8 * 8;
        o.n = std::max(unit, o.n / unit * unit);
        o.at = std::min(o.at, free - o.n) / unit * unit;
        return o;
    }

    Operation make_buffered(std::uint32_t lane) {
        Operation o{.lane = lane, .kind = Kind::buffered};
        o.path = static_cast<std::uint32_t>(below(scenario_.paths.size()));
        const PathPlan& path = scenario_.paths[o.path];
        const DiskPlan& disk = scenario_.disks[path.disk];
        // One lane and one path each, since every path has pages of its own.
        std::uint64_t slot = lane * 4 + o.path % 4;
        std::uint64_t begin = disk.sectors * 3 / 4 + slot * slot_sectors / 4;
        std::uint64_t at = (begin - path.first + 7) / 8 * 8;
        std::uint64_t unit = unit_of(path);
        o.n = std::max(unit, (1 + below(32)) / unit * unit);
        o.at = at + below(slot_sectors / 4 - gap - o.n) / unit * unit;
        return o;
    }

    void make_lane(std::uint32_t lane, bool must_amble = false) {
        std::uint64_t style = pick({4, 4, 2, 2});  // direct, in flight, buffered, ranges
        std::uint64_t count = 3 + below(20), amble = 0;
        if (!spots_.empty()) {
            // Long ones, and such as take their time: what they write is clean when they come to
            // it again, and in regions that nobody else writes to.
            wanders_ = must_amble || chance(30);
            if (wanders_) count += 40 + below(80);
            if (must_amble || (wanders_ && chance(40))) amble = 5000ull << below(3);
            if (must_amble) {
                count += 80;
                style %= 2;  // others write to a few places, or what changes nothing
            }
        }
        for (std::uint64_t i = 0; i < count; ++i) {
            add(make_write(lane, style));
            if (amble) add({.lane = lane, .kind = Kind::sleep, .n = amble});
        }
        if (style == 1) add({.lane = lane, .kind = Kind::reap});
        if (chance(50)) add({.lane = lane, .kind = Kind::sleep, .n = 50ull << below(8)});
    }

    Operation make_write(std::uint32_t lane, std::uint64_t style) {
        if (chance(4)) return make_flush(lane);
        if (!erasable_.empty() && chance(6)) return make_range(lane, Kind::erase);
        switch (style) {
            case 1: return make_range(lane, pick_in_flight());
            case 2: return chance(80) ? make_buffered(lane) : make_range(lane, Kind::sync);
            case 3:
                if (chance(60)) return make_range(lane, pick_range_kind());
                return make_range(lane, Kind::direct);
            default: break;
        }
        static constexpr Kind kinds[] = {Kind::direct, Kind::sync, Kind::nowait, Kind::uring};
        return make_range(lane, kinds[pick({6, 2, 1, 1})]);
    }

    // The host's disks neither are polled nor erase.
    Kind pick_in_flight() {
        if (!scenario_.map.empty()) return chance(50) ? Kind::aio : Kind::uring;
        static constexpr Kind kinds[] = {Kind::aio, Kind::uring, Kind::polled};
        return kinds[pick({2, 2, 1})];
    }
    Kind pick_range_kind() {
        if (erasable_.empty()) return chance(50) ? Kind::zero : Kind::discard;
        static constexpr Kind kinds[] = {Kind::zero, Kind::discard, Kind::erase};
        return kinds[pick({1, 1, 2})];
    }

    Operation make_flush(std::uint32_t lane) {
        return {.lane = lane,
                .kind = Kind::flush,
                .path = static_cast<std::uint32_t>(below(scenario_.paths.size()))};
    }

    // As a daemon does: one small pass after the other, each confirmed, so that most blocks are
    // clean most of the time.
    void make_daemon() {
        for (std::uint64_t i = 1 + below(4); i > 0; --i) {
            add({.kind = chance(80) ? Kind::frozen : Kind::live});
            add({.kind = Kind::end, .seed = random_() % 100000});
            add({.kind = Kind::confirm});
            if (chance(30)) add({.kind = Kind::sleep, .n = 500ull << below(9)});
        }
    }

    void make_operator() {
        if (!spots_.empty() && chance(30)) return make_daemon();
        for (std::uint64_t i = 2 + below(5); i > 0; --i) {
            if (chance(25)) make_interlude();
            if (!removable_.empty() && chance(10)) make_removal();
            static constexpr Kind kinds[] = {Kind::frozen, Kind::live, Kind::whole};
            add({.kind = kinds[pick({7, 2, 2})]});
            for (std::uint64_t steps = below(4); steps > 0; --steps) make_step();
            if (!removable_.empty() && chance(10)) make_removal();
            std::uint64_t how = pick({12, 2, 1});
            if (how == 0) add({.kind = Kind::end, .seed = random_() % 100000});
            if (how == 1) add({.kind = Kind::abandon});
            if (how == 2) add({.kind = Kind::kill});
            if (chance(75)) add({.kind = Kind::confirm});
            if (chance(10)) add({.kind = Kind::abandon});
        }
    }

    void make_step() {
        Operation o{.kind = chance(60) ? Kind::release : Kind::peek};
        o.n = 1 + below(60);
        o.seed = random_() % 100000;
        if (chance(5)) o = {.kind = Kind::pressure, .n = 32 + below(256)};
        if (chance(30)) o = {.kind = Kind::sleep, .n = 500ull << below(6)};
        if (chance(8)) o = make_mark();
        add(o);
    }

    void make_removal() {
        add({.kind = Kind::remove, .disk = removable_[below(removable_.size())]});
    }

    Operation make_mark() {
        Operation o{.kind = chance(70) ? Kind::mark : Kind::markall};
        o.disk = static_cast<std::uint32_t>(below(scenario_.disks.size()));
        o.at = below(scenario_.disks[o.disk].sectors / 8);
        o.n = 1 + below(50);
        return o;
    }

    // Between passes, and now and then in one.
    void make_interlude() {
        Operation o = make_mark();
        std::uint64_t which = pick({2, 4, 2});
        if (which == 1) o = {.kind = Kind::detach, .disk = o.disk};
        if (which == 2) o = {.kind = Kind::sleep, .n = 10000};
        add(o);
        if (which != 1) return;
        if (chance(30)) add({.kind = Kind::sleep, .n = 20000});
        if (chance(80)) add({.kind = Kind::attach, .disk = o.disk});
        if (chance(70)) add({.kind = Kind::markall, .disk = o.disk});
    }

    std::mt19937_64 random_;
    Scenario scenario_;
    std::uint64_t hot_ = 0;
    std::vector<std::uint32_t> erasable_;            // paths to disks that erase
    std::vector<std::uint32_t> removable_;           // disks
    std::vector<std::vector<std::uint64_t>> spots_;  // of each disk, with restarts
    bool wanders_ = false;                           // the lane
};

}  // namespace

Scenario generate(std::uint64_t seed) {
    return Generator(seed).run();
}

Scenario generate_restarts(std::uint64_t seed) {
    return Generator(seed).run_restarts();
}

}  // namespace ebb::kmodmodel
