// SPDX-License-Identifier: Apache-2.0
// The judge of the model test must be able to say no: planted violations, one for each rule.
#include "model/model.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "model/ledger.h"
#include "model/pass.h"
#include "model/replica.h"

namespace ebb::kmodmodel {
namespace {

constexpr std::uint64_t size = 64;

// Two disks of 64 sectors, and what is seen of them.
class ModelTest : public testing::Test {
protected:
    Code begin(std::uint32_t disk, std::uint64_t first, std::uint64_t count,
               Content content = Content::data, bool atomic = true) {
        return model_.issue({disk, first, count}, content, atomic);
    }
    Code write(std::uint32_t disk, std::uint64_t first, std::uint64_t count,
               Content content = Content::data) {
        Code code = begin(disk, first, count, content);
        model_.done(code, true);
        return code;
    }
    void see(std::uint32_t disk, std::uint64_t first, std::uint64_t count, Code code) {
        std::fill_n(state_[disk].begin() + static_cast<std::ptrdiff_t>(first), count, code);
    }
    // A cut that nothing happens beside.
    Cut cut() {
        std::uint64_t asked = model_.ticket();
        return {asked, model_.ticket()};
    }
    Faults judge(Cut c) { return model_.judge({state_[0], state_[1]}, c); }

    Model model_{{{.sectors = size}, {.sectors = size, .discard_zeroes = true}}};
    std::vector<Code> state_[2] = {std::vector<Code>(size), std::vector<Code>(size)};
};

TEST_F(ModelTest, AcceptsWhatWasDone) {
    see(0, 0, 16, write(0, 0, 16));
    see(1, 8, 3, write(1, 8, 3));
    EXPECT_TRUE(judge(cut()).empty());
}

TEST_F(ModelTest, AcceptsWhatWasThereBefore) {
    constexpr Code before = code_damaged | 7;
    see(0, 4, 1, before);
    EXPECT_EQ(judge(cut()).size(), 1U);
    std::vector<Code> codes(size);
    codes[4] = before;
    model_.set_before(0, codes);
    EXPECT_TRUE(judge(cut()).empty());
    write(0, 4, 1);
    EXPECT_EQ(judge(cut()).size(), 1U);
}

TEST_F(ModelTest, KnowsBlocksThatMayBeMarked) {
    std::uint64_t asked = model_.ticket();
    Code slow = begin(0, 15, 2);
    EXPECT_EQ(model_.written(0, asked), (std::vector<bool>{0, 1, 1, 0, 0, 0, 0, 0}));
    model_.done(slow, true);
    EXPECT_EQ(model_.written(0, asked), (std::vector<bool>{0, 1, 1, 0, 0, 0, 0, 0}));
    EXPECT_EQ(model_.written(0, model_.ticket()), std::vector<bool>(8));
}

TEST_F(ModelTest, MissesAWriteThatWasDone) {
    write(0, 3, 1);
    EXPECT_EQ(judge(cut()).size(), 1U);
}

TEST_F(ModelTest, MissesTheNewerOfTwo) {
    Code old = write(0, 0, 4);
    write(0, 0, 2);
    see(0, 0, 4, old);
    EXPECT_EQ(judge(cut()).size(), 2U);
}

TEST_F(ModelTest, AcceptsAWriteAcrossTheCutOrNot) {
    Code before = write(0, 0, 8);
    Code across = begin(0, 0, 8);
    Cut c = cut();
    model_.done(across, true);
    see(0, 0, 8, before);
    EXPECT_TRUE(judge(c).empty());
    see(0, 0, 8, across);
    EXPECT_TRUE(judge(c).empty());
}

TEST_F(ModelTest, RefusesHalfOfOneBio) {
    Code before = write(0, 0, 8);
    Code across = begin(0, 0, 8);
    see(0, 0, 4, before);
    see(0, 4, 4, across);
    EXPECT_EQ(judge(cut()).size(), 4U);
}

TEST_F(ModelTest, AcceptsHalfOfSeveralBios) {
    Code before = write(0, 0, 8);
    Code across = begin(0, 0, 8, Content::data, false);
    see(0, 0, 4, before);
    see(0, 4, 4, across);
    EXPECT_TRUE(judge(cut()).empty());
}

TEST_F(ModelTest, RefusesTheFuture) {
    Cut c = cut();
    see(0, 0, 1, write(0, 0, 1));
    EXPECT_EQ(judge(c).size(), 1U);
}

TEST_F(ModelTest, RefusesABreachOfCausalityOverDisks) {
    Cut c;
    c.asked = model_.ticket();
    write(0, 0, 1);                // done, and
    see(1, 0, 1, begin(1, 0, 1));  // issued after that: in the cut, and the other one is not
    c.granted = model_.ticket();
    Faults faults = judge(c);
    ASSERT_EQ(faults.size(), 1U);
    EXPECT_NE(faults[0].find("before one in the cut was issued"), std::string::npos);
}

TEST_F(ModelTest, AcceptsAnyOrderOfWritesAtOnce) {
    Code a = begin(0, 0, 8), b = begin(0, 4, 8);
    model_.done(a, true);
    model_.done(b, true);
    see(0, 0, 8, a);
    see(0, 8, 4, b);
    EXPECT_TRUE(judge(cut()).empty());
    see(0, 4, 8, b);
    EXPECT_TRUE(judge(cut()).empty());
}

TEST_F(ModelTest, RefusesAnotherPlace) {
    Code code = write(0, 0, 1);
    see(0, 0, 1, code);
    see(0, 1, 1, code);
    EXPECT_EQ(judge(cut()).size(), 1U);
}

TEST_F(ModelTest, RefusesAMixture) {
    write(0, 0, 1);
    see(0, 0, 1, code_damaged | 5);
    EXPECT_EQ(judge(cut()).size(), 1U);
}

TEST_F(ModelTest, AcceptsAMixtureOfWritesAtOnceWhereDisksTear) {
    Model torn({{.sectors = size, .tears = true}});
    for (Code code :
         {torn.issue({0, 0, 1}, Content::data, true), torn.issue({0, 0, 1}, Content::data, true)})
        torn.done(code, true);
    std::vector<Code> seen(size);
    seen[0] = code_damaged | 5;
    std::uint64_t now = torn.ticket();
    EXPECT_TRUE(torn.judge({seen}, {now, now + 1}).empty());
    torn.done(torn.issue({0, 0, 1}, Content::data, true), true);
    now = torn.ticket();
    EXPECT_EQ(torn.judge({seen}, {now, now + 1}).size(), 1U);
}

// Disk 1 lies on disk 0, from sector 5 on.
class StackedTest : public testing::Test {
protected:
    Faults judge() {
        std::uint64_t asked = model_.ticket();
        return model_.judge({lower_, upper_}, {asked, model_.ticket()});
    }
    Model model_{{{.sectors = size}, {.sectors = 40, .lies_on = 0, .lies_at = 5}}};
    std::vector<Code> lower_ = std::vector<Code>(size), upper_ = std::vector<Code>(40);
};

TEST_F(StackedTest, AWriteMustBeOnBothDisks) {
    Code code = model_.issue({1, 3, 2}, Content::data, true);
    model_.done(code, true);
    std::fill_n(upper_.begin() + 3, 2, code);
    EXPECT_EQ(judge().size(), 2U);
    std::fill_n(lower_.begin() + 8, 2, code);
    EXPECT_TRUE(judge().empty());
    upper_[3] = 0;
    EXPECT_EQ(judge().size(), 1U);
}

TEST_F(StackedTest, OneUnderWayMayBeOnEitherAndIsWholeThere) {
    Code code = model_.issue({1, 3, 2}, Content::data, true);
    std::fill_n(upper_.begin() + 3, 2, code);
    EXPECT_TRUE(judge().empty());
    std::fill_n(upper_.begin() + 3, 2, 0);
    std::fill_n(lower_.begin() + 8, 2, code);
    EXPECT_TRUE(judge().empty());
    lower_[9] = 0;
    EXPECT_EQ(judge().size(), 1U);
    lower_[10] = code;
    EXPECT_EQ(judge().size(), 1U);
}

TEST_F(StackedTest, LongOnesMayBeInPartsBelow) {
    constexpr std::uint64_t large = 400;
    Model model({{.sectors = large}, {.sectors = large, .lies_on = 0}});
    Code code = model.issue({1, 0, 129}, Content::data, true);
    std::vector<Code> lower(large), upper(large);
    lower[0] = code;
    EXPECT_TRUE(model.judge({lower, upper}, {model.ticket(), model.ticket()}).empty());
    upper[0] = code;
    EXPECT_FALSE(model.judge({lower, upper}, {model.ticket(), model.ticket()}).empty());
}

TEST_F(StackedTest, BothAreBusyAndHaveMarks) {
    std::uint64_t before = model_.ticket();
    Code code = model_.issue({1, 3, 8}, Content::data, true);
    std::uint64_t issued = model_.ticket();
    for (std::uint32_t disk : {0U, 1U}) EXPECT_TRUE(model_.is_busy(disk, issued)) << disk;
    model_.done(code, true);
    EXPECT_EQ(model_.written(1, before), (Blocks{true, true, false, false, false}));
    EXPECT_EQ(model_.written(0, before),
              (Blocks{false, true, false, false, false, false, false, false}));
    std::vector<Write> done = model_.take_done(model_.ticket());
    ASSERT_EQ(done.size(), 2U);
    EXPECT_EQ(done[0].extent.disk, 1U);
    EXPECT_EQ(done[1].extent.disk, 0U);
    EXPECT_EQ(done[1].extent.first, 8U);
    EXPECT_EQ(model_.origin({0, 8}).sector, 3U);
    EXPECT_EQ(model_.origin({0, 4}).disk, 0U);
    EXPECT_EQ(model_.origin({0, 45}).disk, 0U);
}

TEST_F(ModelTest, FailedWritesAreThereOrNot) {
    Code old = write(0, 0, 8), failed = begin(0, 0, 8, Content::data, false);
    model_.done(failed, false);
    see(0, 0, 4, old);
    see(0, 4, 4, failed);
    EXPECT_TRUE(judge(cut()).empty());
    write(0, 4, 4);
    EXPECT_EQ(judge(cut()).size(), 4U);
}

TEST_F(ModelTest, ZeroesNeedAReason) {
    EXPECT_TRUE(judge(cut()).empty());
    see(0, 0, 8, write(0, 0, 8));
    EXPECT_TRUE(judge(cut()).empty());
    see(0, 0, 8, code_zero);
    EXPECT_EQ(judge(cut()).size(), 5U);
    write(0, 0, 8, Content::zeroes);
    EXPECT_TRUE(judge(cut()).empty());
}

TEST_F(ModelTest, DiscardsLeaveAnythingOrZeroes) {
    Code first = write(0, 0, 8), second = write(1, 0, 8);
    write(0, 0, 8, Content::discard);
    write(1, 0, 8, Content::discard);
    see(0, 0, 8, first);
    see(1, 0, 8, code_zero);
    EXPECT_TRUE(judge(cut()).empty());
    see(1, 0, 8, second);
    EXPECT_EQ(judge(cut()).size(), 5U);
    see(1, 0, 8, code_discarded);
    EXPECT_TRUE(judge(cut()).empty());
    see(1, 0, 1, write(1, 0, 1));
    see(0, 0, 8, code_discarded);
    EXPECT_TRUE(judge(cut()).empty());
}

TEST_F(ModelTest, RefusesADiscardThatWasWrittenOver) {
    write(0, 0, 8, Content::discard);
    write(0, 0, 1);
    see(0, 0, 8, code_discarded);
    EXPECT_EQ(judge(cut()).size(), 1U);
}

TEST_F(ModelTest, RefusesWhatWasNeverSent) {
    see(1, 7, 1, code_unsent);
    EXPECT_EQ(judge(cut()).size(), 1U);
}

TEST_F(ModelTest, ForgettingChangesNothing) {
    Code last = 0;
    for (int i = 0; i < 100; ++i) {
        last = write(0, 0, 1);
        see(0, 0, 1, last);
        EXPECT_TRUE(judge(cut()).empty());
    }
    see(0, 0, 1, last - 1);
    EXPECT_EQ(judge(cut()).size(), 1U);
}

TEST_F(ModelTest, ComparesADiskAtRest) {
    state_[0][3] = 1;
    std::vector<Code> disk(size);
    write(0, 3, 1);
    EXPECT_EQ(model_.compare(0, state_[0], disk, "the disk").size(), 1U);
    state_[0][3] = code_discarded;
    EXPECT_TRUE(model_.compare(0, state_[0], disk, "the disk").empty());
}

class LedgerTest : public testing::Test {
protected:
    LedgerTest() { ledger_.attach(0, 1); }
    static Write done(std::uint64_t first, std::uint64_t count, std::uint64_t issued,
                      std::uint64_t at, bool ok = true) {
        Write w{.extent = {0, first, count}, .ok = ok};
        w.issued = issued;
        w.done = at;
        return w;
    }
    static Maps maps(std::initializer_list<std::uint64_t> blocks) {
        Maps m(1, Blocks(size / sectors_of_block));
        for (std::uint64_t b : blocks) m[0][b] = true;
        return m;
    }
    Ledger ledger_{std::vector<std::uint64_t>{size}};
};

TEST_F(LedgerTest, FindsALostBit) {
    ledger_.begin();
    EXPECT_TRUE(ledger_.end(maps({1, 2}), {done(15, 2, 2, 3)}, {10, 11}).empty());
    ledger_.begin();
    EXPECT_EQ(ledger_.end(maps({1}), {done(15, 2, 12, 13)}, {20, 21}).size(), 1U);
}

TEST_F(LedgerTest, FindsTheLostBitOfAFailedWrite) {
    ledger_.begin();
    EXPECT_EQ(ledger_.end(maps({}), {done(8, 8, 2, 3, false)}, {10, 11}).size(), 1U);
}

TEST_F(LedgerTest, AWriteAcrossACutIsInOneMapOrTheOther) {
    ledger_.begin();
    EXPECT_TRUE(ledger_.end(maps({3}), {}, {10, 12}).empty());
    ledger_.begin();
    EXPECT_TRUE(ledger_.end(maps({}), {done(24, 8, 9, 13)}, {20, 21}).empty());
    ledger_.begin();
    EXPECT_EQ(ledger_.end(maps({}), {done(24, 8, 15, 23)}, {30, 31}).size(), 1U);
}

TEST_F(LedgerTest, WhatIsAbandonedComesBack) {
    ledger_.begin();
    EXPECT_TRUE(ledger_.end(maps({3}), {done(24, 8, 2, 3)}, {10, 11}).empty());
    ledger_.abandon();
    ledger_.begin();
    EXPECT_EQ(ledger_.end(maps({}), {}, {20, 21}).size(), 1U);
}

TEST_F(LedgerTest, WhatIsConfirmedDoesNot) {
    ledger_.begin();
    EXPECT_TRUE(ledger_.end(maps({3}), {done(24, 8, 2, 3)}, {10, 11}).empty());
    ledger_.confirm();
    ledger_.abandon();
    ledger_.begin();
    EXPECT_TRUE(ledger_.end(maps({}), {}, {20, 21}).empty());
}

TEST_F(LedgerTest, WhatAVoidPassHadComesBack) {
    ledger_.mark(0, 1, 1);
    ledger_.begin();
    ledger_.come_back(maps({5}));
    ledger_.begin();
    EXPECT_EQ(ledger_.end(maps({}), {}, {20, 21}).size(), 2U);
}

TEST_F(LedgerTest, MarksDuringAPassAreForTheNext) {
    ledger_.begin();
    ledger_.mark_all(0);
    EXPECT_TRUE(ledger_.end(maps({}), {}, {10, 11}).empty());
    EXPECT_FALSE(ledger_.is_whole(0));
    ledger_.begin();
    EXPECT_TRUE(ledger_.is_whole(0));
    EXPECT_EQ(ledger_.end(maps({0, 1, 2, 3, 4, 5, 6}), {}, {20, 21}).size(), 1U);
}

TEST(Replica, GoesBackToWhatWasConfirmed) {
    Replica replica({12});
    BlockCodes ones{}, twos{};
    ones.fill(1);
    twos.fill(2);
    EXPECT_EQ(replica.state(0)[11], code_unsent);
    replica.apply(0, 1, ones);
    replica.confirm();
    replica.apply(0, 1, twos);
    EXPECT_EQ(replica.state(0)[11], 2U);
    replica.abandon();
    EXPECT_EQ(replica.state(0)[11], 1U);
    EXPECT_EQ(replica.state(0)[0], code_unsent);
}

TEST(Sector, ProvesItself) {
    std::byte sector[sector_bytes] = {};
    EXPECT_EQ(sector_read(sector, 1, {0, 5}), code_zero);
    sector_fill(sector, 1, {0, 5}, 77);
    EXPECT_EQ(sector_read(sector, 1, {0, 5}), 77U);
    EXPECT_TRUE(sector_read(sector, 1, {0, 6}) & code_damaged);
    EXPECT_TRUE(sector_read(sector, 1, {1, 5}) & code_damaged);
    EXPECT_TRUE(sector_read(sector, 2, {0, 5}) & code_damaged);
    sector[400] ^= std::byte{1};
    EXPECT_TRUE(sector_read(sector, 1, {0, 5}) & code_damaged);
}

}  // namespace
}  // namespace ebb::kmodmodel
