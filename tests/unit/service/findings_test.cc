// SPDX-License-Identifier: Apache-2.0
#include "service/findings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ebb::service {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t time = 1'800'000'000;

class Findings : public testing::Test {
protected:
    void whole() { protection_.update(journal_was_whole({3, 4, 5, 6}, time)); }
    bool not_whole(const Error& error, std::uint64_t newest = 0, bool certifying = false) {
        api::Point point;
        point.epoch = newest;
        const auto fields = journal_was_not_whole(protection_, error,
                                                  newest == 0 ? nullptr : &point, certifying, time);
        if (fields) protection_.update(*fields);
        return fields.has_value();
    }
    void checked(std::uint64_t epoch, std::uint64_t different, bool with_all = true) {
        api::CertifyValue value;
        value.point.epoch = epoch;
        value.point.name = "named-" + std::to_string(epoch);
        value.whole = with_all;
        value.bytes = 8192;
        value.equal_bytes = 8192 - different;
        value.different_bytes = different;
        protection_.update(point_was_checked(protection_, value, time));
        // As the store keeps it.
        protection_ = *api::parse(api::dump(protection_));
    }
    // With "!" what is critical.
    [[nodiscard]] std::vector<std::string> codes() const {
        std::vector<std::string> list;
        for (const auto& found : findings(protection_)) {
            EXPECT_FALSE(found.error.remedy.empty());
            list.push_back(std::string(found.error.name()) + (found.critical ? "!" : ""));
        }
        return list;
    }

    const Error corrupt_{ErrorCode::corrupt, "epoch-7: is not what it was", {}, {}};
    const Error full_{ErrorCode::no_space, "the retention volume is full", {}, {}};
    api::Json protection_{{"machine", "shop"}, {"state", "protected"}};
};

TEST_F(Findings, ADocumentOfAnOlderControllerHasNothingToTell) {
    EXPECT_THAT(codes(), IsEmpty());
    protection_["verified"] = nullptr;
    protection_["retention_verified"] = 7;
    protection_["damaged_points"] = {1, "x", nullptr};
    forget_given_up(protection_, 3);
    EXPECT_THAT(codes(), IsEmpty());
    checked(3, 4096);
    EXPECT_THAT(codes(), ElementsAre("E_POINT_DIFFERS!"));
}

TEST_F(Findings, AJournalThatIsWhole) {
    whole();
    EXPECT_EQ(protection_["retention_verified"]["outcome"], "whole");
    EXPECT_EQ(protection_["retention_verified"]["records"], 5);
    EXPECT_EQ(protection_["retention_verified"]["time"], time);
    EXPECT_THAT(codes(), IsEmpty());
}

TEST_F(Findings, DamageStaysUntilTheJournalIsReadWhole) {
    EXPECT_TRUE(not_whole(corrupt_, 9));
    EXPECT_EQ(protection_["retention_verified"]["outcome"], "damaged");
    EXPECT_THAT(codes(), ElementsAre("E_RETENTION_DAMAGED!"));
    EXPECT_THAT(findings(protection_)[0].error.message, HasSubstr("epoch-7: is not what it was"));
    // One that did not come to its end says nothing of what it did not read.
    EXPECT_TRUE(not_whole(full_));
    EXPECT_EQ(protection_["retention_verified"]["outcome"], "full");
    EXPECT_THAT(codes(), ElementsAre("E_RETENTION_DAMAGED!", "E_RETENTION_UNREAD"));
    whole();
    EXPECT_THAT(codes(), IsEmpty());
}

