// SPDX-License-Identifier: Apache-2.0
// The undo journal on the retention volume: docs/disk-format.md. Knows what is closed, what is
// open and where the undo is; decides nothing.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/ranges.h"
#include "core/record_file.h"
#include "core/task.h"
#include "core/undo_reader.h"
#include "env/volume.h"
#include "format/record.h"
#include "format/undo.h"

namespace ebb::core {

// What one file stands for.
struct EpochSpan {
    std::uint64_t first = 0;
    std::uint64_t last = 0;  // the point that the file leads back from; first unless merged

    [[nodiscard]] bool contains(const EpochSpan& other) const {
        return first <= other.first && other.last <= last;
    }
    friend auto operator<=>(const EpochSpan&, const EpochSpan&) = default;
};

// A closed file: the way from its point back to the one before.
struct ClosedEpoch {
    std::uint64_t epoch = 0;  // span.last
    EpochSpan span;
    std::uint64_t file_bytes = 0;
    format::ClosedRecord record;
    std::vector<UndoRecord> undo;
    format::Sha256 before{};  // chain
    format::Sha256 after{};
    std::vector<UndoRecord> manifests{};
};

struct JournalEpoch {
    std::uint64_t epoch = 0;
    RecordFile file;
    format::BeginRecord begin;
    std::optional<format::PositionRecord> position;  // none since the last begin record
    std::uint32_t last_pass = 0;                     // of all positions, also those before it
    std::vector<Ranges> undone;                      // by disk: old content is in the journal
    std::vector<UndoRecord> undo;
    std::uint64_t undo_bytes = 0;
    std::vector<UndoRecord> manifests;
};

struct VerifiedJournal {
    std::uint64_t points = 0;
    std::uint64_t files = 0;
    std::uint64_t records = 0;
    std::uint64_t bytes = 0;
};

// In memory while epochs are merged.
struct MergeLimits {
    std::uint64_t slice_bytes = 0;     // of undo, until it is written
    std::uint64_t chapter_blocks = 0;  // of the disks whose places are known: some 80 bytes each
};

// Who reads points while the journal changes.
struct JournalReaders {
    // Undo is durable, and nothing that it holds is overwritten yet.
    std::function<void(const EpochSpan&, const UndoRecord&, const std::vector<format::UndoEntry>&)>
        undo;
    // A merged file is durable under its name; those that it stands for go after this.
    std::function<Task<void>(ClosedEpoch)> merged;
};

class Journal {
public:
    explicit Journal(env::Volume& volume) : volume_(volume) {}

    void set_readers(JournalReaders readers) { readers_ = std::move(readers); }

    // Recovers what is there, or makes it if it may (else E_RETENTION_LOST). After this nothing
    // that was found can be lost any more.
    [[nodiscard]] Task<Status> open(const format::MetaFile& meta, std::uint64_t session,
                                    bool make = true);

    [[nodiscard]] Task<Status> begin(std::uint64_t epoch, format::BeginRecord record);
    // These are durable when they return. E_NO_SPACE leaves the journal as it was; after any other
    // error it must be opened again.
    // `record`: of the entries, by format::UndoWriter.
    [[nodiscard]] Task<Status> append_undo(std::vector<format::UndoEntry> entries,
                                           format::RecordBytes record);
    [[nodiscard]] Task<Status> append_position(format::PositionRecord record,
                                               std::string_view site);
    // But this one, which the next one makes durable.
    [[nodiscard]] Task<Status> append_manifest(format::ManifestRecord record);
    [[nodiscard]] Task<Status> append_closed(format::ClosedRecord record);
    [[nodiscard]] Task<Status> drop_open();
    [[nodiscard]] Task<Status> remove_oldest();
    // Of closed()[begin] to [end], which is not the newest, one file: all points of them but the
    // last are given up, and of their digests those that are not its. An error, E_CANCELLED when
    // `stop` became true among them, leaves the journal as it was, unless half_merged(). Epochs may
    // be opened and closed meanwhile; nothing else may be given up. Each chapter reads all tables
    // again.
    [[nodiscard]] Task<Status> merge(std::size_t begin, std::size_t end, MergeLimits limits,
                                     const bool* stop);
    // The last merge() had an error after the files were not the same any more: open() again.
    [[nodiscard]] bool half_merged() const { return half_merged_; }
    [[nodiscard]] Task<Status> write_session(format::SessionFile session);
    // The point, which is there, bears this name from now on, or none. Durable when it returns;
    // E_NO_SPACE: all is as it was. Not while points are merged.
    [[nodiscard]] Task<Status> rename_point(std::uint64_t epoch, std::string name);
    // The point, which is there, is of that cut from now on. As rename_point(), but also while
    // others are merged.
    [[nodiscard]] Task<Status> mark_common(std::uint64_t epoch, format::CommonCut common);
    // Null: none.
    [[nodiscard]] const format::CommonCut* common_of(std::uint64_t epoch) const;
    // Reads everything that is closed. E_CORRUPT says what is missing, changed or out of order.
    // Nothing may be given up meanwhile but the oldest.
    [[nodiscard]] Task<Result<VerifiedJournal>> verify(const bool* stop);

