// SPDX-License-Identifier: Apache-2.0
// Where a source waits for the other machines of a common cut, and its coordinator for it:
// docs/decisions/0409-common-points-of-several-machines.md. What comes late, twice or never ends
// the cut's being common, and nothing else.
//
// Threads: as env/env.h. Callbacks may run inside of the call that they are the answer to.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "core/source.h"
#include "env/env.h"

namespace ebb::core {

// In order.
enum class MeetingPoint {
    none,
    prepared,  // before anything stands still
    ready,
    closed,
    taken,
    opened,
};

class Rendezvous : public std::enable_shared_from_this<Rendezvous> {
public:
    struct Terms {
        Duration patience{0};  // of the source for the next step
        Duration gate{0};      // the same while writes are held
    };
    // `hold`: told true before writes of this machine are held, and false when they are not any
    // more. The clock must outlive it.
    Rendezvous(env::Clock& clock, Terms terms, std::move_only_function<void(bool)> hold);
    Rendezvous(const Rendezvous&) = delete;
    Rendezvous& operator=(const Rendezvous&) = delete;
    ~Rendezvous();

    // For the source's request; it keeps this object.
    [[nodiscard]] CheckpointRequest::Common request();
    // The source's scripts have been called: `go` on when those of all have.
    void prepared(env::StatusCallback go);
    // The coordinator's: has the source go on to this point, and answers when it is there.
    // E_BUSY: another step is awaited; E_STALE: from `closed` on, it has not been at the one
    // before.
    void step(MeetingPoint point, env::StatusCallback done);
    // The source goes on alone from where it waits, or will wait; whoever awaits a step is told.
    void leave(const Error& why);

private:
    void at(MeetingPoint point, env::StatusCallback go);
    void over(Status opened);
    void go_on();
    void watch();

    env::Clock& clock_;
    const Terms terms_;
    std::move_only_function<void(bool)> hold_;
    bool held_ = false;
    MeetingPoint reached_ = MeetingPoint::none;
    MeetingPoint wanted_ = MeetingPoint::none;  // by the coordinator
    env::StatusCallback go_;                    // the source's
    env::StatusCallback awaited_;               // the coordinator's
    std::optional<Error> left_;
    std::uint64_t wait_ = 0;  // of the source, the present one
};

}  // namespace ebb::core
