// SPDX-License-Identifier: Apache-2.0
#include "core/undo_reader.h"

#include <algorithm>

#include "core/record_file.h"

namespace ebb::core {

namespace {

// Tables of blocks of 4 KiB that do not compress are a little shorter than that part of the
// payload.
constexpr std::uint64_t content_per_table = 80;
constexpr std::uint64_t run_bytes = 4ULL << 20;
constexpr std::uint64_t run_unpacked_bytes = 16ULL << 20;

}  // namespace

Task<Result<std::vector<format::UndoEntry>>> UndoReader::table(bool once) {
    const std::uint64_t payload = record_.header.payload_bytes;
    std::vector<std::byte> bytes;
    std::uint64_t size = std::max(payload / content_per_table, volume_.request_cost());
    while (bytes.size() < std::min(size, payload)) {
        // The rest of it, where the first look was too short.
        auto part =
            std::make_shared<std::vector<std::byte>>(std::min(size, payload) - bytes.size());
        const std::uint64_t at = record_.at + format::record_header_bytes + bytes.size();
        Op<void> done;
        if (once)
            volume_.read_once(file_, at, *part, done.callback(part));
        else
            volume_.read(file_, at, *part, done.callback(part));
        auto status = co_await done;
        if (!status) co_return std::unexpected(status.error());
        bytes.insert(bytes.end(), part->begin(), part->end());
        const auto needed = format::undo_table_bytes(bytes, payload);
        if (!needed) co_return std::unexpected(needed.error());
        size = *needed;
    }
    co_return format::decode_undo_table(bytes, payload);
}

std::size_t UndoReader::run_length(std::span<const format::UndoEntry> entries, std::uint64_t gap) {
    std::uint64_t from = 0, to = 0, unpacked = 0;
    for (std::size_t i = 0; i < entries.size(); ++i) {
        const format::UndoEntry& entry = entries[i];
        if (entry.stored == 0) continue;
        unpacked += entry.length;
        if (to == 0) from = to = entry.at;
        const bool near = entry.at >= to && entry.at - to <= gap &&
                          entry.at + entry.stored - from <= run_bytes &&
                          unpacked <= run_unpacked_bytes;
        if (!near && to != from) return i;
        to = entry.at + entry.stored;
    }
    return entries.size();
}

UndoRun::UndoRun(std::span<const format::UndoEntry> entries) {
    std::uint64_t from = UINT64_MAX, to = 0;
    for (const format::UndoEntry& entry : entries) {
        if (entry.stored == 0) continue;
        from = std::min(from, entry.at);
        to = std::max(to, entry.at + entry.stored);
    }
    if (to == 0) return;
    from_ = from;
    bytes_ = Buffer(to - from);
}

Task<Result<UndoRun>> UndoReader::read(std::vector<format::UndoEntry> entries) {
    auto run = std::make_shared<UndoRun>(entries);
    if (run->bytes().empty()) co_return std::move(*run);
    Op<void> done;
    volume_.read(file_, record_.at + format::record_header_bytes + run->from(), run->bytes(),
                 done.callback(run));
    auto status = co_await done;
    if (!status) co_return std::unexpected(status.error());
    co_return std::move(*run);
}

void UndoReader::read(UndoRun& run, env::StatusCallback done) {
    volume_.read_once(file_, record_.at + format::record_header_bytes + run.from(), run.bytes(),
                      std::move(done));
}

}  // namespace ebb::core
