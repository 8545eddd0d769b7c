// SPDX-License-Identifier: Apache-2.0
#include "platform/worker.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <vector>

namespace ebb::platform {

namespace {

class WorkerTest : public testing::Test {
protected:
    void submit(int number) {
        worker_->submit<int>([number]() -> Result<int> { return number; },
                             [this](Result<int> result) { results_.push_back(*result); });
    }
    [[nodiscard]] bool until(std::size_t count) {
        return loop_.run_until([&] { return results_.size() >= count; }, std::chrono::seconds(60));
    }

    EventLoop loop_;
    std::unique_ptr<Worker> worker_;
    std::vector<int> results_;
};

TEST_F(WorkerTest, OneThreadKeepsTheOrder) {
    worker_ = std::make_unique<Worker>(loop_, 1, "test");
    for (int i = 0; i < 1000; ++i) submit(i);
    ASSERT_TRUE(until(1000));
    for (int i = 0; i < 1000; ++i) EXPECT_EQ(results_[static_cast<std::size_t>(i)], i);
}

// Whichever threads wait, and whichever is quicker: none of it is left lying.
TEST_F(WorkerTest, EachIsDoneHoweverManyAreSubmittedAtOnce) {
    worker_ = std::make_unique<Worker>(loop_, 4, "test");
    for (int round = 0; round < 3000; ++round) {
        results_.clear();
        const int count = 1 + round % 7;
        for (int i = 0; i < count; ++i) submit(i);
        ASSERT_TRUE(until(static_cast<std::size_t>(count))) << round;
    }
}

// Each waits for all of them to have begun: all threads are woken.
TEST_F(WorkerTest, AllThreadsWorkAtOnce) {
    constexpr int threads = 4;
    worker_ = std::make_unique<Worker>(loop_, threads, "test");
    std::mutex mutex;
    std::condition_variable changed;
    for (int round = 0; round < 100; ++round) {
        int begun = 0;
        results_.clear();
        for (int i = 0; i < threads; ++i) {
            worker_->submit<int>(
                [&]() -> Result<int> {
                    std::unique_lock lock(mutex);
                    ++begun;
                    changed.notify_all();
                    changed.wait(lock, [&] { return begun == threads; });
                    return 0;
                },
                [this](Result<int> result) { results_.push_back(*result); });
        }
        ASSERT_TRUE(until(threads)) << round;
    }
}

TEST_F(WorkerTest, ACallbackMayEndIt) {
    worker_ = std::make_unique<Worker>(loop_, 2, "test");
    for (int i = 0; i < 10; ++i) {
        worker_->submit<int>([]() -> Result<int> { return 0; },
                             [this](Result<int> result) {
                                 results_.push_back(*result);
                                 worker_.reset();
                             });
    }
    ASSERT_TRUE(until(1));
    bool over = false;
    loop_.post([&] { over = true; });
    ASSERT_TRUE(loop_.run_until([&] { return over; }, std::chrono::seconds(60)));
    EXPECT_EQ(results_.size(), 1U);
}

}  // namespace

}  // namespace ebb::platform
