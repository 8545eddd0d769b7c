// SPDX-License-Identifier: Apache-2.0
#include "submitted.h"

#include <libaio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace ebb::test {
Submitted submitted;
}  // namespace ebb::test

// In place of libaio's.
extern "C" int io_submit(io_context_t context, long count, iocb** controls) {
    auto& state = ebb::test::submitted;
    state.most_together = std::max(state.most_together.load(), count);
    if (state.refusals > 0) {
        --state.refusals;
        return -EAGAIN;
    }
    if (state.take_at_most != 0) count = std::min(count, state.take_at_most.load());
    if (state.alignment != 0) {
        const auto* const end = controls + count;
        count = std::find_if(
                    controls, controls + count,
                    [&](const iocb* control) {
                        return (control->u.c.offset | static_cast<long long>(control->u.c.nbytes)) %
                                   state.alignment !=
                               0;
                    }) -
                controls;
        if (count == 0 && controls != end) return -EINVAL;
    }
    const long taken = ::syscall(SYS_io_submit, context, count, controls);
    return taken < 0 ? -errno : static_cast<int>(taken);
}
