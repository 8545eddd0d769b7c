// SPDX-License-Identifier: Apache-2.0
#include "ctl/bisect.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <map>
#include <utility>

#include "api/agent.h"
#include "api/error.h"
#include "ctl/show.h"
#include "ctl/watch.h"

namespace ebb::ctl {

namespace {

using api::Json;
using api::text;

constexpr std::string_view ours[] = {
    "EBB_MACHINE=", "EBB_POINT=", "EBB_POINT_NAME=", "EBB_CUT_TIME=",
    "EBB_DISKS=",   "EBB_NBD=",   "EBB_NBD_"};
// 125 as of git bisect run. By 126 and 127 shells say that they could not run something.
constexpr int cannot_tell = 125, last_verdict = 125, last_not_run = 127;
constexpr const char* not_run_code = "E_BISECT_COMMAND";
constexpr const char* given_up_code = "E_POINT_GIVEN_UP";

volatile sig_atomic_t stop_signal = 0;

// The command hears it as well, from the terminal; here it is only noted, so that everything is
// cleaned up.
void note_signal(int number) {
    stop_signal = number;
}

std::string describe(const Json& point) {
    std::string words = "epoch " + std::to_string(point.value("epoch", std::uint64_t{0})) + ", " +
                        time_of(point.value("cut_time_ns", std::uint64_t{0}));
    if (const auto name = text(point, "name"); !name.empty()) words += ", " + name;
    return words;
}

const char* word(Verdict verdict) {
    switch (verdict) {
        case Verdict::good: return "good";
        case Verdict::bad: return "bad";
        case Verdict::skip: return "cannot tell";
    }
    return "";
}

// What a point was found to be.
struct Look {
    Verdict verdict = Verdict::skip;
    std::optional<Error> why;  // of a skip: the point could not be shown to the command
    bool lost = false;         // not to its end, and may well be another time
};

Refusal ended(const std::string& what) {
    return {{Error{ErrorCode::cancelled, what, {}, "E_BISECT_ENDED"}}, false};
}

Refusal not_run(const std::string& what) {
    return {{Error{ErrorCode::invalid, what,
                   "Give a command that can be run behind --; a script says by 125 that it cannot "
                   "tell, and by 1 to 124 that a point is bad",
                   not_run_code}},
            false};
}

Error error_of(const Json& job) {
    const auto info = api::decode<api::ErrorInfo>(job.value("error", Json()));
    return info ? api::from_info(*info) : info.error();
}

// What the command learns about the point, beside its own surroundings.
std::vector<std::string> surroundings(const std::string& machine, const Json& value) {
    std::vector<std::string> all;
    for (char** one = environ; *one != nullptr; ++one) {
        const std::string_view have(*one);
        if (std::ranges::none_of(ours, [&](auto name) { return have.starts_with(name); }))
            all.emplace_back(have);
    }
    const Json point = value.value("point", Json::object());
    const Json exports = value.value("exports", Json::array());
    all.push_back("EBB_MACHINE=" + machine);
    all.push_back("EBB_POINT=" + std::to_string(point.value("epoch", std::uint64_t{0})));
    all.push_back("EBB_POINT_NAME=" + text(point, "name"));
    all.push_back("EBB_CUT_TIME=" + time_of(point.value("cut_time_ns", std::uint64_t{0})));
    all.push_back("EBB_DISKS=" + std::to_string(exports.size()));
    std::string uris;
    for (std::size_t i = 0; i < exports.size(); ++i) {
        all.push_back("EBB_NBD_" + std::to_string(i) + "=" + text(exports[i], "uri"));
        uris += (i == 0 ? "" : " ") + text(exports[i], "uri");
    }
    all.push_back("EBB_NBD=" + uris);
    return all;
}

// Its status as of waitpid(2).
std::expected<int, Refusal> run(const std::vector<std::string>& command,
                                std::vector<std::string> environment, bool quiet_output) {
    std::vector<char*> argv, envp;
    for (const auto& one : command) argv.push_back(const_cast<char*>(one.c_str()));
    for (auto& one : environment) envp.push_back(one.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    // With --json, standard output is ours alone.
    if (quiet_output) posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    pid_t pid = 0;
    const int failed = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), envp.data());
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0)
        return std::unexpected(not_run("cannot run " + command[0] + ": " + std::strerror(failed)));
    int status = 0;
    bool told = false;
    while (::waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) return std::unexpected(ended("the command was lost"));
        if (stop_signal != 0 && !std::exchange(told, true)) ::kill(pid, stop_signal);
    }
    if (stop_signal != 0) return std::unexpected(ended("interrupted"));
    return status;
}

