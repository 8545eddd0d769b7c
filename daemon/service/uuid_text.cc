// SPDX-License-Identifier: Apache-2.0
#include "service/uuid_text.h"

#include <charconv>

#include "api/names.h"

namespace ebb::service {

std::string to_text(const Uuid& uuid) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (std::size_t i = 0; i < uuid.bytes.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        const auto byte = std::to_integer<unsigned>(uuid.bytes[i]);
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

std::optional<Uuid> parse_uuid(std::string_view text) {
    if (!api::valid_uuid(text)) return std::nullopt;
    Uuid uuid;
    std::size_t at = 0;
    for (auto& byte : uuid.bytes) {
        if (text[at] == '-') ++at;
        unsigned value = 0;
        std::from_chars(text.data() + at, text.data() + at + 2, value, 16);
        byte = static_cast<std::byte>(value);
        at += 2;
    }
    return uuid;
}

}  // namespace ebb::service
