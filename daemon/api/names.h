// SPDX-License-Identifier: Apache-2.0
// What names may look like. They travel into file names, command lines of hypervisors and logs,
// so that everything else is refused at the border.
#pragma once

#include <string_view>

namespace ebb::api {

// A machine: letters, digits, '.', '_' and '-', 1 to 63 of them, beginning with a letter or digit.
[[nodiscard]] bool valid_machine_name(std::string_view name);
// A site: as a machine.
[[nodiscard]] bool valid_site_name(std::string_view name);
// A recovery point's name: as a machine, up to 127 characters.
[[nodiscard]] bool valid_point_name(std::string_view name);
// A disk's stable id: printable ASCII without space, quotes, backslash or slash, 1 to 127
// (agents turn what a device reports otherwise into "_", as udev does).
[[nodiscard]] bool valid_stable_id(std::string_view id);
// Absolute, without "." and ".." components and control characters, at most 1023 bytes.
[[nodiscard]] bool valid_path(std::string_view path);
// Lower-case hexadecimal 8-4-4-4-12.
[[nodiscard]] bool valid_uuid(std::string_view id);

}  // namespace ebb::api
