// SPDX-License-Identifier: Apache-2.0
// Blocks of a map area, as the module decodes them at attach.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "log_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::array<std::uint8_t, EBB_FORMAT_BLOCK> block{};
    std::array<std::uint8_t, EBB_FORMAT_PAYLOAD> payload{};
    std::memcpy(block.data(), data, size < block.size() ? size : block.size());
    for (auto kind : {EBB_FORMAT_SUPER, EBB_FORMAT_LOG, EBB_FORMAT_FINE_BLOCK}) {
        const ebb_format_id id = {kind, 0, nullptr};
        __u64 seq = 0;
        if (ebb_format_decode(block.data(), &id, &seq, payload.data()) != EBB_FORMAT_WHOLE)
            continue;
        std::array<std::uint8_t, EBB_FORMAT_BLOCK> again{};
        ebb_format_encode(again.data(), &id, seq, payload.data());
        if (again != block) std::abort();
    }
    // What no checksum protects here: the payload itself.
    std::memcpy(payload.data(), block.data(), payload.size());
    ebb_super super;
    if (!ebb_super_decode(payload.data(), &super)) return 0;
    ebb_super back;
    ebb_super_encode(&super, payload.data());
    if (!ebb_super_decode(payload.data(), &back) || back.disk_sectors != super.disk_sectors)
        std::abort();
    return 0;
}
