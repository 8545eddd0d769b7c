// SPDX-License-Identifier: Apache-2.0
#include "model/machine.h"

#include <fcntl.h>
#include <linux/blkpg.h>
#include <scsi/sg.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <utility>

#include "lib/text.h"

namespace ebb::kmodmodel {
namespace {

using kmodtest::text;

bool run(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

std::string output(const std::string& command) {
    std::string out;
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe) return out;
    char buffer[256];
    while (std::fgets(buffer, sizeof(buffer), pipe)) out += buffer;
    pclose(pipe);
    while (!out.empty() && out.back() == '\n') out.pop_back();
    return out;
}

bool write_file(const std::string& path, const std::string& value) {
    int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool good = write(fd, value.data(), value.size()) == static_cast<ssize_t>(value.size());
    close(fd);
    return good;
}

bool is_block(const std::string& path) {
    struct stat status{};
    return stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode);
}

bool is_loaded() {
    return access("/sys/module/ebb", F_OK) == 0;
}

// Of a device-mapper table.
std::string line_of(std::uint64_t sectors, const std::string& target) {
    return text("0 %llu %s", static_cast<unsigned long long>(sectors), target.c_str());
}

const std::string nullb_root = "/sys/kernel/config/nullb/";

}  // namespace

Machine::Machine(const Scenario& scenario, std::string module, Keep* keep)
    : scenario_(scenario), module_(std::move(module)), keep_(keep) {}

Machine::~Machine() {
    for (auto& path : paths_) {
        if (path.direct >= 0) close(path.direct);
    }
    for (auto command = undo_.rbegin(); command != undo_.rend(); ++command) (void)run(*command);
}

std::string Machine::make() {
    for (std::uint32_t d = 0; d < scenario_.disks.size(); ++d)
        if (std::string wrong = make_disk(d); !wrong.empty()) return wrong;
    if (!scenario_.map.empty())
        if (std::string wrong = find_disk(disks(), 0, map_); !wrong.empty()) return wrong;
    for (std::uint32_t p = 0; p < scenario_.paths.size(); ++p)
        if (std::string wrong = make_path(p); !wrong.empty()) return wrong;
    return load();
}

std::string Machine::load() {
    if (!is_loaded() && !run("insmod " + module_)) return "insmod " + module_ + " fails";
    for (const auto& [name, value] : scenario_.parameters)
        if (!set_parameter(name)) return "cannot set " + name;
    return {};
}

bool Machine::set_parameter(const std::string& name, std::optional<std::uint64_t> value) const {
    return write_file("/sys/module/ebb/parameters/" + name,
                      std::to_string(value ? *value : scenario_.parameters.at(name)));
}

std::string Machine::unload() {
    return run("rmmod ebb") ? std::string() : "rmmod fails";
}

std::vector<std::uint64_t> Machine::sectors() const {
    std::vector<std::uint64_t> out;
    for (const auto& disk : disks_) out.push_back(disk.traits.sectors);
    return out;
}

