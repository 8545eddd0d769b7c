// SPDX-License-Identifier: Apache-2.0
// The form in which an error travels: {"code": "E_...", "message", "remedy"}.
#pragma once

#include <string>
#include <string_view>

#include "api/json.h"
#include "base/error.h"

namespace ebb::api {

struct ErrorInfo {
    std::string code;  // stable, begins with E_
    std::string message;
    std::string remedy;  // empty: nothing the reader can do

    friend bool operator==(const ErrorInfo&, const ErrorInfo&) = default;
};

template <class V>
void describe(V& visit, ErrorInfo& e) {
    visit("code", e.code);
    visit("message", e.message);
    visit.optional("remedy", e.remedy);
}

[[nodiscard]] ErrorInfo to_info(const Error& error);
// A code that ErrorCode does not know becomes detail_code under ErrorCode::refused.
[[nodiscard]] Error from_info(const ErrorInfo& info);
// What an HTTP answer of the controller says: its document, or the error that it carries.
[[nodiscard]] Result<Json> take_answer(unsigned status, std::string_view body);
// E_ followed by capitals, digits and underscores, at most 64 characters.
[[nodiscard]] bool valid_code(std::string_view code);

}  // namespace ebb::api