TEST_F(Findings, DamageIsGoneWithAllThatWasThereThen) {
    EXPECT_TRUE(not_whole(corrupt_, 9));
    forget_given_up(protection_, 0);
    forget_given_up(protection_, 9);
    EXPECT_THAT(codes(), ElementsAre("E_RETENTION_DAMAGED!"));
    forget_given_up(protection_, 10);
    EXPECT_THAT(codes(), IsEmpty());
    // Nobody knows how far it reached: only another verification tells.
    EXPECT_TRUE(not_whole(corrupt_));
    forget_given_up(protection_, 1'000);
    EXPECT_THAT(codes(), ElementsAre("E_RETENTION_DAMAGED!"));
}

TEST_F(Findings, WhatTellsNothingOfTheJournalChangesNothing) {
    whole();
    const auto before = protection_;
    for (const auto code : {ErrorCode::busy, ErrorCode::timeout, ErrorCode::cancelled,
                            ErrorCode::refused, ErrorCode::not_found})
        EXPECT_FALSE(not_whole({code, "x", {}, {}}));
    EXPECT_FALSE(not_whole({ErrorCode::corrupt, "x", {}, "E_RETENTION_LOST"}));
    // What was to be read of a point was more than the journal.
    EXPECT_FALSE(not_whole(full_, 0, true));
    EXPECT_FALSE(not_whole({ErrorCode::io, "sdb", {}, {}}, 0, true));
    EXPECT_EQ(protection_, before);
    EXPECT_TRUE(not_whole({ErrorCode::io, "epoch-7 cannot be read", {}, {}}, 9));
    EXPECT_THAT(codes(), ElementsAre("E_RETENTION_DAMAGED!"));
    whole();
    EXPECT_TRUE(not_whole(corrupt_, 9, true));
    EXPECT_THAT(codes(), ElementsAre("E_RETENTION_DAMAGED!"));
}

TEST_F(Findings, PointsThatDifferAreListedUntilTheyAreEqualOrGone) {
    checked(5, 4096);
    checked(3, 4096);
    checked(4, 0);
    EXPECT_EQ(protection_["point_checked"]["epoch"], 4);
    EXPECT_EQ(protection_["point_checked"]["equal_bytes"], 8192);
    EXPECT_THAT(codes(), ElementsAre("E_POINT_DIFFERS!"));
    EXPECT_THAT(findings(protection_)[0].error.message,
                HasSubstr("epochs 5 (named-5), 3 (named-3)"));
    checked(5, 0);
    ASSERT_EQ(protection_["damaged_points"].size(), 1U);
    EXPECT_EQ(protection_["damaged_points"][0]["epoch"], 3);
    forget_given_up(protection_, 3);
    EXPECT_THAT(codes(), ElementsAre("E_POINT_DIFFERS!"));
    auto given_up = protection_;
    forget_given_up(given_up, 4);
    EXPECT_THAT(findings(given_up), IsEmpty());
    // Merged with the next one.
    std::vector<api::Point> there(2);
    there[0].epoch = 2;
    there[1].epoch = 4;
    protection_.update(points_are(protection_, there));
    EXPECT_THAT(codes(), IsEmpty());
}

TEST_F(Findings, WhatWasComparedInPartDoesNotUndoWhatWasFoundInAllOfIt) {
    checked(5, 4096, true);
    checked(5, 0, false);
    EXPECT_THAT(codes(), ElementsAre("E_POINT_DIFFERS!"));
    checked(5, 512, false);
    ASSERT_EQ(protection_["damaged_points"].size(), 1U);
    EXPECT_EQ(protection_["damaged_points"][0]["whole"], true);
    checked(5, 0, true);
    EXPECT_THAT(codes(), IsEmpty());
    checked(5, 512, false);
    checked(5, 0, false);
    EXPECT_THAT(codes(), IsEmpty());
}

TEST_F(Findings, TheListHasAnEnd) {
    for (std::uint64_t epoch = 1; epoch <= 70; ++epoch) checked(epoch, 512);
    ASSERT_EQ(protection_["damaged_points"].size(), 64U);
    EXPECT_EQ(protection_["damaged_points"][0]["epoch"], 7);
    EXPECT_THAT(findings(protection_)[0].error.message, HasSubstr("and 60 more"));
}

TEST_F(Findings, WhatTheCommitDroppedIsOver) {
    EXPECT_TRUE(not_whole(corrupt_, 9));
    checked(5, 4096);
    protection_["verified"] = {{"different_bytes", 0}};
    protection_["state"] = "failed-back";
    EXPECT_THAT(codes(), IsEmpty());
}

}  // namespace
}  // namespace ebb::service
