// SPDX-License-Identifier: Apache-2.0
#include "service/application_points.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <sstream>

#include "platform/file_store.h"
#include "platform/hook_scripts.h"
#include "platform/tracked_filesystems.h"
#include "platform/write_gate.h"

namespace ebb::service {

namespace {

using std::chrono::milliseconds;

// For the last calls of a daemon that is told to end.
constexpr milliseconds limit_at_end{5'000};
constexpr const char* phase_before = "pre";
constexpr const char* phase_after = "post";

std::string script_name(const std::string& path) {
    return std::filesystem::path(path).filename();
}

}  // namespace

ApplicationPoints::ApplicationPoints(platform::EventLoop& loop, ApplicationSettings settings,
                                     ApplicationSurroundings surroundings)
    : settings_(std::move(settings)),
      surroundings_(std::move(surroundings)),
      worker_(std::make_unique<platform::Worker>(loop, 1, "ebb-consist")) {}

ApplicationPoints::~ApplicationPoints() {
    stopping_ = true;
    worker_.reset();
    freezer_.reset();
    open_gate();
    (void)call_scripts_after(result_, true);
}

void ApplicationPoints::recover() {
    busy_ = true;
    worker_->submit<void>(
        [this]() -> Status {
            auto text = platform::read_file(surroundings_.run + "/scripts");
            if (!text) return {};
            std::istringstream lines(*text);
            std::getline(lines, working_on_.protection);
            for (std::string script; std::getline(lines, script);) owed_.push_back(script);
            return call_scripts_after("crash", false);
        },
        [this](Status) { busy_ = false; });
}

Error ApplicationPoints::is_busy() {
    return {ErrorCode::busy,
            "an application-consistent point is being made on this machine already",
            "Try again when it is done",
            {}};
}

Result<core::CheckpointRequest::Quiesce> ApplicationPoints::begin(const Request& request) {
    if (busy_) return std::unexpected(is_busy());
    busy_ = true;
    request_ = request;
    outcome_ = {};
    return core::CheckpointRequest::Quiesce{
        [this](env::StatusCallback ready) { before(std::move(ready)); },
        [this](bool, env::StatusCallback done) { after(std::move(done)); }};
}

void ApplicationPoints::end(env::Callback<Outcome> done) {
    ended_ = std::move(done);
    if (scripts_running_ == 0) finish_scripts();
}

void ApplicationPoints::finish_scripts() {
    if (!ended_) return;
    busy_ = false;
    auto done = std::move(ended_);
    ended_ = nullptr;
    done(std::move(outcome_));
}

void ApplicationPoints::before(env::StatusCallback ready) {
    result_ = "crash";
    outcome_ = {};
    worker_->submit<void>([this, request = request_] { return prepare(request); },
                          [this, ready = std::move(ready)](Status status) mutable {
                              if (!status) return ready(std::move(status));
                              if (!request_.meet) return freeze(std::move(ready));
                              request_.meet([this, ready = std::move(ready)](Status) mutable {
                                  freeze(std::move(ready));
                              });
                          });
}

void ApplicationPoints::freeze(env::StatusCallback ready) {
    platform::WriteGate::of_this_process().close();
    gate_closed_ = true;
    worker_->submit<void>([this]() -> Status { return freezer_ ? freezer_->freeze() : Status{}; },
                          [this, ready = std::move(ready)](Status status) mutable {
                              if (freezer_) outcome_.flushed = freezer_->flushed();
                              if (status) return ready({});
                              open_gate();
                              ready(std::move(status));
                              ++scripts_running_;
                              worker_->submit<void>(
                                  [this]() -> Status {
                                      freezer_.reset();
                                      return call_scripts_after("crash", false);
                                  },
                                  [this](Status post) {
                                      --scripts_running_;
                                      if (!post) outcome_.post = std::move(post);
                                      if (scripts_running_ == 0) finish_scripts();
                                  });
                          });
}

void ApplicationPoints::after(env::StatusCallback done) {
    ++scripts_running_;
    worker_->submit<void>(
        [this]() -> Status {
            auto status = freezer_ ? freezer_->thaw() : Status{};
            freezer_.reset();
            return status;
        },
        [this, done = std::move(done)](Status status) mutable {
            open_gate();
            result_ = status ? "application" : "crash";
            done(std::move(status));
            worker_->submit<void>(
                [this, result = result_] { return call_scripts_after(result, false); },
                [this](Status post) {
                    --scripts_running_;
                    if (!post) outcome_.post = std::move(post);
                    if (scripts_running_ == 0) finish_scripts();
                });
        });
}

void ApplicationPoints::open_gate() {
    if (!gate_closed_) return;
    gate_closed_ = false;
    platform::WriteGate::of_this_process().open();
}

// All that takes long, and all that can be found to be wrong before anything stands still.
Status ApplicationPoints::prepare(const Request& request) {
    working_on_ = request;
    auto ready = [&]() -> Status {
        if (auto ok = call_scripts_before(); !ok) return ok;
        auto table = platform::BlockTable::load(surroundings_.paths);
        if (!table) return std::unexpected(table.error());
        auto filesystems = platform::tracked_filesystems(*table, request.disks);
        if (!filesystems) return std::unexpected(filesystems.error());
        if (filesystems->empty()) return {};
        platform::FreezerOptions options;
        options.record = surroundings_.run + "/frozen";
        options.limit = settings_.freeze_limit;
        options.give_up = [this] { return stopping_.load(); };
        auto freezer = surroundings_.open_freezer(options, *filesystems);
        if (!freezer) return std::unexpected(freezer.error());
        freezer_ = std::move(*freezer);
        return {};
    }();
    if (!ready) (void)call_scripts_after("crash", false);
    return ready;
}

Status ApplicationPoints::call_scripts_before() {
    auto scripts = platform::list_hooks(settings_.scripts);
    if (!scripts) return std::unexpected(scripts.error());
    for (const auto& script : *scripts) {
        owed_.push_back(script);
        if (auto ok = note_owed(); !ok) return ok;
        if (auto ok = call(script, phase_before, "", false); !ok) return ok;
    }
    return {};
}

// Each, whatever becomes of the others, in the opposite order.
Status ApplicationPoints::call_scripts_after(const std::string& result, bool at_end) {
    Status all;
    for (auto script = owed_.rbegin(); script != owed_.rend(); ++script) {
        auto ok = call(*script, phase_after, result, at_end);
        if (ok || !all) continue;
        all = fail("E_APP_POST", ok.error().code, ok.error().message,
                   "What it should have ended goes on there: " + ok.error().remedy);
    }
    if (!owed_.empty()) (void)platform::remove_file(surroundings_.run + "/scripts");
    owed_.clear();
    return all;
}

Status ApplicationPoints::call(const std::string& script, const char* phase,
                               const std::string& result, bool at_end) {
    if (auto ok = platform::check_hook(script); !ok) return ok;
    platform::HookCall call;
    call.path = script;
    call.phase = phase;
    call.environment = {"EBB_PROTECTION=" + working_on_.protection,
                        "EBB_POINT_NAME=" + working_on_.name};
    if (!result.empty()) call.environment.push_back("EBB_POINT_KIND=" + result);
    call.limit = at_end ? std::min(limit_at_end, settings_.script_limit) : settings_.script_limit;
    // What ends a daemon ends no call that it owes.
    if (phase == std::string(phase_before)) call.give_up = [this] { return stopping_.load(); };
    call.print = [&](const std::string& line) {
        std::cerr << "ebbd: " + script_name(script) + " " + phase + ": " + line + "\n";
    };
    auto ok = platform::run_hook(call);
    if (!ok)
        std::cerr << "ebbd: " + std::string(ok.error().name()) + ": " + ok.error().message + "\n";
    return ok;
}

Status ApplicationPoints::note_owed() const {
    std::string text = working_on_.protection + "\n";
    for (const auto& script : owed_) text += script + "\n";
    if (auto ok = platform::make_directories(surroundings_.run); !ok) return ok;
    return platform::replace_file(surroundings_.run + "/scripts", text, platform::private_mode);
}

}  // namespace ebb::service
