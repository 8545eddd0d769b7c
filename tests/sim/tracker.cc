// SPDX-License-Identifier: Apache-2.0
#include "tracker.h"

#include <algorithm>
#include <cstring>

namespace ebb::sim {

namespace {

Bytes stamped(std::uint64_t stamp, std::size_t size) {
    Bytes data(size);
    if (stamp == 0) return data;
    for (std::size_t i = 0; i + 8 <= size; i += 8) {
        const std::uint64_t word = stamp * 0x9e3779b97f4a7c15ULL + i * (stamp % 3);
        std::memcpy(data.data() + i, &word, 8);
    }
    return data;
}

}  // namespace

SourceMachine::SourceMachine(Executor& executor, Faults& faults,
                             const std::vector<std::uint64_t>& sizes)
    : executor_(executor), faults_(faults), life_(std::make_shared<Life>(executor)) {
    for (std::uint64_t size : sizes) {
        Disk disk;
        disk.submitted.resize(size);
        for (Block block = 0; block * block_bytes < size; ++block) {
            if (executor.rng.chance(40)) continue;
            const auto data = stamped(++stamp_, std::min(block_bytes, size - block * block_bytes));
            std::copy(data.begin(), data.end(),
                      disk.submitted.begin() + static_cast<std::ptrdiff_t>(block * block_bytes));
        }
        disk.current = disk.submitted;
        disk.reasons.insert("new");
        disks_.push_back(std::move(disk));
    }
    for (auto& byte : incarnation_.bytes) byte = static_cast<std::byte>(executor.rng.next());
}

Cut SourceMachine::now() const {
    Cut cut;
    for (const Disk& disk : disks_) {
        cut.content.push_back(disk.submitted);
        cut.loose.push_back(disk.loose);
    }
    cut.begun = executor_.now();
    return cut;
}

Bytes SourceMachine::block_of(const Bytes& content, Block block) const {
    const std::size_t from = block * block_bytes;
    const std::size_t to = std::min(content.size(), from + block_bytes);
    return {content.begin() + static_cast<std::ptrdiff_t>(from),
            content.begin() + static_cast<std::ptrdiff_t>(to)};
}

void SourceMachine::app_write(Rng& rng) {
    const auto index = static_cast<DiskIndex>(rng.below(disks_.size()));
    const Block all = blocks(disks_[index]);
    const bool hot = rng.chance(60);
    const Block first = rng.below(hot ? std::max<Block>(1, all / 4) : all);
    const Block count = std::min<Block>(all - first, 1 + (rng.chance(20) ? rng.below(12) : 0));
    const bool discard = rng.chance(6);
    const bool zero = rng.chance(10);
    std::vector<Bytes> data;
    for (Block i = 0; i < count; ++i) {
        const std::size_t size = block_of(disks_[index].submitted, first + i).size();
        data.push_back(stamped(zero ? 0 : ++stamp_, size));
    }
    enter([this, index, first, count, data = std::move(data), discard] {
        submit(index, first, count, data, discard);
    });
}

void SourceMachine::write(DiskIndex index, Block block, const Bytes& data,
                          std::move_only_function<void()> done) {
    enter([this, index, block, data, done = std::move(done)]() mutable {
        submit(index, block, 1, {data}, false);
        life_->at(disks_[index].lands[block] - executor_.now() + 1, std::move(done));
    });
}

void SourceMachine::submit(DiskIndex index, Block first, Block count,
                           const std::vector<Bytes>& data, bool discard) {
    Disk& disk = disks_[index];
    for (Block i = 0; i < count; ++i) {
        const Block block = first + i;
        mark_block(disk, block);
        if (discard) {
            disk.discarded.insert(block);
            disk.loose.insert(block);
        } else {
            disk.discarded.erase(block);
            disk.loose.erase(block);
        }
        std::copy(data[i].begin(), data[i].end(),
                  disk.submitted.begin() + static_cast<std::ptrdiff_t>(block * block_bytes));
        ++in_flight_[generation_];
        std::int64_t& lands = disk.lands[block];
        lands = std::max(lands, executor_.now()) + 1 + executor_.io_delay();
        life_->at(lands - executor_.now(),
                  [this, index, block, generation = generation_, copy = data[i]] {
                      land(index, block, generation, copy);
                  });
    }
}

bool SourceMachine::frozen_block(const Disk& disk, Block block) const {
    return pass_ && pass_->info.kind == env::PassKind::frozen &&
           (pass_->info.state == env::PassState::draining ||
            pass_->info.state == env::PassState::ready) &&
           (pass_->whole || disk.left.contains(block));
}

void SourceMachine::land(DiskIndex index, Block block, std::uint64_t generation,
                         const Bytes& data) {
    Disk& disk = disks_[index];
    if (frozen_block(disk, block) && generation > pass_->info.generation &&
        !disk.preserved.contains(block)) {
        std::size_t used = 0;
        for (const Disk& other : disks_) used += other.preserved.size();
        if (used >= pool_blocks) {
            ++faults_.hits["pool-full"];
            void_pass("pool full");
        } else {
            disk.preserved[block] = block_of(disk.current, block);
            ++pass_->info.preserved;
            ++faults_.hits["preserved"];
        }
    }
    std::copy(data.begin(), data.end(),
              disk.current.begin() + static_cast<std::ptrdiff_t>(block * block_bytes));
    if (--in_flight_[generation] == 0) in_flight_.erase(generation);
    drained();
}

void SourceMachine::drained() {
    if (!pass_ || pass_->info.state != env::PassState::draining) return;
    if (!in_flight_.empty() && in_flight_.begin()->first <= pass_->info.generation) return;
    pass_->info.state = env::PassState::ready;
    if (event_)
        life_->at(1000, [this] {
            if (event_) event_();
        });
}

void SourceMachine::untracked_write(Rng& rng) {
    const auto index = static_cast<DiskIndex>(rng.below(disks_.size()));
    Disk& disk = disks_[index];
    const Block block = rng.below(blocks(disk));
    // Only where nothing is in flight: which of two such writes lands last is nobody's business.
    if (disk.lands[block] >= executor_.now()) return;
    ++faults_.hits["untracked-write"];
    const Bytes data = stamped(++stamp_, block_of(disk.submitted, block).size());
    const auto at = static_cast<std::ptrdiff_t>(block * block_bytes);
    std::copy(data.begin(), data.end(), disk.submitted.begin() + at);
    std::copy(data.begin(), data.end(), disk.current.begin() + at);
    disk.loose.erase(block);
    disk.discarded.erase(block);
    disk.reasons.insert("untracked write");
}

void SourceMachine::put_back(bool unconfirmed) {
    for (Disk& disk : disks_) {
        if (pass_) {
            disk.dirty.insert(disk.taken.begin(), disk.taken.end());
            disk.taken.clear();
            disk.left.clear();
            disk.preserved.clear();
        }
        if (!unconfirmed) continue;
        disk.dirty.insert(disk.unconfirmed.begin(), disk.unconfirmed.end());
        disk.unconfirmed.clear();
    }
}

void SourceMachine::void_pass(std::string reason) {
    if (!pass_ || pass_->info.state == env::PassState::voided) return;
    put_back(false);
    pass_->info.state = env::PassState::voided;
    pass_->info.void_reason = std::move(reason);
    if (event_)
        life_->at(1000, [this] {
            if (event_) event_();
        });
}

void SourceMachine::owner_died() {
    event_ = {};
    void_pass("owner");
    gate_expired("owner");
    if (death_puts_back_unconfirmed) put_back(true);
}

Status SimTracker::check(env::PassId pass, bool ready) const {
    if (!m_.pass_ || m_.pass_->info.id != pass) return fail(ErrorCode::not_found, "no such pass");
    if (m_.pass_->info.state == env::PassState::voided) {
        return fail(ErrorCode::stale, m_.pass_->info.void_reason);
    }
    if (ready && m_.pass_->info.state != env::PassState::ready) {
        return fail(ErrorCode::busy, "draining");
    }
    return {};
}

void SimTracker::incarnation(env::Callback<Uuid> done) {
    life_.io([this, done = std::move(done)]() mutable { done(m_.incarnation_); });
}

void SimTracker::disks(env::Callback<std::vector<env::TrackedDisk>> done) {
    life_.io([this, done = std::move(done)]() mutable {
        std::vector<env::TrackedDisk> list;
        for (std::size_t i = 0; i < m_.disks_.size(); ++i) {
            const auto& disk = m_.disks_[i];
            env::TrackedDisk tracked;
            tracked.stable_id = "source-" + std::to_string(i);
            tracked.size = disk.submitted.size();
            tracked.dirty_blocks = disk.dirty.size();
            tracked.resync_reasons.assign(disk.reasons.begin(), disk.reasons.end());
            if (m_.hide_reasons) std::erase(tracked.resync_reasons, "untracked write");
            if (disk.kept) tracked.cookie = disk.cookie;
            if (!m_.forget_note) tracked.note = m_.note_;
            list.push_back(std::move(tracked));
        }
        done(std::move(list));
    });
}

void SimTracker::mark_all(DiskIndex index, bool /*compare*/, env::StatusCallback done) {
    life_.io([this, index, done = std::move(done)]() mutable {
        auto& disk = m_.disks_[index];
        for (Block block = 0; block < m_.blocks(disk); ++block) m_.mark_block(disk, block);
        disk.reasons.clear();
        done(Status{});
    });
}

void SimTracker::mark(DiskIndex index, std::span<const Extent> extents, env::StatusCallback done) {
    std::vector<Extent> copy(extents.begin(), extents.end());
    life_.io([this, index, copy, done = std::move(done)]() mutable {
        auto& disk = m_.disks_[index];
        for (const Extent& extent : copy) {
            for (Block b = extent.offset / block_bytes; b * block_bytes < extent.end(); ++b) {
                if (!m_.ignore_mark) m_.mark_block(disk, b);
            }
        }
        done(Status{});
    });
}

void SimTracker::begin_pass(env::PassKind kind, bool whole, std::optional<env::GateId> gate,
                            env::Callback<env::PassInfo> done) {
    life_.io([this, kind, whole, gate, done = std::move(done)]() mutable {
        if (m_.pass_ && m_.pass_->info.state != env::PassState::voided) {
            return done(fail(ErrorCode::busy, "there is a pass"));
        }
        if (gate && (!m_.gate_ || m_.gate_->id != *gate) && !m_.late_gate_unseen)
            return done(fail(ErrorCode::stale, "the gate is open"));
        SourceMachine::Pass pass;
        pass.whole = whole;
        pass.info.id = ++m_.last_pass_;
        pass.info.kind = kind;
        pass.info.generation = m_.generation_++;
        pass.info.cut_time = {m_.executor_.now() + wall_start + m_.clock_stepped};
        // By which the oracle knows it.
        while (m_.cuts_.contains(pass.info.cut_time.ns)) ++pass.info.cut_time.ns;
        for (auto& disk : m_.disks_) {
            disk.taken = disk.left = std::move(disk.dirty);
            disk.dirty.clear();
            disk.taken_discarded = std::move(disk.discarded);
            disk.discarded.clear();
            disk.preserved.clear();
            pass.info.blocks += disk.taken.size();
        }
        pass.info.blocks_left = pass.info.blocks;
        if (kind == env::PassKind::frozen) m_.cuts_[pass.info.cut_time.ns] = m_.now();
        m_.pass_ = pass;
        if (gate && m_.gate_) m_.gate_->pass = pass.info.id;
        const env::PassInfo info = pass.info;
        m_.drained();
        done(info);
    });
}

void SimTracker::get_pass(env::PassId id, env::Callback<env::PassInfo> done) {
    life_.io([this, id, done = std::move(done)]() mutable {
        if (!m_.pass_ || (id != 0 && m_.pass_->info.id != id))
            return done(fail(ErrorCode::not_found, "pass"));
        done(m_.pass_->info);
    });
}

void SimTracker::pass_map(env::PassId id, DiskIndex index, std::uint64_t offset,
                          env::Callback<env::PassMap> done) {
    life_.io([this, id, index, offset, done = std::move(done)]() mutable {
        if (auto status = check(id, true); !status) return done(std::unexpected(status.error()));
        const auto& disk = m_.disks_[index];
        env::PassMap map;
        const std::size_t most = 1 + m_.executor_.rng.below(8);
        for (auto at = disk.left.lower_bound(offset / block_bytes); at != disk.left.end(); ++at) {
            const std::uint64_t begin = *at * block_bytes;
            const std::uint64_t size = std::min(block_bytes, disk.submitted.size() - begin);
            const bool discarded = disk.taken_discarded.contains(*at);
            Extent* last = map.extents.empty() ? nullptr : &map.extents.back();
            if (last != nullptr && last->end() == begin && last->discarded == discarded) {
                last->length += size;
            } else if (map.extents.size() == most) {
                map.more = true;
                map.next_offset = begin;
                break;
            } else {
                map.extents.push_back({begin, size, discarded});
            }
        }
        done(std::move(map));
    });
}

void SimTracker::read(env::PassId id, DiskIndex index, std::uint64_t offset,
                      std::span<std::byte> into, env::StatusCallback done) {
    life_.io([this, id, index, offset, into, done = std::move(done)]() mutable {
        const auto& disk = m_.disks_[index];
        if (!check(id, true)) {
            // A read that races with the end of the pass: an error, or anything at all.
            if (m_.executor_.rng.chance(50)) return done(fail(ErrorCode::io, "void"));
            std::memset(into.data(), 0x5a, into.size());
            return done(Status{});
        }
        for (std::uint64_t at = 0; at < into.size(); at += block_bytes) {
            const Block block = (offset + at) / block_bytes;
            if (m_.bad_block && *m_.bad_block == std::pair(index, block)) {
                ++m_.faults_.hits["read-error"];
                return done(fail(ErrorCode::io, "simulated bad sector"));
            }
            const auto kept = disk.preserved.find(block);
            const Bytes data =
                kept != disk.preserved.end() ? kept->second : m_.block_of(disk.current, block);
            std::copy_n(data.begin(), std::min<std::uint64_t>(data.size(), into.size() - at),
                        into.begin() + static_cast<std::ptrdiff_t>(at));
        }
        done(Status{});
    });
}

// A write that is under way may be seen in it, whole or in part, or not.
void SimTracker::read_disk(DiskIndex index, std::uint64_t offset, std::span<std::byte> into,
                           env::StatusCallback done) {
    life_.io([this, index, offset, into, done = std::move(done)]() mutable {
        const auto& disk = m_.disks_[index];
        const Bytes& content = m_.executor_.rng.chance(50) ? disk.current : disk.submitted;
        for (std::uint64_t at = 0; at < into.size(); at += block_bytes) {
            const Block block = (offset + at) / block_bytes;
            if (m_.bad_block && *m_.bad_block == std::pair(index, block)) {
                ++m_.faults_.hits["read-error"];
                return done(fail(ErrorCode::io, "simulated bad sector"));
            }
        }
        std::copy_n(content.begin() + static_cast<std::ptrdiff_t>(offset), into.size(),
                    into.begin());
        if (m_.old_disk_reads && offset == 0) into[0] ^= std::byte{1};
        done(Status{});
    });
}

void SimTracker::release(env::PassId id, DiskIndex index, std::span<const Extent> extents,
                         env::StatusCallback done) {
    std::vector<Extent> copy(extents.begin(), extents.end());
    life_.io([this, id, index, copy, done = std::move(done)]() mutable {
        if (auto status = check(id, true); !status) {
            if (m_.hide_stale_release) return done(Status{});
            return done(std::unexpected(status.error()));
        }
        auto& disk = m_.disks_[index];
        for (const Extent& extent : copy) {
            for (Block b = extent.offset / block_bytes; b * block_bytes < extent.end(); ++b) {
                if (disk.left.erase(b) != 0) {
                    disk.unconfirmed.insert(b);
                    --m_.pass_->info.blocks_left;
                }
                if (!m_.pass_->whole) disk.preserved.erase(b);
            }
        }
        done(Status{});
    });
}

void SimTracker::end_pass(env::PassId id, env::StatusCallback done) {
    life_.io([this, id, done = std::move(done)]() mutable {
        if (auto status = check(id, true); !status) {
            if (m_.hide_stale_release) return done(Status{});
            return done(std::unexpected(status.error()));
        }
        for (const auto& disk : m_.disks_) {
            if (!disk.left.empty()) return done(fail(ErrorCode::busy, "ranges are left"));
        }
        for (auto& disk : m_.disks_) {
            disk.taken.clear();
            disk.preserved.clear();
        }
        const auto cut = m_.cuts_.find(m_.pass_->info.cut_time.ns);
        if (cut != m_.cuts_.end()) cut->second.over = m_.executor_.now();
        m_.pass_.reset();
        done(Status{});
    });
}

void SimTracker::keep(const env::Cookie& cookie, env::StatusCallback done) {
    life_.io([this, cookie, done = std::move(done)]() mutable {
        for (auto& disk : m_.disks_) disk.cookie = cookie;
        done(Status{});
    });
}

void SimTracker::leave_note(std::vector<std::byte> note, env::StatusCallback done) {
    life_.io([this, note = std::move(note), done = std::move(done)]() mutable {
        m_.note_ = std::move(note);
        done(Status{});
    });
}

void SimTracker::confirm(const env::Cookie& cookie, env::StatusCallback done) {
    life_.io([this, cookie, done = std::move(done)]() mutable {
        if (m_.pass_ && m_.pass_->info.state != env::PassState::voided) {
            return done(fail(ErrorCode::busy, "there is a pass"));
        }
        for (auto& disk : m_.disks_) {
            disk.cookie = cookie;
            disk.unconfirmed.clear();
        }
        m_.cool();
        done(Status{});
    });
}

void SimTracker::abandon(env::StatusCallback done) {
    life_.io([this, done = std::move(done)]() mutable {
        m_.void_pass("abandoned");
        if (!m_.ignore_abandon) m_.put_back(true);
        m_.pass_.reset();
        done(Status{});
    });
}

void SimTracker::on_event(std::move_only_function<void()> event) {
    m_.event_ = std::move(event);
}

}  // namespace ebb::sim
