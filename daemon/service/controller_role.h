// SPDX-License-Identifier: Apache-2.0
// The controller: an interface for agents over TLS and one for ebbctl on a Unix socket, around the
// machines that have joined, their protections and jobs. Owns its threads.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "platform/http.h"
#include "platform/pki.h"
#include "provider/qemu.h"
#include "service/config.h"
#include "service/controller_agents.h"
#include "service/controller_groups.h"
#include "service/controller_jobs.h"
#include "service/controller_protections.h"
#include "service/controller_store.h"
#include "service/controller_watch.h"

namespace ebb::service {

class ControllerRole {
public:
    static Result<std::unique_ptr<ControllerRole>> start(const Config& config);
    ~ControllerRole();

private:
    ControllerRole(const Config& config, std::unique_ptr<ControllerStore> store,
                   std::unique_ptr<provider::QemuProvider> provider,
                   platform::KeyAndCertificate authority);
    Status listen();

    // For agents.
    platform::HttpResponse serve_agent(const platform::HttpRequest& request);
    platform::HttpResponse exchange(const platform::HttpRequest& request);
    platform::HttpResponse join(const std::string& body);
    Result<api::JoinAnswer> redeem(const api::JoinRequest& request);
    // For ebbctl.
    platform::HttpResponse serve_operator(const platform::HttpRequest& request);
    Outcome dispatch(const std::string& path, const api::Json& args);
    Outcome dispatch_group(const std::string& path, const api::Json& args);
    Result<api::Json> state();
    Result<api::Json> make_token(const api::TokenCall& call);
    Status drop_expired_tokens();
    Result<api::Json> revoke(const api::MachineCall& call);
    Status load_revoked();

    const Config config_;
    std::unique_ptr<ControllerStore> store_;
    std::unique_ptr<provider::QemuProvider> provider_;  // null: none
    const platform::KeyAndCertificate authority_;
    std::mutex joining_;  // a token is used once; who is valid changes in one step
    ControllerAgents agents_;
    ControllerJobs jobs_;
    ControllerProtections protections_;
    ControllerGroups groups_;
    ControllerWatch watch_;
    std::unique_ptr<platform::HttpServer> agent_server_;
    std::unique_ptr<platform::HttpServer> operator_server_;
};

}  // namespace ebb::service
