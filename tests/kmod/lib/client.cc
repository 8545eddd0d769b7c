// SPDX-License-Identifier: Apache-2.0
#include "lib/client.h"

#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "lib/text.h"

#ifndef NETLINK_EXT_ACK
#define NETLINK_EXT_ACK 11
#endif

namespace ebb::kmodtest {
namespace {

enum class Shape { number, text, bytes, disk, pass, extents, skip };

struct Field {
    const char* name;
    Shape shape = Shape::number;
};

const std::map<int, Field>& top_fields() {
    static const std::map<int, Field> fields = {
        {EBB_A_VERSION_STRING, {"version_string", Shape::text}},
        {EBB_A_FEATURES, {"features"}},
        {EBB_A_INCARNATION, {"incarnation", Shape::bytes}},
        {EBB_A_BLOCK_SECTORS, {"block_sectors"}},
        {EBB_A_POOL_BYTES, {"pool_bytes"}},
        {EBB_A_POOL_USED_BYTES, {"pool_used_bytes"}},
        {EBB_A_HOLD_DEADLINE_MS, {"hold_deadline_ms"}},
        {EBB_A_OWNER_TIMEOUT_MS, {"owner_timeout_ms"}},
        {EBB_A_GROUP, {"group"}},
        {EBB_A_DEV, {"dev"}},
        {EBB_A_DISK_ID, {"disk_id"}},
        {EBB_A_STABLE_ID, {"stable_id", Shape::text}},
        {EBB_A_PASS_ID, {"pass_id"}},
        {EBB_A_PASS_KIND, {"pass_kind"}},
        {EBB_A_SECTOR, {"sector"}},
        {EBB_A_NEXT_SECTOR, {"next_sector"}},
        {EBB_A_EXTENTS, {"extents", Shape::extents}},
        {EBB_A_DISK, {"disk", Shape::disk}},
        {EBB_A_PASS, {"pass", Shape::pass}},
        {EBB_A_EVENT_KIND, {"event_kind"}},
        {EBB_A_GATE_ID, {"gate_id"}},
        {EBB_A_GATE_DEADLINE_MS, {"gate_deadline_ms"}},
        {EBB_A_GATE_HELD, {"gate_held"}},
        {EBB_A_GATE_NS, {"gate_ns"}},
    };
    return fields;
}

const std::map<int, Field>& disk_fields() {
    static const std::map<int, Field> fields = {
        {EBB_DISK_A_ID, {"id"}},
        {EBB_DISK_A_GROUP, {"group"}},
        {EBB_DISK_A_DEV, {"dev"}},
        {EBB_DISK_A_NAME, {"name", Shape::text}},
        {EBB_DISK_A_STABLE_ID, {"stable_id", Shape::text}},
        {EBB_DISK_A_SECTORS, {"sectors"}},
        {EBB_DISK_A_IMAGE_DEV, {"image_dev"}},
        {EBB_DISK_A_STATE, {"state"}},
        {EBB_DISK_A_RESYNC_REASONS, {"resync_reasons"}},
        {EBB_DISK_A_DIRTY_BLOCKS, {"dirty_blocks"}},
        {EBB_DISK_A_UNCONFIRMED_BLOCKS, {"unconfirmed_blocks"}},
        {EBB_DISK_A_MAP_BYTES, {"map_bytes"}},
        {EBB_DISK_A_COARSE_MARKS, {"coarse_marks"}},
        {EBB_DISK_A_WRITES, {"writes"}},
        {EBB_DISK_A_WRITTEN_SECTORS, {"written_sectors"}},
        {EBB_DISK_A_DISCARDS, {"discards"}},
        {EBB_DISK_A_IN_FLIGHT, {"in_flight"}},
        {EBB_DISK_A_HELD, {"held"}},
        {EBB_DISK_A_HELD_NS_TOTAL, {"held_ns_total"}},
        {EBB_DISK_A_HELD_NS_MAX, {"held_ns_max"}},
        {EBB_DISK_A_PRESERVED, {"preserved"}},
        {EBB_DISK_A_WRITE_ERRORS, {"write_errors"}},
        {EBB_DISK_A_UNTRACKED_REQUESTS, {"untracked_requests"}},
        {EBB_DISK_A_GATED, {"gated"}},
        {EBB_DISK_A_SUSPECT_BLOCKS, {"suspect_blocks"}},
        {EBB_DISK_A_LOG_STATE, {"log_state"}},
        {EBB_DISK_A_MAP_UUID, {"map_uuid", Shape::bytes}},
        {EBB_DISK_A_RECOVERY, {"recovery"}},
        {EBB_DISK_A_RECOVERED_BLOCKS, {"recovered_blocks"}},
        {EBB_DISK_A_HOT_REGIONS, {"hot_regions"}},
        {EBB_DISK_A_REGION_SECTORS, {"region_sectors"}},
        {EBB_DISK_A_LOG_WRITES, {"log_writes"}},
        {EBB_DISK_A_LOG_HELD, {"log_held"}},
        {EBB_DISK_A_LOG_HELD_NS_MAX, {"log_held_ns_max"}},
        {EBB_DISK_A_COOKIE, {"cookie", Shape::bytes}},
        {EBB_DISK_A_NOTE, {"note", Shape::bytes}},
        {EBB_DISK_A_BOOTS, {"boots", Shape::bytes}},
        {EBB_DISK_A_WITNESSES, {"witnesses"}},
    };
    return fields;
}

const std::map<int, Field>& pass_fields() {
    static const std::map<int, Field> fields = {
        {EBB_PASS_A_ID, {"id"}},
        {EBB_PASS_A_GROUP, {"group"}},
        {EBB_PASS_A_KIND, {"kind"}},
        {EBB_PASS_A_STATE, {"state"}},
        {EBB_PASS_A_VOID_REASON, {"void_reason"}},
        {EBB_PASS_A_GENERATION, {"generation"}},
        {EBB_PASS_A_CUT_REALTIME_NS, {"cut_realtime_ns"}},
        {EBB_PASS_A_CUT_BOOTTIME_NS, {"cut_boottime_ns"}},
        {EBB_PASS_A_CUT_DURATION_NS, {"cut_duration_ns"}},
        {EBB_PASS_A_BLOCKS, {"blocks"}},
        {EBB_PASS_A_BLOCKS_LEFT, {"blocks_left"}},
        {EBB_PASS_A_PRESERVED, {"preserved"}},
        {EBB_PASS_A_HELD, {"held"}},
        {EBB_PASS_A_HELD_NS_MAX, {"held_ns_max"}},
        {EBB_PASS_A_POOL_PEAK_BYTES, {"pool_peak_bytes"}},
    };
    return fields;
}

std::uint64_t integer(const nlattr* attribute) {
    std::uint64_t value = 0;  // little endian, as all machines that the lab emulates
    std::size_t length = static_cast<std::size_t>(nla_len(attribute));
    std::memcpy(&value, nla_data(attribute), length < sizeof(value) ? length : sizeof(value));
    return value;
}

std::string hex(const nlattr* attribute) {
    std::string out;
    const auto* data = static_cast<const std::uint8_t*>(nla_data(attribute));
    for (int i = 0; i < nla_len(attribute); ++i) out += text("%02x", data[i]);
    return out;
}

void decode_nest(nlattr* first, int length, const std::map<int, Field>& fields, Nest& nest,
                 Reply* reply) {
    int left = length;
    for (nlattr* at = first; nla_ok(at, left); at = nla_next(at, &left)) {
        auto found = fields.find(nla_type(at));
        if (found == fields.end()) continue;
        int type = nla_type(at);
        switch (found->second.shape) {
            case Shape::number: nest.numbers[type] = integer(at); break;
            case Shape::text: nest.strings[type] = static_cast<const char*>(nla_data(at)); break;
            case Shape::bytes: nest.strings[type] = hex(at); break;
            case Shape::disk:
                decode_nest(static_cast<nlattr*>(nla_data(at)), nla_len(at), disk_fields(),
                            reply->disk, nullptr);
                break;
            case Shape::pass:
                decode_nest(static_cast<nlattr*>(nla_data(at)), nla_len(at), pass_fields(),
                            reply->pass, nullptr);
                break;
            case Shape::extents: {
                std::size_t count = static_cast<std::size_t>(nla_len(at)) / sizeof(ebb_extent);
                reply->extents.resize(count);
                std::memcpy(reply->extents.data(), nla_data(at), count * sizeof(ebb_extent));
                break;
            }
            case Shape::skip: break;
        }
    }
}

// Everything that one call collects.
struct Exchange {
    std::vector<Reply>* replies;
    std::string* message;
    int error = 0;
    bool finished = false;
};

int on_valid(nl_msg* message, void* argument) {
    auto* exchange = static_cast<Exchange*>(argument);
    exchange->replies->push_back(decode(nlmsg_hdr(message)));
    return NL_OK;
}

// The acknowledgement with its extended message, which libnl 3.7 does not hand out itself.
int on_error(sockaddr_nl*, nlmsgerr* error, void* argument) {
    auto* exchange = static_cast<Exchange*>(argument);
    exchange->error = error->error;
    exchange->finished = true;
    auto* header = reinterpret_cast<nlmsghdr*>(reinterpret_cast<char*>(error) - NLMSG_HDRLEN);
    if (!(header->nlmsg_flags & NLM_F_ACK_TLVS)) return NL_STOP;
    std::size_t skip = sizeof(*error);
    if (!(header->nlmsg_flags & NLM_F_CAPPED)) skip += error->msg.nlmsg_len - NLMSG_HDRLEN;
    int left = static_cast<int>(header->nlmsg_len - NLMSG_HDRLEN - NLMSG_ALIGN(skip));
    auto* at = reinterpret_cast<nlattr*>(reinterpret_cast<char*>(error) + NLMSG_ALIGN(skip));
    for (; nla_ok(at, left); at = nla_next(at, &left))
        if (nla_type(at) == NLMSGERR_ATTR_MSG)
            *exchange->message = static_cast<const char*>(nla_data(at));
    return NL_STOP;
}

int on_ack(nl_msg*, void* argument) {
    static_cast<Exchange*>(argument)->finished = true;
    return NL_STOP;
}

bool put_log(nl_msg* message, const LogArea& log) {
    nlattr* nest = nla_nest_start(message, EBB_A_LOG);
    return nest && nla_put_u64(message, EBB_LOG_A_DEV, log.dev) == 0 &&
           nla_put_u64(message, EBB_LOG_A_SECTOR, log.sector) == 0 &&
           nla_put_u64(message, EBB_LOG_A_SECTORS, log.sectors) == 0 &&
           nla_put_u32(message, EBB_LOG_A_FLAGS, log.create ? EBB_LOG_F_CREATE : 0) == 0 &&
           nla_put(message, EBB_LOG_A_BOOT_ID, static_cast<int>(log.boot_id.size()),
                   log.boot_id.data()) == 0 &&
           nla_nest_end(message, nest) == 0;
}

bool put(nl_msg* message, const Request& request) {
    bool ok = true;
    if (request.group) ok &= nla_put_u32(message, EBB_A_GROUP, request.group) == 0;
    if (request.dev) ok &= nla_put_u64(message, EBB_A_DEV, request.dev) == 0;
    if (request.disk) ok &= nla_put_u32(message, EBB_A_DISK_ID, request.disk) == 0;
    if (!request.stable_id.empty())
        ok &= nla_put_string(message, EBB_A_STABLE_ID, request.stable_id.c_str()) == 0;
    if (request.pass) ok &= nla_put_u64(message, EBB_A_PASS_ID, request.pass) == 0;
    if (request.kind >= 0)
        ok &= nla_put_u32(message, EBB_A_PASS_KIND, static_cast<std::uint32_t>(request.kind)) == 0;
#ifdef EBB_PASS_F_WHOLE
    if (request.flags) ok &= nla_put_u32(message, EBB_A_PASS_FLAGS, request.flags) == 0;
#endif
    if (request.gate) ok &= nla_put_u64(message, EBB_A_GATE_ID, request.gate) == 0;
    if (request.deadline_ms >= 0)
        ok &= nla_put_u32(message, EBB_A_GATE_DEADLINE_MS,
                          static_cast<std::uint32_t>(request.deadline_ms)) == 0;
    if (request.sector >= 0)
        ok &= nla_put_u64(message, EBB_A_SECTOR, static_cast<std::uint64_t>(request.sector)) == 0;
    if (!request.extents.empty())
        ok &= nla_put(message, EBB_A_EXTENTS,
                      static_cast<int>(request.extents.size() * sizeof(ebb_extent)),
                      request.extents.data()) == 0;
    if (request.log.dev) ok &= put_log(message, request.log);
    if (!request.cookie.empty())
        ok &= nla_put(message, EBB_A_COOKIE, static_cast<int>(request.cookie.size()),
                      request.cookie.data()) == 0;
    if (request.note)
        ok &= nla_put(message, EBB_A_NOTE, static_cast<int>(request.note->size()),
                      request.note->data()) == 0;
    if (request.mark_flags) ok &= nla_put_u32(message, EBB_A_MARK_FLAGS, request.mark_flags) == 0;
    return ok;
}

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return out + "\"";
}

}  // namespace

