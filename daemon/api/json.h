// SPDX-License-Identifier: Apache-2.0
// Documents of the HTTP/JSON interfaces: parsed and decoded under limits, so that whatever arrives
// gives a value or an Error (E_INVALID, naming the place) and never an exception.
//
// A struct takes part by a free function `describe(visit, value)` that names its fields once:
//
//     template <class V>
//     void describe(V& visit, Point& p) {
//         visit("epoch", p.epoch);            // must be there
//         visit.optional("name", p.name);     // may be missing or null: keeps its default
//     }
//
// and an enumeration by a specialisation of EnumNames. All functions are pure and reentrant.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace ebb::api {

// Keys in alphabetical order: equal values give equal texts.
using Json = nlohmann::json;

inline constexpr std::size_t max_depth = 32;
inline constexpr std::size_t max_string = 64 * 1024;
inline constexpr std::size_t max_items = 16 * 1024;

// E_INVALID for what is not JSON, not UTF-8 or nested deeper than max_depth.
[[nodiscard]] Result<Json> parse(std::string_view text);
// Never fails: bytes that are not UTF-8 are replaced.
[[nodiscard]] std::string dump(const Json& value);
// The text of that key; empty where there is none.
[[nodiscard]] std::string text(const Json& object, const char* key);

template <class E>
struct EnumNames;  // static constexpr std::pair<E, std::string_view> names[]

template <class E>
concept NamedEnum = requires { EnumNames<E>::names[0].second; };

template <NamedEnum E>
[[nodiscard]] std::string_view enum_name(E value) {
    for (const auto& [v, name] : EnumNames<E>::names) {
        if (v == value) return name;
    }
    return "unknown";
}

template <NamedEnum E>
[[nodiscard]] std::optional<E> enum_value(std::string_view text) {
    for (const auto& [v, name] : EnumNames<E>::names) {
        if (name == text) return v;
    }
    return std::nullopt;
}

enum class Unknown { ignored, refused };

class Encoder;
class Decoder;

template <class T>
[[nodiscard]] Json encode(const T& value);
// `refused` also rejects fields that nobody asked for: requests typed by hand.
template <class T>
[[nodiscard]] Result<T> decode(const Json& json, Unknown unknown = Unknown::ignored);
template <class T>
[[nodiscard]] Result<T> decode_text(std::string_view text, Unknown unknown = Unknown::ignored) {
    auto json = parse(text);
    if (!json) return std::unexpected(json.error());
    return decode<T>(*json, unknown);
}

class Encoder {
public:
    template <class T>
    void operator()(const char* key, const T& value) {
        out_[key] = to_json(value);
    }
    template <class T>
    void optional(const char* key, const T& value) {
        (*this)(key, value);
    }
    [[nodiscard]] Json take() { return std::move(out_); }

    template <class T>
    static Json to_json(const T& value) {
        if constexpr (NamedEnum<T>) {
            return Json(std::string(enum_name(value)));
        } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string> ||
                             std::is_same_v<T, Json>) {
            return Json(value);
        } else {
            Encoder nested;
            // describe() is one function for both directions; the encoder only reads.
            describe(nested, const_cast<T&>(value));
            return nested.take();
        }
    }
    template <class T>
    static Json to_json(const std::vector<T>& values) {
        Json out = Json::array();
        for (const auto& value : values) out.push_back(to_json(value));
        return out;
    }
    template <class T>
    static Json to_json(const std::optional<T>& value) {
        return value ? to_json(*value) : Json(nullptr);
    }

private:
    Json out_ = Json::object();
};

class Decoder {
public:
    Decoder(const Json& object, std::string where, std::optional<Error>& error, Unknown unknown);

    template <class T>
    void operator()(const char* key, T& value) {
        if (const Json* found = find(key, true)) read(*found, place(key), value);
    }
    template <class T>
    void optional(const char* key, T& value) {
        const Json* found = find(key, false);
        if (found != nullptr && !found->is_null()) read(*found, place(key), value);
    }
    // Complains about fields that were not asked for, where they are refused.
    void finish();

private:
    [[nodiscard]] const Json* find(const char* key, bool required);
    [[nodiscard]] std::string place(const char* key) const;
    void complain(const std::string& where, const std::string& what);

    void read(const Json& json, const std::string& where, bool& value);
    void read(const Json& json, const std::string& where, std::uint64_t& value);
    void read(const Json& json, const std::string& where, std::int64_t& value);
    void read(const Json& json, const std::string& where, std::uint32_t& value);
    void read(const Json& json, const std::string& where, std::uint16_t& value);
    void read(const Json& json, const std::string& where, double& value);
    void read(const Json& json, const std::string& where, std::string& value);
    void read(const Json& json, const std::string& where, Json& value);

    template <NamedEnum E>
    void read(const Json& json, const std::string& where, E& value) {
        std::string text;
        read(json, where, text);
        if (error_) return;
        if (auto found = enum_value<E>(text)) {
            value = *found;
        } else {
            complain(where, "unknown value \"" + text.substr(0, 64) + "\"");
        }
    }
    template <class T>
    void read(const Json& json, const std::string& where, std::vector<T>& values) {
        if (!json.is_array()) return complain(where, "should be an array");
        if (json.size() > max_items) return complain(where, "has too many items");
        values.clear();
        values.reserve(json.size());
        for (std::size_t i = 0; i < json.size() && !error_; ++i) {
            T value{};
            read(json[i], where + "[" + std::to_string(i) + "]", value);
            values.push_back(std::move(value));
        }
    }
    template <class T>
    void read(const Json& json, const std::string& where, std::optional<T>& value) {
        if (json.is_null()) return value.reset();
        value.emplace();
        read(json, where, *value);
    }
    template <class T>
        requires(std::is_class_v<T>)
    void read(const Json& json, const std::string& where, T& value) {
        if (!json.is_object()) return complain(where, "should be an object");
        Decoder nested(json, where, error_, unknown_);
        describe(nested, value);
        nested.finish();
    }

    const Json& object_;
    std::string where_;
    std::optional<Error>& error_;  // of the whole document: the first one stands
    Unknown unknown_;
    std::vector<std::string> known_;
};

template <class T>
Json encode(const T& value) {
    return Encoder::to_json(value);
}

template <class T>
Result<T> decode(const Json& json, Unknown unknown) {
    if (!json.is_object()) return fail(ErrorCode::invalid, "the document should be an object");
    std::optional<Error> error;
    T value{};
    Decoder decoder(json, "", error, unknown);
    describe(decoder, value);
    decoder.finish();
    if (error) return std::unexpected(std::move(*error));
    return value;
}

}  // namespace ebb::api
