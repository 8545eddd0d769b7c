// SPDX-License-Identifier: Apache-2.0
// Every document of the control protocol, and what decodes encodes to the same document again.
#include <cstdlib>
#include <string_view>

#include "api/agent.h"
#include "api/command.h"
#include "api/error.h"
#include "api/names.h"

using namespace ebb::api;

namespace {

template <class T>
concept Checked = requires(const T& value) { check(value); };

template <class T>
void again(const Json& json) {
    for (const auto unknown : {Unknown::ignored, Unknown::refused}) {
        const auto value = decode<T>(json, unknown);
        if (!value) continue;
        if constexpr (Checked<T>) static_cast<void>(check(*value).has_value());
        const Json once = encode(*value);
        const auto second = decode_text<T>(dump(once), Unknown::refused);
        if (!second || encode(*second) != once) std::abort();
    }
}

template <class... T>
void all(const Json& json) {
    (again<T>(json), ...);
}

void names(std::string_view text) {
    static_cast<void>(valid_machine_name(text) || valid_point_name(text) || valid_stable_id(text) ||
                      valid_path(text) || valid_uuid(text) || valid_code(text));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    names(text);
    for (const unsigned status : {200U, 409U}) static_cast<void>(take_answer(status, text));
    const auto json = parse(text);
    if (!json) return 0;
    all<ExchangeRequest, ExchangeAnswer, JoinRequest, JoinAnswer, ErrorInfo>(*json);
    all<SourceProtectArgs, CheckpointArgs, CheckpointValue, IntervalArgs, ProtectionArgs, FenceArgs,
        TargetPrepareArgs, TargetFailoverArgs, FailoverValue, PointsValue, NameArgs, NameValue,
        CommonArgs, DiskIdsArgs>(*json);
    return 0;
}
