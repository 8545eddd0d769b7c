// SPDX-License-Identifier: Apache-2.0
// Statements about a recovery point, signed with the authority's key. They say what was checked, by
// whom and when, and nothing else: docs/decisions/0404-what-a-certificate-says.md.
#include "api/command.h"
#include "api/points.h"
#include "service/controller_health.h"
#include "service/controller_protections.h"
#include "service/findings.h"

namespace ebb::service {

namespace {

using api::text;
using std::chrono::milliseconds;

constexpr milliseconds certify_patience{24 * 3600 * 1000};
constexpr const char* format_name = "ebb-certificate-1";

// What follows from the numbers of a certificate, in words.
api::Json claims(const api::CertifyValue& found, const api::Json& verified) {
    const auto number = [](std::uint64_t value) { return std::to_string(value); };
    api::Json list = api::Json::array();
    list.push_back(
        "The journal of the target was read as a whole; nothing of it is missing, "
        "changed or out of order, and its chain ends, at this point, in the digest "
        "given as chain.");
    if (found.merged && found.extents == 0 && !found.whole) {
        list.push_back(
            "This point has been merged with others, and no digest is left of what was sent of "
            "them: nothing of it was compared.");
    } else {
        list.push_back(
            "Of the " + number(found.bytes) + " bytes that the source sent for " +
            (found.whole ? "this point and the retained points before it" : "this point") +
            " the target has read " + number(found.equal_bytes) +
            " back as they are at this point: " + number(found.journal_bytes) +
            " from its journal, as they have been overwritten since, the others from its disks; "
            "and their digests (XXH3-128, or all zero) are those that the source made in its "
            "memory. Sent again, at least in part, until this point was closed, and not compared "
            "as they were before: " +
            number(found.superseded_bytes) +
            ". Discarded, content undefined: " + number(found.discarded_bytes) +
            ". Not readable at the source: " + number(found.unreadable_bytes) + ".");
    }
    if (found.whole) {
        list.push_back("The disks have " + number(found.disk_bytes) +
                       " bytes: what of them was sent before the oldest retained point is not "
                       "compared.");
    }
    if ((found.merged || found.whole) && found.undigested_bytes) {
        list.push_back(
            "Where points were merged into one, of what was sent for them that counts which was "
            "not sent again up to the last of them. Changed by the rest, and not compared: " +
            number(*found.undigested_bytes) + " bytes.");
    } else if (found.merged || found.whole) {
        list.push_back(
            "The target is of an older release: nothing that was sent for points that were merged "
            "is compared.");
    }
    if (verified.is_object()) {
        list.push_back(
            "All blocks of all disks were compared with the source (SHA-256 of both "
            "sides), each at one of the points first_epoch to last_epoch of verified, "
            "at the time given there; the numbers there say with what result.");
    } else {
        list.push_back("The disks as a whole have not been compared with the source.");
    }
    return list;
}

}  // namespace

Outcome ControllerProtections::certify(const api::CertifyCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    outcome.reasons = against_checking(*protection, "certify");
    if (outcome.reasons.empty() && !call.point.empty()) {
        auto point = point_of(*protection, call.point);
        if (point) outcome.value["point"] = api::encode(*point);
        if (!point) outcome.reasons.push_back(point.error());
    }
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    ControllerJobs::Order order{"certify", call.machine, true, api::Json::object()};
    order.aside = true;
    return begin(order, *protection, [this, document = *protection, call](Job& job) {
        return certify_steps(job, document, call);
    });
}

Result<api::CertifyValue> ControllerProtections::read_back(Job& job, const api::Json& protection,
                                                           std::uint64_t epoch, bool whole) {
    const auto target = text(protection, "target");
    job.step("reading the journal, and back what was sent", 5);
    auto answer = call(job, target, api::command::target_certify,
                       {{"protection", protection["id"]}, {"epoch", epoch}, {"whole", whole}},
                       certify_patience);
    if (!answer) {
        note_unread(job, protection, answer.error(), true);
        return std::unexpected(answer.error());
    }
    auto found = api::decode<api::CertifyValue>(*answer);
    if (!found) return found;
    auto noted = note(job, protection, [&](const api::Json& document) {
        auto fields = journal_was_whole(found->journal, now_seconds());
        fields.update(point_was_checked(document, *found, now_seconds()));
        return fields;
    });
    if (!noted) return std::unexpected(noted.error());
    job.progress({{"value", *answer}});
    if (found->different_bytes == 0) return found;
    return fail("E_REPLICA_DIFFERS", ErrorCode::corrupt,
                std::to_string(found->different_bytes) + " bytes of point " +
                    std::to_string(epoch) + " are not on " + target + " as they were sent",
                "ebbctl verify " + text(protection, "machine") +
                    " --repair mends the replica as it is now; its older points stay as they are");
}

Status ControllerProtections::certify_steps(Job& job, const api::Json& protection,
                                            const api::CertifyCall& wanted) {
    auto point = ask_replica(job, protection, {wanted.point});
    if (!point) return std::unexpected(point.error());
    auto found = read_back(job, protection, point->epoch, wanted.whole);
    if (!found) return std::unexpected(found.error());
    auto now = store_.find("protection", text(protection, "id"));
    if (!now) return std::unexpected(now.error());
    const std::string said = api::dump(statement(*now ? **now : protection, *found));
    auto signature = platform::sign_text(authority_, said);
    if (!signature) return std::unexpected(signature.error());
    const api::Json made{{"format", format_name},
                         {"statement", said},
                         {"algorithm", "ecdsa-with-SHA256"},
                         {"signature", *signature},
                         {"authority", authority_.certificate}};
    job.progress({{"value", made}});
    return {};
}

api::Json ControllerProtections::statement(const api::Json& protection,
                                           const api::CertifyValue& found) {
    const auto view = agents_.find(text(protection, "machine"));
    const auto* source = source_part(view, text(protection, "id"));
    auto verified = protection.value("verified", api::Json());
    api::Json acknowledged;
    if (source != nullptr) {
        acknowledged = {{"closed_epoch", source->closed_epoch},
                        {"cut_time_ns", source->last_cut_ns},
                        {"resync_required", source->resync_required}};
    }
    return {{"format", format_name},
            {"issued", now_seconds()},
            {"machine", protection["machine"]},
            {"target", protection["target"]},
            {"protection", protection["id"]},
            {"disks", protection["disks"]},
            {"point", api::encode(found.point)},
            {"chain", found.chain},
            {"found", api::encode(found)},
            {"source_acknowledged", acknowledged},
            {"verified", verified},
            {"claims", claims(found, verified)}};
}

// A point as it is served is compared with the digests of what was sent: the source is not asked.
Outcome ControllerProtections::verify_point(const api::VerifyCall& call,
                                            const api::Json& protection) {
    Outcome outcome;
    outcome.reasons = against_checking(protection, "verify a point", false);
    std::uint64_t epoch = 0;
    if (outcome.reasons.empty()) {
        auto point = point_of(protection, call.point);
        if (point) {
            outcome.value["point"] = api::encode(*point);
            epoch = point->epoch;
        } else {
            outcome.reasons.push_back(point.error());
        }
    }
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    const std::string again = "Run it again: ebbctl verify " + call.machine + " --at " + call.point;
    ControllerJobs::Order order{"verify-point", call.machine, true, {{"again", again}}};
    order.aside = true;
    return begin(order, protection, [this, protection, epoch](Job& job) -> Status {
        auto found = read_back(job, protection, epoch, true);
        if (!found) return std::unexpected(found.error());
        job.step(std::to_string(found->equal_bytes) + " of " + std::to_string(found->disk_bytes) +
                     " bytes at this point were read, and are as they were sent; " +
                     std::to_string(found->journal_bytes) + " of them from the journal",
                 100);
        return {};
    });
}

// Anybody with openssl can do it as well; docs/operations.md says how.
Outcome ControllerProtections::check_certificate(const api::CheckCertificateCall& call) const {
    if (call.authority != authority_.certificate) {
        return Error{ErrorCode::denied, "another authority has signed this certificate",
                     "Check it at the controller that made it, or with openssl and the certificate "
                     "of that authority",
                     "E_POINT_CERTIFICATE"};
    }
    if (auto ok = platform::check_signature(authority_.certificate, call.statement, call.signature);
        !ok) {
        return Error{ErrorCode::denied, "the certificate is not what was signed",
                     "It was changed, or is not whole: have another one made",
                     "E_POINT_CERTIFICATE"};
    }
    auto said = api::parse(call.statement);
    if (!said) return said.error();
    return *said;
}

}  // namespace ebb::service
