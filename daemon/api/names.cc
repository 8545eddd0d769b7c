// SPDX-License-Identifier: Apache-2.0
#include "api/names.h"

#include "base/uuid_text.h"

#include <algorithm>

namespace ebb::api {
namespace {

// Of ASCII alone: <cctype> depends on the locale.
bool is_alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool valid_name(std::string_view name, std::size_t limit) {
    return !name.empty() && name.size() <= limit && is_alnum(name.front()) &&
           std::all_of(name.begin(), name.end(),
                       [](char c) { return is_alnum(c) || c == '.' || c == '_' || c == '-'; });
}

}  // namespace

bool valid_machine_name(std::string_view name) {
    return valid_name(name, 63);
}
bool valid_site_name(std::string_view name) {
    return valid_name(name, 63);
}
bool valid_point_name(std::string_view name) {
    return valid_name(name, 127);
}

bool valid_stable_id(std::string_view id) {
    constexpr std::string_view refused = "\"'`\\/";
    return !id.empty() && id.size() <= 127 && std::all_of(id.begin(), id.end(), [&](char c) {
        return c > ' ' && c < 0x7f && refused.find(c) == std::string_view::npos;
    });
}

bool valid_path(std::string_view path) {
    if (path.empty() || path.size() > 1023 || path.front() != '/') return false;
    for (const char c : path) {
        if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) return false;
    }
    for (std::size_t begin = 1; begin <= path.size();) {
        const auto end = std::min(path.find('/', begin), path.size());
        const auto part = path.substr(begin, end - begin);
        if (part == "." || part == "..") return false;
        begin = end + 1;
    }
    return true;
}

bool valid_uuid(std::string_view id) {
    return parse_uuid(id).has_value();
}

}  // namespace ebb::api
