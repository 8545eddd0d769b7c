// SPDX-License-Identifier: Apache-2.0
// What a daemon is told by its configuration file, /etc/ebb/ebbd.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/json.h"
#include "base/error.h"
#include "platform/tls.h"

namespace ebb::service {

struct ControllerPlace {
    std::string host;
    std::uint16_t port = 443;
    std::string name = "controller";  // common name of its certificate
};

struct ControllerSettings {
    std::string address = "0.0.0.0";
    std::uint16_t port = 443;
    std::string socket = "/run/ebb/controller.sock";
    api::Json qemu;  // provider's machines; null: none
};

// How the changes of a disk are known over restarts: "intent-log", where there is a map device, or
// "checksum".
struct SourceDiskSettings {
    std::string stable_id;
    std::string tracking;
};

struct SourceSettings {
    // Where the maps of tracked disks are kept over restarts; empty: in memory alone.
    std::string map;
    std::vector<SourceDiskSettings> disks;  // others are "intent-log" if there is a map
    std::string dumps = "/var/crash";       // where kdump writes
    std::uint64_t verify_mib_per_s = 64;    // read for a verification at most; 0: no limit
    // Of application-consistent points: scripts, how long each may take, and how long filesystems
    // may be frozen at most.
    std::string app_scripts = "/etc/ebb/consistency.d";
    std::uint64_t app_script_seconds = 60;
    std::uint64_t app_freeze_seconds = 10;

    [[nodiscard]] bool keeps_map(const std::string& stable_id) const;
};

// Where points are served from, to be read.
struct NbdSettings {
    std::string socket = "/run/ebb/nbd.sock";
    // Also on TCP, without encryption, to whoever reaches it; empty: not.
    std::string address;
    std::uint16_t port = 10809;
    std::string host;  // by which hypervisors reach it; empty: the address
};

struct TargetSettings {
    std::string retention = "/mnt/retention";
    std::string address = "0.0.0.0";  // to listen on for sources
    std::string host;                 // by which sources reach it; empty: the machine's name
    std::uint16_t port = 9443;
    std::vector<std::string> install_paths = {"/usr/sbin"};
    std::vector<std::string> cache_paths;
    // Every recovery point is kept for the first of these, and for ten minutes at least; then the
    // last of each so many minutes (0: every one). They are given up when they are older, unless
    // they have a name, or when there is more undo of a protection than this (0: as the volume has
    // room); the newest is always kept.
    std::uint64_t retention_all_hours = 2;
    std::uint64_t retention_thin_minutes = 60;
    std::uint64_t retention_hours = 24;
    bool retention_compression = true;
    std::uint64_t retention_limit_mib = 0;
    // Of memory, for the index of each point that is served.
    std::uint64_t serve_index_mib = 256;
    NbdSettings nbd;
};

struct Config {
    std::string name;
    std::string folder = "/etc/ebb";     // certificate, key, authority
    std::string state = "/var/lib/ebb";  // what must survive a restart
    std::vector<std::string> roles;      // "source", "target", "controller"
    ControllerPlace controller;
    ControllerSettings serve;
    TargetSettings target;
    SourceSettings source;

    [[nodiscard]] bool has_role(const std::string& role) const;
    [[nodiscard]] platform::TlsIdentity identity() const;
};

Result<Config> load_config(const std::string& path);
// `path` for messages alone.
Result<Config> parse_config(std::string_view text, const std::string& path);

template <class V>
void describe(V& visit, ControllerPlace& c) {
    visit("host", c.host);
    visit.optional("port", c.port);
    visit.optional("name", c.name);
}

template <class V>
void describe(V& visit, SourceDiskSettings& d) {
    visit("stable_id", d.stable_id);
    visit("tracking", d.tracking);
}

template <class V>
void describe(V& visit, SourceSettings& s) {
    visit.optional("map", s.map);
    visit.optional("disks", s.disks);
    visit.optional("dumps", s.dumps);
    visit.optional("verify_mib_per_s", s.verify_mib_per_s);
    visit.optional("app_scripts", s.app_scripts);
    visit.optional("app_script_seconds", s.app_script_seconds);
    visit.optional("app_freeze_seconds", s.app_freeze_seconds);
}

template <class V>
void describe(V& visit, NbdSettings& n) {
    visit.optional("socket", n.socket);
    visit.optional("address", n.address);
    visit.optional("port", n.port);
    visit.optional("host", n.host);
}

template <class V>
void describe(V& visit, TargetSettings& t) {
    visit.optional("retention", t.retention);
    visit.optional("address", t.address);
    visit.optional("host", t.host);
    visit.optional("port", t.port);
    visit.optional("install_paths", t.install_paths);
    visit.optional("cache_paths", t.cache_paths);
    visit.optional("retention_all_hours", t.retention_all_hours);
    visit.optional("retention_thin_minutes", t.retention_thin_minutes);
    visit.optional("retention_hours", t.retention_hours);
    visit.optional("retention_compression", t.retention_compression);
    visit.optional("retention_limit_mib", t.retention_limit_mib);
    visit.optional("serve_index_mib", t.serve_index_mib);
    visit.optional("nbd", t.nbd);
}

template <class V>
void describe(V& visit, ControllerSettings& c) {
    visit.optional("address", c.address);
    visit.optional("port", c.port);
    visit.optional("socket", c.socket);
    visit.optional("qemu", c.qemu);
}

template <class V>
void describe(V& visit, Config& c) {
    visit("name", c.name);
    visit.optional("folder", c.folder);
    visit.optional("state", c.state);
    visit("roles", c.roles);
    visit.optional("controller", c.controller);
    visit.optional("serve", c.serve);
    visit.optional("target", c.target);
    visit.optional("source", c.source);
}

}  // namespace ebb::service
