// SPDX-License-Identifier: Apache-2.0
#include "format/codec.h"

#include <zstd.h>

#include <memory>

namespace ebb::format {

bool compress_append(std::span<const std::byte> data, int level, std::vector<std::byte>& out) {
    // Contexts are large; one is enough, as all of core lives on one executor.
    struct Free {
        void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
    };
    thread_local std::unique_ptr<ZSTD_CCtx, Free> context(ZSTD_createCCtx());
    if (!context) return false;
    const std::size_t before = out.size();
    const std::size_t room = data.size() - data.size() / 8;
    out.resize(before + room);
    const std::size_t size = ZSTD_compressCCtx(context.get(), out.data() + before, room,
                                               data.data(), data.size(), level);
    if (ZSTD_isError(size) != 0) {
        out.resize(before);
        return false;
    }
    out.resize(before + size);
    return true;
}

Status decompress(std::span<const std::byte> data, std::span<std::byte> into) {
    const std::size_t size = ZSTD_decompress(into.data(), into.size(), data.data(), data.size());
    if (ZSTD_isError(size) != 0 || size != into.size()) {
        return fail(ErrorCode::protocol, "compressed extent is damaged");
    }
    return {};
}

}  // namespace ebb::format
