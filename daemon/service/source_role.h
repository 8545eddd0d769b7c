// SPDX-License-Identifier: Apache-2.0
// The source: runs a core::Source for each protection that the controller has given this machine,
// and remembers them over restarts. On the event loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/command.h"
#include "core/rendezvous.h"
#include "core/source.h"
#include "platform/block_table.h"
#include "platform/cpu_threads.h"
#include "platform/disk_tracker.h"
#include "platform/event_loop.h"
#include "platform/initramfs.h"
#include "platform/map_config.h"
#include "platform/tls.h"
#include "platform/worker.h"
#include "service/application_points.h"
#include "service/config.h"
#include "service/role.h"
#include "service/witness_blocks.h"

namespace ebb::service {

// What is another one in tests.
struct SourceSurroundings {
    platform::HostPaths paths;
    std::string map_config = platform::map_config_path;
    platform::InitramfsPlaces initramfs;
    platform::AttachDisks attach;
    std::function<Status(std::uint32_t group)> detach_group;
    ApplicationSurroundings applications;
    // A protection that could not begin is tried again.
    Duration retry = std::chrono::seconds(5);
    // Which blocks bear witness is asked again.
    Duration choose_again = std::chrono::minutes(1);

    SourceSurroundings();  // of this machine: by the module
};

class SourceRole final : public Role {
public:
    // Takes up again what it was told before.
    static Result<std::unique_ptr<SourceRole>> start(
        platform::EventLoop& loop, const Config& config,
        std::shared_ptr<const platform::RevokedCertificates> revoked,
        SourceSurroundings surroundings = {});
    ~SourceRole() override;

    [[nodiscard]] bool handles(const std::string& kind) const override;
    [[nodiscard]] bool writes(const std::string& kind) const override;
    void run(const api::Command& command, env::Callback<api::Json> done) override;
    [[nodiscard]] bool fill(api::ExchangeRequest& request) override;
    void drop_connections() override;

private:
    enum class Stage { resting, beginning, running, ending };
    // In order of construction: the source uses all above it.
    struct Protection {
        api::SourceProtectArgs args;
        bool known = false;  // it has begun before: in the state that is saved
        Stage stage = Stage::resting;
        std::optional<Error> error;                // why it rests
        std::vector<env::StatusCallback> waiting;  // for the end of `beginning`
        std::unique_ptr<platform::DiskTracker> tracker;
        std::unique_ptr<platform::TlsConnector> connector;
        std::unique_ptr<core::Source> source;
        std::uint64_t bytes_before = 0;  // for the rate
        MonoTime asked_before;
        std::uint64_t rate = 0;
        std::optional<api::VerifyStatus> verify;
        api::AppStatus app;
        MonoTime app_not_before;  // after an attempt that failed
        std::string cut;          // that is common to several machines, and goes on
        std::shared_ptr<core::Rendezvous> rendezvous;
    };
    using Shared = std::shared_ptr<Protection>;
    struct Inventory {
        api::ModuleStatus module;
        std::vector<api::SourceDisk> disks;
        std::vector<api::ErrorInfo> warnings;
        std::optional<platform::Witnesses> witnesses;  // now and then
    };

    SourceRole(platform::EventLoop& loop, const Config& config, platform::TlsContext tls,
               SourceSurroundings surroundings);
    void protect(const api::SourceProtectArgs& args, env::Callback<api::Json> done);
    // Begins what rests; several may wait for it.
    void begin(const Shared& protection, env::StatusCallback done);
    void run_source(const Shared& protection, std::unique_ptr<platform::DiskTracker> tracker);
    void begun(const Shared& protection, const Status& status);
    void retry_later();
    void look();
    [[nodiscard]] std::vector<api::ErrorInfo> look_at_initramfs() const;
    void interval(const api::IntervalArgs& args, env::Callback<api::Json> done);
    void checkpoint(const api::CheckpointArgs& args, env::Callback<api::Json> done);
    void crash_point(const Shared& protection, core::CheckpointRequest request,
                     env::Callback<api::Json> done);
    void application_point(const api::CheckpointArgs& args, const Shared& protection,
                           core::CheckpointRequest request, env::Callback<api::Json> done);
    // source_cut.cc: one that several machines have in common. `done`, which ends it.
    env::Callback<api::Json> meet(const api::CommonCutArgs& args, const Shared& protection,
                                  core::CheckpointRequest& request, env::Callback<api::Json> done);
    static void leave(Protection& protection, const Error& why);
    void cut(const api::CutArgs& args, env::Callback<api::Json> done);
    void verify(const api::VerifyArgs& args, env::Callback<api::Json> done);
    Status prepare_export(const api::CheckpointArgs& args, Protection& protection,
                          core::CheckpointRequest& request);
    // Of an application-consistent point.
    void checkpointed(const std::string& protection, const core::CheckpointResult& result,
                      const ApplicationPoints::Outcome& outcome, env::Callback<api::Json> done);
    void application_failed(const std::string& protection, const Error& error);
    void make_application_points();
    [[nodiscard]] bool application_point_due(const Protection& protection) const;
    void stop(const std::string& protection, env::StatusCallback done);
    // Ends what was taken out of protections_.
    void end(const Shared& protection, env::StatusCallback done);
    void fence(const api::FenceArgs& args, env::Callback<api::Json> done);
    void shutdown(env::Callback<api::Json> done);
    Result<Shared> find(const std::string& id);
    Status save() const;
    Status load();
    [[nodiscard]] api::SourceProtection describe_one(Protection& protection);
    [[nodiscard]] static api::SourceProtection describe_resting(const Protection& protection);

    platform::EventLoop& loop_;
    const Config config_;
    platform::TlsContext tls_;
    platform::LoopClock clock_;
    platform::SystemRandom random_;
    platform::CpuThreads cpus_;
    const SourceSurroundings surroundings_;
    std::shared_ptr<platform::RestartRecord> restarts_;
    std::map<std::string, Shared> protections_;
    std::map<std::string, std::uint64_t> fenced_;  // protection: highest fenced session
    std::optional<Inventory> inventory_;
    bool looking_ = false;
    std::optional<MonoTime> witnessed_;  // when blocks were last chosen; none: they are due
    std::unique_ptr<platform::Worker> exporter_;
    // Attaching waits for a disk's writes, and asking the module for those who attach.
    std::unique_ptr<platform::Worker> attacher_;
    std::unique_ptr<platform::Worker> looker_;
    std::unique_ptr<ApplicationPoints> applications_;
};

}  // namespace ebb::service
