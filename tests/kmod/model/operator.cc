// SPDX-License-Identifier: Apache-2.0
#include "model/operator.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lib/text.h"

namespace ebb::kmodmodel {
namespace {

using kmodtest::Reply;
using kmodtest::Request;
using kmodtest::text;

constexpr std::uint32_t group = 1;
constexpr int patience_of_removal = 3000;  // of 10 ms

void press(std::uint64_t mebibytes) {
    std::size_t bytes = mebibytes << 20;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    for (std::size_t at = 0; at < bytes; at += 4096) static_cast<volatile char*>(memory)[at] = 1;
    munmap(memory, bytes);
}

}  // namespace

Operator::Operator(Machine& machine, Model& model, Verdict& verdict, std::uint64_t run)
    : machine_(machine),
      model_(model),
      verdict_(verdict),
      run_(run),
      ledger_(machine.sectors()),
      bound_(machine.sectors()),
      replica_(machine.sectors()),
      attached_(machine.disks()),
      buffer_(kmodtest::aligned(1 << 20)) {
    open_client();
}

Operator::~Operator() {
    pass_.reset();
    for (std::uint32_t d = 0; d < attached_.size(); ++d) {
        if (attached_[d].id == 0) continue;
        Request request{.command = EBB_CMD_DISK_DETACH, .disk = attached_[d].id};
        close(attached_[d].image);
        close(attached_[d].disk);
        (void)client_->call(request);
    }
}

void Operator::open_client() {
    client_ = std::make_unique<kmodtest::Client>();
    if (int error = client_->open()) unexpected("open", error);
}

int Operator::call(const Request& request, Reply& reply) {
    int error = client_->call(request, reply);
    return error == -ENODATA ? 0 : error;
}

int Operator::call(const Request& request) {
    Reply reply;
    return call(request, reply);
}

void Operator::unexpected(const char* what, int error) {
    verdict_.fault(text("%s: %s: %s", what, strerror(-error), client_->message().c_str()));
}

void Operator::start() {
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d) {
        attach(d);
        mark_all(d);
    }
    // The bulk, while nothing is written.
    begin(Kind::live);
    end(0);
    if (machine_.keep()) confirm();
}

void Operator::step(const Operation& o) {
    switch (o.kind) {
        case Kind::frozen:
        case Kind::live:
        case Kind::whole: begin(o.kind); break;
        case Kind::peek: some(o.n, o.seed, false); break;
        case Kind::release: some(o.n, o.seed, true); break;
        case Kind::end: end(o.seed); break;
        case Kind::confirm: confirm(); break;
        case Kind::abandon: abandon(); break;
        case Kind::kill: kill(); break;
        case Kind::detach: detach(o.disk); break;
        case Kind::attach: attach(o.disk); break;
        case Kind::markall: mark_all(o.disk); break;
        case Kind::mark: mark(o.disk, o.at, o.n); break;
        case Kind::sleep: usleep(static_cast<useconds_t>(o.n)); break;
        case Kind::pressure: press(o.n); break;
        case Kind::remove: remove(o.disk); break;
        default: break;
    }
}

