// SPDX-License-Identifier: Apache-2.0
// replica_point [--epoch N] RETENTION DISK...: takes a copy of a replica (images of its disks, in
// order of index, and its folder of the retention volume) to its newest point, as a failover would,
// or to another, and prints that point, and all there are, as JSON.
#include <iostream>
#include <optional>

#include "core/target.h"
#include "platform/aio_disk.h"
#include "platform/cpu_threads.h"
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

struct Done {
    core::FailoverResult result;
    std::vector<core::Point> points;
};

// `epoch`: 0 for the newest.
Result<Done> take_back(platform::EventLoop& loop, const std::string& folder,
                       const std::vector<std::string>& images, std::uint64_t epoch) {
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
    platform::CpuThreads cpus(loop);
    core::Target target(config, pointers, **volume, clock, cpus);
    Answer<void> opened;
    target.open(opened.callback());
    if (auto ok = opened.wait(loop); !ok) return std::unexpected(ok.error());
    Answer<core::FailoverResult> failed_over;
    target.failover(last_session, failed_over.callback());
    auto result = failed_over.wait(loop);
    if (result && epoch != 0) {
        Answer<core::FailoverResult> moved;
        target.change_point(epoch, moved.callback());
        result = moved.wait(loop);
    }
    const auto points = target.points();
    Answer<void> closed;
    target.close(closed.callback());
    if (auto ok = closed.wait(loop); !ok) return std::unexpected(ok.error());
    if (!result) return std::unexpected(result.error());
    return Done{*result, points};
}

void print(const core::Point& point) {
    std::cout << "\"epoch\":" << point.epoch << ",\"cut_time_ns\":" << point.cut_time.ns;
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    std::uint64_t epoch = 0;
    if (words.size() > 2 && words[0] == "--epoch") {
        epoch = std::stoull(words[1]);
        words.erase(words.begin(), words.begin() + 2);
    }
    if (words.size() < 2) return 2;
    platform::EventLoop loop;
    const auto done = take_back(loop, words[0], {words.begin() + 1, words.end()}, epoch);
    if (!done) return failed(done.error());
    std::cout << "{";
    print(done->result.point);
    std::cout << ",\"rolled_back_bytes\":" << done->result.rolled_back_bytes << ",\"points\":[";
    for (const core::Point& point : done->points) {
        std::cout << (point.epoch == done->points.front().epoch ? "{" : ",{");
        print(point);
        std::cout << "}";
    }
    std::cout << "]}\n";
    return 0;
}
