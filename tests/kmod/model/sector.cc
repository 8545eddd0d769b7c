// SPDX-License-Identifier: Apache-2.0
#include "model/sector.h"

#include <cstring>

#include "lib/text.h"

namespace ebb::kmodmodel {
namespace {

constexpr std::uint64_t magic = 0x6d6f64656c2e4245ull;
constexpr std::size_t words = sector_bytes / 8;

std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// The whole sector follows from four words.
void make(std::uint64_t* sector, std::uint64_t run, Place place, std::uint64_t write) {
    sector[0] = magic;
    sector[1] = run;
    sector[2] = static_cast<std::uint64_t>(place.disk) << 48 | place.sector;
    sector[3] = write;
    std::uint64_t word = mix(run + mix(sector[2] + mix(write)));
    for (std::size_t i = 4; i < words; ++i) sector[i] = word += 0x9e3779b97f4a7c15ull;
}

}  // namespace

void sector_fill(std::byte* to, std::uint64_t run, Place place, std::uint64_t write) {
    std::uint64_t sector[words];
    make(sector, run, place, write);
    std::memcpy(to, sector, sector_bytes);
}

Code sector_read(const std::byte* from, std::uint64_t run, Place place) {
    std::uint64_t found[words], due[words] = {};
    std::memcpy(found, from, sector_bytes);
    if (std::memcmp(found, due, sector_bytes) == 0) return code_zero;
    make(due, run, place, found[3]);
    if (std::memcmp(found, due, sector_bytes) == 0 && is_write(found[3])) return found[3];
    std::uint64_t hash = 0;
    for (std::uint64_t word : found) hash = mix(hash + word);
    return code_damaged | hash;
}

std::string code_name(Code code) {
    if (code == code_zero) return "zeroes";
    if (code == code_discarded) return "a discarded block";
    if (code == code_unsent) return "nothing that was ever sent";
    if (code & code_damaged) return "what no single write left there";
    return kmodtest::text("write %llu", static_cast<unsigned long long>(code));
}

}  // namespace ebb::kmodmodel
