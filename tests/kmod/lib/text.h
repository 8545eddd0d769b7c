// SPDX-License-Identifier: Apache-2.0
// Strings by printf's rules: GCC 12 has no <format>.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <string>

namespace ebb::kmodtest {

[[nodiscard]] [[gnu::format(printf, 1, 2)]] inline std::string text(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char buffer[512];
    int length = std::vsnprintf(buffer, sizeof(buffer), format, arguments);
    va_end(arguments);
    if (length < 0) return {};
    if (static_cast<std::size_t>(length) < sizeof(buffer)) return buffer;
    std::string out(static_cast<std::size_t>(length), '\0');
    va_start(arguments, format);
    std::vsnprintf(out.data(), out.size() + 1, format, arguments);
    va_end(arguments);
    return out;
}

}  // namespace ebb::kmodtest