Client::~Client() {
    if (sock_) nl_socket_free(sock_);
}

int Client::open() {
    sock_ = nl_socket_alloc();
    if (!sock_) return -ENOMEM;
    if (genl_connect(sock_) < 0) return -EPROTO;
    family_ = genl_ctrl_resolve(sock_, EBB_GENL_NAME);
    if (family_ < 0) {
        message_ = "no netlink family " EBB_GENL_NAME ": the module is not loaded";
        return -ENOENT;
    }
    int on = 1;
    setsockopt(nl_socket_get_fd(sock_), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
    nl_socket_set_buffer_size(sock_, 1 << 20, 1 << 20);
    nl_socket_disable_auto_ack(sock_);
    return 0;
}

int Client::call(const Request& request, std::vector<Reply>& replies) {
    message_.clear();
    nl_msg* message = nlmsg_alloc_size(1 << 16);
    if (!message) return -ENOMEM;
    int flags = NLM_F_REQUEST | NLM_F_ACK | (request.dump ? NLM_F_DUMP : 0);
    genlmsg_put(message, NL_AUTO_PORT, NL_AUTO_SEQ, family_, 0, flags, request.command,
                EBB_GENL_VERSION);
    if (!put(message, request)) {
        nlmsg_free(message);
        return -EMSGSIZE;
    }
    int sent = nl_send_auto(sock_, message);
    nlmsg_free(message);
    if (sent < 0) return -EPROTO;

    Exchange exchange{&replies, &message_};
    nl_cb* callbacks = nl_cb_alloc(NL_CB_DEFAULT);
    nl_cb_set(callbacks, NL_CB_VALID, NL_CB_CUSTOM, on_valid, &exchange);
    nl_cb_set(callbacks, NL_CB_ACK, NL_CB_CUSTOM, on_ack, &exchange);
    nl_cb_set(callbacks, NL_CB_FINISH, NL_CB_CUSTOM, on_ack, &exchange);
    nl_cb_err(callbacks, NL_CB_CUSTOM, on_error, &exchange);
    int failed = 0;
    while (!exchange.finished && failed >= 0) failed = nl_recvmsgs(sock_, callbacks);
    nl_cb_put(callbacks);
    if (exchange.error) return exchange.error;
    if (failed < 0 && !exchange.finished) {
        message_ = nl_geterror(failed);
        return -EPROTO;
    }
    return 0;
}

int Client::call(const Request& request) {
    std::vector<Reply> replies;
    return call(request, replies);
}

int Client::call(const Request& request, Reply& reply) {
    std::vector<Reply> replies;
    int error = call(request, replies);
    if (!error && replies.empty()) return -ENODATA;
    if (!error) reply = std::move(replies.front());
    return error;
}

int Client::subscribe() {
    int group = genl_ctrl_resolve_grp(sock_, EBB_GENL_NAME, EBB_GENL_EVENTS);
    if (group < 0) return -ENOENT;
    nl_socket_disable_seq_check(sock_);
    return nl_socket_add_membership(sock_, group) < 0 ? -EPROTO : 0;
}

int Client::wait_event(int timeout_ms, Reply& event) {
    pollfd wait{nl_socket_get_fd(sock_), POLLIN, 0};
    int ready = poll(&wait, 1, timeout_ms);
    if (ready == 0) return -ETIMEDOUT;
    if (ready < 0) return -errno;
    std::vector<Reply> replies;
    Exchange exchange{&replies, &message_};
    nl_cb* callbacks = nl_cb_alloc(NL_CB_DEFAULT);
    nl_cb_set(callbacks, NL_CB_VALID, NL_CB_CUSTOM, on_valid, &exchange);
    nl_cb_set(
        callbacks, NL_CB_SEQ_CHECK, NL_CB_CUSTOM, [](nl_msg*, void*) -> int { return NL_OK; },
        nullptr);
    int failed = nl_recvmsgs(sock_, callbacks);
    nl_cb_put(callbacks);
    if (failed < 0) return -EPROTO;
    if (replies.empty()) return -EAGAIN;
    event = std::move(replies.front());
    return 0;
}

Reply decode(void* nlmsghdr_pointer) {
    auto* header = static_cast<nlmsghdr*>(nlmsghdr_pointer);
    auto* generic = static_cast<genlmsghdr*>(nlmsg_data(header));
    Reply reply;
    reply.command = generic->cmd;
    decode_nest(genlmsg_attrdata(generic, 0), genlmsg_attrlen(generic, 0), top_fields(), reply.top,
                &reply);
    return reply;
}

std::string to_json(const Nest& nest, char kind) {
    const auto& fields = kind == 'd' ? disk_fields() : kind == 'p' ? pass_fields() : top_fields();
    std::string out;
    auto add = [&](int attribute, const std::string& value) {
        out += out.empty() ? "" : ",";
        out += quoted(fields.at(attribute).name) + ":" + value;
    };
    for (const auto& [attribute, value] : nest.numbers) add(attribute, std::to_string(value));
    for (const auto& [attribute, value] : nest.strings) add(attribute, quoted(value));
    if (kind == 'p') {
        out += text(",\"state_name\":\"%s\"", pass_state(nest[EBB_PASS_A_STATE]));
        out += text(",\"void_name\":\"%s\"", void_reason(nest[EBB_PASS_A_VOID_REASON]));
    }
    return "{" + out + "}";
}

std::string to_json(const Reply& reply) {
    std::string out = to_json(reply.top, 't');
    out.pop_back();
    auto add = [&](const char* name, const std::string& value) {
        out += out.size() > 1 ? "," : "";
        out += quoted(name) + ":" + value;
    };
    if (!reply.disk.numbers.empty()) add("disk", to_json(reply.disk, 'd'));
    if (!reply.pass.numbers.empty()) add("pass", to_json(reply.pass, 'p'));
    if (!reply.extents.empty()) {
        std::string list;
        for (const auto& e : reply.extents)
            list += text("%s[%llu,%u,%u]", list.empty() ? "" : ",",
                         static_cast<unsigned long long>(e.sector), e.nr_sectors, e.flags);
        add("extents", "[" + list + "]");
    }
    return out + "}";
}

const char* void_reason(std::uint64_t reason) {
    static const char* const names[] = {"none",      "deadline",     "pool-full", "preserve-error",
                                        "disk-gone", "owner",        "abandoned", "detached",
                                        "cut-race",  "gate-deadline"};
    return reason < std::size(names) ? names[reason] : "unknown";
}

const char* pass_state(std::uint64_t state) {
    static const char* const names[] = {"draining", "ready", "void", "ended"};
    return state < std::size(names) ? names[state] : "unknown";
}

std::string boot_id() {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string words, out;
    std::getline(file, words);
    std::erase(words, '-');
    for (std::size_t i = 0; i + 1 < words.size(); i += 2)
        out += static_cast<char>(std::stoi(words.substr(i, 2), nullptr, 16));
    return out;
}

std::string device_path(std::uint64_t dev) {
    std::ifstream uevent(text("/sys/dev/block/%u:%u/uevent", static_cast<unsigned>(dev >> 32),
                              static_cast<unsigned>(dev & 0xffffffff)));
    for (std::string line; std::getline(uevent, line);)
        if (line.starts_with("DEVNAME=")) return "/dev/" + line.substr(8);
    return {};
}

std::uint64_t device_number(const std::string& path) {
    if (!path.empty() && path.find_first_not_of("0123456789") == std::string::npos)
        return std::strtoull(path.c_str(), nullptr, 10);
    struct stat status{};
    if (stat(path.c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) return 0;
    return static_cast<std::uint64_t>(major(status.st_rdev)) << 32 | minor(status.st_rdev);
}

}  // namespace ebb::kmodtest
