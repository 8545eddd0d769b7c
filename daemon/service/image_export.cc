// SPDX-License-Identifier: Apache-2.0
#include "service/image_export.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "api/json.h"
#include "platform/file_descriptor.h"
#include "platform/file_store.h"
#include "platform/system_error.h"

namespace ebb::service {

namespace {

constexpr std::uint64_t chunk_bytes = 1 << 20;

bool is_zero(std::span<const std::byte> data) {
    return std::ranges::all_of(data, [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

// One disk's copy. Used on the worker's thread, one call after the other.
struct ImageExport::File {
    std::string path;
    platform::FileDescriptor file;
    std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> digest{EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free};

    File() { EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr); }

    Status create(std::uint64_t size) {
        file = platform::FileDescriptor(
            ::open((path + ".partial").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
            return platform::system_fail(errno, "making " + path);
        return {};
    }

    Status write(std::uint64_t offset, std::span<const std::byte> data) {
        if (is_zero(data)) return {};
        EVP_DigestUpdate(digest.get(), &offset, sizeof(offset));
        EVP_DigestUpdate(digest.get(), data.data(), data.size());
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

    Result<std::string> close() {
        if (::fsync(file.get()) != 0) return platform::system_fail(errno, "syncing " + path);
        file.reset();
        unsigned char sum[EVP_MAX_MD_SIZE];
        unsigned size = 0;
        EVP_DigestFinal_ex(digest.get(), sum, &size);
        std::string hex;
        for (unsigned i = 0; i < size; ++i) {
            char two[3];
            std::snprintf(two, sizeof(two), "%02x", sum[i]);
            hex += two;
        }
        return hex;
    }
};

ImageExport::ImageExport(env::Tracker& tracker, platform::Worker& worker, std::string folder,
                         std::string protection, std::vector<core::SourceDisk> disks)
    : tracker_(tracker),
      worker_(worker),
      folder_(std::move(folder)),
      protection_(std::move(protection)),
      disks_(std::move(disks)),
      chunk_(chunk_bytes) {
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
    next();
}

void ImageExport::next() {
    if (disk_ == disks_.size()) return finish();
    const std::uint64_t length = std::min(chunk_bytes, disks_[disk_].size - offset_);
    tracker_.read(image_.pass, static_cast<DiskIndex>(disk_), offset_,
                  chunk_.span().first(static_cast<std::size_t>(length)),
                  [self = shared_from_this(), length](Status status) {
                      if (!status) return self->end(std::move(status));
                      self->write_chunk(length);
                  });
}

void ImageExport::write_chunk(std::uint64_t length) {
    worker_.submit<void>(
        [file = files_[disk_], first = offset_ == 0, size = disks_[disk_].size, offset = offset_,
         data = chunk_.span().first(static_cast<std::size_t>(length))]() -> Status {
            if (first) {
                if (auto ok = file->create(size); !ok) return ok;
            }
            return file->write(offset, data);
        },
        [self = shared_from_this(), length](Status status) {
            if (!status) return self->end(std::move(status));
            self->offset_ += length;
            if (self->offset_ == self->disks_[self->disk_].size) {
                ++self->disk_;
                self->offset_ = 0;
            }
            self->next();
        });
}

void ImageExport::finish() {
    worker_.submit<void>(
        [self = shared_from_this()]() -> Status {
            api::Json disks = api::Json::array();
            for (std::size_t i = 0; i < self->files_.size(); ++i) {
                auto sum = self->files_[i]->close();
                if (!sum) return std::unexpected(sum.error());
                const auto to = self->path(i);
                if (::rename((to + ".partial").c_str(), to.c_str()) != 0)
                    return platform::system_fail(errno, "renaming " + to);
                disks.push_back({{"index", i},
                                 {"stable_id", self->disks_[i].stable_id},
                                 {"size", self->disks_[i].size},
                                 {"file", to},
                                 {"sha256_of_data", *sum}});
            }
            const api::Json account{{"epoch", self->image_.epoch},
                                    {"cut_time_ns", self->image_.cut_time.ns},
                                    {"disks", disks}};
            return platform::replace_file(self->folder_ + "/" + self->protection_ + ".json",
                                          api::dump(account) + "\n", platform::private_mode);
        },
        [self = shared_from_this()](Status status) { self->end(std::move(status)); });
}

void ImageExport::end(Status status) {
    if (!status) {
        for (std::size_t i = 0; i < files_.size(); ++i) {
            files_[i]->file.reset();
            ::unlink((path(i) + ".partial").c_str());
            ::unlink(path(i).c_str());
        }
    }
    done_(std::move(status));
}

}  // namespace ebb::service
