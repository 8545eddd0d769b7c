// SPDX-License-Identifier: Apache-2.0
#include "service/agent.h"

#include <sys/utsname.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <future>
#include <iostream>

#include "base/uuid_text.h"
#include "platform/file_store.h"
#include "platform/write_gate.h"

namespace ebb::service {

namespace {

struct KeptSerials {
    std::vector<std::string> serials;
};

template <class V>
void describe(V& visit, KeptSerials& k) {
    visit("serials", k.serials);
}

constexpr std::chrono::milliseconds exchange_patience{api::exchange_hold_ms + 20'000};
constexpr std::chrono::milliseconds between_exchanges{200};
// Where the next exchange should have a result with it: the controller may hold it.
constexpr std::chrono::milliseconds for_a_result{1'000};
constexpr std::chrono::milliseconds after_failure{1'000};
constexpr const char* version = EBB_VERSION;

std::string first_line(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

std::string os_name() {
    std::ifstream in("/etc/os-release");
    for (std::string line; std::getline(in, line);) {
        if (!line.starts_with("PRETTY_NAME=")) continue;
        line.erase(0, 12);
        std::erase(line, '"');
        return line;
    }
    return "Linux";
}

std::string revoked_file(const Config& config) {
    return config.state + "/revoked.json";
}

}  // namespace

Result<Revoked> load_revoked(const Config& config) {
    auto revoked = std::make_shared<platform::RevokedCertificates>();
    auto text = platform::read_file(revoked_file(config));
    if (!text && text.error().code == ErrorCode::not_found) return revoked;
    if (!text) return std::unexpected(text.error());
    auto json = api::parse(*text);
    if (!json) return std::unexpected(json.error());
    auto kept = api::decode<KeptSerials>(*json);
    if (!kept) return std::unexpected(kept.error());
    (void)revoked->replace({kept->serials.begin(), kept->serials.end()});
    return revoked;
}

api::MachineInfo machine_info(const std::string& name) {
    api::MachineInfo info;
    info.name = name;
    info.system_uuid = first_line("/sys/class/dmi/id/product_uuid");
    std::ranges::transform(info.system_uuid, info.system_uuid.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    info.boot_id = first_line("/proc/sys/kernel/random/boot_id");
    info.os = os_name();
    utsname kernel{};
    if (::uname(&kernel) == 0) info.kernel = kernel.release;
    return info;
}

Agent::Agent(platform::EventLoop& loop, const Config& config, std::vector<Role*> roles,
             platform::TlsContext tls, Revoked revoked)
    : loop_(loop),
      config_(config),
      roles_(std::move(roles)),
      http_(std::move(tls), config.controller.host, config.controller.port, config.controller.name),
      incarnation_(to_text(platform::SystemRandom().uuid())),
      revoked_(std::move(revoked)) {}

Result<std::unique_ptr<Agent>> Agent::start(platform::EventLoop& loop, const Config& config,
                                            std::vector<Role*> roles, Revoked revoked) {
    auto tls = platform::make_tls_context(config.identity(), platform::TlsSide::client);
    if (!tls) return std::unexpected(tls.error());
    std::unique_ptr<Agent> agent(
        new Agent(loop, config, std::move(roles), std::move(*tls), std::move(revoked)));
    agent->thread_ = std::thread([self = agent.get()] { self->work(); });
    return agent;
}

Agent::~Agent() {
    alive_.reset();
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    http_.interrupt();
    thread_.join();
}

void Agent::work() {
    std::string told;  // what is wrong, said once
    for (;;) {
        const auto begun = std::chrono::steady_clock::now();
        const auto ok = exchange();
        // One that the controller has held needs no pause, in which a command would wait.
        const bool held = std::chrono::steady_clock::now() - begun >= between_exchanges;
        std::string now;
        if (!ok)
            now = std::string(ok.error().name()) + ": " + ok.error().message +
                  (ok.error().remedy.empty() ? "" : ". " + ok.error().remedy);
        if (now != told && !now.empty())
            std::cerr << "ebbd: no exchange with the controller: " << now << "\n";
        if (now.empty() && !told.empty())
            std::cerr << "ebbd: exchanging with the controller again\n";
        told = now;
        auto next = held ? std::chrono::milliseconds(0) : between_exchanges;
        if (hurried_) next = for_a_result;
        if (!pause(ok ? next : after_failure)) return;
    }
}

// False when it is time to stop.
bool Agent::pause(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, time, [this] { return stopping_ || news_; });
    news_ = false;
    return !stopping_;
}

// Empty: a role is not ready for it.
std::optional<api::ExchangeRequest> Agent::status() {
    api::ExchangeRequest request;
    request.protocol = api::protocol_version;
    request.version = version;
    request.incarnation = incarnation_;
    request.machine = machine_info(config_.name);
    auto gathered = std::make_shared<std::promise<std::optional<api::ExchangeRequest>>>();
    auto future = gathered->get_future();
    loop_.post([this, alive = std::weak_ptr<char>(alive_), gathered, request]() mutable {
        bool all = !alive.expired();
        for (auto* role : roles_) all = all && role->fill(request);
        gathered->set_value(all ? std::optional(std::move(request)) : std::nullopt);
    });
    // A loop that has ended drops what was posted to it.
    for (;;) {
        if (future.wait_for(between_exchanges) == std::future_status::ready) return future.get();
        const std::lock_guard lock(mutex_);
        if (stopping_) return std::nullopt;
    }
}

Status Agent::exchange() {
    // What a command has changed is in the status that goes with its result.
    std::vector<api::CommandResult> results;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [id, result] : results_) results.push_back(result);
    }
    auto gathered = status();
    if (!gathered) return {};
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) return {};
    }
    auto& request = *gathered;
    request.results = std::move(results);
    const auto response =
        http_.post(api::exchange_path, api::dump(api::encode(request)), exchange_patience);
    if (!response) {
        const std::lock_guard lock(mutex_);
        if (stopping_) return {};
        return std::unexpected(response.error());
    }
    const auto json = api::parse(response->body);
    if (!json) return std::unexpected(json.error());
    if (response->status != 200) {
        const auto said = json->is_object() ? json->value("error", api::Json()) : api::Json();
        const auto info = api::decode<api::ErrorInfo>(said);
        if (!info) return std::unexpected(info.error());
        return std::unexpected(api::from_info(*info));
    }
    const auto answer = api::decode<api::ExchangeAnswer>(*json);
    if (!answer) return std::unexpected(answer.error());
    {
        const std::lock_guard lock(mutex_);
        for (const auto& result : request.results) results_.erase(result.id);
    }
    if (answer->revoked != revoked_before_) revoke(answer->revoked);
    hurried_ = false;
    for (const auto& command : answer->commands) hurried_ = take(command) || hurried_;
    return {};
}

// Durable first; who was let in before is then looked at anew.
void Agent::revoke(const std::vector<std::string>& serials) {
    platform::WriteGate::of_this_process().wait();
    auto kept = platform::make_directories(config_.state);
    if (kept) {
        kept = platform::replace_file(revoked_file(config_),
                                      api::dump(api::Json{{"serials", serials}}) + "\n",
                                      platform::private_mode);
    }
    if (!kept) std::cerr << "ebbd: " << kept.error().message << "\n";
    if (kept) revoked_before_ = serials;
    if (!revoked_->replace({serials.begin(), serials.end()})) return;
    loop_.post([this, alive = std::weak_ptr<char>(alive_)] {
        if (alive.expired()) return;
        for (auto* role : roles_) role->drop_connections();
    });
}

Role* Agent::role_of(const std::string& kind) const {
    const auto found =
        std::ranges::find_if(roles_, [&](const Role* role) { return role->handles(kind); });
    return found == roles_.end() ? nullptr : *found;
}

bool Agent::take(const api::Command& command) {
    if (!seen_.insert(command.id).second) return false;
    const auto* role = role_of(command.kind);
    const bool writes = role == nullptr || role->writes(command.kind);
    loop_.post([this, alive = std::weak_ptr<char>(alive_), command, writes] {
        const auto go = [this, alive, command] {
            if (!alive.expired()) run(command);
        };
        if (!writes) return go();
        platform::WriteGate::of_this_process().when_open(go);
    });
    return !writes;
}

void Agent::run(const api::Command& command) {
    auto* role = role_of(command.kind);
    if (role == nullptr) {
        return finished(command.id, fail(ErrorCode::unsupported,
                                         config_.name + " has no role for " + command.kind));
    }
    role->run(command, [this, alive = std::weak_ptr<char>(alive_),
                        id = command.id](Result<api::Json> value) {
        if (!alive.expired()) finished(id, std::move(value));
    });
}

void Agent::finished(std::uint64_t id, Result<api::Json> value) {
    api::CommandResult result;
    result.id = id;
    result.ok = value.has_value();
    if (value)
        result.value = std::move(*value);
    else
        result.error = api::to_info(value.error());
    {
        const std::lock_guard lock(mutex_);
        results_[id] = std::move(result);
        news_ = true;
    }
    wake_.notify_all();
}

}  // namespace ebb::service
