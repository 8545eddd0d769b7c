// SPDX-License-Identifier: Apache-2.0
#include "format/frame.h"

#include <algorithm>

#include "format/bytes.h"
#include "format/digest.h"

namespace ebb::format {

Result<FrameHeader> decode_frame_header(std::span<const std::byte> in) {
    if (in.size() < frame_header_bytes) return fail(ErrorCode::protocol, "frame header is short");
    Reader reader(in.first(frame_header_bytes));
    const std::uint32_t magic = reader.u32();
    const std::uint8_t version = reader.u8();
    const std::uint8_t type = reader.u8();
    FrameHeader header;
    header.flags = reader.u16();
    header.length = reader.u32();
    const std::uint32_t reserved = reader.u32();
    header.sequence = reader.u64();
    const std::uint64_t checksum = reader.u64();
    if (magic != frame_magic) return fail(ErrorCode::protocol, "not a frame of Ebb's protocol");
    if (checksum != xxh3_64(in.first(frame_header_bytes - 8))) {
        return fail(ErrorCode::digest, "checksum of a frame header is wrong");
    }
    if (version != frame_version) {
        return fail(ErrorCode::version, "frame header of version " + std::to_string(version));
    }
    if (type < static_cast<std::uint8_t>(FrameType::hello) ||
        type > static_cast<std::uint8_t>(FrameType::pong)) {
        return fail(ErrorCode::protocol, "unknown frame type " + std::to_string(type));
    }
    if (header.length > frame_payload_max || reserved != 0) {
        return fail(ErrorCode::protocol, "frame header out of range");
    }
    header.type = static_cast<FrameType>(type);
    return header;
}

void seal_frame(std::vector<std::byte>& frame, FrameType type, std::uint64_t sequence) {
    std::vector<std::byte> header;
    header.reserve(frame_header_bytes);
    Writer writer(header);
    writer.u32(frame_magic);
    writer.u8(frame_version);
    writer.u8(static_cast<std::uint8_t>(type));
    writer.u16(0);
    writer.u32(static_cast<std::uint32_t>(frame.size() - frame_header_bytes));
    writer.u32(0);
    writer.u64(sequence);
    writer.u64(xxh3_64(header));
    std::copy(header.begin(), header.end(), frame.begin());
}

void FrameSplitter::push(std::span<const std::byte> bytes) {
    if (begin_ > 0) {
        buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(begin_));
        begin_ = 0;
    }
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

Result<std::optional<std::vector<std::byte>>> FrameSplitter::next() {
    const auto rest = std::span<const std::byte>(buffer_).subspan(begin_);
    if (rest.size() < frame_header_bytes) return std::nullopt;
    auto header = decode_frame_header(rest);
    if (!header) return std::unexpected(header.error());
    const std::size_t size = frame_header_bytes + header->length;
    if (rest.size() < size) return std::nullopt;
    begin_ += size;
    return std::vector<std::byte>(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(size));
}

}  // namespace ebb::format
