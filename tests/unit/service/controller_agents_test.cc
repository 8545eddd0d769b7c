// SPDX-License-Identifier: Apache-2.0
#include "service/controller_agents.h"

#include <gtest/gtest.h>

#include <future>

namespace ebb::service {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Call = ControllerAgents::Call;
using Until = ControllerAgents::Until;

// Nothing here takes so long but what fails.
constexpr milliseconds long_enough{60'000};
// An answer that is held takes longer, one that is not is given at once.
constexpr milliseconds held{400};

class AgentsTest : public testing::Test {
protected:
    api::ExchangeAnswer exchange(const std::string& name, const std::string& incarnation = "first",
                                 std::vector<api::CommandResult> results = {}) {
        api::ExchangeRequest request;
        request.incarnation = incarnation;
        request.results = std::move(results);
        const auto begun = steady_clock::now();
        auto answer = agents_.exchange(name, "here", std::move(request));
        took_ = steady_clock::now() - begun;
        return answer;
    }
    static api::CommandResult done(std::uint64_t id, const api::Json& value) {
        api::CommandResult result;
        result.id = id;
        result.ok = true;
        result.value = value;
        return result;
    }
    static api::CommandResult failed(std::uint64_t id) {
        api::CommandResult result;
        result.id = id;
        result.error = api::ErrorInfo{"E_BUSY", "something else goes on", ""};
        return result;
    }
    void begin(ControllerAgents::Calls& calls, const std::string& name, const std::string& kind) {
        calls.emplace_back(agents_, name, kind, api::Json::object());
    }

    ControllerAgents agents_;
    steady_clock::duration took_{};
};

TEST_F(AgentsTest, AnExchangeIsHeldWhileItsCommandsAreKnownThere) {
    exchange("shop");
    EXPECT_GT(took_, held);
    const Call slow(agents_, "shop", "source.checkpoint", api::Json::object());
    ASSERT_EQ(exchange("shop").commands.size(), 1U);
    EXPECT_LT(took_, held);
    // It is told again, as its first answer may have been lost, but not without a pause.
    ASSERT_EQ(exchange("shop").commands.size(), 1U);
    EXPECT_GT(took_, held);
    // A daemon that was started again knows of nothing.
    ASSERT_EQ(exchange("shop", "second").commands.size(), 1U);
    EXPECT_LT(took_, held);
}

TEST_F(AgentsTest, ANewCommandEndsTheWaitOfAnAgentThatIsAtWork) {
    exchange("shop");
    const Call slow(agents_, "shop", "source.checkpoint", api::Json::object());
    exchange("shop");
    auto waiting = std::async(std::launch::async, [this] { return exchange("shop"); });
    const Call more(agents_, "shop", "source.cut", api::Json::object());
    EXPECT_EQ(waiting.get().commands.size(), 2U);
}

TEST_F(AgentsTest, AResultThatIsInHasteNeedNotWaitForTheEndOfAnExchange) {
    exchange("shop");
    const Call step(agents_, "shop", "source.cut", api::Json::object(),
                    ControllerAgents::Haste::brief);
    EXPECT_EQ(exchange("shop").commands.size(), 1U);
    EXPECT_EQ(exchange("shop").commands.size(), 1U);
    EXPECT_LT(took_, held);
}

TEST_F(AgentsTest, CommandsToSeveralAreAwaitedTogether) {
    exchange("shop");
    exchange("books");
    ControllerAgents::Calls calls;
    begin(calls, "shop", "target.points");
    begin(calls, "books", "target.points");
    begin(calls, "nobody", "target.points");
    auto waiting = std::async(std::launch::async, [&] { agents_.wait(calls, long_enough); });
    const auto shop = exchange("shop").commands.front().id;
    const auto books = exchange("books").commands.front().id;
    exchange("books", "first", {failed(books)});
    exchange("shop", "first", {done(shop, {{"n", 1}})});
    waiting.get();
    EXPECT_EQ((**calls[0].result())["n"], 1);
    EXPECT_EQ(calls[1].result()->error().name(), "E_BUSY");
    EXPECT_EQ(calls[2].result()->error().name(), "E_AGENT_NOT_REGISTERED");
}

TEST_F(AgentsTest, TheFirstFailureEndsAWaitThatAsksForIt) {
    exchange("shop");
    exchange("books");
    ControllerAgents::Calls calls;
    begin(calls, "shop", "source.cut");
    begin(calls, "books", "source.cut");
    const auto books = exchange("books").commands.front().id;
    exchange("books", "first", {failed(books)});
    agents_.wait(calls, long_enough, {}, Until::one_failed);
    EXPECT_EQ(calls[0].result(), nullptr);
    EXPECT_NE(calls[1].result(), nullptr);
    calls.clear();  // what nobody waits for is not sent any more
    EXPECT_TRUE(exchange("shop").commands.empty());
}

TEST_F(AgentsTest, WhatEndsBesideEndsTheWait) {
    exchange("shop");
    ControllerAgents::Calls steps, checkpoints;
    begin(checkpoints, "shop", "source.checkpoint");
    begin(steps, "shop", "source.cut");
    const auto checkpoint = exchange("shop").commands.front().id;
    exchange("shop", "first", {done(checkpoint, {{"epoch", 7}})});
    agents_.wait(steps, long_enough, {}, Until::all_ended, &checkpoints);
    EXPECT_EQ(steps[0].result(), nullptr);
    EXPECT_EQ((**checkpoints[0].result())["epoch"], 7);
}

TEST_F(AgentsTest, PatienceEndsAndSoDoesInterest) {
    exchange("shop");
    ControllerAgents::Calls late, unwanted;
    begin(late, "shop", "target.points");
    agents_.wait(late, milliseconds(1));
    EXPECT_EQ(late[0].result()->error().name(), "E_TIMEOUT");
    begin(unwanted, "shop", "target.points");
    agents_.wait(unwanted, long_enough, [] { return true; });
    EXPECT_EQ(unwanted[0].result()->error().name(), "E_CANCELLED");
    EXPECT_TRUE(exchange("shop").commands.empty());
}

}  // namespace
}  // namespace ebb::service
