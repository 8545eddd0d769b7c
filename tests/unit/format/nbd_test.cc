// SPDX-License-Identifier: Apache-2.0
// The NBD server's side, byte by byte. Real clients: tests/unit/platform/nbd_server_test.cc.
#include "format/nbd.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ebb::format {
namespace {

class NbdSessionTest : public testing::Test {
protected:
    template <class... Numbers>
    static Payload bytes(Numbers... numbers) {
        Payload out;
        (put(out, numbers), ...);
        return out;
    }
    template <class T>
    static void put(Payload& out, T value) {
        for (std::size_t i = sizeof(T); i > 0; --i)
            out.push_back(static_cast<std::byte>(value >> (8 * (i - 1))));
    }
    static Payload text(const std::string& words) {
        const auto raw = std::as_bytes(std::span(words));
        return {raw.begin(), raw.end()};
    }
    static Payload option(std::uint32_t number, const Payload& data = {}) {
        Payload out = bytes(option_magic, number, static_cast<std::uint32_t>(data.size()));
        out.insert(out.end(), data.begin(), data.end());
        return out;
    }
    static Payload named(const std::string& name) {
        Payload data = bytes(static_cast<std::uint32_t>(name.size()));
        const Payload words = text(name);
        data.insert(data.end(), words.begin(), words.end());
        put(data, std::uint16_t{0});
        return data;
    }
    static Payload request(std::uint16_t type, std::uint64_t cookie, std::uint64_t offset,
                           std::uint32_t length) {
        return bytes(std::uint32_t{0x25609513}, std::uint16_t{0}, type, cookie, offset, length);
    }
    NbdSession::Step step(const Payload& message) {
        session_.take(message);
        auto next = session_.next();
        EXPECT_TRUE(next.has_value());
        return next ? std::move(*next) : NbdSession::Step{};
    }
    // The type of the first reply to an option.
    static std::uint32_t reply_type(const NbdSession::Step& step) {
        std::uint32_t type = 0;
        for (std::size_t i = 12; i < 16 && i < step.send.size(); ++i)
            type = type << 8 | std::to_integer<std::uint32_t>(step.send[i]);
        return type;
    }
    static std::uint32_t error(const NbdSession::Step& step) {
        std::uint32_t value = 0;
        for (std::size_t i = 4; i < 8 && i < step.send.size(); ++i)
            value = value << 8 | std::to_integer<std::uint32_t>(step.send[i]);
        return value;
    }
    void begin() { step(bytes(std::uint32_t{3})); }
    void choose() {
        begin();
        step(option(7, named("shop/test/0")));
        ASSERT_EQ(session_.chosen(), "shop/test/0");
    }

