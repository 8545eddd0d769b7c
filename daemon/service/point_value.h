// SPDX-License-Identifier: Apache-2.0
// A recovery point as operators get to see it.
#pragma once

#include "api/points.h"
#include "base/uuid_text.h"
#include "core/target.h"

namespace ebb::service {

[[nodiscard]] inline api::Point point_value(const core::Point& point) {
    api::Point p;
    p.epoch = point.epoch;
    p.name = point.name;
    p.cut_time_ns = point.cut_time.ns;
    p.closed_time_ns = point.closed_time.ns;
    p.bytes = point.undo_bytes;
    p.kind =
        point.kind == format::PointKind::application ? api::PointKind::app : api::PointKind::crash;
    if (point.common) p.common = api::CommonMark{to_text(point.common->cut), point.common->time.ns};
    return p;
}

}  // namespace ebb::service
