// SPDX-License-Identifier: Apache-2.0
// One step of a scenario, and its line of text: "LANE KIND name=value...".
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ebb::kmodmodel {

enum class Kind : std::uint8_t {
    // of writers
    direct,    // write with O_DIRECT
    sync,      // ... and RWF_DSYNC: FUA or a flush
    nowait,    // ... and RWF_NOWAIT: may be refused, then either way
    aio,       // left in flight
    uring,     // left in flight
    polled,    // left in flight; its completion is polled for, where the queue has no interrupt
    buffered,  // write and fdatasync
    zero,      // BLKZEROOUT
    discard,   // BLKDISCARD
    erase,     // BLKSECDISCARD
    flush,
    reap,   // wait for all that is in flight
    sleep,  // `n` microseconds
    // of the operator
    frozen,  // begin a pass
    live,
    whole,
    peek,     // read about `n` per cent of what is left, release nothing
    release,  // read and release about `n` per cent
    end,      // all of it, and end
    confirm,
    abandon,
    kill,      // the owner's socket closes
    detach,    // `disk`
    attach,    // `disk`, if it is detached
    markall,   // `disk`
    mark,      // `disk`, block `at`, `n` blocks
    pressure,  // `n` MiB of memory are filled and let go of
    remove,    // `disk`, a SCSI one: it is gone until nobody writes
    // between phases, when nobody writes
    settle,       // a last pass; the replica is compared with the disks
    reload,       // and the module unloaded and loaded
    daemon,       // the one who makes passes ends; another goes on with the confirmed replica
    cool,         // all regions go cold
    passthrough,  // a SCSI command writes sector `at` of `disk`: it is flagged
    resize,       // `disk` is smaller for a while: it is flagged, and attached anew
    // the machine ends and starts again: with disks that have logs, on the host's backend
    reboot,    // in order, when nobody writes
    poweroff,  // in order, `n` microseconds after the phase has begun, under its writes; `at`: the
               // map device takes so many requests a second meanwhile
    cut,       // power fails `n` microseconds after that; at=1: after the attach has begun
    cutwrite,  // ... at the `at`th write to `disk` (beyond the last one: the map device)
    cutflush,  // ... at a flush of it
    // ... while it goes down, as with poweroff: that may be before its map is sealed, or after
    haltwrite,
    haltflush,
};

inline constexpr std::uint32_t operator_lane = 0;

struct Operation {
    std::uint32_t lane = operator_lane;
    Kind kind = Kind::settle;
    std::uint32_t path = 0;
    std::uint32_t disk = 0;
    std::uint64_t at = 0;  // in sectors of the path
    std::uint64_t n = 0;   // sectors, microseconds, per cent
    std::uint64_t seed = 0;
    friend bool operator==(const Operation&, const Operation&) = default;
};

[[nodiscard]] const char* kind_name(Kind kind);
[[nodiscard]] constexpr bool is_boundary(Kind kind) {
    return kind >= Kind::settle;
}
// The machine does not outlive it.
[[nodiscard]] constexpr bool is_restart(Kind kind) {
    return kind >= Kind::reboot;
}
// A disk is named, or the map device, as the one beyond the last.
[[nodiscard]] constexpr bool is_at_request(Kind kind) {
    return kind >= Kind::cutwrite;
}
[[nodiscard]] constexpr bool is_at_flush(Kind kind) {
    return kind == Kind::cutflush || kind == Kind::haltflush;
}
// In order, but for its end.
[[nodiscard]] constexpr bool is_halt_cut(Kind kind) {
    return kind == Kind::haltwrite || kind == Kind::haltflush;
}
[[nodiscard]] std::string to_line(const Operation& operation);
[[nodiscard]] std::optional<Operation> parse_operation(const std::string& line);

}  // namespace ebb::kmodmodel
