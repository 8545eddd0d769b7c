// SPDX-License-Identifier: Apache-2.0
// What the controller knows, in SQLite: documents by kind and key. Any thread.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/json.h"
#include "base/error.h"

struct sqlite3;

namespace ebb::service {

class ControllerStore {
public:
    // E_NO_SPACE, E_DATABASE.
    static Result<std::unique_ptr<ControllerStore>> open(const std::string& path);
    ~ControllerStore();

    // Durable when it returns.
    Status put(const std::string& kind, const std::string& key, const api::Json& document);
    Status remove(const std::string& kind, const std::string& key);
    // Puts the members of `fields` into the document, nothing else; gives the document.
    // E_NOT_FOUND.
    Result<api::Json> amend(const std::string& kind, const std::string& key,
                            const api::Json& fields);
    Result<std::optional<api::Json>> find(const std::string& kind, const std::string& key);
    // In order of key.
    Result<std::vector<std::pair<std::string, api::Json>>> all(const std::string& kind);

private:
    ControllerStore(sqlite3* database, std::string path);
    [[nodiscard]] std::unexpected<Error> failed(int code) const;
    Status run(const char* sql, const std::vector<std::string>& values,
               std::vector<std::pair<std::string, std::string>>* rows);

    std::recursive_mutex mutex_;
    sqlite3* database_;
    std::string path_;
};

}  // namespace ebb::service
