// SPDX-License-Identifier: Apache-2.0
// Every decoder of the retention directory, and of what the source leaves with the module.
#include <cstdlib>
#include <span>

#include "core/journal.h"
#include "format/record.h"
#include "format/source_note.h"
#include "format/undo.h"

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
    again(decode_names_file(bytes), decode_names_file);
    again(decode_common_file(bytes), decode_common_file);
    again(decode_merged_record(bytes), decode_merged_record);
    again(decode_move_record(bytes), decode_move_record);
    again(decode_arrived_record(bytes), decode_arrived_record);
    again(decode_manifest_record(bytes), decode_manifest_record);
    if (const auto note = decode_source_note(bytes);
        note && decode_source_note(encode(*note)) != note)
        std::abort();
    if (const auto cookie = decode_map_cookie(bytes);
        cookie && decode_map_cookie(encode(*cookie)) != cookie)
        std::abort();
    if (auto entries = decode_undo_table(bytes, size)) {
        for (const UndoEntry& entry : *entries) {
            if (entry.length > undo_content_max) continue;
            std::vector<std::byte> content(entry.length);
            const auto stored = entry.stored == 0 ? std::span<const std::byte>()
                                                  : bytes.subspan(entry.at, entry.stored);
            static_cast<void>(unpack(entry, stored, content));
        }
    }
    const std::string name(reinterpret_cast<const char*>(data), size);
    const auto span = ebb::core::Journal::span_of(name);
    if (span && ebb::core::Journal::file_name(*span) != name) std::abort();
    return 0;
}
