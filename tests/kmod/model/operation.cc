// SPDX-License-Identifier: Apache-2.0
#include "model/operation.h"

#include <cstdlib>
#include <iterator>
#include <sstream>

namespace ebb::kmodmodel {
namespace {

constexpr const char* names[] = {
    "direct",   "sync",    "nowait",   "aio",      "uring",       "polled",   "buffered",
    "zero",     "discard", "erase",    "flush",    "reap",        "sleep",    "frozen",
    "live",     "whole",   "peek",     "release",  "end",         "confirm",  "abandon",
    "kill",     "detach",  "attach",   "markall",  "mark",        "pressure", "remove",
    "settle",   "reload",  "daemon",   "cool",     "passthrough", "resize",   "reboot",
    "poweroff", "cut",     "cutwrite", "cutflush", "haltwrite",   "haltflush"};
static_assert(std::size(names) == static_cast<std::size_t>(Kind::haltflush) + 1);

void put(std::string& line, const char* name, std::uint64_t value) {
    if (value) line += std::string(" ") + name + "=" + std::to_string(value);
}

}  // namespace

const char* kind_name(Kind kind) {
    return names[static_cast<std::size_t>(kind)];
}

std::string to_line(const Operation& o) {
    std::string line = std::to_string(o.lane) + " " + kind_name(o.kind);
    put(line, "path", o.path);
    put(line, "disk", o.disk);
    put(line, "at", o.at);
    put(line, "n", o.n);
    put(line, "seed", o.seed);
    return line;
}

std::optional<Operation> parse_operation(const std::string& line) {
    std::istringstream in(line);
    Operation o;
    std::string name, word;
    if (!(in >> o.lane >> name)) return std::nullopt;
    std::size_t kind = 0;
    while (kind < std::size(names) && name != names[kind]) ++kind;
    if (kind == std::size(names)) return std::nullopt;
    o.kind = static_cast<Kind>(kind);
    while (in >> word) {
        std::size_t equals = word.find('=');
        if (equals == std::string::npos) return std::nullopt;
        std::string key = word.substr(0, equals);
        std::uint64_t value = std::strtoull(word.c_str() + equals + 1, nullptr, 0);
        if (key == "path") {
            o.path = static_cast<std::uint32_t>(value);
        } else if (key == "disk") {
            o.disk = static_cast<std::uint32_t>(value);
        } else if (key == "at") {
            o.at = value;
        } else if (key == "n") {
            o.n = value;
        } else if (key == "seed") {
            o.seed = value;
        } else {
            return std::nullopt;
        }
    }
    return o;
}

}  // namespace ebb::kmodmodel
