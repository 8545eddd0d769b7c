// SPDX-License-Identifier: Apache-2.0
// The controller's interfaces: agents, operators, tokens, jobs.
#include "service/controller_role.h"

#include <openssl/evp.h>

#include <chrono>

#include "api/names.h"
#include "platform/file_store.h"

namespace ebb::service {

namespace {

constexpr std::int64_t token_seconds = 24 * 3600;

std::int64_t now_seconds() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

platform::HttpResponse refusal(const Error& error) {
    unsigned status = 409;
    if (error.code == ErrorCode::invalid) status = 400;
    if (error.code == ErrorCode::denied) status = 403;
    if (error.code == ErrorCode::not_found) status = 404;
    return {status, api::dump({{"error", api::encode(api::to_info(error))}})};
}

platform::HttpResponse answer(const Result<api::Json>& result) {
    if (!result) return refusal(result.error());
    return {200, api::dump(*result)};
}

// Tokens are kept as digests: the database alone lets nobody in.
std::string digest_of(const std::string& token) {
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_Digest(token.data(), token.size(), sum, &size, EVP_sha256(), nullptr);
    std::string hex;
    static constexpr char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < size; ++i) {
        hex += digits[sum[i] >> 4];
        hex += digits[sum[i] & 15];
    }
    return hex;
}

}  // namespace

ControllerRole::ControllerRole(const Config& config, std::unique_ptr<ControllerStore> store,
                               std::unique_ptr<provider::QemuProvider> provider,
                               platform::KeyAndCertificate authority)
    : config_(config),
      store_(std::move(store)),
      provider_(std::move(provider)),
      authority_(std::move(authority)) {}

Result<std::unique_ptr<ControllerRole>> ControllerRole::start(const Config& config) {
    if (auto ok = platform::make_directories(config.state); !ok) return std::unexpected(ok.error());
    auto store = ControllerStore::open(config.state + "/controller.db");
    if (!store) return std::unexpected(store.error());
    std::unique_ptr<provider::QemuProvider> provider;
    if (config.serve.qemu.is_object()) {
        auto machines = provider::QemuProvider::parse(config.serve.qemu);
        if (!machines) return std::unexpected(machines.error());
        provider = std::make_unique<provider::QemuProvider>(std::move(*machines));
    }
    auto ca = platform::read_file(config.folder + "/ca.pem");
    if (!ca) return std::unexpected(ca.error());
    auto key = platform::read_file(config.folder + "/ca.key");
    if (!key) return std::unexpected(key.error());
    std::unique_ptr<ControllerRole> role(new ControllerRole(
        config, std::move(*store), std::move(provider), {std::move(*key), std::move(*ca)}));
    auto old = role->store_->all("job");
    if (!old) return std::unexpected(old.error());
    for (auto& [id, document] : *old) {
        role->next_job_ = std::max(role->next_job_, document.value("id", std::uint64_t{0}) + 1);
        if (document.value("state", "") != "running") continue;
        document["state"] = "failed";
        document["error"] = api::encode(api::ErrorInfo{
            "E_INTERRUPTED", "the controller was restarted", "Start the operation again"});
        if (auto ok = role->store_->put("job", id, document); !ok)
            return std::unexpected(ok.error());
    }
    auto tls = platform::make_tls_context(config.identity(), platform::TlsSide::server, false);
    if (!tls) return std::unexpected(tls.error());
    auto* self = role.get();
    auto agents = platform::HttpServer::listen_tls(
        *tls, config.serve.address, config.serve.port,
        [self](const platform::HttpRequest& r) { return self->serve_agent(r); });
    if (!agents) return std::unexpected(agents.error());
    role->agent_server_ = std::move(*agents);
    auto operators = platform::HttpServer::listen_unix(
        config.serve.socket,
        [self](const platform::HttpRequest& r) { return self->serve_operator(r); });
    if (!operators) return std::unexpected(operators.error());
    role->operator_server_ = std::move(*operators);
    return role;
}

ControllerRole::~ControllerRole() {
    stopping_ = true;
    agents_.stop();
    operator_server_.reset();
    agent_server_.reset();
    for (auto& job : jobs_) job.thread.join();
}

