// SPDX-License-Identifier: Apache-2.0
#include "api/error.h"

#include <algorithm>

namespace ebb::api {

ErrorInfo to_info(const Error& error) {
    return {std::string(error.name()), error.message, error.remedy};
}

Error from_info(const ErrorInfo& info) {
    for (int i = 0; i <= static_cast<int>(ErrorCode::unsupported); ++i) {
        const auto code = static_cast<ErrorCode>(i);
        if (code_name(code) == info.code) return {code, info.message, info.remedy, {}};
    }
    if (!valid_code(info.code)) {
        return {ErrorCode::protocol,
                "a peer reported an error without a valid code: " + info.message,
                info.remedy,
                {}};
    }
    return {ErrorCode::refused, info.message, info.remedy, info.code};
}

Result<Json> take_answer(unsigned status, std::string_view body) {
    auto json = parse(body);
    if (!json || status == 200) return json;
    const Json* error = nullptr;
    if (json->is_object() && json->contains("error")) error = &(*json)["error"];
    if (error == nullptr)
        return fail(ErrorCode::protocol, "status " + std::to_string(status) + " without an error");
    const auto info = decode<ErrorInfo>(*error);
    if (!info) return std::unexpected(info.error());
    return std::unexpected(from_info(*info));
}

bool valid_code(std::string_view code) {
    return code.starts_with("E_") && code.size() > 2 && code.size() <= 64 &&
           std::all_of(code.begin(), code.end(), [](char c) {
               return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
           });
}

}  // namespace ebb::api
