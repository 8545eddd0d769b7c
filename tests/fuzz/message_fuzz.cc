// SPDX-License-Identifier: Apache-2.0
// Every decoder of the wire, and what decodes encodes to something that decodes.
#include <algorithm>
#include <cstdlib>
#include <span>

#include "format/message.h"

using namespace ebb::format;

namespace {

template <class T>
void again(const ebb::Result<T>& message, ebb::Result<T> (*decode)(std::span<const std::byte>)) {
    if (message && !decode(encode(*message, 0))) std::abort();
}

void split(std::span<const std::byte> bytes) {
    FrameSplitter splitter;
    splitter.push(bytes.first(bytes.size() / 2));
    splitter.push(bytes.subspan(bytes.size() / 2));
    while (true) {
        auto frame = splitter.next();
        if (!frame || !*frame) break;
        if (!frame_of(**frame)) std::abort();
    }
}

void unpack_data(const ExtentView& extent) {
    if (extent.head.kind != ExtentKind::data) return;
    std::vector<std::byte> content(extent.head.length);
    auto status = unpack(extent, content);
    (void)status;
}

void several(std::span<const std::byte> frame) {
    const auto extents = decode_extents(frame);
    if (!extents) return;
    ExtentsWriter writer;
    for (const ExtentView& extent : *extents) {
        unpack_data(extent);
        if (extent.compressed) return;
        writer.add(extent.head, extent.stored, 0);
    }
    const auto again = writer.take(0);
    if (!std::ranges::equal(std::span(again).subspan(frame_header_bytes),
                            frame.subspan(frame_header_bytes))) {
        std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
    split(bytes);
    // As a payload, whatever the header says.
    std::vector<std::byte> frame(frame_header_bytes);
    frame.insert(frame.end(), bytes.begin(), bytes.end());
    again(decode_hello(frame), decode_hello);
    again(decode_welcome(frame), decode_welcome);
    again(decode_refused(frame), decode_refused);
    again(decode_epoch_begin(frame), decode_epoch_begin);
    again(decode_pass_begin(frame), decode_pass_begin);
    again(decode_ack(frame), decode_ack);
    again(decode_pass_end(frame), decode_pass_end);
    again(decode_epoch_closed(frame), decode_epoch_closed);
    again(decode_notice(frame), decode_notice);
    again(decode_compare(frame), decode_compare);
    again(decode_compared(frame), decode_compared);
    if (auto extent = decode_extent(frame)) unpack_data(*extent);
    several(frame);
    return 0;
}