std::expected<Verdict, Refusal> verdict_of(int status) {
    if (WIFSIGNALED(status)) {
        return std::unexpected(
            ended("the command was ended by signal " + std::to_string(WTERMSIG(status))));
    }
    const int code = WEXITSTATUS(status);
    if (code > last_verdict && code <= last_not_run) {
        return std::unexpected(not_run("the command's exit status " + std::to_string(code) +
                                       " means that something was not found or could not be run"));
    }
    if (code > last_not_run) {
        return std::unexpected(
            ended("the command's exit status " + std::to_string(code) + " is no verdict"));
    }
    if (code == cannot_tell) return Verdict::skip;
    return code == 0 ? Verdict::good : Verdict::bad;
}

class Bisection {
public:
    Bisection(std::string socket, std::string machine, const std::vector<std::string>& command,
              const Report& report)
        : socket_(std::move(socket)),
          machine_(std::move(machine)),
          command_(command),
          report_(report),
          name_("bisect-" + std::to_string(::getpid())) {}

    int run_all() {
        auto listed = call(socket_, "/v1/points", {{"machine", machine_}});
        if (!listed) return report_.refused(listed.error());
        points_ = (*listed)["points"].get<std::vector<Json>>();
        BisectSearch search(points_.size());
        std::expected<void, Refusal> done;
        while (const auto at = search.next()) {
            auto look = look_at(points_[*at]);
            if (!look) {
                done = std::unexpected(look.error());
                break;
            }
            say(points_[*at], *look);
            search.judge(*at, look->verdict);
            if (look->why) not_shown_.emplace(*at, std::move(*look->why));
            ++looked_at_;
        }
        auto cleaned =
            run_job(socket_, "/v1/unserve-point", {{"machine", machine_}, {"name", name_}});
        if (!done) {
            const int status = report_.refused(done.error());
            return done.error().reasons.front().name() == not_run_code ? exit_usage : status;
        }
        if (!cleaned) return report_.refused(cleaned.error());
        if (cleaned->value("state", "") != "done") return report_.job(*cleaned);
        return tell(search);
    }

private:
    std::expected<Look, Refusal> look_at(const Json& point) {
        auto look = show(point);
        if (!look || !look->lost) return look;
        say(point, *look, "; once more");
        return show(point);
    }

    // To the command, once.
    std::expected<Look, Refusal> show(const Json& point) {
        if (stop_signal != 0) return std::unexpected(ended("interrupted"));
        auto job = run_job(socket_, "/v1/serve-point",
                           {{"machine", machine_},
                            {"epoch", point.value("epoch", std::uint64_t{0})},
                            {"name", name_}});
        if (!job) return std::unexpected(job.error());
        if (job->value("state", "") != "done") return not_served(error_of(*job));
        const Json value = job->value("value", Json::object());
        auto status = run(command_, surroundings(machine_, value), report_.json());
        if (!status) return std::unexpected(status.error());
        // Reads of a point that is lost fail, and so does the command: that says nothing of it.
        auto lost = lost_meanwhile(text(value, "serving"));
        if (!lost) return std::unexpected(lost.error());
        if (*lost) return Look{Verdict::skip, *lost, true};
        auto verdict = verdict_of(*status);
        if (!verdict) return std::unexpected(verdict.error());
        return Look{*verdict, {}, false};
    }

    static std::expected<Look, Refusal> not_served(const Error& error) {
        // It went since the list was made, or has too much to index: as good as one of which
        // nobody can tell.
        if (error.name() == "E_NO_POINT" || error.name() == "E_POINT_TOO_LARGE")
            return Look{Verdict::skip, error, false};
        if (error.name() == given_up_code) return Look{Verdict::skip, error, true};
        return std::unexpected(Refusal{{error}, false});
    }

