// SPDX-License-Identifier: Apache-2.0
// The master target: checks volumes and disks, runs a core::Target for each protection, routes
// sources to them, and remembers them over restarts. On the event loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/command.h"
#include "core/retention.h"
#include "core/target.h"
#include "format/message.h"
#include "platform/cpu_threads.h"
#include "platform/event_loop.h"
#include "platform/nbd_server.h"
#include "platform/target_checks.h"
#include "platform/tls.h"
#include "platform/worker.h"
#include "service/config.h"
#include "service/replica.h"
#include "service/role.h"

namespace ebb::service {

// What is another one in tests.
struct TargetSurroundings {
    platform::TargetHost host;
    platform::ReplicaMarks marks{};
    // A protection that could not be opened is tried again.
    Duration retry = std::chrono::seconds(5);
};

// What the configuration asks for; every point of the last ten minutes besides, as long as there is
// room: that it is a common one of several machines (Target::mark_common) is known after it closed.
[[nodiscard]] core::RetentionPolicy retention_policy(const TargetSettings& settings);

class TargetRole final : public Role {
public:
    // Takes up again what it was told before, and listens for sources.
    static Result<std::unique_ptr<TargetRole>> start(
        platform::EventLoop& loop, const Config& config,
        std::shared_ptr<const platform::RevokedCertificates> revoked,
        TargetSurroundings surroundings = {});
    ~TargetRole() override;

    [[nodiscard]] bool handles(const std::string& kind) const override;
    void run(const api::Command& command, env::Callback<api::Json> done) override;
    [[nodiscard]] bool fill(api::ExchangeRequest& request) override;
    void drop_connections() override;

private:
    enum class Stage { shut, opening, open, closing };
    // A point that is read, under a name.
    struct Serving {
        api::Point point;
        std::string id;
        std::uint64_t number = 0;  // of the core's; one that was given up is served anew by another
    };
    // In order of construction: the target uses all above it.
    struct Protection {
        api::TargetPrepareArgs args;
        bool known = false;  // prepared before: in the state that is saved
        bool failed_over = false;
        api::Point failed_over_to;
        std::vector<api::Point> points;  // while failed over: to which it can go
        bool leaving = false;            // it is being given up
        Stage stage = Stage::shut;
        std::optional<Error> error;                // why it is shut
        std::vector<env::StatusCallback> waiting;  // for the end of `opening`
        std::map<std::string, Serving> servings;   // by name
        Replica replica;
        std::unique_ptr<core::Target> target;

        [[nodiscard]] bool opened() const { return stage == Stage::open; }
    };
    using Shared = std::shared_ptr<Protection>;

    TargetRole(platform::EventLoop& loop, const Config& config, TargetSurroundings surroundings);
    void unmark(const std::string& id);
    Status listen(std::shared_ptr<const platform::RevokedCertificates> revoked);
    void examine(const api::TargetPrepareArgs& args, env::Callback<api::Json> done);
    void prepare(const api::TargetPrepareArgs& args, env::Callback<api::Json> done);
    // Opens what is shut; several may wait for it.
    void open(const Shared& protection, env::StatusCallback done);
    void run_target(const Shared& protection);
    void opened(const Shared& protection, const Status& status);
    // Those that should be open and are not. `done` when each was tried.
    void open_all(bool damaged_too, std::move_only_function<void()> done);
    void retry_later();
    void close(const Shared& protection, env::StatusCallback done);
    void look(std::move_only_function<void()> done);
    void rescan(env::Callback<api::Json> done);
    void points(const std::string& id, env::Callback<api::Json> done);
    void failover(const api::TargetFailoverArgs& args, env::Callback<api::Json> done);
    void fail_over(const Shared& protection, const api::TargetFailoverArgs& args,
                   env::Callback<api::Json> done);
    void failed_over(const Shared& protection, std::uint64_t session,
                     const core::FailoverResult& result, env::Callback<api::Json> done);
    using JournalUse = std::function<void(core::Target&, env::Callback<api::Json> answer)>;
    // Opens it first. Refused while the machine is failed over.
    void with_journal(const std::string& id, env::Callback<api::Json> done, const JournalUse& use);
    void verify(const std::string& id, env::Callback<api::Json> done);
    void certify(const api::CertifyArgs& args, env::Callback<api::Json> done);
    void name_point(const api::NameArgs& args, env::Callback<api::Json> done);
    void mark_common(const api::CommonArgs& args, env::Callback<api::Json> done);
    void resume(const std::string& id, env::Callback<api::Json> done);
    void give_up(const std::string& id, env::Callback<api::Json> done);
    void erase(const Shared& protection, env::StatusCallback done);
    void given_up(const Shared& protection, Status status, env::Callback<api::Json> done);
    void forget(const api::DiskIdsArgs& args, env::Callback<api::Json> done);
    // target_serving.cc
    void serve(const api::ServeArgs& args, env::Callback<api::Json> done);
    void serve_point(const Shared& protection, const api::ServeArgs& args,
                     env::Callback<api::Json> done);
    void served(const Shared& protection, const std::string& name, const api::Point& point,
                env::Callback<api::Json> done);
    void unserve(const api::UnserveArgs& args, env::Callback<api::Json> done);
    void tell_served(const api::ServedArgs& args, env::Callback<api::Json> done);
    [[nodiscard]] api::ServedPoint describe_serving(const Protection& protection,
                                                    const std::string& name) const;
    void end_servings(const Shared& protection, const std::string& name, const std::string& keep,
                      std::move_only_function<void()> done);
    // Listens from the first serving on.
    Result<platform::NbdServer*> nbd();
    [[nodiscard]] std::string uri_of(const std::string& name) const;
    [[nodiscard]] std::vector<format::NbdExport> nbd_exports() const;
    void nbd_read(const std::string& name, std::uint64_t offset, std::shared_ptr<Buffer> into,
                  env::StatusCallback done);
    void drop_clients(const Protection& protection, const std::string& name);
    void describe_served(const Protection& protection, api::TargetProtection& told) const;
    void route(std::shared_ptr<env::Connection> connection);
    void hand_over(const std::shared_ptr<env::Connection>& connection, env::Frame first);
    [[nodiscard]] Status may_speak(const format::Hello& hello, const std::string& peer) const;
    Result<Shared> find(const std::string& id);
    Status save() const;
    Status load();
    [[nodiscard]] std::vector<std::string> owned_disks() const;
    [[nodiscard]] ReplicaDemand demand(const api::TargetPrepareArgs& args, bool known) const;
    [[nodiscard]] api::TargetProtection describe_one(const Protection& protection) const;

    platform::EventLoop& loop_;
    const Config config_;
    const TargetSurroundings surroundings_;
    platform::LoopClock clock_;
    platform::CpuThreads cpus_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
    const std::shared_ptr<core::ClosingBudget> closing_budget_;  // of all protections
    std::map<std::string, Shared> protections_;
    std::map<std::string, std::uint64_t> fenced_;  // given up: sessions below it stay fenced
    std::optional<TargetInventory> inventory_;
    bool looking_ = false;
    std::vector<std::move_only_function<void()>> look_again_;  // wait for a look that begins later
    std::unique_ptr<platform::TlsAcceptor> acceptor_;
    std::unique_ptr<platform::NbdServer> nbd_;
    // A device that hangs must hold up what is asked of it, and nothing else.
    std::unique_ptr<platform::Worker> opener_;
    std::unique_ptr<platform::Worker> looker_;
};

}  // namespace ebb::service
