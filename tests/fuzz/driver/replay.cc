// SPDX-License-Identifier: Apache-2.0
// Runs a libFuzzer entry point without libFuzzer: every file of the corpus, then a bounded number
// of deterministic mutations of it. Usage: NAME_fuzz [--runs N] [corpus directory or file]...
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Input = std::vector<uint8_t>;

Input read_file(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return Input(std::istreambuf_iterator<char>(in), {});
}

std::vector<Input> read_corpus(const std::filesystem::path& path) {
    std::vector<Input> corpus;
    std::error_code ec;
    if (std::filesystem::is_regular_file(path, ec)) {
        corpus.push_back(read_file(path));
    } else if (std::filesystem::is_directory(path, ec)) {
        for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
            if (entry.is_regular_file()) corpus.push_back(read_file(entry.path()));
        }
    }
    return corpus;
}

Input mutate(Input input, std::mt19937_64& random) {
    const auto edits = 1 + random() % 8;
    for (uint64_t i = 0; i < edits; ++i) {
        const auto at = input.empty() ? 0 : static_cast<std::ptrdiff_t>(random() % input.size());
        switch (random() % 4) {
            case 0:
                if (!input.empty()) input[at] ^= static_cast<uint8_t>(1U << (random() % 8));
                break;
            case 1:
                if (!input.empty()) input[at] = static_cast<uint8_t>(random());
                break;
            case 2: input.insert(input.begin() + at, static_cast<uint8_t>(random())); break;
            default:
                if (!input.empty()) input.resize(at);
                break;
        }
    }
    return input;
}

}  // namespace

int main(int argc, char** argv) {
    uint64_t runs = 2000;
    std::vector<Input> corpus = {Input{}};
    for (int i = 1; i < argc; ++i) {
        if (std::string(argv[i]) == "--runs" && i + 1 < argc) {
            runs = std::strtoull(argv[++i], nullptr, 10);
            continue;
        }
        for (auto& input : read_corpus(argv[i])) corpus.push_back(std::move(input));
    }
    for (const auto& input : corpus) (void)LLVMFuzzerTestOneInput(input.data(), input.size());
    std::mt19937_64 random(1);
    for (uint64_t i = 0; i < runs; ++i) {
        const auto input = mutate(corpus[random() % corpus.size()], random);
        (void)LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    std::printf("%zu inputs and %llu mutations ran\n", corpus.size(),
                static_cast<unsigned long long>(runs));
    return 0;
}
