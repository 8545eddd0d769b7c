// SPDX-License-Identifier: Apache-2.0
// Frames of the wire protocol: a fixed header, then the payload. docs/wire-protocol.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"

namespace ebb::format {

inline constexpr std::uint32_t frame_magic = 0x57424245;  // "EBBW"
inline constexpr std::uint8_t frame_version = 1;          // of the header alone
inline constexpr std::size_t frame_header_bytes = 32;
inline constexpr std::uint32_t frame_payload_max = (4U << 20) + 4096;

enum class FrameType : std::uint8_t {
    hello = 1,
    welcome = 2,
    refused = 3,
    epoch_begin = 4,
    pass_begin = 5,
    extent = 6,
    ack = 7,
    pass_end = 8,
    epoch_closed = 9,
    notice = 10,
    ping = 11,
    pong = 12,
    compare = 13,  // from here on: version 2 of the protocol
    compared = 14,
    extents = 15,  // of version 3
};

struct FrameHeader {
    FrameType type = FrameType::ping;
    std::uint16_t flags = 0;
    std::uint32_t length = 0;    // of the payload
    std::uint64_t sequence = 0;  // of this direction of this connection, from 0
};

// E_PROTOCOL: not a frame; E_VERSION. `in` holds at least frame_header_bytes.
[[nodiscard]] Result<FrameHeader> decode_frame_header(std::span<const std::byte> in);
// Writes the header over the first frame_header_bytes of `frame`, whose rest is the payload.
void seal_frame(std::vector<std::byte>& frame, FrameType type, std::uint64_t sequence);

// Cuts a stream of bytes into whole frames (header and payload).
class FrameSplitter {
public:
    void push(std::span<const std::byte> bytes);
    // The next whole frame; nothing: more bytes are needed. After an error the stream is lost.
    [[nodiscard]] Result<std::optional<std::vector<std::byte>>> next();

private:
    std::vector<std::byte> frame_;  // being gathered
    std::size_t wanted_ = 0;        // its size, once its header is there
    std::deque<std::vector<std::byte>> whole_;
    std::optional<Error> error_;
};

}  // namespace ebb::format
