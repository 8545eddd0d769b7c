// SPDX-License-Identifier: Apache-2.0
// Direct I/O for the tests: aligned memory and batches of requests through libaio.
#pragma once

#include <libaio.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

namespace ebb::kmodtest {

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
using Aligned = std::unique_ptr<std::byte[], Free>;

[[nodiscard]] inline Aligned aligned(std::size_t bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 4096, bytes ? bytes : 4096) != 0) std::abort();
    return Aligned(static_cast<std::byte*>(memory));
}

struct Piece {
    int fd = -1;
    std::byte* data = nullptr;
    std::size_t length = 0;
    std::uint64_t offset = 0;
    long result = 0;  // bytes, or a negative errno
};

// One io_submit for up to `depth` pieces at a time; returns when all of them are done.
class AioBatch {
public:
    explicit AioBatch(unsigned depth) : depth_(depth) {
        if (io_setup(static_cast<int>(depth), &context_) != 0) std::abort();
    }
    ~AioBatch() { io_destroy(context_); }
    AioBatch(const AioBatch&) = delete;
    AioBatch& operator=(const AioBatch&) = delete;

    // False if any piece failed or was short; each piece has its own result.
    [[nodiscard]] bool run(std::vector<Piece>& pieces, bool write) {
        bool good = true;
        for (std::size_t first = 0; first < pieces.size(); first += depth_) {
            std::size_t count = std::min<std::size_t>(depth_, pieces.size() - first);
            good &= run_some(&pieces[first], count, write);
        }
        return good;
    }

private:
    bool run_some(Piece* pieces, std::size_t count, bool write) {
        std::vector<iocb> blocks(count);
        std::vector<iocb*> pointers(count);
        for (std::size_t i = 0; i < count; ++i) {
            auto& p = pieces[i];
            auto offset = static_cast<long long>(p.offset);
            if (write) io_prep_pwrite(&blocks[i], p.fd, p.data, p.length, offset);
            if (!write) io_prep_pread(&blocks[i], p.fd, p.data, p.length, offset);
            blocks[i].data = &p;
            pointers[i] = &blocks[i];
        }
        std::size_t sent = 0, done = 0;
        bool good = true;
        while (sent < count) {
            int n = io_submit(context_, static_cast<long>(count - sent), &pointers[sent]);
            if (n <= 0) {
                pieces[sent].result = n ? n : -5;
                good = false;
                ++sent;
                ++done;
                continue;
            }
            sent += static_cast<std::size_t>(n);
        }
        std::vector<io_event> events(count);
        while (done < count) {
            int n =
                io_getevents(context_, 1, static_cast<long>(count - done), events.data(), nullptr);
            for (int i = 0; i < n; ++i) {
                auto* p = static_cast<Piece*>(events[static_cast<std::size_t>(i)].data);
                p->result = static_cast<long>(events[static_cast<std::size_t>(i)].res);
                good &= p->result == static_cast<long>(p->length);
            }
            if (n > 0) done += static_cast<std::size_t>(n);
        }
        return good;
    }

    unsigned depth_;
    io_context_t context_ = nullptr;
};

}  // namespace ebb::kmodtest
