// SPDX-License-Identifier: Apache-2.0
#include "service/controller_jobs.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <system_error>

namespace ebb::service {

namespace {

constexpr const char* kind_name = "job";
// Jobs that have ended are kept, so that one can look back, but not for ever.
constexpr std::size_t kept_jobs = 500;

std::uint64_t id_of(const api::Json& document) {
    return document.value("id", std::uint64_t{0});
}

bool running(const api::Json& document) {
    return document.value("state", "") == "running";
}

}  // namespace

std::int64_t now_seconds() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

void ControllerJobs::Job::step(const std::string& text, double percent) {
    remember({{"step", text}, {"percent", percent}});
}

void ControllerJobs::Job::progress(const api::Json& numbers) {
    const std::lock_guard lock(jobs_.mutex_);
    document_.update(numbers);
    jobs_.changed(*this);
}

void ControllerJobs::Job::remember(const api::Json& numbers) {
    const std::lock_guard lock(jobs_.mutex_);
    document_.update(numbers);
    jobs_.changed(*this);
    jobs_.save(*this);
}

void ControllerJobs::Job::set_cancellable(bool cancellable) {
    progress({{"cancellable", cancellable}});
}

api::Json ControllerJobs::Job::value(const char* key) const {
    const std::lock_guard lock(jobs_.mutex_);
    return document_.contains(key) ? document_[key] : api::Json();
}

ControllerJobs::ControllerJobs(ControllerStore& store, std::function<void()> wake)
    : store_(store), wake_(std::move(wake)) {}

ControllerJobs::~ControllerJobs() = default;

Result<std::vector<api::Json>> ControllerJobs::load() {
    auto old = store_.all(kind_name);
    if (!old) return std::unexpected(old.error());
    std::vector<api::Json> open;
    for (auto& [key, document] : *old) {
        next_id_ = std::max(next_id_, id_of(document) + 1);
        if (running(document)) open.push_back(std::move(document));
    }
    return open;
}

Status ControllerJobs::idle(const std::string& machine) {
    const std::lock_guard lock(mutex_);
    return idle_locked(machine);
}

// `kind`: of a job that runs aside.
Status ControllerJobs::idle_locked(const std::string& machine, const std::string& kind) {
    for (const auto& job : jobs_) {
        if (!running(job.document_) || job.document_.value("machine", "") != machine) continue;
        const bool aside = job.document_.value("aside", false);
        if (kind.empty() ? aside : job.document_.value("kind", "") != kind) continue;
        return fail("E_JOB_RUNNING", ErrorCode::busy,
                    "job " + std::to_string(job.id_) + " (" + job.document_.value("kind", "") +
                        ") is at work on " + machine,
                    "Wait for it (ebbctl job watch " + std::to_string(job.id_) + "), or cancel it");
    }
    return {};
}

Result<api::Json> ControllerJobs::begin(const Order& order, Steps steps) {
    const std::lock_guard lock(mutex_);
    if (stopping_) return fail(ErrorCode::cancelled, "the controller ends", "Wait and retry");
    reap();
    if (auto ok = idle_locked(order.machine, order.aside ? order.kind : ""); !ok)
        return std::unexpected(ok.error());
    api::Json document{{"id", next_id_},
                       {"kind", order.kind},
                       {"machine", order.machine},
                       {"state", "running"},
                       {"step", ""},
                       {"percent", 0.0},
                       {"cancellable", order.cancellable},
                       {"aside", order.aside},
                       {"revision", 1},
                       {"started", now_seconds()}};
    document.update(order.more);
    // A job that cannot be remembered is not begun.
    if (auto ok = store_.put(kind_name, std::to_string(next_id_), document); !ok)
        return std::unexpected(ok.error());
    ++next_id_;
    prune();
    if (auto ok = start(add(document), std::move(steps)); !ok) return std::unexpected(ok.error());
    return document;
}

void ControllerJobs::resume(const api::Json& document, Steps steps) {
    const std::lock_guard lock(mutex_);
    (void)start(add(document), std::move(steps));  // the job says why, where it did not
}

// With the mutex.
Status ControllerJobs::start(Job& job, Steps steps) {
    try {
        job.thread_ = std::thread([this, &job, steps = std::move(steps)] { run(job, steps); });
        return {};
    } catch (const std::system_error& error) {
        const Status status =
            fail(ErrorCode::no_memory, "no thread for the job: " + error.code().message(),
                 "See the limits of ebbd (systemctl show -p TasksMax), and try again");
        end(job, status);
        return status;
    }
}

ControllerJobs::Job& ControllerJobs::add(const api::Json& document) {
    auto& job = jobs_.emplace_back(*this);
    job.id_ = id_of(document);
    job.document_ = document;
    return job;
}

void ControllerJobs::run(Job& job, const Steps& steps) {
    const Status status = steps(job);
    const std::lock_guard lock(mutex_);
    // Stopped by the controller's own end: it stays "running", and the next start decides.
    if (!status && stopping_ && !job.cancelled_)
        job.ended_ = true;
    else
        end(job, status);
}

void ControllerJobs::end(Job& job, const Status& status) {
    job.ended_ = true;
    auto& document = job.document_;
    document["state"] = status ? "done" : "failed";
    if (!status && status.error().code == ErrorCode::cancelled) document["state"] = "cancelled";
    if (status) document["percent"] = 100.0;
    document.erase("notice");
    if (!status) document["error"] = api::encode(api::to_info(status.error()));
    document["ended"] = now_seconds();
    changed(job);
    save(job);
}

Status ControllerJobs::interrupt(api::Json document, const std::string& remedy) {
    document["state"] = "failed";
    document["ended"] = now_seconds();
    document["error"] = api::encode(api::ErrorInfo{
        "E_INTERRUPTED",
        "the controller was restarted in the middle: " + document.value("step", ""), remedy});
    return store_.put(kind_name, std::to_string(id_of(document)), document);
}

// With the mutex. What cannot be saved now is saved later, at the latest when the job is reaped.
void ControllerJobs::save(Job& job) {
    auto ok = store_.put(kind_name, std::to_string(job.id_), job.document_);
    if (!ok && !job.unsaved_)
        std::cerr << "ebbd: job " << job.id_ << ": " << ok.error().message << "\n";
    job.unsaved_ = !ok;
}

void ControllerJobs::changed(Job& job) {
    job.document_["revision"] = job.document_.value("revision", std::uint64_t{0}) + 1;
    news_.notify_all();
}

void ControllerJobs::reap() {
    for (auto it = jobs_.begin(); it != jobs_.end();) {
        if (it->ended_ && it->unsaved_) save(*it);
        if (!it->ended_ || it->unsaved_) {
            ++it;
            continue;
        }
        if (it->thread_.joinable()) it->thread_.join();
        it = jobs_.erase(it);
    }
}

void ControllerJobs::prune() {
    auto old = store_.all(kind_name);
    if (!old || old->size() <= kept_jobs) return;
    std::ranges::sort(*old, {}, [](const auto& item) { return id_of(item.second); });
    old->resize(old->size() - kept_jobs);
    for (const auto& [key, document] : *old) {
        if (!running(document)) (void)store_.remove(kind_name, key);
    }
}

ControllerJobs::Job* ControllerJobs::find(std::uint64_t id) {
    const auto found = std::ranges::find(jobs_, id, &Job::id_);
    return found == jobs_.end() ? nullptr : &*found;
}

Result<api::Json> ControllerJobs::show(const api::JobCall& call) {
    std::unique_lock lock(mutex_);
    const auto wait_until =
        std::chrono::steady_clock::now() + std::chrono::milliseconds(call.wait_ms);
    while (auto* job = find(call.id)) {
        const bool news = job->document_.value("revision", std::uint64_t{0}) != call.seen;
        if (news || !running(job->document_) || stopping_ ||
            std::chrono::steady_clock::now() >= wait_until)
            return job->document_;
        news_.wait_until(lock, wait_until);
    }
    auto document = store_.find(kind_name, std::to_string(call.id));
    if (!document) return std::unexpected(document.error());
    if (*document) return std::move(**document);
    return fail("E_JOB_NOT_FOUND", ErrorCode::not_found,
                "there is no job " + std::to_string(call.id), "ebbctl jobs lists them");
}

Result<api::Json> ControllerJobs::cancel(std::uint64_t id) {
    auto document = show({id, 0, 0});
    if (!document) return document;
    {
        const std::lock_guard lock(mutex_);
        auto* job = find(id);
        if (job == nullptr || !running(job->document_)) {
            return fail("E_JOB_ENDED", ErrorCode::refused,
                        "job " + std::to_string(id) + " has ended already: " +
                            (job != nullptr ? job->document_ : *document).value("state", ""),
                        "There is nothing to cancel");
        }
        if (!job->document_.value("cancellable", false)) {
            return fail(
                "E_NOT_CANCELLABLE", ErrorCode::refused,
                "job " + std::to_string(id) + " (" + job->document_.value("kind", "") +
                    ") cannot be cancelled at this step: " + job->document_.value("step", ""),
                "Wait for its end (ebbctl job watch " + std::to_string(id) + ")");
        }
        job->cancelled_ = true;
        job->document_["step"] = "cancelling";
        changed(*job);
        document = job->document_;
    }
    wake_();
    return document;
}

Result<std::vector<api::Json>> ControllerJobs::all() {
    auto stored = store_.all(kind_name);
    if (!stored) return std::unexpected(stored.error());
    std::vector<api::Json> documents;
    const std::lock_guard lock(mutex_);
    for (auto& [key, document] : *stored) {
        if (const auto* job = find(id_of(document)))
            documents.push_back(job->document_);
        else
            documents.push_back(std::move(document));
    }
    std::ranges::sort(documents, {}, id_of);
    return documents;
}

void ControllerJobs::begin_to_stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        news_.notify_all();
    }
    wake_();
}

void ControllerJobs::stop() {
    begin_to_stop();
    for (auto& job : jobs_) {
        if (job.thread_.joinable()) job.thread_.join();
    }
}

}  // namespace ebb::service