std::string Machine::make_disk(std::uint32_t number) {
    const DiskPlan& plan = scenario_.disks[number];
    OpenDisk disk;
    disk.traits.sectors = plan.sectors;
    std::string wrong, name = text("ebbm%u", number);
    if (!scenario_.map.empty()) {
        wrong = find_disk(number, plan.sectors, disk.device);
    } else if (plan.kind == "brd" && make_brd(number, plan).empty()) {
        disk.device = text("/dev/ram%u", number);
        disk.by_bios = disk.traits.tears = true;
    } else if (plan.kind == "erasable" && make_erasable(plan, disk.device).empty()) {
        disk.by_bios = disk.traits.tears = disk.traits.discard_zeroes = true;
    } else if (plan.kind == "stacked") {
        const OpenDisk& lower = disks_.back();
        disk.by_bios = true;
        disk.may_fail = lower.may_fail;
        disk.traits = lower.traits;
        disk.traits.sectors = plan.sectors;
        disk.traits.lies_on = number - 1;
        disk.traits.lies_at = plan.first;
        wrong =
            make_mapped(name,
                        line_of(plan.sectors, text("linear %s %llu", lower.device.c_str(),
                                                   static_cast<unsigned long long>(plan.first))),
                        disk.device);
    } else if (plan.kind == "stripe") {
        wrong = make_stripe(number, plan, disk);
    } else if (plan.kind == "crypt") {
        wrong = make_crypt(number, plan, disk);
    } else if (plan.kind == "thin") {
        wrong = make_thin(number, plan, disk);
    } else if (plan.kind == "scsi" && make_scsi(plan, disk.device).empty()) {
        disk.traits.tears = false;
        disk.takes_commands = true;
    } else {
        wrong = make_nullb(number, plan, disk.device);
        disk.traits.discard_zeroes = true;
    }
    if (wrong.empty() && (plan.kind == "delay" || plan.kind == "flakey")) {
        disk.by_bios = true;
        disk.may_fail = plan.kind == "flakey";
        disk.mapped = name + plan.kind;
        disk.table = disk.may_fail
                         ? text("flakey %s 0 1 1 1 error_writes", disk.device.c_str())
                         : text("delay %s 0 0 %s 0 %llu", disk.device.c_str(), disk.device.c_str(),
                                static_cast<unsigned long long>(plan.delay_ms));
        wrong = make_mapped(disk.mapped, line_of(plan.sectors, disk.table), disk.device);
    }
    disks_.push_back(disk);
    return wrong;
}

// One of the host's, which bears its number in its serial number or WWN. `sectors`: as many, if not
// 0.
std::string Machine::find_disk(std::uint32_t number, std::uint64_t sectors, std::string& device) {
    std::string name =
        output(text("for d in /sys/block/vd* /sys/block/sd* /sys/block/nvme*n*; do "
                    "case $(cat $d/serial $d/device/serial $d/device/wwid 2>/dev/null) in "
                    "ebb%u|ebb%u\\ *|*5000c29000000e%02x) echo ${d##*/};; esac; done",
                    number, number, number));
    device = "/dev/" + name;
    if (name.empty() || !is_block(device)) return text("there is no disk %u", number);
    std::string have = output("blockdev --getsz " + device);
    if (sectors != 0 && have != std::to_string(sectors))
        return device + " has another size: " + have;
    return {};
}

kmodtest::LogArea Machine::area(std::uint32_t disk) const {
    if (map_.empty()) return {};
    constexpr std::uint64_t sectors = 4096;
    return {.dev = kmodtest::device_number(map_),
            .sector = disk * sectors,
            .sectors = sectors,
            .create = keep_->tracked(disk) == Tracked::never,
            .boot_id = kmodtest::boot_id()};
}

std::string Machine::make_nullb(std::uint32_t number, const DiskPlan& plan, std::string& device) {
    std::string name = text("ebbm%u", number), folder = nullb_root + name;
    if (!is_block("/sys/kernel/config") && access(nullb_root.c_str(), F_OK) != 0) {
        (void)run("modprobe configfs");
        (void)run("modprobe null_blk nr_devices=0");
        (void)run(
            "mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config");
    }
    if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) return "cannot make null_blk disk";
    (void)write_file(folder + "/power", "0");
    undo_.push_back("echo 0 >" + folder + "/power; rmdir " + folder);
    const std::pair<const char*, std::uint64_t> values[] = {{"size", plan.sectors / 2048},
                                                            {"memory_backed", 1},
                                                            {"discard", 1},
                                                            {"blocksize", plan.block},
                                                            {"submit_queues", plan.queues},
                                                            {"irqmode", plan.irqmode},
                                                            {"completion_nsec", plan.nsec},
                                                            {"power", 1}};
    // Before 5.17 it has none.
    if (plan.polls != 0) (void)write_file(folder + "/poll_queues", std::to_string(plan.polls));
    for (const auto& [key, value] : values)
        if (!write_file(folder + "/" + key, std::to_string(value)))
            return text("null_blk: cannot set %s to %llu", key,
                        static_cast<unsigned long long>(value));
    device = "/dev/" + name;
    if (!is_block(device)) device = "/dev/nullb" + output("cat " + folder + "/index");
    return is_block(device) ? std::string() : "no null_blk device";
}

