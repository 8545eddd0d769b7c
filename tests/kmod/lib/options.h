// SPDX-License-Identifier: Apache-2.0
// Command lines of the test tools: --name value, --flag, and what is left.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace ebb::kmodtest {

class Options {
public:
    // `flags` take no value. Options may repeat.
    Options(int argc, char** argv, const std::set<std::string>& flags) {
        for (int i = 1; i < argc; ++i) {
            std::string word = argv[i];
            if (!word.starts_with("--")) {
                rest_.push_back(word);
            } else if (flags.contains(word.substr(2)) || i + 1 == argc) {
                values_[word.substr(2)].push_back("1");
            } else {
                values_[word.substr(2)].push_back(argv[++i]);
            }
        }
    }

    [[nodiscard]] bool has(const std::string& name) const { return values_.contains(name); }
    [[nodiscard]] std::string get(const std::string& name,
                                  const std::string& otherwise = {}) const {
        auto found = values_.find(name);
        return found == values_.end() ? otherwise : found->second.back();
    }
    [[nodiscard]] std::uint64_t number(const std::string& name, std::uint64_t otherwise) const {
        return has(name) ? std::strtoull(get(name).c_str(), nullptr, 0) : otherwise;
    }
    [[nodiscard]] std::vector<std::string> all(const std::string& name) const {
        auto found = values_.find(name);
        return found == values_.end() ? std::vector<std::string>() : found->second;
    }
    [[nodiscard]] const std::vector<std::string>& rest() const { return rest_; }

private:
    std::map<std::string, std::vector<std::string>> values_;
    std::vector<std::string> rest_;
};

}  // namespace ebb::kmodtest
