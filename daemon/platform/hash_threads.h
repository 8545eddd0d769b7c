// SPDX-License-Identifier: Apache-2.0
// env::Hasher on threads of its own: half of the machine's CPUs, at most 4, so that it can go on
// with what it is there for.
#pragma once

#include "env/hasher.h"
#include "platform/event_loop.h"
#include "platform/worker.h"

namespace ebb::platform {

class HashThreads final : public env::Hasher {
public:
    explicit HashThreads(EventLoop& loop);
    void sha256(std::span<const std::byte> data, env::Callback<Digest> done) override;

private:
    Worker worker_;
};

}  // namespace ebb::platform
