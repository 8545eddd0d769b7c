// SPDX-License-Identifier: Apache-2.0
// Certificates of machines, by an authority made for the test.
#pragma once

#include <filesystem>
#include <string>

#include "platform/file_store.h"
#include "platform/pki.h"
#include "platform/tls.h"

namespace ebb::service {

class Identities {
public:
    explicit Identities(std::filesystem::path top) : top_(std::move(top)) {
        auto made = platform::make_authority("test");
        if (made) authority_ = std::move(*made);
    }

    // A folder as `ebbd join` leaves it.
    std::string folder(const std::string& name) {
        const auto folder = top_ / name;
        std::filesystem::create_directories(folder);
        auto request = platform::make_request(name);
        if (!request) return {};
        auto certificate = platform::sign_request(authority_, request->request, name);
        if (!certificate) return {};
        const auto write = [&](const char* file, const std::string& text) {
            (void)platform::replace_file(folder / file, text, platform::private_mode);
        };
        write("ca.pem", authority_.certificate);
        write("machine.key", request->key);
        write("machine.pem", certificate->certificate_pem);
        return folder;
    }

    static platform::TlsIdentity of(const std::string& folder) {
        return {folder + "/ca.pem", folder + "/machine.pem", folder + "/machine.key"};
    }

private:
    std::filesystem::path top_;
    platform::KeyAndCertificate authority_;
};

}  // namespace ebb::service
