// SPDX-License-Identifier: Apache-2.0
#include "platform/image_reader.h"

#include <algorithm>

#include "base/buffer.h"
#include "base/units.h"
#include "platform/system_error.h"

namespace ebb::platform {

namespace {

Status status_of(long got, std::size_t wanted) {
    if (got < 0) return system_fail(static_cast<int>(-got), "reading the image");
    if (static_cast<std::size_t>(got) < wanted)
        return fail(ErrorCode::io, "the image ends too early");
    return {};
}

}  // namespace

Result<std::unique_ptr<ImageReader>> ImageReader::open(EventLoop& loop) {
    auto reader = AioReader::open(
        loop, {.name = "ebb-image", .depth = depth, .together = together, .one_by_one = true});
    if (!reader) return std::unexpected(reader.error());
    return std::unique_ptr<ImageReader>(new ImageReader(std::move(*reader)));
}

void ImageReader::read(int file, std::uint64_t offset, std::span<std::byte> into,
                       env::StatusCallback done) {
    if (reinterpret_cast<std::uintptr_t>(into.data()) % sector_bytes == 0) {
        reader_->read(file, offset, into,
                      [size = into.size(), done = std::move(done)](long got) mutable {
                          done(status_of(got, size));
                      });
        return;
    }
    auto bounce = std::make_shared<Buffer>(into.size());
    reader_->read(file, offset, bounce->span(),
                  [into, bounce, done = std::move(done)](long got) mutable {
                      auto status = status_of(got, into.size());
                      if (status) std::ranges::copy(bounce->span(), into.begin());
                      done(std::move(status));
                  });
}

}  // namespace ebb::platform
