// SPDX-License-Identifier: Apache-2.0
// Reads of an undo record what is wanted of it, and no more: its table, and runs of entries that
// lie close together.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/task.h"
#include "env/volume.h"
#include "format/undo.h"

namespace ebb::core {

struct UndoRecord {
    std::uint64_t at = 0;  // of the record in the file
    format::RecordHeader header;
};

// What the entries of a run store.
class UndoRun {
public:
    // To be read: where it lies.
    explicit UndoRun(std::span<const format::UndoEntry> entries);
    [[nodiscard]] std::uint64_t from() const { return from_; }
    [[nodiscard]] std::uint64_t length() const { return length_; }
    void hold(env::VolumeContent content) { content_ = std::move(content); }
    [[nodiscard]] std::span<const std::byte> stored(const format::UndoEntry& entry) const {
        return content_.bytes().subspan(entry.at - from_, entry.stored);
    }

private:
    std::uint64_t from_ = 0;  // of the payload
    std::uint64_t length_ = 0;
    env::VolumeContent content_;
};

class UndoReader {
public:
    UndoReader(env::Volume& volume, std::string file, UndoRecord record)
        : volume_(volume), file_(std::move(file)), record_(record) {}

    // `once`: nobody will read it again soon.
    [[nodiscard]] Task<Result<std::vector<format::UndoEntry>>> table(bool once = false);
    // How many of the first entries are read at once: at least one, and bytes that are not wanted
    // between them are few. Entries ascend by place; those that store nothing may be among them.
    // `gap`: so many bytes that are not wanted, at most, lie between two of them.
    [[nodiscard]] static std::size_t run_length(std::span<const format::UndoEntry> entries,
                                                std::uint64_t gap = alone_gap);
    [[nodiscard]] Task<Result<UndoRun>> read(std::vector<format::UndoEntry> entries);
    // One of many under way. The run is not empty.
    void read(const std::shared_ptr<UndoRun>& run, env::StatusCallback done);
    // Who has one read under way at a time waits for each, on any disk.
    static constexpr std::uint64_t alone_gap = 64ULL << 10;

private:
    env::Volume& volume_;
    std::string file_;
    UndoRecord record_;
};

}  // namespace ebb::core
