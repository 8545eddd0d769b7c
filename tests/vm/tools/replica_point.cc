// SPDX-License-Identifier: Apache-2.0
// replica_point RETENTION DISK...: takes a copy of a replica (images of its disks, in order of
// index, and its folder of the retention volume) to its newest point, as a failover would, and
// prints that point as JSON.
#include <iostream>
#include <optional>

#include "core/target.h"
#include "platform/aio_disk.h"
#include "platform/directory_volume.h"

namespace {

using namespace ebb;

constexpr Duration patience = std::chrono::seconds(120);
constexpr std::uint64_t last_session = 1ULL << 62;

int failed(const Error& error) {
    std::cerr << error.name() << ": " << error.message << "\n";
    return 1;
}

// Waits for one answer of the core.
template <class T>
class Answer {
public:
    env::Callback<T> callback() {
        return [this](Result<T> result) { result_ = std::move(result); };
    }
    Result<T> wait(platform::EventLoop& loop) {
        if (!loop.run_until([this] { return result_.has_value(); }, patience))
            return fail(ErrorCode::timeout, "no answer");
        return std::move(*result_);
    }

private:
    std::optional<Result<T>> result_;
};

Result<core::FailoverResult> take_back(platform::EventLoop& loop, const std::string& folder,
                                       const std::vector<std::string>& images) {
    platform::LoopClock clock(loop);
    auto volume = platform::DirectoryVolume::open(loop, folder);
    if (!volume) return std::unexpected(volume.error());
    Answer<core::Ownership> asked;
    core::Target::read_ownership(**volume, asked.callback());
    auto owner = asked.wait(loop);
    if (!owner) return std::unexpected(owner.error());
    std::vector<std::unique_ptr<platform::AioDisk>> disks;
    std::vector<env::Disk*> pointers;
    for (const auto& image : images) {
        auto disk = platform::AioDisk::open(loop, {.path = image});
        if (!disk) return std::unexpected(disk.error());
        pointers.push_back(disk->get());
        disks.push_back(std::move(*disk));
    }
    core::TargetConfig config;
    config.protection = owner->protection;
    config.disks = owner->disks;
    core::Target target(config, pointers, **volume, clock);
    Answer<void> opened;
    target.open(opened.callback());
    if (auto ok = opened.wait(loop); !ok) return std::unexpected(ok.error());
    Answer<core::FailoverResult> failed_over;
    target.failover(last_session, failed_over.callback());
    auto result = failed_over.wait(loop);
    Answer<void> closed;
    target.close(closed.callback());
    if (auto ok = closed.wait(loop); !ok) return std::unexpected(ok.error());
    return result;
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() < 2) return 2;
    platform::EventLoop loop;
    const auto result = take_back(loop, words[0], {words.begin() + 1, words.end()});
    if (!result) return failed(result.error());
    std::cout << "{\"epoch\":" << result->point.epoch
              << ",\"cut_time_ns\":" << result->point.cut_time.ns
              << ",\"rolled_back_bytes\":" << result->rolled_back_bytes << "}\n";
    return 0;
}
