// SPDX-License-Identifier: Apache-2.0
// target_report [RESERVED_PATH...]: what the target checks say of this machine, a line each:
//   volume PATH FS CODE,CODE...      disk NAME ID PCI CODE,CODE...      ("-" for nothing)
// target_report check ID SIZE [owned] [overwrite]: the codes against that disk as a target.
#include <iostream>

#include "platform/target_checks.h"

namespace {

using ebb::platform::TargetHost;

std::string codes(const std::vector<ebb::Error>& reasons) {
    std::string text;
    for (const auto& reason : reasons) {
        text += (text.empty() ? "" : ",") + std::string(reason.name());
        std::cerr << reason.name() << ": " << reason.message << ". " << reason.remedy << ".\n";
    }
    return text.empty() ? "-" : text;
}

std::string word(const std::string& text) {
    return text.empty() ? "-" : text;
}

int failed(const ebb::Error& error) {
    std::cout << "error " << error.name() << "\n";
    std::cerr << error.message << "\n";
    return 1;
}

int report(const std::vector<std::string>& reserved) {
    ebb::platform::VolumeRules rules;
    for (const auto& path : reserved)
        rules.reserved.push_back({path, ebb::platform::ReservedPath::Use::cache});
    const auto volumes = list_retention_volumes(TargetHost{}, rules);
    if (!volumes) return failed(volumes.error());
    for (const auto& v : *volumes)
        std::cout << "volume " << v.path << " " << word(v.fs) << " " << codes(v.reasons) << "\n";
    const auto disks = list_target_disks(TargetHost{}, {});
    if (!disks) return failed(disks.error());
    for (const auto& d : *disks) {
        std::cout << "disk " << d.name << " " << word(d.stable_id) << " " << word(d.pci) << " "
                  << codes(d.reasons) << "\n";
    }
    return 0;
}

int check(const std::vector<std::string>& words) {
    ebb::platform::DiskRules rules;
    ebb::platform::DiskDemand demand{words.at(1), std::stoull(words.at(2)), false};
    for (const auto& option : words) {
        if (option == "owned") rules.owned = {demand.stable_id};
        if (option == "overwrite") demand.overwrite = true;
    }
    const auto verdict = check_target_disk(TargetHost{}, rules, demand);
    if (!verdict) return failed(verdict.error());
    std::cout << codes(verdict->reasons) << "\n";
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    return !words.empty() && words.front() == "check" ? check(words) : report(words);
}
