// SPDX-License-Identifier: Apache-2.0
#include "api/json.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ebb::api {

Result<Json> parse(std::string_view text) {
    bool too_deep = false;
    const Json::parser_callback_t watch = [&](int depth, Json::parse_event_t, Json&) {
        if (depth > static_cast<int>(max_depth)) too_deep = true;
        return !too_deep;
    };
    Json value = Json::parse(text.begin(), text.end(), watch, false);
    if (too_deep) return fail(ErrorCode::invalid, "the document is nested too deeply");
    if (value.is_discarded()) return fail(ErrorCode::invalid, "the document is not valid JSON");
    return value;
}

std::string dump(const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Decoder::Decoder(const Json& object, std::string where, std::optional<Error>& error,
                 Unknown unknown)
    : object_(object), where_(std::move(where)), error_(error), unknown_(unknown) {}

const Json* Decoder::find(const char* key, bool required) {
    if (error_) return nullptr;
    if (unknown_ == Unknown::refused) known_.emplace_back(key);
    const auto found = object_.find(key);
    if (found != object_.end()) return &*found;
    if (required) complain(place(key), "is missing");
    return nullptr;
}

void Decoder::finish() {
    if (error_ || unknown_ == Unknown::ignored) return;
    for (const auto& item : object_.items()) {
        if (std::find(known_.begin(), known_.end(), item.key()) == known_.end()) {
            return complain(place(item.key().substr(0, 64).c_str()), "is not known");
        }
    }
}

std::string Decoder::place(const char* key) const {
    return where_.empty() ? std::string(key) : where_ + "." + key;
}

void Decoder::complain(const std::string& where, const std::string& what) {
    if (!error_) error_ = Error{ErrorCode::invalid, where + ": " + what, {}, {}};
}

void Decoder::read(const Json& json, const std::string& where, bool& value) {
    if (!json.is_boolean()) return complain(where, "should be true or false");
    value = json.get<bool>();
}

void Decoder::read(const Json& json, const std::string& where, std::uint64_t& value) {
    if (json.is_number_unsigned()) {
        value = json.get<std::uint64_t>();
    } else {
        complain(where, "should be a whole number, zero or above");
    }
}

void Decoder::read(const Json& json, const std::string& where, std::int64_t& value) {
    const bool too_large = json.is_number_unsigned() &&
                           json.get<std::uint64_t>() >
                               static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!json.is_number_integer() || too_large) return complain(where, "should be a whole number");
    value = json.get<std::int64_t>();
}

void Decoder::read(const Json& json, const std::string& where, std::uint32_t& value) {
    std::uint64_t wide = 0;
    read(json, where, wide);
    if (wide > std::numeric_limits<std::uint32_t>::max()) return complain(where, "is too large");
    value = static_cast<std::uint32_t>(wide);
}

void Decoder::read(const Json& json, const std::string& where, std::uint16_t& value) {
    std::uint64_t wide = 0;
    read(json, where, wide);
    if (wide > std::numeric_limits<std::uint16_t>::max()) return complain(where, "is too large");
    value = static_cast<std::uint16_t>(wide);
}

void Decoder::read(const Json& json, const std::string& where, double& value) {
    if (!json.is_number()) return complain(where, "should be a number");
    const double number = json.get<double>();
    if (!std::isfinite(number)) return complain(where, "should be a finite number");
    value = number;
}

void Decoder::read(const Json& json, const std::string& where, std::string& value) {
    if (!json.is_string()) return complain(where, "should be a string");
    const auto& text = json.get_ref<const std::string&>();
    if (text.size() > max_string) return complain(where, "is too long");
    if (text.find('\0') != std::string::npos) return complain(where, "contains a zero byte");
    value = text;
}

void Decoder::read(const Json& json, const std::string& where, Json& value) {
    static_cast<void>(where);
    value = json;
}

std::string text(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

}  // namespace ebb::api
