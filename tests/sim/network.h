// SPDX-License-Identifier: Apache-2.0
// A link between the two machines. It may, at any moment: break, with or without a word to either
// end, and lose what is under way then, or let what was sent before still arrive, even after the
// next connection has been made; refuse connections; be slow to one end; damage content of extents,
// where TLS would not have been; bring a frame twice, or after the one that was sent behind it. It
// never invents a frame, nor changes anything but the content of one.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "env/net.h"
#include "storage.h"

namespace ebb::sim {

class Network;

// What happens to the next frame that is sent.
enum class Disorder { none, twice, swapped };

class End : public env::Connection, public std::enable_shared_from_this<End> {
public:
    End(Executor& executor, Faults& faults) : executor_(executor), faults_(faults) {}
    std::string peer() const override { return "peer"; }
    void send(env::Frame frame) override;
    std::size_t unsent() const override { return 0; }
    void on_drained(std::move_only_function<void()>) override {}
    void start(std::move_only_function<void(env::Frame)> frame,
               std::move_only_function<void(Error)> closed) override;
    void pause() override { paused_ = true; }
    void resume() override;
    // What was sent before still arrives, as far as the link goes.
    void close() override;
    // What is under way is lost, in both directions.
    void break_now();
    // Nothing arrives any more, in either direction, and nobody is told.
    void fall_silent();
    // The process at this end is gone.
    void die();

    unsigned corrupt_per_thousand = 0;
    Disorder next_frame = Disorder::none;

private:
    friend class Network;
    void transmit(env::Frame frame);
    void deliver(env::Frame frame);
    void ended();
    void look_at_answer(env::Frame& frame);
    void damage_content(env::Frame& frame);
    Executor& executor_;
    Faults& faults_;
    std::weak_ptr<End> other_;
    bool open_ = true;
    bool paused_ = false;
    bool silent_ = false;
    bool dials_ = false;       // the end that has made the connection
    bool superseded_ = false;  // another one was made since
    std::int64_t arrives_ = 0;
    std::int64_t held_until_ = 0;  // what arrives here
    std::deque<env::Frame> waiting_;
    std::optional<env::Frame> overtaken_;  // by the next one
    std::move_only_function<void(env::Frame)> on_frame_;
    std::move_only_function<void(Error)> on_closed_;
};

class Network {
public:
    Network(Executor& executor, Faults& faults) : executor_(executor), faults_(faults) {}
    // Null: nobody listens.
    [[nodiscard]] std::shared_ptr<End> connect();
    void break_all();
    // What is on its way to who listens arrives so much later, though in order.
    void stall(std::int64_t ns);
    // To the next frame that one of the open ends sends.
    void disorder(Disorder disorder);
    // Whoever has dialled ends it; what he sent still arrives.
    void hang_up();
    void fall_silent();
    bool up = true;
    unsigned corrupt_per_thousand = 0;
    std::function<void(std::shared_ptr<env::Connection>)> listener;

private:
    Executor& executor_;
    Faults& faults_;
    std::vector<std::weak_ptr<End>> ends_;
};

class SimConnector : public env::Connector {
public:
    SimConnector(Life& life, Network& network) : life_(life), network_(network) {}
    void connect(env::Callback<std::shared_ptr<env::Connection>> done) override {
        life_.at(5'000'000, [this, done = std::move(done)]() mutable {
            auto end = network_.connect();
            if (!end) return done(fail(ErrorCode::closed, "connection refused"));
            done(std::shared_ptr<env::Connection>(std::move(end)));
        });
    }

private:
    Life& life_;
    Network& network_;
};

}  // namespace ebb::sim
