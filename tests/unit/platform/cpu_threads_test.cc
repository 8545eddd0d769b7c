// SPDX-License-Identifier: Apache-2.0
#include "platform/cpu_threads.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace ebb::platform {
namespace {

constexpr Duration patience = std::chrono::seconds(60);

TEST(CpuThreads, EachIsDoneElsewhereAndAnsweredHere) {
    EventLoop loop;
    CpuThreads cpus(loop);
    constexpr std::size_t count = 100;
    const auto here = std::this_thread::get_id();
    std::vector<std::thread::id> done_by(count);
    std::size_t answered = 0;
    for (std::size_t i = 0; i < count; ++i) {
        cpus.compute([&, i] { done_by[i] = std::this_thread::get_id(); },
                     [&, i](const Status& status) {
                         EXPECT_TRUE(status);
                         EXPECT_NE(done_by[i], std::thread::id());
                         EXPECT_NE(done_by[i], here);
                         EXPECT_EQ(std::this_thread::get_id(), here);
                         ++answered;
                     });
        EXPECT_EQ(answered, 0U);  // never from inside the call
    }
    EXPECT_TRUE(loop.run_until([&] { return answered == count; }, patience));
}

TEST(CpuThreads, WhatIsNotAnsweredYetIsDroppedWithIt) {
    EventLoop loop;
    const auto data = std::make_shared<std::vector<int>>(1000);
    {
        CpuThreads cpus(loop);
        for (int i = 0; i < 20; ++i)
            cpus.compute([data] { EXPECT_EQ(data->size(), 1000U); },
                         [data](const Status&) { FAIL() << "answered after its end"; });
    }
    loop.poll();
    EXPECT_EQ(data.use_count(), 1);
}

}  // namespace
}  // namespace ebb::platform
