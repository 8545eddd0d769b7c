// SPDX-License-Identifier: Apache-2.0
// How a role takes a command of the controller and answers it.
#pragma once

#include <utility>

#include "api/agent.h"
#include "api/command.h"
#include "env/env.h"

namespace ebb::service {

// Runs `run` with the command's arguments, or answers what is wrong with them.
template <class Args, class Run>
void with_args(const api::Command& command, env::Callback<api::Json>& done, Run run) {
    auto args = api::decode_args<Args>(command.args);
    if (!args) return done(std::unexpected(args.error()));
    run(*args, std::move(done));
}

// Status to an empty value.
inline env::StatusCallback plain(env::Callback<api::Json> done) {
    return [done = std::move(done)](Status status) mutable {
        if (!status) return done(std::unexpected(status.error()));
        done(api::Json::object());
    };
}

}  // namespace ebb::service
