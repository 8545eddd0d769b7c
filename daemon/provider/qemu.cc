// SPDX-License-Identifier: Apache-2.0
#include "provider/qemu.h"

#include <signal.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

#include "provider/process.h"

namespace ebb::provider {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds command_patience{30'000};
constexpr milliseconds commit_patience{600'000};
constexpr milliseconds poll_interval{50};

Result<std::string> text_of(const Json& object, const char* key, bool needed) {
    if (!object.contains(key) && !needed) return std::string{};
    if (!object.contains(key) || !object[key].is_string())
        return fail(ErrorCode::invalid, std::string("QEMU configuration: no string ") + key);
    return object[key].get<std::string>();
}

Result<QemuDisk> parse_disk(const Json& json) {
    QemuDisk disk;
    for (auto [key, into] : {std::pair("stable_id", &disk.stable_id),
                             {"node", &disk.node},
                             {"file", &disk.file},
                             {"format", &disk.format}}) {
        auto text = text_of(json, key, true);
        if (!text) return std::unexpected(text.error());
        *into = *text;
    }
    disk.device = json.value("device", Json());
    return disk;
}

Result<QemuMachine> parse_machine(const Json& json) {
    QemuMachine machine;
    for (auto [key, into, needed] : {std::tuple("name", &machine.name, true),
                                     {"qmp", &machine.qmp, true},
                                     {"pid_file", &machine.pid_file, false},
                                     {"delta_folder", &machine.delta_folder, false}}) {
        auto text = text_of(json, key, needed);
        if (!text) return std::unexpected(text.error());
        *into = *text;
    }
    for (const auto& word : json.value("start", Json::array())) {
        if (!word.is_string())
            return fail(ErrorCode::invalid, "QEMU configuration: start is not a list of strings");
        machine.start.push_back(word.get<std::string>());
    }
    for (const auto& item : json.value("disks", Json::array())) {
        auto disk = parse_disk(item);
        if (!disk) return std::unexpected(disk.error());
        machine.disks.push_back(std::move(*disk));
    }
    return machine;
}

bool same_id(const std::string& a, const std::string& b) {
    return std::ranges::equal(
        a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

Result<const QemuDisk*> find_disk(const QemuMachine& machine, const std::string& stable_id) {
    for (const auto& disk : machine.disks) {
        if (same_id(disk.stable_id, stable_id)) return &disk;
    }
    return fail("E_DISK_NOT_FOUND", ErrorCode::not_found,
                machine.name + " has no disk " + stable_id + " in the provider's configuration");
}

// A process that has ended and that nobody has asked about yet runs nothing.
bool is_zombie(pid_t pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(in, line);
    const auto name_end = line.rfind(") ");
    return name_end != std::string::npos && line.compare(name_end + 2, 1, "Z") == 0;
}

// Whether the process of the pid file lives; false without a file.
bool lives(const QemuMachine& machine) {
    std::ifstream in(machine.pid_file);
    pid_t pid = 0;
    return !machine.pid_file.empty() && in >> pid && pid > 0 &&
           (::kill(pid, 0) == 0 || errno == EPERM) && !is_zombie(pid);
}

Result<bool> has_node(Qmp& qmp, const std::string& node) {
    auto nodes = qmp.run("query-named-block-nodes", {{"flat", true}});
    if (!nodes) return std::unexpected(nodes.error());
    return std::ranges::any_of(
        *nodes, [&](const Json& n) { return n.value("node-name", std::string{}) == node; });
}

// Repeats `step` until it gives true.
template <class Step>
Status until(const std::string& what, milliseconds patience, Step step) {
    const auto deadline = steady_clock::now() + patience;
    for (;;) {
        const Result<bool> done = step();
        if (!done) return std::unexpected(done.error());
        if (*done) return {};
        if (steady_clock::now() > deadline) return fail(ErrorCode::timeout, what);
        std::this_thread::sleep_for(poll_interval);
    }
}

// State of a block job; empty when there is none of that name.
Result<std::string> job_status(Qmp& qmp, const std::string& id) {
    auto jobs = qmp.run("query-jobs");
    if (!jobs) return std::unexpected(jobs.error());
    for (const auto& job : *jobs) {
        if (job.value("id", std::string{}) != id) continue;
        if (job.contains("error")) {
            const auto error = job["error"].get<std::string>();
            (void)qmp.run("job-dismiss", {{"id", id}});
            return fail(ErrorCode::io, "QEMU: merging " + id + ": " + error);
        }
        return job.value("status", std::string{});
    }
    return std::string{};
}

// An active commit: the delta's content goes into the replica, then the machine runs on that.
Status commit_disk(Qmp& qmp, const std::string& node) {
    const std::string id = "commit-" + node;
    auto under_way = job_status(qmp, id);  // of an attempt that was interrupted on our side
    if (!under_way) return std::unexpected(under_way.error());
    if (under_way->empty()) {
        auto begun = qmp.run(
            "block-commit",
            {{"job-id", id}, {"device", node}, {"auto-finalize", true}, {"auto-dismiss", false}});
        if (!begun) return std::unexpected(begun.error());
    }
    bool completing = false;
    auto ok = until("merging the delta of " + node + " takes too long", commit_patience,
                    [&]() -> Result<bool> {
                        auto status = job_status(qmp, id);
                        if (!status) return std::unexpected(status.error());
                        if (*status == "ready" && !completing) {
                            completing = true;
                            auto done = qmp.run("job-complete", {{"id", id}});
                            if (!done) return std::unexpected(done.error());
                        }
                        return *status == "concluded";
                    });
    if (!ok) return ok;
    auto dismissed = qmp.run("job-dismiss", {{"id", id}});
    if (!dismissed) return std::unexpected(dismissed.error());
    return {};
}

Status can_start(const QemuMachine& vm) {
    if (std::ranges::find(vm.start, "-daemonize") != vm.start.end()) return {};
    return fail("E_MACHINE_NO_START", ErrorCode::invalid,
                vm.name + " has no command line with -daemonize to start it by",
                "Give it one in the provider's configuration");
}

bool reaches_nobody(const std::string& network) {
    return network == "none" || ((network == "user" || network.starts_with("user,")) &&
                                 (network + ",").find(",restrict=on,") != std::string::npos);
}

}  // namespace

bool is_isolated(const std::vector<std::string>& start) {
    // Without a word on it QEMU adds one that reaches everybody.
    bool told = std::ranges::find(start, "-nodefaults") != start.end();
    for (std::size_t i = 0; i < start.size(); ++i) {
        std::string word = start[i];
        if (word.starts_with("--")) word.erase(0, 1);
        if (word != "-netdev" && word != "-nic" && word != "-net") continue;
        if (i + 1 == start.size() || !reaches_nobody(start[i + 1])) return false;
        told = true;
    }
    return told;
}

Result<std::vector<QemuMachine>> QemuProvider::parse(const Json& configuration) {
    std::vector<QemuMachine> machines;
    if (!configuration.is_object() || !configuration.contains("machines") ||
        !configuration["machines"].is_array())
        return fail(ErrorCode::invalid, "QEMU configuration: no list of machines");
    for (const auto& item : configuration["machines"]) {
        auto machine = parse_machine(item);
        if (!machine) return std::unexpected(machine.error());
        machines.push_back(std::move(*machine));
    }
    return machines;
}

QemuProvider::QemuProvider(std::vector<QemuMachine> machines) {
    for (auto& machine : machines) {
        auto name = machine.name;
        machines_.emplace(std::move(name), std::move(machine));
    }
}

Result<const QemuMachine*> QemuProvider::find(const std::string& name) const {
    const auto it = machines_.find(name);
    if (it == machines_.end()) {
        return fail("E_MACHINE_UNKNOWN", ErrorCode::not_found,
                    "the provider knows no machine " + name,
                    "Add it to the provider's configuration");
    }
    return &it->second;
}

Result<PowerState> QemuProvider::power_state(const std::string& machine) {
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    auto qmp = Qmp::connect((*found)->qmp, command_patience);
    if (!qmp) {
        if (qmp.error().code != ErrorCode::not_found) return std::unexpected(qmp.error());
        if (lives(**found)) {
            return fail("E_POWER_UNKNOWN", ErrorCode::io,
                        machine + " has a process, but does not answer at " + (*found)->qmp);
        }
        return PowerState::off;
    }
    auto status = qmp->run("query-status");
    if (!status) return std::unexpected(status.error());
    return status->value("running", false) ? PowerState::running : PowerState::paused;
}

Status QemuProvider::ask_power_off(const std::string& machine) {
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    auto qmp = Qmp::connect((*found)->qmp, command_patience);
    if (!qmp) {
        if (qmp.error().code == ErrorCode::not_found) return {};
        return std::unexpected(qmp.error());
    }
    auto done = qmp->run("system_powerdown");
    if (!done && done.error().code != ErrorCode::closed) return std::unexpected(done.error());
    return {};
}

Status QemuProvider::power_on(const std::string& machine) {
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    auto state = power_state(machine);
    if (!state) return std::unexpected(state.error());
    if (*state != PowerState::off) return {};
    if (auto ok = can_start(**found); !ok) return ok;
    return run_program((*found)->start, command_patience);
}

Status QemuProvider::force_power_off(const std::string& machine) {
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    auto qmp = Qmp::connect((*found)->qmp, command_patience);
    if (qmp) {
        auto quit = qmp->run("quit");
        if (!quit && quit.error().code != ErrorCode::closed) return std::unexpected(quit.error());
        if (auto ended = qmp->wait_for_end(); !ended) return ended;
    } else if (qmp.error().code != ErrorCode::not_found) {
        return std::unexpected(qmp.error());
    }
    return until(machine + " is still running", command_patience,
                 [&]() -> Result<bool> { return !lives(**found); });
}

Status QemuProvider::may_attach(const std::string& machine, const std::string& stable_id) {
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    const auto disk = find_disk(**found, stable_id);
    if (!disk) return std::unexpected(disk.error());
    if ((*disk)->device.is_object()) return {};
    return fail("E_DISK_COLD_PLUG", ErrorCode::unsupported,
                stable_id + " cannot be attached to " + machine + " while it runs",
                "Attach it while the machine is off, or give its `device` in the provider's "
                "configuration");
}

Status QemuProvider::attach_disk(const std::string& machine, const std::string& stable_id) {
    if (auto ok = may_attach(machine, stable_id); !ok) return ok;
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    const auto disk = find_disk(**found, stable_id);
    if (!disk) return std::unexpected(disk.error());
    auto qmp = Qmp::connect((*found)->qmp, command_patience);
    if (!qmp) return std::unexpected(qmp.error());
    auto present = has_node(*qmp, (*disk)->node);
    if (!present) return std::unexpected(present.error());
    if (*present) return {};
    auto added =
        qmp->run("blockdev-add", {{"driver", (*disk)->format},
                                  {"node-name", (*disk)->node},
                                  {"file", {{"driver", "file"}, {"filename", (*disk)->file}}}});
    if (!added) return std::unexpected(added.error());
    Json device = (*disk)->device;
    device["id"] = "dev-" + (*disk)->node;
    device["drive"] = (*disk)->node;
    auto plugged = qmp->run("device_add", device);
    if (!plugged) {
        (void)qmp->run("blockdev-del", {{"node-name", (*disk)->node}});
        return std::unexpected(plugged.error());
    }
    return {};
}

Status QemuProvider::detach_disk(const std::string& machine, const std::string& stable_id) {
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    const auto disk = find_disk(**found, stable_id);
    if (!disk) return std::unexpected(disk.error());
    auto qmp = Qmp::connect((*found)->qmp, command_patience);
    if (!qmp) {
        if (qmp.error().code == ErrorCode::not_found) return {};  // it is off: attached to nothing
        return std::unexpected(qmp.error());
    }
    auto unplugged = qmp->run("device_del", {{"id", "dev-" + (*disk)->node}});
    if (!unplugged && unplugged.error().code != ErrorCode::not_found)
        return std::unexpected(unplugged.error());
    // The node can go once the device has, which takes the guest's consent on some controllers.
    return until(machine + " does not let go of " + stable_id, command_patience,
                 [&]() -> Result<bool> {
                     auto present = has_node(*qmp, (*disk)->node);
                     if (!present || !*present) return present ? Result<bool>(true) : present;
                     return qmp->run("blockdev-del", {{"node-name", (*disk)->node}}).has_value();
                 });
}

Status QemuProvider::must_be_off(const QemuMachine& machine) {
    auto state = power_state(machine.name);
    if (!state) return std::unexpected(state.error());
    if (*state == PowerState::off) return {};
    return fail(ErrorCode::busy, machine.name + " is " + std::string(power_name(*state)));
}

Status QemuProvider::start_on_delta(const std::string& machine) {
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    std::vector<Backing> backings;
    for (const auto& disk : (*found)->disks) backings.push_back({disk.file, disk.format});
    return start_above(**found, backings);
}

Status QemuProvider::start_above(const QemuMachine& vm, const std::vector<Backing>& backings) {
    if (auto ok = can_start(vm); !ok) return ok;
    if (auto ok = drop_delta(vm.name); !ok) return ok;
    std::error_code error;
    std::filesystem::create_directories(vm.delta_folder, error);
    if (error) return fail(ErrorCode::io, "cannot make " + vm.delta_folder);
    for (std::size_t i = 0; i < vm.disks.size(); ++i) {
        auto made =
            run_program({"qemu-img", "create", "-q", "-f", "qcow2", "-F", backings[i].format, "-b",
                         backings[i].file, vm.delta_file(vm.disks[i])},
                        command_patience);
        if (!made) return made;
    }
    return run_program(vm.start, command_patience);
}

Status QemuProvider::commit_delta(const std::string& machine) {
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    auto qmp = Qmp::connect((*found)->qmp, command_patience);
    if (!qmp) return std::unexpected(qmp.error());
    for (const auto& disk : (*found)->disks) {
        // Merged by an earlier attempt that did not get to the end: nothing is left to do.
        const auto delta = (*found)->delta_file(disk);
        if (!std::filesystem::exists(delta)) continue;
        if (auto ok = commit_disk(*qmp, disk.node); !ok) return ok;
        std::error_code error;
        std::filesystem::remove(delta, error);
        if (error) return fail(ErrorCode::io, "cannot remove " + delta);
    }
    return {};
}

Status QemuProvider::drop_delta(const std::string& machine) {
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    if (auto ok = must_be_off(**found); !ok) return ok;
    for (const auto& disk : (*found)->disks) {
        std::error_code error;
        std::filesystem::remove((*found)->delta_file(disk), error);
        if (error) return fail(ErrorCode::io, "cannot remove " + (*found)->delta_file(disk));
    }
    return {};
}

Status QemuProvider::start_test(const std::string& machine, const std::vector<TestImage>& images) {
    const auto found = find(machine);
    if (!found) return std::unexpected(found.error());
    const auto& vm = **found;
    if (!is_isolated(vm.start)) {
        return fail("E_TEST_NETWORK", ErrorCode::refused,
                    machine + " would have a network on which the real machine may be",
                    "Give -nic none in its command line, or a network of its own: "
                    "-netdev user,restrict=on,...");
    }
    std::vector<Backing> backings;
    for (const auto& disk : vm.disks) {
        const auto image = std::ranges::find_if(
            images, [&](const TestImage& one) { return same_id(one.stable_id, disk.stable_id); });
        if (image == images.end()) {
            return fail("E_DISK_NOT_FOUND", ErrorCode::not_found,
                        machine + " has a disk " + disk.stable_id + " that is not replicated",
                        "Take it out of the provider's configuration");
        }
        backings.push_back({image->uri, "raw"});
    }
    for (const auto& image : images) {
        if (auto disk = find_disk(vm, image.stable_id); !disk) return std::unexpected(disk.error());
    }
    return start_above(vm, backings);
}

Status QemuProvider::end_test(const std::string& machine) {
    if (auto ok = force_power_off(machine); !ok) return ok;
    return drop_delta(machine);
}

}  // namespace ebb::provider
