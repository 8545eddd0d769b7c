// SPDX-License-Identifier: Apache-2.0
// What the controller knows, in SQLite: documents by kind and key, and one-time tokens. Any
// thread, one at a time.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "api/json.h"
#include "base/error.h"

struct sqlite3;

namespace ebb::service {

class ControllerStore {
public:
    static Result<std::unique_ptr<ControllerStore>> open(const std::string& path);
    ~ControllerStore();

    // Durable when it returns.
    Status put(const std::string& kind, const std::string& key, const api::Json& document);
    Status remove(const std::string& kind, const std::string& key);
    // In order of key.
    Result<std::vector<std::pair<std::string, api::Json>>> all(const std::string& kind);

private:
    explicit ControllerStore(sqlite3* database) : database_(database) {}
    Status run(const char* sql, const std::vector<std::string>& values,
               std::vector<std::pair<std::string, std::string>>* rows);

    sqlite3* database_;
};

}  // namespace ebb::service
