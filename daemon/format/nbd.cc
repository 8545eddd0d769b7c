// SPDX-License-Identifier: Apache-2.0
#include "format/nbd.h"

#include <algorithm>

namespace ebb::format {

namespace {

constexpr std::uint64_t server_magic = 0x4e42444d41474943;  // "NBDMAGIC"
constexpr std::uint64_t option_magic = 0x49484156454f5054;  // "IHAVEOPT"
constexpr std::uint64_t option_reply_magic = 0x3e889045565a9;
constexpr std::uint32_t request_magic = 0x25609513;
constexpr std::uint32_t reply_magic = 0x67446698;

constexpr std::uint16_t fixed_newstyle = 1, no_zeroes = 2;
constexpr std::uint16_t has_flags = 1, read_only = 2, send_flush = 4, can_multi_conn = 256;
constexpr std::uint16_t export_flags = has_flags | read_only | send_flush | can_multi_conn;

enum Option : std::uint32_t { export_name = 1, abort = 2, list_exports = 3, info = 6, go = 7 };
enum Reply : std::uint32_t {
    ack = 1,
    server = 2,
    information = 3,
    unsupported = 0x80000001,
    invalid = 0x80000003,
    unknown = 0x80000006,
};
constexpr std::uint16_t info_export = 0, info_block_size = 3;
enum Request : std::uint16_t { read = 0, write = 1, disconnect = 2, flush = 3, trim = 4, zero = 6 };

constexpr std::size_t option_bytes = 16, request_bytes = 28;
// A name has at most 4096.
constexpr std::uint32_t option_data_max = 8192;
constexpr std::uint32_t preferred_bytes = 65536, least_bytes = 512;
constexpr std::size_t old_zeroes = 124;

// The protocol has the most significant byte first.
template <class T>
void put(Payload& out, T value) {
    for (std::size_t i = sizeof(T); i > 0; --i)
        out.push_back(static_cast<std::byte>(value >> (8 * (i - 1))));
}

template <class T>
T get(std::span<const std::byte>& in) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
        value = static_cast<T>(static_cast<std::uint64_t>(value) << 8 |
                               std::to_integer<std::uint64_t>(in[i]));
    in = in.subspan(sizeof(T));
    return value;
}

void put_text(Payload& out, const std::string& text) {
    const auto bytes = std::as_bytes(std::span(text));
    out.insert(out.end(), bytes.begin(), bytes.end());
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void answer(Payload& out, std::uint32_t option, std::uint32_t type, const Payload& data = {}) {
    put(out, option_reply_magic);
    put(out, option);
    put(out, type);
    put(out, static_cast<std::uint32_t>(data.size()));
    out.insert(out.end(), data.begin(), data.end());
}

NbdSession::Step only(std::uint32_t option, std::uint32_t type) {
    NbdSession::Step step;
    answer(step.send, option, type);
    return step;
}

}  // namespace

Payload NbdSession::greeting() {
    Payload out;
    put(out, server_magic);
    put(out, option_magic);
    put(out, static_cast<std::uint16_t>(fixed_newstyle | no_zeroes));
    return out;
}

Payload NbdSession::reply(std::uint64_t cookie, NbdError error) {
    Payload out;
    put(out, reply_magic);
    put(out, static_cast<std::uint32_t>(error));
    put(out, cookie);
    return out;
}

void NbdSession::take(std::span<const std::byte> bytes) {
    const auto skipped = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, bytes.size()));
    skip_ -= skipped;
    bytes = bytes.subspan(skipped);
    input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(at_));
    at_ = 0;
    input_.insert(input_.end(), bytes.begin(), bytes.end());
}

NbdSession::Step NbdSession::end() {
    state_ = State::over;
    Step step;
    step.close = true;
    return step;
}

std::optional<NbdSession::Step> NbdSession::next() {
    switch (state_) {
        case State::flags: return take_flags();
        case State::options: return take_option();
        case State::requests: return take_request();
        case State::over: break;
    }
    return std::nullopt;
}

std::optional<NbdSession::Step> NbdSession::take_flags() {
    auto in = rest();
    if (in.size() < sizeof(std::uint32_t)) return std::nullopt;
    const auto flags = get<std::uint32_t>(in);
    at_ += sizeof(flags);
    if ((flags & ~std::uint32_t{fixed_newstyle | no_zeroes}) != 0) return end();
    no_zeroes_ = (flags & no_zeroes) != 0;
    state_ = State::options;
    return Step{};
}