    static constexpr std::uint64_t option_magic = 0x49484156454f5054;
    static constexpr std::uint64_t size = 1 << 20;
    NbdSession session_{
        [] { return std::vector<NbdExport>{{"shop/test/0", size}, {"shop/test/1", 4096}}; }};
};

TEST_F(NbdSessionTest, AnExportIsChosenAndRead) {
    choose();
    const auto read = step(request(0, 77, 4096, 8192));
    ASSERT_TRUE(read.read.has_value());
    EXPECT_EQ(read.read->cookie, 77U);
    EXPECT_EQ(read.read->offset, 4096U);
    EXPECT_EQ(read.read->length, 8192U);
    EXPECT_FALSE(session_.next().has_value());
    EXPECT_TRUE(step(request(2, 78, 0, 0)).close);
}

TEST_F(NbdSessionTest, HoweverTheBytesArrive) {
    Payload all = bytes(std::uint32_t{3});
    for (const auto& part : {option(7, named("shop/test/0")), request(0, 5, 0, 512)})
        all.insert(all.end(), part.begin(), part.end());
    std::size_t reads = 0;
    for (const std::byte one : all) {
        session_.take({&one, 1});
        while (const auto next = session_.next()) reads += next->read ? 1 : 0;
    }
    EXPECT_EQ(reads, 1U);
    EXPECT_EQ(session_.waiting(), 0U);
}

TEST_F(NbdSessionTest, WhatIsThereIsListed) {
    begin();
    const auto listed = step(option(3));
    EXPECT_EQ(reply_type(listed), 2U);
    EXPECT_FALSE(std::ranges::search(listed.send, text("shop/test/1")).empty());
    EXPECT_EQ(reply_type(step(option(3, text("x")))), 0x80000003U);
}

TEST_F(NbdSessionTest, OptionsThatAreNotKnownAreRefusedAndHarmless) {
    begin();
    for (const std::uint32_t number : {5U, 8U, 9U, 10U, 11U, 99U})
        EXPECT_EQ(reply_type(step(option(number))), 0x80000001U);
    EXPECT_EQ(reply_type(step(option(7, named("no/such/export")))), 0x80000006U);
    EXPECT_EQ(reply_type(step(option(7, bytes(std::uint32_t{100})))), 0x80000003U);
    EXPECT_EQ(reply_type(step(option(7, bytes(std::uint32_t{0xffffffff}, std::uint16_t{0})))),
              0x80000003U);
    EXPECT_EQ(reply_type(step(option(6, named("shop/test/1")))), 3U);
    EXPECT_TRUE(session_.chosen().empty());
    const auto end = step(option(2));
    EXPECT_TRUE(end.close);
    EXPECT_EQ(reply_type(end), 1U);
}

TEST_F(NbdSessionTest, TheOldWayToChoose) {
    begin();
    EXPECT_EQ(step(option(1, text("shop/test/1"))).send.size(), 10U);
    EXPECT_EQ(session_.chosen(), "shop/test/1");
    session_ = NbdSession([] { return std::vector<NbdExport>{{"a", 512}}; });
    step(bytes(std::uint32_t{1}));
    EXPECT_EQ(step(option(1, text("a"))).send.size(), 134U);
    session_ = NbdSession([] { return std::vector<NbdExport>{}; });
    begin();
    EXPECT_TRUE(step(option(1, text("a"))).close);
}

TEST_F(NbdSessionTest, NothingIsEverWritten) {
    choose();
    Payload write = request(1, 9, 0, 3);
    write.resize(write.size() + 3);
    EXPECT_EQ(error(step(write)), 1U);
    // What the client sends of it all the same is no request.
    EXPECT_EQ(error(step(request(1, 10, 0, 4096))), 1U);
    session_.take(Payload(4095));
    EXPECT_FALSE(session_.next().has_value());
    session_.take(Payload(1));
    EXPECT_EQ(error(step(request(4, 11, 0, 512))), 1U);
    EXPECT_EQ(error(step(request(6, 12, 0, 512))), 1U);
    EXPECT_EQ(error(step(request(3, 13, 0, 0))), 0U);
    EXPECT_TRUE(step(request(0, 14, 0, 512)).read.has_value());
    EXPECT_TRUE(step(request(1, 15, 0, 0xffffffff)).close);
}

TEST_F(NbdSessionTest, NothingBeyondTheEnd) {
    choose();
    const auto refused = [&](std::uint64_t offset, std::uint32_t length) {
        const auto one = step(request(0, 1, offset, length));
        return !one.read && error(one) == 22U;
    };
    EXPECT_TRUE(refused(size, 1));
    EXPECT_TRUE(refused(size - 1, 2));
    EXPECT_TRUE(refused(UINT64_MAX, 512));
    EXPECT_TRUE(refused(0, size + 1));
    EXPECT_TRUE(refused(0, nbd_read_max + 1));
    EXPECT_TRUE(step(request(0, 1, size - 1, 1)).read.has_value());
    EXPECT_EQ(error(step(request(0, 1, size, 0))), 0U);
    EXPECT_EQ(error(step(request(7, 1, 0, 512))), 95U);
}

TEST_F(NbdSessionTest, WhoDoesNotSpeakItIsLeft) {
    EXPECT_TRUE(step(bytes(std::uint32_t{0x80000001})).close);
    EXPECT_FALSE(session_.next().has_value());
    session_ = NbdSession([] { return std::vector<NbdExport>{}; });
    begin();
    EXPECT_TRUE(step(text("GET / HTTP/1.1\r\n\r\n")).close);
    session_ = NbdSession([] { return std::vector<NbdExport>{}; });
    begin();
    EXPECT_TRUE(step(bytes(option_magic, std::uint32_t{3}, std::uint32_t{1 << 20})).close);
}

}  // namespace
}  // namespace ebb::format
