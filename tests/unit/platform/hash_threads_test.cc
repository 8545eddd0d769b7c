// SPDX-License-Identifier: Apache-2.0
#include "platform/hash_threads.h"

#include <gtest/gtest.h>

#include <vector>

#include "format/digest.h"

namespace ebb::platform {
namespace {

constexpr Duration patience = std::chrono::seconds(60);

TEST(HashThreads, EachAnswerIsOfWhatWasAsked) {
    EventLoop loop;
    HashThreads hasher(loop);
    constexpr std::size_t count = 100;
    std::vector<std::vector<std::byte>> data(count);
    std::size_t answered = 0;
    for (std::size_t i = 0; i < count; ++i) {
        data[i].assign(i * 1000, static_cast<std::byte>(i));
        hasher.sha256(data[i], [&, i](const Result<env::Hasher::Digest>& digest) {
            ASSERT_TRUE(digest.has_value());
            EXPECT_EQ(*digest, format::sha256(data[i]));
            ++answered;
        });
        EXPECT_EQ(answered, 0U);  // never from inside the call
    }
    EXPECT_TRUE(loop.run_until([&] { return answered == count; }, patience));
}

TEST(HashThreads, WhatIsNotAnsweredYetIsDroppedWithIt) {
    EventLoop loop;
    const auto data = std::make_shared<std::vector<std::byte>>(std::size_t{8} << 20);
    {
        HashThreads hasher(loop);
        for (int i = 0; i < 20; ++i)
            hasher.sha256(*data, [data](const auto&) { FAIL() << "answered after its end"; });
    }
    loop.poll();
    EXPECT_EQ(data.use_count(), 1);
}

}  // namespace
}  // namespace ebb::platform
