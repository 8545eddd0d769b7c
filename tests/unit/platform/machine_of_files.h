// SPDX-License-Identifier: Apache-2.0
// A machine made of files: sysfs, mountinfo and device nodes in a folder of its own.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "platform/target_checks.h"

namespace ebb::platform {

class MachineOfFiles {
public:
    MachineOfFiles(const MachineOfFiles&) = delete;
    MachineOfFiles& operator=(const MachineOfFiles&) = delete;

protected:
    using Path = std::filesystem::path;
    static constexpr std::uint64_t mib = 1 << 20;
    static constexpr const char* lsi = "0000:00:05.0";

    MachineOfFiles() {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "ebb-machine-XXXXXX").string();
        top_ = ::mkdtemp(pattern.data());
        std::filesystem::create_directories(top_ / "sys/class/block");
        std::filesystem::create_directories(top_ / "sys/bus/pci/drivers");
        std::filesystem::create_directories(top_ / "dev");
        std::filesystem::create_directories(top_ / "proc/self");
        host_.paths = {top_ / "sys", top_ / "proc", top_ / "dev"};
        host_.usage = [this](const std::string& point) -> Result<VolumeUsage> {
            const auto it = usage_.find(point);
            return it == usage_.end() ? VolumeUsage{100 * mib, 50 * mib, true} : it->second;
        };
        write("proc/self/mountinfo", "");
        controller(lsi, "0x1000", "0x0012", "sym53c8xx");
        mount("0:20", "/", "overlay", "overlay");
    }
    ~MachineOfFiles() { std::filesystem::remove_all(top_); }

    void write(const Path& name, const std::string& text) {
        std::filesystem::create_directories((top_ / name).parent_path());
        std::ofstream(top_ / name) << text;
    }

    void controller(const std::string& address, const std::string& vendor,
                    const std::string& device, const std::string& driver) {
        const Path folder = "sys/devices/pci0000:00/" + address;
        write(folder / "vendor", vendor + "\n");
        write(folder / "device", device + "\n");
        std::filesystem::create_directories(top_ / "sys/bus/pci/drivers" / driver);
        std::filesystem::create_directory_symlink(top_ / "sys/bus/pci",
                                                  top_ / folder / "subsystem");
        std::filesystem::create_directory_symlink(top_ / "sys/bus/pci/drivers" / driver,
                                                  top_ / folder / "driver");
    }

    Path block(const Path& folder, const std::string& number, std::uint64_t size) {
        write(folder / "dev", number + "\n");
        write(folder / "size", std::to_string(size / 512) + "\n");
        write(folder / "ro", "0\n");
        std::filesystem::create_directories(top_ / folder / "holders");
        std::filesystem::create_directories(top_ / folder / "slaves");
        const std::string name = folder.filename();
        std::filesystem::create_directory_symlink(top_ / folder, top_ / "sys/class/block" / name);
        std::ofstream(top_ / "dev" / name) << "";
        std::filesystem::resize_file(top_ / "dev" / name, size);
        return folder;
    }

    Path disk(const std::string& name, const std::string& number, const std::string& wwid,
              const std::string& pci = lsi, std::uint64_t size = 64 * mib) {
        const Path scsi = "sys/devices/pci0000:00/" + pci + "/host0/target0:0:0/" + name + "-dev";
        write(scsi / "wwid", wwid + "\n");
        write(scsi / "vendor", "VMware  \n");  // a SCSI device has such a file as well
        write(scsi / "type", "0\n");
        const auto folder = block(scsi / "block" / name, number, size);
        std::filesystem::create_directory_symlink(top_ / scsi, top_ / folder / "device");
        return folder;
    }

    void partition(const Path& disk, const std::string& name, const std::string& number) {
        block(disk / name, number, 32 * mib);
        write(disk / name / "partition", "1\n");
    }

    void mapped(const std::string& name, const std::string& number, const std::string& dm_name,
                const Path& slave) {
        const Path folder = "sys/devices/virtual/block/" + name;
        block(folder, number, 32 * mib);
        write(folder / "dm/name", dm_name + "\n");
        write(folder / "slaves" / slave.filename(), "");
        write(slave / "holders" / name, "");
    }

    void mount(const std::string& number, const std::string& point, const std::string& type,
               const std::string& source, const std::string& options = "rw") {
        std::ofstream out(top_ / "proc/self/mountinfo", std::ios::app);
        out << "21 1 " << number << " / " << point << " " << options << ",relatime shared:1 - "
            << type << " " << source << " rw\n";
    }

    void put(const std::string& device, std::uint64_t offset, const std::string& data) {
        std::fstream out(top_ / "dev" / device, std::ios::in | std::ios::out);
        out.seekp(static_cast<std::streamoff>(offset));
        out << data;
    }

    Path top_;
    TargetHost host_;
    std::map<std::string, VolumeUsage> usage_;
};

}  // namespace ebb::platform
