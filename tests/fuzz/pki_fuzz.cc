// SPDX-License-Identifier: Apache-2.0
// What a machine that joins sends: a request for a certificate; and certificates as text.
#include <cstdlib>
#include <string>

#include "platform/pki.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const auto authority = ebb::platform::make_authority("fuzz");
    if (!authority) std::abort();
    const std::string text(reinterpret_cast<const char*>(data), size);
    static_cast<void>(ebb::platform::sign_request(*authority, text, "machine"));
    static_cast<void>(ebb::platform::fingerprint(text));
    return 0;
}
