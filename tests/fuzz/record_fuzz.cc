// SPDX-License-Identifier: Apache-2.0
// Every decoder of the retention directory.
#include <span>

#include "core/journal.h"
#include "format/record.h"

using namespace ebb::format;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
    if (auto header = decode_record_header(bytes)) {
        auto whole = check_record(*header, bytes.subspan(record_header_bytes));
        (void)whole;
    }
    (void)decode_begin_record(bytes).has_value();
    (void)decode_position_record(bytes).has_value();
    (void)decode_closed_record(bytes).has_value();
    (void)decode_undo_table(bytes, size).has_value();
    (void)decode_meta_file(bytes).has_value();
    (void)decode_session_file(bytes).has_value();
    const auto epoch =
        ebb::core::Journal::epoch_of(std::string(reinterpret_cast<const char*>(data), size));
    return epoch && ebb::core::Journal::epoch_name(*epoch).size() != size ? 1 : 0;
}
