// SPDX-License-Identifier: Apache-2.0
#include "api/command.h"

#include "api/names.h"

namespace ebb::api {
namespace {

// 60 disks are what a master target takes; requirement G2.
constexpr std::size_t max_disks = 60;

Status check_protection(const std::string& id) {
    if (!valid_uuid(id)) return fail(ErrorCode::invalid, "protection: should be a UUID");
    return {};
}

Status check_cut(const std::string& id) {
    if (!valid_uuid(id)) return fail(ErrorCode::invalid, "cut: should be a UUID");
    return {};
}

Status check_session(std::uint64_t session) {
    if (session == 0) return fail(ErrorCode::invalid, "session: begins at 1");
    return {};
}

// Indexes are 0, 1, 2, ... in order: whoever takes a position for an index is right.
template <class Disks>
Status check_indexes(const Disks& disks) {
    if (disks.empty()) return fail(ErrorCode::invalid, "disks: there are none");
    if (disks.size() > max_disks) return fail(ErrorCode::invalid, "disks: there are more than 60");
    for (std::size_t i = 0; i < disks.size(); ++i) {
        if (disks[i].index != i) return fail(ErrorCode::invalid, "disks: out of order");
        if (disks[i].size == 0 || disks[i].size % 512 != 0) {
            return fail(ErrorCode::invalid, "disks: a size is a multiple of 512, above zero");
        }
    }
    return {};
}

Status check_id(const std::string& id) {
    if (!valid_stable_id(id)) return fail(ErrorCode::invalid, "disks: not a stable id");
    return {};
}

template <class Disks, class Id>
Status check_distinct(const Disks& disks, Id id) {
    for (std::size_t i = 0; i < disks.size(); ++i) {
        if (auto ok = check_id(id(disks[i])); !ok) return ok;
        for (std::size_t j = 0; j < i; ++j) {
            if (id(disks[i]) == id(disks[j])) {
                return fail(ErrorCode::invalid, "disks: one is named twice");
            }
        }
    }
    return {};
}

}  // namespace

Status check(const SourceProtectArgs& args) {
    if (auto ok = check_protection(args.protection); !ok) return ok;
    if (auto ok = check_session(args.session); !ok) return ok;
    if (auto ok = check_indexes(args.disks); !ok) return ok;
    if (!valid_machine_name(args.target.name)) {
        return fail(ErrorCode::invalid, "target.name: not a name of a machine");
    }
    if (args.target.host.empty() || args.target.port == 0) {
        return fail(ErrorCode::invalid, "target: needs host and port");
    }
    return check_distinct(args.disks, [](const auto& d) -> const auto& { return d.stable_id; });
}

Status check(const CheckpointArgs& args) {
    if (!args.name.empty() && !valid_point_name(args.name)) {
        return fail(ErrorCode::invalid, "name: not a name of a recovery point");
    }
    if (!args.export_.empty() && !valid_path(args.export_)) {
        return fail(ErrorCode::invalid, "export: should be an absolute path");
    }
    if (args.common) {
        if (auto ok = check_cut(args.common->cut); !ok) return ok;
        if (args.common->gate_ms < min_gate_ms || args.common->gate_ms > max_gate_ms)
            return fail(ErrorCode::invalid, "common.gate_ms: is 10 to 10000");
        if (args.common->patience_ms == 0 || args.common->patience_ms > max_patience_ms)
            return fail(ErrorCode::invalid, "common.patience_ms: is 1 to 600000");
    }
    return check_protection(args.protection);
}

Status check(const CutArgs& args) {
    if (auto ok = check_cut(args.cut); !ok) return ok;
    return check_protection(args.protection);
}

Status check(const IntervalArgs& args) {
    return check_protection(args.protection);
}
Status check(const VerifyArgs& args) {
    if (!valid_uuid(args.run)) return fail(ErrorCode::invalid, "run: should be a UUID");
    if (args.mib_per_s > max_mib_per_s) return fail(ErrorCode::invalid, "mib_per_s: is too much");
    return check_protection(args.protection);
}
Status check(const ProtectionArgs& args) {
    return check_protection(args.protection);
}

Status check(const FenceArgs& args) {
    if (auto ok = check_session(args.session); !ok) return ok;
    return check_protection(args.protection);
}

Status check(const TargetPrepareArgs& args) {
    if (auto ok = check_protection(args.protection); !ok) return ok;
    if (auto ok = check_session(args.session); !ok) return ok;
    if (auto ok = check_indexes(args.disks); !ok) return ok;
    if (!valid_machine_name(args.machine) || !valid_machine_name(args.source_name)) {
        return fail(ErrorCode::invalid, "machine, source_name: not a name of a machine");
    }
    if (!valid_path(args.retention)) {
        return fail(ErrorCode::invalid, "retention: should be an absolute path");
    }
    if (auto ok =
            check_distinct(args.disks, [](const auto& d) -> const auto& { return d.source_id; });
        !ok) {
        return ok;
    }
    return check_distinct(args.disks, [](const auto& d) -> const auto& { return d.target_id; });
}

Status check(const TargetFailoverArgs& args) {
    if (auto ok = check_session(args.session); !ok) return ok;
    if (!valid_point_name(args.point)) {
        return fail(ErrorCode::invalid, "point: not a name of a recovery point");
    }
    return check_protection(args.protection);
}

Status check(const ServeArgs& args) {
    if (!valid_machine_name(args.name)) return fail(ErrorCode::invalid, "name: no name");
    if (!valid_point_name(args.point))
        return fail(ErrorCode::invalid, "point: not a name of a recovery point");
    return check_protection(args.protection);
}

Status check(const ServedArgs& args) {
    if (!valid_machine_name(args.name)) return fail(ErrorCode::invalid, "name: no name");
    return check_protection(args.protection);
}

Status check(const UnserveArgs& args) {
    for (const auto* name : {&args.name, &args.keep}) {
        if (!name->empty() && !valid_machine_name(*name))
            return fail(ErrorCode::invalid, "name, keep: no name");
    }
    return check_protection(args.protection);
}

Status check(const CertifyArgs& args) {
    return check_protection(args.protection);
}

Status check(const CommonArgs& args) {
    if (auto ok = check_cut(args.cut); !ok) return ok;
    return check_protection(args.protection);
}

Status check(const NameArgs& args) {
    if (!args.name.empty() && !valid_point_name(args.name))
        return fail(ErrorCode::invalid, "name: not a name of a recovery point");
    return check_protection(args.protection);
}

Status check(const DiskIdsArgs& args) {
    if (args.disks.size() > max_disks) return fail(ErrorCode::invalid, "disks: more than 60");
    for (const auto& id : args.disks) {
        if (auto ok = check_id(id); !ok) return ok;
    }
    return {};
}

}  // namespace ebb::api
