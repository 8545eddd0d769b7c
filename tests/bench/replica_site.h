// SPDX-License-Identifier: Apache-2.0
// A source and a target as they are, core and platform, in two processes of this machine with a TLS
// connection between them, over a Link or straight. Disks are files of FOLDER: source-N.raw, and
// replica-N.raw at the target.
#pragma once

#include <sys/resource.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/source.h"
#include "file_tracker.h"
#include "link.h"
#include "platform/cpu_threads.h"
#include "platform/event_loop.h"
#include "platform/tls.h"

namespace ebb::bench {

[[noreturn]] void stop(const Error& error);
[[nodiscard]] std::vector<std::string> disk_files(const std::string& folder,
                                                  const std::string& name);
// Makes it, sparse, with so many bytes, if it is not there.
void make_file(const std::string& path, std::uint64_t bytes);

struct SiteOptions {
    std::string folder;
    // Of the link, in bytes/s; 0: as fast as it goes, and counted; none: no link.
    std::optional<std::uint64_t> link;
    core::SourceConfig source;  // what is not of the disks
    FileTracker::Files files;   // but for paths
};

// What a process has used.
struct Used {
    double seconds = 0;          // of CPU
    std::uint64_t peak_kib = 0;  // of memory
};

class Site {
public:
    explicit Site(SiteOptions options);
    Site(const Site&) = delete;
    Site& operator=(const Site&) = delete;
    ~Site();

    void start() { source_->start(); }
    // Stops the program when it takes half an hour, or the source says it cannot go on.
    void until(const std::function<bool()>& condition);
    // A point, now.
    void checkpoint();
    [[nodiscard]] core::SourceStatus status() const { return source_->status(); }
    // Since the last time it was asked, to the target and back.
    [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> wire_bytes();
    [[nodiscard]] FileTracker& tracker() { return *tracker_; }
    [[nodiscard]] platform::LoopClock& clock() { return *clock_; }
    // Ends both; of the source, of the target.
    std::pair<Used, Used> end();

private:
    void start_target();
    void start_source();

    SiteOptions options_;
    int stop_pipe_ = -1;
    pid_t target_ = -1;
    std::uint16_t port_ = 0;
    std::unique_ptr<Link> link_;
    std::uint64_t there_ = 0, back_ = 0;  // counted before
    std::unique_ptr<platform::EventLoop> loop_;
    std::unique_ptr<platform::LoopClock> clock_;
    platform::SystemRandom random_;
    std::unique_ptr<platform::CpuThreads> cpus_;
    std::unique_ptr<FileTracker> tracker_;
    std::unique_ptr<platform::TlsConnector> connector_;
    std::unique_ptr<core::Source> source_;
};

}  // namespace ebb::bench
