// SPDX-License-Identifier: Apache-2.0
#include "storage.h"

#include <algorithm>
#include <cstring>

namespace ebb::sim {

void DiskState::write(std::uint64_t offset, Bytes data) {
    std::copy(data.begin(), data.end(), current.begin() + static_cast<std::ptrdiff_t>(offset));
    pending.push_back({offset, std::move(data)});
}

void DiskState::flush() {
    for (const Write& write : pending) {
        std::copy(write.data.begin(), write.data.end(),
                  durable.begin() + static_cast<std::ptrdiff_t>(write.offset));
    }
    pending.clear();
}

void DiskState::power_cut(Rng& rng, Faults& faults) {
    // Some caches lose nothing, some everything.
    const unsigned keep = rng.chance(25) ? 0 : static_cast<unsigned>(rng.below(101));
    for (std::size_t i = pending.size(); i > 1; --i) {
        if (rng.chance(20)) std::swap(pending[i - 1], pending[rng.below(i)]);
    }
    for (const Write& write : pending) {
        if (!rng.chance(keep)) {
            ++faults.hits["lost-write"];
            continue;
        }
        std::size_t from = 0;
        std::size_t to = write.data.size();
        if (to > sector_bytes && rng.chance(85)) {
            ++faults.hits["torn-write"];
            from = rng.below(to / sector_bytes) * sector_bytes;
            to = from + (1 + rng.below((to - from) / sector_bytes)) * sector_bytes;
        }
        std::copy(write.data.begin() + static_cast<std::ptrdiff_t>(from),
                  write.data.begin() + static_cast<std::ptrdiff_t>(to),
                  durable.begin() + static_cast<std::ptrdiff_t>(write.offset + from));
    }
    pending.clear();
    current = durable;
}

namespace {

// A file of `size` bytes that has some of its current sectors and otherwise its durable ones.
Bytes partly_written(const FileState& file, std::size_t size, Rng& rng) {
    Bytes after = file.durable;
    after.resize(size);
    const unsigned fresh = rng.chance(30) ? 0 : static_cast<unsigned>(rng.below(101));
    const std::size_t all = std::min(size, file.current.size());
    for (std::size_t at = 0; at < all; at += sector_bytes) {
        const std::size_t part = std::min<std::size_t>(all - at, sector_bytes);
        if (std::memcmp(file.current.data() + at, after.data() + at, part) == 0) continue;
        if (rng.chance(fresh)) std::memcpy(after.data() + at, file.current.data() + at, part);
    }
    return after;
}

}  // namespace

void FileState::sync() {
    durable = current;
    clean = true;
    troubled = false;
}

// Some of it may have reached the disk, and that is what is read from now on.
void FileState::sync_fails(Rng& rng) {
    current = partly_written(*this, current.size(), rng);
    clean = false;
    troubled = true;
}

VolumeState VolumeState::copy() const {
    static std::uint64_t last = 1;
    VolumeState result = *this;
    result.number_ = ++last;
    return result;
}

std::shared_ptr<FileState> VolumeState::create() const {
    auto file = std::make_shared<FileState>();
    file->owner = number_;
    return file;
}

FileState& VolumeState::own(std::shared_ptr<FileState> file) {
    if (file->owner == number_) return *file;
    auto mine = std::make_shared<FileState>(*file);
    mine->owner = number_;
    for (auto* map : {&names, &durable}) {
        for (auto& [name, other] : *map) {
            if (other == file) other = mine;
        }
    }
    for (NameChange& change : pending) {
        if (change.file == file) change.file = mine;
    }
    return *mine;
}

FileState* VolumeState::find(const std::string& name) {
    const auto at = names.find(name);
    return at == names.end() ? nullptr : &own(at->second);
}

std::uint64_t VolumeState::used() const {
    std::uint64_t sum = 0;
    for (const auto& [name, file] : names) sum += file->current.size() + 512;
    return sum;
}

namespace {

void tear(FileState& file, Rng& rng, Faults& faults) {
    if (file.clean) return;  // has two names
    const std::size_t most = std::max(file.current.size(), file.durable.size());
    const std::size_t least = std::min(file.current.size(), file.durable.size());
    const std::size_t size = rng.chance(30)   ? file.durable.size()
                             : rng.chance(50) ? file.current.size()
                                              : least + rng.below(most - least + 1);
    Bytes after = partly_written(file, size, rng);
    if (after != file.current) ++faults.hits["torn-file"];
    file.current = file.durable = std::move(after);
    file.clean = true;
}

}  // namespace

void VolumeState::power_cut(Rng& rng, Faults& faults) {
    const unsigned keep = rng.chance(40) ? 0 : static_cast<unsigned>(rng.below(101));
    for (const NameChange& change : pending) {
        if (!rng.chance(keep)) {
            ++faults.hits["lost-name"];
            continue;
        }
        // A rename happens as a whole, a new name may come without what went before it.
        if (!change.add.empty()) durable[change.add] = change.file;
        if (!change.remove.empty()) durable.erase(change.remove);
    }
    pending.clear();
    std::vector<std::shared_ptr<FileState>> changed;
    for (const auto& [name, file] : durable) {
        if (!file->clean) changed.push_back(file);
    }
    for (const auto& file : changed) tear(own(file), rng, faults);
    names = durable;
}

static constexpr unsigned flush_fails_times = 10;  // as often as a read or write; they are few

bool SimDisk::fails(unsigned times) {
    if (errors_per_thousand == 0) return false;
    if (life_.executor().rng.below(1000) >= times * errors_per_thousand) return false;
    ++faults_.hits["disk-error"];
    return true;
}

bool SimDisk::is_bad(std::uint64_t offset, std::uint64_t length) const {
    const std::uint64_t at = bad_block.value_or(UINT64_MAX / block_bytes) * block_bytes;
    return at < offset + length && at + block_bytes > offset;
}

void SimDisk::read(std::uint64_t offset, std::span<std::byte> into, env::StatusCallback done) {
    state_.read_bytes += into.size();
    ++reads;
    most_reads_under_way = std::max(most_reads_under_way, ++reads_under_way);
    life_.io([this, offset, into, done = std::move(done)]() mutable {
        --reads_under_way;
        if (fails() || is_bad(offset, into.size()))
            return done(fail(ErrorCode::io, "simulated read error"));
        std::memcpy(into.data(), state_.current.data() + offset, into.size());
        done(Status{});
    });
}

namespace {

constexpr std::int64_t late_at_least = 20'000'000;  // ns
constexpr std::uint64_t late_more = 80'000'000;

void when_done(Life& life, Syncing syncing, std::move_only_function<void()> effect) {
    if (syncing == Syncing::works) effect();
    if (syncing != Syncing::late) return;
    const auto more = static_cast<std::int64_t>(life.executor().rng.below(late_more));
    life.at(late_at_least + more, std::move(effect));
}

}  // namespace

// Some disks have sectors of 4 KiB.
static bool is_aligned(std::uint64_t offset) {
    return offset % block_bytes == 0;
}

void SimDisk::write(std::uint64_t offset, std::span<const std::byte> from,
                    env::StatusCallback done) {
    ++state_.writes;
    life_.io([this, offset, from, done = std::move(done)]() mutable {
        if (!is_aligned(offset)) return done(fail(ErrorCode::internal, "unaligned write"));
        if (fails()) {
            // Of what failed any part may be there.
            Rng& rng = life_.executor().rng;
            const std::size_t part = rng.below(from.size() / sector_bytes + 1) * sector_bytes;
            if (part > 0) state_.write(offset, Bytes(from.begin(), from.begin() + part));
            return done(fail(ErrorCode::io, "simulated write error"));
        }
        state_.write(offset, Bytes(from.begin(), from.end()));
        done(Status{});
    });
}

void SimDisk::write_zeroes(std::uint64_t offset, std::uint64_t length, env::StatusCallback done) {
    life_.io([this, offset, length, done = std::move(done)]() mutable {
        if (!is_aligned(offset)) return done(fail(ErrorCode::internal, "unaligned write"));
        if (fails()) return done(fail(ErrorCode::io, "simulated error of zeroing"));
        state_.write(offset, Bytes(length));
        done(Status{});
    });
}

void SimDisk::discard(std::uint64_t, std::uint64_t, env::StatusCallback done) {
    life_.io([done = std::move(done)]() mutable { done(Status{}); });
}

void SimDisk::flush(std::string_view site, env::StatusCallback done) {
    // What was written before the flush began is durable when it ends.
    const std::size_t count = state_.pending.size();
    const Syncing syncing = faults_.sync(site);
    life_.io([this, count, syncing, done = std::move(done)]() mutable {
        if (fails(flush_fails_times)) {
            // It may have been reset, and have lost what was in its cache.
            if (life_.executor().rng.chance(50)) {
                ++faults_.hits["disk-reset"];
                state_.power_cut(life_.executor().rng, faults_);
            }
            return done(fail(ErrorCode::io, "simulated flush error"));
        }
        when_done(life_, syncing, [this, count] { flush_first(count); });
        done(Status{});
    });
}

void SimDisk::flush_first(std::size_t count) {
    const std::size_t flushed = std::min(count, state_.pending.size());
    std::vector<DiskState::Write> later(
        state_.pending.begin() + static_cast<std::ptrdiff_t>(flushed), state_.pending.end());
    state_.pending.resize(flushed);
    state_.flush();
    state_.pending = std::move(later);
}

bool SimVolume::fails() {
    if (errors_per_thousand == 0) return false;
    if (life_.executor().rng.below(1000) >= errors_per_thousand) return false;
    ++faults_.hits["volume-error"];
    return true;
}

void SimVolume::list(env::Callback<std::vector<env::VolumeFile>> done) {
    life_.io([this, done = std::move(done)]() mutable {
        std::vector<env::VolumeFile> files;
        for (const auto& [name, file] : state_.names) files.push_back({name, file->current.size()});
        done(std::move(files));
    });
}

void SimVolume::create(std::string name, env::StatusCallback done) {
    life_.io([this, name, done = std::move(done)]() mutable {
        if (state_.names.contains(name)) return done(fail(ErrorCode::exists, name));
        if (fails()) return done(fail(ErrorCode::io, "simulated error of creating"));
        if (state_.used() + 512 > state_.capacity) return done(fail(ErrorCode::no_space, name));
        auto file = state_.create();
        state_.names[name] = file;
        state_.pending.push_back({"", name, file});
        done(Status{});
    });
}

void SimVolume::append(const std::string& name, std::span<const std::byte> from,
                       env::StatusCallback done) {
    life_.io([this, name, from, done = std::move(done)]() mutable {
        FileState* found = state_.find(name);
        if (found == nullptr) return done(fail(ErrorCode::not_found, name));
        FileState& file = *found;
        file.clean = false;
        const std::uint64_t used = state_.used();
        const std::uint64_t room = state_.capacity > used ? state_.capacity - used : 0;
        if (from.size() > room) {
            ++faults_.hits["full-volume"];
            file.troubled = true;
            const auto part = from.first(life_.executor().rng.below(room + 1));
            file.current.insert(file.current.end(), part.begin(), part.end());
            return done(fail(ErrorCode::no_space, "simulated full volume"));
        }
        if (fails()) {
            file.troubled = true;
            const auto part = from.first(life_.executor().rng.below(from.size() + 1));
            file.current.insert(file.current.end(), part.begin(), part.end());
            return done(fail(ErrorCode::io, "simulated error of appending"));
        }
        file.current.insert(file.current.end(), from.begin(), from.end());
        done(Status{});
    });
}

void SimVolume::read(const std::string& name, std::uint64_t offset, std::span<std::byte> into,
                     env::StatusCallback done) {
    life_.io([this, name, offset, into, done = std::move(done)]() mutable {
        const auto at = state_.names.find(name);
        if (at == state_.names.end()) return done(fail(ErrorCode::not_found, name));
        if (fails()) return done(fail(ErrorCode::io, "simulated error of reading"));
        const Bytes& data = at->second->current;
        if (offset > data.size() || into.size() > data.size() - offset) {
            return done(fail(ErrorCode::io, "beyond the end of " + name));
        }
        std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
        done(Status{});
    });
}

void SimVolume::truncate(const std::string& name, std::uint64_t size, env::StatusCallback done) {
    life_.io([this, name, size, done = std::move(done)]() mutable {
        FileState* file = state_.find(name);
        if (file == nullptr) return done(fail(ErrorCode::not_found, name));
        if (fails()) return done(fail(ErrorCode::io, "simulated error of truncating"));
        file->clean = false;
        file->current.resize(size);
        done(Status{});
    });
}

void SimVolume::sync(const std::string& name, std::string_view site, env::StatusCallback done) {
    const Syncing syncing = faults_.sync(site);
    const bool chosen = site == failing_site;
    if (chosen) failing_site.clear();
    life_.io([this, name, syncing, chosen, done = std::move(done)]() mutable {
        FileState* file = state_.find(name);
        if (file == nullptr) return done(fail(ErrorCode::not_found, name));
        if (chosen || life_.executor().rng.below(1000) < sync_errors_per_thousand) {
            ++faults_.hits["sync-error"];
            file->sync_fails(life_.executor().rng);
            return done(fail(ErrorCode::io, "simulated sync error"));
        }
        when_done(life_, syncing, [this, name] {
            if (FileState* synced = state_.find(name)) synced->sync();
        });
        done(Status{});
    });
}

void SimVolume::sync_directory(std::string_view site, env::StatusCallback done) {
    const Syncing syncing = faults_.sync(site);
    life_.io([this, syncing, done = std::move(done)]() mutable {
        if (fails()) return done(fail(ErrorCode::io, "simulated error of syncing names"));
        when_done(life_, syncing, [this] {
            state_.durable = state_.names;
            state_.pending.clear();
        });
        done(Status{});
    });
}

void SimVolume::remove(const std::string& name, env::StatusCallback done) {
    life_.io([this, name, done = std::move(done)]() mutable {
        if (fails()) return done(fail(ErrorCode::io, "simulated error of removing"));
        if (state_.names.erase(name) == 0) return done(fail(ErrorCode::not_found, name));
        state_.pending.push_back({name, "", nullptr});
        done(Status{});
    });
}

void SimVolume::rename(const std::string& from, const std::string& to, env::StatusCallback done) {
    life_.io([this, from, to, done = std::move(done)]() mutable {
        if (fails()) return done(fail(ErrorCode::io, "simulated error of renaming"));
        auto node = state_.names.extract(from);
        if (node.empty()) return done(fail(ErrorCode::not_found, from));
        state_.names[to] = node.mapped();
        state_.pending.push_back({from, to, node.mapped()});
        done(Status{});
    });
}

void SimVolume::space(env::Callback<env::VolumeSpace> done) {
    life_.io([this, done = std::move(done)]() mutable {
        const std::uint64_t used = state_.used();
        done(env::VolumeSpace{
            state_.capacity,
            (state_.capacity > used ? state_.capacity - used : 0) + state_.overstated});
    });
}

}  // namespace ebb::sim
