// SPDX-License-Identifier: Apache-2.0
// What is computed beside the executor.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "env/cpus.h"
#include "format/digest.h"

namespace ebb::core {

// Never an error; nobody changes `data`, which `done` keeps alive, meanwhile.
inline void sha256(env::Cpus& cpus, std::span<const std::byte> data,
                   env::Callback<format::Sha256> done) {
    auto digest = std::make_shared<format::Sha256>();
    cpus.compute([data, digest] { *digest = format::sha256(data); },
                 [digest, done = std::move(done)](const Status&) mutable { done(*digest); });
}

}  // namespace ebb::core
