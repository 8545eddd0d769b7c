// SPDX-License-Identifier: Apache-2.0
// Memory for closings that wait until they are whole, shared by the targets of one executor.
#pragma once

#include <cstdint>

namespace ebb::core {

class ClosingBudget {
public:
    explicit ClosingBudget(std::uint64_t bytes) : left_(bytes) {}
    ClosingBudget(const ClosingBudget&) = delete;
    ClosingBudget& operator=(const ClosingBudget&) = delete;

    [[nodiscard]] bool take(std::uint64_t bytes) {
        if (bytes > left_) return false;
        left_ -= bytes;
        return true;
    }
    void give_back(std::uint64_t bytes) { left_ += bytes; }
    [[nodiscard]] std::uint64_t left() const { return left_; }

private:
    std::uint64_t left_;
};

}  // namespace ebb::core
