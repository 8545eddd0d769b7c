// SPDX-License-Identifier: Apache-2.0
#include "platform/system_error.h"

#include <cerrno>
#include <system_error>

namespace ebb::platform {

namespace {

ErrorCode code_of(int error_number) {
    switch (error_number) {
        case EINVAL: return ErrorCode::invalid;
        case ENOENT:
        case ENODEV:
        case ENXIO: return ErrorCode::not_found;
        case EEXIST: return ErrorCode::exists;
        case EBUSY:
        case EAGAIN: return ErrorCode::busy;
        case ESTALE: return ErrorCode::stale;
        case ENOSPC:
        case EDQUOT: return ErrorCode::no_space;
        case ENOMEM: return ErrorCode::no_memory;
        case ECONNRESET:
        case EPIPE:
        case ENOTCONN: return ErrorCode::closed;
        case ETIMEDOUT: return ErrorCode::timeout;
        case EACCES:
        case EPERM: return ErrorCode::denied;
        case ECANCELED: return ErrorCode::cancelled;
        case EOPNOTSUPP: return ErrorCode::unsupported;
        default: return ErrorCode::io;
    }
}

}  // namespace

Error system_error(int error_number, const std::string& what) {
    return Error{
        code_of(error_number), what + ": " + std::generic_category().message(error_number), {}, {}};
}

}  // namespace ebb::platform
