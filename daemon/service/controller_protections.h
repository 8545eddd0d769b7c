// SPDX-License-Identifier: Apache-2.0
// The controller's operations on protections: what stands against each, and the steps of its job.
// Every step can be taken again, so that a job goes on, or is run again, after the controller died
// in the middle of it. Any thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/command.h"
#include "api/operator.h"
#include "platform/pki.h"
#include "provider/provider.h"
#include "service/controller_agents.h"
#include "service/controller_jobs.h"
#include "service/controller_store.h"

namespace ebb::service {

// What an operation comes to: a document, or every reason against it at once.
struct Outcome {
    api::Json value = api::Json::object();
    std::vector<Error> reasons;

    Outcome() = default;
    Outcome(api::Json json) : value(std::move(json)) {}
    Outcome(Error error) : reasons{std::move(error)} {}
    Outcome(Result<api::Json> result) {
        if (result)
            value = std::move(*result);
        else
            reasons.push_back(std::move(result.error()));
    }
};

// E_NO_PROVIDER.
[[nodiscard]] Error no_provider();

class ControllerProtections {
public:
    // `provider`: null if no hypervisor is configured.
    ControllerProtections(ControllerStore& store, ControllerAgents& agents, ControllerJobs& jobs,
                          provider::Provider* provider, platform::KeyAndCertificate authority);

    // `again`: reprotect, for a machine that was failed over, by Ebb or without it.
    Outcome protect(const api::ProtectCall& call, bool again);
    Outcome checkpoint(const api::CheckpointCall& call);
    Outcome failover(const api::MachineCall& call);
    // To another point, before the commit: what the machine wrote since the failover is dropped.
    Outcome change_point(const api::MachineCall& call);
    // Back to replication, before the commit: likewise; the source is started again and compared.
    Outcome rollback(const api::MachineCall& call);
    Outcome commit(const api::MachineCall& call);
    Outcome resync(const api::ResyncCall& call);
    Outcome disable(const api::MachineCall& call);
    Outcome interval(const api::IntervalCall& call);
    Outcome points(const api::MachineCall& call);
    // Beside everything else: source and replica are compared.
    Outcome verify(const api::VerifyCall& call);
    // A signed statement of what was checked of a point, in the job's document.
    Outcome certify(const api::CertifyCall& call);
    Outcome check_certificate(const api::CheckCertificateCall& call) const;
    // A job of the target's name: it keeps nobody from failing over meanwhile.
    Outcome verify_retention(const api::MachineCall& call);
    // A point to be read while replication goes on; a machine on overlays above it.
    Outcome serve_point(const api::ServeCall& call);
    // Asks the target, whose reports are of a moment ago. E_POINT_NOT_SERVED.
    Outcome served_point(const api::ServedCall& call);
    Outcome unserve_point(const api::UnserveCall& call);
    Outcome test_failover(const api::TestFailoverCall& call);
    // A point is kept by a name, until that is taken off. Beside everything else.
    Outcome pin_point(const api::PinCall& call);
    Outcome unpin_point(const api::UnpinCall& call);
    // For what is done with several machines at once. E_MACHINE_NOT_FOUND, E_NOT_PROTECTED.
    Result<api::Json> protection_of(const std::string& machine);
    std::vector<Error> against_failover(const api::Json& protection, bool unreachable);
    // A point by its number, or in the operator's words, which may mean a name.
    struct Wanted {
        std::string words;
        std::uint64_t epoch = 0;  // 0: by words
    };
    // Begins it, unless another job is at work. `more`: further members of the job's document.
    Outcome begin_failover(const api::Json& protection, bool unreachable, const Wanted& wanted,
                           const api::Json& more);
    // The same of a machine that was failed over, and of a test.
    std::vector<Error> against_change(const api::Json& protection);
    Outcome begin_change(const api::Json& protection, std::uint64_t epoch, const api::Json& more);
    std::vector<Error> against_rollback(const api::Json& protection);
    Outcome begin_rollback(const api::Json& protection, const api::Json& more);
    std::vector<Error> against_test(const api::Json& protection);
    Outcome begin_test(const api::Json& protection, std::uint64_t epoch, const api::Json& more);
    std::vector<Error> against_clean(const api::Json& protection);
    Outcome begin_clean(const api::Json& protection, const api::Json& more);
    // Goes on with what the last run of the controller had begun, or says that it was interrupted.
    Status take_up(std::vector<api::Json> jobs);

private:
    using Job = ControllerJobs::Job;
    struct Plan;

