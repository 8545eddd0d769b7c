// SPDX-License-Identifier: Apache-2.0
// What a journal's files say after a restart.
#include <algorithm>

#include "core/journal.h"

namespace ebb::core {

struct Journal::Scan {
    Scan(env::Volume& volume, RecordScan::Expected expected)
        : name(expected.name), last(expected.last), records(volume, std::move(expected)) {}
    std::string name;
    bool last;
    RecordScan records;
    JournalEpoch epoch;
    std::optional<format::MergedRecord> merged;
    std::optional<format::ClosedRecord> closed;
};

Task<Status> Journal::recover_files(std::vector<env::VolumeFile> files) {
    auto status = co_await remove_leftovers(files);
    if (!status) co_return status;
    for (std::size_t i = 0; i < files.size(); ++i) {
        status = co_await scan_file(files[i].name, files[i].size, i + 1 == files.size());
        if (!status) co_return status;
    }
    // What a daemon wrote and did not sync before it died may still be in the cache alone.
    Op<void> named;
    volume_.sync_directory("recovery-name", named.callback());
    status = co_await named;
    co_return status;
}

// Leaves the epochs' files in their order: without those that another one stands for.
Task<Status> Journal::remove_leftovers(std::vector<env::VolumeFile>& files) {
    std::vector<std::pair<EpochSpan, env::VolumeFile>> spans;
    std::vector<std::string> leftovers;
    for (const env::VolumeFile& file : files) {
        if (const auto span = span_of(file.name)) spans.emplace_back(*span, file);
        if (file.name.ends_with(".new")) leftovers.push_back(file.name);
    }
    // One that contains others comes before them.
    std::ranges::sort(spans, [](const auto& a, const auto& b) {
        return std::pair(a.first.first, UINT64_MAX - a.first.last) <
               std::pair(b.first.first, UINT64_MAX - b.first.last);
    });
    files.clear();
    EpochSpan before;
    for (const auto& [span, file] : spans) {
        if (!files.empty() && before.contains(span)) {
            leftovers.push_back(file.name);
            continue;
        }
        if (!files.empty() && span.first <= before.last) {
            co_return fail(ErrorCode::corrupt, file.name + ": epochs of another file are in it");
        }
        files.push_back(file);
        before = span;
    }
    if (leftovers.empty()) co_return Status{};
    // The name of a merged file may be in the cache alone: its parts must not go before it is
    // there.
    Op<void> named;
    volume_.sync_directory("recovery-name", named.callback());
    auto synced = co_await named;
    if (!synced) co_return synced;
    for (const std::string& name : leftovers) {
        auto status = co_await discard_file(name);
        if (!status) co_return status;
    }
    co_return Status{};
}

Task<Status> Journal::scan_file(std::string name, std::uint64_t size, bool last) {
    const EpochSpan span = *span_of(name);
    RecordScan::Expected expected{name, size, span.last, std::nullopt, last, false};
    // After pruning the chain begins somewhere.
    if (!closed_.empty()) expected.chain = chain_closed_;
    Scan scan(volume_, std::move(expected));
    scan.epoch.epoch = span.last;
    scan.epoch.undone.resize(disks_);
    while (!scan.closed) {
        auto more = co_await scan.records.next();
        if (!more) co_return std::unexpected(more.error());
        if (!*more) break;
        auto taken = take_record(scan);
        if (!taken) co_return taken;
    }
    const bool merged = span.first != span.last;
    if (merged && (!scan.merged || scan.merged->first != span.first ||
                   scan.merged->last != span.last || !scan.closed)) {
        co_return fail(ErrorCode::corrupt, name + ": a merged file that is not whole");
    }
    // Behind the closed record comes its seal, or a part of it.
    if (scan.closed && size - scan.records.at() > seal_bytes) {
        co_return fail(ErrorCode::corrupt, name + ": data after the end of a closed epoch");
    }
    if (last) {
        auto status = co_await scan.records.repair();
        if (status && scan.closed) status = co_await seal_again(scan);
        if (!status) co_return status;
        if (scan.records.at() == 0) co_return Status{};
    } else if (!scan.closed) {
        co_return fail(ErrorCode::corrupt, name + ": an epoch that is not the newest is not closed",
                       "the points of this protection cannot be relied on: disable it, and protect "
                       "the machine again");
    }
    if (!scan.closed) {
        scan.epoch.file = scan.records.end();
        open_ = std::move(scan.epoch);
        co_return Status{};
    }
    chain_closed_ = scan.merged ? scan.merged->after : scan.records.chain();
    closed_.push_back({span.last, span, scan.records.at() + seal_bytes, std::move(*scan.closed),
                       std::move(scan.epoch.undo), scan.records.chain_before(), chain_closed_,
                       std::move(scan.epoch.manifests)});
    give_name(closed_.back());
    co_return Status{};
}

Status Journal::take_record(Scan& scan) {
    JournalEpoch& epoch = scan.epoch;
    const auto& payload = scan.records.payload();
    const format::RecordHeader& header = scan.records.header();
    switch (header.type) {
        case format::RecordType::begin: {
            auto record = format::decode_begin_record(payload);
            if (!record) return std::unexpected(record.error());
            epoch.begin = *record;
            epoch.position.reset();
            return {};
        }
        case format::RecordType::undo: {
            epoch.undo_bytes += header.payload_bytes;
            epoch.undo.push_back({scan.records.record_at(), header});
            if (!scan.last) return {};
            auto entries = format::decode_undo_table(payload, payload.size());
            if (!entries) return std::unexpected(entries.error());
            for (const format::UndoEntry& entry : *entries) {
                if (entry.disk >= disks_)
                    return fail(ErrorCode::corrupt, "undo of an unknown disk");
                epoch.undone[entry.disk].add(entry.offset, entry.end());
            }
            return {};
        }
        case format::RecordType::position: {
            auto record = format::decode_position_record(payload);
            if (!record) return std::unexpected(record.error());
            epoch.last_pass = std::max(epoch.last_pass, record->pass);
            epoch.position = *record;
            return {};
        }
        case format::RecordType::closed: {
            auto record = format::decode_closed_record(payload);
            if (!record) return std::unexpected(record.error());
            scan.closed = std::move(*record);
            return {};
        }
        case format::RecordType::merged: {
            auto record = format::decode_merged_record(payload);
            if (!record) return std::unexpected(record.error());
            if (scan.records.records() != 1 || record->before != scan.records.chain_before())
                return fail(ErrorCode::corrupt, scan.name + ": merged, and does not begin so");
            scan.merged = *record;
            return {};
        }
        case format::RecordType::manifest: {
            auto record = format::decode_manifest_record(payload);
            if (!record) return std::unexpected(record.error());
            epoch.manifests.push_back({scan.records.record_at(), header});
            return {};
        }
        case format::RecordType::sealed:
            return fail(ErrorCode::corrupt, scan.name + ": a seal and nothing closed");
        case format::RecordType::move:
        case format::RecordType::arrived: break;
    }
    return fail(ErrorCode::corrupt, scan.name + ": a record that is not of an epoch");
}

// As recovered: whoever is told that the epoch is closed may rely on its seal.
Task<Status> Journal::seal_again(const Scan& scan) {
    auto seal = seal_of(scan.records.end());
    auto tail = co_await read_bytes(volume_, scan.name, scan.records.at(),
                                    scan.records.size() - scan.records.at());
    if (!tail) co_return std::unexpected(tail.error());
    if (*tail == seal) co_return Status{};
    if (!tail->empty()) {
        Op<void> cut;
        volume_.truncate(scan.name, scan.records.at(), cut.callback());
        auto status = co_await cut;
        if (!status) co_return status;
    }
    co_await append_seal(scan.name, std::move(seal));
    co_return Status{};
}

}  // namespace ebb::core
