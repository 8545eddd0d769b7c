// SPDX-License-Identifier: Apache-2.0
// Copies the image of a whole cut into files on the source: <folder>/<protection>-<index>.raw with
// holes where the disk is zero, and <folder>/<protection>.json. All or nothing: an older copy
// stays until the new one is complete. Several chunks are
// under way at once, since the cut is held for as long as it takes. On the loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "core/source.h"
#include "platform/worker.h"

namespace ebb::service {

class ImageExport : public std::enable_shared_from_this<ImageExport> {
public:
    ImageExport(env::Tracker& tracker, platform::Worker& worker, std::string folder,
                std::string protection, std::vector<core::SourceDisk> disks);
    // `done` once everything is in place, or nothing.
    void start(core::CheckpointRequest::Image image, env::StatusCallback done);

private:
    struct File;
    void next(const std::shared_ptr<Buffer>& buffer);
    void write_chunk(const std::shared_ptr<Buffer>& buffer, std::size_t disk, std::uint64_t offset,
                     std::span<const std::byte> part);
    void came_back(const std::shared_ptr<Buffer>& buffer, Status status);
    void finish();
    void end(Status status);
    [[nodiscard]] std::string path(std::size_t disk) const;

    env::Tracker& tracker_;
    platform::Worker& worker_;
    const std::string folder_, protection_;
    const std::vector<core::SourceDisk> disks_;
    core::CheckpointRequest::Image image_;
    env::StatusCallback done_;
    std::vector<std::shared_ptr<File>> files_;
    std::size_t disk_ = 0;  // of the next chunk
    std::uint64_t offset_ = 0;
    std::size_t under_way_ = 0;
    Status status_;
};

}  // namespace ebb::service
