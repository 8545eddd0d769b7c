// SPDX-License-Identifier: Apache-2.0
// The exchange between agents and controller: docs/control-protocol.md, whose names these are.
// Sizes and positions in bytes, times in nanoseconds since 1970 UTC unless a name says otherwise.
// Decoding checks shapes and limits; check() checks what names and numbers mean.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/error.h"
#include "api/json.h"

namespace ebb::api {

inline constexpr std::uint64_t protocol_version = 1;
inline constexpr const char* exchange_path = "/agent/v1/exchange";
inline constexpr const char* join_path = "/agent/v1/join";
// Of a limit to what is read.
inline constexpr std::uint64_t max_mib_per_s = 1ULL << 20;
// The controller holds an exchange without a command for this long at most.
inline constexpr std::uint64_t exchange_hold_ms = 10'000;

enum class Role { source, target };
enum class Severity { info, warning, critical };
enum class SourceState { connecting, initial_sync, resyncing, replicating, stopped, fenced, error };
enum class PassName { none, live, frozen };
// Why cuts are further apart than the interval asks for; kept: they are not.
enum class Pace { kept, on_demand, disconnected, target_waits, quiescing, voids, link };
enum class TargetState { waiting, receiving, no_space, failed_over, committed, incomplete, error };
enum class PointKind { crash, app };

// The common cut of several machines that a point is of.
struct CommonMark {
    std::string cut;           // UUID
    std::int64_t time_ns = 0;  // by the controller's clock
};

struct Point {
    std::uint64_t epoch = 0;
    std::string name;  // empty: none was given
    std::int64_t cut_time_ns = 0;
    std::int64_t closed_time_ns = 0;  // durable on the target
    PointKind kind = PointKind::crash;
    std::uint64_t bytes = 0;  // undo held for it on the retention volume
    std::optional<CommonMark> common{};
};

struct MachineInfo {
    std::string name;
    std::string system_uuid;  // DMI, lower case; empty where there is none
    std::string boot_id;
    std::string os;
    std::string kernel;
};

struct ModuleStatus {
    bool loaded = false;
    std::string version;
    std::vector<std::string> features;
    std::optional<ErrorInfo> error;
};

struct SourceDisk {
    std::string stable_id;
    std::string name;  // "sda": changes from boot to boot, for people alone
    std::uint64_t size = 0;
    std::string model;
    std::string controller;
    std::vector<std::string> mounts;
    bool system = false;
    bool trackable = false;
    std::vector<ErrorInfo> reasons;  // why not
};

enum class DifferenceKind { differs, persists, unreadable, unreadable_there, unsettled };

struct Difference {
    DifferenceKind kind = DifferenceKind::differs;
    std::uint32_t disk = 0;  // index
    std::string stable_id;   // of the source's disk
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

struct ReplicaValue {
    std::uint64_t first_epoch = 0;  // each block was compared at the point of one of these
    std::uint64_t last_epoch = 0;
    std::int64_t cut_time_ns = 0;  // of the last
    std::uint64_t equal_bytes = 0;
    std::uint64_t discarded_bytes = 0;
    std::uint64_t repaired_bytes = 0;
    std::uint64_t different_bytes = 0;    // that still are
    std::vector<Difference> differences;  // the first of them, with those that were repaired
};

// Of the verification that goes on, or was last; it is not kept over a restart of the daemon.
struct VerifyStatus {
    std::string run;
    std::uint64_t total = 0;
    std::uint64_t done = 0;
    std::optional<ReplicaValue> result;
    std::optional<ErrorInfo> error;
};

// Application-consistent points of a protection.
struct AppStatus {
    std::uint64_t interval_ms = 0;  // 0: on demand only
    bool running = false;
    std::int64_t last_ns = 0;          // cut of the newest; 0: none was made
    std::optional<ErrorInfo> error;    // why the last attempt gave none
    std::vector<std::string> flushed;  // mount points of what cannot be frozen
};

struct SourceProtection {
    std::string id;
    SourceState state = SourceState::connecting;
    PassName pass = PassName::none;
    std::uint64_t bytes_total = 0;
    std::uint64_t bytes_done = 0;
    std::uint64_t rate_bytes_per_s = 0;
    // Of the resync that goes on, or was last: what was compared, and what of it was the same.
    std::uint64_t compared_bytes = 0;
    std::uint64_t same_bytes = 0;
    std::uint64_t open_epoch = 0;
    std::uint64_t closed_epoch = 0;
    std::int64_t last_cut_ns = 0;
    std::uint64_t cuts_begun = 0;
    std::uint64_t cuts_closed = 0;
    std::uint64_t cuts_void = 0;
    std::uint64_t held = 0;
    std::uint64_t held_max_ns = 0;  // a duration
    std::uint64_t preserved = 0;
    std::vector<std::string> resync_required;
    std::optional<VerifyStatus> verify;
    std::uint64_t interval_ms = 0;            // between cuts, as asked for; 0: on demand only
    std::uint64_t effective_interval_ms = 0;  // as it is; 0: not known yet
    Pace pace = Pace::kept;
    std::uint64_t epoch_ms = 0;     // that the newest closed epoch took, from its begin
    std::uint64_t epoch_bytes = 0;  // and its size
    AppStatus app;
    std::optional<ErrorInfo> error;
};

struct SourceStatus {
    std::int64_t clock_ns = 0;  // of the machine, when this was said; 0: it does not say
    ModuleStatus module;
    std::vector<SourceDisk> disks;
    std::vector<SourceProtection> protections;
    std::vector<ErrorInfo> warnings;  // about the machine
};

struct TargetVolume {
    std::string path;
    std::string device;
    std::string fs;
    std::uint64_t size = 0;
    std::uint64_t available = 0;
    bool usable = false;
    std::vector<ErrorInfo> reasons;
};

struct TargetDisk {
    std::string stable_id;
    std::string name;
    std::uint64_t size = 0;
    std::string controller;
    std::string pci;
    bool usable = false;
    std::string in_use_by;  // protection that has it; empty: none
    std::vector<ErrorInfo> reasons;
};

struct DataAddress {
    std::string host;
    std::uint16_t port = 9443;
};

// A point that is read while replication goes on.
struct ServedPoint {
    std::string name;
    std::uint64_t epoch = 0;
    std::string serving;  // its id
    std::uint64_t clients = 0;
    std::uint64_t index_bytes = 0;   // of memory
    std::optional<ErrorInfo> error;  // it was given up
};

struct TargetProtection {
    std::string id;
    TargetState state = TargetState::waiting;
    std::uint64_t open_epoch = 0;
    std::optional<Point> newest_point;
    std::optional<Point> newest_app_point;
    std::uint64_t points = 0;
    std::int64_t oldest_point_ns = 0;  // its cut; 0: there is none
    std::uint64_t oldest_epoch = 0;    // 0: there is none, or the target is of an older release
    std::string retention;             // the volume its points are on
    std::uint64_t retention_bytes = 0;
    std::uint64_t rollback_bytes = 0;
    std::vector<ServedPoint> served;
    std::optional<ErrorInfo> error;
};

struct TargetStatus {
    std::vector<TargetVolume> volumes;
    std::vector<TargetDisk> disks;
    DataAddress data_address;
    // Points are given up by these: age in seconds, bytes of undo for each protection (0: as the
    // volume has room).
    std::uint64_t retention_age_s = 0;
    std::uint64_t retention_limit_bytes = 0;
    std::vector<TargetProtection> protections;
};

struct CommandResult {
    std::uint64_t id = 0;
    bool ok = false;
    Json value = Json::object();     // if ok
    std::optional<ErrorInfo> error;  // if not
};

struct AgentEvent {
    std::int64_t time_ns = 0;
    Severity severity = Severity::info;
    std::string code;
    std::string text;
    std::string protection;  // empty: of the machine as such
};

struct ExchangeRequest {
    std::uint64_t protocol = protocol_version;
    std::string version;
    std::string incarnation;
    MachineInfo machine;
    std::vector<Role> roles;
    std::optional<SourceStatus> source;
    std::optional<TargetStatus> target;
    std::vector<CommandResult> results;
    std::vector<AgentEvent> events;
};

struct Command {
    std::uint64_t id = 0;
    std::string kind;
    Json args = Json::object();
};

struct ExchangeAnswer {
    std::vector<Command> commands;
    std::string site;
    std::vector<std::string> revoked;  // serial numbers of certificates that are not valid any more
};

struct JoinRequest {
    std::string token;
    std::string name;
    std::string csr;  // PEM
};

struct JoinAnswer {
    std::string certificate;  // PEM
    std::string ca;           // PEM
    std::string site;
};

// E_INVALID for names, ids and numbers that decode but mean nothing.
[[nodiscard]] Status check(const ExchangeRequest& request);
[[nodiscard]] Status check(const JoinRequest& request);

template <>
struct EnumNames<Role> {
    static constexpr std::pair<Role, std::string_view> names[] = {{Role::source, "source"},
                                                                  {Role::target, "target"}};
};
template <>
struct EnumNames<Severity> {
    static constexpr std::pair<Severity, std::string_view> names[] = {
        {Severity::info, "info"}, {Severity::warning, "warning"}, {Severity::critical, "critical"}};
};
template <>
struct EnumNames<SourceState> {
    static constexpr std::pair<SourceState, std::string_view> names[] = {
        {SourceState::connecting, "connecting"},
        {SourceState::initial_sync, "initial-sync"},
        {SourceState::resyncing, "resyncing"},
        {SourceState::replicating, "replicating"},
        {SourceState::stopped, "stopped"},
        {SourceState::fenced, "fenced"},
        {SourceState::error, "error"}};
};
template <>
struct EnumNames<DifferenceKind> {
    static constexpr std::pair<DifferenceKind, std::string_view> names[] = {
        {DifferenceKind::differs, "differs"},
        {DifferenceKind::persists, "persists"},
        {DifferenceKind::unreadable, "unreadable"},
        {DifferenceKind::unreadable_there, "unreadable-there"},
        {DifferenceKind::unsettled, "unsettled"}};
};

template <>
struct EnumNames<PassName> {
    static constexpr std::pair<PassName, std::string_view> names[] = {
        {PassName::none, "none"}, {PassName::live, "live"}, {PassName::frozen, "frozen"}};
};
template <>
struct EnumNames<Pace> {
    static constexpr std::pair<Pace, std::string_view> names[] = {
        {Pace::kept, "kept"},
        {Pace::on_demand, "on-demand"},
        {Pace::disconnected, "disconnected"},
        {Pace::target_waits, "target-waits"},
        {Pace::quiescing, "quiescing"},
        {Pace::voids, "voids"},
        {Pace::link, "link"}};
};
template <>
struct EnumNames<TargetState> {
    static constexpr std::pair<TargetState, std::string_view> names[] = {
        {TargetState::waiting, "waiting"},     {TargetState::receiving, "receiving"},
        {TargetState::no_space, "no-space"},   {TargetState::failed_over, "failed-over"},
        {TargetState::committed, "committed"}, {TargetState::incomplete, "incomplete"},
        {TargetState::error, "error"}};
};
template <>
struct EnumNames<PointKind> {
    static constexpr std::pair<PointKind, std::string_view> names[] = {{PointKind::crash, "crash"},
                                                                       {PointKind::app, "app"}};
};

template <class V>
void describe(V& visit, CommonMark& m) {
    visit("cut", m.cut);
    visit("time_ns", m.time_ns);
}

template <class V>
void describe(V& visit, Point& p) {
    visit("epoch", p.epoch);
    visit.optional("name", p.name);
    visit("cut_time_ns", p.cut_time_ns);
    visit.optional("closed_time_ns", p.closed_time_ns);
    visit.optional("kind", p.kind);
    visit.optional("bytes", p.bytes);
    visit.optional("common", p.common);
}

template <class V>
void describe(V& visit, MachineInfo& m) {
    visit("name", m.name);
    visit.optional("system_uuid", m.system_uuid);
    visit.optional("boot_id", m.boot_id);
    visit.optional("os", m.os);
    visit.optional("kernel", m.kernel);
}

template <class V>
void describe(V& visit, ModuleStatus& m) {
    visit("loaded", m.loaded);
    visit.optional("version", m.version);
    visit.optional("features", m.features);
    visit.optional("error", m.error);
}

template <class V>
void describe(V& visit, SourceDisk& d) {
    visit("stable_id", d.stable_id);
    visit.optional("name", d.name);
    visit("size", d.size);
    visit.optional("model", d.model);
    visit.optional("controller", d.controller);
    visit.optional("mounts", d.mounts);
    visit.optional("system", d.system);
    visit("trackable", d.trackable);
    visit.optional("reasons", d.reasons);
}

template <class V>
void describe(V& visit, Difference& d) {
    visit("kind", d.kind);
    visit("disk", d.disk);
    visit("stable_id", d.stable_id);
    visit("offset", d.offset);
    visit("length", d.length);
}

template <class V>
void describe(V& visit, ReplicaValue& v) {
    visit("first_epoch", v.first_epoch);
    visit("last_epoch", v.last_epoch);
    visit("cut_time_ns", v.cut_time_ns);
    visit("equal_bytes", v.equal_bytes);
    visit.optional("discarded_bytes", v.discarded_bytes);
    visit.optional("repaired_bytes", v.repaired_bytes);
    visit("different_bytes", v.different_bytes);
    visit.optional("differences", v.differences);
}

template <class V>
void describe(V& visit, VerifyStatus& v) {
    visit("run", v.run);
    visit("total", v.total);
    visit("done", v.done);
    visit.optional("result", v.result);
    visit.optional("error", v.error);
}

template <class V>
void describe(V& visit, AppStatus& a) {
    visit.optional("interval_ms", a.interval_ms);
    visit.optional("running", a.running);
    visit.optional("last_ns", a.last_ns);
    visit.optional("error", a.error);
    visit.optional("flushed", a.flushed);
}

template <class V>
void describe(V& visit, SourceProtection& p) {
    visit("id", p.id);
    visit("state", p.state);
    visit.optional("pass", p.pass);
    visit.optional("bytes_total", p.bytes_total);
    visit.optional("bytes_done", p.bytes_done);
    visit.optional("rate_bytes_per_s", p.rate_bytes_per_s);
    visit.optional("compared_bytes", p.compared_bytes);
    visit.optional("same_bytes", p.same_bytes);
    visit.optional("open_epoch", p.open_epoch);
    visit.optional("closed_epoch", p.closed_epoch);
    visit.optional("last_cut_ns", p.last_cut_ns);
    visit.optional("cuts_begun", p.cuts_begun);
    visit.optional("cuts_closed", p.cuts_closed);
    visit.optional("cuts_void", p.cuts_void);
    visit.optional("held", p.held);
    visit.optional("held_max_ns", p.held_max_ns);
    visit.optional("preserved", p.preserved);
    visit.optional("resync_required", p.resync_required);
    visit.optional("verify", p.verify);
    visit.optional("interval_ms", p.interval_ms);
    visit.optional("effective_interval_ms", p.effective_interval_ms);
    visit.optional("pace", p.pace);
    visit.optional("epoch_ms", p.epoch_ms);
    visit.optional("epoch_bytes", p.epoch_bytes);
    visit.optional("app", p.app);
    visit.optional("error", p.error);
}

template <class V>
void describe(V& visit, SourceStatus& s) {
    visit.optional("clock_ns", s.clock_ns);
    visit("module", s.module);
    visit.optional("disks", s.disks);
    visit.optional("protections", s.protections);
    visit.optional("warnings", s.warnings);
}

template <class V>
void describe(V& visit, TargetVolume& v) {
    visit("path", v.path);
    visit.optional("device", v.device);
    visit.optional("fs", v.fs);
    visit.optional("size", v.size);
    visit.optional("available", v.available);
    visit("usable", v.usable);
    visit.optional("reasons", v.reasons);
}

template <class V>
void describe(V& visit, TargetDisk& d) {
    visit("stable_id", d.stable_id);
    visit.optional("name", d.name);
    visit("size", d.size);
    visit.optional("controller", d.controller);
    visit.optional("pci", d.pci);
    visit("usable", d.usable);
    visit.optional("in_use_by", d.in_use_by);
    visit.optional("reasons", d.reasons);
}

template <class V>
void describe(V& visit, DataAddress& a) {
    visit("host", a.host);
    visit("port", a.port);
}

template <class V>
void describe(V& visit, ServedPoint& p) {
    visit("name", p.name);
    visit("epoch", p.epoch);
    visit.optional("serving", p.serving);
    visit.optional("clients", p.clients);
    visit.optional("index_bytes", p.index_bytes);
    visit.optional("error", p.error);
}

template <class V>
void describe(V& visit, TargetProtection& p) {
    visit("id", p.id);
    visit("state", p.state);
    visit.optional("open_epoch", p.open_epoch);
    visit.optional("newest_point", p.newest_point);
    visit.optional("newest_app_point", p.newest_app_point);
    visit.optional("points", p.points);
    visit.optional("oldest_point_ns", p.oldest_point_ns);
    visit.optional("oldest_epoch", p.oldest_epoch);
    visit.optional("retention", p.retention);
    visit.optional("retention_bytes", p.retention_bytes);
    visit.optional("rollback_bytes", p.rollback_bytes);
    visit.optional("served", p.served);
    visit.optional("error", p.error);
}

template <class V>
void describe(V& visit, TargetStatus& t) {
    visit.optional("volumes", t.volumes);
    visit.optional("disks", t.disks);
    visit("data_address", t.data_address);
    visit.optional("retention_age_s", t.retention_age_s);
    visit.optional("retention_limit_bytes", t.retention_limit_bytes);
    visit.optional("protections", t.protections);
}

template <class V>
void describe(V& visit, CommandResult& r) {
    visit("id", r.id);
    visit("ok", r.ok);
    visit.optional("value", r.value);
    visit.optional("error", r.error);
}

template <class V>
void describe(V& visit, AgentEvent& e) {
    visit("time_ns", e.time_ns);
    visit("severity", e.severity);
    visit("code", e.code);
    visit("text", e.text);
    visit.optional("protection", e.protection);
}

template <class V>
void describe(V& visit, ExchangeRequest& r) {
    visit("protocol", r.protocol);
    visit.optional("version", r.version);
    visit("incarnation", r.incarnation);
    visit("machine", r.machine);
    visit("roles", r.roles);
    visit.optional("source", r.source);
    visit.optional("target", r.target);
    visit.optional("results", r.results);
    visit.optional("events", r.events);
}

template <class V>
void describe(V& visit, Command& c) {
    visit("id", c.id);
    visit("kind", c.kind);
    visit.optional("args", c.args);
}

template <class V>
void describe(V& visit, ExchangeAnswer& a) {
    visit("commands", a.commands);
    visit.optional("site", a.site);
    visit.optional("revoked", a.revoked);
}

template <class V>
void describe(V& visit, JoinRequest& r) {
    visit("token", r.token);
    visit("name", r.name);
    visit("csr", r.csr);
}

template <class V>
void describe(V& visit, JoinAnswer& a) {
    visit("certificate", a.certificate);
    visit("ca", a.ca);
    visit.optional("site", a.site);
}

}  // namespace ebb::api
