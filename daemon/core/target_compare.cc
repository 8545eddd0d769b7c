// SPDX-License-Identifier: Apache-2.0
// What the target says of its disks when the source asks: docs/wire-protocol.md, "Comparing".
#include "core/compute.h"
#include "core/target_impl.h"

namespace ebb::core {

void Target::Impl::forget_compared() {
    for (Ranges& ranges : comparing_) ranges.clear();
    for (Ranges& ranges : compared_) ranges.clear();
}

Status Target::Impl::check_compare(const format::Compare& asked) const {
    const bool in_pass = journal_.open_epoch() && pass_ && asked.pass == pass_->number;
    const bool of_point = asked.pass == 0 && !journal_.open_epoch() && !journal_.closed().empty();
    if (version_ < format::version_with_compare || asked.id != compare_id_ ||
        (!in_pass && !of_point)) {
        return fail(ErrorCode::protocol, "a comparison out of order");
    }
    if (asked.disk >= config_.disks.size() ||
        asked.offset + asked.length > config_.disks[asked.disk].size) {
        return fail(ErrorCode::protocol, "a comparison beyond its disk");
    }
    return {};
}

Task<Status> Target::Impl::on_compare(const env::Frame& frame) {
    const std::uint64_t link = link_;
    auto asked = format::decode_compare(frame);
    if (!asked) co_return std::unexpected(asked.error());
    auto status = check_compare(*asked);
    if (!status) co_return status;
    ++compare_id_;
    if (!waiting_ranges_[asked->disk]
             .common(asked->offset, asked->offset + asked->length)
             .empty()) {
        status = co_await settle();
        if (!status) co_return status;
    }
    while (comparing_bytes_ != 0 && comparing_bytes_ + asked->length > config_.window_bytes &&
           link == link_) {
        co_await compare_room_.wait();
    }
    if (link == link_) start_compare(*asked);
    co_return Status{};
}

// The loop goes on meanwhile: several are read at once.
void Target::Impl::start_compare(const format::Compare& asked) {
    comparing_bytes_ += asked.length;
    comparing_[asked.disk].add(asked.offset, asked.offset + asked.length);
    auto content = std::make_shared<Buffer>(asked.length);
    disks_[asked.disk]->read(
        asked.offset, content->span(),
        [weak = weak_from_this(), link = link_, asked, content](const Status& read) {
            auto self = weak.lock();
            if (!self) return;
            if (!read) return self->compared(link, asked, *content, std::nullopt);
            sha256(self->cpus_, content->span(),
                   [weak, link, asked, content](Result<format::Sha256> digest) {
                       if (auto again = weak.lock())
                           again->compared(link, asked, *content, *digest);
                   });
        });
}

// `digest`: none, it could not be read.
void Target::Impl::compared(std::uint64_t link, const format::Compare& asked, const Buffer& content,
                            const std::optional<format::Sha256>& digest) {
    comparing_bytes_ -= asked.length;
    if (link == link_ && connection_) {
        format::Compared answer;
        answer.id = asked.id;
        if (!digest) {
            answer.verdict = format::Verdict::unreadable;
        } else if (*digest == asked.digest) {
            answer.verdict = format::Verdict::same;
        } else {
            answer.blocks = format::block_digests(content.span());
        }
        if (asked.pass == 0 ? !journal_.open_epoch() : pass_ && pass_->number == asked.pass) {
            const std::uint64_t end = asked.offset + asked.length;
            comparing_[asked.disk].remove(asked.offset, end);
            if (digest && asked.pass != 0) compared_[asked.disk].add(asked.offset, end);
        }
        connection_->send(format::encode(answer, sent_++));
    }
    compare_room_.notify();
}

// What the source says to be the same was compared, and nothing is sent of what is being compared.
Status Target::Impl::check_compared(const format::ExtentHead& head) {
    const std::uint64_t end = head.offset + head.length;
    if (!comparing_[head.disk].common(head.offset, end).empty())
        return fail(ErrorCode::protocol, "an extent of what is being compared");
    if (head.kind == format::ExtentKind::same &&
        !compared_[head.disk].missing(head.offset, end).empty()) {
        return fail(ErrorCode::protocol, "an extent is the same as what was not compared");
    }
    compared_[head.disk].remove(head.offset, end);
    return {};
}

}  // namespace ebb::core
