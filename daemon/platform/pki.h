// SPDX-License-Identifier: Apache-2.0
// Ebb's own certificate authority: ECDSA P-256 keys, certificates whose common name is the name of
// a machine. All in PEM. Blocking; any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace ebb::platform {

struct KeyAndCertificate {
    std::string key;
    std::string certificate;
};

struct KeyAndRequest {
    std::string key;
    std::string request;  // PKCS#10
};

struct SignedCertificate {
    std::string certificate_pem;
    std::string serial_hex;
};

// A new authority; its certificate is good for ten years.
Result<KeyAndCertificate> make_authority(const std::string& name);
// A new key and a request for a certificate.
Result<KeyAndRequest> make_request(const std::string& common_name);
// E_INVALID: the request is malformed, not signed by its own key, or for another name.
Result<SignedCertificate> sign_request(const KeyAndCertificate& authority,
                                       const std::string& request, const std::string& common_name);
// Base32 (lower case, no padding) of the first 20 bytes of the SHA-256 of the certificate.
Result<std::string> fingerprint(const std::string& certificate);
// ECDSA with SHA-256 by the authority's key, DER in base64. What openssl dgst -sha256 -verify
// takes.
Result<std::string> sign_text(const KeyAndCertificate& authority, const std::string& text);
// E_DENIED: it is not the signature of this text by the key of this certificate.
Status check_signature(const std::string& certificate, const std::string& text,
                       const std::string& signature);
// 128 random bits in the same base32.
std::string random_word();

}  // namespace ebb::platform