// More disks than those of the scenario have numbers from here on.
constexpr std::uint32_t further = 100;

std::string Machine::make_stripe(std::uint32_t number, const DiskPlan& plan, OpenDisk& disk) {
    DiskPlan half = plan;
    half.sectors /= 2;
    std::string a, b;
    std::string wrong = make_nullb(number, half, a);
    if (wrong.empty()) wrong = make_nullb(number + further, half, b);
    if (!wrong.empty()) return wrong;
    disk.by_bios = disk.traits.discard_zeroes = true;
    return make_mapped(text("ebbm%ustripe", number),
                       line_of(plan.sectors, text("striped 2 %llu %s 0 %s 0",
                                                  static_cast<unsigned long long>(plan.first),
                                                  a.c_str(), b.c_str())),
                       disk.device);
}

std::string Machine::make_crypt(std::uint32_t number, const DiskPlan& plan, OpenDisk& disk) {
    std::string lower, wrong = make_nullb(number, plan, lower);
    if (!wrong.empty()) return wrong;
    disk.by_bios = true;
    wrong = make_mapped(text("ebbm%ucrypt", number),
                        line_of(plan.sectors, "crypt aes-xts-plain64 " + std::string(64, '5') +
                                                  " 0 " + lower + " 0 1 allow_discards"),
                        disk.device);
    // What nobody has written is not zeroes.
    if (wrong.empty() &&
        !run(text("dd if=/dev/zero of=%s bs=1M count=%llu conv=fsync", disk.device.c_str(),
                  static_cast<unsigned long long>(plan.sectors / 2048))))
        wrong = disk.device + " cannot be written to";
    return wrong;
}

std::string Machine::make_thin(std::uint32_t number, const DiskPlan& plan, OpenDisk& disk) {
    DiskPlan metadata;
    metadata.sectors = 8192;
    std::string pool, data, meta, wrong = make_nullb(number, plan, data);
    if (wrong.empty()) wrong = make_nullb(number + further, metadata, meta);
    const std::string name = text("ebbm%upool", number);
    if (wrong.empty())
        wrong = make_mapped(
            name, line_of(plan.sectors, "thin-pool " + meta + " " + data + " 128 0"), pool);
    if (!wrong.empty()) return wrong;
    if (!run("dmsetup message " + name + " 0 'create_thin 0'")) return "cannot make a thin volume";
    disk.by_bios = true;
    return make_mapped(text("ebbm%uthin", number), line_of(plan.sectors, "thin " + pool + " 0"),
                       disk.device);
}

std::string Machine::make_brd(std::uint32_t number, const DiskPlan& plan) {
    std::string device = text("/dev/ram%u", number);
    // One size for all: only the first brd disk of a scenario decides.
    if (!is_block(device))
        (void)run(text("modprobe brd rd_nr=8 rd_size=%llu max_part=4",
                       static_cast<unsigned long long>(plan.sectors / 2)));
    std::string have = output("blockdev --getsz " + device);
    if (have != std::to_string(plan.sectors)) return "brd has another size";
    // With rw_page it is refused by the module, and another kind takes its place.
    if (access(text("/sys/block/ram%u/queue/stable_writes", number).c_str(), F_OK) != 0)
        return "no brd";
    std::string probe = is_loaded() ? std::string() : load();
    if (!probe.empty()) return probe;
    if (!run(text("ebbtest attach %s probe 999 | tee /dev/stderr | grep -q '\"id\"'",
                  device.c_str())))
        return "brd is refused";
    (void)run(
        "ebbtest detach $(ebbtest list | sed 's/.*\"disk\":{//' | grep -o '^\"id\":[0-9]*' | "
        "tail -1 | cut -d: -f2)");
    undo_.push_back("rmmod brd");
    return {};
}

