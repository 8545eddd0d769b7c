// SPDX-License-Identifier: Apache-2.0
// stampcheck: whether images hold a cut of what the stamping writers did.
//
//   --log F ...          logs of all writers
//   --cuts F             the replicator's log: every closed cut is checked, or with --cut N that
//   one
//                        as the moment of the images
//   --image N=PATH ...   image of disk N: checked instead of the replicator's account
//                        (without --cuts: the image of a disk at rest, all acknowledged writes)
//   --first N=BLOCK      block of the disk at which the image begins (for a partition)
//
// Prints an account as JSON; exit status 1 and sentences on standard error for faults.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "lib/direct.h"
#include "lib/history.h"
#include "lib/options.h"

namespace ebb::kmodtest {
namespace {

struct Cut {
    std::uint64_t asked = 0;
    std::uint64_t granted = 0;
};

void take_sector(FoundBlock& block, std::size_t index, const LogRecord& record) {
    block.sectors[index] = {record.disk, record.writer, record.block, record.sequence,
                            record.stamp_ticket};
}

void take(Found& found, const LogRecord& record) {
    FoundBlock& block = found[{record.disk, record.block}];
    block.discarded = record.kind == LogKind::discarded;
    if (record.part) {
        take_sector(block, record.part - 1, record);
        return;
    }
    for (std::size_t i = 0; i < sectors_of_block; ++i) take_sector(block, i, record);
}

std::size_t report(const std::vector<std::string>& faults, std::uint64_t cut) {
    for (const auto& fault : faults)
        fprintf(stderr, "stampcheck: cut %llu: %s\n", static_cast<unsigned long long>(cut),
                fault.c_str());
    return faults.size();
}

// Every closed cut of the replicator's log, from what it says it found.
std::size_t check_cuts(const History& history, const std::vector<LogRecord>& records,
                       std::size_t& checked) {
    Found found;
    std::map<std::uint64_t, Cut> cuts;
    std::size_t faults = 0;
    for (const auto& record : records) {
        switch (record.kind) {
            case LogKind::cut_asked: cuts[record.sequence].asked = record.ticket; break;
            case LogKind::cut_granted: cuts[record.sequence].granted = record.ticket; break;
            case LogKind::found:
            case LogKind::discarded: take(found, record); break;
            case LogKind::cut_closed: {
                const Cut& cut = cuts[record.sequence];
                faults += report(history.check(found, cut.asked, cut.granted, 5), record.sequence);
                ++checked;
                break;
            }
            default: break;
        }
    }
    return faults;
}

bool read_image(const std::string& spec, std::uint64_t first, Found& found) {
    auto disk = static_cast<std::uint32_t>(std::strtoul(spec.c_str(), nullptr, 0));
    int fd = open(spec.substr(spec.find('=') + 1).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    auto buffer = aligned(1 << 20);
    ssize_t got;
    std::uint64_t block = 0;
    while ((got = read(fd, buffer.get(), 1 << 20)) > 0)
        for (ssize_t at = 0; at + static_cast<ssize_t>(stamp_block) <= got;
             at += stamp_block, ++block) {
            FoundBlock found_block;
            bool any = false;
            for (unsigned i = 0; i < sectors_of_block; ++i) {
                Stamp& stamp = found_block.sectors[i];
                std::span sector(buffer.get() + at + i * stamp_sector, stamp_sector);
                SectorState state = stamp_read(sector, i, stamp);
                bool elsewhere = state == SectorState::stamped &&
                                 (stamp.disk != disk || stamp.block != block + first);
                if (state == SectorState::damaged || elsewhere) stamp.sequence = never;
                any |= state != SectorState::empty;
            }
            if (any) found[{disk, block + first}] = found_block;
        }
    close(fd);
    return got == 0;
}

std::uint64_t first_of(const Options& options, const std::string& spec) {
    for (const auto& first : options.all("first"))
        if (first.substr(0, first.find('=')) == spec.substr(0, spec.find('=')))
            return std::strtoull(first.c_str() + first.find('=') + 1, nullptr, 0);
    return 0;
}

// Blocks that hold something else than stamps are of no concern unless a writer's log names them.
std::size_t check_images(const Options& options, const History& history,
                         const std::vector<LogRecord>& records) {
    Cut cut{never - 1, never - 1};
    std::uint64_t number = options.number("cut", 0);
    for (const auto& record : records) {
        if (record.sequence != number || !number) continue;
        if (record.kind == LogKind::cut_asked) cut.asked = record.ticket;
        if (record.kind == LogKind::cut_granted) cut.granted = record.ticket;
    }
    Found found;
    for (const auto& spec : options.all("image"))
        if (!read_image(spec, first_of(options, spec), found)) {
            fprintf(stderr, "stampcheck: cannot read %s: %s\n", spec.c_str(), strerror(errno));
            return 1;
        }
    return report(history.check(found, cut.asked, cut.granted, 20), number);
}

int main(int argc, char** argv) {
    Options options(argc, argv, {});
    History history;
    std::size_t writes = 0;
    for (const auto& path : options.all("log")) {
        std::vector<LogRecord> records;
        if (!read_log(path, records)) {
            fprintf(stderr, "stampcheck: cannot read %s\n", path.c_str());
            return 2;
        }
        history.add(records);
        writes += records.size() / 2;
    }
    history.finish();
    std::vector<LogRecord> records;
    if (options.has("cuts") && !read_log(options.get("cuts"), records)) return 2;
    std::size_t checked = options.has("image") ? 1 : 0;
    std::size_t faults = options.has("image") ? check_images(options, history, records)
                                              : check_cuts(history, records, checked);
    printf("{\"cuts\":%zu,\"writes\":%zu,\"blocks\":%zu,\"faults\":%zu}\n", checked, writes,
           history.blocks(), faults);
    return faults || !checked ? 1 : 0;
}

}  // namespace
}  // namespace ebb::kmodtest

int main(int argc, char** argv) {
    return ebb::kmodtest::main(argc, argv);
}
