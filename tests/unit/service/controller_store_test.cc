// SPDX-License-Identifier: Apache-2.0
#include "service/controller_store.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "service/controller_jobs.h"

namespace ebb::service {
namespace {

namespace fs = std::filesystem;

class Store : public testing::Test {
protected:
    Store() {
        std::string pattern = "/tmp/ebb-store-XXXXXX";
        top_ = ::mkdtemp(pattern.data());
        path_ = top_ / "controller.db";
        open();
    }
    ~Store() override { fs::remove_all(top_); }
    void open() {
        store_.reset();
        auto store = ControllerStore::open(path_);
        ASSERT_TRUE(store) << store.error().message;
        store_ = std::move(*store);
    }

    fs::path top_;
    std::string path_;
    std::unique_ptr<ControllerStore> store_;
};

TEST_F(Store, KeepsWhatItWasGiven) {
    ASSERT_TRUE(store_->put("kind", "b", {{"n", 2}}));
    ASSERT_TRUE(store_->put("kind", "a", {{"n", 1}}));
    ASSERT_TRUE(store_->put("other", "a", {{"n", 3}}));
    ASSERT_TRUE(store_->amend("kind", "a", {{"m", 4}}));
    EXPECT_EQ(store_->amend("kind", "z", {{"m", 4}}).error().code, ErrorCode::not_found);
    open();
    const auto all = store_->all("kind");
    ASSERT_TRUE(all);
    ASSERT_EQ(all->size(), 2U);
    EXPECT_EQ((*all)[0].second, (api::Json{{"m", 4}, {"n", 1}}));
    ASSERT_TRUE(store_->remove("kind", "a"));
    EXPECT_FALSE(store_->find("kind", "a")->has_value());
}

TEST_F(Store, SaysWhatIsWrongWithTheFile) {
    EXPECT_EQ(ControllerStore::open(top_ / "no/such/folder").error().name(), "E_DATABASE");
    store_.reset();
    std::ofstream(path_, std::ios::trunc) << std::string(8192, 'x');
    const auto store = ControllerStore::open(path_);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().name(), "E_DATABASE");
    EXPECT_EQ(store.error().code, ErrorCode::corrupt);
    EXPECT_FALSE(store.error().remedy.empty());
}

// Whoever began many jobs must not find a thread, or a document, for each of them.
TEST_F(Store, JobsAreReapedAndForgotten) {
    ControllerJobs jobs(*store_, [] {});
    for (int i = 0; i < 520; ++i) {
        auto begun = jobs.begin({"test", "machine" + std::to_string(i), true},
                                [](ControllerJobs::Job& job) -> Status {
                                    job.step("only", 50);
                                    return {};
                                });
        ASSERT_TRUE(begun);
        const auto id = (*begun)["id"].get<std::uint64_t>();
        std::uint64_t seen = 0;
        for (;;) {
            const auto shown = jobs.show({id, seen, 20'000});
            ASSERT_TRUE(shown);
            if ((*shown)["state"] != "running") break;
            seen = (*shown)["revision"].get<std::uint64_t>();
        }
    }
    const auto kept = jobs.all();
    ASSERT_TRUE(kept);
    EXPECT_LE(kept->size(), 501U);
    EXPECT_EQ(kept->back()["id"], 520);
    EXPECT_EQ(jobs.show({1, 0, 0}).error().name(), "E_JOB_NOT_FOUND");
    jobs.stop();
}

}  // namespace
}  // namespace ebb::service
