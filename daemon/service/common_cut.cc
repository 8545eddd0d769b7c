// SPDX-License-Identifier: Apache-2.0
#include "service/common_cut.h"

#include <algorithm>
#include <utility>

#include "base/uuid_text.h"
#include "platform/event_loop.h"

namespace ebb::service {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Calls = ControllerAgents::Calls;
using Haste = ControllerAgents::Haste;
using Until = ControllerAgents::Until;

// A controller that ends, or an attempt that has failed, does not wait longer than this for
// sources to hear of it: they have their own patience.
constexpr milliseconds leave_patience{2'000};
// Until what a source takes alone is durable, so that another attempt does not find it busy.
constexpr milliseconds alone_patience{60'000};

// `what` is followed by the reason.
Error because(const std::string& what, const Error& why) {
    return refusal(
        "E_COMMON_CUT", what + ": " + why.message + " (" + std::string(why.name()) + ")",
        why.remedy.empty() ? "See what ebbctl and the log of ebbd there say" : why.remedy);
}

api::Json marked(const CutMember& member, std::uint64_t epoch) {
    return {{"protection", member.protection}, {"epoch", epoch}};
}

}  // namespace

CommonCut::CommonCut(ControllerAgents& agents, CutOrder order, ControllerAgents::GiveUp give_up,
                     Tell tell)
    : agents_(agents),
      order_(std::move(order)),
      give_up_(std::move(give_up)),
      tell_(std::move(tell)) {
    done_.point.cut = to_text(platform::SystemRandom().uuid());
    done_.point.kind = api::PointKind::app;  // until one is not
}

Result<CutDone> CommonCut::run() {
    begin();
    if (auto ok = lead(); !ok) {
        leave();
        return std::unexpected(ok.error());
    }
    if (auto ok = take_results(); !ok) return std::unexpected(ok.error());
    if (auto ok = mark(); !ok) return std::unexpected(ok.error());
    give_name();
    return std::move(done_);
}

Status CommonCut::cancelled() const {
    if (!give_up_ || !give_up_()) return {};
    return fail(ErrorCode::cancelled, "cancelled before the cut was common to all");
}

// The name comes when the points are common: those of an attempt that failed would keep it for
// ever.
void CommonCut::begin() {
    api::CheckpointArgs args;
    args.app = order_.app;
    const auto patience = order_.app ? order_.patience.prepared : order_.patience.ready;
    const auto longest = std::max(patience, order_.patience.ready) + 2 * order_.patience.exchange;
    args.common = api::CommonCutArgs{
        done_.point.cut, order_.gate_ms,
        std::min<std::uint64_t>(static_cast<std::uint64_t>(longest.count()), api::max_patience_ms)};
    for (const auto& member : order_.members) {
        args.protection = member.protection;
        checkpoints_.emplace_back(agents_, member.machine, api::command::source_checkpoint,
                                  api::encode(args));
    }
}

Status CommonCut::lead() {
    if (order_.app) {
        tell_("calling scripts", 10);
        if (auto ok = step(api::CutStep::prepared, order_.patience.prepared); !ok) return ok;
    }
    tell_("waiting until all are ready", 30);
    if (auto ok = step(api::CutStep::ready, order_.patience.ready); !ok) return ok;
    // Nothing is written here while writes are held there: the controller may be on such a disk.
    const auto gate = milliseconds(order_.gate_ms) + order_.patience.exchange;
    if (auto ok = step(api::CutStep::close, gate); !ok) return ok;
    done_.point.time_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                              std::chrono::system_clock::now().time_since_epoch())
                              .count();
    if (auto ok = step(api::CutStep::take, gate); !ok) return ok;
    return step(api::CutStep::open, gate);
}

// All of them, side by side; the first that fails ends it.
Status CommonCut::step(api::CutStep step, milliseconds patience) {
    Calls calls;
    for (const auto& member : order_.members) {
        calls.emplace_back(agents_, member.machine, api::command::source_cut,
                           api::encode(api::CutArgs{member.protection, done_.point.cut, step}),
                           Haste::brief);
    }
    // Once gates are opened, a point may be durable before all have said so.
    auto* beside = step == api::CutStep::open ? nullptr : &checkpoints_;
    agents_.wait(calls, patience, give_up_, Until::one_failed, beside);
    if (auto ok = cancelled(); !ok) return ok;
    // Why a source has given the cut up says more than that it knows of none any more.
    if (step != api::CutStep::open) {
        if (auto why = ended_alone()) return std::unexpected(std::move(*why));
    }
    for (std::size_t i = 0; i < calls.size(); ++i) {
        const auto* result = calls[i].result();
        if (result == nullptr || *result) continue;
        return std::unexpected(because(order_.members[i].machine + " has not come to the step " +
                                           std::string(api::enum_name(step)),
                                       result->error()));
    }
    return {};
}

// One whose checkpoint has ended before the cut was led to its end.
std::optional<Error> CommonCut::ended_alone() const {
    for (std::size_t i = 0; i < checkpoints_.size(); ++i) {
        const auto* result = checkpoints_[i].result();
        if (result == nullptr) continue;
        const auto& machine = order_.members[i].machine;
        if (!*result)
            return because(machine + " has not begun it, or given it up", result->error());
        auto value = api::decode<api::CheckpointValue>(**result);
        if (!value) return because(machine, value.error());
        if (value->alone) return because(machine + " went on alone", api::from_info(*value->alone));
        return refusal("E_COMMON_CUT", machine + " did not wait for the others",
                       "See whether its ebbd is of this version");
    }
    return std::nullopt;
}

void CommonCut::leave() {
    Calls calls;
    for (const auto& member : order_.members) {
        calls.emplace_back(
            agents_, member.machine, api::command::source_cut,
            api::encode(api::CutArgs{member.protection, done_.point.cut, api::CutStep::leave}),
            Haste::brief);
    }
    agents_.wait(calls, leave_patience);
    Calls under_way;
    for (std::size_t i = 0; i < calls.size(); ++i) {
        const auto& result = *calls[i].result();
        // E_NOT_FOUND: its gate is open already, so that there is nothing to leave.
        const bool heard = result || result.error().name() == code_name(ErrorCode::not_found);
        if (heard && checkpoints_[i].result() == nullptr)
            under_way.push_back(std::move(checkpoints_[i]));
    }
    checkpoints_.clear();
    agents_.wait(under_way, alone_patience, give_up_);
}

Status CommonCut::take_results() {
    tell_("waiting for the points to be durable on the targets", 60);
    agents_.wait(checkpoints_, order_.patience.durable, give_up_);
    if (auto ok = cancelled(); !ok) return ok;
    for (std::size_t i = 0; i < checkpoints_.size(); ++i) {
        const auto& result = *checkpoints_[i].result();
        const auto& member = order_.members[i];
        if (!result) {
            return std::unexpected(
                because("the point of " + member.machine + " was not made", result.error()));
        }
        auto value = api::decode<api::CheckpointValue>(*result);
        if (!value) return std::unexpected(because(member.machine, value.error()));
        if (auto ok = take_result(member, *value); !ok) return ok;
    }
    return {};
}

Status CommonCut::take_result(const CutMember& member, const api::CheckpointValue& value) {
    if (value.alone) {
        return std::unexpected(because("the point of " + member.machine + " is not of that moment",
                                       api::from_info(*value.alone)));
    }
    done_.point.epochs[member.machine] = value.epoch;
    done_.held_ms = std::max(done_.held_ms, (value.gate_ns + 999'999) / 1'000'000);
    if (value.kind != api::PointKind::app) done_.point.kind = api::PointKind::crash;
    if (value.degraded && !done_.degraded) {
        done_.degraded =
            because("the common point is there, but crash-consistent: " + member.machine,
                    api::from_info(*value.degraded));
    }
    if (value.post && !done_.after) {
        done_.after = api::from_info(*value.post);
        done_.after->message = member.machine + ": " + done_.after->message +
                               "; the common point is there, and application-consistent";
    }
    return {};
}

Status CommonCut::mark() {
    tell_("noting on the targets what they have in common", 90);
    Calls calls;
    for (const auto& member : order_.members) {
        auto args = marked(member, done_.point.epochs[member.machine]);
        args.update({{"cut", done_.point.cut}, {"time_ns", done_.point.time_ns}});
        calls.emplace_back(agents_, member.target, api::command::target_common, std::move(args));
    }
    agents_.wait(calls, order_.patience.mark, give_up_);
    if (auto ok = cancelled(); !ok) return ok;
    for (std::size_t i = 0; i < calls.size(); ++i) {
        const auto& result = *calls[i].result();
        if (result) continue;
        const auto& member = order_.members[i];
        return std::unexpected(because(member.target + " has not noted that the point of " +
                                           member.machine + " is common to all",
                                       result.error()));
    }
    return {};
}

void CommonCut::give_name() {
    if (order_.name.empty()) return;
    Calls calls;
    for (const auto& member : order_.members) {
        auto args = marked(member, done_.point.epochs[member.machine]);
        args["name"] = order_.name;
        calls.emplace_back(agents_, member.target, api::command::target_name, std::move(args));
    }
    agents_.wait(calls, order_.patience.mark, give_up_);
    for (std::size_t i = 0; i < calls.size(); ++i) {
        const auto& result = *calls[i].result();
        if (result) continue;
        const auto& member = order_.members[i];
        if (done_.after) return;
        done_.after = because(
            "the common point is there, but that of " + member.machine + " has not got the name",
            result.error());
        return;
    }
    done_.point.name = order_.name;
}

}  // namespace ebb::service
