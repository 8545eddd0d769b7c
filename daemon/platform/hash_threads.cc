// SPDX-License-Identifier: Apache-2.0
#include "platform/hash_threads.h"

#include <algorithm>
#include <thread>

#include "format/digest.h"

namespace ebb::platform {

namespace {

constexpr unsigned threads_max = 4;

unsigned threads() {
    return std::clamp(std::thread::hardware_concurrency() / 2, 1U, threads_max);
}

}  // namespace

HashThreads::HashThreads(EventLoop& loop) : worker_(loop, threads(), "ebb-hash") {}

void HashThreads::sha256(std::span<const std::byte> data, env::Callback<Digest> done) {
    worker_.submit<Digest>([data]() -> Result<Digest> { return format::sha256(data); },
                           std::move(done));
}

}  // namespace ebb::platform
