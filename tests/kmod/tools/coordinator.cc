// SPDX-License-Identifier: Apache-2.0
// coordinator: common cuts of several groups of disks, which stand for as many machines.
//
//   --disk GROUP:ID@FIRST+COUNT ...  region in blocks of a disk, in the order of their numbers in
//                    stamps
//   --cuts N         ends after so many common cuts; --tries N at most so many (default 4 N)
//   --deadline-ms N  of the gates
//   --skew-us N      pause before each message to the next machine
//   --hold-us N      pause between the last cut and the opening
//   --no-gate        cuts one group after the other, as if that were enough
//   --log F --tickets F   what each common cut holds, for stampcheck
//
// A cut is common if every gate answered that it is closed, then every group was cut behind its
// gate, then every gate was still there to be opened. Between the first two of these is the moment
// that is cut: that is what the log says was asked for and granted. Prints "common" or "refused
// WHY" for each, and an account at the end; exit status 0 when all cuts that were asked for are
// there.
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>

#include "lib/client.h"
#include "lib/direct.h"
#include "lib/options.h"
#include "lib/stamp.h"
#include "lib/text.h"

namespace ebb::kmodtest {
namespace {

struct Region {
    std::uint32_t disk = 0;
    std::uint32_t index = 0;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    int image = -1;
};

// A machine: its own socket, as its daemon would have.
struct Machine {
    std::uint32_t group = 0;
    Client client;
    std::vector<Region> regions;
    std::uint64_t gate = 0;
    std::uint64_t pass = 0;
};

class Coordinator {
public:
    explicit Coordinator(const Options& options)
        : options_(options), gated_(!options.has("no-gate")) {}

    int run();

private:
    bool open_region(const std::string& spec);
    Machine& machine_of(std::uint32_t group);
    int call(Machine& machine, const Request& request, Reply& reply);
    int close_gates();
    int begin_passes();
    int open_gates();
    int read_machine(Machine& machine, std::vector<Aligned>& content);
    int release(Machine& machine);
    int wait_ready(Machine& machine);
    int cut();
    void give_up();
    void log(LogKind kind);
    void account(std::uint64_t wanted) const;

