// SPDX-License-Identifier: Apache-2.0
// What ebbctl asks of the controller: the calls of docs/control-protocol.md under /v1/. Decode with
// Unknown::refused: requests may be typed by hand. Times in milliseconds or seconds as named.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/command.h"
#include "api/json.h"

namespace ebb::api {

// 24 hours; longer is "on demand only", which is 0.
inline constexpr std::uint64_t max_interval_ms = 86'400'000;
// Application-consistent points are at least a minute apart: applications are disturbed.
inline constexpr std::uint64_t min_app_interval_ms = 60'000;
// The age of the newest recovery point from which on it is a warning.
inline constexpr std::uint64_t default_rpo_s = 300;
inline constexpr std::uint64_t max_rpo_s = 7 * 86'400;
// A call that waits for news of a job is answered after this long at most.
inline constexpr std::uint64_t max_wait_ms = 20'000;

struct DiskPair {
    std::string source_id;
    std::string target_id;
};

struct ProtectCall {
    std::string machine;
    std::string target;
    std::string retention;  // empty: the target's own
    std::uint64_t interval_ms = 5000;
    std::uint64_t app_interval_ms = default_app_interval_ms;
    std::uint64_t rpo_s = default_rpo_s;
    std::vector<DiskPair> disks;       // others are chosen by size
    std::vector<std::string> exclude;  // stable ids or names of source disks
    std::string cloud_vm;              // empty: the machine's name
    std::string home_vm;               // empty: the machine's name and "-home"
    std::string target_vm;             // empty: the target's name
    std::string test_vm;               // empty: the machine's name and "-test"
    bool overwrite = false;
    bool dry_run = false;
};

struct CheckpointCall {
    std::string machine;
    std::string name;
    std::string export_;  // "export"
    bool app = false;     // application-consistent
    bool dry_run = false;
};

// failover, change-point: to `point` (api/points.h; empty: the newest). failover: `unreachable`
// leaves the source alone; disable: it ends the protection even where an agent cannot be reached.
struct MachineCall {
    std::string machine;
    std::string point;
    bool unreachable = false;
    bool dry_run = false;
};

// A point gets a name, so that it is kept, or loses it.
struct PinCall {
    std::string machine;
    std::string point;  // as of a failover
    std::string name;
    bool dry_run = false;
};

struct UnpinCall {
    std::string machine;
    std::string point;
    bool dry_run = false;
};

// A point that is read while replication goes on.
struct ServeCall {
    std::string machine;
    std::string point;           // as of a failover
    std::uint64_t epoch = 0;     // if not 0: of this number, whatever names there are
    std::string name = "point";  // by which it is ended; one that bears it makes room
    bool dry_run = false;
};

// How that is served now.
struct ServedCall {
    std::string machine;
    std::string name;
};

// `name` empty: all of the machine, but that of a test failover.
struct UnserveCall {
    std::string machine;
    std::string name;
    bool dry_run = false;
};

// `clean`: what is there of it is taken away, and nothing is begun.
struct TestFailoverCall {
    std::string machine;
    std::string point;
    bool clean = false;
    bool dry_run = false;
};

// `repair`: what differs is sent with the next epoch. `mib_per_s`: 0: as the source is configured.
// `point`: not the source, but this point is compared with what was sent of it and those before.
struct VerifyCall {
    std::string machine;
    std::string point;
    bool repair = false;
    std::uint64_t mib_per_s = 0;
    bool dry_run = false;
};

// `statement`, `signature`, `authority`: of a certificate, as it was made.
struct CheckCertificateCall {
    std::string statement;
    std::string signature;
    std::string authority;
};

// `whole`: also what was sent of the points before it.
struct CertifyCall {
    std::string machine;
    std::string point;
    bool whole = false;
    bool dry_run = false;
};

// Everything is gone over: `compare` sends what differs, else all of it is sent.
struct ResyncCall {
    std::string machine;
    bool compare = false;
    bool dry_run = false;
};

// What is not given stays as it is.
struct IntervalCall {
    std::string machine;
    std::uint64_t interval_ms = 5000;
    std::optional<std::uint64_t> app_interval_ms;
    std::optional<std::uint64_t> rpo_s;
};

// A replication group: its machines have points in common.
inline constexpr std::size_t min_group_machines = 2;
inline constexpr std::size_t max_group_machines = 16;
// Writes stand still at each common cut.
inline constexpr std::uint64_t min_group_interval_ms = 1'000;
inline constexpr std::uint64_t default_group_interval_ms = 300'000;
// A little more often than the machines' own, so that those come only where the group's do not.
inline constexpr std::uint64_t default_group_app_interval_ms = 3'300'000;
inline constexpr std::uint64_t default_group_gate_ms = 500;
inline constexpr std::uint64_t default_group_rpo_s = 900;

// What is not given stays as it is, or is the default of a new group.
struct GroupSetCall {
    std::string group;
    std::vector<std::string> machines;         // empty: not given
    std::optional<std::uint64_t> interval_ms;  // 0: on demand only
    std::optional<std::uint64_t> app_interval_ms;
    std::optional<std::uint64_t> gate_ms;  // for which writes are held at most
    std::optional<std::uint64_t> rpo_s;
    bool dry_run = false;
};

// group-delete, group-points.
struct GroupCall {
    std::string group;
    bool dry_run = false;
};

struct GroupCheckpointCall {
    std::string group;
    std::string name;
    bool app = false;  // application-consistent
    bool dry_run = false;
};

struct GroupFailoverCall {
    std::string group;
    std::string point;  // api/points.h; empty: latest-common
    bool unreachable = false;
    bool dry_run = false;
};

// group-change-point, group-rollback (without `point`), group-test-failover.
struct GroupMoveCall {
    std::string group;
    std::string point;   // as of a failover
    bool clean = false;  // of a test failover: takes away what is there of it
    bool dry_run = false;
};

struct TokenCall {
    std::string machine;
    std::string site;
};

// `wait_ms`: answered when the job has another revision than `seen`, or that time has passed.
struct JobCall {
    std::uint64_t id = 0;
    std::uint64_t seen = 0;
    std::uint64_t wait_ms = 0;
};

// E_INVALID, with what is allowed as the remedy.
[[nodiscard]] Status check(const ProtectCall& call);
[[nodiscard]] Status check(const CheckpointCall& call);
[[nodiscard]] Status check(const MachineCall& call);
[[nodiscard]] Status check(const PinCall& call);
[[nodiscard]] Status check(const UnpinCall& call);
[[nodiscard]] Status check(const ServeCall& call);
[[nodiscard]] Status check(const ServedCall& call);
[[nodiscard]] Status check(const UnserveCall& call);
[[nodiscard]] Status check(const TestFailoverCall& call);
[[nodiscard]] Status check(const VerifyCall& call);
[[nodiscard]] Status check(const CertifyCall& call);
[[nodiscard]] Status check(const CheckCertificateCall& call);
[[nodiscard]] Status check(const ResyncCall& call);
[[nodiscard]] Status check(const IntervalCall& call);
[[nodiscard]] Status check(const GroupSetCall& call);
[[nodiscard]] Status check(const GroupCall& call);
[[nodiscard]] Status check(const GroupCheckpointCall& call);
[[nodiscard]] Status check(const GroupFailoverCall& call);
[[nodiscard]] Status check(const GroupMoveCall& call);
[[nodiscard]] Status check(const TokenCall& call);
[[nodiscard]] Status check(const JobCall& call);

template <class T>
[[nodiscard]] Result<T> decode_call(const Json& json) {
    auto value = decode<T>(json, Unknown::refused);
    if (!value) return value;
    if (auto ok = check(*value); !ok) return std::unexpected(ok.error());
    return value;
}

template <class V>
void describe(V& visit, DiskPair& d) {
    visit("source_id", d.source_id);
    visit("target_id", d.target_id);
}

template <class V>
void describe(V& visit, ProtectCall& c) {
    visit("machine", c.machine);
    visit("target", c.target);
    visit.optional("retention", c.retention);
    visit.optional("interval_ms", c.interval_ms);
    visit.optional("app_interval_ms", c.app_interval_ms);
    visit.optional("rpo_s", c.rpo_s);
    visit.optional("disks", c.disks);
    visit.optional("exclude", c.exclude);
    visit.optional("cloud_vm", c.cloud_vm);
    visit.optional("home_vm", c.home_vm);
    visit.optional("target_vm", c.target_vm);
    visit.optional("test_vm", c.test_vm);
    visit.optional("overwrite", c.overwrite);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, CheckpointCall& c) {
    visit("machine", c.machine);
    visit.optional("name", c.name);
    visit.optional("export", c.export_);
    visit.optional("app", c.app);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, MachineCall& c) {
    visit("machine", c.machine);
    visit.optional("point", c.point);
    visit.optional("unreachable", c.unreachable);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, PinCall& c) {
    visit("machine", c.machine);
    visit("point", c.point);
    visit("name", c.name);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, UnpinCall& c) {
    visit("machine", c.machine);
    visit("point", c.point);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, ServeCall& c) {
    visit("machine", c.machine);
    visit.optional("point", c.point);
    visit.optional("epoch", c.epoch);
    visit.optional("name", c.name);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, VerifyCall& c) {
    visit("machine", c.machine);
    visit.optional("point", c.point);
    visit.optional("repair", c.repair);
    visit.optional("mib_per_s", c.mib_per_s);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, CertifyCall& c) {
    visit("machine", c.machine);
    visit.optional("point", c.point);
    visit.optional("whole", c.whole);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, ServedCall& c) {
    visit("machine", c.machine);
    visit("name", c.name);
}

template <class V>
void describe(V& visit, UnserveCall& c) {
    visit("machine", c.machine);
    visit.optional("name", c.name);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, TestFailoverCall& c) {
    visit("machine", c.machine);
    visit.optional("point", c.point);
    visit.optional("clean", c.clean);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, CheckCertificateCall& c) {
    visit("statement", c.statement);
    visit("signature", c.signature);
    visit("authority", c.authority);
}

template <class V>
void describe(V& visit, ResyncCall& c) {
    visit("machine", c.machine);
    visit.optional("compare", c.compare);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, IntervalCall& c) {
    visit("machine", c.machine);
    visit("interval_ms", c.interval_ms);
    visit.optional("app_interval_ms", c.app_interval_ms);
    visit.optional("rpo_s", c.rpo_s);
}

template <class V>
void describe(V& visit, GroupSetCall& c) {
    visit("group", c.group);
    visit.optional("machines", c.machines);
    visit.optional("interval_ms", c.interval_ms);
    visit.optional("app_interval_ms", c.app_interval_ms);
    visit.optional("gate_ms", c.gate_ms);
    visit.optional("rpo_s", c.rpo_s);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, GroupCall& c) {
    visit("group", c.group);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, GroupCheckpointCall& c) {
    visit("group", c.group);
    visit.optional("name", c.name);
    visit.optional("app", c.app);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, GroupFailoverCall& c) {
    visit("group", c.group);
    visit.optional("point", c.point);
    visit.optional("unreachable", c.unreachable);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, GroupMoveCall& c) {
    visit("group", c.group);
    visit.optional("point", c.point);
    visit.optional("clean", c.clean);
    visit.optional("dry_run", c.dry_run);
}

template <class V>
void describe(V& visit, TokenCall& c) {
    visit("machine", c.machine);
    visit("site", c.site);
}

template <class V>
void describe(V& visit, JobCall& c) {
    visit("id", c.id);
    visit.optional("seen", c.seen);
    visit.optional("wait_ms", c.wait_ms);
}

}  // namespace ebb::api
