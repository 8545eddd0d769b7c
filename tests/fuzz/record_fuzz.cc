// SPDX-License-Identifier: Apache-2.0
// Every decoder of the retention directory.
#include <cstdlib>
#include <span>

#include "core/journal.h"
#include "format/record.h"

using namespace ebb::format;

namespace {

template <class T>
void again(const ebb::Result<T>& record, ebb::Result<T> (*decode)(std::span<const std::byte>)) {
    if (record && !decode(encode(*record))) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    if (bytes.size() >= record_header_bytes) {
        if (auto header = decode_record_header(bytes))
            static_cast<void>(check_record(*header, bytes.subspan(record_header_bytes)));
    }
    again(decode_begin_record(bytes), decode_begin_record);
    again(decode_position_record(bytes), decode_position_record);
    again(decode_closed_record(bytes), decode_closed_record);
    again(decode_meta_file(bytes), decode_meta_file);
    again(decode_session_file(bytes), decode_session_file);
    static_cast<void>(decode_undo_table(bytes, size));
    const std::string name(reinterpret_cast<const char*>(data), size);
    const auto epoch = ebb::core::Journal::epoch_of(name);
    if (epoch && ebb::core::Journal::epoch_name(*epoch) != name) std::abort();
    return 0;
}
