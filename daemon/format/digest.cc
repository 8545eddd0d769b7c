// SPDX-License-Identifier: Apache-2.0
#include "format/digest.h"

#include <openssl/sha.h>
#include <xxhash.h>

#include <cstring>
#include <vector>

#include "format/bytes.h"

namespace ebb::format {

std::uint64_t xxh3_64(std::span<const std::byte> data) {
    return XXH3_64bits(data.data(), data.size());
}

Digest128 xxh3_128(std::span<const std::byte> data) {
    const XXH128_hash_t hash = XXH3_128bits(data.data(), data.size());
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    Digest128 digest;
    std::memcpy(digest.data(), canonical.digest, digest.size());
    return digest;
}

Sha256 sha256(std::span<const std::byte> data) {
    Sha256 digest;
    SHA256(reinterpret_cast<const unsigned char*>(data.data()), data.size(),
           reinterpret_cast<unsigned char*>(digest.data()));
    return digest;
}

void ManifestChain::add(DiskIndex disk, std::uint64_t offset, std::uint64_t length, ExtentKind kind,
                        const Digest128& digest) {
    std::vector<std::byte> step;
    step.reserve(80);
    Writer writer(step);
    writer.bytes(value);
    writer.u32(disk);
    writer.u64(offset);
    writer.u64(length);
    writer.u8(static_cast<std::uint8_t>(kind));
    writer.bytes(digest);
    value = sha256(step);
}

bool all_zero(std::span<const std::byte> data) {
    if (data.empty()) return true;
    // Most data differs in its first bytes; the rest is compared with itself, shifted.
    constexpr std::size_t head = 16;
    const std::size_t first = data.size() < head ? data.size() : head;
    for (std::size_t i = 0; i < first; ++i) {
        if (data[i] != std::byte{0}) return false;
    }
    return data.size() <= head ||
           std::memcmp(data.data(), data.data() + head, data.size() - head) == 0;
}

}  // namespace ebb::format
