// SPDX-License-Identifier: Apache-2.0
// What a service manager is told of this process. Blocking; any thread.
#pragma once

namespace ebb::platform {

// Tells systemd that the daemon serves from now on (sd_notify's READY=1); nothing where no manager
// has asked for it.
void notify_ready();

// As many open files as the hard limit allows: each client of a server takes one.
void raise_open_files();

}  // namespace ebb::platform
