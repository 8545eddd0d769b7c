// SPDX-License-Identifier: Apache-2.0
// ebbd: the daemon, in one or several roles.
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <algorithm>
#include <boost/asio/signal_set.hpp>
#include <boost/program_options.hpp>
#include <iostream>

#include "platform/freeze_record.h"
#include "platform/service_manager.h"
#include "platform/write_gate.h"
#include "service/agent.h"
#include "service/controller_role.h"
#include "service/join.h"
#include "service/source_role.h"
#include "service/target_role.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace po = boost::program_options;
using namespace ebb;

namespace {

constexpr int exit_usage = 2;

int complain(const Error& error) {
    std::cerr << "ebbd: " << error.name() << ": " << error.message << "\n";
    if (!error.remedy.empty()) std::cerr << "      " << error.remedy << ".\n";
    return 1;
}

int misused(const std::string& what) {
    std::cerr << "ebbd: " << what << "; see ebbd --help\n";
    return exit_usage;
}

// Replication must not wait for memory that only its own progress can free. Extents of 1 MiB come
// and go all the time: their memory is kept, not given back and faulted in anew for each.
void stay_in_memory() {
    ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
    ::mallopt(M_TRIM_THRESHOLD, 256 << 20);
    ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
    ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

// Before anything else, which may need them.
void thaw_what_was_left() {
    const auto thawed = platform::thaw_recorded(platform::freeze_record_path);
    if (!thawed) return (void)complain(thawed.error());
    for (const auto& point : *thawed)
        std::cerr << "ebbd: " << point << " had been left frozen: it is thawed\n";
}

int serve(const std::string& path) {
    thaw_what_was_left();
    platform::WriteGate::of_this_process().guard_log();
    auto config = service::load_config(path);
    if (!config) return complain(config.error());
    ::signal(SIGPIPE, SIG_IGN);
    stay_in_memory();
    platform::raise_open_files();
    platform::EventLoop loop;
    boost::asio::signal_set signals(loop.context(), SIGTERM, SIGINT);
    signals.async_wait([&loop](const auto&, int) { loop.stop(); });

    std::unique_ptr<service::ControllerRole> controller;
    if (config->has_role("controller")) {
        auto role = service::ControllerRole::start(*config);
        if (!role) return complain(role.error());
        controller = std::move(*role);
    }
    auto revoked = service::load_revoked(*config);
    if (!revoked) return complain(revoked.error());
    std::unique_ptr<service::SourceRole> source;
    std::unique_ptr<service::TargetRole> target;
    std::vector<service::Role*> roles;
    if (config->has_role("source")) {
        auto role = service::SourceRole::start(loop, *config, *revoked);
        if (!role) return complain(role.error());
        source = std::move(*role);
        roles.push_back(source.get());
    }
    if (config->has_role("target")) {
        auto role = service::TargetRole::start(loop, *config, *revoked);
        if (!role) return complain(role.error());
        target = std::move(*role);
        roles.push_back(target.get());
    }
    std::unique_ptr<service::Agent> agent;
    if (!roles.empty()) {
        auto started = service::Agent::start(loop, *config, roles, *revoked);
        if (!started) return complain(started.error());
        agent = std::move(*started);
    }
    std::cerr << "ebbd: " << config->name << " is ready\n";
    platform::notify_ready();
    loop.run();
    agent.reset();
    return 0;
}

po::options_description options() {
    po::options_description all("Options");
    all.add_options()("help", "show this text")("version", "print the version")(
        "config", po::value<std::string>()->default_value("/etc/ebb/ebbd.json"),
        "configuration of the daemon")(
        "folder", po::value<std::string>(),
        "for keys and certificates (ca-init: /etc/ebb/controller; join: /etc/ebb)")(
        "name", po::value<std::string>(),
        "ca-init: the site, or NAME of the authority; join: this machine's name")(
        "controller", po::value<std::string>(), "join: HOST[:PORT] of the controller")(
        "token", po::value<std::string>(), "join: as ebbctl token create gave it")(
        "role", po::value<std::vector<std::string>>()->default_value({"source"}, "source"),
        "join: source or target, repeated for both")(
        "data-host", po::value<std::string>(),
        "join as target: the address by which sources reach it (its name)");
    return all;
}

void help(const po::options_description& all) {
    std::cout
        << "Usage: ebbd [--config FILE]\n"
           "       ebbd ca-init --name SITE [--folder DIR]\n"
           "       ebbd join --controller HOST[:PORT] --token TOKEN --name NAME [--role ROLE]\n"
           "                 [--data-host HOST] [--folder DIR]\n"
           "\nWithout a command it serves in the roles that its configuration names.\n\n"
           "Commands:\n"
           "  ca-init  make the authority and the controller's certificate\n"
           "  join     get this machine's certificate from the controller\n\n"
        << all;
}

int run(const po::variables_map& values, const std::string& command) {
    const auto text = [&](const char* name) {
        return values.contains(name) ? values[name].as<std::string>() : std::string{};
    };
    if (command.empty()) return serve(text("config"));
    Status status;
    std::string done;
    if (command == "ca-init") {
        if (text("name").empty()) return misused("ca-init needs --name");
        const auto folder = text("folder").empty() ? "/etc/ebb/controller" : text("folder");
        status = service::make_site(folder, text("name"), "controller");
        done = "The authority is made in " + folder +
               ". Keep a copy of ca.key and ca.pem where only " +
               "you can read it.\nStart the controller: systemctl enable --now ebbd-controller";
    } else if (command == "join") {
        service::JoinOptions join{text("folder").empty() ? "/etc/ebb" : text("folder"),
                                  text("controller"),
                                  text("token"),
                                  text("name"),
                                  values["role"].as<std::vector<std::string>>(),
                                  text("data-host")};
        if (join.controller.empty() || join.token.empty() || join.name.empty())
            return misused("join needs --controller, --token and --name");
        status = service::join_site(join);
        const bool source = std::ranges::find(join.roles, "source") != join.roles.end();
        done = join.name + " has joined. Start its daemon: systemctl enable --now ebbd-" +
               (source ? "source" : "target");
    } else {
        return misused("there is no command " + command);
    }
    if (!status) return complain(status.error());
    std::cout << done << "\n";
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const auto visible = options();
    po::options_description all;
    all.add(visible).add_options()("command", po::value<std::string>());
    po::positional_options_description positions;
    positions.add("command", 1);
    po::variables_map values;
    try {
        po::store(po::command_line_parser(argc, argv).options(all).positional(positions).run(),
                  values);
        po::notify(values);
    } catch (const po::error& error) {
        return misused(error.what());
    }
    if (values.contains("help")) {
        help(visible);
        return 0;
    }
    if (values.contains("version")) {
        std::cout << "ebbd " EBB_VERSION "\n";
        return 0;
    }
    return run(values,
               values.contains("command") ? values["command"].as<std::string>() : std::string{});
}
