// SPDX-License-Identifier: Apache-2.0
// What an operator writes: the daemon's configuration, the machines of the QEMU provider, UUIDs.
#include <cstdlib>
#include <string_view>

#include "base/uuid_text.h"
#include "provider/qemu.h"
#include "service/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto config = ebb::service::parse_config(text, "ebbd.json");
    if (config && config->serve.qemu.is_object())
        static_cast<void>(ebb::provider::QemuProvider::parse(config->serve.qemu));
    if (const auto json = ebb::api::parse(text); json && json->is_object())
        static_cast<void>(ebb::provider::QemuProvider::parse(*json));
    const auto uuid = ebb::parse_uuid(text);
    if (uuid && ebb::to_text(*uuid) != text) std::abort();
    return 0;
}