// The test's own module has one disk (tests/kmod/modules/erasable.c), on kernels since 5.14.
std::string Machine::make_erasable(const DiskPlan& plan, std::string& device) {
    const char* modules = std::getenv("TESTKO");
    device = "/dev/erasable";
    if (!modules || is_block(device)) return "no disk that erases";
    if (!run(text("insmod %s/erasable.ko mib=%llu", modules,
                  static_cast<unsigned long long>(plan.sectors / 2048))))
        return "erasable.ko does not load";
    undo_.push_back("rmmod erasable");
    for (int attempt = 0; attempt < 500; ++attempt) {
        if (is_block(device)) return {};
        usleep(10000);
    }
    return "no device " + device;
}

std::string Machine::make_scsi(const DiskPlan& plan, std::string& device) {
    const std::string driver = "/sys/bus/pseudo/drivers/scsi_debug/";
    std::string megabytes = std::to_string(plan.sectors / 2048);
    if (access(driver.c_str(), F_OK) != 0) {
        if (!run(
                "modprobe scsi_mod; modprobe sd_mod; modprobe scsi_debug dev_size_mb=" + megabytes +
                " add_host=0 per_host_store=1 lbpu=1 lbpws=1 lbpws10=1 ndelay=20000 "
                "write_same_length=64"))
            return "no scsi_debug";
        undo_.push_back("rmmod scsi_debug");
    }
    auto disks = [] {
        std::set<std::string> found;
        std::string all = output(
            "ls -d /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/"
            "*/block/* 2>/dev/null | sed 's,.*/,,'");
        for (std::size_t at = 0; at < all.size();) {
            std::size_t end = std::min(all.find('\n', at), all.size());
            found.insert(all.substr(at, end - at));
            at = end + 1;
        }
        return found;
    };
    std::set<std::string> before = disks();
    if (!write_file(driver + "add_host", "1")) return "cannot add a host";
    undo_.push_back("echo -1 >" + driver + "add_host");
    for (int attempt = 0; attempt < 500; ++attempt) {
        for (const auto& name : disks()) {
            if (before.contains(name) || !is_block("/dev/" + name)) continue;
            if (output("blockdev --getsz /dev/" + name) != std::to_string(plan.sectors))
                return "scsi_debug has another size";
            device = "/dev/" + name;
            return {};
        }
        usleep(10000);
    }
    return "no disk of scsi_debug";
}

std::string Machine::remove(std::uint32_t disk) {
    const std::string name = disks_[disk].device.substr(5);
    disks_[disk].host =
        output("readlink -f /sys/block/" + name + "/device | grep -o 'host[0-9]*' | head -1");
    // Before the first write fails.
    gone_[disk] = true;
    const bool gone =
        !disks_[disk].host.empty() && write_file("/sys/block/" + name + "/device/delete", "1");
    return gone ? std::string() : "cannot remove " + disks_[disk].device;
}

