// SPDX-License-Identifier: Apache-2.0
// What an agent does for the controller. All on the event loop.
#pragma once

#include "api/agent.h"
#include "env/env.h"

namespace ebb::service {

class Role {
public:
    virtual ~Role() = default;
    // Whether commands of this kind are for it: "source.protect".
    [[nodiscard]] virtual bool handles(const std::string& kind) const = 0;
    // Whether a command of this kind may write to disks of this machine: it waits while those are
    // frozen, or held for a common cut.
    [[nodiscard]] virtual bool writes(const std::string& /*kind*/) const { return true; }
    // `done` once, with the command's value.
    virtual void run(const api::Command& command, env::Callback<api::Json> done) = 0;
    // Its part of the status; false: it has not yet found out what there is.
    [[nodiscard]] virtual bool fill(api::ExchangeRequest& request) = 0;
    // Certificates were revoked: connections are ended, to be made anew with those that are valid.
    virtual void drop_connections() = 0;
};

}  // namespace ebb::service