    // Oldest first.
    [[nodiscard]] const std::deque<ClosedEpoch>& closed() const { return closed_; }
    [[nodiscard]] bool has_point(std::uint64_t epoch) const {
        return std::ranges::binary_search(closed_, epoch, {}, &ClosedEpoch::epoch);
    }
    [[nodiscard]] std::optional<JournalEpoch>& open_epoch() { return open_; }
    [[nodiscard]] const std::optional<JournalEpoch>& open_epoch() const { return open_; }
    [[nodiscard]] const format::SessionFile& session() const { return session_; }
    [[nodiscard]] std::uint64_t bytes() const;
    [[nodiscard]] env::Volume& volume() const { return volume_; }
    [[nodiscard]] UndoReader reader(const ClosedEpoch& epoch, const UndoRecord& record) const {
        return {volume_, file_name(epoch.span), record};
    }
    // Of a closed file: what was sent of its epoch, in order; of several, what counts at the last.
    [[nodiscard]] Task<Result<format::ManifestRecord>> read_manifest(EpochSpan span,
                                                                     UndoRecord record);
    [[nodiscard]] UndoReader open_reader(const UndoRecord& record) const {
        return {volume_, open_->file.name, record};
    }

    static constexpr const char* meta_name = "meta";
    static constexpr const char* names_name = "names";
    static constexpr const char* common_name = "common";
    // E_RETENTION_LOST: there has been a journal, and it is not there.
    [[nodiscard]] static Error lost();
    [[nodiscard]] static std::string file_name(const EpochSpan& span);
    // Of a journal file's name.
    [[nodiscard]] static std::optional<EpochSpan> span_of(const std::string& name);

private:
    struct Scan;
    // journal.cc
    [[nodiscard]] Task<Status> verify_file(ClosedEpoch epoch, std::optional<format::Sha256> chain,
                                           const bool* stop, VerifiedJournal& sum);
    [[nodiscard]] Task<Status> find_missing();
    [[nodiscard]] bool is_given_up(const EpochSpan& span) const;
    [[nodiscard]] Task<Status> open_meta(const format::MetaFile& meta, bool make,
                                         const std::vector<env::VolumeFile>& files);
    [[nodiscard]] Task<Status> open_session(std::uint64_t session,
                                            const std::vector<env::VolumeFile>& files);
    [[nodiscard]] Task<void> append_seal(std::string name, format::RecordBytes seal);
    // Synced at the sites `content_site` and `name_site`. E_NO_SPACE: it is as it was.
    [[nodiscard]] Task<Status> replace_file(std::string name, format::Payload content,
                                            std::string_view content_site = "replace-content",
                                            std::string_view name_site = "replace-name");
    [[nodiscard]] Task<Status> open_names(const std::vector<env::VolumeFile>& files);
    [[nodiscard]] Task<Status> open_common(const std::vector<env::VolumeFile>& files);
    void give_name(ClosedEpoch& point) const;
    // journal_recovery.cc
    [[nodiscard]] Task<Status> recover_files(std::vector<env::VolumeFile> files);
    [[nodiscard]] Task<Status> remove_leftovers(std::vector<env::VolumeFile>& files);
    [[nodiscard]] Task<Status> scan_file(std::string name, std::uint64_t size, bool last);
    [[nodiscard]] Status take_record(Scan& scan);
    [[nodiscard]] Task<Status> seal_again(const Scan& scan);
    // journal_merge.cc
    struct Merge;
    [[nodiscard]] Task<Status> count_places(const ClosedEpoch& epoch, Merge& merge);
    [[nodiscard]] Task<Result<std::vector<std::pair<DiskIndex, std::uint64_t>>>> chapter_ends(
        Merge& merge);
    [[nodiscard]] Task<Status> write_merged(Merge& merge);
    [[nodiscard]] Task<Status> copy_chapter(Merge& merge);
    [[nodiscard]] Task<Status> copy_undo(const ClosedEpoch& epoch, Merge& merge);
    [[nodiscard]] Task<Status> write_slice(Merge& merge);
    [[nodiscard]] Task<Status> copy_manifests(const ClosedEpoch& epoch, Merge& merge);
    [[nodiscard]] Task<Status> cover_undo(const ClosedEpoch& epoch, Merge& merge);
    [[nodiscard]] Task<Status> write_manifest(Merge& merge);
    [[nodiscard]] Task<Status> put_in_place(Merge& merge);
    [[nodiscard]] Task<Status> discard_file(std::string name);

    env::Volume& volume_;
    JournalReaders readers_;
    std::size_t disks_ = 0;
    std::deque<ClosedEpoch> closed_;
    std::optional<JournalEpoch> open_;
    format::SessionFile session_;
    format::NamesFile names_;
    format::CommonFile common_;
    format::Sha256 chain_closed_{};  // after the newest closed epoch
    std::optional<EpochSpan> removing_;
    bool half_merged_ = false;
};

// Behind the closed record, once that is durable.
[[nodiscard]] format::RecordBytes seal_of(const RecordFile& file);
inline constexpr std::uint64_t seal_bytes =
    format::record_header_bytes + format::record_trailer_bytes;

}  // namespace ebb::core
