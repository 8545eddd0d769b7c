// SPDX-License-Identifier: Apache-2.0
// Which blocks may be in the map of a pass, and no others: those that were written or marked since
// the last one, and those that came back. A module that sent everything always would be safe, and
// useless.
#pragma once

#include <cstdint>
#include <vector>

#include "model/ledger.h"

namespace ebb::kmodmodel {

class Bound {
public:
    explicit Bound(const std::vector<std::uint64_t>& sectors);

    // Attached: nothing is marked by what was done before the ticket.
    void attach(std::uint32_t disk, std::uint64_t ticket);
    void mark(std::uint32_t disk, std::uint64_t first, std::uint64_t count);  // blocks
    void mark(std::uint32_t disk, const Blocks& blocks);

    // Writes not done by then may have marks that no pass has taken.
    [[nodiscard]] std::uint64_t since(std::uint32_t disk) const { return disks_[disk].since; }
    // A cut was granted. `written`, here and below: blocks of writes not done at since().
    void begin(const Maps& written, Cut cut, bool whole);
    // It ended: what it had and should not have had.
    [[nodiscard]] Faults end(const Maps& seen);
    void come_back();
    void confirm();
    void abandon();

    [[nodiscard]] Blocks all(std::uint32_t disk, const Blocks& written) const;

private:
    struct Disk {
        Blocks current;  // besides those of writes
        Blocks pass;
        Blocks unconfirmed;
        std::uint64_t since = 0;
    };
    std::vector<Disk> disks_;
};

}  // namespace ebb::kmodmodel