void Operator::attach(std::uint32_t disk) {
    Attached& a = attached_[disk];
    if (a.id || machine_.is_gone(disk) || (pass_ && !is_void())) return;
    tracked_before_ = machine_.keep() ? machine_.keep()->tracked(disk) : Tracked::never;
    Request request{.command = EBB_CMD_DISK_ATTACH,
                    .group = group,
                    .dev = kmodtest::device_number(machine_.disk(disk).device),
                    .stable_id = text("model-%u", disk),
                    .log = machine_.area(disk)};
    Reply reply;
    std::uint64_t before = model_.ticket();
    Keep* keep = machine_.keep();
    if (keep && keep->tracked(disk) != Tracked::yes) keep->set_tracked(disk, Tracked::perhaps);
    if (keep && keep->area(disk) == Area::sealed) keep->set_area(disk, Area::perhaps);
    if (int error = call(request, reply)) return unexpected("attach", error);
    a.id = static_cast<std::uint32_t>(reply.disk[EBB_DISK_A_ID]);
    a.attached = model_.ticket();
    a.was_busy = model_.is_busy(disk, a.attached, before);
    std::string image = kmodtest::device_path(reply.disk[EBB_DISK_A_IMAGE_DEV]);
    a.image = open(image.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    a.disk = open(machine_.disk(disk).device.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (a.image < 0 || a.disk < 0) return unexpected("open of the image device", -errno);
    std::uint64_t reasons = reply.disk[EBB_DISK_A_RESYNC_REASONS];
    if (a.was_busy) reasons &= ~(1ull << EBB_RESYNC_UNTRACKED_WRITE);
    if (!has_right_reasons(reasons))
        verdict_.fault(text("disk %u, just attached, has these reasons for a resync: %#llx", disk,
                            static_cast<unsigned long long>(reasons)));
    a.found = reply.disk;
    if (keep) keep->set_area(disk, Area::in_use);
    ledger_.attach(disk, a.attached);
    bound_.attach(disk, before);
    replica_.lose(disk);
}

void Operator::detach(std::uint32_t disk) {
    Attached& a = attached_[disk];
    if (!a.id) return;
    close(a.image);
    close(a.disk);
    Request request{.command = EBB_CMD_DISK_DETACH, .disk = a.id};
    a = {};
    Keep* keep = machine_.keep();
    if (keep) keep->set_tracked(disk, Tracked::perhaps);
    if (int error = call(request)) return unexpected("detach", error);
    if (keep) keep->set_tracked(disk, Tracked::no);
    if (pass_) allow("detached");
    ledger_.detach(disk);
    replica_.lose(disk);
    bool any = false;
    for (const auto& other : attached_) any |= other.id != 0;
    // The group went with its last disk, and so did what it knew of the pass.
    if (!any && pass_) gone();
    if (pass_ && !is_void()) verdict_.fault("a pass goes on without a disk that it had");
}

void Operator::mark(std::uint32_t disk, std::uint64_t first, std::uint64_t count) {
    if (!attached_[disk].id) return;
    count = std::min(count, ledger_.blocks(disk) - first);
    Request request{.command = EBB_CMD_DISK_MARK,
                    .disk = attached_[disk].id,
                    .extents = {extent_of(disk, first, count)}};
    if (machine_.keep()) machine_.keep()->touch(disk, first, count);
    if (int error = call(request)) return unexpected("mark", error);
    ledger_.mark(disk, first, count);
    bound_.mark(disk, first, count);
}

void Operator::mark_all(std::uint32_t disk) {
    if (!attached_[disk].id) return;
    Request request{.command = EBB_CMD_DISK_MARK_ALL, .disk = attached_[disk].id};
    Keep* keep = machine_.keep();
    if (keep) keep->touch(disk, 0, ledger_.blocks(disk));
    if (int error = call(request)) return unexpected("mark-all", error);
    // What was under way at the attach may yet be seen to have passed by.
    if (keep && !attached_[disk].was_busy) keep->set_tracked(disk, Tracked::yes);
    ledger_.mark_all(disk);
    bound_.mark(disk, 0, ledger_.blocks(disk));
}

void Operator::confirm() {
    if (pass_ && !is_void()) return;
    Request request{.command = EBB_CMD_EPOCH_CONFIRM, .group = group};
    Keep* keep = machine_.keep();
    if (keep) {
        keep_confirmed();
        request.cookie = cookie_of(keep->ask());
    }
    int error = call(request);
    if (error && error != -ENOENT) return unexpected("confirm", error);
    if (keep && !error) keep->answer();
    ledger_.confirm();
    bound_.confirm();
    replica_.confirm();
}

void Operator::abandon() {
    if (pass_) allow("abandoned");
    Request request{.command = EBB_CMD_EPOCH_ABANDON, .group = group};
    int error = call(request);
    if (error && error != -ENOENT) return unexpected("abandon", error);
    if (pass_ && !is_void()) verdict_.fault("a pass goes on that was abandoned");
    ledger_.abandon();
    bound_.abandon();
    replica_.abandon();
    unconfirmed_.clear();
}

void Operator::kill() {
    if (pass_) allow("owner");
    open_client();
    if (pass_ && !is_void()) verdict_.fault("a pass goes on without its owner");
}

// As by a cable that is pulled: the module learns of it, and lets go of the disk.
void Operator::remove(std::uint32_t disk) {
    if (!machine_.disk(disk).takes_commands || machine_.is_gone(disk)) return;
    if (pass_) allow("disk-gone");
    if (std::string wrong = machine_.remove(disk); !wrong.empty()) return verdict_.fault(wrong);
    const auto is_known = [&] {
        Request request{.command = EBB_CMD_DISK_GET, .disk = attached_[disk].id};
        Reply reply;
        if (int error = call(request, reply)) unexpected("get", error);
        return reply.disk[EBB_DISK_A_STATE] == EBB_DISK_GONE;
    };
    for (int i = 0; attached_[disk].id && !is_known(); ++i) {
        if (verdict_.failed() || i == patience_of_removal)
            return verdict_.fault(text("disk %u is gone, and the module does not know", disk));
        usleep(10000);
    }
    if (attached_[disk].id && pass_ && !is_void())
        return verdict_.fault("a pass goes on without a disk that is gone");
    detach(disk);
}

// Nobody writes.
void Operator::bring_back() {
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d) {
        if (!machine_.is_gone(d)) continue;
        if (std::string wrong = machine_.bring_back(d); !wrong.empty()) verdict_.fault(wrong);
    }
}

// A failure is said.
std::optional<std::uint64_t> Operator::reasons_of(std::uint32_t disk) {
    Request request{.command = EBB_CMD_DISK_GET, .disk = attached_[disk].id};
    Reply reply;
    if (int error = call(request, reply)) {
        unexpected("get", error);
        return std::nullopt;
    }
    return reply.disk[EBB_DISK_A_RESYNC_REASONS];
}

bool Operator::is_tracked(std::uint32_t disk) {
    const auto found = reasons_of(disk);
    if (!found) return false;
    const std::uint64_t reasons = *found;
    if (reasons == 0) {
        if (machine_.keep()) machine_.keep()->set_tracked(disk, Tracked::yes);
        return true;
    }
    if (!attached_[disk].was_busy || reasons != 1u << EBB_RESYNC_UNTRACKED_WRITE)
        verdict_.fault(text("disk %u: reasons for a resync: %#llx", disk,
                            static_cast<unsigned long long>(reasons)));
    mark_all(disk);
    return false;
}

void Operator::check_rest(std::uint32_t disk) {
    Request request{.command = EBB_CMD_DISK_GET, .disk = attached_[disk].id};
    Reply reply;
    if (int error = call(request, reply)) return unexpected("get", error);
    if (machine_.keep() && reply.disk[EBB_DISK_A_LOG_STATE] != EBB_LOG_ACTIVE)
        verdict_.fault("the log was given up");
    for (int attribute : {EBB_DISK_A_DIRTY_BLOCKS, EBB_DISK_A_UNCONFIRMED_BLOCKS,
                          EBB_DISK_A_IN_FLIGHT, EBB_DISK_A_RESYNC_REASONS})
        if (reply.disk[attribute] != 0)
            verdict_.fault(text("disk %u at rest after a confirmed cut: attribute %d is %llu", disk,
                                attribute, static_cast<unsigned long long>(reply.disk[attribute])));
}

void Operator::settle() {
    if (pass_) end(1);
    bring_back();
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d) {
        attach(d);
        if (!ledger_.is_marked(d)) mark_all(d);
        (void)is_tracked(d);
    }
    std::uint64_t cuts = tally_.cuts;
    for (int attempt = 0; attempt < 20 && tally_.cuts == cuts && !verdict_.failed(); ++attempt) {
        begin(Kind::frozen);
        end(attempt + 1);
    }
    if (tally_.cuts == cuts) verdict_.fault("no cut closes, though nobody writes");
    confirm();
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d) {
        bool good = true;
        std::vector<Code> found = read_disk(attached_[d].disk, d, good);
        if (!good) verdict_.fault("a disk cannot be read");
        verdict_.fault(model_.compare(d, replica_.state(d), found, "the disk"));
        check_rest(d);
    }
}