platform::HttpResponse ControllerRole::serve_agent(const platform::HttpRequest& request) {
    if (request.target == api::join_path) return join(request.body);
    if (request.target != api::exchange_path)
        return refusal({ErrorCode::not_found, "no such call: " + request.target, {}, {}});
    if (request.peer.empty())
        return refusal({ErrorCode::denied, "a certificate is needed", "Join first", {}});
    auto json = api::parse(request.body);
    if (!json) return refusal(json.error());
    auto exchange = api::decode<api::ExchangeRequest>(*json);
    if (!exchange) return refusal(exchange.error());
    if (auto ok = api::check(*exchange); !ok) return refusal(ok.error());
    std::string site;
    {
        const std::lock_guard lock(mutex_);
        auto machines = store_->all("machine");
        if (!machines) return refusal(machines.error());
        bool known = false;
        for (const auto& [name, document] : *machines) {
            if (name != request.peer) continue;
            known = !document.value("revoked", false);
            site = document.value("site", "");
        }
        if (!known) {
            return refusal({ErrorCode::denied,
                            request.peer + " has not joined, or was revoked",
                            "Join with a new token",
                            {}});
        }
    }
    return {200,
            api::dump(api::encode(agents_.exchange(request.peer, site, std::move(*exchange))))};
}

platform::HttpResponse ControllerRole::join(const std::string& body) {
    auto json = api::parse(body);
    if (!json) return refusal(json.error());
    auto request = api::decode<api::JoinRequest>(*json);
    if (!request) return refusal(request.error());
    if (auto ok = api::check(*request); !ok) return refusal(ok.error());
    const std::lock_guard lock(mutex_);
    auto tokens = store_->all("token");
    if (!tokens) return refusal(tokens.error());
    const auto key = digest_of(request->token);
    for (const auto& [digest, document] : *tokens) {
        if (digest != key || document.value("machine", "") != request->name ||
            document.value("expires", std::int64_t{0}) < now_seconds())
            continue;
        auto certificate = platform::sign_request(authority_, request->csr, request->name);
        if (!certificate) return refusal(certificate.error());
        if (auto ok = store_->remove("token", digest); !ok) return refusal(ok.error());
        const auto site = document.value("site", "");
        const api::Json machine{{"site", site}, {"serial", certificate->serial_hex}};
        if (auto ok = store_->put("machine", request->name, machine); !ok)
            return refusal(ok.error());
        return {200, api::dump(api::encode(api::JoinAnswer{certificate->certificate_pem,
                                                           authority_.certificate, site}))};
    }
    return refusal({ErrorCode::denied, "the token is not valid for " + request->name,
                    "Make a new one: ebbctl token create", "E_TOKEN"});
}

platform::HttpResponse ControllerRole::serve_operator(const platform::HttpRequest& request) {
    api::Json args = api::Json::object();
    if (!request.body.empty()) {
        auto json = api::parse(request.body);
        if (!json) return refusal(json.error());
        if (!json->is_object())
            return refusal({ErrorCode::invalid, "the arguments are no object", {}, {}});
        args = std::move(*json);
    }
    try {
        return answer(dispatch(request.target, args));
    } catch (const nlohmann::json::exception& error) {
        // A member of an unexpected type.
        return refusal({ErrorCode::invalid, error.what(), {}, {}});
    }
}

Result<api::Json> ControllerRole::dispatch(const std::string& path, const api::Json& args) {
    using Call = Result<api::Json> (ControllerRole::*)(const api::Json&);
    static const std::map<std::string, Call> calls{{"/v1/token", &ControllerRole::make_token},
                                                   {"/v1/protect", &ControllerRole::protect},
                                                   {"/v1/checkpoint", &ControllerRole::checkpoint},
                                                   {"/v1/interval", &ControllerRole::interval},
                                                   {"/v1/points", &ControllerRole::points},
                                                   {"/v1/failover", &ControllerRole::failover},
                                                   {"/v1/commit", &ControllerRole::commit},
                                                   {"/v1/resync", &ControllerRole::resync},
                                                   {"/v1/disable", &ControllerRole::disable},
                                                   {"/v1/job", &ControllerRole::show_job},
                                                   {"/v1/cancel", &ControllerRole::cancel_job}};
    if (path == "/v1/state") return state();
    const auto found = calls.find(path);
    if (found == calls.end()) return fail(ErrorCode::not_found, "no such call: " + path);
    return (this->*found->second)(args);
}

