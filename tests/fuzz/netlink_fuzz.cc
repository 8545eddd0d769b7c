// SPDX-License-Identifier: Apache-2.0
// What the module says: attributes of a reply, and the words of a refusal.
#include <cstring>
#include <vector>

#include "platform/netlink_reply.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    // As aligned as libnl's buffers are, and not a byte longer.
    std::vector<std::byte> bytes(size);
    if (size != 0) std::memcpy(bytes.data(), data, size);
    static_cast<void>(ebb::platform::decode_reply(bytes));
    static_cast<void>(ebb::platform::error_words(bytes));
    return 0;
}
