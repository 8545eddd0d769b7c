// SPDX-License-Identifier: Apache-2.0
// Errors are values. Every error has a stable code (documented in docs/operations.md), a sentence
// that says what is wrong, and, where the reader can do something, a remedy.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace ebb {

// Stable codes: names never change their meaning and are never reused. `code_name` gives the
// text form that users see, such as "E_STALE".
enum class ErrorCode {
    internal,         // E_INTERNAL: a bug; the message says where
    invalid,          // E_INVALID: an argument or a document is malformed
    not_found,        // E_NOT_FOUND
    exists,           // E_EXISTS
    busy,             // E_BUSY: try again later
    stale,            // E_STALE: the cut, pass or session is void or superseded
    io,               // E_IO: a disk, file or device failed
    no_space,         // E_NO_SPACE
    no_memory,        // E_NO_MEMORY
    closed,           // E_CLOSED: the connection ended
    timeout,          // E_TIMEOUT
    protocol,         // E_PROTOCOL: the peer sent what the protocol does not allow
    version,          // E_VERSION: no protocol or format version in common
    digest,           // E_DIGEST: data does not match its digest
    corrupt,          // E_CORRUPT: a format on disk is damaged
    fenced,           // E_FENCED: this source was failed over from
    denied,           // E_DENIED: not authenticated, or not allowed
    refused,          // E_REFUSED: a precondition is not met; the message says which
    cancelled,        // E_CANCELLED
    resync_required,  // E_RESYNC_REQUIRED
    unsupported,      // E_UNSUPPORTED
};

[[nodiscard]] std::string_view code_name(ErrorCode code);

struct [[nodiscard]] Error {
    ErrorCode code = ErrorCode::internal;
    std::string message;
    std::string remedy;
    // A code finer than `code`, such as "E_RETENTION_FAT"; empty: code_name(code).
    std::string detail_code;

    [[nodiscard]] std::string_view name() const {
        return detail_code.empty() ? code_name(code) : std::string_view(detail_code);
    }
};

template <class T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

[[nodiscard]] inline std::unexpected<Error> fail(ErrorCode code, std::string message,
                                                 std::string remedy = {}) {
    return std::unexpected(Error{code, std::move(message), std::move(remedy), {}});
}

[[nodiscard]] inline std::unexpected<Error> fail(std::string detail_code, ErrorCode code,
                                                 std::string message, std::string remedy = {}) {
    return std::unexpected(
        Error{code, std::move(message), std::move(remedy), std::move(detail_code)});
}

// A precondition that is not met: one of several reasons, that are told all at once.
[[nodiscard]] inline Error refusal(std::string detail_code, std::string message,
                                   std::string remedy) {
    return Error{ErrorCode::refused, std::move(message), std::move(remedy), std::move(detail_code)};
}

}  // namespace ebb
