// SPDX-License-Identifier: Apache-2.0
#include "service/common_cut.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

#include "service/controller_groups.h"

namespace ebb::service {
namespace {

using std::chrono::milliseconds;

// An agent that answers as the test wants it; of a kind in `silent` it says nothing.
class FakeAgent {
public:
    FakeAgent(ControllerAgents& agents, std::string name)
        : agents_(agents), name_(std::move(name)) {
        exchange({});
    }
    FakeAgent(const FakeAgent&) = delete;
    FakeAgent& operator=(const FakeAgent&) = delete;
    ~FakeAgent() {
        ending_ = true;
        agents_.stop();
        if (thread_.joinable()) thread_.join();
    }
    void start() {
        thread_ = std::thread([this] {
            std::vector<api::CommandResult> results;
            while (!ending_) results = take(exchange(std::move(results)));
        });
    }

    std::set<std::string> silent;  // steps, and kinds of other commands
    std::map<std::string, std::string> refusals;
    std::vector<std::string> heard;

private:
    api::ExchangeAnswer exchange(std::vector<api::CommandResult> results) {
        api::ExchangeRequest request;
        request.incarnation = "first";
        request.results = std::move(results);
        return agents_.exchange(name_, "here", std::move(request));
    }
    std::vector<api::CommandResult> take(const api::ExchangeAnswer& answer) {
        std::vector<api::CommandResult> results;
        for (const auto& command : answer.commands) {
            if (!seen_.insert(command.id).second) continue;
            const auto step = api::text(command.args, "step");
            const auto what = step.empty() ? command.kind : step;
            heard.push_back(what);
            if (command.kind == api::command::source_checkpoint) checkpoint_ = command.id;
            if (silent.contains(what) || command.kind == api::command::source_checkpoint) continue;
            api::CommandResult result;
            result.id = command.id;
            result.ok = !refusals.contains(what);
            if (!result.ok) result.error = api::ErrorInfo{refusals[what], "it was not to be", ""};
            results.push_back(result);
            if (what != "open" && what != "leave") continue;
            result.id = checkpoint_;
            result.ok = true;
            result.value = {{"epoch", 7U}, {"cut_time_ns", 5}};
            results.push_back(result);
        }
        return results;
    }

    ControllerAgents& agents_;
    const std::string name_;
    std::atomic<bool> ending_ = false;
    std::set<std::uint64_t> seen_;
    std::uint64_t checkpoint_ = 0;
    std::thread thread_;
};

class CommonCutTest : public testing::Test {
protected:
    Result<CutDone> run() {
        CutOrder order;
        order.members = {{"books", "vault", uuid}, {"shop", "vault", uuid}};
        order.gate_ms = 10;
        order.patience.ready = order.patience.exchange = milliseconds(500);
        for (auto* agent : {&books_, &shop_, &vault_}) agent->start();
        return CommonCut(agents_, std::move(order), {}, [](const std::string&, double) {}).run();
    }

    static constexpr const char* uuid = "01234567-89ab-cdef-0123-456789abcdef";
    ControllerAgents agents_;
    FakeAgent books_{agents_, "books"};
    FakeAgent shop_{agents_, "shop"};
    FakeAgent vault_{agents_, "vault"};
};

using Heard = std::vector<std::string>;

TEST_F(CommonCutTest, AllAreLedThroughItAndTheirTargetsTold) {
    const auto done = run();
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->point.epochs.at("shop"), 7U);
    EXPECT_EQ(shop_.heard, (Heard{"source.checkpoint", "ready", "close", "take", "open"}));
    EXPECT_EQ(vault_.heard, (Heard{"target.common", "target.common"}));
}

TEST_F(CommonCutTest, OneThatIsSilentIsNotWaitedFor) {
    books_.silent = {"ready"};
    const auto done = run();
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().name(), "E_COMMON_CUT");
    EXPECT_NE(done.error().message.find("books has not come to the step ready"), std::string::npos)
        << done.error().message;
    EXPECT_EQ(shop_.heard, (Heard{"source.checkpoint", "ready", "leave"}));
    EXPECT_TRUE(vault_.heard.empty());
}

TEST_F(CommonCutTest, OneThatNeverRegisteredKeepsNobody) {
    CutOrder order;
    order.members = {{"nobody", "vault", uuid}, {"shop", "vault", uuid}};
    shop_.start();
    const auto done =
        CommonCut(agents_, std::move(order), {}, [](const std::string&, double) {}).run();
    ASSERT_FALSE(done);
    EXPECT_NE(done.error().message.find("E_AGENT_NOT_REGISTERED"), std::string::npos);
    EXPECT_EQ(std::ranges::count(shop_.heard, "close"), 0);
}

TEST_F(CommonCutTest, AGateThatWasNotClosedAnyMore) {
    shop_.refusals["open"] = "E_STALE";
    const auto done = run();
    ASSERT_FALSE(done);
    EXPECT_NE(done.error().message.find("shop has not come to the step open"), std::string::npos);
    EXPECT_TRUE(vault_.heard.empty());
}

TEST(BeginEach, SaysWhichWereBegunAndWhichNot) {
    const auto begin = [](const std::string& machine) -> Outcome {
        if (machine == "shop") return api::Json{{"id", 7}, {"machine", machine}};
        return refusal("E_JOB_RUNNING", "job 5 is at work on " + machine, "");
    };
    const BeginWords words{"failovers", "E_GROUP_FAILOVER",
                           "ebbctl failover MACHINE --point EPOCH"};
    EXPECT_EQ(begin_each(words, "web", {"shop"}, begin).value["jobs"][0]["id"], 7);
    EXPECT_EQ(begin_each(words, "web", {"books"}, begin).reasons.front().name(), "E_JOB_RUNNING");
    const auto partly = begin_each(words, "web", {"books", "shop", "news"}, begin);
    ASSERT_EQ(partly.reasons.size(), 1U);
    EXPECT_EQ(partly.reasons[0].name(), "E_GROUP_FAILOVER");
    EXPECT_NE(partly.reasons[0].message.find("shop (job 7)"), std::string::npos);
    EXPECT_NE(partly.reasons[0].message.find("job 5 is at work on news"), std::string::npos);
}

}  // namespace
}  // namespace ebb::service
