// SPDX-License-Identifier: Apache-2.0
// Little-endian fields, one after the other, without padding. A Reader never reads beyond its end:
// it gives zeroes and remembers that it failed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"

namespace ebb::format {

class Writer {
public:
    explicit Writer(std::vector<std::byte>& out) : out_(out) {}

    void u8(std::uint8_t value) { out_.push_back(std::byte{value}); }
    void u16(std::uint16_t value) { number(value); }
    void u32(std::uint32_t value) { number(value); }
    void u64(std::uint64_t value) { number(value); }
    void i64(std::int64_t value) { number(static_cast<std::uint64_t>(value)); }
    void bytes(std::span<const std::byte> data) {
        out_.insert(out_.end(), data.begin(), data.end());
    }
    // Length as u16, then the bytes. Longer text is cut.
    void text(std::string_view value) {
        if (value.size() > 0xffff) value = value.substr(0, 0xffff);
        u16(static_cast<std::uint16_t>(value.size()));
        bytes(std::as_bytes(std::span(value.data(), value.size())));
    }
    void uuid(const Uuid& value) { bytes(value.bytes); }

private:
    template <class T>
    void number(T value) {
        for (std::size_t i = 0; i < sizeof(T); ++i) {
            out_.push_back(static_cast<std::byte>(value >> (8 * i)));
        }
    }
    std::vector<std::byte>& out_;
};

class Reader {
public:
    explicit Reader(std::span<const std::byte> in) : in_(in) {}

    std::uint8_t u8() { return number<std::uint8_t>(); }
    std::uint16_t u16() { return number<std::uint16_t>(); }
    std::uint32_t u32() { return number<std::uint32_t>(); }
    std::uint64_t u64() { return number<std::uint64_t>(); }
    std::int64_t i64() { return static_cast<std::int64_t>(number<std::uint64_t>()); }
    std::span<const std::byte> bytes(std::size_t size) {
        if (size > in_.size()) {
            failed_ = true;
            in_ = {};
            return {};
        }
        const auto taken = in_.first(size);
        in_ = in_.subspan(size);
        return taken;
    }
    template <std::size_t size>
    void array(std::array<std::byte, size>& into) {
        const auto taken = bytes(size);
        if (!taken.empty()) std::memcpy(into.data(), taken.data(), size);
    }
    std::string text() {
        const auto taken = bytes(u16());
        return {reinterpret_cast<const char*>(taken.data()), taken.size()};
    }
    Uuid uuid() {
        Uuid value;
        array(value.bytes);
        return value;
    }
    [[nodiscard]] std::size_t left() const { return in_.size(); }
    [[nodiscard]] std::span<const std::byte> rest() const { return in_; }
    [[nodiscard]] bool failed() const { return failed_; }
    // All was there, and nothing is left.
    [[nodiscard]] bool done() const { return !failed_ && in_.empty(); }

private:
    template <class T>
    T number() {
        const auto taken = bytes(sizeof(T));
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < taken.size(); ++i) {
            value |= std::to_integer<std::uint64_t>(taken[i]) << (8 * i);
        }
        return static_cast<T>(value);
    }
    std::span<const std::byte> in_;
    bool failed_ = false;
};

}  // namespace ebb::format