    // controller_protections.cc
    Plan plan(const api::ProtectCall& call);
    void plan_disks(const api::ProtectCall& call, const api::SourceStatus& source,
                    const api::TargetStatus& target, Plan& plan);
    void check_at_target(Plan& plan);
    void check_joined(const std::string& machine, const std::optional<AgentView>& view,
                      std::vector<Error>& reasons);
    Status protect_steps(Job& job, const api::Json& protection, bool anew);
    Status resync_steps(Job& job, const api::Json& protection);
    Status begin_at_agents(Job& job, const api::Json& protection, bool anew);
    Status wait_until_synced(Job& job, const api::Json& protection);
    Status undo_protect(Job& job, const api::Json& protection, Error why);
    Status disable_steps(Job& job, const api::Json& protection, bool force);
    Status wait_for_agent(Job& job, const std::string& name);
    Result<api::Json> call(Job& job, const std::string& machine, const char* kind, api::Json args,
                           std::chrono::milliseconds patience);

    // controller_verify.cc
    Status verify_steps(Job& job, const api::Json& protection, const api::Json& wanted);
    Status verified(Job& job, const api::Json& protection, const api::ReplicaValue& value);
    Status verify_retention_steps(Job& job, const api::Json& protection);
    // Puts into the document what `fields` makes of it as it is then, and forgets points that the
    // target has not any more.
    using Fields = std::function<api::Json(const api::Json&)>;
    Status note(Job& job, const api::Json& protection, const Fields& fields);
    void note_unread(Job& job, const api::Json& protection, const Error& error, bool certifying);
    std::optional<std::vector<api::Point>> points_there(Job& job, const api::Json& protection);

    // controller_certify.cc
    Status certify_steps(Job& job, const api::Json& protection, const api::CertifyCall& wanted);
    // E_REPLICA_DIFFERS, with what was found in the job's document.
    Result<api::CertifyValue> read_back(Job& job, const api::Json& protection, std::uint64_t epoch,
                                        bool whole);
    Outcome verify_point(const api::VerifyCall& call, const api::Json& protection);
    api::Json statement(const api::Json& protection, const api::CertifyValue& found);

    // controller_failover.cc
    Status failover_steps(Job& job, const api::Json& protection, bool unreachable,
                          const Wanted& wanted);
    Status change_steps(Job& job, const api::Json& protection, std::uint64_t epoch);
    // Whether home machine and target can be told to hand the disks over, either way.
    void check_movable(const api::Json& protection, std::vector<Error>& reasons);
    Status take_disks_back(Job& job, const api::Json& protection);
    // Of the target, now.
    Result<std::vector<api::Point>> points_of(const api::Json& protection);
    Result<api::Point> point_of(const api::Json& protection, const std::string& words);
    Result<api::Point> ask_replica(Job& job, const api::Json& protection, const Wanted& wanted);
    // Has the target put the disks there, and notes it.
    Status go_to_point(Job& job, const api::Json& protection, std::uint64_t session,
                       const std::string& point);
    Status source_off(Job& job, const api::Json& protection, bool unreachable);
    Status give_disks_back(Job& job, const api::Json& protection);
    Status start_home(Job& job, const api::Json& protection);
    Status commit_steps(Job& job, const api::Json& protection);

    // controller_rollback.cc
    Status rollback_steps(Job& job, const api::Json& protection);
    // The home machine is off, and what it has written gone.
    Status leave_home(Job& job, const api::Json& protection);
    Status start_source(Job& job, const api::Json& protection);

    // controller_naming.cc
    // `name` empty: it is taken off.
    Outcome name_point(const std::string& kind, const api::Json& protection,
                       const std::string& words, const std::string& name, bool dry_run);

    // controller_serving.cc
    std::vector<Error> against_serving(const api::Json& protection);
    // `what`: to be done, as a verb.
    std::vector<Error> against_checking(const api::Json& protection, const std::string& what,
                                        bool source = true);
    Result<api::Json> serve(Job& job, const api::Json& protection, const std::string& name,
                            std::uint64_t epoch);
    Status test_steps(Job& job, const api::Json& protection, std::uint64_t epoch);
    Status clean_steps(Job& job, const api::Json& protection);

    Outcome begin(const ControllerJobs::Order& order, const api::Json& protection,
                  ControllerJobs::Steps steps);
    Status set(const api::Json& protection, const api::Json& fields);

    ControllerStore& store_;
    ControllerAgents& agents_;
    ControllerJobs& jobs_;
    provider::Provider* provider_;
    const platform::KeyAndCertificate authority_;  // signs statements
    std::mutex findings_mutex_;  // held from reading what was found to writing what is found now
};

}  // namespace ebb::service
