// SPDX-License-Identifier: Apache-2.0
#include "format/record.h"

#include <algorithm>
#include <cstring>

#include "format/bytes.h"

namespace ebb::format {

namespace {

constexpr std::uint32_t record_magic = 0x4a424245;   // "EBBJ"
constexpr std::uint32_t trailer_magic = 0x54424245;  // "EBBT"
constexpr std::uint32_t meta_magic = 0x4d424245;     // "EBBM"
constexpr std::uint32_t session_magic = 0x53424245;  // "EBBS"
constexpr std::uint32_t names_magic = 0x4e424245;    // "EBBN"
constexpr std::uint32_t common_magic = 0x43424245;   // "EBBC"
constexpr std::uint16_t format_version = 2;

std::unexpected<Error> damaged(const char* what) {
    return fail(ErrorCode::corrupt, std::string("damaged ") + what);
}

bool get(Reader& r, bool& flag) {
    const std::uint8_t value = r.u8();
    flag = value != 0;
    return value <= 1;
}

void put(Writer& w, std::uint64_t bytes, const std::vector<Unreadable>& ranges) {
    w.u64(bytes);
    const std::size_t count = std::min(ranges.size(), unreadable_max);
    w.u32(static_cast<std::uint32_t>(count));
    for (std::size_t i = 0; i < count; ++i) {
        w.u32(ranges[i].disk);
        w.u64(ranges[i].offset);
        w.u64(ranges[i].length);
    }
}

bool get(Reader& r, std::uint64_t& bytes, std::vector<Unreadable>& ranges) {
    bytes = r.u64();
    const std::uint32_t count = r.u32();
    if (r.failed() || count > unreadable_max) return false;
    for (std::uint32_t i = 0; i < count; ++i) {
        Unreadable range;
        range.disk = r.u32();
        range.offset = r.u64();
        range.length = r.u64();
        ranges.push_back(range);
    }
    return true;
}

Payload envelope(std::uint32_t magic, const Payload& body) {
    Payload out;
    Writer w(out);
    w.u32(magic);
    w.u16(format_version);
    w.u16(0);
    w.u64(xxh3_64(body));
    w.bytes(body);
    return out;
}

Result<std::span<const std::byte>> open_envelope(std::uint32_t magic, std::span<const std::byte> in,
                                                 const char* what) {
    Reader r(in);
    const bool ours = r.u32() == magic;
    const std::uint16_t version = r.u16();
    r.u16();
    const std::uint64_t checksum = r.u64();
    if (r.failed() || !ours || checksum != xxh3_64(r.rest())) return damaged(what);
    if (version != format_version) {
        return fail(ErrorCode::version,
                    std::string(what) + " has version " + std::to_string(version) + ", known is 2");
    }
    return r.rest();
}

}  // namespace

Sha256 chain_after(std::span<const std::byte> encoded_header) {
    return sha256(encoded_header);
}

RecordBytes blank_record(std::size_t payload_bytes) {
    RecordBytes record;
    record.reserve(record_header_bytes + payload_bytes + record_trailer_bytes);
    record.resize(record_header_bytes);
    return record;
}

Digest128 payload_digest(const RecordBytes& record) {
    return xxh3_128(std::span<const std::byte>(record).subspan(record_header_bytes));
}

RecordHeader seal_record(RecordBytes& record, RecordType type, std::uint64_t epoch,
                         std::uint64_t sequence, std::uint64_t durable_bytes, Sha256& chain) {
    return seal_record(record, payload_digest(record), type, epoch, sequence, durable_bytes, chain);
}

RecordHeader seal_record(RecordBytes& record, const Digest128& payload, RecordType type,
                         std::uint64_t epoch, std::uint64_t sequence, std::uint64_t durable_bytes,
                         Sha256& chain) {
    RecordHeader header{type,    epoch, sequence,      record.size() - record_header_bytes,
                        payload, chain, durable_bytes, 0};
    std::vector<std::byte> out;
    out.reserve(record_header_bytes);
    Writer w(out);
    w.u32(record_magic);
    w.u16(format_version);
    w.u8(static_cast<std::uint8_t>(type));
    w.u8(0);
    w.u64(epoch);
    w.u64(sequence);
    w.u64(header.payload_bytes);
    w.bytes(header.payload_digest);
    w.bytes(chain);
    w.u64(durable_bytes);
    w.u64(0);
    w.u64(0);
    w.u64(xxh3_64(out));
    std::copy(out.begin(), out.end(), record.begin());
    chain = chain_after(out);
    header.digest = xxh3_64(out);
    Writer trailer(record);
    trailer.u32(trailer_magic);
    trailer.u32(0);
    trailer.u64(header.digest);
    return header;
}

std::size_t find_record_magic(std::span<const std::byte> in) {
    for (std::size_t at = 0; at + 4 <= in.size();) {
        const void* found = std::memchr(in.data() + at, record_magic & 0xff, in.size() - at);
        if (found == nullptr) break;
        at = static_cast<std::size_t>(static_cast<const std::byte*>(found) - in.data());
        if (at + 4 > in.size()) break;
        if (Reader(in.subspan(at, 4)).u32() == record_magic) return at;
        ++at;
    }
    return in.size();
}

Result<RecordHeader> decode_record_header(std::span<const std::byte> in) {
    if (in.size() < record_header_bytes) return damaged("record header");
    in = in.first(record_header_bytes);
    Reader r(in);
    RecordHeader header;
    const bool ours = r.u32() == record_magic;
    const std::uint16_t version = r.u16();
    const std::uint8_t type = r.u8();
    r.u8();
    header.epoch = r.u64();
    header.sequence = r.u64();
    header.payload_bytes = r.u64();
    r.array(header.payload_digest);
    r.array(header.previous);
    header.durable_bytes = r.u64();
    r.u64();
    r.u64();
    const std::uint64_t checksum = r.u64();
    if (!ours || checksum != xxh3_64(in.first(record_header_bytes - 8))) {
        return damaged("record header");
    }
    if (version != format_version) {
        return fail(ErrorCode::version, "journal record of version " + std::to_string(version));
    }
    if (type < 1 || type > static_cast<std::uint8_t>(RecordType::manifest) ||
        header.payload_bytes > record_payload_max) {
        return damaged("record header");
    }
    header.type = static_cast<RecordType>(type);
    header.digest = xxh3_64(in);
    return header;
}

Status check_record(const RecordHeader& header, std::span<const std::byte> rest) {
    if (rest.size() != header.payload_bytes + record_trailer_bytes) return damaged("record");
    Reader r(rest.subspan(header.payload_bytes));
    if (r.u32() != trailer_magic || r.u32() != 0 || r.u64() != header.digest)
        return damaged("record trailer");
    if (xxh3_128(rest.first(header.payload_bytes)) != header.payload_digest) {
        return damaged("record payload");
    }
    return {};
}

Payload encode(const BeginRecord& m) {
    Payload out;
    Writer w(out);
    w.uuid(m.incarnation);
    w.u8(m.full ? 1 : 0);
    w.u8(m.initial ? 1 : 0);
    return out;
}

Result<BeginRecord> decode_begin_record(std::span<const std::byte> in) {
    Reader r(in);
    BeginRecord m;
    m.incarnation = r.uuid();
    bool valid = get(r, m.full);
    valid = get(r, m.initial) && valid;
    if (!valid || !r.done()) return damaged("begin record");
    return m;
}

Payload encode(const PositionRecord& m) {
    Payload out;
    Writer w(out);
    w.u32(m.pass);
    w.uuid(m.run);
    w.u8(static_cast<std::uint8_t>(m.kind));
    w.u64(m.count);
    w.bytes(m.chain);
    w.u64(m.bytes);
    w.u8(m.frozen_began ? 1 : 0);
    put(w, m.unreadable_bytes, m.unreadable);
    return out;
}

Result<PositionRecord> decode_position_record(std::span<const std::byte> in) {
    Reader r(in);
    PositionRecord m;
    m.pass = r.u32();
    m.run = r.uuid();
    const std::uint8_t kind = r.u8();
    m.kind = static_cast<PassKind>(kind);
    m.count = r.u64();
    r.array(m.chain);
    m.bytes = r.u64();
    bool valid = get(r, m.frozen_began);
    valid = get(r, m.unreadable_bytes, m.unreadable) && valid;
    if (!valid || !r.done() || kind > 1) return damaged("position record");
    return m;
}

Payload encode(const ClosedRecord& m) {
    Payload out;
    Writer w(out);
    w.uuid(m.incarnation);
    w.i64(m.cut_time.ns);
    w.i64(m.closed_time.ns);
    w.text(std::string_view(m.name).substr(0, text_max));
    w.u64(m.bytes);
    w.u64(m.undo_bytes);
    put(w, m.unreadable_bytes, m.unreadable);
    w.u8(static_cast<std::uint8_t>(m.point));
    return out;
}

Result<ClosedRecord> decode_closed_record(std::span<const std::byte> in) {
    Reader r(in);
    ClosedRecord m;
    m.incarnation = r.uuid();
    m.cut_time.ns = r.i64();
    m.closed_time.ns = r.i64();
    m.name = r.text();
    m.bytes = r.u64();
    m.undo_bytes = r.u64();
    const bool valid = get(r, m.unreadable_bytes, m.unreadable);
    const std::uint8_t point = r.u8();
    m.point = static_cast<PointKind>(point);
    if (!valid || !r.done() || point > 1) return damaged("closed record");
    return m;
}

Payload encode(const MergedRecord& m) {
    Payload out;
    Writer w(out);
    w.u64(m.first);
    w.u64(m.last);
    w.bytes(m.before);
    w.bytes(m.after);
    return out;
}

Result<MergedRecord> decode_merged_record(std::span<const std::byte> in) {
    Reader r(in);
    MergedRecord m;
    m.first = r.u64();
    m.last = r.u64();
    r.array(m.before);
    r.array(m.after);
    if (!r.done() || m.first >= m.last) return damaged("merged record");
    return m;
}

Payload encode(const MoveRecord& m) {
    Payload out;
    Writer w(out);
    w.u64(m.from);
    w.u64(m.to);
    return out;
}

Result<MoveRecord> decode_move_record(std::span<const std::byte> in) {
    Reader r(in);
    MoveRecord m;
    m.from = r.u64();
    m.to = r.u64();
    if (!r.done()) return damaged("move record");
    return m;
}

Payload encode(const ArrivedRecord& m) {
    Payload out;
    Writer w(out);
    w.u64(m.point);
    return out;
}

Result<ArrivedRecord> decode_arrived_record(std::span<const std::byte> in) {
    Reader r(in);
    ArrivedRecord m;
    m.point = r.u64();
    if (!r.done()) return damaged("arrived record");
    return m;
}

Payload encode(const ManifestRecord& m) {
    Payload out;
    out.reserve(m.extents.size() * manifest_entry_bytes);
    Writer w(out);
    for (const ManifestEntry& extent : m.extents) {
        w.u32(extent.disk);
        w.u64(extent.offset);
        w.u64(extent.length);
        w.u8(static_cast<std::uint8_t>(extent.kind));
        w.bytes(extent.digest);
    }
    return out;
}

Result<ManifestRecord> decode_manifest_record(std::span<const std::byte> in) {
    if (in.size() % manifest_entry_bytes != 0) return damaged("manifest record");
    Reader r(in);
    ManifestRecord m;
    m.extents.resize(in.size() / manifest_entry_bytes);
    for (ManifestEntry& extent : m.extents) {
        extent.disk = r.u32();
        extent.offset = r.u64();
        extent.length = r.u64();
        const std::uint8_t kind = r.u8();
        extent.kind = static_cast<ExtentKind>(kind);
        r.array(extent.digest);
        if (kind > static_cast<std::uint8_t>(ExtentKind::same) || extent.disk >= disks_max ||
            extent.length == 0 || extent.length > extent_bytes_max ||
            extent.offset + extent.length < extent.offset) {
            return damaged("manifest record");
        }
    }
    if (!r.done()) return damaged("manifest record");
    return m;
}

Payload encode(const MetaFile& m) {
    Payload body;
    Writer w(body);
    w.uuid(m.protection);
    w.u32(static_cast<std::uint32_t>(m.disks.size()));
    for (const MetaFile::Disk& disk : m.disks) {
        w.text(disk.source_id);
        w.text(disk.target_id);
        w.u64(disk.size);
    }
    return envelope(meta_magic, body);
}

Result<MetaFile> decode_meta_file(std::span<const std::byte> in) {
    auto body = open_envelope(meta_magic, in, "meta file");
    if (!body) return std::unexpected(body.error());
    Reader r(*body);
    MetaFile m;
    m.protection = r.uuid();
    const std::uint32_t count = r.u32();
    if (r.failed() || count > disks_max) return damaged("meta file");
    for (std::uint32_t i = 0; i < count; ++i) {
        MetaFile::Disk disk;
        disk.source_id = r.text();
        disk.target_id = r.text();
        disk.size = r.u64();
        m.disks.push_back(std::move(disk));
    }
    if (!r.done()) return damaged("meta file");
    return m;
}

Payload encode(const SessionFile& m) {
    Payload body;
    Writer w(body);
    w.u64(m.session);
    w.u8(m.failed_over ? 1 : 0);
    return envelope(session_magic, body);
}

Result<SessionFile> decode_session_file(std::span<const std::byte> in) {
    auto body = open_envelope(session_magic, in, "session file");
    if (!body) return std::unexpected(body.error());
    Reader r(*body);
    SessionFile m;
    m.session = r.u64();
    const bool valid = get(r, m.failed_over);
    if (!valid || !r.done()) return damaged("session file");
    return m;
}

Payload encode(const NamesFile& m) {
    Payload body;
    Writer w(body);
    w.u64(m.entries.size());
    for (const NamesFile::Entry& entry : m.entries) {
        w.u64(entry.epoch);
        w.text(entry.name);
    }
    return envelope(names_magic, body);
}

Result<NamesFile> decode_names_file(std::span<const std::byte> in) {
    auto body = open_envelope(names_magic, in, "names file");
    if (!body) return std::unexpected(body.error());
    Reader r(*body);
    NamesFile m;
    const std::uint64_t count = r.u64();
    for (std::uint64_t i = 0; i < count && !r.failed(); ++i) {
        NamesFile::Entry entry;
        entry.epoch = r.u64();
        entry.name = r.text();
        if (i > 0 && entry.epoch <= m.entries.back().epoch) return damaged("names file");
        m.entries.push_back(std::move(entry));
    }
    if (!r.done()) return damaged("names file");
    return m;
}

Payload encode(const CommonFile& m) {
    Payload body;
    Writer w(body);
    w.u64(m.entries.size());
    for (const CommonFile::Entry& entry : m.entries) {
        w.u64(entry.epoch);
        w.uuid(entry.common.cut);
        w.i64(entry.common.time.ns);
    }
    return envelope(common_magic, body);
}

Result<CommonFile> decode_common_file(std::span<const std::byte> in) {
    auto body = open_envelope(common_magic, in, "file of common cuts");
    if (!body) return std::unexpected(body.error());
    Reader r(*body);
    CommonFile m;
    const std::uint64_t count = r.u64();
    for (std::uint64_t i = 0; i < count && !r.failed(); ++i) {
        CommonFile::Entry entry;
        entry.epoch = r.u64();
        entry.common.cut = r.uuid();
        entry.common.time.ns = r.i64();
        if (i > 0 && entry.epoch <= m.entries.back().epoch) return damaged("file of common cuts");
        m.entries.push_back(entry);
    }
    if (!r.done()) return damaged("file of common cuts");
    return m;
}

}  // namespace ebb::format
