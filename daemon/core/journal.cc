// SPDX-License-Identifier: Apache-2.0
#include "core/journal.h"

#include <algorithm>

namespace ebb::core {

namespace {

constexpr const char* session_name = "session";
constexpr const char* prefix = "epoch-";
constexpr const char* suffix = ".ebb";
constexpr std::size_t digits = 16;
constexpr std::uint64_t seal_bytes = format::record_header_bytes + format::record_trailer_bytes;
constexpr std::uint64_t look_bytes = 1ULL << 20;

bool same_disks(const format::MetaFile& a, const format::MetaFile& b) {
    return std::equal(a.disks.begin(), a.disks.end(), b.disks.begin(), b.disks.end(),
                      [](const auto& x, const auto& y) {
                          return x.source_id == y.source_id && x.target_id == y.target_id &&
                                 x.size == y.size;
                      });
}

const env::VolumeFile* find(const std::vector<env::VolumeFile>& files, std::string_view name) {
    const auto at = std::find_if(files.begin(), files.end(),
                                 [&](const env::VolumeFile& file) { return file.name == name; });
    return at == files.end() ? nullptr : &*at;
}

format::RecordBytes record_of(const format::Payload& payload) {
    auto record = format::blank_record(payload.size());
    record.insert(record.end(), payload.begin(), payload.end());
    return record;
}

format::RecordBytes seal_of(std::uint64_t epoch, std::uint64_t records, std::uint64_t durable_bytes,
                            format::Sha256 chain) {
    auto seal = format::blank_record(0);
    format::seal_record(seal, format::RecordType::sealed, epoch, records, durable_bytes, chain);
    return seal;
}

}  // namespace

Error Journal::lost() {
    return {
        ErrorCode::not_found, "the journal of this protection is not on its retention volume",
        "Mount the volume that holds it. If it is lost, so are the recovery points: disable the "
        "protection, and protect the machine again",
        "E_RETENTION_LOST"};
}

std::string Journal::epoch_name(std::uint64_t epoch) {
    std::string number(digits, '0');
    for (std::size_t i = digits; i > 0; --i, epoch >>= 4) {
        number[i - 1] = "0123456789abcdef"[epoch & 15];
    }
    return prefix + number + suffix;
}

std::optional<std::uint64_t> Journal::epoch_of(const std::string& name) {
    const std::string head = prefix;
    if (name.size() != head.size() + digits + 4 || !name.starts_with(head)) return std::nullopt;
    std::uint64_t epoch = 0;
    for (std::size_t i = 0; i < digits; ++i) {
        const char c = name[head.size() + i];
        if (c >= '0' && c <= '9') {
            epoch = epoch << 4 | static_cast<std::uint64_t>(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            epoch = epoch << 4 | static_cast<std::uint64_t>(c - 'a' + 10);
        } else {
            return std::nullopt;
        }
    }
    return epoch_name(epoch) == name ? std::optional(epoch) : std::nullopt;
}

std::uint64_t Journal::bytes() const {
    std::uint64_t sum = open_ ? open_->file_bytes : 0;
    for (const ClosedEpoch& epoch : closed_) sum += epoch.file_bytes;
    return sum;
}

Task<Result<std::vector<std::byte>>> Journal::read_file(std::string name, std::uint64_t size) {
    auto content = std::make_shared<std::vector<std::byte>>(size);
    Op<void> op;
    volume_.read(name, 0, *content, op.callback(content));
    auto status = co_await op;
    if (!status) co_return std::unexpected(status.error());
    co_return std::move(*content);
}

Task<Status> Journal::replace_file(std::string name, format::Payload content) {
    const std::string fresh = name + ".new";
    auto data = std::make_shared<format::Payload>(std::move(content));
    Op<void> removed;
    volume_.remove(fresh, removed.callback());
    auto ignored = co_await removed;  // most often there is none
    (void)ignored;
    Op<void> created;
    volume_.create(fresh, created.callback());
    auto status = co_await created;
    if (!status) co_return status;
    Op<void> appended;
    volume_.append(fresh, *data, appended.callback(data));
    status = co_await appended;
    if (!status) co_return status;
    Op<void> synced;
    volume_.sync(fresh, "replace-content", synced.callback());
    status = co_await synced;
    if (!status) co_return status;
    Op<void> renamed;
    volume_.rename(fresh, name, renamed.callback());
    status = co_await renamed;
    if (!status) co_return status;
    Op<void> named;
    volume_.sync_directory("replace-name", named.callback());
    status = co_await named;
    co_return status;
}

Task<Status> Journal::write_session(format::SessionFile session) {
    auto status = co_await replace_file(session_name, format::encode(session));
    if (status) session_ = session;
    co_return status;
}

Task<Status> Journal::open(const format::MetaFile& meta, std::uint64_t session, bool make) {
    closed_.clear();
    open_.reset();
    chain_ = {};
    chain_closed_ = {};
    disks_ = meta.disks.size();
    Op<std::vector<env::VolumeFile>> listed;
    volume_.list(listed.callback());
    auto files = co_await listed;
    if (!files) co_return std::unexpected(files.error());
    const env::VolumeFile* found = find(*files, meta_name);
    if (found == nullptr) {
        for (const env::VolumeFile& file : *files) {
            if (epoch_of(file.name)) {
                co_return fail(ErrorCode::corrupt, "the journal has epochs and no meta file");
            }
        }
        if (!make) co_return std::unexpected(lost());
        auto made = co_await replace_file(meta_name, format::encode(meta));
        if (!made) co_return made;
    } else {
        auto content = co_await read_file(meta_name, found->size);
        if (!content) co_return std::unexpected(content.error());
        auto there = format::decode_meta_file(*content);
        if (!there) co_return std::unexpected(there.error());
        if (there->protection != meta.protection || !same_disks(*there, meta)) {
            co_return fail(ErrorCode::refused,
                           "the journal belongs to another protection or to other disks",
                           "choose another retention directory, or disable that protection");
        }
    }
    session_ = {};
    found = find(*files, session_name);
    if (found != nullptr) {
        auto content = co_await read_file(session_name, found->size);
        if (!content) co_return std::unexpected(content.error());
        auto there = format::decode_session_file(*content);
        if (!there) co_return std::unexpected(there.error());
        session_ = *there;
    }
    if (found == nullptr || session > session_.session) {
        auto written =
            co_await write_session({std::max(session, session_.session), session_.failed_over});
        if (!written) co_return written;
    }
    auto status = co_await recover_files(std::move(*files));
    co_return status;
}

struct Journal::Scan {
    std::string name;
    std::uint64_t size = 0;
    bool last = false;
    std::uint64_t at = 0;
    bool torn = false;
    bool any = false;
    JournalEpoch epoch;
    std::optional<format::ClosedRecord> closed;
    format::Sha256 chain{};
    format::RecordHeader header;
    format::Sha256 chain_next{};
};

Task<Status> Journal::recover_files(std::vector<env::VolumeFile> files) {
    std::erase_if(files, [](const env::VolumeFile& file) { return !epoch_of(file.name); });
    std::sort(files.begin(), files.end(),
              [](const env::VolumeFile& a, const env::VolumeFile& b) { return a.name < b.name; });
    for (std::size_t i = 0; i < files.size(); ++i) {
        auto status = co_await scan_file(files[i].name, files[i].size, i + 1 == files.size());
        if (!status) co_return status;
    }
    // What a daemon wrote and did not sync before it died may still be in the cache alone.
    Op<void> named;
    volume_.sync_directory("recovery-name", named.callback());
    auto status = co_await named;
    co_return status;
}

Task<Status> Journal::scan_file(std::string name, std::uint64_t size, bool last) {
    Scan scan;
    scan.name = name;
    scan.size = size;
    scan.last = last;
    scan.chain = chain_;
    scan.epoch.epoch = *epoch_of(name);
    scan.epoch.undone.resize(disks_);
    while (scan.at < size && !scan.torn && !scan.closed) {
        auto status = co_await scan_record(scan);
        if (!status) co_return status;
    }
    // Behind the closed record comes its seal, or a part of it.
    if (scan.closed && size - scan.at > seal_bytes) {
        co_return fail(ErrorCode::corrupt, name + ": data after the end of a closed epoch");
    }
    if (scan.last) {
        auto status = co_await repair_tail(scan);
        if (!status) co_return status;
        if (scan.at == 0) co_return Status{};
    } else if (!scan.closed) {
        co_return fail(ErrorCode::corrupt, name + ": an epoch that is not the newest is not closed",
                       "the points of this protection cannot be relied on: disable it, and protect "
                       "the machine again");
    }
    chain_ = scan.chain;
    scan.epoch.file_bytes = scan.epoch.durable_bytes = scan.at;
    if (scan.closed) {
        chain_closed_ = scan.chain;
        closed_.push_back({scan.epoch.epoch, scan.at + seal_bytes, std::move(*scan.closed)});
    } else {
        open_ = std::move(scan.epoch);
    }
    co_return Status{};
}

// A tail that is not whole was not synced, so nothing was done that relied on it; unless a later
// record says otherwise.
Task<Status> Journal::repair_tail(Scan& scan) {
    if (scan.torn) {
        auto status = co_await look_beyond(scan);
        if (!status) co_return status;
    }
    if (scan.at == 0) {
        Op<void> removed;
        volume_.remove(scan.name, removed.callback());
        auto status = co_await removed;
        co_return status;
    }
    if (scan.torn) {
        Op<void> cut;
        volume_.truncate(scan.name, scan.at, cut.callback());
        auto status = co_await cut;
        if (!status) co_return status;
    }
    Op<void> synced;
    volume_.sync(scan.name, "recovery-content", synced.callback());
    auto status = co_await synced;
    if (status && scan.closed) status = co_await seal_again(scan);
    co_return status;
}

// What was damaged after it had been synced is loss: a header beyond it that was made when it was
// durable bears witness.
Task<Status> Journal::look_beyond(const Scan& scan) {
    std::uint64_t from = scan.at + 1;
    while (from + format::record_header_bytes <= scan.size) {
        const std::uint64_t size =
            std::min(scan.size - from, look_bytes + format::record_header_bytes);
        auto chunk = std::make_shared<std::vector<std::byte>>(size);
        Op<void> read;
        volume_.read(scan.name, from, *chunk, read.callback(chunk));
        auto status = co_await read;
        if (!status) co_return status;
        for (auto rest = std::span<const std::byte>(*chunk);
             rest.size() >= format::record_header_bytes; rest = rest.subspan(1)) {
            rest = rest.subspan(format::find_record_magic(rest));
            auto header = format::decode_record_header(rest);
            if (header && header->epoch == scan.epoch.epoch &&
                header->sequence > scan.epoch.records && header->durable_bytes > scan.at) {
                co_return fail(ErrorCode::corrupt,
                               scan.name + ": damaged at " + std::to_string(scan.at) +
                                   ", where it had been durable",
                               "the points of this protection cannot be relied on: disable it, and "
                               "protect the machine again");
            }
            if (rest.empty()) break;
        }
        from += look_bytes;
    }
    co_return Status{};
}

Task<Status> Journal::scan_record(Scan& scan) {
    const auto bad = [&](std::string what) -> Status {
        if (scan.last) {
            scan.torn = true;
            return {};
        }
        return fail(ErrorCode::corrupt, scan.name + ": " + std::move(what));
    };
    if (scan.size - scan.at < format::record_header_bytes) co_return bad("short record");
    auto head = std::make_shared<std::vector<std::byte>>(format::record_header_bytes);
    Op<void> read;
    volume_.read(scan.name, scan.at, *head, read.callback(head));
    auto status = co_await read;
    if (!status) co_return status;
    auto header = format::decode_record_header(*head);
    if (!header) {
        if (header.error().code == ErrorCode::version) co_return std::unexpected(header.error());
        co_return bad(header.error().message);
    }
    // After pruning the chain begins somewhere.
    const bool first = closed_.empty() && scan.epoch.records == 0;
    if (header->epoch != scan.epoch.epoch || header->sequence != scan.epoch.records ||
        (!first && header->previous != scan.chain)) {
        co_return bad("record out of order");
    }
    const std::uint64_t rest = header->payload_bytes + format::record_trailer_bytes;
    if (scan.size - scan.at - format::record_header_bytes < rest) co_return bad("short record");
    scan.header = *header;
    scan.chain_next = format::chain_after(*head);
    auto body = std::make_shared<std::vector<std::byte>>();
    if (scan.last || header->type != format::RecordType::undo) {
        body->resize(rest);
        Op<void> read_body;
        volume_.read(scan.name, scan.at + format::record_header_bytes, *body,
                     read_body.callback(body));
        status = co_await read_body;
        if (!status) co_return status;
        if (auto whole = format::check_record(*header, *body); !whole) {
            co_return bad(whole.error().message);
        }
        body->resize(header->payload_bytes);
    }
    status = take_record(scan, *body);
    if (!status) co_return status;
    scan.at += format::record_header_bytes + rest;
    ++scan.epoch.records;
    scan.chain = scan.chain_next;
    co_return Status{};
}

Status Journal::take_record(Scan& scan, const std::vector<std::byte>& payload) {
    JournalEpoch& epoch = scan.epoch;
    switch (scan.header.type) {
        case format::RecordType::begin: {
            auto record = format::decode_begin_record(payload);
            if (!record) return std::unexpected(record.error());
            epoch.begin = *record;
            epoch.position.reset();
            return {};
        }
        case format::RecordType::undo: {
            epoch.undo_bytes += scan.header.payload_bytes;
            if (!scan.last) return {};
            auto entries = format::decode_undo_table(payload, payload.size());
            if (!entries) return std::unexpected(entries.error());
            for (const format::UndoEntry& entry : *entries) {
                if (entry.disk >= disks_)
                    return fail(ErrorCode::corrupt, "undo of an unknown disk");
                epoch.undone[entry.disk].add(entry.offset, entry.offset + entry.length);
            }
            epoch.undo.push_back({scan.at, scan.header});
            return {};
        }
        case format::RecordType::position: {
            auto record = format::decode_position_record(payload);
            if (!record) return std::unexpected(record.error());
            epoch.position = *record;
            return {};
        }
        case format::RecordType::closed: {
            auto record = format::decode_closed_record(payload);
            if (!record) return std::unexpected(record.error());
            scan.closed = std::move(*record);
            return {};
        }
        case format::RecordType::sealed:
            return fail(ErrorCode::corrupt, scan.name + ": a seal and nothing closed");
    }
    return fail(ErrorCode::corrupt, "unknown record");
}

Task<Result<format::RecordHeader>> Journal::append(format::RecordType type,
                                                   format::RecordBytes record,
                                                   std::string_view site) {
    const std::string name = epoch_name(open_->epoch);
    format::Sha256 chain = chain_;
    auto bytes = std::make_shared<format::RecordBytes>(std::move(record));
    const auto header = format::seal_record(*bytes, type, open_->epoch, open_->records,
                                            open_->durable_bytes, chain);
    Op<void> appended;
    volume_.append(name, *bytes, appended.callback(bytes));
    auto status = co_await appended;
    if (!status) {
        if (status.error().code != ErrorCode::no_space) co_return std::unexpected(status.error());
        Op<void> cut;
        volume_.truncate(name, open_->file_bytes, cut.callback());
        auto undone = co_await cut;
        if (!undone) co_return std::unexpected(undone.error());
        co_return std::unexpected(status.error());
    }
    if (!site.empty()) {
        Op<void> synced;
        volume_.sync(name, site, synced.callback());
        status = co_await synced;
        if (!status) {
            // What a failed sync left is not known: never E_NO_SPACE, so that it is read again.
            co_return fail(ErrorCode::io, "sync of the journal failed: " + status.error().message);
        }
        open_->durable_bytes = open_->file_bytes + bytes->size();
    }
    open_->file_bytes += bytes->size();
    ++open_->records;
    chain_ = chain;
    co_return header;
}

Task<Status> Journal::begin(std::uint64_t epoch, format::BeginRecord record) {
    const bool fresh = !open_;
    if (fresh) {
        const std::string name = epoch_name(epoch);
        Op<void> created;
        volume_.create(name, created.callback());
        auto status = co_await created;
        if (!status) co_return status;
        open_.emplace();
        open_->epoch = epoch;
        open_->undone.resize(disks_);
        chain_ = chain_closed_;
    }
    // The first one is not synced: without it there is no epoch, and nothing is done that relies on
    // it before a later record is. One that starts the epoch over takes back what earlier ones say.
    auto begun = co_await append(format::RecordType::begin, record_of(format::encode(record)),
                                 fresh ? "" : "epoch-again");
    if (!begun) {
        // An open epoch without its first record is none: as after a crash here.
        if (begun.error().code == ErrorCode::no_space && fresh) {
            auto dropped = co_await drop_open();
            if (!dropped) co_return dropped;
        }
        co_return std::unexpected(begun.error());
    }
    Status status;
    open_->begin = record;
    open_->position.reset();
    if (fresh) {
        Op<void> named;
        volume_.sync_directory("epoch-name", named.callback());
        status = co_await named;
    }
    co_return status;
}

Task<Status> Journal::append_undo(std::vector<format::UndoEntry> entries,
                                  format::RecordBytes record) {
    const std::uint64_t at = open_->file_bytes;
    auto header = co_await append(format::RecordType::undo, std::move(record), "undo");
    if (!header) co_return std::unexpected(header.error());
    open_->undo_bytes += header->payload_bytes;
    open_->undo.push_back({at, *header});
    for (const format::UndoEntry& entry : entries) {
        open_->undone[entry.disk].add(entry.offset, entry.offset + entry.length);
    }
    co_return Status{};
}

Task<Status> Journal::append_position(format::PositionRecord record, std::string_view site) {
    auto done =
        co_await append(format::RecordType::position, record_of(format::encode(record)), site);
    if (!done) co_return std::unexpected(done.error());
    open_->position = std::move(record);
    co_return Status{};
}

Task<Status> Journal::append_closed(format::ClosedRecord record) {
    record.undo_bytes = open_->undo_bytes;
    auto done =
        co_await append(format::RecordType::closed, record_of(format::encode(record)), "closed");
    if (!done) co_return std::unexpected(done.error());
    chain_closed_ = chain_;
    co_await append_seal(epoch_name(open_->epoch),
                         seal_of(open_->epoch, open_->records, open_->durable_bytes, chain_));
    closed_.push_back({open_->epoch, open_->file_bytes + seal_bytes, std::move(record)});
    open_.reset();
    co_return Status{};
}

// Good for nothing but a witness: where there is no room for it the epoch is closed all the same.
Task<void> Journal::append_seal(std::string name, format::RecordBytes seal) {
    auto bytes = std::make_shared<format::RecordBytes>(std::move(seal));
    Op<void> appended;
    volume_.append(name, *bytes, appended.callback(bytes));
    auto status = co_await appended;
    if (!status) co_return;
    Op<void> synced;
    volume_.sync(name, "seal", synced.callback());
    status = co_await synced;
}

// As recovered: whoever is told that the epoch is closed may rely on its seal.
Task<Status> Journal::seal_again(const Scan& scan) {
    auto seal = seal_of(scan.epoch.epoch, scan.epoch.records, scan.at, scan.chain);
    auto tail = co_await read_tail(scan);
    if (!tail) co_return std::unexpected(tail.error());
    if (*tail == seal) co_return Status{};
    if (!tail->empty()) {
        Op<void> cut;
        volume_.truncate(scan.name, scan.at, cut.callback());
        auto status = co_await cut;
        if (!status) co_return status;
    }
    co_await append_seal(scan.name, std::move(seal));
    co_return Status{};
}

Task<Result<std::vector<std::byte>>> Journal::read_tail(const Scan& scan) {
    auto tail = std::make_shared<std::vector<std::byte>>(scan.size - scan.at);
    Op<void> read;
    volume_.read(scan.name, scan.at, *tail, read.callback(tail));
    auto status = co_await read;
    if (!status) co_return std::unexpected(status.error());
    co_return std::move(*tail);
}

Task<Result<std::vector<std::byte>>> Journal::read_undo(UndoRecord record) {
    auto body = std::make_shared<std::vector<std::byte>>(record.header.payload_bytes +
                                                         format::record_trailer_bytes);
    Op<void> read;
    volume_.read(epoch_name(open_->epoch), record.at + format::record_header_bytes, *body,
                 read.callback(body));
    auto status = co_await read;
    if (!status) co_return std::unexpected(status.error());
    if (auto whole = format::check_record(record.header, *body); !whole) {
        co_return std::unexpected(whole.error());
    }
    body->resize(record.header.payload_bytes);
    co_return std::move(*body);
}

Task<Status> Journal::drop_open() {
    Op<void> removed;
    volume_.remove(epoch_name(open_->epoch), removed.callback());
    auto status = co_await removed;
    if (!status) co_return status;
    open_.reset();
    chain_ = chain_closed_;
    Op<void> named;
    volume_.sync_directory("drop-open", named.callback());
    status = co_await named;
    co_return status;
}

Task<Status> Journal::remove_oldest() {
    Op<void> removed;
    volume_.remove(epoch_name(closed_.front().epoch), removed.callback());
    auto status = co_await removed;
    if (!status) co_return status;
    closed_.pop_front();
    Op<void> named;
    volume_.sync_directory("remove-oldest", named.callback());
    status = co_await named;
    co_return status;
}

}  // namespace ebb::core
