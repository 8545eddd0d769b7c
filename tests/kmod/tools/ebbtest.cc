// SPDX-License-Identifier: Apache-2.0
// ebbtest: the module's commands from a shell. Replies are JSON lines on standard output; a refusal
// is "ERRNO-NAME: message" on standard error and exit status 1.
//
//   open (and close) | info | list | events MS | attach DEV ID GROUP [MAPDEV SECTOR SECTORS
//   [create]] | detach DISK | get DISK | mark-all DISK [compare] | mark DISK SECTOR COUNT [compare]
//   witness DISK [SECTOR COUNT]... | pass-begin live|frozen|whole GROUP [GATE] | pass-get GROUP
//   map PASS DISK [SECTOR] | release PASS DISK SECTOR COUNT | end PASS | confirm GROUP [COOKIE]
//   cookie GROUP COOKIE | note GROUP [NOTE] | abandon GROUP | gate-close GROUP DEADLINE_MS
//   gate-open GROUP GATE
//   script   reads such lines from standard input and runs them over one socket, so that a pass
//            lives from one line to the next; "sleep MS" waits; after a failure it goes on and
//            prints "error ERRNO-NAME: message"; each answer is followed by a line "ok"
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <sstream>

#include <unistd.h>

#include "lib/client.h"
#include "lib/text.h"

namespace ebb::kmodtest {
namespace {

std::uint64_t number(const std::vector<std::string>& words, std::size_t index) {
    return index < words.size() ? std::strtoull(words[index].c_str(), nullptr, 0) : 0;
}

std::string word(const std::vector<std::string>& words, std::size_t index) {
    return index < words.size() ? words[index] : std::string();
}

std::uint32_t small(const std::vector<std::string>& words, std::size_t index) {
    return static_cast<std::uint32_t>(number(words, index));
}

bool disk_request(const std::vector<std::string>& w, Request& r) {
    const std::string& name = w[0];
    if (name == "attach") {
        r.command = EBB_CMD_DISK_ATTACH;
        r.dev = device_number(word(w, 1));
        r.stable_id = word(w, 2);
        r.group = small(w, 3);
        if (w.size() > 4)
            r.log = {device_number(w[4]), number(w, 5), number(w, 6), word(w, 7) == "create",
                     boot_id()};
    } else if (name == "list") {
        r.command = EBB_CMD_DISK_GET;
        r.dump = true;
    } else {
        r.disk = small(w, 1);
        if (name == "detach") r.command = EBB_CMD_DISK_DETACH;
        if (name == "get") r.command = EBB_CMD_DISK_GET;
        if (name == "mark-all") r.command = EBB_CMD_DISK_MARK_ALL;
        if (name == "mark") {
            r.command = EBB_CMD_DISK_MARK;
            r.extents = {{number(w, 2), small(w, 3), 0}};
        }
        if (name.starts_with("mark") && w.back() == "compare") r.mark_flags = EBB_MARK_F_COMPARE;
        if (name == "witness") {
            r.command = EBB_CMD_DISK_WITNESS;
            for (std::size_t i = 2; i + 1 < w.size(); i += 2)
                r.extents.push_back({number(w, i), small(w, i + 1), 0});
        }
    }
    return r.command != 0;
}

bool pass_request(const std::vector<std::string>& w, Request& r) {
    const std::string& name = w[0];
    if (name == "pass-begin") {
        r.command = EBB_CMD_PASS_BEGIN;
        r.kind = word(w, 1) == "live" ? EBB_PASS_LIVE : EBB_PASS_FROZEN;
        r.flags = word(w, 1) == "whole" ? 1 : 0;
        r.group = small(w, 2);
        r.gate = number(w, 3);
    } else if (name == "pass-get" || name == "confirm" || name == "abandon" || name == "cookie" ||
               name == "note") {
        r.command = name == "pass-get"  ? EBB_CMD_PASS_GET
                    : name == "confirm" ? EBB_CMD_EPOCH_CONFIRM
                    : name == "abandon" ? EBB_CMD_EPOCH_ABANDON
                                        : EBB_CMD_COOKIE_SET;
        r.group = small(w, 1);
        if (w.size() > 2 && (name == "confirm" || name == "cookie")) {
            r.cookie = w[2];
            r.cookie.resize(EBB_COOKIE_LEN);
        }
        if (name == "note") r.note = word(w, 2);
    } else if (name == "map" || name == "release") {
        r.command = name == "map" ? EBB_CMD_PASS_MAP : EBB_CMD_PASS_RELEASE;
        r.pass = number(w, 1);
        r.disk = small(w, 2);
        if (name == "map") r.sector = static_cast<std::int64_t>(number(w, 3));
        if (name == "release") r.extents = {{number(w, 3), small(w, 4), 0}};
    } else if (name == "end") {
        r.command = EBB_CMD_PASS_END;
        r.pass = number(w, 1);
    }
    return r.command != 0;
}

bool gate_request(const std::vector<std::string>& w, Request& r) {
    r.group = small(w, 1);
    if (w[0] == "gate-close") {
        r.command = EBB_CMD_GATE_CLOSE;
        r.deadline_ms = static_cast<std::int64_t>(number(w, 2));
    } else if (w[0] == "gate-open") {
        r.command = EBB_CMD_GATE_OPEN;
        r.gate = number(w, 2);
    }
    return r.command != 0;
}

std::string last_refusal;  // name of the errno

int refuse(Client& client, int error) {
    last_refusal = strerrorname_np(-error);
    std::cerr << strerrorname_np(-error) << ": " << client.message() << "\n";
    return 1;
}

int events(Client& client, int timeout_ms) {
    if (int error = client.subscribe()) return refuse(client, error);
    std::cout << "{\"subscribed\":1}" << std::endl;
    Reply event;
    int error;
    while ((error = client.wait_event(timeout_ms, event)) == 0 || error == -EAGAIN)
        if (error == 0) std::cout << to_json(event) << std::endl;
    return error == -ETIMEDOUT ? 0 : refuse(client, error);
}

int run(Client& client, const std::vector<std::string>& words) {
    if (words[0] == "events") return events(client, static_cast<int>(number(words, 1)));
    if (words[0] == "open") return 0;
    Request request;
    if (words[0] == "info") request.command = EBB_CMD_INFO;
    if (!request.command && !disk_request(words, request) && !pass_request(words, request) &&
        !gate_request(words, request)) {
        std::cerr << "EINVAL: unknown command " << words[0] << "\n";
        return 2;
    }
    std::vector<Reply> replies;
    if (int error = client.call(request, replies)) return refuse(client, error);
    for (const auto& reply : replies) std::cout << to_json(reply) << "\n";
    std::cout.flush();
    return 0;
}

int script(Client& client) {
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream split(line);
        std::vector<std::string> words;
        for (std::string w; split >> w;) words.push_back(w);
        if (words.empty()) continue;
        if (words[0] == "sleep") {
            usleep(static_cast<useconds_t>(number(words, 1) * 1000));
        } else if (run(client, words) != 0) {
            std::cout << "error " << last_refusal << ": " << client.message() << std::endl;
            continue;
        }
        std::cout << "ok" << std::endl;
    }
    return 0;
}

int main(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    if (words.empty()) {
        std::cerr << "usage: ebbtest COMMAND ARGUMENTS (see the source)\n";
        return 2;
    }
    Client client;
    if (int error = client.open()) return refuse(client, error);
    return words[0] == "script" ? script(client) : run(client, words);
}

}  // namespace
}  // namespace ebb::kmodtest

int main(int argc, char** argv) {
    return ebb::kmodtest::main(argc, argv);
}
