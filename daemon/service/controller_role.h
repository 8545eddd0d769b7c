// SPDX-License-Identifier: Apache-2.0
// The controller: machines and tokens, protections and jobs, an interface for agents over TLS and
// one for ebbctl on a Unix socket. Owns its threads.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "platform/http.h"
#include "platform/pki.h"
#include "provider/qemu.h"
#include "service/config.h"
#include "service/controller_agents.h"
#include "service/controller_store.h"

namespace ebb::service {

class ControllerRole {
public:
    static Result<std::unique_ptr<ControllerRole>> start(const Config& config);
    ~ControllerRole();

private:
    // A job on its thread; its document is what users see.
    struct Job {
        std::uint64_t id = 0;
        api::Json document;  // under mutex_
        std::atomic<bool> cancelled = false;
        std::thread thread;
    };
    using Steps = std::function<Status(Job&)>;

    ControllerRole(const Config& config, std::unique_ptr<ControllerStore> store,
                   std::unique_ptr<provider::QemuProvider> provider,
                   platform::KeyAndCertificate authority);

    // For agents.
    platform::HttpResponse serve_agent(const platform::HttpRequest& request);
    platform::HttpResponse join(const std::string& body);
    // For ebbctl.
    platform::HttpResponse serve_operator(const platform::HttpRequest& request);
    Result<api::Json> dispatch(const std::string& path, const api::Json& args);
    Result<api::Json> state();
    Result<api::Json> make_token(const api::Json& args);
    Result<api::Json> show_job(const api::Json& args);
    Result<api::Json> cancel_job(const api::Json& args);
    Result<api::Json> begin(const std::string& kind, const std::string& machine, Steps steps);

    Result<api::Json> protect(const api::Json& args);
    Result<api::Json> plan(const api::Json& args);  // the protection that protect would make
    Status protect_steps(Job& job, api::Json protection);
    Result<api::Json> checkpoint(const api::Json& args);
    Result<api::Json> interval(const api::Json& args);
    Result<api::Json> points(const api::Json& args);
    Result<api::Json> failover(const api::Json& args);
    Status failover_steps(Job& job, api::Json protection, bool unreachable);
    Status source_off(Job& job, const api::Json& protection, bool unreachable);
    Result<api::Json> commit(const api::Json& args);
    Result<api::Json> resync(const api::Json& args);
    Result<api::Json> disable(const api::Json& args);

    Result<api::Json> protection_of(const api::Json& args);
    Status save(const api::Json& protection);
    void step(Job& job, const std::string& text, double percent);
    void progress(Job& job, const api::Json& numbers);
    [[nodiscard]] bool cancelled(const Job& job) const { return job.cancelled || stopping_; }

    const Config config_;
    std::mutex mutex_;  // store and jobs
    std::unique_ptr<ControllerStore> store_;
    std::unique_ptr<provider::QemuProvider> provider_;  // null: none
    const platform::KeyAndCertificate authority_;
    ControllerAgents agents_;
    std::list<Job> jobs_;
    std::uint64_t next_job_ = 1;
    std::atomic<bool> stopping_ = false;
    std::unique_ptr<platform::HttpServer> agent_server_;
    std::unique_ptr<platform::HttpServer> operator_server_;
};

}  // namespace ebb::service
