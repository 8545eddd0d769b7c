// SPDX-License-Identifier: Apache-2.0
#include "core/record_file.h"

#include <algorithm>

namespace ebb::core {

namespace {

constexpr std::uint64_t look_bytes = 1ULL << 20;

}  // namespace

format::RecordBytes record_of(const format::Payload& payload) {
    auto record = format::blank_record(payload.size());
    record.insert(record.end(), payload.begin(), payload.end());
    return record;
}

Task<Result<format::RecordHeader>> append_record(env::Volume& volume, RecordFile& file,
                                                 format::RecordType type,
                                                 format::RecordBytes record,
                                                 std::string_view site) {
    const auto payload = format::payload_digest(record);
    return append_record(volume, file, type, std::move(record), payload, site);
}

Task<Result<format::RecordHeader>> append_record(env::Volume& volume, RecordFile& file,
                                                 format::RecordType type,
                                                 format::RecordBytes record,
                                                 format::Digest128 payload, std::string_view site) {
    format::Sha256 chain = file.chain;
    auto bytes = std::make_shared<format::RecordBytes>(std::move(record));
    const auto header = format::seal_record(*bytes, payload, type, file.epoch, file.records,
                                            file.durable_bytes, chain);
    Op<void> appended;
    volume.append(file.name, *bytes, appended.callback(bytes));
    auto status = co_await appended;
    if (!status) {
        if (status.error().code != ErrorCode::no_space) co_return std::unexpected(status.error());
        Op<void> cut;
        volume.truncate(file.name, file.bytes, cut.callback());
        auto undone = co_await cut;
        if (!undone) co_return std::unexpected(undone.error());
        co_return std::unexpected(status.error());
    }
    if (!site.empty()) {
        Op<void> synced;
        volume.sync(file.name, site, synced.callback());
        status = co_await synced;
        if (!status) {
            // What a failed sync left is not known: never E_NO_SPACE, so that it is read again.
            co_return fail(ErrorCode::io, "sync of the journal failed: " + status.error().message);
        }
        file.durable_bytes = file.bytes + bytes->size();
    }
    file.bytes += bytes->size();
    ++file.records;
    file.chain = chain;
    co_return header;
}

Task<Result<std::vector<std::byte>>> read_bytes(env::Volume& volume, std::string name,
                                                std::uint64_t at, std::uint64_t size) {
    auto content = std::make_shared<std::vector<std::byte>>(size);
    Op<void> read;
    volume.read(name, at, *content, read.callback(content));
    auto status = co_await read;
    if (!status) co_return std::unexpected(status.error());
    co_return std::move(*content);
}

RecordFile RecordScan::end() const {
    return {expected_.name, expected_.epoch, at_, at_, records_, chain_};
}

Result<bool> RecordScan::damaged(const std::string& what) {
    if (expected_.last) {
        torn_ = true;
        return false;
    }
    return fail(ErrorCode::corrupt, expected_.name + ": " + what + " at " + std::to_string(at_));
}

Task<Result<bool>> RecordScan::next() {
    if (torn_ || at_ == expected_.size) co_return false;
    if (expected_.size - at_ < format::record_header_bytes) co_return damaged("short record");
    auto head = co_await read_bytes(volume_, expected_.name, at_, format::record_header_bytes);
    if (!head) co_return std::unexpected(head.error());
    auto header = format::decode_record_header(*head);
    if (!header) {
        if (header.error().code == ErrorCode::version) co_return std::unexpected(header.error());
        co_return damaged(header.error().message);
    }
    const bool anywhere = !expected_.chain && records_ == 0;
    if (header->epoch != expected_.epoch || header->sequence != records_ ||
        (!anywhere && header->previous != chain_)) {
        co_return damaged("record out of order");
    }
    const std::uint64_t rest = header->payload_bytes + format::record_trailer_bytes;
    if (expected_.size - at_ - format::record_header_bytes < rest)
        co_return damaged("short record");
    std::vector<std::byte> body;
    if (expected_.last || expected_.contents || header->type != format::RecordType::undo) {
        auto read =
            co_await read_bytes(volume_, expected_.name, at_ + format::record_header_bytes, rest);
        if (!read) co_return std::unexpected(read.error());
        body = std::move(*read);
        if (auto whole = format::check_record(*header, body); !whole) {
            co_return damaged(whole.error().message);
        }
        body.resize(header->payload_bytes);
    }
    if (records_ == 0) before_ = header->previous;
    header_ = *header;
    payload_ = std::move(body);
    record_at_ = at_;
    at_ += format::record_header_bytes + rest;
    ++records_;
    chain_ = format::chain_after(*head);
    co_return true;
}

// A tail that is not whole was not synced, so nothing was done that relied on it; unless a later
// record says otherwise.
Task<Status> RecordScan::repair() {
    if (torn_) {
        auto status = co_await look_beyond();
        if (!status) co_return status;
    }
    if (at_ == 0) {
        Op<void> removed;
        volume_.remove(expected_.name, removed.callback());
        auto status = co_await removed;
        co_return status;
    }
    if (torn_) {
        Op<void> cut;
        volume_.truncate(expected_.name, at_, cut.callback());
        auto status = co_await cut;
        if (!status) co_return status;
    }
    Op<void> synced;
    volume_.sync(expected_.name, "recovery-content", synced.callback());
    auto status = co_await synced;
    co_return status;
}

// What was damaged after it had been synced is loss: a header beyond it that was made when it was
// durable bears witness.
Task<Status> RecordScan::look_beyond() {
    std::uint64_t from = at_ + 1;
    while (from + format::record_header_bytes <= expected_.size) {
        const std::uint64_t size =
            std::min(expected_.size - from, look_bytes + format::record_header_bytes);
        auto chunk = co_await read_bytes(volume_, expected_.name, from, size);
        if (!chunk) co_return std::unexpected(chunk.error());
        for (auto rest = std::span<const std::byte>(*chunk);
             rest.size() >= format::record_header_bytes; rest = rest.subspan(1)) {
            rest = rest.subspan(format::find_record_magic(rest));
            auto header = format::decode_record_header(rest);
            if (header && header->epoch == expected_.epoch && header->sequence > records_ &&
                header->durable_bytes > at_) {
                co_return fail(ErrorCode::corrupt,
                               expected_.name + ": damaged at " + std::to_string(at_) +
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

}  // namespace ebb::core
