// SPDX-License-Identifier: Apache-2.0
// An NBD client that says anything.
#include <algorithm>
#include <cstdlib>
#include <span>

#include "format/nbd.h"

using namespace ebb::format;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    constexpr std::uint64_t export_bytes = 1 << 20;
    NbdSession session([] { return std::vector<NbdExport>{{"a/b/0", export_bytes}}; });
    bool over = false;
    for (std::size_t at = 0; at < bytes.size() && !over;) {
        // Parts of a size that the input itself decides.
        const std::size_t part =
            std::min<std::size_t>(bytes.size() - at, 1 + std::to_integer<std::size_t>(bytes[at]));
        session.take(bytes.subspan(at, part));
        at += part;
        while (const auto step = session.next()) {
            over = over || step->close;
            if (!step->read) continue;
            const auto& read = *step->read;
            const bool inside = read.length != 0 && read.length <= nbd_read_max &&
                                read.offset < export_bytes &&
                                read.length <= export_bytes - read.offset;
            if (!inside || session.chosen() != "a/b/0") std::abort();
        }
    }
    return 0;
}
