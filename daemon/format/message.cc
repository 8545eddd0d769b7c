// SPDX-License-Identifier: Apache-2.0
#include "format/message.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "format/bytes.h"
#include "format/codec.h"

namespace ebb::format {

namespace {

FrameBytes blank(std::size_t payload) {
    FrameBytes frame;
    frame.reserve(frame_header_bytes + payload);
    frame.resize(frame_header_bytes);
    return frame;
}

Reader payload(std::span<const std::byte> frame) {
    return Reader(frame.size() < frame_header_bytes ? std::span<const std::byte>()
                                                    : frame.subspan(frame_header_bytes));
}

std::unexpected<Error> malformed(const char* what) {
    return fail(ErrorCode::protocol, std::string("malformed frame: ") + what);
}

void put(Writer& w, PassKind kind) {
    w.u8(static_cast<std::uint8_t>(kind));
}

bool get(Reader& r, PassKind& kind) {
    const std::uint8_t value = r.u8();
    kind = static_cast<PassKind>(value);
    return value <= static_cast<std::uint8_t>(PassKind::live);
}

bool get(Reader& r, bool& flag) {
    const std::uint8_t value = r.u8();
    flag = value != 0;
    return value <= 1;
}

std::string_view cut(const std::string& text) {
    return std::string_view(text).substr(0, text_max);
}

// Codes travel as their position in ErrorCode; one that the receiver does not know becomes
// `refused`.
ErrorCode error_code(std::uint16_t value) {
    return value <= static_cast<std::uint16_t>(ErrorCode::unsupported)
               ? static_cast<ErrorCode>(value)
               : ErrorCode::refused;
}

}  // namespace

FrameBytes encode(const Hello& m, std::uint64_t sequence) {
    FrameBytes frame = blank(256);
    Writer w(frame);
    w.u16(m.version_min);
    w.u16(m.version_max);
    w.uuid(m.protection);
    w.u64(m.session);
    w.uuid(m.run);
    w.uuid(m.incarnation);
    w.u32(static_cast<std::uint32_t>(m.disks.size()));
    for (const HelloDisk& disk : m.disks) {
        w.text(cut(disk.stable_id));
        w.u64(disk.size);
    }
    seal_frame(frame, FrameType::hello, sequence);
    return frame;
}

Result<Hello> decode_hello(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    Hello m;
    m.version_min = r.u16();
    m.version_max = r.u16();
    m.protection = r.uuid();
    m.session = r.u64();
    m.run = r.uuid();
    m.incarnation = r.uuid();
    const std::uint32_t count = r.u32();
    if (r.failed() || count > disks_max || m.version_min > m.version_max) return malformed("HELLO");
    for (std::uint32_t i = 0; i < count; ++i) {
        HelloDisk disk;
        disk.stable_id = r.text();
        disk.size = r.u64();
        if (disk.stable_id.size() > text_max) return malformed("HELLO");
        m.disks.push_back(std::move(disk));
    }
    // Later versions may say more, behind what all of them say.
    if (r.failed() || (!r.done() && m.version_max <= protocol_version)) return malformed("HELLO");
    return m;
}

FrameBytes encode(const Welcome& m, std::uint64_t sequence) {
    FrameBytes frame = blank(192);
    Writer w(frame);
    w.u16(m.version);
    w.u64(m.closed_epoch);
    w.uuid(m.closed_incarnation);
    w.u64(m.window_bytes);
    w.u32(m.extent_bytes);
    w.u64(m.open.epoch);
    w.uuid(m.open.incarnation);
    w.u8(m.open.full ? 1 : 0);
    w.u8(m.open.resumable ? 1 : 0);
    w.u32(m.open.pass);
    w.uuid(m.open.run);
    put(w, m.open.kind);
    w.u64(m.open.count);
    w.bytes(m.open.chain);
    seal_frame(frame, FrameType::welcome, sequence);
    return frame;
}

Result<Welcome> decode_welcome(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    Welcome m;
    m.version = r.u16();
    m.closed_epoch = r.u64();
    m.closed_incarnation = r.uuid();
    m.window_bytes = r.u64();
    m.extent_bytes = r.u32();
    m.open.epoch = r.u64();
    m.open.incarnation = r.uuid();
    bool valid = get(r, m.open.full);
    valid = get(r, m.open.resumable) && valid;
    m.open.pass = r.u32();
    m.open.run = r.uuid();
    valid = get(r, m.open.kind) && valid;
    m.open.count = r.u64();
    r.array(m.open.chain);
    if (!valid || !r.done() || m.extent_bytes < block_bytes || m.extent_bytes > extent_bytes_max ||
        m.extent_bytes % block_bytes != 0 || m.window_bytes == 0) {
        return malformed("WELCOME");
    }
    return m;
}

FrameBytes encode(const Refused& m, std::uint64_t sequence) {
    FrameBytes frame = blank(128);
    Writer w(frame);
    w.u16(static_cast<std::uint16_t>(m.code));
    w.text(cut(m.message));
    seal_frame(frame, FrameType::refused, sequence);
    return frame;
}

Result<Refused> decode_refused(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    Refused m;
    m.code = error_code(r.u16());
    m.message = r.text();
    if (!r.done() || m.message.size() > text_max) return malformed("REFUSED");
    return m;
}

FrameBytes encode(const EpochBegin& m, std::uint64_t sequence) {
    FrameBytes frame = blank(32);
    Writer w(frame);
    w.u64(m.epoch);
    w.uuid(m.incarnation);
    w.u8(m.full ? 1 : 0);
    seal_frame(frame, FrameType::epoch_begin, sequence);
    return frame;
}

Result<EpochBegin> decode_epoch_begin(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    EpochBegin m;
    m.epoch = r.u64();
    m.incarnation = r.uuid();
    const bool valid = get(r, m.full);
    if (!valid || !r.done() || m.epoch == 0) return malformed("EPOCH_BEGIN");
    return m;
}

FrameBytes encode(const PassBegin& m, std::uint64_t sequence) {
    FrameBytes frame = blank(32);
    Writer w(frame);
    w.u64(m.epoch);
    w.u32(m.pass);
    put(w, m.kind);
    w.i64(m.cut_time.ns);
    w.u64(m.bytes);
    seal_frame(frame, FrameType::pass_begin, sequence);
    return frame;
}

Result<PassBegin> decode_pass_begin(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    PassBegin m;
    m.epoch = r.u64();
    m.pass = r.u32();
    const bool valid = get(r, m.kind);
    m.cut_time.ns = r.i64();
    m.bytes = r.u64();
    if (!valid || !r.done() || m.epoch == 0 || m.pass == 0) return malformed("PASS_BEGIN");
    return m;
}

namespace {

// As they are in both frames: what follows the index.
void put_place(Writer& w, const ExtentHead& m) {
    w.u32(m.disk);
    w.u64(m.offset);
    w.u32(m.length);
    w.u8(static_cast<std::uint8_t>(m.kind));
}

std::uint8_t get_place(Reader& r, ExtentHead& m) {
    m.disk = r.u32();
    m.offset = r.u64();
    m.length = r.u32();
    const std::uint8_t kind = r.u8();
    m.kind = static_cast<ExtentKind>(kind);
    return kind;
}

// Appends the content; says whether it is compressed.
bool put_content(FrameBytes& frame, std::span<const std::byte> content, int level) {
    if (level > 0 && !content.empty() && compress_append(content, level, frame)) return true;
    Writer(frame).bytes(content);
    return false;
}

bool is_valid(const ExtentView& m, std::uint8_t kind, std::uint8_t codec) {
    const ExtentHead& head = m.head;
    if (kind > static_cast<std::uint8_t>(ExtentKind::same) || codec > 1 || head.length == 0 ||
        head.length % sector_bytes != 0 || head.offset % sector_bytes != 0 ||
        head.offset + head.length < head.offset || head.length > extent_bytes_max) {
        return false;
    }
    const bool data = head.kind == ExtentKind::data;
    if (!data && (codec != 0 || !m.stored.empty())) return false;
    const bool has_digest = data || head.kind == ExtentKind::same;
    if (!has_digest && head.digest != Digest128{}) return false;
    return !data || codec != 0 || m.stored.size() == head.length;
}

}  // namespace

FrameBytes encode(const ExtentHead& m, std::span<const std::byte> content, int level,
                  std::uint64_t sequence) {
    constexpr std::size_t head_bytes = 48;
    FrameBytes frame = blank(head_bytes + content.size());
    Writer w(frame);
    w.u32(m.pass);
    w.u64(m.index);
    put_place(w, m);
    const std::size_t codec_at = frame.size();
    w.u8(0);
    w.u16(0);
    w.bytes(m.digest);
    if (put_content(frame, content, level)) frame[codec_at] = std::byte{1};
    seal_frame(frame, FrameType::extent, sequence);
    return frame;
}

Result<ExtentView> decode_extent(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    ExtentView m;
    m.head.pass = r.u32();
    m.head.index = r.u64();
    const std::uint8_t kind = get_place(r, m.head);
    const std::uint8_t codec = r.u8();
    const std::uint16_t reserved = r.u16();
    r.array(m.head.digest);
    m.stored = r.rest();
    m.compressed = codec == 1;
    if (r.failed() || reserved != 0 || !is_valid(m, kind, codec)) return malformed("EXTENT");
    return m;
}

std::size_t ExtentsWriter::bytes() const {
    return frame_.empty() ? 0 : frame_.size() - frame_header_bytes;
}

void ExtentsWriter::add(const ExtentHead& head, std::span<const std::byte> content, int level) {
    if (frame_.empty()) {
        frame_ = blank(content.size() + 64);
        Writer w(frame_);
        w.u32(head.pass);
        w.u64(head.index);
    }
    Writer w(frame_);
    put_place(w, head);
    const std::size_t codec_at = frame_.size();
    w.u8(0);
    w.u32(0);
    w.bytes(head.digest);
    const std::size_t content_at = frame_.size();
    if (put_content(frame_, content, level)) frame_[codec_at] = std::byte{1};
    const std::size_t stored = frame_.size() - content_at;
    for (std::size_t i = 0; i < sizeof(std::uint32_t); ++i)
        frame_[codec_at + 1 + i] = static_cast<std::byte>(stored >> (8 * i));
}

FrameBytes ExtentsWriter::take(std::uint64_t sequence) {
    seal_frame(frame_, FrameType::extents, sequence);
    return std::exchange(frame_, {});
}

Result<std::vector<ExtentView>> decode_extents(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    const std::uint32_t pass = r.u32();
    const std::uint64_t first = r.u64();
    std::vector<ExtentView> all;
    do {
        ExtentView& m = all.emplace_back();
        m.head.pass = pass;
        m.head.index = first + all.size() - 1;
        const std::uint8_t kind = get_place(r, m.head);
        const std::uint8_t codec = r.u8();
        const std::uint32_t stored = r.u32();
        r.array(m.head.digest);
        m.stored = r.bytes(stored);
        m.compressed = codec == 1;
        if (r.failed() || !is_valid(m, kind, codec)) return malformed("EXTENTS");
    } while (!r.done());
    return all;
}

FrameBytes encode(const Ack& m, std::uint64_t sequence) {
    FrameBytes frame = blank(32);
    Writer w(frame);
    w.u64(m.epoch);
    w.u32(m.pass);
    w.u64(m.count);
    seal_frame(frame, FrameType::ack, sequence);
    return frame;
}

Result<Ack> decode_ack(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    Ack m;
    m.epoch = r.u64();
    m.pass = r.u32();
    m.count = r.u64();
    if (!r.done()) return malformed("ACK");
    return m;
}

FrameBytes encode(const PassEnd& m, std::uint64_t sequence) {
    FrameBytes frame = blank(128);
    Writer w(frame);
    w.u64(m.epoch);
    w.u32(m.pass);
    put(w, m.kind);
    w.u64(m.count);
    w.bytes(m.chain);
    w.i64(m.cut_time.ns);
    w.text(cut(m.name));
    w.u8(static_cast<std::uint8_t>(m.point));
    seal_frame(frame, FrameType::pass_end, sequence);
    return frame;
}

Result<PassEnd> decode_pass_end(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    PassEnd m;
    m.epoch = r.u64();
    m.pass = r.u32();
    const bool valid = get(r, m.kind);
    m.count = r.u64();
    r.array(m.chain);
    m.cut_time.ns = r.i64();
    m.name = r.text();
    const std::uint8_t point = r.u8();
    m.point = static_cast<PointKind>(point);
    if (!valid || !r.done() || m.name.size() > text_max || point > 1) return malformed("PASS_END");
    return m;
}

FrameBytes encode(const EpochClosed& m, std::uint64_t sequence) {
    FrameBytes frame = blank(8);
    Writer w(frame);
    w.u64(m.epoch);
    seal_frame(frame, FrameType::epoch_closed, sequence);
    return frame;
}

Result<EpochClosed> decode_epoch_closed(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    EpochClosed m;
    m.epoch = r.u64();
    if (!r.done() || m.epoch == 0) return malformed("EPOCH_CLOSED");
    return m;
}

FrameBytes encode(const Notice& m, std::uint64_t sequence) {
    FrameBytes frame = blank(128);
    Writer w(frame);
    w.u8(m.clear ? 1 : 0);
    w.u16(static_cast<std::uint16_t>(m.code));
    w.text(cut(m.message));
    seal_frame(frame, FrameType::notice, sequence);
    return frame;
}

Result<Notice> decode_notice(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    Notice m;
    const bool valid = get(r, m.clear);
    m.code = error_code(r.u16());
    m.message = r.text();
    if (!valid || !r.done() || m.message.size() > text_max) return malformed("NOTICE");
    return m;
}

FrameBytes encode(const Compare& m, std::uint64_t sequence) {
    FrameBytes frame = blank(64);
    Writer w(frame);
    w.u32(m.pass);
    w.u64(m.id);
    w.u32(m.disk);
    w.u64(m.offset);
    w.u32(m.length);
    w.bytes(m.digest);
    seal_frame(frame, FrameType::compare, sequence);
    return frame;
}

Result<Compare> decode_compare(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    Compare m;
    m.pass = r.u32();
    m.id = r.u64();
    m.disk = r.u32();
    m.offset = r.u64();
    m.length = r.u32();
    r.array(m.digest);
    if (!r.done() || m.length == 0 || m.length % sector_bytes != 0 ||
        m.offset % sector_bytes != 0 || m.offset + m.length < m.offset ||
        m.length > extent_bytes_max) {
        return malformed("COMPARE");
    }
    return m;
}

FrameBytes encode(const Compared& m, std::uint64_t sequence) {
    FrameBytes frame = blank(16 + m.blocks.size() * sizeof(Sha256));
    Writer w(frame);
    w.u64(m.id);
    w.u8(static_cast<std::uint8_t>(m.verdict));
    w.u32(static_cast<std::uint32_t>(m.blocks.size()));
    for (const Sha256& block : m.blocks) w.bytes(block);
    seal_frame(frame, FrameType::compared, sequence);
    return frame;
}

Result<Compared> decode_compared(std::span<const std::byte> frame) {
    Reader r = payload(frame);
    Compared m;
    m.id = r.u64();
    const std::uint8_t verdict = r.u8();
    const std::uint32_t count = r.u32();
    m.verdict = static_cast<Verdict>(verdict);
    if (r.failed() || verdict > static_cast<std::uint8_t>(Verdict::unreadable) ||
        count > extent_bytes_max / block_bytes || (m.verdict == Verdict::differs) != (count != 0) ||
        r.left() != count * sizeof(Sha256)) {
        return malformed("COMPARED");
    }
    m.blocks.resize(count);
    for (Sha256& block : m.blocks) r.array(block);
    return m;
}

std::vector<Sha256> block_digests(std::span<const std::byte> data) {
    std::vector<Sha256> digests;
    for (std::size_t at = 0; at < data.size(); at += block_bytes) {
        digests.push_back(
            sha256(data.subspan(at, std::min<std::size_t>(block_bytes, data.size() - at))));
    }
    return digests;
}

FrameBytes encode_ping(FrameType type, std::uint64_t sequence) {
    FrameBytes frame = blank(0);
    seal_frame(frame, type, sequence);
    return frame;
}

Result<FrameHeader> frame_of(std::span<const std::byte> frame) {
    auto header = decode_frame_header(frame);
    if (header && frame.size() != frame_header_bytes + header->length) return malformed("length");
    return header;
}

Status unpack(const ExtentView& extent, std::span<std::byte> into) {
    if (into.size() != extent.head.length) return fail(ErrorCode::internal, "unpack: wrong size");
    if (extent.compressed) {
        if (auto status = decompress(extent.stored, into); !status) {
            return fail(ErrorCode::digest, "compressed extent is damaged");
        }
    } else {
        std::memcpy(into.data(), extent.stored.data(), into.size());
    }
    if (xxh3_128(into) != extent.head.digest) {
        return fail(ErrorCode::digest, "an extent does not match its digest");
    }
    return {};
}

}  // namespace ebb::format
