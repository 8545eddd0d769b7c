// SPDX-License-Identifier: Apache-2.0
#include "service/interval_watch.h"

namespace ebb::service {

bool IntervalWatch::see(std::uint64_t seen_ms, std::int64_t now_ns) {
    const bool longer = seen_ms >= (told_ms_ == 0 ? 1 : 2 * told_ms_);
    const bool shorter = told_ms_ != 0 && 2 * seen_ms <= told_ms_;
    if (!longer && !shorter) {
        since_ns_ = 0;
        return false;
    }
    // A clock that was set begins anew.
    if (since_ns_ == 0 || now_ns < since_ns_) since_ns_ = now_ns;
    if (now_ns - since_ns_ < (longer ? longer_after_ns : kept_after_ns)) return false;
    told_ms_ = seen_ms;
    since_ns_ = 0;
    return true;
}

}  // namespace ebb::service
