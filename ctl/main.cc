// SPDX-License-Identifier: Apache-2.0
// ebbctl: the operator's command.
#include <unistd.h>

#include <boost/program_options.hpp>
#include <chrono>
#include <functional>
#include <iostream>
#include <thread>

#include "ctl/connection.h"
#include "ctl/show.h"

namespace po = boost::program_options;
using namespace ebb;
using api::Json;

namespace {

// Exit statuses: docs/man/ebbctl.1.
constexpr int exit_refused = 1;
constexpr int exit_usage = 2;
constexpr int exit_controller = 3;
constexpr int exit_job_failed = 4;

struct Context {
    std::string socket;
    bool json = false;
    bool wait = false;
    po::variables_map values;

    [[nodiscard]] std::string text(const char* name) const {
        return values.contains(name) ? values[name].as<std::string>() : std::string{};
    }
    [[nodiscard]] bool flag(const char* name) const { return values.contains(name); }
};

struct Command {
    const char* what;
    const char* argument;  // name of the positional one; empty: none
    std::function<void(po::options_description&)> options;
    std::function<int(const Context&)> run;
};

int complain(const Context& context, const Error& error) {
    if (context.json) {
        std::cout << api::dump({{"error",
                                 {{"code", error.name()},
                                  {"message", error.message},
                                  {"remedy", error.remedy}}}})
                  << "\n";
    } else {
        std::cerr << "ebbctl: " << error.name() << ": " << error.message << "\n";
        if (!error.remedy.empty()) std::cerr << "        " << error.remedy << ".\n";
    }
    return error.name() == "E_CONTROLLER" ? exit_controller : exit_refused;
}

int print(const Context& context, const Json& value, const std::string& text) {
    if (context.json)
        std::cout << api::dump(value) << "\n";
    else
        std::cout << text;
    return 0;
}

// Follows a job to its end.
int watch(const Context& context, std::uint64_t id) {
    const bool live = !context.json && ::isatty(STDOUT_FILENO) == 1;
    std::string shown;
    for (;;) {
        auto job = ctl::call(context.socket, "/v1/job", {{"id", id}});
        if (!job) return complain(context, job.error());
        const auto state = job->value("state", "");
        const auto line = ctl::show_progress(*job);
        if (!context.json && line != shown) {
            std::cout << (live ? "\r\x1b[K" : "") << line << (live ? "" : "\n") << std::flush;
            shown = line;
        }
        if (state == "running") {
            std::this_thread::sleep_for(std::chrono::milliseconds(300));
            continue;
        }
        if (live) std::cout << "\n";
        if (context.json) std::cout << api::dump(*job) << "\n";
        if (state == "done") return 0;
        if (!context.json && job->contains("error")) {
            const auto& error = (*job)["error"];
            std::cerr << "ebbctl: " << error.value("code", "") << ": " << error.value("message", "")
                      << "\n";
        }
        return exit_job_failed;
    }
}

int begin(const Context& context, const std::string& path, const Json& args) {
    auto job = ctl::call(context.socket, path, args);
    if (!job) return complain(context, job.error());
    if (args.value("dry_run", false)) {
        std::string text;
        for (const auto& why : job->value("reasons", Json::array()))
            text += why.value("code", "") + ": " + why.value("message", "") + ". " +
                    why.value("remedy", "") + ".\n";
        const int status =
            print(context, *job, text.empty() ? "Nothing stands against it.\n" : text);
        return text.empty() ? status : exit_refused;
    }
    const auto id = job->value("id", std::uint64_t{0});
    if (context.wait) return watch(context, id);
    return print(context, *job, "job " + std::to_string(id) + "\n");
}

std::function<int(const Context&)> listing(std::string (*show)(const Json&)) {
    return [show](const Context& context) {
        auto state = ctl::call(context.socket, "/v1/state", Json::object());
        if (!state) return complain(context, state.error());
        return print(context, *state, show(*state));
    };
}

void no_options(po::options_description& /*options*/) {}

void dry(po::options_description& options) {
    options.add_options()("dry-run", "say what stands against it, all at once, and do nothing");
}

int protect(const Context& context) {
    Json args{{"machine", context.text("machine")},
              {"target", context.text("target")},
              {"overwrite", context.flag("overwrite")},
              {"dry_run", context.flag("dry-run")},
              {"interval_ms",
               static_cast<std::uint64_t>(context.values["interval"].as<double>() * 1000)}};
    for (const auto& [option, key] : {std::pair("retention", "retention"),
                                      {"cloud-vm", "cloud_vm"},
                                      {"home-vm", "home_vm"},
                                      {"target-vm", "target_vm"}}) {
        if (context.flag(option)) args[key] = context.text(option);
    }
    if (context.flag("disk")) {
        args["disks"] = Json::array();
        for (const auto& pair : context.values["disk"].as<std::vector<std::string>>()) {
            const auto equal = pair.find('=');
            if (equal == std::string::npos)
                return complain(context,
                                {ErrorCode::invalid, pair + " is not SOURCE=TARGET", {}, {}});
            args["disks"].push_back(
                {{"source_id", pair.substr(0, equal)}, {"target_id", pair.substr(equal + 1)}});
        }
    }
    return begin(context, "/v1/protect", args);
}

void protect_options(po::options_description& options) {
    dry(options);
    options.add_options()("target", po::value<std::string>()->required(), "master target")(
        "retention", po::value<std::string>(), "retention volume (the target's default)")(
        "interval", po::value<double>()->default_value(5, "5"),
        "seconds between cuts; 0: on demand only")(
        "disk", po::value<std::vector<std::string>>(),
        "SOURCE=TARGET ids of a pair, repeated (chosen by size)")(
        "overwrite", "write over data that Ebb did not put on the target's disks")(
        "cloud-vm", po::value<std::string>(), "the source machine's name at the hypervisor")(
        "home-vm", po::value<std::string>(), "the on-premises machine's name at the hypervisor")(
        "target-vm", po::value<std::string>(), "the master target's name at the hypervisor");
}

std::function<int(const Context&)> machine_job(const char* path) {
    return [path](const Context& context) {
        return begin(context, path,
                     {{"machine", context.text("machine")},
                      {"source_unreachable", context.flag("source-unreachable")},
                      {"dry_run", context.flag("dry-run")},
                      {"name", context.text("name")},
                      {"export", context.text("export")}});
    };
}

int interval(const Context& context) {
    auto done =
        ctl::call(context.socket, "/v1/interval",
                  {{"machine", context.text("machine")},
                   {"interval_ms",
                    static_cast<std::uint64_t>(context.values["seconds"].as<double>() * 1000)}});
    if (!done) return complain(context, done.error());
    return print(context, *done, "");
}

int points(const Context& context) {
    auto list = ctl::call(context.socket, "/v1/points", {{"machine", context.text("machine")}});
    if (!list) return complain(context, list.error());
    return print(context, *list, ctl::show_points(*list));
}

int cancel(const Context& context) {
    auto job = ctl::call(context.socket, "/v1/cancel",
                         {{"id", context.values["job"].as<std::uint64_t>()}});
    if (!job) return complain(context, job.error());
    return print(context, *job, "job " + std::to_string(job->value("id", 0)) + " is told to end\n");
}

int token(const Context& context) {
    auto made = ctl::call(context.socket, "/v1/token",
                          {{"machine", context.text("machine")}, {"site", context.text("site")}});
    if (!made) return complain(context, made.error());
    return print(context, *made, made->value("token", "") + "\n");
}

const std::vector<std::pair<std::string, Command>>& commands() {
    static const std::vector<std::pair<std::string, Command>> all{
        {"machines", {"machines that have joined", "", no_options, listing(ctl::show_machines)}},
        {"disks",
         {"disks of all machines, and why some are refused", "", no_options,
          listing(ctl::show_disks)}},
        {"targets", {"master targets", "", no_options, listing(ctl::show_targets)}},
        {"retention",
         {"retention volumes, and why some are refused", "", no_options,
          listing(ctl::show_retention)}},
        {"points", {"recovery points of a machine", "machine", no_options, points}},
        {"jobs", {"jobs", "", no_options, listing(ctl::show_jobs)}},
        {"job watch",
         {"follow a job to its end", "job", no_options,
          [](const Context& c) { return watch(c, c.values["job"].as<std::uint64_t>()); }}},
        {"protect", {"begin to replicate a machine", "machine", protect_options, protect}},
        {"reprotect",
         {"as protect, for a machine that was failed over", "machine", protect_options, protect}},
        {"interval",
         {"change the time between cuts", "machine",
          [](auto& o) {
              o.add_options()("seconds", po::value<double>()->required(), "0: on demand only");
          },
          interval}},
        {"checkpoint",
         {"make a recovery point now", "machine",
          [](auto& o) {
              o.add_options()("name", po::value<std::string>(), "name of the point")(
                  "export", po::value<std::string>(),
                  "also copy the disks as of this cut into that folder of the source");
          },
          machine_job("/v1/checkpoint")}},
        {"failover",
         {"bring the machine up on the other side, from the newest point", "machine",
          [](auto& o) {
              dry(o);
              o.add_options()("source-unreachable",
                              "do not shut the source down: it cannot be reached");
          },
          machine_job("/v1/failover")}},
        {"commit", {"keep what was failed over", "machine", no_options, machine_job("/v1/commit")}},
        {"resync",
         {"send everything anew", "machine",
          [](auto& o) { o.add_options()("full", "all blocks, without comparing"); },
          machine_job("/v1/resync")}},
        {"disable",
         {"end the protection of a machine", "machine", no_options, machine_job("/v1/disable")}},
        {"cancel", {"cancel a job", "job", no_options, cancel}},
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
    options.add_options()("help", "show this text")(
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

int run(std::vector<std::string> words) {
    // Options that stand before the command are put behind it.
    std::vector<std::string> before;
    while (!words.empty() && words.front().starts_with("-")) {
        const bool takes = words.front() == "--socket";
        for (int i = 0; i < (takes ? 2 : 1) && !words.empty(); ++i) {
            before.push_back(words.front());
            words.erase(words.begin());
        }
    }
    const auto* entry = words.empty() ? nullptr : find(words);
    if (!words.empty() && entry == nullptr) {
        std::cerr << "ebbctl: there is no command " << words.front() << "; see ebbctl --help\n";
        return exit_usage;
    }
    words.insert(words.end(), before.begin(), before.end());
    auto options = common();
    po::positional_options_description positions;
    if (entry != nullptr) {
        entry->second.options(options);
        const std::string argument = entry->second.argument;
        if (argument == "job")
            options.add_options()("job", po::value<std::uint64_t>(), "its number");
        else if (!argument.empty())
            options.add_options()("machine", po::value<std::string>(), "its name");
        if (!argument.empty()) positions.add(argument.c_str(), 1);
        if (entry->first == "interval") positions.add("seconds", 1);
    }
    Context context;
    po::store(po::command_line_parser(words).options(options).positional(positions).run(),
              context.values);
    if (context.flag("help")) {
        if (entry == nullptr) return help();
        std::cout << "Usage: ebbctl " << entry->first << " " << entry->second.argument
                  << " [OPTIONS]\n\n"
                  << entry->second.what << "\n\n"
                  << options;
        return 0;
    }
    po::notify(context.values);
    context.socket = context.text("socket");
    context.json = context.flag("json");
    context.wait = context.flag("wait");
    if (entry == nullptr) return listing(ctl::show_state)(context);
    const char* argument = entry->second.argument;
    if (*argument != '\0' && !context.flag(argument)) {
        std::cerr << "ebbctl: " << entry->first << " needs a " << argument << "\n";
        return exit_usage;
    }
    return entry->second.run(context);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(std::vector<std::string>(argv + 1, argv + argc));
    } catch (const po::error& error) {
        std::cerr << "ebbctl: " << error.what() << "\n";
        return exit_usage;
    }
}
