// SPDX-License-Identifier: Apache-2.0
// Files of chained records: docs/disk-format.md. Written at their end, read from their begin.
#pragma once

#include <string>
#include <vector>

#include "core/task.h"
#include "env/volume.h"
#include "format/record.h"

namespace ebb::core {

// The end of a file.
struct RecordFile {
    std::string name;
    std::uint64_t epoch = 0;
    std::uint64_t bytes = 0;
    std::uint64_t durable_bytes = 0;  // of them, synced
    std::uint64_t records = 0;
    format::Sha256 chain{};  // after the last record
};

[[nodiscard]] format::RecordBytes record_of(const format::Payload& payload);
// `record`: blank_record() and the payload. `site` empty: not synced. E_NO_SPACE leaves the file as
// it was; after any other error it must be read again.
[[nodiscard]] Task<Result<format::RecordHeader>> append_record(env::Volume& volume,
                                                               RecordFile& file,
                                                               format::RecordType type,
                                                               format::RecordBytes record,
                                                               std::string_view site);
// The same of a record whose payload's digest is known.
[[nodiscard]] Task<Result<format::RecordHeader>> append_record(
    env::Volume& volume, RecordFile& file, format::RecordType type, format::RecordBytes record,
    format::Digest128 payload, std::string_view site);
// Exactly `size` bytes.
[[nodiscard]] Task<Result<std::vector<std::byte>>> read_bytes(env::Volume& volume, std::string name,
                                                              std::uint64_t at, std::uint64_t size);

class RecordScan {
public:
    struct Expected {
        std::string name;
        std::uint64_t size = 0;
        std::uint64_t epoch = 0;
        // Before the first record; none: any.
        std::optional<format::Sha256> chain;
        // The file was written last: a tail that is not whole is not damage.
        bool last = false;
        // Contents of undo records are read, and checked, too. They always are of the last file.
        bool contents = false;
    };
    RecordScan(env::Volume& volume, Expected expected)
        : volume_(volume),
          expected_(std::move(expected)),
          chain_(expected_.chain.value_or(format::Sha256{})) {}

    // Reads the next record: header() and payload() are its own. False: there is none, or it is
    // torn. E_CORRUPT, E_VERSION.
    [[nodiscard]] Task<Result<bool>> next();
    // Cuts off what is torn, and makes what is left durable; a file of which nothing is left is
    // removed (at() is 0 then). E_CORRUPT: it had been durable, and is loss.
    [[nodiscard]] Task<Status> repair();

    [[nodiscard]] const format::RecordHeader& header() const { return header_; }
    // Empty of an undo record whose content is not read.
    [[nodiscard]] const std::vector<std::byte>& payload() const { return payload_; }
    [[nodiscard]] std::uint64_t record_at() const { return record_at_; }
    // Behind the last record that was read.
    [[nodiscard]] std::uint64_t at() const { return at_; }
    [[nodiscard]] std::uint64_t size() const { return expected_.size; }
    [[nodiscard]] std::uint64_t records() const { return records_; }
    [[nodiscard]] bool torn() const { return torn_; }
    [[nodiscard]] const format::Sha256& chain() const { return chain_; }
    // Before the first record.
    [[nodiscard]] const format::Sha256& chain_before() const { return before_; }
    [[nodiscard]] RecordFile end() const;

private:
    [[nodiscard]] Result<bool> damaged(const std::string& what);
    [[nodiscard]] Task<Status> look_beyond();

    env::Volume& volume_;
    Expected expected_;
    std::uint64_t at_ = 0;
    std::uint64_t record_at_ = 0;
    std::uint64_t records_ = 0;
    bool torn_ = false;
    format::Sha256 chain_{};
    format::Sha256 before_{};
    format::RecordHeader header_;
    std::vector<std::byte> payload_;
};

}  // namespace ebb::core
