// SPDX-License-Identifier: Apache-2.0
// The server's side of NBD, fixed newstyle, as far as reading needs it: the NetworkBlockDevice
// project's doc/proto.md. Bytes in, bytes and requests out; simple replies alone, read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "format/record.h"

namespace ebb::format {

inline constexpr std::uint32_t nbd_read_max = 32U << 20;

// Of the protocol, not of this machine.
enum class NbdError : std::uint32_t {
    none = 0,
    not_permitted = 1,
    io = 5,
    no_memory = 12,
    invalid = 22,
    not_supported = 95,
    shutting_down = 108,
};

struct NbdExport {
    std::string name;
    std::uint64_t bytes = 0;
};

struct NbdRead {
    std::uint64_t cookie = 0;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;  // within the export, not 0
};

// One connection.
class NbdSession {
public:
    // `exports`: those there are when somebody asks.
    explicit NbdSession(std::function<std::vector<NbdExport>()> exports)
        : exports_(std::move(exports)) {}

    // What the server says first.
    [[nodiscard]] static Payload greeting();

    struct Step {
        Payload send;
        std::optional<NbdRead> read;  // to be answered by reply()
        bool close = false;           // once all that was to be sent is
    };
    void take(std::span<const std::byte> bytes);
    // What the next whole message leads to; none: more bytes are needed.
    [[nodiscard]] std::optional<Step> next();
    // What goes before the data that was read, or alone where there was an error.
    [[nodiscard]] static Payload reply(std::uint64_t cookie, NbdError error);

    // Empty until the client has chosen one.
    [[nodiscard]] const std::string& chosen() const { return chosen_.name; }
    // Bytes that wait to be understood: never more than take() got since next() gave none, and a
    // message.
    [[nodiscard]] std::size_t waiting() const { return input_.size() - at_; }

private:
    enum class State { flags, options, requests, over };
    [[nodiscard]] std::span<const std::byte> rest() const { return std::span(input_).subspan(at_); }
    [[nodiscard]] std::optional<Step> take_flags();
    [[nodiscard]] std::optional<Step> take_option();
    [[nodiscard]] std::optional<Step> take_request();
    [[nodiscard]] Step option(std::uint32_t number, std::span<const std::byte> data);
    [[nodiscard]] Step list(std::span<const std::byte> data) const;
    // NBD_OPT_INFO and NBD_OPT_GO.
    [[nodiscard]] Step describe(std::uint32_t number, std::span<const std::byte> data);
    [[nodiscard]] Step choose_old(std::span<const std::byte> data);
    [[nodiscard]] std::optional<NbdExport> find(const std::string& name) const;
    [[nodiscard]] Step end();

    std::function<std::vector<NbdExport>()> exports_;
    State state_ = State::flags;
    bool no_zeroes_ = false;
    NbdExport chosen_;
    std::vector<std::byte> input_;
    std::size_t at_ = 0;      // of it, understood
    std::uint64_t skip_ = 0;  // bytes of a write that was refused
};

}  // namespace ebb::format