std::string Machine::bring_back(std::uint32_t disk) {
    const std::string& host = disks_[disk].host;
    for (OpenPath& path : paths_)
        if (path.disk == disk) close(std::exchange(path.direct, -1));
    if (!write_file("/sys/class/scsi_host/" + host + "/scan", "- - -"))
        return "cannot scan " + host;
    for (int attempt = 0; attempt < 500; ++attempt) {
        const std::string name = output("ls -d /sys/class/scsi_host/" + host +
                                        "/device/target*/*/block/* | sed 's,.*/,,'");
        if (!name.empty() && is_block("/dev/" + name)) {
            disks_[disk].device = "/dev/" + name;
            break;
        }
        usleep(10000);
    }
    for (OpenPath& path : paths_) {
        if (path.disk != disk) continue;
        path.device = disks_[disk].device;
        path.direct = open(path.device.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
        if (path.direct < 0) return path.device + ": " + strerror(errno);
    }
    gone_[disk] = false;
    return {};
}

std::string Machine::make_mapped(const std::string& name, const std::string& table,
                                 std::string& device) {
    (void)run("modprobe -a dm-mod dm-delay dm-flakey dm-crypt dm-thin-pool");
    (void)run("dmsetup remove " + name);
    if (!run("dmsetup create " + name + " --table '" + table + "' && dmsetup mknodes"))
        return "dmsetup create " + name + " --table '" + table + "' fails";
    undo_.push_back("dmsetup remove --retry " + name);
    device = output("readlink -f /dev/mapper/" + name);
    return is_block(device) ? std::string() : "no device " + name;
}

std::string Machine::make_path(std::uint32_t number) {
    const PathPlan& plan = scenario_.paths[number];
    const OpenDisk& disk = disks_[plan.disk];
    std::uint64_t sectors = disk.traits.sectors - plan.first;
    std::string device = disk.device, wrong;
    if (plan.kind == "linear") {
        std::string table = text("0 %llu linear %s %llu", static_cast<unsigned long long>(sectors),
                                 disk.device.c_str(), static_cast<unsigned long long>(plan.first));
        wrong = make_mapped(text("ebbm%ulinear%u", plan.disk, number), table, device);
    } else if (plan.kind == "partition") {
        int fd = open(disk.device.c_str(), O_RDWR | O_CLOEXEC);
        blkpg_partition part{};
        part.start = static_cast<off_t>(plan.first * sector_bytes);
        part.length = static_cast<off_t>(sectors * sector_bytes);
        part.pno = 1;
        blkpg_ioctl_arg request{BLKPG_ADD_PARTITION, 0, sizeof(part), &part};
        if (fd < 0 || ioctl(fd, BLKPG, &request) != 0)
            wrong = "cannot add a partition to " + disk.device + ": " + strerror(errno);
        if (fd >= 0) close(fd);
        device += std::isdigit(static_cast<unsigned char>(device.back())) ? "p1" : "1";
    }
    OpenPath path{plan.disk, plan.first, device};
    if (wrong.empty()) {
        path.direct = open(device.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
        if (path.direct < 0) wrong = device + ": " + strerror(errno);
    }
    paths_.push_back(path);
    return wrong;
}

std::string Machine::write_past(std::uint32_t disk, std::uint64_t sector, std::byte* data) const {
    int fd = open(disks_[disk].device.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return disks_[disk].device + ": " + strerror(errno);
    unsigned char command[10] = {0x2a};  // WRITE (10) of one sector
    for (int i = 0; i < 4; ++i) command[2 + i] = static_cast<unsigned char>(sector >> (24 - 8 * i));
    command[8] = 1;
    sg_io_hdr_t header{};
    header.interface_id = 'S';
    header.dxfer_direction = SG_DXFER_TO_DEV;
    header.cmd_len = sizeof(command);
    header.cmdp = command;
    header.dxferp = data;
    header.dxfer_len = sector_bytes;
    header.timeout = 60000;
    bool good = ioctl(fd, SG_IO, &header) == 0 && (header.info & SG_INFO_OK_MASK) == SG_INFO_OK;
    close(fd);
    return good ? std::string() : "SG_IO on " + disks_[disk].device + " fails";
}

std::string Machine::resize(std::uint32_t disk, std::uint64_t sectors) const {
    const OpenDisk& d = disks_[disk];
    std::string name = d.mapped, table = line_of(sectors, d.table);
    if (!run("dmsetup suspend " + name + " && dmsetup load " + name + " --table '" + table + "'"))
        return "dmsetup load " + name + " --table '" + table + "' fails";
    return run("dmsetup resume " + name) ? std::string() : "dmsetup resume " + name + " fails";
}

}  // namespace ebb::kmodmodel
