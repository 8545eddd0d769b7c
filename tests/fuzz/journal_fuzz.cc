// SPDX-License-Identifier: Apache-2.0
// Recovery of a journal whose records are whole (digests and chain are right) and whose content is
// anything; and of one with files of anything. Opening it twice must say the same.
#include <cstdlib>
#include <optional>
#include <span>
#include <string>

#include "core/journal.h"
#include "sim/storage.h"

namespace {

using namespace ebb;
using sim::Bytes;

// Numbers and pieces out of the input, zeroes after its end.
struct Source {
    std::span<const std::byte> left;

    std::uint8_t byte() {
        if (left.empty()) return 0;
        const auto value = std::to_integer<std::uint8_t>(left.front());
        left = left.subspan(1);
        return value;
    }
    std::span<const std::byte> piece(std::size_t size) {
        const auto taken = left.first(std::min(size, left.size()));
        left = left.subspan(taken.size());
        return taken;
    }
};

format::MetaFile meta() {
    return {Uuid{}, {{"source-0", "target-0", 1 << 20}, {"source-1", "target-1", 1 << 20}}};
}

void add_file(sim::VolumeState& volume, const std::string& name, Bytes content) {
    auto file = std::make_shared<sim::FileState>();
    file->current = file->durable = std::move(content);
    volume.names[name] = volume.durable[name] = file;
}

struct File {
    core::EpochSpan span{1, 1};
    std::uint64_t sequence = 0;
    Bytes content = {};
};

void add_record(File& file, std::uint8_t type, std::span<const std::byte> payload, bool synced,
                format::Sha256& chain) {
    auto record = format::blank_record(payload.size());
    record.insert(record.end(), payload.begin(), payload.end());
    const auto kind = static_cast<format::RecordType>(type);
    const auto before = chain;
    format::seal_record(record, kind, file.span.last, file.sequence++,
                        synced ? file.content.size() : 0, chain);
    if (kind == format::RecordType::sealed) chain = before;  // it is outside of the chain
    file.content.insert(file.content.end(), record.begin(), record.end());
}

// Files of records, each with a payload from the input: an operation byte says what comes next.
sim::VolumeState make_volume(Source source) {
    sim::VolumeState volume;
    if ((source.byte() & 1) != 0)
        add_file(volume, core::Journal::meta_name, format::encode(meta()));
    File file;
    format::Sha256 chain{};
    while (!source.left.empty()) {
        const auto operation = source.byte();
        const auto piece = source.piece(source.byte());
        if ((operation & 15) < 12) {
            add_record(file, operation & 15, piece, (operation & 16) != 0, chain);
        } else if ((operation & 15) == 12) {
            file.content.insert(file.content.end(), piece.begin(), piece.end());
        } else {
            add_file(volume, core::Journal::file_name(file.span), std::move(file.content));
            // Some stand for several, and some of those for one that is there.
            const std::uint64_t last = file.span.last + 1 + (operation >> 6);
            file = {{(operation & 1) != 0 ? file.span.last - 1 : last - (operation >> 6), last}};
        }
    }
    if (!file.content.empty())
        add_file(volume, core::Journal::file_name(file.span), std::move(file.content));
    return volume;
}

struct Outcome {
    bool ok = false;
    std::size_t closed = 0;
    std::uint64_t bytes = 0;
    bool operator==(const Outcome&) const = default;
};

core::Task<void> run(core::Journal& journal, std::optional<Status>& result) {
    result = co_await journal.open(meta(), 1);
}

Outcome open(sim::VolumeState& state) {
    sim::Executor executor(1);
    sim::Life life(executor);
    sim::Faults faults;
    sim::SimVolume volume(life, state, faults);
    core::Journal journal(volume);
    std::optional<Status> result;
    auto task = run(journal, result);
    task.start();
    while (!result && executor.step()) {
    }
    if (!result) std::abort();  // recovery waits for something that never comes
    if (!*result) return {};
    return {true, journal.closed().size(), journal.bytes()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto volume = make_volume({std::as_bytes(std::span(data, size))});
    const Outcome first = open(volume);
    if (first.ok && open(volume) != first) std::abort();
    return 0;
}
