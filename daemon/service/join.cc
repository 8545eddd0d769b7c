// SPDX-License-Identifier: Apache-2.0
#include "service/join.h"

#include <charconv>
#include <filesystem>

#include "api/agent.h"
#include "api/error.h"
#include "api/names.h"
#include "platform/file_store.h"
#include "platform/http.h"
#include "platform/pki.h"

namespace ebb::service {

namespace {

constexpr std::chrono::milliseconds patience{30'000};

Status write_identity(const std::string& folder, const std::string& ca,
                      const std::string& certificate, const std::string& key) {
    using platform::private_mode;
    using platform::public_mode;
    using platform::replace_file;
    if (auto ok = replace_file(folder + "/ca.pem", ca, public_mode); !ok) return ok;
    if (auto ok = replace_file(folder + "/machine.key", key, private_mode); !ok) return ok;
    // With the authority's own: a machine that joins compares it with its token.
    return replace_file(folder + "/machine.pem", certificate + ca, public_mode);
}

Status write_config(const std::string& folder, const api::Json& config) {
    const std::string path = folder + "/ebbd.json";
    std::error_code error;
    if (std::filesystem::exists(path, error)) return {};  // the operator's own
    return platform::replace_file(path, config.dump(2) + "\n", platform::public_mode);
}

Result<ControllerPlace> parse_place(const std::string& text) {
    ControllerPlace place;
    const auto colon = text.rfind(':');
    place.host = text.substr(0, colon);
    if (colon != std::string::npos) {
        const auto port = text.substr(colon + 1);
        const auto [end, error] =
            std::from_chars(port.data(), port.data() + port.size(), place.port);
        if (error != std::errc() || end != port.data() + port.size())
            return fail(ErrorCode::invalid, port + " is no port");
    }
    if (place.host.empty()) return fail(ErrorCode::invalid, "the controller's address is empty");
    return place;
}

// The authority's certificate as the server shows it, if it is the token's.
Result<std::string> trusted_authority(const ControllerPlace& place, const std::string& token) {
    platform::HttpClient look(platform::make_unverified_context(), place.host, place.port, {});
    if (auto ok = look.connect(patience); !ok) return std::unexpected(ok.error());
    auto authority = look.authority_seen();
    const auto print = platform::fingerprint(authority);
    if (!print) {
        return fail(ErrorCode::protocol, place.host + " shows no authority's certificate",
                    "See whether that is the controller's address and port");
    }
    if (token.ends_with("-" + *print)) return authority;
    return fail("E_TOKEN_AUTHORITY", ErrorCode::denied,
                "the controller at " + place.host + " is not the one that made the token",
                "Check the address, or have a new token made");
}

// What would be refused later is refused before the token is spent.
Status check(const JoinOptions& options) {
    if (!api::valid_machine_name(options.name)) {
        return fail(ErrorCode::invalid, "\"" + options.name + "\" is no machine's name",
                    "Give the name that the token was made for");
    }
    for (const auto& role : options.roles) {
        if (role == "source" || role == "target") continue;
        return fail(ErrorCode::invalid, "there is no role " + role + " to join in",
                    "Give --role source, --role target, or both");
    }
    return {};
}

struct Identity {
    std::string ca, certificate, key;
};

// Spends the token on a certificate for a new key.
Result<Identity> redeem(const ControllerPlace& place, const std::string& ca,
                        const JoinOptions& options) {
    auto tls = platform::make_tls_context({ca, {}, {}}, platform::TlsSide::client);
    if (!tls) return std::unexpected(tls.error());
    auto request = platform::make_request(options.name);
    if (!request) return std::unexpected(request.error());
    platform::HttpClient http(*tls, place.host, place.port, place.name);
    const api::JoinRequest body{options.token, options.name, request->request};
    const auto response = http.post(api::join_path, api::dump(api::encode(body)), patience);
    if (!response) return std::unexpected(response.error());
    const auto json = api::take_answer(response->status, response->body);
    if (!json) return std::unexpected(json.error());
    const auto answer = api::decode<api::JoinAnswer>(*json);
    if (!answer) return std::unexpected(answer.error());
    return Identity{answer->ca, answer->certificate, request->key};
}

}  // namespace

Status make_site(const std::string& folder, const std::string& site, const std::string& name) {
    std::error_code error;
    if (std::filesystem::exists(folder + "/ca.key", error))
        return fail(ErrorCode::exists, folder + " has an authority already",
                    "A new one would shut all joined machines out: remove it by hand if that is "
                    "meant");
    if (!api::valid_site_name(site))
        return fail(ErrorCode::invalid, "\"" + site + "\" is no site's name");
    if (auto ok = platform::make_directories(folder); !ok) return ok;
    auto authority = platform::make_authority(site);
    if (!authority) return std::unexpected(authority.error());
    auto request = platform::make_request(name);
    if (!request) return std::unexpected(request.error());
    auto signed_one = platform::sign_request(*authority, request->request, name);
    if (!signed_one) return std::unexpected(signed_one.error());
    if (auto ok =
            platform::replace_file(folder + "/ca.key", authority->key, platform::private_mode);
        !ok)
        return ok;
    if (auto ok = write_identity(folder, authority->certificate, signed_one->certificate_pem,
                                 request->key);
        !ok)
        return ok;
    return write_config(folder, {{"name", name},
                                 {"folder", folder},
                                 {"state", "/var/lib/ebb/controller"},
                                 {"roles", {"controller"}}});
}

Status join_site(const JoinOptions& options) {
    if (auto ok = check(options); !ok) return ok;
    const auto place = parse_place(options.controller);
    if (!place) return std::unexpected(place.error());
    const auto authority = trusted_authority(*place, options.token);
    if (!authority) return std::unexpected(authority.error());
    // Written aside first: the token is spent only where its fruit can be kept.
    if (auto ok = platform::make_directories(options.folder); !ok) return ok;
    const std::string aside = options.folder + "/joining.pem";
    if (auto ok = platform::replace_file(aside, *authority, platform::public_mode); !ok) return ok;
    const auto answer = redeem(*place, aside, options);
    auto removed = platform::remove_file(aside);
    if (!answer) return std::unexpected(answer.error());
    if (!removed) return removed;
    if (auto ok = write_identity(options.folder, answer->ca, answer->certificate, answer->key); !ok)
        return ok;
    api::Json config{{"name", options.name},
                     {"folder", options.folder},
                     {"roles", options.roles},
                     {"controller", {{"host", place->host}, {"port", place->port}}}};
    if (!options.data_host.empty()) config["target"] = {{"host", options.data_host}};
    return write_config(options.folder, config);
}

}  // namespace ebb::service
