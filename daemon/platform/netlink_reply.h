// SPDX-License-Identifier: Apache-2.0
// What the module says over generic netlink, decoded. Pure: bytes in, values out.
#pragma once

#include <linux/ebb.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace ebb::platform {

// Attributes by number; integers of any width as numbers, the rest as bytes.
struct NetlinkNest {
    std::map<int, std::uint64_t> numbers;
    std::map<int, std::string> texts;

    [[nodiscard]] std::uint64_t number(int attribute) const {
        const auto found = numbers.find(attribute);
        return found == numbers.end() ? 0 : found->second;
    }
    [[nodiscard]] std::string text(int attribute) const {
        const auto found = texts.find(attribute);
        return found == texts.end() ? std::string{} : found->second;
    }
};

struct NetlinkReply {
    NetlinkNest top;
    NetlinkNest disk;
    NetlinkNest pass;
    std::vector<ebb_extent> extents;
};

// `attributes` is what follows the generic header. What is malformed ends the decoding there.
[[nodiscard]] NetlinkReply decode_reply(std::span<const std::byte> attributes);
// The sentence of an extended acknowledgement, `message` being a whole NLMSG_ERROR; empty: none.
[[nodiscard]] std::string error_words(std::span<const std::byte> message);

// Names of bits 1 << enum ebb_resync_reason.
[[nodiscard]] std::vector<std::string> resync_reasons(std::uint64_t bits);

}  // namespace ebb::platform
