// SPDX-License-Identifier: Apache-2.0
// The controller's interfaces: agents, operators, tokens.
#include "service/controller_role.h"

#include <openssl/evp.h>

#include <map>

#include "api/names.h"
#include "platform/file_store.h"

namespace ebb::service {

namespace {

constexpr std::int64_t token_seconds = 24 * 3600;

unsigned status_of(const Error& error) {
    switch (error.code) {
        case ErrorCode::invalid: return 400;
        case ErrorCode::denied: return 403;
        case ErrorCode::not_found: return 404;
        case ErrorCode::internal:
        case ErrorCode::io:
        case ErrorCode::corrupt:
        case ErrorCode::no_space: return 500;
        default: return 409;
    }
}

api::Json to_json(const std::vector<Error>& reasons) {
    api::Json list = api::Json::array();
    for (const auto& one : reasons) list.push_back(api::encode(api::to_info(one)));
    return list;
}

platform::HttpResponse refusal(const std::vector<Error>& reasons) {
    auto list = to_json(reasons);
    api::Json body{{"error", list.front()}};
    if (list.size() > 1) body["reasons"] = std::move(list);
    return {status_of(reasons.front()), api::dump(body)};
}

platform::HttpResponse refusal(const Error& error) {
    return refusal(std::vector{error});
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

Error unknown_call(const std::string& path) {
    return {ErrorCode::unsupported,
            "the controller knows no call " + path,
            "ebbctl and the controller may be of different versions",
            {}};
}

// Keyed by serial number.
constexpr const char* revoked_kind = "revoked";

// The certificate that a machine has now, if it has one, is not valid from here on.
Status retire(ControllerStore& store, const std::string& name) {
    auto machine = store.find("machine", name);
    if (!machine) return std::unexpected(machine.error());
    const auto serial = *machine ? (*machine)->value("serial", "") : std::string{};
    if (serial.empty()) return {};
    return store.put(revoked_kind, serial, {{"machine", name}, {"since", now_seconds()}});
}

Status valid_certificate(const api::Json& machine, const platform::HttpRequest& request) {
    const std::string remedy =
        "Join it with a new token: ebbctl token create --machine " + request.peer;
    if (machine.value("revoked", false)) {
        return fail("E_REVOKED", ErrorCode::denied,
                    "the certificate of " + request.peer + " is revoked", remedy);
    }
    if (machine.value("serial", "") == request.serial) return {};
    return fail("E_CERTIFICATE_REPLACED", ErrorCode::denied,
                request.peer + " has joined again since: this certificate is not valid any more",
                "If that is this very machine, restart its ebbd; if not, " + remedy);
}

}  // namespace

ControllerRole::ControllerRole(const Config& config, std::unique_ptr<ControllerStore> store,
                               std::unique_ptr<provider::QemuProvider> provider,
                               platform::KeyAndCertificate authority)
    : config_(config),
      store_(std::move(store)),
      provider_(std::move(provider)),
      authority_(std::move(authority)),
      jobs_(*store_, [this] { agents_.wake(); }),
      protections_(*store_, agents_, jobs_, provider_.get(), authority_),
      groups_(*store_, agents_, jobs_, protections_, config.name),
      watch_(*store_, agents_, [this](const api::Json& list) { return groups_.all(list); }) {}

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
    auto key = platform::read_file(config.folder + "/ca.key");
    for (const auto* file : {&ca, &key}) {
        if (*file) continue;
        auto error = file->error();
        error.remedy = "Make an authority (ebbd ca-init), or put back its backup";
        return std::unexpected(std::move(error));
    }
    std::unique_ptr<ControllerRole> role(new ControllerRole(
        config, std::move(*store), std::move(provider), {std::move(*key), std::move(*ca)}));
    auto interrupted = role->jobs_.load();
    if (!interrupted) return std::unexpected(interrupted.error());
    if (auto ok = role->load_revoked(); !ok) return std::unexpected(ok.error());
    if (auto ok = role->listen(); !ok) return std::unexpected(ok.error());
    if (auto ok = role->protections_.take_up(std::move(*interrupted)); !ok)
        return std::unexpected(ok.error());
    if (auto ok = role->watch_.start(); !ok) return std::unexpected(ok.error());
    if (auto ok = role->groups_.start(); !ok) return std::unexpected(ok.error());
    return role;
}

Status ControllerRole::listen() {
    auto tls = platform::make_tls_context(config_.identity(), platform::TlsSide::server, false);
    if (!tls) return std::unexpected(tls.error());
    auto agents = platform::HttpServer::listen_tls(
        *tls, config_.serve.address, config_.serve.port,
        [this](const platform::HttpRequest& r) { return serve_agent(r); });
    if (!agents) return std::unexpected(agents.error());
    agent_server_ = std::move(*agents);
    auto operators = platform::HttpServer::listen_unix(
        config_.serve.socket, [this](const platform::HttpRequest& r) { return serve_operator(r); });
    if (!operators) return std::unexpected(operators.error());
    operator_server_ = std::move(*operators);
    return {};
}

ControllerRole::~ControllerRole() {
    watch_.stop();
    // While agents can be told still: those of a common cut go on alone.
    jobs_.begin_to_stop();
    groups_.stop();
    agents_.stop();
    jobs_.stop();
    operator_server_.reset();
    agent_server_.reset();
}

platform::HttpResponse ControllerRole::serve_agent(const platform::HttpRequest& request) {
    if (request.target == api::join_path) return join(request.body);
    if (request.target == api::exchange_path) return exchange(request);
    return refusal({ErrorCode::not_found, "no such call: " + request.target, {}, {}});
}

platform::HttpResponse ControllerRole::exchange(const platform::HttpRequest& request) {
    if (request.peer.empty()) {
        return refusal({ErrorCode::denied, "a certificate is needed",
                        "Join the machine: ebbctl token create, then ebbd join on it",
                        "E_NO_CERTIFICATE"});
    }
    auto json = api::parse(request.body);
    if (!json) return refusal(json.error());
    auto exchange = api::decode<api::ExchangeRequest>(*json);
    if (!exchange) return refusal(exchange.error());
    if (auto ok = api::check(*exchange); !ok) return refusal(ok.error());
    auto machine = store_->find("machine", request.peer);
    if (!machine) return refusal(machine.error());
    if (!*machine) {
        return refusal({ErrorCode::denied, request.peer + " has not joined this controller",
                        "Join it with a new token: ebbctl token create --machine " + request.peer,
                        "E_NOT_JOINED"});
    }
    if (auto ok = valid_certificate(**machine, request); !ok) return refusal(ok.error());
    const std::string site = (*machine)->value("site", "");
    auto answer = agents_.exchange(request.peer, site, std::move(*exchange));
    auto revoked = store_->all(revoked_kind);
    if (!revoked) return refusal(revoked.error());
    for (const auto& [serial, document] : *revoked) answer.revoked.push_back(serial);
    return {200, api::dump(api::encode(answer))};
}

platform::HttpResponse ControllerRole::join(const std::string& body) {
    auto json = api::parse(body);
    if (!json) return refusal(json.error());
    auto request = api::decode<api::JoinRequest>(*json);
    if (!request) return refusal(request.error());
    if (auto ok = api::check(*request); !ok) return refusal(ok.error());
    auto answer = redeem(*request);
    if (!answer) return refusal(answer.error());
    return {200, api::dump(api::encode(*answer))};
}

// A token that is wrong, for another machine, used or too old: nobody is told which.
Result<api::JoinAnswer> ControllerRole::redeem(const api::JoinRequest& request) {
    const std::lock_guard lock(joining_);
    if (auto ok = drop_expired_tokens(); !ok) return std::unexpected(ok.error());
    const auto key = digest_of(request.token);
    auto token = store_->find("token", key);
    if (!token) return std::unexpected(token.error());
    if (!*token || (*token)->value("machine", "") != request.name ||
        (*token)->value("expires", std::int64_t{0}) < now_seconds()) {
        return fail("E_TOKEN", ErrorCode::denied,
                    "the token is not valid for " + request.name +
                        ": it is wrong, for another name, too old, or was used",
                    "Have a new one made: ebbctl token create --machine " + request.name);
    }
    auto certificate = platform::sign_request(authority_, request.csr, request.name);
    if (!certificate) return std::unexpected(certificate.error());
    if (auto ok = store_->remove("token", key); !ok) return std::unexpected(ok.error());
    // A certificate that the name had before is not valid any more.
    if (auto ok = retire(*store_, request.name); !ok) return std::unexpected(ok.error());
    const auto site = (*token)->value("site", "");
    const api::Json machine{
        {"site", site}, {"serial", certificate->serial_hex}, {"joined", now_seconds()}};
    if (auto ok = store_->put("machine", request.name, machine); !ok)
        return std::unexpected(ok.error());
    agents_.set_revoked(request.name, false);
    return api::JoinAnswer{certificate->certificate_pem, authority_.certificate, site};
}

platform::HttpResponse ControllerRole::serve_operator(const platform::HttpRequest& request) {
    api::Json args = api::Json::object();
    if (!request.body.empty()) {
        auto json = api::parse(request.body);
        if (!json) return refusal(json.error());
        args = std::move(*json);
    }
    const bool dry_run = args.is_object() && args.contains("dry_run") && args["dry_run"] == true;
    auto outcome = dispatch(request.target, args);
    // Arguments that are not understood are an error in a dry run too.
    const bool understood =
        outcome.reasons.empty() || outcome.reasons.front().code != ErrorCode::invalid;
    if (dry_run && understood) {
        outcome.value["reasons"] = to_json(outcome.reasons);
        return {200, api::dump(outcome.value)};
    }
    if (!outcome.reasons.empty()) return refusal(outcome.reasons);
    return {200, api::dump(outcome.value)};
}

Outcome ControllerRole::dispatch_group(const std::string& path, const api::Json& args) {
    const auto with = [this,
                       &args]<class T>(Outcome (ControllerGroups::*call)(const T&)) -> Outcome {
        auto decoded = api::decode_call<T>(args);
        if (!decoded) return decoded.error();
        return (groups_.*call)(*decoded);
    };
    if (path == "/v1/group-set") return with(&ControllerGroups::set);
    if (path == "/v1/group-delete") return with(&ControllerGroups::remove);
    if (path == "/v1/group-points") return with(&ControllerGroups::points);
    if (path == "/v1/group-checkpoint") return with(&ControllerGroups::checkpoint);
    if (path == "/v1/group-failover") return with(&ControllerGroups::failover);
    if (path == "/v1/group-change-point") return with(&ControllerGroups::change_point);
    if (path == "/v1/group-rollback") return with(&ControllerGroups::rollback);
    if (path == "/v1/group-test-failover") return with(&ControllerGroups::test_failover);
    return unknown_call(path);
}

Outcome ControllerRole::dispatch(const std::string& path, const api::Json& args) {
    const auto with = [&args]<class T>(auto call, std::type_identity<T>) -> Outcome {
        auto decoded = api::decode_call<T>(args);
        if (!decoded) return decoded.error();
        return call(*decoded);
    };
    if (path.starts_with("/v1/group-")) return dispatch_group(path, args);
    constexpr std::type_identity<api::ProtectCall> protect;
    constexpr std::type_identity<api::MachineCall> machine;
    constexpr std::type_identity<api::JobCall> job;
    auto& p = protections_;
    using M = api::MachineCall;
    if (path == "/v1/state") return state();
    if (path == "/v1/events") return watch_.events();
    if (path == "/v1/protect") return with([&](auto& c) { return p.protect(c, false); }, protect);
    if (path == "/v1/reprotect") return with([&](auto& c) { return p.protect(c, true); }, protect);
    if (path == "/v1/checkpoint")
        return with([&](auto& c) { return p.checkpoint(c); },
                    std::type_identity<api::CheckpointCall>());
    if (path == "/v1/interval")
        return with([&](auto& c) { return p.interval(c); },
                    std::type_identity<api::IntervalCall>());
    if (path == "/v1/points") return with([&](const M& c) { return p.points(c); }, machine);
    if (path == "/v1/verify-retention")
        return with([&](const M& c) { return p.verify_retention(c); }, machine);
    if (path == "/v1/pin-point")
        return with([&](auto& c) { return p.pin_point(c); }, std::type_identity<api::PinCall>());
    if (path == "/v1/unpin-point")
        return with([&](auto& c) { return p.unpin_point(c); },
                    std::type_identity<api::UnpinCall>());
    if (path == "/v1/serve-point")
        return with([&](auto& c) { return p.serve_point(c); },
                    std::type_identity<api::ServeCall>());
    if (path == "/v1/served-point")
        return with([&](auto& c) { return p.served_point(c); },
                    std::type_identity<api::ServedCall>());
    if (path == "/v1/unserve-point")
        return with([&](auto& c) { return p.unserve_point(c); },
                    std::type_identity<api::UnserveCall>());
    if (path == "/v1/test-failover")
        return with([&](auto& c) { return p.test_failover(c); },
                    std::type_identity<api::TestFailoverCall>());
    if (path == "/v1/change-point")
        return with([&](const M& c) { return p.change_point(c); }, machine);
    if (path == "/v1/failover") return with([&](const M& c) { return p.failover(c); }, machine);
    if (path == "/v1/rollback") return with([&](const M& c) { return p.rollback(c); }, machine);
    if (path == "/v1/commit") return with([&](const M& c) { return p.commit(c); }, machine);
    if (path == "/v1/certify")
        return with([&](auto& c) { return p.certify(c); }, std::type_identity<api::CertifyCall>());
    if (path == "/v1/check-certificate")
        return with([&](auto& c) { return p.check_certificate(c); },
                    std::type_identity<api::CheckCertificateCall>());
    if (path == "/v1/verify")
        return with([&](auto& c) { return p.verify(c); }, std::type_identity<api::VerifyCall>());
    if (path == "/v1/resync")
        return with([&](auto& c) { return p.resync(c); }, std::type_identity<api::ResyncCall>());
    if (path == "/v1/disable") return with([&](const M& c) { return p.disable(c); }, machine);
    if (path == "/v1/job") return with([&](auto& c) -> Outcome { return jobs_.show(c); }, job);
    if (path == "/v1/cancel")
        return with([&](auto& c) -> Outcome { return jobs_.cancel(c.id); }, job);
    if (path == "/v1/revoke")
        return with([&](const M& c) -> Outcome { return revoke(c); }, machine);
    if (path == "/v1/token")
        return with([&](auto& c) -> Outcome { return make_token(c); },
                    std::type_identity<api::TokenCall>());
    return unknown_call(path);
}

Result<api::Json> ControllerRole::state() {
    api::Json result{{"machines", api::Json::array()},
                     {"protections", api::Json::array()},
                     {"groups", api::Json::array()},
                     {"jobs", api::Json::array()}};
    auto machines = store_->all("machine");
    if (!machines) return std::unexpected(machines.error());
    for (const auto& [name, document] : *machines) {
        api::Json machine{{"name", name},
                          {"site", document.value("site", "")},
                          {"revoked", document.value("revoked", false)},
                          {"seen", false}};
        if (const auto view = agents_.find(name); view && !view->revoked) {
            machine["seen"] = true;
            machine["seconds_silent"] = view->seconds_silent;
            machine["status"] = api::encode(view->last);
        }
        result["machines"].push_back(std::move(machine));
    }
    auto protections = watch_.protections();
    if (!protections) return protections;
    auto groups = groups_.all(*protections);
    if (!groups) return groups;
    result["protections"] = std::move(*protections);
    result["groups"] = std::move(*groups);
    auto jobs = jobs_.all();
    if (!jobs) return std::unexpected(jobs.error());
    for (auto& document : *jobs) result["jobs"].push_back(std::move(document));
    return result;
}

Status ControllerRole::load_revoked() {
    auto machines = store_->all("machine");
    if (!machines) return std::unexpected(machines.error());
    for (const auto& [name, document] : *machines) {
        if (document.value("revoked", false)) agents_.set_revoked(name, true);
    }
    return {};
}

// With the mutex.
Status ControllerRole::drop_expired_tokens() {
    auto tokens = store_->all("token");
    if (!tokens) return std::unexpected(tokens.error());
    for (const auto& [key, document] : *tokens) {
        if (document.value("expires", std::int64_t{0}) >= now_seconds()) continue;
        if (auto ok = store_->remove("token", key); !ok) return ok;
    }
    return {};
}

// From here on the controller refuses the machine's agent, and the agents of others its
// connections.
Result<api::Json> ControllerRole::revoke(const api::MachineCall& call) {
    const std::lock_guard lock(joining_);
    auto machine = store_->find("machine", call.machine);
    if (!machine) return std::unexpected(machine.error());
    if (!*machine) {
        return fail("E_MACHINE_NOT_FOUND", ErrorCode::not_found,
                    "no machine " + call.machine + " has joined", "ebbctl machines lists them");
    }
    if (auto ok = retire(*store_, call.machine); !ok) return std::unexpected(ok.error());
    auto document = store_->amend("machine", call.machine, {{"revoked", true}});
    if (!document) return document;
    agents_.set_revoked(call.machine, true);
    api::Json value{{"machine", call.machine},
                    {"serial", document->value("serial", "")},
                    {"protections", api::Json::array()}};
    auto protections = store_->all("protection");
    if (!protections) return std::unexpected(protections.error());
    for (const auto& [id, protection] : *protections) {
        if (protection.value("machine", "") == call.machine ||
            protection.value("target", "") == call.machine)
            value["protections"].push_back(protection.value("machine", ""));
    }
    return value;
}

Result<api::Json> ControllerRole::make_token(const api::TokenCall& call) {
    if (call.machine == config_.name) {
        return fail(ErrorCode::invalid, call.machine + " is the controller's own name",
                    "Give the machine another name");
    }
    auto group = store_->find("group", call.machine);
    if (!group) return std::unexpected(group.error());
    if (*group) {
        return fail("E_GROUP_NAME", ErrorCode::refused,
                    call.machine + " is the name of a replication group",
                    "Give the machine another name");
    }
    const std::lock_guard lock(joining_);
    if (auto ok = drop_expired_tokens(); !ok) return std::unexpected(ok.error());
    auto print = platform::fingerprint(authority_.certificate);
    if (!print) return std::unexpected(print.error());
    const std::string token = "ebb1-" + platform::random_word() + "-" + *print;
    const api::Json document{
        {"machine", call.machine}, {"site", call.site}, {"expires", now_seconds() + token_seconds}};
    if (auto ok = store_->put("token", digest_of(token), document); !ok)
        return std::unexpected(ok.error());
    return api::Json{{"token", token}, {"expires", document["expires"]}};
}

}  // namespace ebb::service