std::optional<NbdSession::Step> NbdSession::take_option() {
    auto in = rest();
    if (in.size() < option_bytes) return std::nullopt;
    const auto magic = get<std::uint64_t>(in);
    const auto number = get<std::uint32_t>(in);
    const auto length = get<std::uint32_t>(in);
    if (magic != option_magic || length > option_data_max) return end();
    if (in.size() < length) return std::nullopt;
    at_ += option_bytes + length;
    return option(number, in.first(length));
}

NbdSession::Step NbdSession::option(std::uint32_t number, std::span<const std::byte> data) {
    switch (number) {
        case Option::export_name: return choose_old(data);
        case Option::abort: {
            Step step = end();
            answer(step.send, number, Reply::ack);
            return step;
        }
        case Option::list_exports: return list(data);
        case Option::info:
        case Option::go: return describe(number, data);
        default: return only(number, Reply::unsupported);
    }
}

std::optional<NbdExport> NbdSession::find(const std::string& name) const {
    for (auto& one : exports_()) {
        if (one.name == name) return std::move(one);
    }
    return std::nullopt;
}

NbdSession::Step NbdSession::list(std::span<const std::byte> data) const {
    if (!data.empty()) return only(Option::list_exports, Reply::invalid);
    Step step;
    for (const NbdExport& one : exports_()) {
        Payload entry;
        put(entry, static_cast<std::uint32_t>(one.name.size()));
        put_text(entry, one.name);
        answer(step.send, Option::list_exports, Reply::server, entry);
    }
    answer(step.send, Option::list_exports, Reply::ack);
    return step;
}

NbdSession::Step NbdSession::describe(std::uint32_t number, std::span<const std::byte> data) {
    if (data.size() < sizeof(std::uint32_t)) return only(number, Reply::invalid);
    const auto length = get<std::uint32_t>(data);
    if (data.size() < sizeof(std::uint16_t) || length > data.size() - sizeof(std::uint16_t))
        return only(number, Reply::invalid);
    const std::string name = text_of(data.first(length));
    data = data.subspan(length);
    const auto wishes = get<std::uint16_t>(data);
    if (data.size() != std::size_t{wishes} * sizeof(std::uint16_t))
        return only(number, Reply::invalid);
    const auto found = find(name);
    if (!found) return only(number, Reply::unknown);
    Step step;
    Payload fact;
    put(fact, info_export);
    put(fact, found->bytes);
    put(fact, export_flags);
    answer(step.send, number, Reply::information, fact);
    fact.clear();
    put(fact, info_block_size);
    put(fact, least_bytes);
    put(fact, preferred_bytes);
    put(fact, nbd_read_max);
    answer(step.send, number, Reply::information, fact);
    answer(step.send, number, Reply::ack);
    if (number == Option::go) {
        chosen_ = *found;
        state_ = State::requests;
    }
    return step;
}

NbdSession::Step NbdSession::choose_old(std::span<const std::byte> data) {
    const auto found = find(text_of(data));
    if (!found) return end();
    Step step;
    put(step.send, found->bytes);
    put(step.send, export_flags);
    if (!no_zeroes_) step.send.insert(step.send.end(), old_zeroes, std::byte{0});
    chosen_ = *found;
    state_ = State::requests;
    return step;
}

std::optional<NbdSession::Step> NbdSession::take_request() {
    auto in = rest();
    if (in.size() < request_bytes) return std::nullopt;
    const auto magic = get<std::uint32_t>(in);
    (void)get<std::uint16_t>(in);  // flags: none of them changes what is read
    const auto type = get<std::uint16_t>(in);
    const auto cookie = get<std::uint64_t>(in);
    const auto offset = get<std::uint64_t>(in);
    const auto length = get<std::uint32_t>(in);
    if (magic != request_magic || type == Request::disconnect) return end();
    at_ += request_bytes;
    Step step;
    if (type == Request::write) {
        if (length > nbd_read_max) return end();
        const std::size_t here = std::min<std::size_t>(in.size(), length);
        at_ += here;
        skip_ = length - here;
    }
    const bool inside = offset <= chosen_.bytes && length <= chosen_.bytes - offset;
    if (type == Request::read && inside && length != 0 && length <= nbd_read_max) {
        step.read = NbdRead{cookie, offset, length};
    } else if (type == Request::read && length != 0) {
        step.send = reply(cookie, NbdError::invalid);
    } else if (type == Request::read || type == Request::flush) {
        step.send = reply(cookie, NbdError::none);
    } else if (type == Request::write || type == Request::trim || type == Request::zero) {
        step.send = reply(cookie, NbdError::not_permitted);
    } else {
        step.send = reply(cookie, NbdError::not_supported);
    }
    return step;
}

}  // namespace ebb::format
