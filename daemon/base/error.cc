// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

namespace ebb {

std::string_view code_name(ErrorCode code) {
    switch (code) {
        case ErrorCode::internal: return "E_INTERNAL";
        case ErrorCode::invalid: return "E_INVALID";
        case ErrorCode::not_found: return "E_NOT_FOUND";
        case ErrorCode::exists: return "E_EXISTS";
        case ErrorCode::busy: return "E_BUSY";
        case ErrorCode::stale: return "E_STALE";
        case ErrorCode::io: return "E_IO";
        case ErrorCode::no_space: return "E_NO_SPACE";
        case ErrorCode::no_memory: return "E_NO_MEMORY";
        case ErrorCode::closed: return "E_CLOSED";
        case ErrorCode::timeout: return "E_TIMEOUT";
        case ErrorCode::protocol: return "E_PROTOCOL";
        case ErrorCode::version: return "E_VERSION";
        case ErrorCode::digest: return "E_DIGEST";
        case ErrorCode::corrupt: return "E_CORRUPT";
        case ErrorCode::fenced: return "E_FENCED";
        case ErrorCode::denied: return "E_DENIED";
        case ErrorCode::refused: return "E_REFUSED";
        case ErrorCode::cancelled: return "E_CANCELLED";
        case ErrorCode::resync_required: return "E_RESYNC_REQUIRED";
        case ErrorCode::unsupported: return "E_UNSUPPORTED";
    }
    return "E_INTERNAL";
}

}  // namespace ebb
