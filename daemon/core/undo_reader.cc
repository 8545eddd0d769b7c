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
        const std::uint64_t length = std::min(size, payload) - bytes.size();
        const std::uint64_t at = record_.at + format::record_header_bytes + bytes.size();
        if (once) {
            Op<env::VolumeContent> done;
            volume_.read_once(file_, at, length, done.callback());
            auto part = co_await done;
            if (!part) co_return std::unexpected(part.error());
            bytes.insert(bytes.end(), part->bytes().begin(), part->bytes().end());
        } else {
            auto part = co_await read_bytes(volume_, file_, at, length);
            if (!part) co_return std::unexpected(part.error());
            bytes.insert(bytes.end(), part->begin(), part->end());
        }
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
    length_ = to - from;
}

Task<Result<UndoRun>> UndoReader::read(std::vector<format::UndoEntry> entries) {
    UndoRun run(entries);
    if (run.length() == 0) co_return std::move(run);
    auto memory = std::make_shared<Buffer>(run.length());
    Op<void> done;
    volume_.read(file_, record_.at + format::record_header_bytes + run.from(), memory->span(),
                 done.callback(memory));
    auto status = co_await done;
    if (!status) co_return std::unexpected(status.error());
    run.hold({std::move(*memory), 0, run.length()});
    co_return std::move(run);
}

void UndoReader::read(const std::shared_ptr<UndoRun>& run, env::StatusCallback done) {
    volume_.read_once(file_, record_.at + format::record_header_bytes + run->from(), run->length(),
                      [run, done = std::move(done)](Result<env::VolumeContent> content) mutable {
                          if (!content) return done(std::unexpected(std::move(content.error())));
                          run->hold(std::move(*content));
                          done({});
                      });
}

}  // namespace ebb::core
