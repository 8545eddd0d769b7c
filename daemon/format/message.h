// SPDX-License-Identifier: Apache-2.0
// Messages of the wire protocol as structs; encode gives a whole frame, decode takes one.
// docs/wire-protocol.md is the grammar. Decoders check every bound and leave no byte unread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "format/digest.h"
#include "format/frame.h"

namespace ebb::format {

using FrameBytes = std::vector<std::byte>;

inline constexpr std::uint16_t protocol_version_min = 1;
inline constexpr std::uint16_t protocol_version = 3;
inline constexpr std::uint16_t version_with_compare = 2;
inline constexpr std::uint16_t version_with_extents = 3;  // several in a frame
inline constexpr std::uint32_t extent_bytes_max = 4U << 20;
inline constexpr std::uint32_t disks_max = 60;
inline constexpr std::size_t text_max = 1024;

struct HelloDisk {
    std::string stable_id;
    std::uint64_t size = 0;  // bytes
};

struct Hello {
    std::uint16_t version_min = protocol_version_min;
    std::uint16_t version_max = protocol_version;
    Uuid protection;
    std::uint64_t session = 0;
    Uuid run;          // of the source daemon: the same run resumes a pass, another one cannot
    Uuid incarnation;  // of the tracker
    std::vector<HelloDisk> disks;
};

enum class PassKind : std::uint8_t { frozen = 0, live = 1 };

// What a recovery point is worth to the machine's applications.
enum class PointKind : std::uint8_t {
    crash = 0,        // what a power cut at that moment would have left
    application = 1,  // scripts had been called, and filesystems stood still
};

// Where the open epoch stands. pass 0: none begun.
struct OpenEpoch {
    std::uint64_t epoch = 0;  // 0: there is no open epoch
    Uuid incarnation;         // that it belongs to
    bool full = false;        // it began with every block
    bool resumable = false;   // all that was ever acknowledged in it is there
    std::uint32_t pass = 0;
    Uuid run;  // that began the pass
    PassKind kind = PassKind::live;
    std::uint64_t count = 0;  // extents of the pass that are there
    Sha256 chain{};           // over them
};

struct Welcome {
    std::uint16_t version = protocol_version;
    std::uint64_t closed_epoch = 0;  // newest; 0: none
    Uuid closed_incarnation;
    std::uint64_t window_bytes = 0;
    std::uint32_t extent_bytes = 0;  // largest accepted
    OpenEpoch open;
};

struct Refused {
    ErrorCode code = ErrorCode::refused;
    std::string message;
};

struct EpochBegin {
    std::uint64_t epoch = 0;
    Uuid incarnation;
    bool full = false;
};

struct PassBegin {
    std::uint64_t epoch = 0;
    std::uint32_t pass = 0;
    PassKind kind = PassKind::live;
    WallTime cut_time;
    std::uint64_t bytes = 0;  // expected, at most
};

struct ExtentHead {
    std::uint32_t pass = 0;
    std::uint64_t index = 0;  // position in the pass, from 0
    DiskIndex disk = 0;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    ExtentKind kind = ExtentKind::data;
    Digest128 digest{};  // of the content; zeroes unless data or same
};

struct ExtentView {
    ExtentHead head;
    bool compressed = false;
    std::span<const std::byte> stored;  // into the frame
};

// Gathers extents of one pass, of consecutive indices, into a frame EXTENTS.
class ExtentsWriter {
public:
    [[nodiscard]] bool empty() const { return frame_.empty(); }
    // Of the payload so far; 0: empty.
    [[nodiscard]] std::size_t bytes() const;
    // `content` is head.length bytes for data, otherwise empty; level 0 does not compress.
    void add(const ExtentHead& head, std::span<const std::byte> content, int level);
    // The frame; empty afterwards. Not to be called when it is.
    [[nodiscard]] FrameBytes take(std::uint64_t sequence);
    void clear() { frame_.clear(); }

private:
    FrameBytes frame_;
};

struct Ack {
    std::uint64_t epoch = 0;
    std::uint32_t pass = 0;
    std::uint64_t count = 0;
};

struct PassEnd {
    std::uint64_t epoch = 0;
    std::uint32_t pass = 0;
    PassKind kind = PassKind::live;  // frozen: closes the epoch
    std::uint64_t count = 0;
    Sha256 chain{};
    WallTime cut_time;
    std::string name;
    PointKind point = PointKind::crash;
};

struct EpochClosed {
    std::uint64_t epoch = 0;
};

// What the replica has there, and whether it is this.
struct Compare {
    std::uint32_t pass = 0;  // 0: outside of any, of the newest point
    std::uint64_t id = 0;    // in the connection, from 0
    DiskIndex disk = 0;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    Sha256 digest{};
};

enum class Verdict : std::uint8_t { differs = 0, same = 1, unreadable = 2 };

struct Compared {
    std::uint64_t id = 0;
    Verdict verdict = Verdict::differs;
    std::vector<Sha256> blocks;  // of block_bytes each, the last one may be shorter; if it differs
};

struct Notice {
    bool clear = true;
    ErrorCode code = ErrorCode::busy;
    std::string message;
};

[[nodiscard]] FrameBytes encode(const Hello& m, std::uint64_t sequence);
[[nodiscard]] FrameBytes encode(const Welcome& m, std::uint64_t sequence);
[[nodiscard]] FrameBytes encode(const Refused& m, std::uint64_t sequence);
[[nodiscard]] FrameBytes encode(const EpochBegin& m, std::uint64_t sequence);
[[nodiscard]] FrameBytes encode(const PassBegin& m, std::uint64_t sequence);
// `content` is head.length bytes for data, otherwise empty; level 0 does not compress.
[[nodiscard]] FrameBytes encode(const ExtentHead& m, std::span<const std::byte> content, int level,
                                std::uint64_t sequence);
[[nodiscard]] FrameBytes encode(const Ack& m, std::uint64_t sequence);
[[nodiscard]] FrameBytes encode(const PassEnd& m, std::uint64_t sequence);
[[nodiscard]] FrameBytes encode(const EpochClosed& m, std::uint64_t sequence);
[[nodiscard]] FrameBytes encode(const Notice& m, std::uint64_t sequence);
[[nodiscard]] FrameBytes encode(const Compare& m, std::uint64_t sequence);
[[nodiscard]] FrameBytes encode(const Compared& m, std::uint64_t sequence);
[[nodiscard]] FrameBytes encode_ping(FrameType type, std::uint64_t sequence);

// Header and payload length agree, or E_PROTOCOL.
[[nodiscard]] Result<FrameHeader> frame_of(std::span<const std::byte> frame);

// The frame's type has been looked at already; E_PROTOCOL when the payload is malformed.
[[nodiscard]] Result<Hello> decode_hello(std::span<const std::byte> frame);
[[nodiscard]] Result<Welcome> decode_welcome(std::span<const std::byte> frame);
[[nodiscard]] Result<Refused> decode_refused(std::span<const std::byte> frame);
[[nodiscard]] Result<EpochBegin> decode_epoch_begin(std::span<const std::byte> frame);
[[nodiscard]] Result<PassBegin> decode_pass_begin(std::span<const std::byte> frame);
[[nodiscard]] Result<ExtentView> decode_extent(std::span<const std::byte> frame);
// At least one.
[[nodiscard]] Result<std::vector<ExtentView>> decode_extents(std::span<const std::byte> frame);
[[nodiscard]] Result<Ack> decode_ack(std::span<const std::byte> frame);
[[nodiscard]] Result<PassEnd> decode_pass_end(std::span<const std::byte> frame);
[[nodiscard]] Result<EpochClosed> decode_epoch_closed(std::span<const std::byte> frame);
[[nodiscard]] Result<Notice> decode_notice(std::span<const std::byte> frame);
[[nodiscard]] Result<Compare> decode_compare(std::span<const std::byte> frame);
[[nodiscard]] Result<Compared> decode_compared(std::span<const std::byte> frame);

// Content of a data extent into `into` (head.length bytes), digest verified: E_DIGEST.
[[nodiscard]] Status unpack(const ExtentView& extent, std::span<std::byte> into);

// Of each block_bytes of `data`.
[[nodiscard]] std::vector<Sha256> block_digests(std::span<const std::byte> data);

}  // namespace ebb::format