void Operator::reload() {
    settle();
    for (std::uint32_t d = 0; d < attached_.size() && !verdict_.failed(); ++d) detach(d);
    client_.reset();
    std::string wrong = machine_.unload();
    if (wrong.empty()) wrong = machine_.load();
    if (!wrong.empty()) verdict_.fault(wrong);
    open_client();
    start();
}

// For this reason and no other.
bool Operator::is_flagged(std::uint32_t disk, unsigned int reason) {
    const auto reasons = reasons_of(disk);
    if (reasons && *reasons != 1u << reason)
        verdict_.fault(text("disk %u has these reasons for a resync, and not %u: %#llx", disk,
                            reason, static_cast<unsigned long long>(*reasons)));
    return !verdict_.failed();
}

void Operator::pass_through(const Operation& o) {
    settle();
    if (verdict_.failed() || !machine_.disk(o.disk).takes_commands) return;
    const Place place = model_.origin({o.disk, o.at});
    Code write = model_.issue({place.disk, place.sector, 1}, Content::data, true);
    sector_fill(buffer_.get(), run_, place, write);
    std::string wrong = machine_.write_past(o.disk, o.at, buffer_.get());
    model_.done(write, wrong.empty(), wrong.empty());
    if (!wrong.empty()) return verdict_.fault(wrong);
    // All others have no hardware of their own, and may be stacked on this one (kmod/witness.c).
    for (std::uint32_t d = 0; d < attached_.size(); ++d) {
        if (d != o.disk && machine_.disk(d).takes_commands) continue;
        if (!is_flagged(d, EBB_RESYNC_PASSTHROUGH)) return;
        mark_all(d);
    }
    settle();
}

void Operator::resize(const Operation& o) {
    settle();
    if (verdict_.failed() || machine_.disk(o.disk).table.empty()) return;
    std::string wrong = machine_.resize(o.disk, machine_.disk(o.disk).traits.sectors / 2);
    if (!wrong.empty()) return verdict_.fault(wrong);
    if (!is_flagged(o.disk, EBB_RESYNC_RESIZED)) return;
    detach(o.disk);
    wrong = machine_.resize(o.disk, machine_.disk(o.disk).traits.sectors);
    if (!wrong.empty()) return verdict_.fault(wrong);
    settle();
}

}  // namespace ebb::kmodmodel
