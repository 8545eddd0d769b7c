// SPDX-License-Identifier: Apache-2.0
#include "core/journal.h"

#include <algorithm>
#include <set>

namespace ebb::core {

namespace {

constexpr const char* session_name = "session";
constexpr std::string_view prefix = "epoch-";
constexpr std::string_view suffix = ".ebb";
constexpr std::size_t digits = 16;

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

std::string hexadecimal(std::uint64_t value) {
    std::string text(digits, '0');
    for (std::size_t i = digits; i > 0; --i, value >>= 4)
        text[i - 1] = "0123456789abcdef"[value & 15];
    return text;
}

std::optional<std::uint64_t> number_of(std::string_view text) {
    std::uint64_t value = 0;
    for (const char c : text) {
        if (c >= '0' && c <= '9') {
            value = value << 4 | static_cast<std::uint64_t>(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value << 4 | static_cast<std::uint64_t>(c - 'a' + 10);
        } else {
            return std::nullopt;
        }
    }
    return value;
}

}  // namespace

format::RecordBytes seal_of(const RecordFile& file) {
    auto seal = format::blank_record(0);
    format::Sha256 chain = file.chain;
    format::seal_record(seal, format::RecordType::sealed, file.epoch, file.records,
                        file.durable_bytes, chain);
    return seal;
}

Error Journal::lost() {
    return {
        ErrorCode::not_found, "the journal of this protection is not on its retention volume",
        "Mount the volume that holds it. If it is lost, so are the recovery points: disable the "
        "protection, and protect the machine again",
        "E_RETENTION_LOST"};
}

std::string Journal::file_name(const EpochSpan& span) {
    std::string name(prefix);
    if (span.first != span.last) name += hexadecimal(span.first) + "-";
    return name + hexadecimal(span.last) + std::string(suffix);
}

std::optional<EpochSpan> Journal::span_of(const std::string& name) {
    std::string_view text = name;
    if (!text.starts_with(prefix) || !text.ends_with(suffix)) return std::nullopt;
    text.remove_prefix(prefix.size());
    text.remove_suffix(suffix.size());
    const bool merged = text.size() == 2 * digits + 1 && text[digits] == '-';
    if (!merged && text.size() != digits) return std::nullopt;
    const auto last = number_of(text.substr(text.size() - digits));
    const auto first = merged ? number_of(text.substr(0, digits)) : last;
    if (!first || !last || (merged && *first >= *last)) return std::nullopt;
    return EpochSpan{*first, *last};
}

std::uint64_t Journal::bytes() const {
    std::uint64_t sum = open_ ? open_->file.bytes : 0;
    for (const ClosedEpoch& epoch : closed_) sum += epoch.file_bytes;
    return sum;
}

Task<Status> Journal::replace_file(std::string name, format::Payload content,
                                   std::string_view content_site, std::string_view name_site) {
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
    volume_.sync(fresh, content_site, synced.callback());
    status = co_await synced;
    if (!status) co_return status;
    Op<void> renamed;
    volume_.rename(fresh, name, renamed.callback());
    status = co_await renamed;
    if (!status) co_return status;
    Op<void> named;
    volume_.sync_directory(name_site, named.callback());
    status = co_await named;
    // Whether it is the old one or the new one is not known any more.
    if (!status && status.error().code == ErrorCode::no_space)
        status = fail(ErrorCode::io, status.error().message);
    co_return status;
}

Task<Status> Journal::open_names(const std::vector<env::VolumeFile>& files) {
    names_ = {};
    const env::VolumeFile* found = find(files, names_name);
    if (found == nullptr) co_return Status{};
    auto content = co_await read_bytes(volume_, names_name, 0, found->size);
    if (!content) co_return std::unexpected(content.error());
    auto there = format::decode_names_file(*content);
    if (!there) co_return std::unexpected(there.error());
    names_ = std::move(*there);
    co_return Status{};
}

// As soon as it is known: the points are shown while the journal is opened, and when it cannot be.
void Journal::give_name(ClosedEpoch& point) const {
    const auto named =
        std::ranges::lower_bound(names_.entries, point.epoch, {}, &format::NamesFile::Entry::epoch);
    if (named != names_.entries.end() && named->epoch == point.epoch)
        point.record.name = named->name;
}

Task<Status> Journal::rename_point(std::uint64_t epoch, std::string name) {
    format::NamesFile names;
    for (const format::NamesFile::Entry& entry : names_.entries) {
        if (entry.epoch != epoch && has_point(entry.epoch)) names.entries.push_back(entry);
    }
    const auto place =
        std::ranges::lower_bound(names.entries, epoch, {}, &format::NamesFile::Entry::epoch);
    names.entries.insert(place, {epoch, name});
    auto status =
        co_await replace_file(names_name, format::encode(names), "names-content", "names-name");
    if (!status) co_return status;
    names_ = std::move(names);
    std::ranges::lower_bound(closed_, epoch, {}, &ClosedEpoch::epoch)->record.name =
        std::move(name);
    co_return status;
}

Task<Status> Journal::open_common(const std::vector<env::VolumeFile>& files) {
    common_ = {};
    const env::VolumeFile* found = find(files, common_name);
    if (found == nullptr) co_return Status{};
    auto content = co_await read_bytes(volume_, common_name, 0, found->size);
    if (!content) co_return std::unexpected(content.error());
    auto there = format::decode_common_file(*content);
    if (!there) co_return std::unexpected(there.error());
    common_ = std::move(*there);
    co_return Status{};
}

const format::CommonCut* Journal::common_of(std::uint64_t epoch) const {
    const auto marked =
        std::ranges::lower_bound(common_.entries, epoch, {}, &format::CommonFile::Entry::epoch);
    return marked != common_.entries.end() && marked->epoch == epoch ? &marked->common : nullptr;
}

Task<Status> Journal::mark_common(std::uint64_t epoch, format::CommonCut common) {
    if (const auto* before = common_of(epoch); before != nullptr && *before == common)
        co_return Status{};
    format::CommonFile file;
    for (const format::CommonFile::Entry& entry : common_.entries) {
        if (entry.epoch != epoch && has_point(entry.epoch)) file.entries.push_back(entry);
    }
    const auto place =
        std::ranges::lower_bound(file.entries, epoch, {}, &format::CommonFile::Entry::epoch);
    file.entries.insert(place, {epoch, common});
    auto status =
        co_await replace_file(common_name, format::encode(file), "common-content", "common-name");
    if (status) common_ = std::move(file);
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
    chain_closed_ = {};
    half_merged_ = false;
    disks_ = meta.disks.size();
    Op<std::vector<env::VolumeFile>> listed;
    volume_.list(listed.callback());
    auto files = co_await listed;
    if (!files) co_return std::unexpected(files.error());
    auto status = co_await open_meta(meta, make, *files);
    if (!status) co_return status;
    status = co_await open_session(session, *files);
    if (!status) co_return status;
    status = co_await open_names(*files);
    if (!status) co_return status;
    status = co_await open_common(*files);
    if (!status) co_return status;
    status = co_await recover_files(*files);
    co_return status;
}

Task<Status> Journal::open_meta(const format::MetaFile& meta, bool make,
                                const std::vector<env::VolumeFile>& files) {
    const env::VolumeFile* found = find(files, meta_name);
    if (found == nullptr) {
        for (const env::VolumeFile& file : files) {
            if (span_of(file.name)) {
                co_return fail(ErrorCode::corrupt, "the journal has epochs and no meta file");
            }
        }
        if (!make) co_return std::unexpected(lost());
        auto made = co_await replace_file(meta_name, format::encode(meta));
        co_return made;
    }
    auto content = co_await read_bytes(volume_, meta_name, 0, found->size);
    if (!content) co_return std::unexpected(content.error());
    auto there = format::decode_meta_file(*content);
    if (!there) co_return std::unexpected(there.error());
    if (there->protection != meta.protection || !same_disks(*there, meta)) {
        co_return fail(ErrorCode::refused,
                       "the journal belongs to another protection or to other disks",
                       "choose another retention directory, or disable that protection");
    }
    co_return Status{};
}

Task<Status> Journal::open_session(std::uint64_t session,
                                   const std::vector<env::VolumeFile>& files) {
    session_ = {};
    const env::VolumeFile* found = find(files, session_name);
    if (found != nullptr) {
        auto content = co_await read_bytes(volume_, session_name, 0, found->size);
        if (!content) co_return std::unexpected(content.error());
        auto there = format::decode_session_file(*content);
        if (!there) co_return std::unexpected(there.error());
        session_ = *there;
    }
    if (found != nullptr && session <= session_.session) co_return Status{};
    auto written =
        co_await write_session({std::max(session, session_.session), session_.failed_over});
    co_return written;
}

Task<Status> Journal::begin(std::uint64_t epoch, format::BeginRecord record) {
    const bool fresh = !open_;
    if (fresh) {
        const std::string name = file_name({epoch, epoch});
        Op<void> created;
        volume_.create(name, created.callback());
        auto status = co_await created;
        if (!status) co_return status;
        open_.emplace();
        open_->epoch = epoch;
        open_->undone.resize(disks_);
        open_->file = {name, epoch, 0, 0, 0, chain_closed_};
    }
    // The first one is not synced: without it there is no epoch, and nothing is done that relies on
    // it before a later record is. One that starts the epoch over takes back what earlier ones say.
    auto begun =
        co_await append_record(volume_, open_->file, format::RecordType::begin,
                               record_of(format::encode(record)), fresh ? "" : "epoch-again");
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
    const std::uint64_t at = open_->file.bytes;
    auto header = co_await append_record(volume_, open_->file, format::RecordType::undo,
                                         std::move(record), "undo");
    if (!header) co_return std::unexpected(header.error());
    open_->undo_bytes += header->payload_bytes;
    open_->undo.push_back({at, *header});
    for (const format::UndoEntry& entry : entries) {
        open_->undone[entry.disk].add(entry.offset, entry.end());
    }
    if (readers_.undo) readers_.undo({open_->epoch, open_->epoch}, open_->undo.back(), entries);
    co_return Status{};
}

Task<Status> Journal::append_position(format::PositionRecord record, std::string_view site) {
    auto done = co_await append_record(volume_, open_->file, format::RecordType::position,
                                       record_of(format::encode(record)), site);
    if (!done) co_return std::unexpected(done.error());
    open_->last_pass = std::max(open_->last_pass, record.pass);
    open_->position = std::move(record);
    co_return Status{};
}

Task<Status> Journal::append_manifest(format::ManifestRecord record) {
    const std::uint64_t at = open_->file.bytes;
    auto header = co_await append_record(volume_, open_->file, format::RecordType::manifest,
                                         record_of(format::encode(record)), "");
    if (!header) co_return std::unexpected(header.error());
    open_->manifests.push_back({at, *header});
    co_return Status{};
}

Task<Result<format::ManifestRecord>> Journal::read_manifest(EpochSpan span, UndoRecord record) {
    auto payload =
        co_await read_bytes(volume_, file_name(span), record.at + format::record_header_bytes,
                            record.header.payload_bytes);
    if (!payload) co_return std::unexpected(payload.error());
    if (format::xxh3_128(*payload) != record.header.payload_digest)
        co_return fail(ErrorCode::corrupt, file_name(span) + ": a manifest is damaged");
    co_return format::decode_manifest_record(*payload);
}

Task<Status> Journal::append_closed(format::ClosedRecord record) {
    record.undo_bytes = open_->undo_bytes;
    auto done = co_await append_record(volume_, open_->file, format::RecordType::closed,
                                       record_of(format::encode(record)), "closed");
    if (!done) co_return std::unexpected(done.error());
    co_await append_seal(open_->file.name, seal_of(open_->file));
    closed_.push_back({open_->epoch,
                       {open_->epoch, open_->epoch},
                       open_->file.bytes + seal_bytes,
                       std::move(record),
                       std::move(open_->undo),
                       chain_closed_,
                       open_->file.chain,
                       std::move(open_->manifests)});
    chain_closed_ = open_->file.chain;
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

Task<Status> Journal::drop_open() {
    Op<void> removed;
    volume_.remove(open_->file.name, removed.callback());
    auto status = co_await removed;
    if (!status) co_return status;
    open_.reset();
    Op<void> named;
    volume_.sync_directory("drop-open", named.callback());
    status = co_await named;
    co_return status;
}

Task<Status> Journal::remove_oldest() {
    removing_ = closed_.front().span;
    auto status = co_await discard_file(file_name(*removing_));
    removing_.reset();
    if (!status) co_return status;
    closed_.pop_front();
    Op<void> named;
    volume_.sync_directory("remove-oldest", named.callback());
    status = co_await named;
    co_return status;
}

bool Journal::is_given_up(const EpochSpan& span) const {
    return removing_ == span || std::ranges::none_of(closed_, [&](const ClosedEpoch& closed) {
               return closed.span == span;
           });
}

Task<Status> Journal::verify_file(ClosedEpoch epoch, std::optional<format::Sha256> chain,
                                  const bool* stop, VerifiedJournal& sum) {
    const std::string name = file_name(epoch.span);
    RecordScan scan(volume_, {name, epoch.file_bytes, epoch.epoch, chain, false, true});
    bool closed = false;
    while (!closed) {
        auto more = co_await scan.next();
        if (!more) co_return std::unexpected(more.error());
        if (!*more) break;
        if (*stop) co_return fail(ErrorCode::cancelled, "verifying was given up");
        closed = scan.header().type == format::RecordType::closed;
        if (scan.header().type == format::RecordType::undo) {
            auto entries = format::decode_undo_table(scan.payload(), scan.payload().size());
            if (!entries) {
                co_return fail(ErrorCode::corrupt, name + ": " + entries.error().message);
            }
        }
    }
    const bool whole = closed && scan.chain_before() == epoch.before &&
                       (epoch.span.first != epoch.span.last || scan.chain() == epoch.after);
    if (!whole) co_return fail(ErrorCode::corrupt, name + ": is not what it was");
    ++sum.files;
    sum.records += scan.records();
    sum.bytes += scan.at();
    co_return Status{};
}

// By the directory: a file that somebody removed may be open here, and be read as if it were there.
Task<Status> Journal::find_missing() {
    std::vector<EpochSpan> wanted;
    for (const ClosedEpoch& closed : closed_) wanted.push_back(closed.span);
    Op<std::vector<env::VolumeFile>> listed;
    volume_.list(listed.callback());
    auto files = co_await listed;
    if (!files) co_return std::unexpected(files.error());
    std::set<std::string> there;
    for (env::VolumeFile& file : *files) there.insert(std::move(file.name));
    for (const EpochSpan& span : wanted) {
        if (!there.contains(file_name(span)) && !is_given_up(span))
            co_return fail(ErrorCode::corrupt, file_name(span) + ": is missing");
    }
    co_return Status{};
}

// What was read of a file that was given up meanwhile does not count, whatever that was.
Task<Result<VerifiedJournal>> Journal::verify(const bool* stop) {
    auto status = co_await find_missing();
    if (!status) co_return std::unexpected(status.error());
    VerifiedJournal sum;
    std::uint64_t done = 0;  // epochs
    while (true) {
        const auto next = std::ranges::upper_bound(closed_, done, {}, &ClosedEpoch::epoch);
        if (next == closed_.end()) break;
        const EpochSpan span = next->span;
        done = span.last;
        std::optional<format::Sha256> chain;
        if (next != closed_.begin()) {
            const ClosedEpoch& before = *std::prev(next);
            if (before.span.last + 1 != span.first) {
                co_return fail(ErrorCode::corrupt,
                               file_name(span) + ": the epoch before it is missing");
            }
            chain = before.after;
        }
        const VerifiedJournal before = sum;
        status = co_await verify_file(*next, chain, stop, sum);
        if (*stop && !status) co_return std::unexpected(status.error());
        if (is_given_up(span)) {
            sum = before;
        } else if (!status) {
            co_return std::unexpected(status.error());
        }
    }
    sum.points = closed_.size();
    co_return sum;
}

}  // namespace ebb::core
