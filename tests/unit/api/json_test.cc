// SPDX-License-Identifier: Apache-2.0
#include "api/json.h"

#include <gtest/gtest.h>

#include "api/error.h"
#include "api/names.h"

namespace ebb::api {

struct Inner {
    std::uint32_t n = 7;
};
struct Outer {
    std::string text;
    std::int64_t number = 0;
    std::vector<Inner> inners;
    std::optional<std::string> maybe;
};

template <class V>
void describe(V& visit, Inner& i) {
    visit("n", i.n);
}
template <class V>
void describe(V& visit, Outer& o) {
    visit("text", o.text);
    visit("number", o.number);
    visit.optional("inners", o.inners);
    visit.optional("maybe", o.maybe);
}

TEST(Json, RoundTrip) {
    const Outer outer{"a", -5, {{1}, {2}}, "x"};
    const auto again = decode_text<Outer>(dump(encode(outer)));
    ASSERT_TRUE(again);
    EXPECT_EQ(again->number, -5);
    ASSERT_EQ(again->inners.size(), 2U);
    EXPECT_EQ(again->inners[1].n, 2U);
    EXPECT_EQ(again->maybe, "x");
}

TEST(Json, NamesThePlaceOfWhatIsWrong) {
    const auto bad = decode_text<Outer>(R"({"text":"a","number":1,"inners":[{"n":1},{"n":-1}]})");
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().code, ErrorCode::invalid);
    EXPECT_TRUE(bad.error().message.starts_with("inners[1].n:")) << bad.error().message;
}

TEST(Json, EverythingWrongIsAnError) {
    const std::string garbage[] = {"",
                                   "{",
                                   "nul",
                                   "[]",
                                   "3",
                                   "\"x\"",
                                   "{\"text\":1,\"number\":1}",
                                   "{\"text\":\"a\"}",
                                   "{\"text\":\"a\",\"number\":1.5}",
                                   "{\"text\":\"a\",\"number\":9223372036854775808}",
                                   "{\"text\":\"a\",\"number\":1e400}",
                                   "{\"text\":\"\xff\",\"number\":1}",
                                   R"({"text":"a\u0000b","number":1})",
                                   R"({"text":"a","number":1,"inners":{}})",
                                   R"({"text":"a","number":1,"inners":[{"n":4294967296}]})",
                                   R"({"text":"a","number":1,"inners":[3]})",
                                   R"({"text":null,"number":1})"};
    for (const auto& text : garbage) {
        const auto result = decode_text<Outer>(text);
        ASSERT_FALSE(result) << text;
        EXPECT_EQ(result.error().code, ErrorCode::invalid);
    }
}

TEST(Json, DepthIsLimited) {
    EXPECT_TRUE(parse(std::string(20, '[') + std::string(20, ']')));
    EXPECT_FALSE(parse(std::string(100, '[') + std::string(100, ']')));
    EXPECT_FALSE(parse(std::string(200000, '[')));
}

TEST(Json, UnknownFieldsAreIgnoredOrRefused) {
    const char* text = R"({"text":"a","number":1,"inners":[{"n":1,"typo":2}]})";
    EXPECT_TRUE(decode_text<Outer>(text));
    const auto refused = decode_text<Outer>(text, Unknown::refused);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message, "inners[0].typo: is not known");
}

TEST(Json, DumpSurvivesBadUtf8) {
    EXPECT_NO_THROW((void)dump(Json(std::string("a\xff"))));
}

TEST(ErrorInfo, KeepsCodesBothWays) {
    const Error detailed{ErrorCode::refused, "m", "r", "E_RETENTION_FAT"};
    EXPECT_EQ(to_info(detailed).code, "E_RETENTION_FAT");
    EXPECT_EQ(from_info(to_info(detailed)).name(), "E_RETENTION_FAT");
    EXPECT_EQ(from_info({"E_FENCED", "m", ""}).code, ErrorCode::fenced);
    EXPECT_EQ(from_info({"E_UNSUPPORTED", "m", ""}).code, ErrorCode::unsupported);
    EXPECT_EQ(from_info({"nonsense", "m", ""}).code, ErrorCode::protocol);
}

TEST(Names, RefuseWhatCouldBeMoreThanAName) {
    for (const char* good : {"db1", "a.b-c_d", "0x"}) EXPECT_TRUE(valid_machine_name(good));
    for (const char* bad : {"", ".", "..", "-x", "a/b", "a b", "a;b", "a'b", "ä", "a\n"}) {
        EXPECT_FALSE(valid_machine_name(bad)) << bad;
    }
    EXPECT_FALSE(valid_machine_name(std::string(64, 'a')));
    for (const char* good : {"/mnt/retention", "/a b", "/"}) EXPECT_TRUE(valid_path(good)) << good;
    for (const char* bad : {"", "a", "/a/../b", "/..", "/.", "/a\nb", "/a/."}) {
        EXPECT_FALSE(valid_path(bad)) << bad;
    }
    EXPECT_TRUE(valid_stable_id("naa.5000c29000000001"));
    EXPECT_FALSE(valid_stable_id("a b"));
    EXPECT_FALSE(valid_stable_id("../x"));
    EXPECT_TRUE(valid_uuid("01234567-89ab-cdef-0123-456789abcdef"));
    EXPECT_FALSE(valid_uuid("01234567-89AB-cdef-0123-456789abcdef"));
    EXPECT_FALSE(valid_uuid("0123456789abcdef0123456789abcdef0123"));
}

}  // namespace ebb::api
