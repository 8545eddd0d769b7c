// SPDX-License-Identifier: Apache-2.0
#include "api/operator.h"

#include <set>

#include "api/agent.h"
#include "api/names.h"
#include "api/points.h"

namespace ebb::api {
namespace {

Status check_name(const std::string& what, const std::string& name) {
    if (valid_machine_name(name)) return {};
    return fail(ErrorCode::invalid, what + ": \"" + name.substr(0, 64) + "\" is no name",
                "A name has up to 63 letters, digits, '.', '_' and '-', and begins with a letter "
                "or digit");
}

Status check_optional_name(const std::string& what, const std::string& name) {
    return name.empty() ? Status{} : check_name(what, name);
}

Status check_interval(std::uint64_t interval_ms) {
    if (interval_ms == 0 || (interval_ms >= 100 && interval_ms <= max_interval_ms)) return {};
    return fail(ErrorCode::invalid, "interval_ms: not an interval between cuts",
                "Give 0.1 to 86400 seconds, or 0 for cuts on demand only");
}

Status check_app_interval(std::uint64_t interval_ms) {
    if (interval_ms == 0 || (interval_ms >= min_app_interval_ms && interval_ms <= max_interval_ms))
        return {};
    return fail(ErrorCode::invalid,
                "app_interval_ms: not an interval between application-consistent points",
                "Give 60 to 86400 seconds, or 0 for points on demand only");
}

Status check_rpo(std::uint64_t seconds) {
    if (seconds >= 1 && seconds <= max_rpo_s) return {};
    return fail(ErrorCode::invalid, "rpo_s: not an age of a recovery point",
                "Give 1 to 604800 seconds");
}

std::unexpected<Error> no_point_name() {
    return fail(ErrorCode::invalid, "name: not a name of a recovery point",
                "It has up to 127 letters, digits, '.', '_' and '-', and begins with a letter "
                "or digit");
}

bool means_another(const std::string& name) {
    return name == latest_point || name == latest_app_point || name == latest_common_point;
}

std::unexpected<Error> another_each_time(const std::string& name) {
    return fail(ErrorCode::invalid, "name: " + name + " means another point each time",
                "Give it another name");
}

Status check_disk(const std::string& id) {
    if (valid_stable_id(id)) return {};
    return fail(ErrorCode::invalid, "disks: \"" + id.substr(0, 64) + "\" is no id of a disk",
                "ebbctl disks lists the ids");
}

Status check_one_point(const std::string& point) {
    if (valid_point_words(point)) return {};
    return fail(ErrorCode::invalid, "point: no name, number or time of a recovery point",
                "Give latest, latest-app, a name, the number of an epoch, or a time with its "
                "zone, such as \"2026-11-21 09:30:00Z\"");
}

Status check_point(const std::string& point) {
    return point.empty() ? Status{} : check_one_point(point);
}

}  // namespace

Status check(const ProtectCall& call) {
    if (auto ok = check_name("machine", call.machine); !ok) return ok;
    if (auto ok = check_name("target", call.target); !ok) return ok;
    for (const auto& [what, name] : {std::pair("cloud_vm", &call.cloud_vm),
                                     {"home_vm", &call.home_vm},
                                     {"target_vm", &call.target_vm},
                                     {"test_vm", &call.test_vm}}) {
        if (auto ok = check_optional_name(what, *name); !ok) return ok;
    }
    if (!call.retention.empty() && !valid_path(call.retention)) {
        return fail(ErrorCode::invalid, "retention: \"" + call.retention + "\" is no absolute path",
                    "ebbctl retention lists the volumes");
    }
    for (const auto& pair : call.disks) {
        if (auto ok = check_disk(pair.source_id); !ok) return ok;
        if (auto ok = check_disk(pair.target_id); !ok) return ok;
    }
    for (const auto& disk : call.exclude) {
        if (auto ok = check_disk(disk); !ok) return ok;
    }
    if (auto ok = check_app_interval(call.app_interval_ms); !ok) return ok;
    if (auto ok = check_rpo(call.rpo_s); !ok) return ok;
    return check_interval(call.interval_ms);
}

Status check(const CheckpointCall& call) {
    if (!call.name.empty() && !valid_point_name(call.name)) return no_point_name();
    if (!call.export_.empty() && !valid_path(call.export_))
        return fail(ErrorCode::invalid, "export: should be an absolute path on the source");
    return check_name("machine", call.machine);
}

Status check(const MachineCall& call) {
    if (auto ok = check_point(call.point); !ok) return ok;
    return check_name("machine", call.machine);
}

Status check(const PinCall& call) {
    if (auto ok = check_one_point(call.point); !ok) return ok;
    if (!valid_point_name(call.name)) return no_point_name();
    if (means_another(call.name)) return another_each_time(call.name);
    return check_name("machine", call.machine);
}

Status check(const UnpinCall& call) {
    if (auto ok = check_one_point(call.point); !ok) return ok;
    return check_name("machine", call.machine);
}

Status check(const ServeCall& call) {
    if (auto ok = check_point(call.point); !ok) return ok;
    if (auto ok = check_name("name", call.name); !ok) return ok;
    return check_name("machine", call.machine);
}

Status check(const ServedCall& call) {
    if (auto ok = check_name("name", call.name); !ok) return ok;
    return check_name("machine", call.machine);
}

Status check(const UnserveCall& call) {
    if (auto ok = check_optional_name("name", call.name); !ok) return ok;
    return check_name("machine", call.machine);
}

Status check(const TestFailoverCall& call) {
    if (auto ok = check_point(call.point); !ok) return ok;
    return check_name("machine", call.machine);
}

Status check(const CertifyCall& call) {
    if (auto ok = check_point(call.point); !ok) return ok;
    return check_name("machine", call.machine);
}

Status check(const VerifyCall& call) {
    if (auto ok = check_point(call.point); !ok) return ok;
    if (!call.point.empty() && (call.repair || call.mib_per_s != 0)) {
        return fail(ErrorCode::invalid, "point: what is past is neither repaired nor slowed down",
                    "Give neither repair nor mib_per_s with it");
    }
    if (call.mib_per_s > max_mib_per_s) {
        return fail(ErrorCode::invalid, "mib_per_s: is too much",
                    "Give up to 1048576 MiB/s, or 0 for what the source is configured to");
    }
    return check_name("machine", call.machine);
}

Status check(const CheckCertificateCall& /*call*/) {
    return {};
}

Status check(const ResyncCall& call) {
    return check_name("machine", call.machine);
}

Status check(const IntervalCall& call) {
    if (auto ok = check_app_interval(call.app_interval_ms.value_or(0)); !ok) return ok;
    if (auto ok = check_rpo(call.rpo_s.value_or(default_rpo_s)); !ok) return ok;
    if (auto ok = check_interval(call.interval_ms); !ok) return ok;
    return check_name("machine", call.machine);
}

Status check(const GroupSetCall& call) {
    if (auto ok = check_name("group", call.group); !ok) return ok;
    for (const auto& machine : call.machines) {
        if (auto ok = check_name("machines", machine); !ok) return ok;
    }
    const std::set<std::string> distinct(call.machines.begin(), call.machines.end());
    if (distinct.size() != call.machines.size())
        return fail(ErrorCode::invalid, "machines: one is named twice");
    if (!distinct.empty() &&
        (distinct.size() < min_group_machines || distinct.size() > max_group_machines))
        return fail(ErrorCode::invalid, "machines: a group has 2 to 16 machines");
    const auto interval = call.interval_ms.value_or(0);
    if (interval != 0 && (interval < min_group_interval_ms || interval > max_interval_ms)) {
        return fail(ErrorCode::invalid, "interval_ms: not an interval between common cuts",
                    "Give 1 to 86400 seconds, or 0 for common cuts on demand only");
    }
    const auto gate = call.gate_ms.value_or(default_group_gate_ms);
    if (gate < min_gate_ms || gate > max_gate_ms) {
        return fail(ErrorCode::invalid, "gate_ms: writes cannot be held so long",
                    "Give 10 to 10000 milliseconds");
    }
    if (auto ok = check_app_interval(call.app_interval_ms.value_or(0)); !ok) return ok;
    return check_rpo(call.rpo_s.value_or(default_group_rpo_s));
}

Status check(const GroupCall& call) {
    return check_name("group", call.group);
}

Status check(const GroupCheckpointCall& call) {
    if (!call.name.empty() && !valid_point_name(call.name)) return no_point_name();
    if (means_another(call.name)) return another_each_time(call.name);
    return check_name("group", call.group);
}

Status check(const GroupFailoverCall& call) {
    if (auto ok = check_point(call.point); !ok) return ok;
    return check_name("group", call.group);
}

Status check(const GroupMoveCall& call) {
    if (auto ok = check_point(call.point); !ok) return ok;
    return check_name("group", call.group);
}

Status check(const TokenCall& call) {
    if (auto ok = check_name("machine", call.machine); !ok) return ok;
    return check_name("site", call.site);
}

Status check(const JobCall& call) {
    if (call.wait_ms <= max_wait_ms) return {};
    return fail(ErrorCode::invalid, "wait_ms: too long");
}

}  // namespace ebb::api