    const Options& options_;
    bool gated_;
    const char* step_ = "";
    std::vector<std::unique_ptr<Machine>> machines_;
    Tickets tickets_;
    LogFile log_;
    std::uint32_t disks_ = 0;
    std::uint64_t number_ = 0, common_ = 0, held_ = 0, gate_ns_max_ = 0;
    std::map<std::string, std::uint64_t> refused_;
};

Machine& Coordinator::machine_of(std::uint32_t group) {
    for (auto& machine : machines_)
        if (machine->group == group) return *machine;
    machines_.push_back(std::make_unique<Machine>());
    machines_.back()->group = group;
    return *machines_.back();
}

bool Coordinator::open_region(const std::string& spec) {
    Machine& machine =
        machine_of(static_cast<std::uint32_t>(std::strtoul(spec.c_str(), nullptr, 0)));
    if (machine.regions.empty() && machine.client.open() != 0) return false;
    Region region;
    region.index = disks_++;
    const char* at = spec.c_str() + spec.find(':') + 1;
    region.disk = static_cast<std::uint32_t>(std::strtoul(at, nullptr, 0));
    region.first = std::strtoull(spec.c_str() + spec.find('@') + 1, nullptr, 0);
    region.count = std::strtoull(spec.c_str() + spec.find('+') + 1, nullptr, 0);
    Reply reply;
    Request request{.command = EBB_CMD_DISK_GET, .disk = region.disk};
    if (machine.client.call(request, reply) != 0) return false;
    std::string image = device_path(reply.disk[EBB_DISK_A_IMAGE_DEV]);
    region.image = open(image.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    machine.regions.push_back(region);
    return region.image >= 0;
}

void Coordinator::log(LogKind kind) {
    LogRecord record;
    record.kind = kind;
    record.sequence = number_;
    record.ticket = tickets_.take();
    log_.add(record);
}

// A message to the next machine; -EAGAIN asks for another try.
int Coordinator::call(Machine& machine, const Request& request, Reply& reply) {
    int error = -EAGAIN;
    usleep(static_cast<useconds_t>(options_.number("skew-us", 0)));
    for (int turn = 0; error == -EAGAIN && turn < 20000; ++turn) {
        error = machine.client.call(request, reply);
        if (error == -EAGAIN) usleep(1000);
    }
    return error;
}

int Coordinator::close_gates() {
    step_ = "gate-close";
    for (auto& machine : machines_) {
        Request request{.command = EBB_CMD_GATE_CLOSE, .group = machine->group};
        request.deadline_ms = static_cast<std::int64_t>(options_.number("deadline-ms", 500));
        Reply reply;
        if (int error = call(*machine, request, reply)) return error;
        machine->gate = reply.top[EBB_A_GATE_ID];
    }
    return 0;
}

int Coordinator::begin_passes() {
    step_ = "pass-begin";
    for (auto& machine : machines_) {
        Request request{.command = EBB_CMD_PASS_BEGIN, .group = machine->group};
        request.kind = EBB_PASS_FROZEN;
        request.flags = EBB_PASS_F_WHOLE;
        request.gate = machine->gate;
        Reply reply;
        if (int error = call(*machine, request, reply)) return error;
        machine->pass = reply.pass[EBB_PASS_A_ID];
    }
    return 0;
}

int Coordinator::open_gates() {
    step_ = "gate-open";
    usleep(static_cast<useconds_t>(options_.number("hold-us", 0)));
    for (auto& machine : machines_) {
        Request request{.command = EBB_CMD_GATE_OPEN, .group = machine->group};
        request.gate = machine->gate;
        Reply reply;
        if (int error = call(*machine, request, reply)) return error;
        machine->gate = 0;
        held_ += reply.top[EBB_A_GATE_HELD];
        gate_ns_max_ = std::max(gate_ns_max_, reply.top[EBB_A_GATE_NS]);
    }
    return 0;
}

int Coordinator::wait_ready(Machine& machine) {
    for (int turn = 0; turn < 120000; ++turn) {
        Reply reply;
        Request request{.command = EBB_CMD_PASS_GET, .group = machine.group};
        if (int error = machine.client.call(request, reply)) return error;
        std::uint64_t state = reply.pass[EBB_PASS_A_STATE];
        if (state == EBB_PASS_READY) return 0;
        if (state == EBB_PASS_VOID) {
            step_ = void_reason(reply.pass[EBB_PASS_A_VOID_REASON]);
            return -ESTALE;
        }
        usleep(1000);
    }
    return -ETIMEDOUT;
}

int Coordinator::read_machine(Machine& machine, std::vector<Aligned>& content) {
    step_ = "read";
    if (int error = wait_ready(machine)) return error;
    for (const auto& region : machine.regions) {
        std::size_t bytes = region.count * stamp_block;
        content.push_back(aligned(bytes));
        auto at = static_cast<off_t>(region.first * stamp_block);
        if (pread(region.image, content.back().get(), bytes, at) != static_cast<ssize_t>(bytes)) {
            // The reads of a pass that is void fail.
            int error = wait_ready(machine);
            return error ? error : -EIO;
        }
    }
    return release(machine);
}

// Everything has been read: the pass may end. What joined it meanwhile is let go of as well.
int Coordinator::release(Machine& machine) {
    int error = -EBUSY;
    for (int turn = 0; error == -EBUSY && turn < 100; ++turn) {
        for (const auto& region : machine.regions) {
            std::int64_t at = 0;
            while (at >= 0) {
                Reply reply;
                Request map{.command = EBB_CMD_PASS_MAP, .disk = region.disk, .pass = machine.pass};
                map.sector = at;
                if ((error = machine.client.call(map, reply)) != 0) return error;
                bool more = reply.top.numbers.contains(EBB_A_NEXT_SECTOR);
                at = more ? static_cast<std::int64_t>(reply.top[EBB_A_NEXT_SECTOR]) : -1;
                if (reply.extents.empty()) continue;
                Request let{
                    .command = EBB_CMD_PASS_RELEASE, .disk = region.disk, .pass = machine.pass};
                let.extents = reply.extents;
                for (auto& extent : let.extents) extent.flags = 0;
                if ((error = machine.client.call(let)) != 0) return error;
            }
        }
        Request end{.command = EBB_CMD_PASS_END, .pass = machine.pass};
        error = machine.client.call(end);
    }
    return error;
}

void Coordinator::give_up() {
    for (auto& machine : machines_) {
        Request open{.command = EBB_CMD_GATE_OPEN, .group = machine->group};
        open.gate = machine->gate;
        if (machine->gate) (void)machine->client.call(open);
        machine->gate = 0;
        Request abandon{.command = EBB_CMD_EPOCH_ABANDON, .group = machine->group};
        (void)machine->client.call(abandon);
    }
}

int Coordinator::cut() {
    ++number_;
    int error = gated_ ? close_gates() : 0;
    if (error) return error;
    log(LogKind::cut_asked);
    if (gated_) log(LogKind::cut_granted);
    if ((error = begin_passes()) != 0) return error;
    if (!gated_) log(LogKind::cut_granted);
    if (gated_ && (error = open_gates()) != 0) return error;
    std::vector<Aligned> content;
    for (auto& machine : machines_)
        if ((error = read_machine(*machine, content)) != 0) return error;
    std::size_t next = 0;
    for (auto& machine : machines_) {
        for (const auto& region : machine->regions) {
            const std::byte* at = content[next++].get();
            for (std::uint64_t i = 0; i < region.count; ++i, at += stamp_block)
                log_found(log_, region.index, region.first + i, number_,
                          std::span<const std::byte, stamp_block>(at, stamp_block));
        }
        Request confirm{.command = EBB_CMD_EPOCH_CONFIRM, .group = machine->group};
        if ((error = machine->client.call(confirm)) != 0) return error;
    }
    log(LogKind::cut_closed);
    return 0;
}

void Coordinator::account(std::uint64_t wanted) const {
    std::string reasons;
    for (const auto& [name, count] : refused_)
        reasons += text("%s\"%s\":%llu", reasons.empty() ? "" : ",", name.c_str(),
                        static_cast<unsigned long long>(count));
    printf(
        "{\"common\":%llu,\"wanted\":%llu,\"refused\":{%s},\"held\":%llu,"
        "\"gate_ms_max\":%.1f}\n",
        static_cast<unsigned long long>(common_), static_cast<unsigned long long>(wanted),
        reasons.c_str(), static_cast<unsigned long long>(held_),
        static_cast<double>(gate_ns_max_) / 1e6);
}

int Coordinator::run() {
    if (!tickets_.open(options_.get("tickets")) || !log_.open(options_.get("log"), false)) return 2;
    for (const auto& spec : options_.all("disk"))
        if (!open_region(spec)) {
            fprintf(stderr, "coordinator: %s: %s\n", spec.c_str(), strerror(errno));
            return 2;
        }
    std::uint64_t wanted = options_.number("cuts", 10);
    std::uint64_t tries = options_.number("tries", 4 * wanted);
    while (common_ < wanted && number_ < tries) {
        int error = cut();
        if (!error) {
            ++common_;
            puts("common");
        } else {
            give_up();
            std::string why = std::string(step_) + " " + strerrorname_np(-error);
            ++refused_[why];
            printf("refused %s\n", why.c_str());
        }
        fflush(stdout);
    }
    account(wanted);
    return common_ == wanted && log_.flush() ? 0 : 1;
}

int main(int argc, char** argv) {
    Options options(argc, argv, {"no-gate"});
    return Coordinator(options).run();
}

}  // namespace
}  // namespace ebb::kmodtest

int main(int argc, char** argv) {
    return ebb::kmodtest::main(argc, argv);
}
