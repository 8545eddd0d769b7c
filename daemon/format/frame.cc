// SPDX-License-Identifier: Apache-2.0
#include "format/frame.h"

#include <algorithm>
#include <utility>

#include "format/bytes.h"
#include "format/digest.h"

namespace ebb::format {

namespace {

constexpr std::size_t reserve_bytes = 64 << 10;

}  // namespace

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
        type > static_cast<std::uint8_t>(FrameType::extents)) {
        return fail(ErrorCode::protocol, "unknown frame type " + std::to_string(type));
    }
    if (header.length > frame_payload_max || header.flags != 0 || reserved != 0) {
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

// A frame is gathered in memory of its own, so that a byte of a large one is copied once.
void FrameSplitter::push(std::span<const std::byte> bytes) {
    while (!bytes.empty() && !error_) {
        if (frame_.size() < frame_header_bytes) {
            const std::size_t size = std::min(frame_header_bytes - frame_.size(), bytes.size());
            frame_.insert(frame_.end(), bytes.begin(),
                          bytes.begin() + static_cast<std::ptrdiff_t>(size));
            bytes = bytes.subspan(size);
            if (frame_.size() < frame_header_bytes) return;
            auto header = decode_frame_header(frame_);
            if (!header) {
                error_ = header.error();
                return;
            }
            wanted_ = frame_header_bytes + header->length;
            // Not more than a little before there is something to put into it.
            frame_.reserve(std::min(wanted_, frame_header_bytes + bytes.size() + reserve_bytes));
        }
        const std::size_t size = std::min(wanted_ - frame_.size(), bytes.size());
        if (frame_.capacity() < frame_.size() + size) frame_.reserve(wanted_);
        frame_.insert(frame_.end(), bytes.begin(),
                      bytes.begin() + static_cast<std::ptrdiff_t>(size));
        bytes = bytes.subspan(size);
        if (frame_.size() < wanted_) return;
        whole_.push_back(std::exchange(frame_, {}));
        wanted_ = 0;
    }
}

Result<std::optional<std::vector<std::byte>>> FrameSplitter::next() {
    if (whole_.empty()) {
        if (error_) return std::unexpected(*error_);
        return std::nullopt;
    }
    auto frame = std::move(whole_.front());
    whole_.pop_front();
    return frame;
}

}  // namespace ebb::format
