// SPDX-License-Identifier: Apache-2.0
#include "platform/netlink_reply.h"

#include <linux/netlink.h>
#include <netlink/attr.h>

#include <algorithm>
#include <cstring>
#include <iterator>

namespace ebb::platform {

namespace {

void decode_nest(const nlattr* first, int length, NetlinkNest& nest, NetlinkReply* top) {
    int left = length;
    for (const nlattr* at = first; nla_ok(at, left) != 0; at = nla_next(at, &left)) {
        const int type = nla_type(at);
        const auto size = static_cast<std::size_t>(nla_len(at));
        const auto* data = static_cast<const char*>(nla_data(at));
        if (top != nullptr && (type == EBB_A_DISK || type == EBB_A_PASS)) {
            decode_nest(static_cast<const nlattr*>(nla_data(at)), nla_len(at),
                        type == EBB_A_DISK ? top->disk : top->pass, nullptr);
        } else if (top != nullptr && type == EBB_A_EXTENTS) {
            top->extents.resize(size / sizeof(ebb_extent));
            if (!top->extents.empty())
                std::memcpy(top->extents.data(), data, top->extents.size() * sizeof(ebb_extent));
        } else {
            nest.texts[type] = std::string(data, size);
            if (size > sizeof(std::uint64_t)) continue;
            std::uint64_t value = 0;
            if (size == 4) {
                std::uint32_t narrow = 0;
                std::memcpy(&narrow, data, size);
                value = narrow;
            } else {
                std::memcpy(&value, data, size);
            }
            nest.numbers[type] = value;
        }
    }
}

constexpr const char* reason_names[] = {
    "new",  "untracked-write", "passthrough", "zoned",     "integrity",  "encrypted", "resized",
    "gone", "map-lost",        "map-foreign", "map-stale", "map-failed", "detached",  "hibernated"};
static_assert(std::size(reason_names) == __EBB_RESYNC_MAX);

}  // namespace

std::vector<std::string> resync_reasons(std::uint64_t bits) {
    std::vector<std::string> reasons;
    for (std::size_t i = 0; i < 32; ++i) {
        if ((bits >> i & 1) == 0) continue;
        reasons.emplace_back(i < std::size(reason_names) ? reason_names[i] : "unknown");
    }
    return reasons;
}

NetlinkReply decode_reply(std::span<const std::byte> attributes) {
    NetlinkReply reply;
    decode_nest(reinterpret_cast<const nlattr*>(attributes.data()),
                static_cast<int>(attributes.size()), reply.top, &reply);
    return reply;
}

std::string error_words(std::span<const std::byte> message) {
    nlmsghdr header{};
    nlmsgerr error{};
    if (message.size() < NLMSG_HDRLEN + sizeof(error)) return {};
    std::memcpy(&header, message.data(), sizeof(header));
    std::memcpy(&error, message.data() + NLMSG_HDRLEN, sizeof(error));
    if ((header.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
    std::size_t skip = NLMSG_HDRLEN + sizeof(error);
    // The request itself is repeated, unless it was cut to its header.
    if ((header.nlmsg_flags & NLM_F_CAPPED) == 0 && error.msg.nlmsg_len > sizeof(header))
        skip += error.msg.nlmsg_len - sizeof(header);
    skip = NLMSG_ALIGN(skip);
    if (skip >= message.size()) return {};
    int left = static_cast<int>(message.size() - skip);
    const auto* at = reinterpret_cast<const nlattr*>(message.data() + skip);
    for (; nla_ok(at, left) != 0; at = nla_next(at, &left)) {
        if (nla_type(at) != NLMSGERR_ATTR_MSG) continue;
        const auto* words = static_cast<const char*>(nla_data(at));
        return {words, strnlen(words, static_cast<std::size_t>(nla_len(at)))};
    }
    return {};
}

}  // namespace ebb::platform
