// SPDX-License-Identifier: Apache-2.0
#include "service/target_role.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <set>

#include "api/points.h"
#include "base/uuid_text.h"
#include "format/message.h"
#include "platform/file_store.h"
#include "service/command_args.h"
#include "service/point_value.h"

namespace ebb::service {

namespace {

constexpr Duration all_at_least = std::chrono::minutes(10);

constexpr unsigned opener_threads = 4;
constexpr std::uint64_t closing_budget_bytes = 128ULL << 20;
// A peer that has a certificate must also say what it wants.
constexpr Duration hello_limit = std::chrono::seconds(15);

api::CertifyValue to_api(const core::CertifiedPoint& certified) {
    static constexpr char digits[] = "0123456789abcdef";
    api::CertifyValue value;
    value.point = point_value(certified.point);
    for (const std::byte byte : certified.chain) {
        value.chain += digits[std::to_integer<unsigned>(byte) >> 4];
        value.chain += digits[std::to_integer<unsigned>(byte) & 15];
    }
    const auto& journal = certified.journal;
    value.journal = {journal.points, journal.files, journal.records, journal.bytes};
    value.merged = certified.merged;
    value.whole = certified.whole;
    value.extents = certified.extents;
    value.bytes = certified.bytes;
    value.equal_bytes = certified.equal_bytes;
    value.journal_bytes = certified.journal_bytes;
    value.superseded_bytes = certified.superseded_bytes;
    value.disk_bytes = certified.disk_bytes;
    value.discarded_bytes = certified.discarded_bytes;
    value.unreadable_bytes = certified.unreadable_bytes;
    value.different_bytes = certified.different_bytes;
    value.undigested_bytes = certified.undigested_bytes;
    return value;
}

api::TargetState to_api(core::TargetState state) {
    switch (state) {
        case core::TargetState::closed:
        case core::TargetState::waiting: return api::TargetState::waiting;
        case core::TargetState::receiving: return api::TargetState::receiving;
        case core::TargetState::failed_over: return api::TargetState::failed_over;
        case core::TargetState::no_space: return api::TargetState::no_space;
        case core::TargetState::error: return api::TargetState::error;
    }
    return api::TargetState::error;
}

// A journal that is damaged stays so, and reading it whole takes its time.
bool worth_retrying(const std::optional<Error>& error) {
    return !error || (error->code != ErrorCode::corrupt && error->code != ErrorCode::version);
}

env::Callback<core::Point> name_value(env::Callback<api::Json> answer) {
    return [answer = std::move(answer)](Result<core::Point> point) mutable {
        if (!point) return answer(std::unexpected(point.error()));
        answer(api::encode(api::NameValue{point_value(*point)}));
    };
}

}  // namespace

core::RetentionPolicy retention_policy(const TargetSettings& settings) {
    return {.all_for =
                std::max<Duration>(std::chrono::hours(settings.retention_all_hours), all_at_least),
            .thinned_to = std::chrono::minutes(settings.retention_thin_minutes),
            .age = std::chrono::hours(settings.retention_hours),
            .bytes = settings.retention_limit_mib << 20};
}

TargetRole::TargetRole(platform::EventLoop& loop, const Config& config,
                       TargetSurroundings surroundings)
    : loop_(loop),
      config_(config),
      surroundings_(std::move(surroundings)),
      clock_(loop),
      cpus_(loop),
      closing_budget_(std::make_shared<core::ClosingBudget>(closing_budget_bytes)),
      opener_(std::make_unique<platform::Worker>(loop, opener_threads, "ebb-open")),
      looker_(std::make_unique<platform::Worker>(loop, 1, "ebb-look")) {}

TargetRole::~TargetRole() = default;

Result<std::unique_ptr<TargetRole>> TargetRole::start(
    platform::EventLoop& loop, const Config& config,
    std::shared_ptr<const platform::RevokedCertificates> revoked, TargetSurroundings surroundings) {
    std::unique_ptr<TargetRole> role(new TargetRole(loop, config, std::move(surroundings)));
    if (auto ok = role->load(); !ok) return std::unexpected(ok.error());
    if (auto ok = role->listen(std::move(revoked)); !ok) return std::unexpected(ok.error());
    role->look({});
    role->open_all(true, {});
    role->retry_later();
    return role;
}

Status TargetRole::listen(std::shared_ptr<const platform::RevokedCertificates> revoked) {
    auto tls = platform::make_tls_context(config_.identity(), platform::TlsSide::server, true,
                                          std::move(revoked));
    if (!tls) return std::unexpected(tls.error());
    auto acceptor = platform::TlsAcceptor::open(
        loop_, *tls, config_.target.address, config_.target.port,
        [this](std::shared_ptr<env::Connection> connection) { route(std::move(connection)); });
    if (!acceptor) return std::unexpected(acceptor.error());
    acceptor_ = std::move(*acceptor);
    return {};
}

bool TargetRole::handles(const std::string& kind) const {
    return kind.starts_with("target.");
}

void TargetRole::run(const api::Command& command, env::Callback<api::Json> done) {
    using namespace api;
    const auto& kind = command.kind;
    if (kind == command::target_check) {
        with_args<TargetPrepareArgs>(command, done,
                                     [this](auto& a, auto d) { examine(a, std::move(d)); });
    } else if (kind == command::target_prepare) {
        with_args<TargetPrepareArgs>(command, done,
                                     [this](auto& a, auto d) { prepare(a, std::move(d)); });
    } else if (kind == command::target_points) {
        with_args<ProtectionArgs>(command, done,
                                  [this](auto& a, auto d) { points(a.protection, std::move(d)); });
    } else if (kind == command::target_failover) {
        with_args<TargetFailoverArgs>(command, done,
                                      [this](auto& a, auto d) { failover(a, std::move(d)); });
    } else if (kind == command::target_verify) {
        with_args<ProtectionArgs>(command, done,
                                  [this](auto& a, auto d) { verify(a.protection, std::move(d)); });
    } else if (kind == command::target_certify) {
        with_args<CertifyArgs>(command, done,
                               [this](auto& a, auto d) { certify(a, std::move(d)); });
    } else if (kind == command::target_resume) {
        with_args<ProtectionArgs>(command, done,
                                  [this](auto& a, auto d) { resume(a.protection, std::move(d)); });
    } else if (kind == command::target_commit || kind == command::target_disable) {
        with_args<ProtectionArgs>(command, done,
                                  [this](auto& a, auto d) { give_up(a.protection, std::move(d)); });
    } else if (kind == command::target_rescan) {
        rescan(std::move(done));
    } else if (kind == command::target_name) {
        with_args<NameArgs>(command, done,
                            [this](auto& a, auto d) { name_point(a, std::move(d)); });
    } else if (kind == command::target_common) {
        with_args<CommonArgs>(command, done,
                              [this](auto& a, auto d) { mark_common(a, std::move(d)); });
    } else if (kind == command::target_serve) {
        with_args<ServeArgs>(command, done, [this](auto& a, auto d) { serve(a, std::move(d)); });
    } else if (kind == command::target_unserve) {
        with_args<UnserveArgs>(command, done,
                               [this](auto& a, auto d) { unserve(a, std::move(d)); });
    } else if (kind == command::target_served) {
        with_args<ServedArgs>(command, done,
                              [this](auto& a, auto d) { tell_served(a, std::move(d)); });
    } else if (kind == command::target_forget) {
        with_args<DiskIdsArgs>(command, done, [this](auto& a, auto d) { forget(a, std::move(d)); });
    } else {
        done(fail(ErrorCode::unsupported, "a target does not know " + kind));
    }
}

std::vector<std::string> TargetRole::owned_disks() const {
    std::vector<std::string> ids;
    for (const auto& [id, protection] : protections_) {
        if (!protection->known) continue;
        for (const auto& disk : protection->args.disks) ids.push_back(disk.target_id);
    }
    return ids;
}

ReplicaDemand TargetRole::demand(const api::TargetPrepareArgs& args, bool known) const {
    ReplicaDemand all{args, owned_disks(), {}, known};
    for (const auto& [id, other] : protections_) {
        if (id == args.protection) continue;
        for (const auto& disk : other->args.disks)
            all.taken[platform::normal_id(disk.target_id)] = other->args.machine;
    }
    return all;
}

void TargetRole::examine(const api::TargetPrepareArgs& args, env::Callback<api::Json> done) {
    opener_->submit<api::CheckValue>(
        [this, demand = demand(args, false)]() -> Result<api::CheckValue> {
            api::CheckValue value;
            for (const auto& reason :
                 examine_replica(surroundings_.host, config_.target, demand).reasons)
                value.reasons.push_back(api::to_info(reason));
            return value;
        },
        [done = std::move(done)](Result<api::CheckValue> value) mutable {
            if (!value) return done(std::unexpected(value.error()));
            done(api::encode(*value));
        });
}

void TargetRole::prepare(const api::TargetPrepareArgs& args, env::Callback<api::Json> done) {
    auto& place = protections_[args.protection];
    if (place && (place->args.session != args.session || place->leaving))
        return done(fail(ErrorCode::busy, "the protection is prepared already"));
    // A failover has let go of the disks on purpose.
    if (place && place->failed_over) return done(api::Json::object());
    if (!place) {
        place = std::make_shared<Protection>();
        place->args = args;
    }
    open(place, [this, protection = place, done = std::move(done)](Status status) mutable {
        const bool before = protection->known;
        if (status) {
            protection->known = true;
            status = save();
        } else if (!before) {
            protections_.erase(protection->args.protection);
            unmark(protection->args.protection);
        }
        plain(std::move(done))(std::move(status));
    });
}

// A mark that is left keeps a disk from others, no more: the next start removes it.
void TargetRole::unmark(const std::string& id) {
    if (auto ok = surroundings_.marks.remove(id); !ok)
        std::cerr << "ebbd: protection " << id << ": " << ok.error().message << "\n";
}

void TargetRole::open(const Shared& protection, env::StatusCallback done) {
    if (protection->opened()) return done({});
    if (protection->stage == Stage::closing)
        return done(fail(ErrorCode::busy, "the protection is being closed"));
    protection->waiting.push_back(std::move(done));
    if (protection->stage == Stage::opening) return;
    protection->stage = Stage::opening;
    opener_->submit<Replica>(
        [this, demand = demand(protection->args, protection->known)] {
            return open_replica(loop_, surroundings_.host, surroundings_.marks, config_.target,
                                demand);
        },
        [this, protection](Result<Replica> replica) {
            if (!replica) return opened(protection, std::unexpected(replica.error()));
            protection->replica = std::move(*replica);
            run_target(protection);
        });
}

// Makes the core's target on what is there.
void TargetRole::run_target(const Shared& protection) {
    const auto& args = protection->args;
    const auto uuid = parse_uuid(args.protection);
    if (!uuid) {
        protection->replica = {};
        return opened(protection, fail(ErrorCode::invalid, "the protection's id is no UUID"));
    }
    core::TargetConfig target;
    target.protection = *uuid;
    target.session = args.session;
    target.closing_budget = closing_budget_;
    target.must_exist = protection->known;
    target.retention = retention_policy(config_.target);
    target.serve_index_bytes = config_.target.serve_index_mib << 20;
    target.undo_compression = config_.target.retention_compression ? 1 : 0;
    auto disks = args.disks;
    std::ranges::sort(disks, {}, &api::TargetDiskChoice::index);
    for (const auto& disk : disks)
        target.disks.push_back(
            {platform::normal_id(disk.source_id), platform::normal_id(disk.target_id), disk.size});
    auto& replica = protection->replica;
    std::vector<env::Disk*> pointers;
    for (const auto& disk : replica.disks) pointers.push_back(disk.get());
    protection->target =
        std::make_unique<core::Target>(target, std::move(pointers), *replica.volume, clock_, cpus_);
    protection->target->open([this, alive = std::weak_ptr(alive_), protection](Status status) {
        if (alive.expired()) return;
        if (status) return opened(protection, status);
        close(protection, [this, protection, status](Status) { opened(protection, status); });
    });
}

void TargetRole::opened(const Shared& protection, const Status& status) {
    if (!status && (!protection->error || protection->error->message != status.error().message)) {
        std::cerr << "ebbd: protection " << protection->args.protection << ": "
                  << status.error().name() << ": " << status.error().message << "\n";
    }
    protection->stage = status ? Stage::open : Stage::shut;
    protection->error.reset();
    if (!status) protection->error = status.error();
    for (auto& done : std::exchange(protection->waiting, {})) done(status);
}

void TargetRole::open_all(bool damaged_too, std::move_only_function<void()> done) {
    std::vector<Shared> shut;
    for (const auto& [id, protection] : protections_) {
        if (!protection->known || protection->failed_over || protection->leaving) continue;
        if (protection->stage == Stage::open || protection->stage == Stage::closing) continue;
        if (damaged_too || worth_retrying(protection->error)) shut.push_back(protection);
    }
    if (shut.empty() && done) return done();
    struct Round {
        std::size_t left;
        std::move_only_function<void()> done;
    };
    const auto round = std::make_shared<Round>(shut.size(), std::move(done));
    for (const auto& protection : shut) {
        open(protection, [round](const Status&) {
            if (--round->left == 0 && round->done) round->done();
        });
    }
}

// A disk or the volume may come late, or come back.
void TargetRole::retry_later() {
    clock_.schedule(surroundings_.retry, [this] {
        open_all(false, {});
        retry_later();
    });
}

// Lets go of disks and volume.
void TargetRole::close(const Shared& protection, env::StatusCallback done) {
    protection->stage = Stage::closing;
    for (const auto& [name, serving] : std::exchange(protection->servings, {}))
        drop_clients(*protection, name);
    const auto release = [this, protection](env::StatusCallback answer) {
        loop_.post([protection, answer = std::move(answer)]() mutable {
            protection->target.reset();
            protection->replica = {};
            protection->stage = Stage::shut;
            answer({});
        });
    };
    if (!protection->target) return release(std::move(done));
    protection->target->close(
        [release, done = std::move(done)](Status) mutable { release(std::move(done)); });
}

// `done` after a look that began later than this call.
void TargetRole::look(std::move_only_function<void()> done) {
    look_again_.push_back(std::move(done));
    if (looking_) return;
    looking_ = true;
    looker_->submit<TargetInventory>(
        [this, owned = owned_disks()]() -> Result<TargetInventory> {
            return take_inventory(surroundings_.host, config_.target, owned);
        },
        [this, asked = std::exchange(look_again_, {})](Result<TargetInventory> found) mutable {
            looking_ = false;
            if (found) inventory_ = std::move(*found);
            for (auto& answer : asked) {
                if (answer) answer();
            }
            if (!look_again_.empty()) look({});
        });
}

void TargetRole::rescan(env::Callback<api::Json> done) {
    opener_->submit<void>([this] { return scan_scsi_hosts(surroundings_.host.paths); },
                          [this, done = std::move(done)](Status status) mutable {
                              open_all(true, [this, status, done = std::move(done)]() mutable {
                                  look([status, done = std::move(done)]() mutable {
                                      plain(std::move(done))(status);
                                  });
                              });
                          });
}

void TargetRole::points(const std::string& id, env::Callback<api::Json> done) {
    auto found = find(id);
    if (!found) return done(std::unexpected(found.error()));
    const Shared protection = *found;
    if (protection->failed_over && !protection->opened()) {
        api::PointsValue value;
        value.points = protection->points;
        return done(api::encode(value));
    }
    open(protection, [protection, done = std::move(done)](const Status& status) mutable {
        if (!status) return done(std::unexpected(status.error()));
        api::PointsValue value;
        for (const auto& point : protection->target->points())
            value.points.push_back(point_value(point));
        done(api::encode(value));
    });
}

void TargetRole::failover(const api::TargetFailoverArgs& args, env::Callback<api::Json> done) {
    auto found = find(args.protection);
    if (!found) return done(std::unexpected(found.error()));
    const Shared protection = *found;
    const bool there = args.point == api::latest_point ||
                       args.point == std::to_string(protection->failed_over_to.epoch);
    if (protection->failed_over && !protection->opened() && there) {
        api::FailoverValue again{protection->failed_over_to, 0, 0};
        return done(api::encode(again));
    }
    open(protection,
         [this, protection, args, done = std::move(done)](const Status& status) mutable {
             if (!status) return done(std::unexpected(status.error()));
             fail_over(protection, args, std::move(done));
         });
}

void TargetRole::fail_over(const Shared& protection, const api::TargetFailoverArgs& args,
                           env::Callback<api::Json> done) {
    std::uint64_t wanted = 0;  // as it is
    if (args.point != api::latest_point) {
        const char* end = args.point.data() + args.point.size();
        const auto [at, error] = std::from_chars(args.point.data(), end, wanted);
        if (error != std::errc() || at != end || wanted == 0)
            return done(fail(ErrorCode::invalid, "point: no number of an epoch"));
    }
    const auto alive = std::weak_ptr(alive_);
    protection->target->failover(
        args.session, [this, alive, protection, wanted, session = args.session,
                       done = std::move(done)](Result<core::FailoverResult> result) mutable {
            if (alive.expired()) return;
            if (!result) return done(std::unexpected(result.error()));
            if (wanted == 0 || wanted == result->point.epoch)
                return failed_over(protection, session, *result, std::move(done));
            protection->target->change_point(
                wanted, [this, alive, protection, session, first = *result,
                         done = std::move(done)](Result<core::FailoverResult> moved) mutable {
                    if (alive.expired()) return;
                    if (!moved) return done(std::unexpected(moved.error()));
                    moved->rolled_back_bytes = first.rolled_back_bytes;
                    failed_over(protection, session, *moved, std::move(done));
                });
        });
}

void TargetRole::failed_over(const Shared& protection, std::uint64_t session,
                             const core::FailoverResult& result, env::Callback<api::Json> done) {
    protection->failed_over = true;
    protection->failed_over_to = point_value(result.point);
    protection->points.clear();
    for (const auto& point : protection->target->points())
        protection->points.push_back(point_value(point));
    protection->args.session = session;
    api::FailoverValue value{protection->failed_over_to, result.rolled_back_bytes,
                             result.rewound_bytes};
    close(protection, [this, value, done = std::move(done)](Status) mutable {
        if (auto ok = save(); !ok) return done(std::unexpected(ok.error()));
        done(api::encode(value));
    });
}

void TargetRole::with_journal(const std::string& id, env::Callback<api::Json> done,
                              const JournalUse& use) {
    auto found = find(id);
    if (!found) return done(std::unexpected(found.error()));
    const Shared protection = *found;
    if (protection->failed_over && !protection->opened()) {
        return done(fail(ErrorCode::busy, "the machine is failed over: its journal is not open",
                         "Commit it, or go back to replication: ebbctl rollback"));
    }
    open(protection, [protection, use, done = std::move(done)](const Status& status) mutable {
        if (!status) return done(std::unexpected(status.error()));
        use(*protection->target, std::move(done));
    });
}

void TargetRole::verify(const std::string& id, env::Callback<api::Json> done) {
    with_journal(id, std::move(done), [](core::Target& target, env::Callback<api::Json> answer) {
        target.verify([answer = std::move(answer)](Result<core::VerifiedJournal> result) mutable {
            if (!result) return answer(std::unexpected(result.error()));
            api::VerifyValue value{result->points, result->files, result->records, result->bytes};
            answer(api::encode(value));
        });
    });
}

void TargetRole::certify(const api::CertifyArgs& args, env::Callback<api::Json> done) {
    const auto use = [args](core::Target& target, env::Callback<api::Json> answer) {
        target.certify(args.epoch, args.whole,
                       [answer = std::move(answer)](Result<core::CertifiedPoint> result) mutable {
                           if (!result) return answer(std::unexpected(result.error()));
                           answer(api::encode(to_api(*result)));
                       });
    };
    with_journal(args.protection, std::move(done), use);
}

void TargetRole::name_point(const api::NameArgs& args, env::Callback<api::Json> done) {
    const auto use = [args](core::Target& target, env::Callback<api::Json> answer) {
        target.name_point(args.epoch, args.name, name_value(std::move(answer)));
    };
    with_journal(args.protection, std::move(done), use);
}

void TargetRole::mark_common(const api::CommonArgs& args, env::Callback<api::Json> done) {
    const format::CommonCut common{*parse_uuid(args.cut), {args.time_ns}};
    const auto use = [args, common](core::Target& target, env::Callback<api::Json> answer) {
        target.mark_common(args.epoch, common, name_value(std::move(answer)));
    };
    with_journal(args.protection, std::move(done), use);
}

void TargetRole::resume(const std::string& id, env::Callback<api::Json> done) {
    auto found = find(id);
    if (!found) return done(std::unexpected(found.error()));
    const Shared protection = *found;
    // Also of a failover whose end was not noted here.
    open(protection, [this, protection, done = std::move(done)](const Status& status) mutable {
        if (!status) return done(std::unexpected(status.error()));
        protection->target->resume(
            [this, protection, done = std::move(done)](Status resumed) mutable {
                if (resumed) protection->failed_over = false;
                if (resumed) resumed = save();
                plain(std::move(done))(std::move(resumed));
            });
    });
}

// Commit and disable: the points go, the disks stay as they are.
void TargetRole::give_up(const std::string& id, env::Callback<api::Json> done) {
    auto found = find(id);
    if (!found) return done(api::Json::object());
    const Shared& protection = *found;
    if (protection->leaving || protection->stage == Stage::closing)
        return done(fail(ErrorCode::busy, "the protection is being closed"));
    if (protection->stage == Stage::opening) {
        protection->waiting.push_back(
            [this, id, done = std::move(done)](Status) mutable { give_up(id, std::move(done)); });
        return;
    }
    protection->leaving = true;
    close(protection, [this, protection, done = std::move(done)](Status) mutable {
        erase(protection, [this, protection, done = std::move(done)](Status status) mutable {
            given_up(protection, std::move(status), std::move(done));
        });
    });
}

// The journal; one that is not there is gone already.
void TargetRole::erase(const Shared& protection, env::StatusCallback done) {
    using Volume = std::unique_ptr<platform::DirectoryVolume>;
    opener_->submit<Volume>(
        [this, folder = journal_folder(protection->args)] {
            return platform::DirectoryVolume::open(loop_, folder, false);
        },
        [protection, done = std::move(done)](Result<Volume> volume) mutable {
            if (!volume && volume.error().code == ErrorCode::not_found) return done({});
            if (!volume) return done(std::unexpected(volume.error()));
            protection->replica.volume = std::move(*volume);
            core::Target::erase(*protection->replica.volume, std::move(done));
        });
}

void TargetRole::given_up(const Shared& protection, Status status, env::Callback<api::Json> done) {
    protection->leaving = false;
    if (status) {
        const auto& args = protection->args;
        if (protection->failed_over) fenced_[args.protection] = args.session;
        protections_.erase(args.protection);
        status = save();
        if (status) unmark(args.protection);
    }
    // Not from inside of a call of the volume's.
    loop_.post([protection, removed = status.has_value()] {
        protection->replica = {};
        std::error_code ignored;  // the directory alone is no harm
        if (removed) std::filesystem::remove(journal_folder(protection->args), ignored);
    });
    plain(std::move(done))(std::move(status));
}

void TargetRole::forget(const api::DiskIdsArgs& args, env::Callback<api::Json> done) {
    for (const auto& [id, protection] : protections_) {
        for (const auto& disk : protection->args.disks) {
            const auto same = [&](const std::string& other) {
                return platform::normal_id(other) == platform::normal_id(disk.target_id);
            };
            if (protection->stage != Stage::shut && std::ranges::any_of(args.disks, same))
                return done(fail(ErrorCode::busy, disk.target_id + " is replicated to"));
        }
    }
    opener_->submit<void>(
        [this, disks = args.disks] { return delete_disks(surroundings_.host.paths, disks); },
        [this, done = std::move(done)](Status status) mutable {
            look([status, done = std::move(done)]() mutable { plain(std::move(done))(status); });
        });
}

// The first frame says which protection a source is for.
void TargetRole::route(std::shared_ptr<env::Connection> connection) {
    auto* raw = connection.get();
    const auto mute = std::make_shared<bool>(true);
    clock_.schedule(hello_limit, [mute, weak = std::weak_ptr(connection)] {
        const auto held = weak.lock();
        if (held && *mute) held->close();
    });
    raw->start(
        [this, alive = std::weak_ptr(alive_), mute,
         weak = std::weak_ptr(connection)](env::Frame first) {
            const auto held = weak.lock();
            if (!held) return;
            *mute = false;
            held->pause();
            // The handlers are replaced next, not from inside of one.
            if (alive.expired()) return held->close();
            loop_.post([this, alive, held, first = std::move(first)]() mutable {
                if (!alive.expired()) hand_over(held, std::move(first));
            });
        },
        [connection](const Error&) {});
}

// Whether something of this protection is received from this source now.
Status TargetRole::may_speak(const format::Hello& hello, const std::string& peer) const {
    const auto id = to_text(hello.protection);
    const auto found = protections_.find(id);
    const auto fenced = fenced_.find(id);
    const bool older = fenced != fenced_.end() && hello.session < fenced->second;
    if (older) return fail(ErrorCode::fenced, "this source was failed over from");
    if (found == protections_.end() || found->second->args.source_name != peer)
        return fail(ErrorCode::not_found, "this target has no such protection of " + peer);
    const Protection& protection = *found->second;
    if (protection.opened()) return {};
    if (hello.session < protection.args.session)
        return fail(ErrorCode::fenced, "this source was failed over from");
    if (protection.failed_over)
        return fail(ErrorCode::busy, "the machine is failed over; nothing is received");
    if (!protection.error) return fail(ErrorCode::busy, "the protection is being opened");
    return fail(ErrorCode::busy,
                "the target cannot open this protection: " + std::string(protection.error->name()) +
                    ": " + protection.error->message);
}

void TargetRole::hand_over(const std::shared_ptr<env::Connection>& connection, env::Frame first) {
    const auto refuse = [&](const Error& error) {
        connection->send(format::encode(format::Refused{error.code, error.message}, 0));
        connection->close();
    };
    const auto hello = format::decode_hello(first);
    if (!hello) return refuse(hello.error());
    if (auto ok = may_speak(*hello, connection->peer()); !ok) return refuse(ok.error());
    protections_.at(to_text(hello->protection))->target->accept(connection, std::move(first));
    connection->resume();
}

Result<TargetRole::Shared> TargetRole::find(const std::string& id) {
    const auto found = protections_.find(id);
    if (found == protections_.end())
        return fail(ErrorCode::not_found, "this target has no protection " + id);
    return found->second;
}

Status TargetRole::save() const {
    api::Json list = api::Json::array();
    for (const auto& [id, protection] : protections_) {
        if (!protection->known) continue;
        api::Json item{{"args", api::encode(protection->args)},
                       {"failed_over", protection->failed_over}};
        if (protection->failed_over) {
            item["point"] = api::encode(protection->failed_over_to);
            item["points"] = api::encode(api::PointsValue{protection->points})["points"];
        }
        list.push_back(item);
    }
    if (auto ok = platform::make_directories(config_.state); !ok) return ok;
    return platform::replace_file(config_.state + "/target.json",
                                  api::dump({{"protections", list}, {"fenced", fenced_}}) + "\n",
                                  platform::private_mode);
}

Status TargetRole::load() {
    auto text = platform::read_file(config_.state + "/target.json");
    if (!text && text.error().code == ErrorCode::not_found) return {};
    if (!text) return std::unexpected(text.error());
    auto json = api::parse(*text);
    if (!json) return std::unexpected(json.error());
    fenced_ = json->value("fenced", std::map<std::string, std::uint64_t>{});
    for (const auto& item : json->value("protections", api::Json::array())) {
        auto args = api::decode_args<api::TargetPrepareArgs>(item.value("args", api::Json()));
        if (!args) return std::unexpected(args.error());
        auto protection = std::make_shared<Protection>();
        protection->args = *args;
        protection->known = true;
        protection->failed_over = item.value("failed_over", false);
        if (item.contains("point")) {
            auto point = api::decode<api::Point>(item["point"]);
            if (point) protection->failed_over_to = *point;
            auto points = api::decode<api::PointsValue>(item);
            if (points) protection->points = std::move(points->points);
        }
        protections_[args->protection] = protection;
    }
    std::set<std::string> known;
    for (const auto& [id, protection] : protections_) known.insert(id);
    if (auto ok = surroundings_.marks.keep(known); !ok)
        std::cerr << "ebbd: " << platform::replica_marks_folder << ": " << ok.error().message
                  << "\n";
    return {};
}

void TargetRole::drop_connections() {
    acceptor_->drop();
}

bool TargetRole::fill(api::ExchangeRequest& request) {
    if (!inventory_) return false;
    request.roles.push_back(api::Role::target);
    api::TargetStatus status;
    status.data_address = {config_.target.host.empty() ? config_.name : config_.target.host,
                           acceptor_->port()};
    status.volumes = inventory_->volumes;
    status.disks = inventory_->disks;
    for (auto& disk : status.disks) {
        for (const auto& [id, protection] : protections_) {
            for (const auto& used : protection->args.disks) {
                if (platform::normal_id(used.target_id) == disk.stable_id) disk.in_use_by = id;
            }
        }
    }
    status.retention_age_s = config_.target.retention_hours * 3600;
    status.retention_limit_bytes = config_.target.retention_limit_mib << 20;
    for (const auto& [id, protection] : protections_) {
        if (protection->known) status.protections.push_back(describe_one(*protection));
    }
    request.target = std::move(status);
    if (!looking_) look({});
    return true;
}

api::TargetProtection TargetRole::describe_one(const Protection& protection) const {
    api::TargetProtection p;
    p.id = protection.args.protection;
    p.retention = protection.args.retention;
    if (protection.failed_over) {
        p.state = api::TargetState::failed_over;
        p.newest_point = protection.failed_over_to;
        p.points = protection.points.size();
    } else if (protection.opened()) {
        const auto core = protection.target->status();
        p.state = to_api(core.state);
        p.open_epoch = core.open_epoch;
        if (core.has_point) p.newest_point = point_value(core.newest);
        p.points = core.points;
        const auto points = protection.target->points();
        if (!points.empty()) {
            p.oldest_point_ns = points.front().cut_time.ns;
            p.oldest_epoch = points.front().epoch;
        }
        const auto app = std::ranges::find(points.rbegin(), points.rend(),
                                           format::PointKind::application, &core::Point::kind);
        if (app != points.rend()) p.newest_app_point = point_value(*app);
        describe_served(protection, p);
        p.retention_bytes = core.retention_bytes;
        p.rollback_bytes = core.rollback_bytes;
        if (core.has_error) p.error = api::to_info(core.error);
        if (core.state == core::TargetState::no_space) {
            p.error = api::to_info(
                {ErrorCode::no_space,
                 "replication is paused: the retention volume " + protection.args.retention +
                     " is full, and the newest recovery point is not given up",
                 "Make room on the volume or enlarge it; replication goes on by itself",
                 {}});
        }
    }
    if (protection.error && !protection.failed_over) {
        p.state = api::TargetState::error;
        p.error = api::to_info(*protection.error);
    }
    return p;
}

}  // namespace ebb::service
