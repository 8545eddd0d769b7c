// SPDX-License-Identifier: Apache-2.0
// ebbctl: the operator's command.
#include <algorithm>
#include <boost/program_options.hpp>
#include <cmath>
#include <functional>
#include <iostream>

#include "api/operator.h"
#include "ctl/bisect.h"
#include "ctl/certificate.h"
#include "ctl/report.h"
#include "ctl/show.h"
#include "ctl/watch.h"

namespace po = boost::program_options;
using namespace ebb;
using api::Json;

namespace {

struct Context {
    std::string socket;
    ctl::Report report{false};
    bool wait = false;
    std::vector<std::string> command;  // what stands behind --
    po::variables_map values;

    [[nodiscard]] std::string text(const char* name) const {
        return values.contains(name) ? values[name].as<std::string>() : std::string{};
    }
    [[nodiscard]] bool flag(const char* name) const { return values.contains(name); }
    [[nodiscard]] std::vector<std::string> words(const char* name) const {
        if (!flag(name)) return {};
        return values[name].as<std::vector<std::string>>();
    }
    [[nodiscard]] std::uint64_t job() const { return values["job"].as<std::uint64_t>(); }
};

struct Command {
    const char* what;
    const char* argument;  // name of the positional one; empty: none
    std::function<void(po::options_description&)> options;
    std::function<int(const Context&)> run;
};

// The command line is wrong in a way that only the command knows.
struct Misuse {
    std::string what;
};

int begin(const Context& context, const std::string& path, const Json& args) {
    auto job = ctl::call(context.socket, path, args);
    if (!job) return context.report.refused(job.error());
    if (args.value("dry_run", false)) return context.report.dry_run(*job);
    const auto id = job->value("id", std::uint64_t{0});
    if (context.wait) return ctl::watch(context.socket, id, context.report);
    return context.report.value(*job, "job " + std::to_string(id) + "\n");
}

int events(const Context& context) {
    auto list = ctl::call(context.socket, "/v1/events", Json::object());
    if (!list) return context.report.refused(list.error());
    return context.report.value(*list, ctl::show_events(*list));
}

std::function<int(const Context&)> listing(std::string (*show)(const Json&)) {
    return [show](const Context& context) {
        auto state = ctl::call(context.socket, "/v1/state", Json::object());
        if (!state) return context.report.refused(state.error());
        return context.report.value(*state, show(*state));
    };
}

std::uint64_t milliseconds_of(double seconds, double least, const char* misuse) {
    constexpr double limit = static_cast<double>(api::max_interval_ms) / 1000;
    if (std::isfinite(seconds) && (seconds == 0 || (seconds >= least && seconds <= limit)))
        return static_cast<std::uint64_t>(std::llround(seconds * 1000));
    throw Misuse{misuse};
}

std::uint64_t interval_ms(double seconds) {
    return milliseconds_of(seconds, 0.1,
                           "an interval is 0.1 to 86400 seconds, or 0 for cuts on demand only");
}

std::uint64_t app_interval_ms(double seconds) {
    return milliseconds_of(
        seconds, static_cast<double>(api::min_app_interval_ms) / 1000,
        "application-consistent points are 60 to 86400 seconds apart, or 0: on demand only");
}

std::uint64_t rpo_seconds(std::uint64_t seconds) {
    if (seconds >= 1 && seconds <= api::max_rpo_s) return seconds;
    throw Misuse{"the age of the newest point is limited to 1 to 604800 seconds"};
}

void no_options(po::options_description& /*options*/) {}

void dry(po::options_description& options) {
    options.add_options()("dry-run", "say what stands against it, all at once, and do nothing");
}

Json protect_args(const Context& context) {
    Json args{{"machine", context.text("machine")},
              {"target", context.text("target")},
              {"overwrite", context.flag("overwrite")},
              {"dry_run", context.flag("dry-run")},
              {"exclude", context.words("exclude")},
              {"disks", Json::array()},
              {"interval_ms", interval_ms(context.values["interval"].as<double>())},
              {"app_interval_ms", app_interval_ms(context.values["app-interval"].as<double>())},
              {"rpo_s", rpo_seconds(context.values["rpo"].as<std::uint64_t>())}};
    for (const auto& [option, key] : {std::pair("retention", "retention"),
                                      {"cloud-vm", "cloud_vm"},
                                      {"home-vm", "home_vm"},
                                      {"target-vm", "target_vm"},
                                      {"test-vm", "test_vm"}}) {
        if (context.flag(option)) args[key] = context.text(option);
    }
    for (const auto& pair : context.words("disk")) {
        const auto equal = pair.find('=');
        if (equal == std::string::npos) throw Misuse{"--disk " + pair + " is not SOURCE=TARGET"};
        args["disks"].push_back(
            {{"source_id", pair.substr(0, equal)}, {"target_id", pair.substr(equal + 1)}});
    }
    return args;
}

int protect(const Context& context) {
    return begin(context, "/v1/protect", protect_args(context));
}

int reprotect(const Context& context) {
    return begin(context, "/v1/reprotect", protect_args(context));
}

void protect_options(po::options_description& options) {
    dry(options);
    options.add_options()("target", po::value<std::string>()->required(), "master target")(
        "retention", po::value<std::string>(), "retention volume (the target's default)")(
        "interval", po::value<double>()->default_value(5, "5"),
        "seconds between cuts; 0: on demand only")(
        "app-interval", po::value<double>()->default_value(3600, "3600"),
        "seconds between application-consistent points; 0: on demand only")(
        "rpo", po::value<std::uint64_t>()->default_value(api::default_rpo_s),
        "seconds: a newest point that is older is a warning")(
        "disk", po::value<std::vector<std::string>>(),
        "SOURCE=TARGET ids of a pair, repeated (others are chosen by size)")(
        "exclude", po::value<std::vector<std::string>>(),
        "id or name of a source disk to leave out, repeated")(
        "overwrite", "write over data that Ebb did not put on the target's disks")(
        "cloud-vm", po::value<std::string>(), "the source machine's name at the hypervisor")(
        "home-vm", po::value<std::string>(), "the on-premises machine's name at the hypervisor")(
        "target-vm", po::value<std::string>(), "the master target's name at the hypervisor")(
        "test-vm", po::value<std::string>(), "the name of the machine for test failovers");
}

std::function<int(const Context&)> machine_job(const char* path, const char* force = nullptr) {
    return [path, force](const Context& context) {
        return begin(context, path,
                     {{"machine", context.text("machine")},
                      {"unreachable", force != nullptr && context.flag(force)},
                      {"point", context.text("point")},
                      {"dry_run", context.flag("dry-run")}});
    };
}

void point_option(po::options_description& options) {
    options.add_options()("point", po::value<std::string>(),
                          "latest, latest-app, a name, the number of an epoch, or a time such as "
                          "\"2026-11-21 09:30:00Z\" (the newest cut not after it)");
}

int serve_point(const Context& context) {
    Json args{{"machine", context.text("machine")},
              {"point", context.text("point")},
              {"dry_run", context.flag("dry-run")}};
    if (context.flag("name")) args["name"] = context.text("name");
    if (context.flag("dry-run")) return begin(context, "/v1/serve-point", args);
    auto job = ctl::run_job(context.socket, "/v1/serve-point", args);
    if (!job) return context.report.refused(job.error());
    if (job->value("state", "") != "done") return context.report.job(*job);
    std::string uris;
    for (const auto& one : (*job)["value"].value("exports", Json::array()))
        uris += api::text(one, "uri") + "\n";
    return context.report.value(*job, uris);
}

int unserve_point(const Context& context) {
    const Json args{{"machine", context.text("machine")},
                    {"name", context.text("name")},
                    {"dry_run", context.flag("dry-run")}};
    if (context.flag("dry-run")) return begin(context, "/v1/unserve-point", args);
    auto job = ctl::run_job(context.socket, "/v1/unserve-point", args);
    if (!job) return context.report.refused(job.error());
    return context.report.job(*job);
}

// The job's end is waited for: what it does is done at once.
int name_point(const Context& context, const std::string& path, Json args) {
    args.update({{"machine", context.text("machine")},
                 {"point", context.text("point")},
                 {"dry_run", context.flag("dry-run")}});
    if (context.flag("dry-run")) return begin(context, path, args);
    auto job = ctl::run_job(context.socket, path, args);
    if (!job) return context.report.refused(job.error());
    return context.report.job(*job);
}

int pin_point(const Context& context) {
    if (!context.flag("point") || !context.flag("name"))
        throw Misuse{"point pin needs a machine, a point and a name for it"};
    return name_point(context, "/v1/pin-point", {{"name", context.text("name")}});
}

int unpin_point(const Context& context) {
    if (!context.flag("point")) throw Misuse{"point unpin needs a machine and a point"};
    return name_point(context, "/v1/unpin-point", Json::object());
}

int bisect(const Context& context) {
    if (context.command.empty()) throw Misuse{"point bisect needs a command behind --"};
    return ctl::bisect(context.socket, context.text("machine"), context.command, context.report);
}

// Of a command that is for one machine, or for all of a group.
bool for_group(const Context& context) {
    if (context.flag("group") && context.flag("machine"))
        throw Misuse{"it is for a machine, or for a --group, not for both"};
    return context.flag("group");
}

int group_checkpoint(const Context& context) {
    if (context.flag("export")) throw Misuse{"--export is for one machine"};
    return begin(context, "/v1/group-checkpoint",
                 {{"group", context.text("group")},
                  {"dry_run", context.flag("dry-run")},
                  {"name", context.text("name")},
                  {"app", context.flag("app")}});
}

// A job for each machine.
int group_move(const Context& context, const char* path, Json args) {
    args.update({{"group", context.text("group")}, {"dry_run", context.flag("dry-run")}});
    if (context.flag("point")) args["point"] = context.text("point");
    auto begun = ctl::call(context.socket, path, args);
    if (!begun) return context.report.refused(begun.error());
    if (context.flag("dry-run")) return context.report.dry_run(*begun);
    const auto jobs = begun->value("jobs", Json::array());
    if (context.wait) return ctl::watch_all(context.socket, jobs, context.report);
    std::string text;
    for (const auto& job : jobs) {
        text += "job " + std::to_string(job.value("id", std::uint64_t{0})) + ": " +
                api::text(job, "machine") + "\n";
    }
    return context.report.value(*begun, text);
}

int failover(const Context& context) {
    if (for_group(context))
        return group_move(context, "/v1/group-failover",
                          {{"unreachable", context.flag("source-unreachable")}});
    return machine_job("/v1/failover", "source-unreachable")(context);
}

int change_point(const Context& context) {
    if (!context.flag("point")) throw Misuse{"change-point needs --point"};
    if (for_group(context)) return group_move(context, "/v1/group-change-point", Json::object());
    return machine_job("/v1/change-point")(context);
}

int rollback(const Context& context) {
    if (for_group(context)) return group_move(context, "/v1/group-rollback", Json::object());
    return machine_job("/v1/rollback")(context);
}

int test_failover(const Context& context) {
    const Json clean{{"clean", context.flag("clean")}};
    if (for_group(context)) return group_move(context, "/v1/group-test-failover", clean);
    return begin(context, "/v1/test-failover",
                 {{"machine", context.text("machine")},
                  {"point", context.text("point")},
                  {"clean", context.flag("clean")},
                  {"dry_run", context.flag("dry-run")}});
}

int checkpoint(const Context& context) {
    if (for_group(context)) return group_checkpoint(context);
    return begin(context, "/v1/checkpoint",
                 {{"machine", context.text("machine")},
                  {"dry_run", context.flag("dry-run")},
                  {"name", context.text("name")},
                  {"app", context.flag("app")},
                  {"export", context.text("export")}});
}

int resync(const Context& context) {
    const bool compare = context.flag("checksum");
    if (compare == context.flag("full")) throw Misuse{"resync needs either --checksum or --full"};
    return begin(context, "/v1/resync",
                 {{"machine", context.text("machine")},
                  {"compare", compare},
                  {"dry_run", context.flag("dry-run")}});
}

int verify(const Context& context) {
    if (context.flag("at") && (context.flag("repair") || context.flag("rate")))
        throw Misuse{"verify --at takes neither --repair nor --rate"};
    return begin(
        context, "/v1/verify",
        {{"machine", context.text("machine")},
         {"point", context.text("at")},
         {"repair", context.flag("repair")},
         {"mib_per_s", context.flag("rate") ? context.values["rate"].as<std::uint64_t>() : 0},
         {"dry_run", context.flag("dry-run")}});
}

int interval(const Context& context) {
    Json args{{"machine", context.text("machine")},
              {"interval_ms", interval_ms(context.values["seconds"].as<double>())}};
    if (context.flag("app-interval"))
        args["app_interval_ms"] = app_interval_ms(context.values["app-interval"].as<double>());
    if (context.flag("rpo")) args["rpo_s"] = rpo_seconds(context.values["rpo"].as<std::uint64_t>());
    auto done = ctl::call(context.socket, "/v1/interval", args);
    if (!done) return context.report.refused(done.error());
    return context.report.value(*done, "");
}

int points(const Context& context) {
    auto list = ctl::call(context.socket, "/v1/points", {{"machine", context.text("machine")}});
    if (!list) return context.report.refused(list.error());
    return context.report.value(*list, ctl::show_points(*list));
}

std::uint64_t group_interval_ms(double seconds) {
    return milliseconds_of(seconds, static_cast<double>(api::min_group_interval_ms) / 1000,
                           "common cuts are 1 to 86400 seconds apart, or 0: on demand only");
}

int group_set(const Context& context) {
    Json args{{"group", context.text("group")},
              {"machines", context.words("machine")},
              {"dry_run", context.flag("dry-run")}};
    if (context.flag("interval"))
        args["interval_ms"] = group_interval_ms(context.values["interval"].as<double>());
    if (context.flag("app-interval"))
        args["app_interval_ms"] = app_interval_ms(context.values["app-interval"].as<double>());
    if (context.flag("gate")) args["gate_ms"] = context.values["gate"].as<std::uint64_t>();
    if (context.flag("rpo")) args["rpo_s"] = rpo_seconds(context.values["rpo"].as<std::uint64_t>());
    auto group = ctl::call(context.socket, "/v1/group-set", args);
    if (!group) return context.report.refused(group.error());
    if (context.flag("dry-run")) return context.report.dry_run(*group);
    return context.report.value(*group, "");
}

int group_delete(const Context& context) {
    auto done = ctl::call(context.socket, "/v1/group-delete",
                          {{"group", context.text("group")}, {"dry_run", context.flag("dry-run")}});
    if (!done) return context.report.refused(done.error());
    if (context.flag("dry-run")) return context.report.dry_run(*done);
    return context.report.value(*done, "");
}

int group_points(const Context& context) {
    auto list = ctl::call(context.socket, "/v1/group-points", {{"group", context.text("group")}});
    if (!list) return context.report.refused(list.error());
    return context.report.value(*list, ctl::show_group_points(*list));
}

void group_option(po::options_description& options) {
    options.add_options()("group", po::value<std::string>(),
                          "instead of a machine: all of that replication group");
}

void group_set_options(po::options_description& options) {
    dry(options);
    options.add_options()("machine", po::value<std::vector<std::string>>(),
                          "one of its machines, repeated for each (as they are)")(
        "interval", po::value<double>(), "seconds between common cuts (300); 0: on demand only")(
        "app-interval", po::value<double>(),
        "seconds between application-consistent ones (3300); 0: on demand only")(
        "gate", po::value<std::uint64_t>(), "milliseconds for which writes are held at most (500)")(
        "rpo", po::value<std::uint64_t>(),
        "seconds: a newest point in common that is older is a warning (900)");
}

int certify(const Context& context) {
    if (context.flag("check"))
        return ctl::check_certificate(context.socket, context.text("check"), context.report);
    if (!context.flag("machine") || !context.flag("out"))
        throw Misuse{"point certify needs a machine and --out FILE, or --check FILE"};
    const Json args{{"machine", context.text("machine")},
                    {"point", context.text("point")},
                    {"whole", context.flag("whole")},
                    {"dry_run", context.flag("dry-run")}};
    auto job = ctl::call(context.socket, "/v1/certify", args);
    if (!job) return context.report.refused(job.error());
    if (context.flag("dry-run")) return context.report.dry_run(*job);
    return ctl::take_certificate(context.socket, job->value("id", std::uint64_t{0}),
                                 context.text("out"), context.report);
}

int cancel(const Context& context) {
    const auto id = context.job();
    auto job = ctl::call(context.socket, "/v1/cancel", {{"id", id}});
    if (!job) return context.report.refused(job.error());
    if (context.wait) return ctl::watch(context.socket, id, context.report);
    return context.report.value(*job, "job " + std::to_string(id) + " is told to end\n");
}

int token(const Context& context) {
    auto made = ctl::call(context.socket, "/v1/token",
                          {{"machine", context.text("machine")}, {"site", context.text("site")}});
    if (!made) return context.report.refused(made.error());
    return context.report.value(*made, made->value("token", "") + "\n");
}

int revoke(const Context& context) {
    auto done = ctl::call(context.socket, "/v1/revoke", {{"machine", context.text("machine")}});
    if (!done) return context.report.refused(done.error());
    std::string text = "The certificate of " + context.text("machine") +
                       " is revoked. It can join again with a new token.\n";
    for (const auto& machine : done->value("protections", std::vector<std::string>{})) {
        text += "The protection of " + machine + " is not ended by this: ebbctl disable " +
                machine + " --unreachable\n";
    }
    return context.report.value(*done, text);
}

const std::vector<std::pair<std::string, Command>>& commands() {
    static const std::vector<std::pair<std::string, Command>> all{
        {"machines", {"machines that have joined", "", no_options, listing(ctl::show_machines)}},
        {"disks",
         {"disks of all machines, and why some are refused", "", no_options,
          listing(ctl::show_disks)}},
        {"targets", {"master targets", "", no_options, listing(ctl::show_targets)}},
        {"retention verify",
         {"read the journal of a machine, and prove that nothing is missing or changed", "machine",
          dry, machine_job("/v1/verify-retention")}},
        {"retention",
         {"retention volumes, and why some are refused", "", no_options,
          listing(ctl::show_retention)}},
        {"point list", {"recovery points of a machine", "machine", no_options, points}},
        {"point pin",
         {"give a point a name, by which it is kept", "machine",
          [](auto& o) {
              dry(o);
              point_option(o);
              o.add_options()("name", po::value<std::string>(), "of the point, from now on");
          },
          pin_point}},
        {"point unpin",
         {"take a point's name off: it is given up as others are", "machine",
          [](auto& o) {
              dry(o);
              point_option(o);
          },
          unpin_point}},
        {"point serve",
         {"let a point be read as NBD exports, while replication goes on", "machine",
          [](auto& o) {
              dry(o);
              point_option(o);
              o.add_options()("name", po::value<std::string>(),
                              "by which it is ended (point); one that bears it makes room");
          },
          serve_point}},
        {"point unserve",
         {"end what point serve has begun", "machine",
          [](auto& o) {
              dry(o);
              o.add_options()("name", po::value<std::string>(), "of what is ended (all)");
          },
          unserve_point}},
        {"point bisect",
         {"find the last good point: -- COMMAND says of each whether it is (0: good, 125: cannot "
          "tell, 1 to 127: bad)",
          "machine", no_options, bisect}},
        {"group list", {"replication groups", "", no_options, listing(ctl::show_groups)}},
        {"group set",
         {"make a replication group, whose machines have points in common, or change one", "group",
          group_set_options, group_set}},
        {"group delete",
         {"end a replication group; its machines go on by themselves", "group", dry, group_delete}},
        {"group points",
         {"recovery points that all machines of a group have", "group", no_options, group_points}},
        {"test-failover",
         {"start a machine on a point, without touching replica or replication", "machine",
          [](auto& o) {
              dry(o);
              group_option(o);
              point_option(o);
              o.add_options()("clean", "take away what is there of it");
          },
          test_failover}},
        {"point certify",
         {"a signed statement of what was checked of a point", "",
          [](auto& o) {
              dry(o);
              point_option(o);
              o.add_options()("machine", po::value<std::string>(), "its name")(
                  "out", po::value<std::string>(), "file to write")(
                  "whole", "also what the points before it have sent")(
                  "check", po::value<std::string>(), "only check such a file");
          },
          certify}},
        {"events", {"what went wrong, and when it was over", "", no_options, events}},
        {"jobs", {"jobs", "", no_options, listing(ctl::show_jobs)}},
        {"job watch",
         {"follow a job to its end", "job", no_options,
          [](const Context& c) { return ctl::watch(c.socket, c.job(), c.report); }}},
        {"protect", {"begin to replicate a machine", "machine", protect_options, protect}},
        {"reprotect",
         {"as protect, for a machine that was failed over", "machine", protect_options, reprotect}},
        {"interval",
         {"change the time between cuts", "machine",
          [](auto& o) {
              o.add_options()("seconds", po::value<double>()->required(), "0: on demand only")(
                  "app-interval", po::value<double>(),
                  "seconds between application-consistent points; 0: on demand only")(
                  "rpo", po::value<std::uint64_t>(),
                  "seconds: a newest point that is older is a warning");
          },
          interval}},
        {"checkpoint",
         {"make a recovery point now", "machine",
          [](auto& o) {
              dry(o);
              group_option(o);
              o.add_options()("name", po::value<std::string>(), "name of the point")(
                  "app", "application-consistent: scripts are called, filesystems stand still")(
                  "export", po::value<std::string>(),
                  "also copy the disks as of this cut into that folder of the source");
          },
          checkpoint}},
        {"failover",
         {"bring the machine up on the other side, from the newest point or another", "machine",
          [](auto& o) {
              dry(o);
              group_option(o);
              point_option(o);
              o.add_options()("source-unreachable",
                              "do not shut the source down: it cannot be reached");
          },
          failover}},
        {"change-point",
         {"take a machine that was failed over to another point; what it wrote since is dropped",
          "machine",
          [](auto& o) {
              dry(o);
              group_option(o);
              point_option(o);
          },
          change_point}},
        {"rollback",
         {"before the commit: back to replication; what the machine wrote since is dropped",
          "machine",
          [](auto& o) {
              dry(o);
              group_option(o);
          },
          rollback}},
        {"commit", {"keep what was failed over", "machine", dry, machine_job("/v1/commit")}},
        {"resync",
         {"go over everything", "machine",
          [](auto& o) {
              dry(o);
              o.add_options()("checksum", "compare both sides, and send what differs")(
                  "full", "send every block, without comparing");
          },
          resync}},
        {"verify",
         {"compare source and replica while both go on", "machine",
          [](auto& o) {
              dry(o);
              o.add_options()("at", po::value<std::string>(),
                              "compare this point with the digests of what was sent")(
                  "repair", "send what differs again")("rate", po::value<std::uint64_t>(),
                                                       "MiB/s to read at most");
          },
          verify}},
        {"disable",
         {"end the protection of a machine", "machine",
          [](auto& o) {
              dry(o);
              o.add_options()("unreachable",
                              "even if an agent cannot be reached; what it holds is left there");
          },
          machine_job("/v1/disable", "unreachable")}},
        {"cancel", {"cancel a job", "job", no_options, cancel}},
        {"revoke",
         {"let a machine in no more, by the certificate it has now", "machine", no_options,
          revoke}},
        {"token create",
         {"make a one-time token for a machine that is to join", "",
          [](auto& o) {
              o.add_options()("machine", po::value<std::string>()->required(), "its name")(
                  "site", po::value<std::string>()->required(), "its site");
          },
          token}},
    };
    return all;
}

po::options_description common() {
    po::options_description options("Options");
    options.add_options()("help", "show this text")("version", "print the version")(
        "socket", po::value<std::string>()->default_value("/run/ebb/controller.sock"),
        "of the controller")("json", "print JSON")("wait", "wait for the job's end");
    return options;
}

int help() {
    std::cout << "Usage: ebbctl [OPTIONS] [COMMAND [ARGUMENTS]]\n\nWithout a command it shows the "
                 "state of all protections.\n\nCommands:\n";
    for (const auto& [name, command] : commands())
        std::cout << "  " << name << std::string(name.size() < 14 ? 14 - name.size() : 1, ' ')
                  << "  " << command.what << "\n";
    std::cout << "\n" << common();
    return 0;
}

// The command's name takes one word or two; what is left are its arguments.
const std::pair<std::string, Command>* find(std::vector<std::string>& words) {
    for (const auto& entry : commands()) {
        const auto space = entry.first.find(' ');
        const auto count = space == std::string::npos ? 1U : 2U;
        if (words.size() < count) continue;
        const auto name = count == 1 ? words[0] : words[0] + " " + words[1];
        if (name != entry.first) continue;
        words.erase(words.begin(), words.begin() + count);
        return &entry;
    }
    return nullptr;
}

// Options that stand before the command, taken out.
std::vector<std::string> options_first(std::vector<std::string>& words) {
    std::vector<std::string> before;
    while (!words.empty() && words.front().starts_with("-")) {
        const bool takes = words.front() == "--socket";
        for (int i = 0; i < (takes ? 2 : 1) && !words.empty(); ++i) {
            before.push_back(words.front());
            words.erase(words.begin());
        }
    }
    return before;
}

void add_argument(const std::pair<std::string, Command>& entry, po::options_description& options,
                  po::positional_options_description& positions) {
    const std::string argument = entry.second.argument;
    if (argument == "job")
        options.add_options()("job", po::value<std::uint64_t>(), "its number");
    else if (argument == "group")
        options.add_options()("group", po::value<std::string>(), "its name");
    else if (!argument.empty())
        options.add_options()("machine", po::value<std::string>(), "its name");
    if (!argument.empty()) positions.add(argument.c_str(), 1);
    if (entry.first == "interval") positions.add("seconds", 1);
    if (entry.first == "point certify") positions.add("machine", 1);
    if (entry.first == "point pin") positions.add("point", 1).add("name", 1);
    if (entry.first == "point unpin") positions.add("point", 1);
}

int help(const std::pair<std::string, Command>& entry, const po::options_description& options) {
    std::cout << "Usage: ebbctl " << entry.first << " " << entry.second.argument << " [OPTIONS]\n\n"
              << entry.second.what << "\n\n"
              << options;
    return 0;
}

int run(std::vector<std::string> words, const ctl::Report& report) {
    const auto before = options_first(words);
    const auto* entry = words.empty() ? nullptr : find(words);
    Context context;
    if (entry != nullptr && entry->first == "point bisect") {
        const auto bar = std::ranges::find(words, "--");
        if (bar != words.end()) context.command.assign(bar + 1, words.end());
        words.erase(bar, words.end());
    }
    if (!words.empty() && entry == nullptr)
        return report.misused("there is no command " + words.front());
    // In front: behind, the first of them would be the value of an option that lacks its own.
    words.insert(words.begin(), before.begin(), before.end());
    auto options = common();
    po::positional_options_description positions;
    if (entry != nullptr) {
        entry->second.options(options);
        add_argument(*entry, options, positions);
    }
    context.report = report;
    // No abbreviations: a script's option must not change its meaning when another one is added.
    const int style =
        po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    po::store(
        po::command_line_parser(words).options(options).positional(positions).style(style).run(),
        context.values);
    if (context.flag("help")) return entry == nullptr ? help() : help(*entry, options);
    if (context.flag("version")) {
        std::cout << "ebbctl " EBB_VERSION "\n";
        return 0;
    }
    po::notify(context.values);
    context.socket = context.text("socket");
    context.wait = context.flag("wait");
    if (entry == nullptr) return listing(ctl::show_state)(context);
    const char* argument = entry->second.argument;
    if (*argument != '\0' && !context.flag(argument) && !context.flag("group"))
        return report.misused(entry->first + " needs a " + argument);
    return entry->second.run(context);
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    // Known before anything else is: errors of the command line are told in JSON too.
    const auto own_end = std::ranges::find(words, "--");
    const ctl::Report report(std::find(words.begin(), own_end, "--json") != own_end);
    try {
        return run(words, report);
    } catch (const po::error& error) {
        return report.misused(error.what());
    } catch (const Misuse& misuse) {
        return report.misused(misuse.what);
    }
}