    // Why the point is not served any more as it was when the command began. None: it is.
    std::expected<std::optional<Error>, Refusal> lost_meanwhile(const std::string& serving) const {
        auto now = call(socket_, "/v1/served-point", {{"machine", machine_}, {"name", name_}});
        if (!now) {
            const auto& why = now.error().reasons.front();
            if (why.name() != "E_POINT_NOT_SERVED") return std::unexpected(now.error());
            return why;
        }
        const auto served = api::decode<api::ServedPoint>(*now);
        if (!served) return std::unexpected(Refusal{{served.error()}, false});
        if (served->error) return api::from_info(*served->error);
        if (served->serving == serving) return std::nullopt;
        return Error{ErrorCode::stale, "the point was given up, and is served anew",
                     "Serve it again", given_up_code};
    }

    void say(const Json& point, const Look& look, const char* then = "") const {
        if (report_.json()) return;
        std::cout << describe(point) << ": " << word(look.verdict);
        if (look.why) std::cout << ": " << look.why->name() << ": " << look.why->message;
        std::cout << then << "\n" << std::flush;
    }

    int tell(const BisectSearch& search) const {
        const auto good = search.last_good(), bad = search.first_bad();
        Json value{{"last_good", good ? points_[*good] : Json()},
                   {"first_bad", bad ? points_[*bad] : Json()},
                   {"skipped", Json::array()},
                   {"looked_at", looked_at_}};
        std::string words =
            good ? "The last good point is " + describe(points_[*good]) + ".\n" : "";
        if (bad) words += "The first bad point is " + describe(points_[*bad]) + ".\n";
        for (const auto point : search.skipped()) {
            value["skipped"].push_back(points_[point]);
            words += "Between, nobody can tell: " + describe(points_[point]) + "\n";
            const auto why = not_shown_.find(point);
            if (why != not_shown_.end())
                value["skipped"].back()["error"] = api::encode(api::to_info(why->second));
        }
        if (good) return report_.value(value, words);
        if (!report_.json()) std::cout << words;
        const Error none{ErrorCode::not_found, "no point of " + machine_ + " is good",
                         "See which there are: ebbctl point list " + machine_, "E_NO_GOOD_POINT"};
        return report_.refused({{none}, false});
    }

    const std::string socket_, machine_;
    const std::vector<std::string>& command_;
    const Report& report_;
    const std::string name_;
    std::vector<Json> points_;
    std::map<std::size_t, Error> not_shown_;  // by their place in the list
    std::size_t looked_at_ = 0;
};

}  // namespace

// The newest first: most often that is the question. Then the middle of what is left, or what is
// nearest to it and was not skipped.
std::optional<std::size_t> BisectSearch::next() const {
    if (known_.empty()) return std::nullopt;
    if (known_.back() == Known::nothing) return known_.size() - 1;
    const std::size_t middle = first_unsure_ + (first_bad_ - first_unsure_) / 2;
    std::optional<std::size_t> best;
    for (std::size_t i = first_unsure_; i < first_bad_; ++i) {
        if (known_[i] != Known::nothing) continue;
        const auto far = [&](std::size_t at) { return at > middle ? at - middle : middle - at; };
        if (!best || far(i) < far(*best)) best = i;
    }
    return best;
}

void BisectSearch::judge(std::size_t point, Verdict verdict) {
    known_[point] = verdict == Verdict::skip ? Known::skipped : Known::judged;
    if (verdict == Verdict::good) first_unsure_ = std::max(first_unsure_, point + 1);
    if (verdict == Verdict::bad) first_bad_ = std::min(first_bad_, point);
}

std::optional<std::size_t> BisectSearch::last_good() const {
    if (first_unsure_ == 0) return std::nullopt;
    return first_unsure_ - 1;
}

std::optional<std::size_t> BisectSearch::first_bad() const {
    if (first_bad_ == known_.size()) return std::nullopt;
    return first_bad_;
}

std::vector<std::size_t> BisectSearch::skipped() const {
    std::vector<std::size_t> all;
    for (std::size_t i = first_unsure_; i < first_bad_; ++i) {
        if (known_[i] == Known::skipped) all.push_back(i);
    }
    return all;
}

int bisect(const std::string& socket, const std::string& machine,
           const std::vector<std::string>& command, const Report& report) {
    struct sigaction action{};
    action.sa_handler = note_signal;
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
    return Bisection(socket, machine, command, report).run_all();
}

}  // namespace ebb::ctl
