// SPDX-License-Identifier: Apache-2.0
// Puts extents on the replica's disks, never before what they overwrite is safe in the journal,
// and takes the open epoch back.
#pragma once

#include <memory>
#include <vector>

#include "base/buffer.h"
#include "core/journal.h"
#include "core/task.h"
#include "env/disk.h"
#include "format/message.h"

namespace ebb::core {

struct Received {
    format::ExtentHead head;
    std::shared_ptr<Buffer> content;  // of data extents
};

class Applier {
public:
    struct Limits {
        std::uint64_t slice_bytes = 16ULL << 20;
        std::size_t depth = 32;
        std::uint64_t reserve_bytes = 0;
        int compression = 1;  // of undo, level of zstd; 0: none
    };

    Applier(std::vector<env::Disk*> disks, env::Volume& volume, Journal& journal, Limits limits)
        : disks_(std::move(disks)), volume_(volume), journal_(journal), limits_(limits) {}

    // Writes, and does not flush. Extents of one call do not overlap. After E_NO_SPACE (of the
    // volume) it can be called again with the same.
    [[nodiscard]] Task<Status> apply(const std::vector<Received>& extents);
    [[nodiscard]] Task<Status> flush(std::string_view site);
    // Writes the open epoch's undo back and flushes; says how many bytes. May be repeated.
    [[nodiscard]] Task<Result<std::uint64_t>> roll_back();

private:
    struct Old {  // a part of an extent whose content is not in the journal yet
        std::size_t extent = 0;
        std::uint64_t offset = 0;
        std::shared_ptr<Buffer> content;
    };
    [[nodiscard]] Task<Status> apply_slice(const std::vector<Received>& extents, std::size_t begin,
                                           std::size_t end);
    [[nodiscard]] Task<Status> save_old(const std::vector<Received>& extents, std::size_t begin,
                                        std::size_t end, std::vector<bool>& same);
    [[nodiscard]] Task<Result<std::uint64_t>> put_back(UndoReader reader);
    [[nodiscard]] Task<Status> write(const std::vector<Received>& extents, std::size_t begin,
                                     std::size_t end, const std::vector<bool>& same);

    std::vector<env::Disk*> disks_;
    env::Volume& volume_;
    Journal& journal_;
    Limits limits_;
};

}  // namespace ebb::core
