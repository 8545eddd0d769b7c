// SPDX-License-Identifier: Apache-2.0
// Memory for data on its way: aligned for direct I/O, owned by one holder, not initialised.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <span>
#include <utility>

#include "base/units.h"

namespace ebb {

class Buffer {
public:
    Buffer() = default;
    // Throws std::bad_alloc. Contents are indeterminate.
    explicit Buffer(std::size_t size) : size_(size) {
        if (size == 0) return;
        const std::size_t rounded =
            (size + direct_io_alignment - 1) / direct_io_alignment * direct_io_alignment;
        data_ = static_cast<std::byte*>(std::aligned_alloc(direct_io_alignment, rounded));
        if (data_ == nullptr) throw std::bad_alloc();
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    Buffer(Buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        if (this != &other) {
            std::free(data_);
            data_ = std::exchange(other.data_, nullptr);
            size_ = std::exchange(other.size_, 0);
        }
        return *this;
    }
    ~Buffer() { std::free(data_); }

    [[nodiscard]] std::byte* data() { return data_; }
    [[nodiscard]] const std::byte* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] std::span<std::byte> span() { return {data_, size_}; }
    [[nodiscard]] std::span<const std::byte> span() const { return {data_, size_}; }

private:
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace ebb
