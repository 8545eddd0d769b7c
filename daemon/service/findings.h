// SPDX-License-Identifier: Apache-2.0
// What verifications found, as the protection's document keeps it (docs/control-protocol.md): what
// an agent's answer comes to, what of it still holds, and what is wrong by it. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "api/command.h"
#include "base/error.h"

namespace ebb::service {

// Members to be put into the document. The journal was read to its end.
[[nodiscard]] api::Json journal_was_whole(const api::VerifyValue& value, std::int64_t time);
// It was not. `error`: of the target; `newest`: its newest point; null: nobody knows. `certifying`:
// it was read for a point. Nothing where the error says nothing of the journal.
[[nodiscard]] std::optional<api::Json> journal_was_not_whole(const api::Json& protection,
                                                             const Error& error,
                                                             const api::Point* newest,
                                                             bool certifying, std::int64_t time);
// A point was compared.
[[nodiscard]] api::Json point_was_checked(const api::Json& protection,
                                          const api::CertifyValue& value, std::int64_t time);
// The target has these points, and no others.
[[nodiscard]] api::Json points_are(const api::Json& protection,
                                   const std::vector<api::Point>& points);

// Takes out of the document what the target has given up; `oldest_epoch` 0: nobody knows.
void forget_given_up(api::Json& protection, std::uint64_t oldest_epoch);

struct Finding {
    Error error;
    bool critical = true;
};
// What is wrong by what is in the document.
[[nodiscard]] std::vector<Finding> findings(const api::Json& protection);

}  // namespace ebb::service
