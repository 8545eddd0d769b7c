// SPDX-License-Identifier: Apache-2.0
#include "base/uuid_text.h"

#include <cstddef>

namespace ebb {

namespace {

constexpr std::size_t uuid_characters = 36;

bool dash_at(std::size_t place) {
    return place == 8 || place == 13 || place == 18 || place == 23;
}

int digit_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

}  // namespace

std::optional<Uuid> parse_uuid(std::string_view text) {
    if (text.size() != uuid_characters) return std::nullopt;
    Uuid uuid;
    std::size_t digits = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (dash_at(i)) {
            if (text[i] != '-') return std::nullopt;
            continue;
        }
        const int digit = digit_of(text[i]);
        if (digit < 0) return std::nullopt;
        auto& byte = uuid.bytes[digits / 2];
        byte = byte << 4 | static_cast<std::byte>(digit);
        ++digits;
    }
    return uuid;
}

std::string to_text(const Uuid& uuid) {
    static constexpr const char* digits = "0123456789abcdef";
    std::string text;
    for (const std::byte byte : uuid.bytes) {
        if (dash_at(text.size())) text += '-';
        text += digits[std::to_integer<unsigned>(byte) >> 4];
        text += digits[std::to_integer<unsigned>(byte) & 15];
    }
    return text;
}

}  // namespace ebb
