// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli): that of "123456789" is 0xe3069283.
#pragma once

#include <boost/crc.hpp>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ebb::format {

[[nodiscard]] inline std::uint32_t crc32c(std::span<const std::byte> data) {
    boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
    crc.process_bytes(data.data(), data.size());
    return crc.checksum();
}

}  // namespace ebb::format
