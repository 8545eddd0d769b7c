// SPDX-License-Identifier: Apache-2.0
// The instant of a cut, and who stands still around it: applications of this machine, and the
// writes of several machines for a cut that they have in common
// (docs/decisions/0409-common-points-of-several-machines.md).
#include "core/source_impl.h"

namespace ebb::core {

namespace {

constexpr unsigned quiesces = 3;  // for one request, whose cut turns out void each time
// Until what the last gate held is on its way.
constexpr Duration gate_retry = std::chrono::milliseconds(5);
constexpr unsigned gate_tries = 200;

Error given_up() {
    return {ErrorCode::stale, "the common cut had to be given up on this machine", {}, {}};
}

}  // namespace

Task<Status> Source::Impl::quiesce(Request* request) {
    if (request->quiesced >= quiesces) {
        co_return fail(ErrorCode::stale, "the cut had to be given up each time",
                       "Try again when the machine is less busy");
    }
    ++request->quiesced;
    Op<void> ready;
    quiescing_ = true;
    request->what.quiesce->before(ready.callback());
    auto status = co_await ready;
    quiescing_ = false;
    co_return status;
}

Task<Result<env::PassInfo>> Source::Impl::begin_at_tracker(env::PassKind kind, bool whole,
                                                           std::optional<env::GateId> gate) {
    if (stopping_) co_return fail(ErrorCode::cancelled, "stopped");
    Op<env::PassInfo> begun;
    tracker_.begin_pass(kind, whole, gate, begun.callback());
    auto info = co_await begun;
    co_return info;
}

Task<Result<env::PassInfo>> Source::Impl::take_cut(env::PassKind kind, bool whole,
                                                   Request* request) {
    const bool rests = request != nullptr && request->what.quiesce;
    Status still;
    if (rests) still = co_await quiesce(request);
    // Whoever has met the others once has no common cut any more, if it was given up since.
    if (request != nullptr && request->met && !request->alone) request->alone = given_up();
    const bool meets = request != nullptr && request->what.common && !request->met;
    Result<env::PassInfo> info = fail(ErrorCode::cancelled, "stopped");
    if (meets) {
        info = co_await cut_with_others(whole, request);
    } else {
        info = co_await begin_at_tracker(kind, whole, std::nullopt);
    }
    if (!rests) co_return info;
    if (still) {
        Op<void> ended;
        request->what.quiesce->after(info.has_value(), ended.callback());
        still = co_await ended;
    }
    request->degraded.reset();
    if (!still) request->degraded = still.error();
    co_return info;
}

Task<Status> Source::Impl::reach(Request* request, CutStage stage) {
    Op<void> gone_on;
    quiescing_ = true;
    request->what.common->at(stage, gone_on.callback());
    auto status = co_await gone_on;
    quiescing_ = false;
    co_return status;
}

Task<Result<env::GateId>> Source::Impl::close_gate(Duration limit) {
    for (unsigned tries = 1;; ++tries) {
        Op<env::GateId> closed;
        tracker_.close_gate(limit, closed.callback());
        auto gate = co_await closed;
        const bool busy = !gate && gate.error().code == ErrorCode::busy;
        if (!busy || tries == gate_tries || stopping_) co_return gate;
        Op<void> later;
        clock_.schedule(gate_retry, [done = later.callback()]() mutable { done(Status{}); });
        (void)co_await later;
    }
}

// The gate is opened again whatever becomes of the rest. A pass that was begun behind one that
// had opened by itself is void.
Task<Result<env::PassInfo>> Source::Impl::cut_with_others(bool whole, Request* request) {
    auto& common = *request->what.common;
    request->met = true;
    std::optional<env::GateId> gate;
    Result<env::PassInfo> info = fail(ErrorCode::cancelled, "stopped");
    auto status = co_await reach(request, CutStage::ready);
    if (status) {
        auto closed = co_await close_gate(common.limit);
        if (closed) gate = *closed;
        if (!closed) status = std::unexpected(closed.error());
    }
    if (status) status = co_await reach(request, CutStage::closed);
    if (status) {
        info = co_await begin_at_tracker(env::PassKind::frozen, whole, gate);
        if (!info) status = std::unexpected(info.error());
    }
    if (status) status = co_await reach(request, CutStage::taken);
    if (gate) {
        Op<env::GateReport> opened;
        tracker_.open_gate(*gate, opened.callback());
        const auto report = co_await opened;
        if (report) request->gate = *report;
        if (status && !report) status = std::unexpected(report.error());
    }
    if (!status) request->alone = status.error();
    post([over = std::move(common.over), status]() mutable { over(std::move(status)); });
    if (!info) info = co_await begin_at_tracker(env::PassKind::frozen, whole, std::nullopt);
    co_return info;
}

}  // namespace ebb::core
