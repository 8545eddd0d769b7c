// SPDX-License-Identifier: Apache-2.0
#include "format/map_cookie.h"

#include <algorithm>
#include <vector>

#include "format/bytes.h"
#include "format/crc32c.h"

namespace ebb::format {

namespace {

constexpr std::uint32_t magic = 0x43424245;  // "EBBC"
constexpr std::size_t checked_bytes = map_cookie_bytes - 4;

}  // namespace

std::array<std::byte, map_cookie_bytes> encode(const MapCookie& cookie) {
    std::vector<std::byte> out;
    Writer writer(out);
    writer.u32(magic);
    writer.u32(cookie.pass);
    writer.uuid(cookie.protection);
    writer.uuid(cookie.incarnation);
    writer.u64(cookie.closed);
    writer.u64(cookie.begun);
    writer.u32(cookie.closes ? 0 : 1);
    out.resize(checked_bytes);
    writer.u32(crc32c(out));
    std::array<std::byte, map_cookie_bytes> bytes{};
    std::ranges::copy(out, bytes.begin());
    return bytes;
}

std::optional<MapCookie> decode_map_cookie(std::span<const std::byte> bytes) {
    if (bytes.size() != map_cookie_bytes) return std::nullopt;
    Reader in(bytes);
    MapCookie cookie;
    if (in.u32() != magic) return std::nullopt;
    cookie.pass = in.u32();
    cookie.protection = in.uuid();
    cookie.incarnation = in.uuid();
    cookie.closed = in.u64();
    cookie.begun = in.u64();
    cookie.closes = in.u32() == 0;
    if (in.u32() != crc32c(bytes.first(checked_bytes))) return std::nullopt;
    return cookie;
}

}  // namespace ebb::format
