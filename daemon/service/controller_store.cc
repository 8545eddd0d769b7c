// SPDX-License-Identifier: Apache-2.0
#include "service/controller_store.h"

#include <sqlite3.h>

namespace ebb::service {

namespace {

constexpr int busy_ms = 5000;

std::string column(sqlite3_stmt* statement, int index) {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, index));
    return text == nullptr ? std::string{} : std::string(text);
}

}  // namespace

Result<std::unique_ptr<ControllerStore>> ControllerStore::open(const std::string& path) {
    sqlite3* database = nullptr;
    const int rc = sqlite3_open_v2(path.c_str(), &database,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
    std::unique_ptr<ControllerStore> store(new ControllerStore(database));
    if (rc != SQLITE_OK) return fail(ErrorCode::io, "cannot open " + path);
    sqlite3_busy_timeout(database, busy_ms);
    for (const char* sql :
         {"PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL",
          "CREATE TABLE IF NOT EXISTS documents (kind TEXT, key TEXT, body TEXT NOT NULL, "
          "PRIMARY KEY (kind, key)) WITHOUT ROWID"}) {
        std::vector<std::pair<std::string, std::string>> ignored;
        if (auto ok = store->run(sql, {}, &ignored); !ok) return std::unexpected(ok.error());
    }
    return store;
}

ControllerStore::~ControllerStore() {
    sqlite3_close_v2(database_);
}

Status ControllerStore::run(const char* sql, const std::vector<std::string>& values,
                            std::vector<std::pair<std::string, std::string>>* rows) {
    sqlite3_stmt* raw = nullptr;
    int rc = sqlite3_prepare_v2(database_, sql, -1, &raw, nullptr);
    const std::unique_ptr<sqlite3_stmt, decltype(&sqlite3_finalize)> statement(raw,
                                                                               sqlite3_finalize);
    for (std::size_t i = 0; rc == SQLITE_OK && i < values.size(); ++i)
        rc = sqlite3_bind_text(raw, static_cast<int>(i) + 1, values[i].data(),
                               static_cast<int>(values[i].size()), SQLITE_TRANSIENT);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(raw);
        if (rc == SQLITE_ROW && rows != nullptr) rows->emplace_back(column(raw, 0), column(raw, 1));
    }
    if (rc == SQLITE_DONE) return {};
    return fail(ErrorCode::io,
                std::string("the controller's database: ") + sqlite3_errmsg(database_));
}

Status ControllerStore::put(const std::string& kind, const std::string& key,
                            const api::Json& document) {
    return run("INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = ?3",
               {kind, key, api::dump(document)}, nullptr);
}

Status ControllerStore::remove(const std::string& kind, const std::string& key) {
    return run("DELETE FROM documents WHERE kind = ? AND key = ?", {kind, key}, nullptr);
}

Result<std::vector<std::pair<std::string, api::Json>>> ControllerStore::all(
    const std::string& kind) {
    std::vector<std::pair<std::string, std::string>> rows;
    if (auto ok = run("SELECT key, body FROM documents WHERE kind = ? ORDER BY key", {kind}, &rows);
        !ok)
        return std::unexpected(ok.error());
    std::vector<std::pair<std::string, api::Json>> documents;
    for (auto& [key, body] : rows) {
        auto json = api::parse(body);
        if (!json) return fail(ErrorCode::corrupt, kind + " " + key + " in the database");
        documents.emplace_back(std::move(key), std::move(*json));
    }
    return documents;
}

}  // namespace ebb::service
