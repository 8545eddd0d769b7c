// SPDX-License-Identifier: Apache-2.0
#include "platform/netlink.h"

#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/uuid_text.h"
#include "platform/file_store.h"
#include "platform/map_config.h"

#ifndef NETLINK_EXT_ACK
#define NETLINK_EXT_ACK 11
#endif

namespace ebb::platform {

namespace {

constexpr std::size_t message_bytes = 1 << 16;
constexpr int socket_bytes = 1 << 20;

ErrorCode to_code(int error) {
    switch (error) {
        case ESTALE: return ErrorCode::stale;
        case EBUSY:
        case EAGAIN: return ErrorCode::busy;
        case EEXIST: return ErrorCode::exists;
        case ENOSPC: return ErrorCode::no_space;
        case ENOENT:
        case ENODEV: return ErrorCode::not_found;
        case ENOMEM: return ErrorCode::no_memory;
        case EPERM:
        case EACCES: return ErrorCode::denied;
        case ERANGE:
        case EINVAL: return ErrorCode::invalid;
        case EOPNOTSUPP: return ErrorCode::unsupported;
        default: return ErrorCode::io;
    }
}

struct Exchange {
    std::vector<NetlinkReply> replies;
    std::string words;
    int error = 0;
    bool finished = false;
};

std::span<const std::byte> bytes_at(const void* data, std::size_t size) {
    return {static_cast<const std::byte*>(data), size};
}

int on_valid(nl_msg* message, void* argument) {
    auto* generic = static_cast<genlmsghdr*>(nlmsg_data(nlmsg_hdr(message)));
    const auto attributes = bytes_at(genlmsg_attrdata(generic, 0),
                                     static_cast<std::size_t>(genlmsg_attrlen(generic, 0)));
    static_cast<Exchange*>(argument)->replies.push_back(decode_reply(attributes));
    return NL_OK;
}

// The acknowledgement with its extended message, which libnl does not hand out itself.
int on_error(sockaddr_nl* /*from*/, nlmsgerr* error, void* argument) {
    auto* exchange = static_cast<Exchange*>(argument);
    exchange->error = -error->error;
    exchange->finished = true;
    const auto* header =
        reinterpret_cast<const nlmsghdr*>(reinterpret_cast<const char*>(error) - NLMSG_HDRLEN);
    exchange->words = error_words(bytes_at(header, header->nlmsg_len));
    return NL_STOP;
}

int on_ack(nl_msg* /*message*/, void* argument) {
    static_cast<Exchange*>(argument)->finished = true;
    return NL_STOP;
}

bool put_log(nl_msg* message, const MapArea& area) {
    const auto boot = boot_id();
    nlattr* nest = nla_nest_start(message, EBB_A_LOG);
    if (!boot || nest == nullptr) return false;
    bool ok = nla_put_u64(message, EBB_LOG_A_DEV, area.device) == 0;
    ok &= nla_put_u64(message, EBB_LOG_A_SECTOR, area.offset / sector_bytes) == 0;
    ok &= nla_put_u64(message, EBB_LOG_A_SECTORS, area.length / sector_bytes) == 0;
    ok &= nla_put_u32(message, EBB_LOG_A_FLAGS, area.create ? EBB_LOG_F_CREATE : 0) == 0;
    ok &= nla_put(message, EBB_LOG_A_BOOT_ID, static_cast<int>(boot->bytes.size()),
                  boot->bytes.data()) == 0;
    nla_nest_end(message, nest);
    return ok;
}

bool put(nl_msg* message, const NetlinkRequest& request) {
    bool ok = true;
    for (const auto& [type, value] : request.u32) ok &= nla_put_u32(message, type, value) == 0;
    for (const auto& [type, value] : request.u64) ok &= nla_put_u64(message, type, value) == 0;
    if (!request.stable_id.empty())
        ok &= nla_put_string(message, EBB_A_STABLE_ID, request.stable_id.c_str()) == 0;
    if (!request.extents.empty()) {
        ok &= nla_put(message, EBB_A_EXTENTS,
                      static_cast<int>(request.extents.size() * sizeof(ebb_extent)),
                      request.extents.data()) == 0;
    }
    if (request.log) ok &= put_log(message, *request.log);
    if (!request.cookie.empty()) {
        ok &= nla_put(message, EBB_A_COOKIE, static_cast<int>(request.cookie.size()),
                      request.cookie.data()) == 0;
    }
    if (!request.note.empty()) {
        ok &= nla_put(message, EBB_A_NOTE, static_cast<int>(request.note.size()),
                      request.note.data()) == 0;
    }
    return ok;
}

using Callbacks = std::unique_ptr<nl_cb, decltype(&nl_cb_put)>;

}  // namespace

Result<Uuid> boot_id() {
    auto text = read_file("/proc/sys/kernel/random/boot_id");
    if (!text) return std::unexpected(text.error());
    const auto uuid = parse_uuid(std::string_view(*text).substr(0, text->find('\n')));
    if (!uuid) return fail(ErrorCode::internal, "the kernel gave no boot id");
    return *uuid;
}

void NetlinkClient::Free::operator()(nl_sock* socket) const {
    nl_socket_free(socket);
}

Result<NetlinkClient> NetlinkClient::open() {
    NetlinkClient client;
    client.socket_.reset(nl_socket_alloc());
    if (!client.socket_) return fail(ErrorCode::no_memory, "no memory for a netlink socket");
    if (const int rc = genl_connect(client.socket_.get()); rc < 0)
        return fail(ErrorCode::io, std::string("netlink: ") + nl_geterror(rc));
    client.family_ = genl_ctrl_resolve(client.socket_.get(), EBB_GENL_NAME);
    if (client.family_ < 0) {
        return fail("E_MODULE_NOT_LOADED", ErrorCode::not_found, "the module ebb is not loaded",
                    "Run modprobe ebb");
    }
    const int on = 1;
    ::setsockopt(client.fd(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
    nl_socket_set_buffer_size(client.socket_.get(), socket_bytes, socket_bytes);
    nl_socket_disable_auto_ack(client.socket_.get());
    return client;
}

int NetlinkClient::fd() const {
    return nl_socket_get_fd(socket_.get());
}

Result<std::vector<NetlinkReply>> NetlinkClient::call(const NetlinkRequest& request) {
    const std::unique_ptr<nl_msg, decltype(&nlmsg_free)> message(nlmsg_alloc_size(message_bytes),
                                                                 nlmsg_free);
    if (!message) return fail(ErrorCode::no_memory, "no memory for a netlink message");
    const int flags = NLM_F_REQUEST | NLM_F_ACK | (request.dump ? NLM_F_DUMP : 0);
    genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family_, 0, flags, request.command,
                EBB_GENL_VERSION);
    if (!put(message.get(), request)) return fail(ErrorCode::internal, "netlink message too long");
    if (const int rc = nl_send_auto(socket_.get(), message.get()); rc < 0)
        return fail(ErrorCode::io, std::string("netlink: ") + nl_geterror(rc));

    Exchange exchange;
    const Callbacks callbacks(nl_cb_alloc(NL_CB_DEFAULT), nl_cb_put);
    nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_valid, &exchange);
    nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_ack, &exchange);
    nl_cb_set(callbacks.get(), NL_CB_FINISH, NL_CB_CUSTOM, on_ack, &exchange);
    nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &exchange);
    int rc = 0;
    while (!exchange.finished && rc >= 0) rc = nl_recvmsgs(socket_.get(), callbacks.get());
    if (exchange.error != 0) {
        return fail(to_code(exchange.error),
                    "the module ebb: " + (exchange.words.empty()
                                              ? std::string(std::strerror(exchange.error))
                                              : exchange.words));
    }
    if (!exchange.finished) return fail(ErrorCode::io, std::string("netlink: ") + nl_geterror(rc));
    return std::move(exchange.replies);
}

Result<NetlinkReply> NetlinkClient::call_one(const NetlinkRequest& request) {
    auto replies = call(request);
    if (!replies) return std::unexpected(replies.error());
    if (replies->empty()) return fail(ErrorCode::protocol, "the module ebb gave no answer");
    return std::move(replies->front());
}

Status NetlinkClient::subscribe() {
    const int group = genl_ctrl_resolve_grp(socket_.get(), EBB_GENL_NAME, EBB_GENL_EVENTS);
    if (group < 0) return fail(ErrorCode::not_found, "the module ebb has no events");
    nl_socket_disable_seq_check(socket_.get());
    if (nl_socket_add_membership(socket_.get(), group) < 0)
        return fail(ErrorCode::io, "cannot listen to the module's events");
    nl_socket_set_nonblocking(socket_.get());
    return {};
}

void NetlinkClient::drain_events() {
    char waste[8192];
    while (::recv(fd(), waste, sizeof(waste), MSG_DONTWAIT) > 0) {
    }
}

}  // namespace ebb::platform
