// SPDX-License-Identifier: Apache-2.0
// ebb-attach: attaches disks with the maps that a map device keeps of them, in the initramfs before
// anything can write; and looks after the map device.
#include <fcntl.h>
#include <getopt.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "disks.h"
#include "platform/file_descriptor.h"

using namespace ebb;

namespace {

constexpr int exit_failed = 1;
constexpr int exit_usage = 2;

constexpr const char* help_text =
    "Usage: ebb-attach DISK...\n"
    "       ebb-attach --all\n"
    "       ebb-attach --add DISK... [--group N]\n"
    "       ebb-attach --remove DISK...\n"
    "       ebb-attach --create DEVICE [--force]\n"
    "       ebb-attach --list\n"
    "\n"
    "Attaches disks to the module ebb with the maps that a map device keeps of them. DISK is a\n"
    "device node or a stable id.\n"
    "\n"
    "Options:\n"
    "  --all            all disks that the configuration names\n"
    "  --add            reserve room for a disk's map and attach it with a new, empty one\n"
    "  --remove         detach a disk and free the room of its map\n"
    "  --create DEVICE  make a map device of a partition or a disk\n"
    "  --force          create: whatever it holds\n"
    "  --list           what the map device holds\n"
    "  --group N        add: the module's group (1)\n"
    "  --map DEVICE     the map device; found by itself if not given\n"
    "  --config FILE    map device and disks of this machine (/etc/ebb/map.conf)\n"
    "  --wait SECONDS   for devices that are not there yet (0)\n"
    "  --udev           for udev's rule: disks that the configuration does not name are passed\n"
    "                   over in silence, and the kernel's log is told\n"
    "  --help           show this text\n"
    "  --version        print the version\n";

enum class Action { attach, all, add, remove, create, list };

struct Command {
    Action action = Action::attach;
    attach::Choice choice;
    std::string device;  // create
    bool force = false;
    bool udev = false;
    std::vector<std::string> disks;
};

// The kernel's log is the only one there is in an initramfs.
void tell(const Command& command, const std::string& text) {
    std::fprintf(stderr, "ebb-attach: %s\n", text.c_str());
    if (!command.udev) return;
    const platform::FileDescriptor log(::open("/dev/kmsg", O_WRONLY | O_CLOEXEC));
    const std::string line = "ebb-attach: " + text + "\n";
    if (log.valid()) static_cast<void>(::write(log.get(), line.data(), line.size()) < 0);
}

int complain(const Command& command, const Error& error) {
    tell(command, std::string(error.name()) + ": " + error.message);
    if (!error.remedy.empty() && !command.udev)
        std::fprintf(stderr, "            %s.\n", error.remedy.c_str());
    return exit_failed;
}

int misused(const std::string& what) {
    std::fprintf(stderr, "ebb-attach: %s; see ebb-attach --help\n", what.c_str());
    return exit_usage;
}

int report(const Command& command, const Result<attach::Attached>& result) {
    if (!result) return complain(command, result.error());
    const std::string who = result->name + " (" + result->stable_id + ")";
    if (result->before) {
        if (!command.udev) std::printf("%s: attached already\n", who.c_str());
        return 0;
    }
    const std::string text = who + ": attached, " + result->words;
    if (command.udev) {
        tell(command, text);
    } else {
        std::printf("%s\n", text.c_str());
    }
    return 0;
}

int for_each_disk(const Command& command) {
    int status = 0;
    for (const auto& disk : command.disks) {
        int one = 0;
        if (command.action == Action::remove) {
            if (auto ok = attach::remove_disk(command.choice, disk); !ok)
                one = complain(command, ok.error());
        } else if (command.action == Action::add) {
            one = report(command, attach::add_disk(command.choice, disk));
        } else {
            if (command.udev) {
                auto named = attach::is_named(command.choice, disk);
                if (!named) return complain(command, named.error());
                if (!*named) continue;
            }
            one = report(command, attach::attach_disk(command.choice, disk));
        }
        if (one != 0) status = one;
    }
    return status;
}

int run(const Command& command) {
    switch (command.action) {
        case Action::create: {
            auto ok = attach::create_map(command.choice, command.device, command.force);
            return ok ? 0 : complain(command, ok.error());
        }
        case Action::list: {
            auto text = attach::list_maps(command.choice);
            if (!text) return complain(command, text.error());
            std::fputs(text->c_str(), stdout);
            return 0;
        }
        case Action::all: {
            int status = 0;
            for (const auto& result : attach::attach_all(command.choice)) {
                if (const int one = report(command, result); one != 0) status = one;
            }
            return status;
        }
        default: return for_each_disk(command);
    }
}

bool number(const char* text, std::uint32_t& into) {
    const char* end = text + std::strlen(text);
    const auto [at, error] = std::from_chars(text, end, into);
    return error == std::errc{} && at == end;
}

// An exit status if there is nothing left to do.
int parse(int argc, char** argv, Command& command, bool& done) {
    enum {
        all = 1000,
        add,
        remove,
        create,
        force,
        list,
        group,
        map,
        config,
        wait,
        udev,
        help,
        vers
    };
    static const option options[] = {{"all", no_argument, nullptr, all},
                                     {"add", no_argument, nullptr, add},
                                     {"remove", no_argument, nullptr, remove},
                                     {"create", required_argument, nullptr, create},
                                     {"force", no_argument, nullptr, force},
                                     {"list", no_argument, nullptr, list},
                                     {"group", required_argument, nullptr, group},
                                     {"map", required_argument, nullptr, map},
                                     {"config", required_argument, nullptr, config},
                                     {"wait", required_argument, nullptr, wait},
                                     {"udev", no_argument, nullptr, udev},
                                     {"help", no_argument, nullptr, help},
                                     {"version", no_argument, nullptr, vers},
                                     {nullptr, 0, nullptr, 0}};
    done = true;
    std::uint32_t seconds = 0;
    for (int found = 0; (found = ::getopt_long(argc, argv, "", options, nullptr)) != -1;) {
        switch (found) {
            case all: command.action = Action::all; break;
            case add: command.action = Action::add; break;
            case remove: command.action = Action::remove; break;
            case create:
                command.action = Action::create;
                command.device = optarg;
                break;
            case force: command.force = true; break;
            case list: command.action = Action::list; break;
            case group:
                if (!number(optarg, command.choice.group) || command.choice.group == 0)
                    return misused("--group wants a number above 0");
                break;
            case map: command.choice.map = optarg; break;
            case config: command.choice.config = optarg; break;
            case wait:
                if (!number(optarg, seconds)) return misused("--wait wants a number of seconds");
                command.choice.wait = std::chrono::seconds(seconds);
                break;
            case udev: command.udev = true; break;
            case help: std::fputs(help_text, stdout); return 0;
            case vers: std::puts("ebb-attach " EBB_VERSION); return 0;
            default: return exit_usage;
        }
    }
    for (int i = optind; i < argc; ++i) command.disks.emplace_back(argv[i]);
    const bool takes_disks = command.action == Action::attach || command.action == Action::add ||
                             command.action == Action::remove;
    if (takes_disks && command.disks.empty()) return misused("no disk is named");
    if (!takes_disks && !command.disks.empty())
        return misused("'" + command.disks.front() + "' is one word too many");
    done = false;
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    Command command;
    bool done = false;
    const int status = parse(argc, argv, command, done);
    return done ? status : run(command);
}
