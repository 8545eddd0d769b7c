// SPDX-License-Identifier: Apache-2.0
#include "replica_site.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>

#include "core/target.h"
#include "platform/aio_disk.h"
#include "platform/directory_volume.h"
#include "platform/pki.h"

namespace ebb::bench {

namespace fs = std::filesystem;

namespace {

constexpr Duration patience = std::chrono::minutes(30);
constexpr const char* source_name = "source";
constexpr const char* target_name = "target";

Uuid protection() {
    Uuid id;
    id.bytes.fill(std::byte{7});
    return id;
}

template <class T>
T must(Result<T> result) {
    if (!result) stop(result.error());
    return std::move(*result);
}

void make_identities(const fs::path& folder) {
    if (fs::exists(folder / "ca.pem")) return;
    const auto authority = must(platform::make_authority("bench"));
    for (const char* name : {source_name, target_name}) {
        const auto request = must(platform::make_request(name));
        const auto signed_one = must(platform::sign_request(authority, request.request, name));
        std::ofstream(folder / (std::string(name) + ".key")) << request.key;
        std::ofstream(folder / (std::string(name) + ".pem")) << signed_one.certificate_pem;
    }
    std::ofstream(folder / "ca.pem") << authority.certificate;
}

platform::TlsContext context(const std::string& folder, const std::string& name,
                             platform::TlsSide side) {
    return must(platform::make_tls_context(
        {folder + "/ca.pem", folder + "/" + name + ".pem", folder + "/" + name + ".key"}, side));
}

// As ebbd does for itself.
void keep_memory() {
    ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
    ::mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

Used used_of(const rusage& usage) {
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return {seconds(usage.ru_utime) + seconds(usage.ru_stime),
            static_cast<std::uint64_t>(usage.ru_maxrss)};
}

// Runs until `stop_pipe` ends; tells its port by the other.
[[noreturn]] void run_target(const std::string& folder, int port_pipe, int stop_pipe) {
    platform::EventLoop loop;
    platform::LoopClock clock(loop);
    core::TargetConfig config;
    config.protection = protection();
    config.session = 1;
    std::vector<std::unique_ptr<platform::AioDisk>> disks;
    std::vector<env::Disk*> plain;
    const auto sources = disk_files(folder, "source");
    for (std::size_t i = 0; i < sources.size(); ++i) {
        const std::string path = folder + "/replica-" + std::to_string(i) + ".raw";
        disks.push_back(must(platform::AioDisk::open(loop, {.path = path})));
        plain.push_back(disks.back().get());
        config.disks.push_back({sources[i], path, disks.back()->size()});
    }
    const auto volume = must(platform::DirectoryVolume::open(loop, folder + "/retention"));
    platform::CpuThreads cpus(loop);
    core::Target target(config, plain, *volume, clock, cpus);
    std::optional<Status> opened;
    target.open([&](Status status) { opened = std::move(status); });
    if (!loop.run_until([&] { return opened.has_value(); }, patience) || !*opened)
        stop(*opened ? Error{} : opened->error());
    const auto acceptor = must(platform::TlsAcceptor::open(
        loop, context(folder, target_name, platform::TlsSide::server), "127.0.0.1", 0,
        [&](std::shared_ptr<env::Connection> connection) { target.accept(connection); }));
    const std::uint16_t port = acceptor->port();
    if (::write(port_pipe, &port, sizeof port) != sizeof port) std::exit(1);
    boost::asio::posix::stream_descriptor ended(loop.context(), stop_pipe);
    ended.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                     [&](const auto&) { target.close([&](Status) { loop.stop(); }); });
    loop.run();
    std::_Exit(0);
}

}  // namespace

void stop(const Error& error) {
    std::cerr << error.name() << ": " << error.message << "\n";
    std::exit(1);
}

std::vector<std::string> disk_files(const std::string& folder, const std::string& name) {
    std::vector<std::string> paths;
    for (;;) {
        auto path = folder + "/" + name + "-" + std::to_string(paths.size()) + ".raw";
        if (!fs::exists(path)) return paths;
        paths.push_back(std::move(path));
    }
}

void make_file(const std::string& path, std::uint64_t bytes) {
    if (fs::exists(path)) return;
    std::ofstream(path).close();
    fs::resize_file(path, bytes);
}

Site::Site(SiteOptions options) : options_(std::move(options)) {
    keep_memory();
    make_identities(options_.folder);
    start_target();
    if (options_.link) link_ = std::make_unique<Link>(port_, *options_.link);
    start_source();
}

void Site::start_target() {
    int ports[2];
    int stops[2];
    if (::pipe2(ports, O_CLOEXEC) != 0 || ::pipe2(stops, O_CLOEXEC) != 0) std::exit(1);
    target_ = ::fork();
    if (target_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::close(stops[1]);
        run_target(options_.folder, ports[1], stops[0]);
    }
    ::close(ports[1]);
    ::close(stops[0]);
    stop_pipe_ = stops[1];
    if (::read(ports[0], &port_, sizeof port_) != sizeof port_) {
        std::cerr << "the target could not begin\n";
        std::exit(1);
    }
    ::close(ports[0]);
}

void Site::start_source() {
    loop_ = std::make_unique<platform::EventLoop>();
    clock_ = std::make_unique<platform::LoopClock>(*loop_);
    cpus_ = std::make_unique<platform::CpuThreads>(*loop_);
    options_.files.paths = disk_files(options_.folder, "source");
    tracker_ = std::make_unique<FileTracker>(*loop_, options_.files);
    connector_ = std::make_unique<platform::TlsConnector>(
        *loop_, context(options_.folder, source_name, platform::TlsSide::client), "127.0.0.1",
        link_ ? link_->port() : port_, target_name);
    core::SourceConfig& config = options_.source;
    config.protection = protection();
    config.session = 1;
    for (const auto& path : options_.files.paths)
        config.disks.push_back({path, fs::file_size(path)});
    source_ =
        std::make_unique<core::Source>(config, *tracker_, *connector_, *clock_, random_, *cpus_);
}

Site::~Site() {
    if (target_ > 0) (void)end();
}

void Site::until(const std::function<bool()>& condition) {
    const bool held = loop_->run_until(condition, patience);
    const auto status = source_->status();
    if (status.has_error) stop(status.error);
    if (!held) stop({ErrorCode::timeout, "no answer", {}, {}});
}

std::pair<std::uint64_t, std::uint64_t> Site::wire_bytes() {
    if (!link_) return {};
    const std::uint64_t there = link_->counts().there, back = link_->counts().back;
    return {there - std::exchange(there_, there), back - std::exchange(back_, back)};
}

void Site::checkpoint() {
    std::optional<Status> result;
    source_->checkpoint({}, [&](const Result<core::CheckpointResult>& value) {
        result = value ? Status{} : std::unexpected(value.error());
    });
    until([&] { return result.has_value(); });
    if (!*result) stop(result->error());
}

std::pair<Used, Used> Site::end() {
    std::optional<Status> stopped;
    source_->stop([&](Status status) { stopped = std::move(status); });
    until([&] { return stopped.has_value(); });
    link_.reset();  // its process has the pipe as well
    ::close(stop_pipe_);
    rusage theirs{};
    rusage ours{};
    ::wait4(std::exchange(target_, -1), nullptr, 0, &theirs);
    ::getrusage(RUSAGE_SELF, &ours);
    return {used_of(ours), used_of(theirs)};
}

}  // namespace ebb::bench
