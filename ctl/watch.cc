// SPDX-License-Identifier: Apache-2.0
#include "ctl/watch.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <thread>
#include <utility>

#include "ctl/show.h"

namespace ebb::ctl {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A controller that is restarted is away for a moment.
constexpr std::chrono::seconds absence_limit{30};
constexpr milliseconds between_attempts{500};
constexpr std::uint64_t wait_ms = 2'000;

class ProgressLine {
public:
    explicit ProgressLine(bool silent)
        : silent_(silent), live_(!silent && ::isatty(STDOUT_FILENO) == 1) {}

    void show(std::string line) {
        if (silent_ || line == shown_) return;
        shown_ = line;
        if (!live_) {
            std::cout << line << "\n" << std::flush;
            return;
        }
        winsize size{};
        const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
        if (known && line.size() >= size.ws_col) line.resize(size.ws_col - 1U);
        std::cout << "\r\x1b[K" << line << std::flush;
    }
    void end() const {
        if (live_ && !shown_.empty()) std::cout << "\n" << std::flush;
    }

private:
    bool silent_;
    bool live_;
    std::string shown_;
};

// From what is known of a job to its end.
Answer follow(const std::string& socket, api::Json job, bool silent) {
    ProgressLine line(silent);
    auto heard = steady_clock::now();
    line.show(show_progress(job));
    while (job.value("state", "") == "running") {
        auto now = call(socket, "/v1/job",
                        {{"id", job["id"]},
                         {"seen", job.value("revision", std::uint64_t{0})},
                         {"wait_ms", wait_ms}});
        if (now) {
            heard = steady_clock::now();
            job = std::move(*now);
            line.show(show_progress(job));
        } else if (now.error().unreachable && steady_clock::now() - heard < absence_limit) {
            line.show("waiting for the controller, which went away");
            std::this_thread::sleep_for(between_attempts);
        } else {
            line.end();
            return now;
        }
    }
    line.end();
    return job;
}

}  // namespace

Answer wait_for_job(const std::string& socket, std::uint64_t id, const Report& report) {
    auto job = call(socket, "/v1/job", {{"id", id}});
    if (!job) return job;
    return follow(socket, std::move(*job), report.json());
}

Answer run_job(const std::string& socket, const std::string& path, const api::Json& args) {
    auto job = call(socket, path, args);
    if (!job) return job;
    return follow(socket, std::move(*job), true);
}

int watch(const std::string& socket, std::uint64_t id, const Report& report) {
    auto job = wait_for_job(socket, id, report);
    if (!job) return report.refused(job.error());
    return report.job(*job);
}

int watch_all(const std::string& socket, const api::Json& jobs, const Report& report) {
    api::Json ended = api::Json::array();
    for (const auto& begun : jobs) {
        auto job = wait_for_job(socket, begun.value("id", std::uint64_t{0}), report);
        if (!job) return report.refused(job.error());
        ended.push_back(std::move(*job));
    }
    return report.jobs(ended);
}

}  // namespace ebb::ctl
