// SPDX-License-Identifier: Apache-2.0
// The kernel interface (linux/ebb.h) as calls, for tests: one netlink socket, one thread at a time.
// Every call returns 0 or a negative errno as the module answered; message() then holds its words.
#pragma once

#include <linux/ebb.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

struct nl_sock;
struct nl_msg;
struct nlattr;

namespace ebb::kmodtest {

// Attributes of a nest by number: integers of any width in `numbers`, the rest in `strings`.
struct Nest {
    std::map<int, std::uint64_t> numbers;
    std::map<int, std::string> strings;

    [[nodiscard]] std::uint64_t operator[](int attribute) const {
        auto found = numbers.find(attribute);
        return found == numbers.end() ? 0 : found->second;
    }
    [[nodiscard]] std::string text(int attribute) const {
        auto found = strings.find(attribute);
        return found == strings.end() ? std::string() : found->second;
    }
};

struct Reply {
    Nest top;
    Nest disk;
    Nest pass;
    std::vector<ebb_extent> extents;
    std::uint8_t command = 0;
};

// Where a disk's map is; dev 0: none.
struct LogArea {
    std::uint64_t dev = 0;
    std::uint64_t sector = 0;
    std::uint64_t sectors = 0;
    bool create = false;
    std::string boot_id = {};
};

// What a command carries; zero and empty members are left out, but for those in `force`.
struct Request {
    std::uint8_t command = 0;
    bool dump = false;
    std::uint32_t group = 0;
    std::uint64_t dev = 0;
    std::uint32_t disk = 0;
    std::string stable_id = {};
    std::uint64_t pass = 0;
    std::int64_t kind = -1;
    std::uint32_t flags = 0;
    std::int64_t sector = -1;
    std::uint64_t gate = 0;
    std::int64_t deadline_ms = -1;
    std::vector<ebb_extent> extents = {};
    LogArea log = {};
    std::string cookie = {};
    std::optional<std::string> note = {};
    std::uint32_t mark_flags = 0;
};

class Client {
public:
    Client() = default;
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    // 0, or a negative errno: -ENOENT without the module.
    [[nodiscard]] int open();
    // Sends and collects replies up to the acknowledgement.
    [[nodiscard]] int call(const Request& request, std::vector<Reply>& replies);
    [[nodiscard]] int call(const Request& request);
    [[nodiscard]] int call(const Request& request, Reply& reply);

    // The socket joins the event group; wait_event returns 0, -ETIMEDOUT or a negative errno.
    [[nodiscard]] int subscribe();
    [[nodiscard]] int wait_event(int timeout_ms, Reply& event);

    [[nodiscard]] const std::string& message() const { return message_; }
    [[nodiscard]] int family() const { return family_; }

private:
    nl_sock* sock_ = nullptr;
    int family_ = -1;
    std::string message_;
};

// Decodes one message of the family. Names of attributes as in linux/ebb.h, in lower case.
[[nodiscard]] Reply decode(void* nlmsghdr);
[[nodiscard]] std::string to_json(const Nest& nest, char kind);  // 't'op, 'd'isk, 'p'ass
[[nodiscard]] std::string to_json(const Reply& reply);

[[nodiscard]] const char* void_reason(std::uint64_t reason);
[[nodiscard]] const char* pass_state(std::uint64_t state);
// This boot's, 16 bytes.
[[nodiscard]] std::string boot_id();
// Path under /dev of a device number as EBB_A_DEV packs it; empty if it has none.
[[nodiscard]] std::string device_path(std::uint64_t dev);
// The same packing for a path; 0 if it is no block device.
[[nodiscard]] std::uint64_t device_number(const std::string& path);

}  // namespace ebb::kmodtest
