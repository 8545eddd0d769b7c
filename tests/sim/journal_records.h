// SPDX-License-Identifier: Apache-2.0
// A file of the journal, read without the code that is tested.
#pragma once

#include <span>
#include <vector>

#include "format/record.h"
#include "storage.h"

namespace ebb::sim {

// A whole record, and where it begins.
struct JournalRecord {
    std::size_t at = 0;
    format::RecordHeader header;
    std::span<const std::byte> payload;
    [[nodiscard]] std::size_t end() const {
        return at + format::record_header_bytes + payload.size() + format::record_trailer_bytes;
    }
};

[[nodiscard]] std::vector<JournalRecord> records_of(const Bytes& file);

}  // namespace ebb::sim
