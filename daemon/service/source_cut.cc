// SPDX-License-Identifier: Apache-2.0
// The source's part in a cut that several machines have in common; the controller leads it.
#include "platform/write_gate.h"
#include "service/command_args.h"
#include "service/source_role.h"

namespace ebb::service {

namespace {

core::MeetingPoint point_of(api::CutStep step) {
    switch (step) {
        case api::CutStep::prepared: return core::MeetingPoint::prepared;
        case api::CutStep::ready: return core::MeetingPoint::ready;
        case api::CutStep::close: return core::MeetingPoint::closed;
        case api::CutStep::take: return core::MeetingPoint::taken;
        case api::CutStep::open: return core::MeetingPoint::opened;
        case api::CutStep::leave: break;
    }
    return core::MeetingPoint::none;
}

// The daemon's own writes might be held by the gate that only it opens.
void hold_writes(bool held) {
    auto& gate = platform::WriteGate::of_this_process();
    if (held)
        gate.close();
    else
        gate.open();
}

}  // namespace

env::Callback<api::Json> SourceRole::meet(const api::CommonCutArgs& args, const Shared& protection,
                                          core::CheckpointRequest& request,
                                          env::Callback<api::Json> done) {
    const core::Rendezvous::Terms terms{std::chrono::milliseconds(args.patience_ms),
                                        std::chrono::milliseconds(args.gate_ms)};
    auto rendezvous = std::make_shared<core::Rendezvous>(clock_, terms, hold_writes);
    request.common = rendezvous->request();
    protection->cut = args.cut;
    protection->rendezvous = rendezvous;
    return [protection, done = std::move(done)](Result<api::Json> value) mutable {
        leave(*protection,
              value ? Error{ErrorCode::stale, "the cut is over", {}, {}} : value.error());
        done(std::move(value));
    };
}

void SourceRole::leave(Protection& protection, const Error& why) {
    if (const auto rendezvous = std::exchange(protection.rendezvous, nullptr))
        rendezvous->leave(why);
    protection.cut.clear();
}

void SourceRole::cut(const api::CutArgs& args, env::Callback<api::Json> done) {
    auto found = find(args.protection);
    if (!found) return done(std::unexpected(found.error()));
    const auto rendezvous = (*found)->rendezvous;
    if (!rendezvous || (*found)->cut != args.cut) {
        return done(fail(ErrorCode::not_found, "no such common cut goes on here",
                         "It is made again by itself, or: ebbctl checkpoint --group"));
    }
    if (args.step != api::CutStep::leave)
        return rendezvous->step(point_of(args.step), plain(std::move(done)));
    rendezvous->leave({ErrorCode::cancelled, "another machine could not take part", {}, {}});
    done(api::Json::object());
}

}  // namespace ebb::service
