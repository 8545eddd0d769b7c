// SPDX-License-Identifier: Apache-2.0
// A lane of writes: issues its operations in turn, some without waiting, and tells the model when
// each was issued and when it was done.
#pragma once

#include <libaio.h>
#include <liburing.h>

#include <atomic>
#include <memory>
#include <unordered_map>
#include <vector>

#include "lib/direct.h"
#include "model/machine.h"
#include "model/model.h"
#include "model/verdict.h"

namespace ebb::kmodmodel {

class Writer {
public:
    Writer(const Machine& machine, Model& model, Verdict& verdict, std::uint64_t run);
    ~Writer();
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    // Again and again until `stop`, at least once; nothing is in flight afterwards.
    void run(const std::vector<Operation>& operations, const std::atomic<bool>& stop);

private:
    struct Pending {
        Code write = 0;
        const Operation* operation = nullptr;
        kmodtest::Aligned memory;
        iocb control = {};
    };

    using InFlight = std::unordered_map<const void*, std::unique_ptr<Pending>>;
    struct Ring {
        io_uring ring = {};
        InFlight writes;
    };

    void step(const Operation& operation);
    [[nodiscard]] Pending begin(const Operation& operation);
    void finish(const Pending& pending, long result);
    void issue_aio(Pending pending);
    void issue_uring(Ring& ring, Pending pending);
    void reap(bool all);
    void reap_aio(bool wait);
    void reap_uring(Ring& ring, bool wait);
    void reap_ring(Ring& ring, bool all);
    [[nodiscard]] int buffered(std::uint32_t path);
    [[nodiscard]] long write_now(const Pending& pending);
    [[nodiscard]] std::uint64_t bytes(const Operation& operation) const;

    const Machine& machine_;
    Model& model_;
    Verdict& verdict_;
    std::uint64_t run_;
    Ring uring_, polled_;
    io_context_t context_ = nullptr;
    InFlight aio_;
    std::unordered_map<std::uint32_t, int> buffered_;  // files by path
};

}  // namespace ebb::kmodmodel
