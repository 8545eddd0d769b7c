// SPDX-License-Identifier: Apache-2.0
#include "platform/request_cost.h"

#include <sys/sysmacros.h>

#include <fstream>

namespace ebb::platform {

bool seeks(dev_t device, const std::string& sys) {
    const std::string at =
        sys + "/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
    for (const char* queue : {"/queue", "/../queue"}) {
        std::ifstream in(at + queue + "/rotational");
        int rotational = 1;
        if (in >> rotational) return rotational != 0;
    }
    return true;
}

}  // namespace ebb::platform
