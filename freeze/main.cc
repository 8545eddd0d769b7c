// SPDX-License-Identifier: Apache-2.0
// ebb-freeze: holds filesystems frozen for ebbd, and thaws them whatever becomes of it; thaws what
// was left frozen.
#include <fcntl.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/freeze_keeper.h"
#include "platform/freeze_record.h"

using namespace ebb;

namespace {

constexpr int exit_usage = 2;

int help() {
    std::cout << "Usage: ebb-freeze --thaw [--record FILE]\n\n"
                 "Thaws the filesystems that ebbd has frozen for an application-consistent\n"
                 "recovery point, if it died together with its watchdog.\n\n"
                 "Options:\n"
                 "  --thaw         thaw what the record names\n"
                 "  --record FILE  the record of what is frozen (/run/ebb/frozen)\n"
                 "  --hold MS CONTROL FIRST COUNT\n"
                 "                 what ebbd calls: hold descriptors FIRST and so on frozen\n"
                 "                 for MS milliseconds at most\n"
                 "  --help         show this text\n"
                 "  --version      print the version\n";
    return 0;
}

int misused(const std::string& what) {
    std::cerr << "ebb-freeze: " << what << "; see ebb-freeze --help\n";
    return exit_usage;
}

bool number_of(const std::string& word, int& value) {
    char* end = nullptr;
    const long number = std::strtol(word.c_str(), &end, 10);
    value = static_cast<int>(number);
    return !word.empty() && *end == '\0' && number >= 0 && number <= 86'400'000;
}

int thaw(const std::string& record) {
    const auto thawed = platform::thaw_recorded(record);
    if (!thawed) {
        std::cerr << "ebb-freeze: " << thawed.error().name() << ": " << thawed.error().message
                  << "\n";
        return 1;
    }
    for (const auto& point : *thawed) std::cout << "thawed " << point << "\n";
    return 0;
}

int hold(const std::vector<std::string>& words, const std::string& record) {
    int limit = 0, control = 0, first = 0, count = 0;
    if (words.size() != 4 || !number_of(words[0], limit) || !number_of(words[1], control) ||
        !number_of(words[2], first) || !number_of(words[3], count))
        return misused("--hold takes four numbers");
    platform::KeeperOptions options;
    options.limit = std::chrono::milliseconds(limit);
    options.control = control;
    for (int i = 0; i < count; ++i) options.filesystems.push_back(first + i);
    const platform::FileDescriptor file(::open(record.c_str(), O_RDWR | O_CLOEXEC));
    if (file.valid()) options.states = platform::map_freeze_record(file.get());
    if (options.states.size() != options.filesystems.size()) options.states.clear();
    return platform::keep_frozen(options);
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    std::string record = platform::freeze_record_path;
    std::string command;
    std::vector<std::string> numbers;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const auto& word = words[i];
        if (word == "--help") return help();
        if (word == "--version") {
            std::cout << "ebb-freeze " EBB_VERSION "\n";
            return 0;
        }
        if (word == "--record" && i + 1 < words.size())
            record = words[++i];
        else if ((word == "--thaw" || word == "--hold") && command.empty())
            command = word;
        else if (command == "--hold")
            numbers.push_back(word);
        else
            return misused("there is no option " + word);
    }
    if (command == "--thaw") return thaw(record);
    if (command == "--hold") return hold(numbers, record);
    return misused("say what to do");
}
