// SPDX-License-Identifier: Apache-2.0
#include "api/agent.h"

#include "api/names.h"

namespace ebb::api {
namespace {

// Far above what one machine has; keeps a broken agent from filling the store.
constexpr std::size_t max_results = 1024;
constexpr std::size_t max_events = 1024;

Status check_errors(const std::vector<ErrorInfo>& reasons) {
    for (const auto& reason : reasons) {
        if (!valid_code(reason.code)) {
            return fail(ErrorCode::invalid, "reasons: a code begins with E_");
        }
    }
    return {};
}

Status check_protection(const std::string& id) {
    if (!valid_uuid(id)) return fail(ErrorCode::invalid, "protections.id: should be a UUID");
    return {};
}

Status check_source(const SourceStatus& source) {
    for (const auto& disk : source.disks) {
        // A disk without a usable id is listed all the same, with its reason, and never trackable.
        if (disk.trackable && !valid_stable_id(disk.stable_id)) {
            return fail(ErrorCode::invalid, "source.disks: a trackable disk needs a stable id");
        }
        if (auto ok = check_errors(disk.reasons); !ok) return ok;
    }
    for (const auto& protection : source.protections) {
        if (auto ok = check_protection(protection.id); !ok) return ok;
    }
    return {};
}

Status check_target(const TargetStatus& target) {
    for (const auto& volume : target.volumes) {
        if (!valid_path(volume.path)) {
            return fail(ErrorCode::invalid, "target.volumes: a path is absolute");
        }
        if (auto ok = check_errors(volume.reasons); !ok) return ok;
    }
    for (const auto& disk : target.disks) {
        if (disk.usable && !valid_stable_id(disk.stable_id)) {
            return fail(ErrorCode::invalid, "target.disks: a usable disk needs a stable id");
        }
        if (auto ok = check_errors(disk.reasons); !ok) return ok;
    }
    for (const auto& protection : target.protections) {
        if (auto ok = check_protection(protection.id); !ok) return ok;
    }
    return {};
}

}  // namespace

Status check(const ExchangeRequest& request) {
    if (request.protocol != protocol_version) {
        return fail(ErrorCode::version,
                    "the agent speaks protocol version " + std::to_string(request.protocol) +
                        ", the controller " + std::to_string(protocol_version),
                    "install the same release of Ebb on both");
    }
    if (!valid_uuid(request.incarnation)) {
        return fail(ErrorCode::invalid, "incarnation: should be a UUID");
    }
    if (!valid_machine_name(request.machine.name)) {
        return fail(ErrorCode::invalid, "machine.name: not a name of a machine");
    }
    if (request.roles.empty() || request.roles.size() > 2) {
        return fail(ErrorCode::invalid, "roles: one or two are needed");
    }
    if (request.results.size() > max_results || request.events.size() > max_events) {
        return fail(ErrorCode::invalid, "results, events: too many at once");
    }
    for (const auto& result : request.results) {
        if (!result.ok && (!result.error || !valid_code(result.error->code))) {
            return fail(ErrorCode::invalid, "results: a failed command needs an error with a code");
        }
    }
    if (request.source) {
        if (auto ok = check_source(*request.source); !ok) return ok;
    }
    if (request.target) {
        if (auto ok = check_target(*request.target); !ok) return ok;
    }
    return {};
}

Status check(const JoinRequest& request) {
    if (!valid_machine_name(request.name)) {
        return fail(ErrorCode::invalid, "name: not a name of a machine");
    }
    if (!request.token.starts_with("ebb1-") || request.token.size() > 128) {
        return fail(ErrorCode::invalid, "token: should begin with ebb1-");
    }
    if (request.csr.size() > 16 * 1024) return fail(ErrorCode::invalid, "csr: is too long");
    return {};
}

}  // namespace ebb::api
