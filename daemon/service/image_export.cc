// SPDX-License-Identifier: Apache-2.0
#include "service/image_export.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "api/json.h"
#include "format/digest.h"
#include "platform/file_descriptor.h"
#include "platform/file_store.h"
#include "platform/system_error.h"

namespace ebb::service {

namespace {

constexpr std::uint64_t chunk_bytes = 1 << 20;
constexpr std::size_t chunks_under_way = 8;

}  // namespace

// One disk's copy. Used on the worker's thread, one call after the other.
struct ImageExport::File {
    std::string path;
    platform::FileDescriptor file;
    bool in_place = false;

    // A file of its own, never what a link of that name leads to.
    Status create(std::uint64_t size) {
        ::unlink((path + ".partial").c_str());
        file = platform::FileDescriptor(
            ::open((path + ".partial").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
            return platform::system_fail(errno, "making " + path);
        return {};
    }

    Status write(std::uint64_t offset, std::span<const std::byte> data) {
        if (format::all_zero(data)) return {};
        while (!data.empty()) {
            const auto n =
                ::pwrite(file.get(), data.data(), data.size(), static_cast<off_t>(offset));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) return platform::system_fail(errno, "writing " + path);
            offset += static_cast<std::uint64_t>(n);
            data = data.subspan(static_cast<std::size_t>(n));
        }
        return {};
    }

    Status sync() {
        if (::fsync(file.get()) != 0) return platform::system_fail(errno, "syncing " + path);
        file.reset();
        return {};
    }

    Status put_in_place() {
        if (::rename((path + ".partial").c_str(), path.c_str()) != 0)
            return platform::system_fail(errno, "renaming " + path);
        in_place = true;
        return {};
    }
};

ImageExport::ImageExport(env::Tracker& tracker, platform::Worker& worker, std::string folder,
                         std::string protection, std::vector<core::SourceDisk> disks)
    : tracker_(tracker),
      worker_(worker),
      folder_(std::move(folder)),
      protection_(std::move(protection)),
      disks_(std::move(disks)) {
    for (std::size_t i = 0; i < disks_.size(); ++i) {
        files_.push_back(std::make_shared<File>());
        files_.back()->path = path(i);
    }
}

std::string ImageExport::path(std::size_t disk) const {
    return folder_ + "/" + protection_ + "-" + std::to_string(disk) + ".raw";
}

void ImageExport::start(core::CheckpointRequest::Image image, env::StatusCallback done) {
    image_ = image;
    done_ = std::move(done);
    worker_.submit<void>(
        [self = shared_from_this()]() -> Status {
            for (std::size_t i = 0; i < self->files_.size(); ++i) {
                if (auto ok = self->files_[i]->create(self->disks_[i].size); !ok) return ok;
            }
            return {};
        },
        [self = shared_from_this()](Status status) {
            if (!status) return self->end(std::move(status));
            for (std::size_t i = 0; i < chunks_under_way; ++i)
                self->next(std::make_shared<Buffer>(chunk_bytes));
        });
}

// The next chunk goes through `buffer`; the last one that comes back ends it all.
void ImageExport::next(const std::shared_ptr<Buffer>& buffer) {
    if (!status_ || disk_ == disks_.size()) {
        if (under_way_ > 0) return;
        return status_ ? finish() : end(status_);
    }
    const auto disk = disk_;
    const auto offset = offset_;
    const std::uint64_t length = std::min(chunk_bytes, disks_[disk].size - offset);
    offset_ += length;
    if (offset_ == disks_[disk].size) {
        ++disk_;
        offset_ = 0;
    }
    ++under_way_;
    const auto part = buffer->span().first(static_cast<std::size_t>(length));
    tracker_.read(image_.pass, static_cast<DiskIndex>(disk), offset, part,
                  [self = shared_from_this(), buffer, disk, offset, part](Status status) {
                      if (!status) return self->came_back(buffer, std::move(status));
                      self->write_chunk(buffer, disk, offset, part);
                  });
}

void ImageExport::write_chunk(const std::shared_ptr<Buffer>& buffer, std::size_t disk,
                              std::uint64_t offset, std::span<const std::byte> part) {
    worker_.submit<void>(
        [file = files_[disk], offset, part]() -> Status { return file->write(offset, part); },
        [self = shared_from_this(), buffer](Status status) {
            self->came_back(buffer, std::move(status));
        });
}

void ImageExport::came_back(const std::shared_ptr<Buffer>& buffer, Status status) {
    --under_way_;
    if (!status && status_) status_ = std::move(status);
    next(buffer);
}

void ImageExport::finish() {
    worker_.submit<void>(
        [self = shared_from_this()]() -> Status {
            for (const auto& file : self->files_) {
                if (auto ok = file->sync(); !ok) return ok;
            }
            // Without its account an older copy is none: what follows may end in the middle.
            const auto account_path = self->folder_ + "/" + self->protection_ + ".json";
            if (auto ok = platform::remove_file(account_path); !ok) return ok;
            api::Json disks = api::Json::array();
            for (std::size_t i = 0; i < self->files_.size(); ++i) {
                if (auto ok = self->files_[i]->put_in_place(); !ok) return ok;
                disks.push_back({{"index", i},
                                 {"stable_id", self->disks_[i].stable_id},
                                 {"size", self->disks_[i].size},
                                 {"file", self->path(i)}});
            }
            const api::Json account{{"epoch", self->image_.epoch},
                                    {"cut_time_ns", self->image_.cut_time.ns},
                                    {"disks", disks}};
            return platform::replace_file(account_path, api::dump(account) + "\n",
                                          platform::private_mode);
        },
        [self = shared_from_this()](Status status) { self->end(std::move(status)); });
}

void ImageExport::end(Status status) {
    if (!status) {
        for (std::size_t i = 0; i < files_.size(); ++i) {
            files_[i]->file.reset();
            ::unlink((path(i) + ".partial").c_str());
            if (files_[i]->in_place) ::unlink(path(i).c_str());
        }
    }
    done_(std::move(status));
}

}  // namespace ebb::service
