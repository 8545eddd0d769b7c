// SPDX-License-Identifier: Apache-2.0
// Disks and volumes with a cache that loses, tears and reorders at a power cut. The state
// (what a machine's media and caches hold) outlives the interfaces (what one run of the daemon
// uses), and can be copied to ask what a power cut at this instant would leave.
//
// A disk may: be slow; fail any command, of which a part may have been done; lose all or some of
// its cache when a flush fails; keep at a power cut any part, by sectors, of any of the writes that
// were not flushed, in any order. It never loses what a flush that succeeded came after, and
// discards change nothing that is read.
//
// A volume may: be slow; fail any command, of which a part may have been done; be full, and say
// that it is not; drop what a failed sync was to keep, and read as if it had never been; keep at a
// power cut any part of files and names that was not synced, of each rename all or nothing. What is
// closed in it may rot: bits that turn, sectors that were written to another place or not at all
// (World::rot). It never loses what a sync that succeeded came after, but for that.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "env/disk.h"
#include "env/volume.h"
#include "executor.h"

namespace ebb::sim {

using Bytes = std::vector<std::byte>;

// What a sync or flush comes to.
enum class Syncing {
    works,
    removed,  // it does nothing: a mutation
    late,     // likewise: it is answered before it is done
};

struct Faults {
    std::string mutation;                        // a site: removed; "late:" and a site
    bool always_same = false;                    // whatever is compared: a mutation
    std::map<std::string, std::uint64_t> sites;  // how often each was used
    std::map<std::string, std::uint64_t> hits;   // of fault kinds
    [[nodiscard]] Syncing sync(std::string_view site) {
        ++sites[std::string(site)];
        if (site == mutation) return Syncing::removed;
        const bool late = mutation.starts_with(late_prefix) &&
                          site == std::string_view(mutation).substr(late_prefix.size());
        return late ? Syncing::late : Syncing::works;
    }
    static constexpr std::string_view late_prefix = "late:";
};

struct DiskState {
    Bytes current;  // as reads see it
    Bytes durable;
    struct Write {
        std::uint64_t offset;
        Bytes data;
    };
    std::vector<Write> pending;  // since the last flush, in order
    std::uint64_t writes = 0;    // that were asked for
    std::uint64_t read_bytes = 0;

    explicit DiskState(std::uint64_t size) : current(size), durable(size) {}
    void write(std::uint64_t offset, Bytes data);
    void flush();
    // Any subset of what was not flushed is there, each write as a whole or in part.
    void power_cut(Rng& rng, Faults& faults);
};

struct FileState {
    Bytes current;
    Bytes durable;
    bool clean = true;
    bool troubled = false;    // its last append or sync failed
    std::uint64_t owner = 0;  // number of the volume that may change it

    void sync();
    void sync_fails(Rng& rng);
};

// Copies share files until one of them changes.
struct VolumeState {
    std::map<std::string, std::shared_ptr<FileState>> names;    // as the daemon sees it
    std::map<std::string, std::shared_ptr<FileState>> durable;  // after the last directory sync
    struct NameChange {
        std::string remove;  // a name that goes, or empty
        std::string add;     // a name that comes (or is replaced), or empty
        std::shared_ptr<FileState> file;
    };
    std::vector<NameChange> pending;
    std::uint64_t capacity = UINT64_MAX;
    std::uint64_t overstated = 0;  // space that is not there when it comes to writing

    [[nodiscard]] VolumeState copy() const;
    [[nodiscard]] FileState* find(const std::string& name);  // to change it; null: not there
    [[nodiscard]] std::shared_ptr<FileState> create() const;
    [[nodiscard]] std::uint64_t used() const;
    void power_cut(Rng& rng, Faults& faults);

private:
    FileState& own(std::shared_ptr<FileState> file);
    std::uint64_t number_ = 1;
};

class SimDisk : public env::Disk {
public:
    SimDisk(Life& life, DiskState& state, Faults& faults)
        : life_(life), state_(state), faults_(faults) {}
    std::uint64_t size() const override { return state_.current.size(); }
    void read(std::uint64_t offset, std::span<std::byte> into, env::StatusCallback done) override;
    void write(std::uint64_t offset, std::span<const std::byte> from,
               env::StatusCallback done) override;
    void write_zeroes(std::uint64_t offset, std::uint64_t length,
                      env::StatusCallback done) override;
    void discard(std::uint64_t offset, std::uint64_t length, env::StatusCallback done) override;
    void flush(std::string_view site, env::StatusCallback done) override;

    unsigned errors_per_thousand = 0;
    std::optional<std::uint64_t> bad_block;  // cannot be read
    std::uint64_t reads = 0;
    std::uint64_t reads_under_way = 0;
    std::uint64_t most_reads_under_way = 0;

private:
    void flush_first(std::size_t count);
    [[nodiscard]] bool fails(unsigned times = 1);
    [[nodiscard]] bool is_bad(std::uint64_t offset, std::uint64_t length) const;
    Life& life_;
    DiskState& state_;
    Faults& faults_;
};

class SimVolume : public env::Volume {
public:
    SimVolume(Life& life, VolumeState& state, Faults& faults)
        : life_(life), state_(state), faults_(faults) {}
    void list(env::Callback<std::vector<env::VolumeFile>> done) override;
    void create(std::string name, env::StatusCallback done) override;
    void append(const std::string& name, std::span<const std::byte> from,
                env::StatusCallback done) override;
    void read(const std::string& name, std::uint64_t offset, std::span<std::byte> into,
              env::StatusCallback done) override;
    void truncate(const std::string& name, std::uint64_t size, env::StatusCallback done) override;
    void sync(const std::string& name, std::string_view site, env::StatusCallback done) override;
    void sync_directory(std::string_view site, env::StatusCallback done) override;
    void remove(const std::string& name, env::StatusCallback done) override;
    void rename(const std::string& from, const std::string& to, env::StatusCallback done) override;
    void space(env::Callback<env::VolumeSpace> done) override;

    unsigned errors_per_thousand = 0;
    unsigned sync_errors_per_thousand = 0;
    std::string failing_site;  // its next sync fails

private:
    [[nodiscard]] bool fails();
    Life& life_;
    VolumeState& state_;
    Faults& faults_;
};

}  // namespace ebb::sim
