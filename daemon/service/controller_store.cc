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

std::unexpected<Error> damaged(const std::string& kind, const std::string& key) {
    return fail("E_DATABASE", ErrorCode::corrupt,
                kind + " " + key + " in the controller's database is damaged",
                "Stop the controller and put back a backup of the file");
}

}  // namespace

Result<std::unique_ptr<ControllerStore>> ControllerStore::open(const std::string& path) {
    sqlite3* database = nullptr;
    const int rc = sqlite3_open_v2(path.c_str(), &database,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
    std::unique_ptr<ControllerStore> store(new ControllerStore(database, path));
    if (rc != SQLITE_OK) return store->failed(rc);
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

ControllerStore::ControllerStore(sqlite3* database, std::string path)
    : database_(database), path_(std::move(path)) {}

// What SQLite said, and what the operator can do about it.
std::unexpected<Error> ControllerStore::failed(int code) const {
    const std::string what =
        "the controller's database " + path_ + ": " + sqlite3_errmsg(database_);
    switch (code & 0xff) {
        case SQLITE_FULL:
            return fail(ErrorCode::no_space, what, "Make room on the volume of " + path_);
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return fail("E_DATABASE", ErrorCode::corrupt, what,
                        "Stop the controller and put back a backup of the file");
        case SQLITE_CANTOPEN:
        case SQLITE_PERM:
        case SQLITE_READONLY:
            return fail("E_DATABASE", ErrorCode::io, what,
                        "See whether its folder exists and the controller may write there");
        default:
            return fail("E_DATABASE", ErrorCode::io, what,
                        "See whether the volume of " + path_ + " is sound and has room");
    }
}

ControllerStore::~ControllerStore() {
    sqlite3_close_v2(database_);
}

Status ControllerStore::run(const char* sql, const std::vector<std::string>& values,
                            std::vector<std::pair<std::string, std::string>>* rows) {
    const std::lock_guard lock(mutex_);
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
    return failed(rc);
}

Status ControllerStore::put(const std::string& kind, const std::string& key,
                            const api::Json& document) {
    return run("INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = ?3",
               {kind, key, api::dump(document)}, nullptr);
}

Status ControllerStore::remove(const std::string& kind, const std::string& key) {
    return run("DELETE FROM documents WHERE kind = ? AND key = ?", {kind, key}, nullptr);
}

Result<std::optional<api::Json>> ControllerStore::find(const std::string& kind,
                                                       const std::string& key) {
    std::vector<std::pair<std::string, std::string>> rows;
    auto ok = run("SELECT key, body FROM documents WHERE kind = ? AND key = ?", {kind, key}, &rows);
    if (!ok) return std::unexpected(ok.error());
    if (rows.empty()) return std::optional<api::Json>();
    auto json = api::parse(rows.front().second);
    if (!json) return damaged(kind, key);
    return std::optional(std::move(*json));
}

Result<api::Json> ControllerStore::amend(const std::string& kind, const std::string& key,
                                         const api::Json& fields) {
    const std::lock_guard lock(mutex_);
    auto document = find(kind, key);
    if (!document) return std::unexpected(document.error());
    if (!*document) return fail(ErrorCode::not_found, "there is no " + kind + " " + key);
    (*document)->update(fields);
    if (auto ok = put(kind, key, **document); !ok) return std::unexpected(ok.error());
    return std::move(**document);
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
        if (!json) return damaged(kind, key);
        documents.emplace_back(std::move(key), std::move(*json));
    }
    return documents;
}

}  // namespace ebb::service
