// SPDX-License-Identifier: Apache-2.0
#include "format/source_note.h"

#include <algorithm>

#include "format/bytes.h"
#include "format/crc32c.h"

namespace ebb::format {

namespace {

constexpr std::uint32_t magic = 0x44424245;  // "EBBD"
constexpr std::uint32_t version = 1;
constexpr std::size_t checked_bytes = source_note_bytes - 4;

}  // namespace

std::vector<std::byte> encode(const SourceNote& note) {
    std::vector<std::byte> out;
    Writer writer(out);
    writer.u32(magic);
    writer.u32(version);
    writer.bytes(encode(note.cookie));
    writer.uuid(note.run);
    writer.uuid(note.brought_run);
    writer.u32(note.pass);
    writer.u32(note.brought ? 1 : 0);
    writer.u64(note.count);
    writer.u64(note.sent);
    writer.bytes(note.chain);
    writer.u32(crc32c(out));
    return out;
}

std::optional<SourceNote> decode_source_note(std::span<const std::byte> bytes) {
    if (bytes.size() != source_note_bytes) return std::nullopt;
    Reader in(bytes);
    SourceNote note;
    if (in.u32() != magic || in.u32() != version) return std::nullopt;
    const auto cookie = decode_map_cookie(in.bytes(map_cookie_bytes));
    if (!cookie) return std::nullopt;
    note.cookie = *cookie;
    note.run = in.uuid();
    note.brought_run = in.uuid();
    note.pass = in.u32();
    note.brought = in.u32() == 1;
    note.count = in.u64();
    note.sent = in.u64();
    std::ranges::copy(in.bytes(note.chain.size()), note.chain.begin());
    if (in.u32() != crc32c(bytes.first(checked_bytes))) return std::nullopt;
    return note;
}

}  // namespace ebb::format
