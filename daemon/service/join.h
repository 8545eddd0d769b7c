// SPDX-License-Identifier: Apache-2.0
// One command makes an authority, another joins a machine. Blocking.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "service/config.h"

namespace ebb::service {

// Makes authority, controller certificate and a configuration file in `folder`. E_EXISTS if there
// is an authority already.
Status make_site(const std::string& folder, const std::string& site, const std::string& name);

struct JoinOptions {
    std::string folder = "/etc/ebb";
    std::string controller;  // HOST[:PORT]
    std::string token;
    std::string name;
    std::vector<std::string> roles;
    std::string data_host;  // by which sources reach a target; empty: its name
};

// Gets a certificate by a token, which also tells whether it is the right controller, and writes
// certificate, key, authority and, where there is none, a configuration. Nothing of what was there
// is touched unless it succeeds.
Status join_site(const JoinOptions& options);

}  // namespace ebb::service
