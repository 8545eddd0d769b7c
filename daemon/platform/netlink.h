// SPDX-License-Identifier: Apache-2.0
// The module's generic netlink family (include/uapi/linux/ebb.h) as blocking calls. One thread at
// a time for each object; the socket of the object is what owns a pass.
#pragma once

#include <linux/ebb.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "platform/netlink_reply.h"

struct nl_sock;

namespace ebb::platform {

// Where a disk's map is (EBB_A_LOG).
struct MapArea {
    std::uint64_t device = 0;  // major << 32 | minor
    std::uint64_t offset = 0;  // bytes
    std::uint64_t length = 0;
    bool create = false;  // whatever is there

    friend bool operator==(const MapArea&, const MapArea&) = default;
};

// Only what is set is sent.
struct NetlinkRequest {
    std::uint8_t command = 0;
    bool dump = false;
    std::map<int, std::uint32_t> u32 = {};
    std::map<int, std::uint64_t> u64 = {};
    std::string stable_id = {};
    std::vector<ebb_extent> extents = {};
    std::optional<MapArea> log = {};
    std::string cookie = {};  // EBB_COOKIE_LEN bytes
    std::string note = {};    // at most EBB_NOTE_MAX bytes
};

// Of this boot of the machine, as binary. Blocking.
[[nodiscard]] Result<Uuid> boot_id();

class NetlinkClient {
public:
    // E_MODULE_NOT_LOADED when the family does not exist.
    static Result<NetlinkClient> open();

    // All replies up to the acknowledgement. -ESTALE is E_STALE, -EBUSY and -EAGAIN E_BUSY.
    Result<std::vector<NetlinkReply>> call(const NetlinkRequest& request);
    // Exactly one reply, E_PROTOCOL if there is none.
    Result<NetlinkReply> call_one(const NetlinkRequest& request);

    // Events of the module make the socket readable from now on; commands are not for this object.
    Status subscribe();
    void drain_events();
    [[nodiscard]] int fd() const;

private:
    struct Free {
        void operator()(nl_sock* socket) const;
    };
    std::unique_ptr<nl_sock, Free> socket_;
    int family_ = -1;
};

}  // namespace ebb::platform
