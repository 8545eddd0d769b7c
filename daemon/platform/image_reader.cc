// SPDX-License-Identifier: Apache-2.0
#include "platform/image_reader.h"

#include <algorithm>

#include "base/buffer.h"
#include "base/units.h"
#include "platform/system_error.h"

namespace ebb::platform {

Result<std::unique_ptr<ImageReader>> ImageReader::open(EventLoop& loop) {
    auto reader = AioReader::open(
        loop, {.name = "ebb-image", .depth = depth, .together = together, .one_by_one = true});
    if (!reader) return std::unexpected(reader.error());
    return std::unique_ptr<ImageReader>(new ImageReader(std::move(*reader)));
}

void ImageReader::read(int file, std::uint64_t offset, std::span<std::byte> into,
                       env::StatusCallback done) {
    const bool aligned = reinterpret_cast<std::uintptr_t>(into.data()) % sector_bytes == 0;
    auto bounce = std::make_shared<Buffer>(aligned ? 0 : into.size());
    const auto memory = aligned ? into : bounce->span();
    reader_->read(file, offset, memory, [into, bounce, done = std::move(done)](long got) mutable {
        if (got < 0) return done(system_fail(static_cast<int>(-got), "reading the image"));
        if (static_cast<std::size_t>(got) < into.size())
            return done(fail(ErrorCode::io, "the image ends too early"));
        if (!bounce->empty()) std::ranges::copy(bounce->span(), into.begin());
        done({});
    });
}

}  // namespace ebb::platform