Result<api::Json> ControllerRole::state() {
    api::Json result{{"machines", api::Json::array()},
                     {"protections", api::Json::array()},
                     {"jobs", api::Json::array()}};
    const auto agents = agents_.all();
    const std::lock_guard lock(mutex_);
    auto machines = store_->all("machine");
    if (!machines) return std::unexpected(machines.error());
    for (const auto& [name, document] : *machines) {
        api::Json machine{{"name", name}, {"site", document.value("site", "")}, {"seen", false}};
        if (const auto it = agents.find(name); it != agents.end()) {
            machine["seen"] = true;
            machine["seconds_silent"] = it->second.seconds_silent;
            machine["status"] = api::encode(it->second.last);
        }
        result["machines"].push_back(std::move(machine));
    }
    for (const char* kind : {"protection", "job"}) {
        auto documents = store_->all(kind);
        if (!documents) return std::unexpected(documents.error());
        for (auto& [key, document] : *documents)
            result[std::string(kind) + "s"].push_back(std::move(document));
    }
    for (auto& document : result["jobs"]) {
        for (const auto& job : jobs_) {
            if (job.id == document.value("id", std::uint64_t{0})) document = job.document;
        }
    }
    return result;
}

Result<api::Json> ControllerRole::make_token(const api::Json& args) {
    const std::string machine = args.value("machine", "");
    const std::string site = args.value("site", "");
    if (!api::valid_machine_name(machine) || !api::valid_site_name(site))
        return fail(ErrorCode::invalid, "a machine's and a site's name are needed");
    auto print = platform::fingerprint(authority_.certificate);
    if (!print) return std::unexpected(print.error());
    const std::string token = "ebb1-" + platform::random_word() + "-" + *print;
    const std::lock_guard lock(mutex_);
    const api::Json document{
        {"machine", machine}, {"site", site}, {"expires", now_seconds() + token_seconds}};
    if (auto ok = store_->put("token", digest_of(token), document); !ok)
        return std::unexpected(ok.error());
    return api::Json{{"token", token}, {"expires", document["expires"]}};
}

Result<api::Json> ControllerRole::show_job(const api::Json& args) {
    const auto id = args.value("id", std::uint64_t{0});
    const std::lock_guard lock(mutex_);
    for (const auto& job : jobs_) {
        if (job.id == id) return job.document;
    }
    auto documents = store_->all("job");
    if (!documents) return std::unexpected(documents.error());
    for (auto& [key, document] : *documents) {
        if (document.value("id", std::uint64_t{0}) == id) return std::move(document);
    }
    return fail(ErrorCode::not_found, "there is no job " + std::to_string(id));
}

Result<api::Json> ControllerRole::cancel_job(const api::Json& args) {
    const auto id = args.value("id", std::uint64_t{0});
    const std::lock_guard lock(mutex_);
    for (auto& job : jobs_) {
        if (job.id != id) continue;
        job.cancelled = true;
        return job.document;
    }
    return fail(ErrorCode::not_found, "job " + std::to_string(id) + " does not run");
}

Result<api::Json> ControllerRole::begin(const std::string& kind, const std::string& machine,
                                        Steps steps) {
    const std::lock_guard lock(mutex_);
    for (const auto& job : jobs_) {
        if (job.document.value("state", "") != "running" ||
            job.document.value("machine", "") != machine)
            continue;
        return fail("E_JOB_RUNNING", ErrorCode::busy,
                    "job " + std::to_string(job.id) + " is at work on " + machine,
                    "Wait for it, or cancel it");
    }
    auto& job = jobs_.emplace_back();
    job.id = next_job_++;
    job.document = {
        {"id", job.id}, {"kind", kind},   {"machine", machine},      {"state", "running"},
        {"step", ""},   {"percent", 0.0}, {"started", now_seconds()}};
    if (auto ok = store_->put("job", std::to_string(job.id), job.document); !ok) {
        jobs_.pop_back();
        return std::unexpected(ok.error());
    }
    auto document = job.document;
    job.thread = std::thread([this, &job, steps = std::move(steps)] {
        const Status status = steps(job);
        const std::lock_guard end(mutex_);
        job.document["state"] = status ? "done" : "failed";
        if (!status && status.error().code == ErrorCode::cancelled)
            job.document["state"] = "cancelled";
        if (status) job.document["percent"] = 100.0;
        if (!status) job.document["error"] = api::encode(api::to_info(status.error()));
        job.document["ended"] = now_seconds();
        (void)store_->put("job", std::to_string(job.id), job.document);
    });
    return document;
}

void ControllerRole::step(Job& job, const std::string& text, double percent) {
    const std::lock_guard lock(mutex_);
    job.document["step"] = text;
    job.document["percent"] = percent;
    (void)store_->put("job", std::to_string(job.id), job.document);
}

void ControllerRole::progress(Job& job, const api::Json& numbers) {
    const std::lock_guard lock(mutex_);
    job.document.update(numbers);
}

}  // namespace ebb::service
