// SPDX-License-Identifier: Apache-2.0
// The undo journal on the retention volume: docs/disk-format.md. Knows what is closed, what is
// open and where the undo is; decides nothing.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "core/ranges.h"
#include "core/task.h"
#include "env/volume.h"
#include "format/record.h"

namespace ebb::core {

struct ClosedEpoch {
    std::uint64_t epoch = 0;
    std::uint64_t file_bytes = 0;
    format::ClosedRecord record;
};

struct UndoRecord {
    std::uint64_t at = 0;  // of the record in the file
    format::RecordHeader header;
};

struct JournalEpoch {
    std::uint64_t epoch = 0;
    format::BeginRecord begin;
    std::optional<format::PositionRecord> position;  // none since the last begin record
    std::vector<Ranges> undone;                      // by disk: old content is in the journal
    std::vector<UndoRecord> undo;
    std::uint64_t file_bytes = 0;
    std::uint64_t durable_bytes = 0;  // of them, synced
    std::uint64_t undo_bytes = 0;
    std::uint64_t records = 0;
};

class Journal {
public:
    explicit Journal(env::Volume& volume) : volume_(volume) {}

    // Recovers what is there, or makes it if it may (else E_RETENTION_LOST). After this nothing
    // that was found can be lost any more.
    [[nodiscard]] Task<Status> open(const format::MetaFile& meta, std::uint64_t session,
                                    bool make = true);

    [[nodiscard]] Task<Status> begin(std::uint64_t epoch, format::BeginRecord record);
    // These are durable when they return. E_NO_SPACE leaves the journal as it was; after any other
    // error it must be opened again.
    // `record`: blank_record() and the payload.
    [[nodiscard]] Task<Status> append_undo(std::vector<format::UndoEntry> entries,
                                           format::RecordBytes record);
    [[nodiscard]] Task<Status> append_position(format::PositionRecord record,
                                               std::string_view site);
    [[nodiscard]] Task<Status> append_closed(format::ClosedRecord record);
    // Payload of an undo record of the open epoch, verified.
    [[nodiscard]] Task<Result<std::vector<std::byte>>> read_undo(UndoRecord record);
    [[nodiscard]] Task<Status> drop_open();
    [[nodiscard]] Task<Status> remove_oldest();
    [[nodiscard]] Task<Status> write_session(format::SessionFile session);

    [[nodiscard]] const std::deque<ClosedEpoch>& closed() const { return closed_; }
    [[nodiscard]] std::optional<JournalEpoch>& open_epoch() { return open_; }
    [[nodiscard]] const std::optional<JournalEpoch>& open_epoch() const { return open_; }
    [[nodiscard]] const format::SessionFile& session() const { return session_; }
    [[nodiscard]] std::uint64_t bytes() const;

    static constexpr const char* meta_name = "meta";
    // E_RETENTION_LOST: there has been a journal, and it is not there.
    [[nodiscard]] static Error lost();
    [[nodiscard]] static std::string epoch_name(std::uint64_t epoch);
    // The epoch of a journal file's name.
    [[nodiscard]] static std::optional<std::uint64_t> epoch_of(const std::string& name);

private:
    struct Scan;
    [[nodiscard]] Task<Status> recover_files(std::vector<env::VolumeFile> files);
    [[nodiscard]] Task<Status> scan_file(std::string name, std::uint64_t size, bool last);
    [[nodiscard]] Task<Status> scan_record(Scan& scan);
    [[nodiscard]] Status take_record(Scan& scan, const std::vector<std::byte>& payload);
    [[nodiscard]] Task<Status> repair_tail(Scan& scan);
    [[nodiscard]] Task<Status> look_beyond(const Scan& scan);
    [[nodiscard]] Task<Status> seal_again(const Scan& scan);
    [[nodiscard]] Task<Result<std::vector<std::byte>>> read_tail(const Scan& scan);
    [[nodiscard]] Task<void> append_seal(std::string name, format::RecordBytes seal);
    // `site` empty: not synced.
    [[nodiscard]] Task<Result<format::RecordHeader>> append(format::RecordType type,
                                                            format::RecordBytes record,
                                                            std::string_view site);
    [[nodiscard]] Task<Status> replace_file(std::string name, format::Payload content);
    [[nodiscard]] Task<Result<std::vector<std::byte>>> read_file(std::string name,
                                                                 std::uint64_t size);

    env::Volume& volume_;
    std::size_t disks_ = 0;
    std::deque<ClosedEpoch> closed_;
    std::optional<JournalEpoch> open_;
    format::SessionFile session_;
    format::Sha256 chain_{};         // after the last record
    format::Sha256 chain_closed_{};  // after the last record of the newest closed epoch
};

}  // namespace ebb::core
