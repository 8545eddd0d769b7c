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

VolumeState VolumeState::copy() const {
    VolumeState result;
    result.capacity = capacity;
    std::map<const FileState*, std::shared_ptr<FileState>> files;
    const auto twin = [&](const std::shared_ptr<FileState>& file) {
        auto& made = files[file.get()];
        if (!made && file) made = std::make_shared<FileState>(*file);
        return made;
    };
    for (const auto& [name, file] : names) result.names[name] = twin(file);
    for (const auto& [name, file] : durable) result.durable[name] = twin(file);
    for (const auto& change : pending) {
        result.pending.push_back({change.remove, change.add, twin(change.file)});
    }
    return result;
}

std::uint64_t VolumeState::used() const {
    std::uint64_t sum = 0;
    for (const auto& [name, file] : names) sum += file->current.size() + 512;
    return sum;
}

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
    std::set<FileState*> seen;
    for (auto& [name, file] : durable) {
        if (file->clean || !seen.insert(file.get()).second) continue;
        const std::size_t most = std::max(file->current.size(), file->durable.size());
        const std::size_t least = std::min(file->current.size(), file->durable.size());
        std::size_t size = rng.chance(30)   ? file->durable.size()
                           : rng.chance(50) ? file->current.size()
                                            : least + rng.below(most - least + 1);
        Bytes after(size);
        const unsigned fresh = rng.chance(30) ? 0 : static_cast<unsigned>(rng.below(101));
        for (std::size_t at = 0; at < size; at += sector_bytes) {
            const std::size_t end = std::min(size, at + static_cast<std::size_t>(sector_bytes));
            const Bytes& from = rng.chance(fresh) ? file->current : file->durable;
            for (std::size_t i = at; i < end && i < from.size(); ++i) after[i] = from[i];
        }
        if (after != file->current) ++faults.hits["torn-file"];
        file->current = file->durable = std::move(after);
        file->clean = true;
    }
    names = durable;
}

bool SimDisk::fails() {
    if (error_percent_of_thousand == 0) return false;
    if (life_.executor().rng.below(1000) >= error_percent_of_thousand) return false;
    ++faults_.hits["disk-error"];
    return true;
}

void SimDisk::read(std::uint64_t offset, std::span<std::byte> into, env::StatusCallback done) {
    life_.io([this, offset, into, done = std::move(done)]() mutable {
        if (fails()) return done(fail(ErrorCode::io, "simulated read error"));
        std::memcpy(into.data(), state_.current.data() + offset, into.size());
        done(Status{});
    });
}

void SimDisk::write(std::uint64_t offset, std::span<const std::byte> from,
                    env::StatusCallback done) {
    life_.io([this, offset, from, done = std::move(done)]() mutable {
        if (fails()) return done(fail(ErrorCode::io, "simulated write error"));
        state_.write(offset, Bytes(from.begin(), from.end()));
        done(Status{});
    });
}

void SimDisk::write_zeroes(std::uint64_t offset, std::uint64_t length, env::StatusCallback done) {
    life_.io([this, offset, length, done = std::move(done)]() mutable {
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
    const bool works = faults_.sync(site);
    life_.io([this, count, works, done = std::move(done)]() mutable {
        if (works) {
            const std::size_t flushed = std::min(count, state_.pending.size());
            std::vector<DiskState::Write> later(
                state_.pending.begin() + static_cast<std::ptrdiff_t>(flushed),
                state_.pending.end());
            state_.pending.resize(flushed);
            state_.flush();
            state_.pending = std::move(later);
        }
        done(Status{});
    });
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
        if (state_.used() + 512 > state_.capacity) return done(fail(ErrorCode::no_space, name));
        auto file = std::make_shared<FileState>();
        state_.names[name] = file;
        state_.pending.push_back({"", name, file});
        done(Status{});
    });
}

void SimVolume::append(const std::string& name, std::span<const std::byte> from,
                       env::StatusCallback done) {
    life_.io([this, name, from, done = std::move(done)]() mutable {
        const auto at = state_.names.find(name);
        if (at == state_.names.end()) return done(fail(ErrorCode::not_found, name));
        FileState& file = *at->second;
        file.clean = false;
        const std::uint64_t used = state_.used();
        const std::uint64_t room = state_.capacity > used ? state_.capacity - used : 0;
        if (from.size() > room) {
            ++faults_.hits["full-volume"];
            const auto part = from.first(life_.executor().rng.below(room + 1));
            file.current.insert(file.current.end(), part.begin(), part.end());
            return done(fail(ErrorCode::no_space, "simulated full volume"));
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
        const auto at = state_.names.find(name);
        if (at == state_.names.end()) return done(fail(ErrorCode::not_found, name));
        at->second->clean = false;
        at->second->current.resize(size);
        done(Status{});
    });
}

void SimVolume::sync(const std::string& name, std::string_view site, env::StatusCallback done) {
    const bool works = faults_.sync(site);
    life_.io([this, name, works, done = std::move(done)]() mutable {
        const auto at = state_.names.find(name);
        if (at == state_.names.end()) return done(fail(ErrorCode::not_found, name));
        if (works) {
            at->second->durable = at->second->current;
            at->second->clean = true;
        }
        done(Status{});
    });
}

void SimVolume::sync_directory(std::string_view site, env::StatusCallback done) {
    const bool works = faults_.sync(site);
    life_.io([this, works, done = std::move(done)]() mutable {
        if (works) {
            state_.durable = state_.names;
            state_.pending.clear();
        }
        done(Status{});
    });
}

void SimVolume::remove(const std::string& name, env::StatusCallback done) {
    life_.io([this, name, done = std::move(done)]() mutable {
        if (state_.names.erase(name) == 0) return done(fail(ErrorCode::not_found, name));
        state_.pending.push_back({name, "", nullptr});
        done(Status{});
    });
}

void SimVolume::rename(const std::string& from, const std::string& to, env::StatusCallback done) {
    life_.io([this, from, to, done = std::move(done)]() mutable {
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
        done(
            env::VolumeSpace{state_.capacity, state_.capacity > used ? state_.capacity - used : 0});
    });
}

}  // namespace ebb::sim
