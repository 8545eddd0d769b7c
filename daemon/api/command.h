// SPDX-License-Identifier: Apache-2.0
// Arguments and values of the commands that the controller gives to agents, one struct per shape;
// the table in docs/control-protocol.md says which command takes which. Sizes in bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/agent.h"
#include "api/json.h"

namespace ebb::api {

namespace command {
inline constexpr const char* source_protect = "source.protect";
inline constexpr const char* source_checkpoint = "source.checkpoint";
inline constexpr const char* source_cut = "source.cut";
inline constexpr const char* source_interval = "source.interval";
inline constexpr const char* source_verify = "source.verify";
inline constexpr const char* source_stop = "source.stop";
inline constexpr const char* source_fence = "source.fence";
inline constexpr const char* source_shutdown = "source.shutdown";
inline constexpr const char* target_check = "target.check";
inline constexpr const char* target_prepare = "target.prepare";
inline constexpr const char* target_points = "target.points";
inline constexpr const char* target_failover = "target.failover";
inline constexpr const char* target_verify = "target.verify";
inline constexpr const char* target_certify = "target.certify";
inline constexpr const char* target_resume = "target.resume";
inline constexpr const char* target_commit = "target.commit";
inline constexpr const char* target_disable = "target.disable";
inline constexpr const char* target_rescan = "target.rescan";
inline constexpr const char* target_forget = "target.forget";
inline constexpr const char* target_name = "target.name";
inline constexpr const char* target_common = "target.common";
inline constexpr const char* target_serve = "target.serve";
inline constexpr const char* target_unserve = "target.unserve";
inline constexpr const char* target_served = "target.served";
}  // namespace command

inline constexpr std::uint64_t default_app_interval_ms = 3'600'000;

struct SourceDiskChoice {
    std::uint32_t index = 0;
    std::string stable_id;
    std::uint64_t size = 0;
};

struct TargetAddress {
    std::string host;
    std::uint16_t port = 9443;
    std::string name;  // common name that its certificate must carry
};

struct SourceProtectArgs {
    std::string protection;
    std::uint64_t session = 0;
    std::vector<SourceDiskChoice> disks;
    TargetAddress target;
    std::uint64_t interval_ms = 5000;  // 0: cuts on demand only
    bool full = false;                 // every block is sent, whatever the map says
    bool compare = false;              // with `full`: but for what the target has already
    // The same as interval_ms of application-consistent points.
    std::uint64_t app_interval_ms = default_app_interval_ms;
};

// A cut that several machines have in common, led by CutArgs.
struct CommonCutArgs {
    std::string cut;                     // UUID
    std::uint64_t gate_ms = 500;         // writes are held so long at most
    std::uint64_t patience_ms = 60'000;  // for the next step, while none are
};
inline constexpr std::uint64_t min_gate_ms = 10;
inline constexpr std::uint64_t max_gate_ms = 10'000;
inline constexpr std::uint64_t max_patience_ms = 600'000;

struct CheckpointArgs {
    std::string protection;
    std::string name;     // empty: none
    std::string export_;  // "export": directory on the source; empty: no copy
    bool app = false;     // application-consistent
    std::optional<CommonCutArgs> common{};
};

// What a source has done when it answers, in this order.
enum class CutStep {
    prepared,  // scripts have been called
    ready,     // the cut is next, file systems are frozen
    close,     // the gate is closed
    take,      // the cut is taken
    open,      // the gate was closed until now
    leave,     // out of order: it takes its cut alone
};

template <>
struct EnumNames<CutStep> {
    static constexpr std::pair<CutStep, std::string_view> names[] = {
        {CutStep::prepared, "prepared"}, {CutStep::ready, "ready"}, {CutStep::close, "close"},
        {CutStep::take, "take"},         {CutStep::open, "open"},   {CutStep::leave, "leave"}};
};

struct CutArgs {
    std::string protection;
    std::string cut;  // UUID
    CutStep step = CutStep::leave;
};

struct CheckpointValue {
    std::uint64_t epoch = 0;
    std::int64_t cut_time_ns = 0;
    PointKind kind = PointKind::crash;
    std::optional<ErrorInfo> degraded;  // why it is not application-consistent, as was asked for
    std::optional<ErrorInfo> post;      // what failed after the cut
    std::vector<std::string> flushed;   // mount points of what cannot be frozen
    std::optional<ErrorInfo> alone;     // why it is not of the common cut
    std::uint64_t gate_ns = 0;          // of the common cut: writes were held
    std::uint64_t gate_held = 0;        // so many of them
};

struct IntervalArgs {
    std::string protection;
    std::uint64_t interval_ms = 5000;
    std::optional<std::uint64_t> app_interval_ms;  // none: as it is
};

struct VerifyArgs {
    std::string protection;
    std::string run;  // UUID: the same once more is no error
    bool repair = false;
    std::uint64_t mib_per_s = 0;  // 0: as the source is configured
};

struct ProtectionArgs {
    std::string protection;
};

struct FenceArgs {
    std::string protection;
    std::uint64_t session = 0;
};

struct TargetDiskChoice {
    std::uint32_t index = 0;
    std::string source_id;
    std::string target_id;
    std::uint64_t size = 0;  // of the source's disk
};

struct TargetPrepareArgs {
    std::string protection;
    std::string machine;
    std::uint64_t session = 0;
    std::string source_name;  // common name that the source's certificate must carry
    std::string retention;    // path of the volume
    bool overwrite = false;
    std::vector<TargetDiskChoice> disks;
};

struct TargetFailoverArgs {
    std::string protection;
    std::uint64_t session = 0;     // the new one: older ones are fenced
    std::string point = "latest";  // or the number of an epoch
};

struct FailoverValue {
    Point point;
    std::uint64_t rolled_back_bytes = 0;  // of the open epoch
    std::uint64_t rewound_bytes = 0;      // from the newest point to another
};

struct VerifyValue {
    std::uint64_t points = 0;
    std::uint64_t files = 0;
    std::uint64_t records = 0;
    std::uint64_t bytes = 0;
};

struct CertifyArgs {
    std::string protection;
    std::uint64_t epoch = 0;
    bool whole = false;  // also what the points before it have sent, as far as it is there
};

// Of core::CertifiedPoint.
struct CertifyValue {
    Point point;
    std::string chain;  // hexadecimal
    VerifyValue journal;
    bool merged = false;
    bool whole = false;
    std::uint64_t extents = 0;
    std::uint64_t bytes = 0;
    std::uint64_t equal_bytes = 0;
    std::uint64_t journal_bytes = 0;
    std::uint64_t superseded_bytes = 0;
    std::uint64_t disk_bytes = 0;
    std::uint64_t discarded_bytes = 0;
    std::uint64_t unreadable_bytes = 0;
    std::uint64_t different_bytes = 0;
    std::optional<std::uint64_t> undigested_bytes;  // not of a target before it kept digests
};

struct PointsValue {
    std::vector<Point> points;
};

// The value is NameValue.
struct CommonArgs {
    std::string protection;
    std::uint64_t epoch = 0;
    std::string cut;           // UUID
    std::int64_t time_ns = 0;  // by the controller's clock
};

struct NameArgs {
    std::string protection;
    std::uint64_t epoch = 0;
    std::string name;  // empty: none any more
};

struct NameValue {
    Point point;
};

struct CheckValue {
    std::vector<ErrorInfo> reasons;  // empty: target.prepare would be granted now
};

struct DiskIdsArgs {
    std::vector<std::string> disks;  // stable ids
};

struct ServeArgs {
    std::string protection;
    std::string name;              // under which it is known, and ended
    std::string point = "latest";  // or the number of an epoch
};

struct ServedExport {
    std::uint32_t index = 0;
    std::string source_id;
    std::string target_id;
    std::uint64_t size = 0;
    std::string uri;  // NBD
};

struct ServeValue {
    Point point;
    std::string serving;  // its id: no other serving has it, of no daemon
    std::vector<ServedExport> exports;
};

// How that is served now: its value is a ServedPoint.
struct ServedArgs {
    std::string protection;
    std::string name;
};

struct UnserveArgs {
    std::string protection;
    std::string name;  // empty: all
    std::string keep;  // of all: but this one
};

// E_INVALID for names and numbers that decode but mean nothing.
[[nodiscard]] Status check(const SourceProtectArgs& args);
[[nodiscard]] Status check(const CheckpointArgs& args);
[[nodiscard]] Status check(const CutArgs& args);
[[nodiscard]] Status check(const IntervalArgs& args);
[[nodiscard]] Status check(const VerifyArgs& args);
[[nodiscard]] Status check(const ProtectionArgs& args);
[[nodiscard]] Status check(const FenceArgs& args);
[[nodiscard]] Status check(const TargetPrepareArgs& args);
[[nodiscard]] Status check(const TargetFailoverArgs& args);
[[nodiscard]] Status check(const CertifyArgs& args);
[[nodiscard]] Status check(const CommonArgs& args);
[[nodiscard]] Status check(const NameArgs& args);
[[nodiscard]] Status check(const DiskIdsArgs& args);
[[nodiscard]] Status check(const ServeArgs& args);
[[nodiscard]] Status check(const ServedArgs& args);
[[nodiscard]] Status check(const UnserveArgs& args);

// decode and check in one.
template <class T>
[[nodiscard]] Result<T> decode_args(const Json& args) {
    auto value = decode<T>(args);
    if (!value) return value;
    if (auto ok = check(*value); !ok) return std::unexpected(ok.error());
    return value;
}

template <class V>
void describe(V& visit, SourceDiskChoice& d) {
    visit("index", d.index);
    visit("stable_id", d.stable_id);
    visit("size", d.size);
}

template <class V>
void describe(V& visit, TargetAddress& a) {
    visit("host", a.host);
    visit("port", a.port);
    visit("name", a.name);
}

template <class V>
void describe(V& visit, SourceProtectArgs& a) {
    visit("protection", a.protection);
    visit("session", a.session);
    visit("disks", a.disks);
    visit("target", a.target);
    visit.optional("interval_ms", a.interval_ms);
    visit.optional("app_interval_ms", a.app_interval_ms);
    visit.optional("full", a.full);
    visit.optional("compare", a.compare);
}

template <class V>
void describe(V& visit, CommonCutArgs& a) {
    visit("cut", a.cut);
    visit("gate_ms", a.gate_ms);
    visit("patience_ms", a.patience_ms);
}

template <class V>
void describe(V& visit, CheckpointArgs& a) {
    visit("protection", a.protection);
    visit.optional("name", a.name);
    visit.optional("export", a.export_);
    visit.optional("app", a.app);
    visit.optional("common", a.common);
}

template <class V>
void describe(V& visit, CutArgs& a) {
    visit("protection", a.protection);
    visit("cut", a.cut);
    visit("step", a.step);
}

template <class V>
void describe(V& visit, CheckpointValue& v) {
    visit("epoch", v.epoch);
    visit("cut_time_ns", v.cut_time_ns);
    visit.optional("kind", v.kind);
    visit.optional("degraded", v.degraded);
    visit.optional("post", v.post);
    visit.optional("flushed", v.flushed);
    visit.optional("alone", v.alone);
    visit.optional("gate_ns", v.gate_ns);
    visit.optional("gate_held", v.gate_held);
}

template <class V>
void describe(V& visit, IntervalArgs& a) {
    visit("protection", a.protection);
    visit("interval_ms", a.interval_ms);
    visit.optional("app_interval_ms", a.app_interval_ms);
}

template <class V>
void describe(V& visit, VerifyArgs& a) {
    visit("protection", a.protection);
    visit("run", a.run);
    visit.optional("repair", a.repair);
    visit.optional("mib_per_s", a.mib_per_s);
}

template <class V>
void describe(V& visit, ProtectionArgs& a) {
    visit("protection", a.protection);
}

template <class V>
void describe(V& visit, FenceArgs& a) {
    visit("protection", a.protection);
    visit("session", a.session);
}

template <class V>
void describe(V& visit, TargetDiskChoice& d) {
    visit("index", d.index);
    visit("source_id", d.source_id);
    visit("target_id", d.target_id);
    visit("size", d.size);
}

template <class V>
void describe(V& visit, TargetPrepareArgs& a) {
    visit("protection", a.protection);
    visit("machine", a.machine);
    visit("session", a.session);
    visit("source_name", a.source_name);
    visit("retention", a.retention);
    visit.optional("overwrite", a.overwrite);
    visit("disks", a.disks);
}

template <class V>
void describe(V& visit, TargetFailoverArgs& a) {
    visit("protection", a.protection);
    visit("session", a.session);
    visit.optional("point", a.point);
}

template <class V>
void describe(V& visit, FailoverValue& v) {
    visit("point", v.point);
    visit.optional("rolled_back_bytes", v.rolled_back_bytes);
    visit.optional("rewound_bytes", v.rewound_bytes);
}

template <class V>
void describe(V& visit, VerifyValue& v) {
    visit("points", v.points);
    visit("files", v.files);
    visit("records", v.records);
    visit("bytes", v.bytes);
}

template <class V>
void describe(V& visit, CertifyArgs& a) {
    visit("protection", a.protection);
    visit("epoch", a.epoch);
    visit.optional("whole", a.whole);
}

template <class V>
void describe(V& visit, CertifyValue& v) {
    visit("point", v.point);
    visit("chain", v.chain);
    visit("journal", v.journal);
    visit("merged", v.merged);
    visit("whole", v.whole);
    visit("extents", v.extents);
    visit("bytes", v.bytes);
    visit("equal_bytes", v.equal_bytes);
    visit("journal_bytes", v.journal_bytes);
    visit("superseded_bytes", v.superseded_bytes);
    visit("disk_bytes", v.disk_bytes);
    visit("discarded_bytes", v.discarded_bytes);
    visit("unreadable_bytes", v.unreadable_bytes);
    visit("different_bytes", v.different_bytes);
    visit.optional("undigested_bytes", v.undigested_bytes);
}

template <class V>
void describe(V& visit, PointsValue& v) {
    visit("points", v.points);
}

template <class V>
void describe(V& visit, CommonArgs& a) {
    visit("protection", a.protection);
    visit("epoch", a.epoch);
    visit("cut", a.cut);
    visit("time_ns", a.time_ns);
}

template <class V>
void describe(V& visit, NameArgs& a) {
    visit("protection", a.protection);
    visit("epoch", a.epoch);
    visit.optional("name", a.name);
}

template <class V>
void describe(V& visit, NameValue& v) {
    visit("point", v.point);
}

template <class V>
void describe(V& visit, CheckValue& v) {
    visit("reasons", v.reasons);
}

template <class V>
void describe(V& visit, DiskIdsArgs& a) {
    visit("disks", a.disks);
}

template <class V>
void describe(V& visit, ServeArgs& a) {
    visit("protection", a.protection);
    visit("name", a.name);
    visit.optional("point", a.point);
}

template <class V>
void describe(V& visit, ServedExport& e) {
    visit("index", e.index);
    visit("source_id", e.source_id);
    visit("target_id", e.target_id);
    visit("size", e.size);
    visit("uri", e.uri);
}

template <class V>
void describe(V& visit, ServeValue& v) {
    visit("point", v.point);
    visit.optional("serving", v.serving);
    visit("exports", v.exports);
}

template <class V>
void describe(V& visit, ServedArgs& a) {
    visit("protection", a.protection);
    visit("name", a.name);
}

template <class V>
void describe(V& visit, UnserveArgs& a) {
    visit("protection", a.protection);
    visit.optional("name", a.name);
    visit.optional("keep", a.keep);
}

}  // namespace ebb::api
