// SPDX-License-Identifier: Apache-2.0
#include "model/shrinker.h"

#include <algorithm>
#include <optional>
#include <set>

namespace ebb::kmodmodel {
namespace {

class Shrinker {
public:
    Shrinker(Scenario scenario, const Fails& fails, const More& more)
        : best_(std::move(scenario)), fails_(fails), more_(more) {}

    Scenario run() {
        for (std::size_t before = 0; before != size() && more_();) {
            before = size();
            drop_phases();
            drop_lanes();
            drop_chunks();
            drop_disks();
        }
        return best_;
    }

private:
    [[nodiscard]] std::size_t size() const {
        return best_.operations.size() + 100 * best_.disks.size();
    }

    bool take(const Scenario& candidate) {
        if (candidate == best_ || !more_() || !fails_(candidate)) return false;
        best_ = candidate;
        return true;
    }

    // All of one phase, from the last to the first.
    void drop_phases() {
        std::vector<std::size_t> ends;
        for (std::size_t i = 0; i < best_.operations.size(); ++i)
            if (is_boundary(best_.operations[i].kind)) ends.push_back(i + 1);
        for (std::size_t i = ends.size(); i-- > 0 && ends.size() > 1;) {
            Scenario candidate = best_;
            auto at = candidate.operations.begin();
            std::size_t first = i ? ends[i - 1] : 0;
            candidate.operations.erase(at + static_cast<std::ptrdiff_t>(first),
                                       at + static_cast<std::ptrdiff_t>(ends[i]));
            if (take(candidate)) return drop_phases();
        }
    }

    void drop_lanes() {
        std::set<std::uint32_t> lanes;
        for (const auto& o : best_.operations)
            if (o.lane != operator_lane) lanes.insert(o.lane);
        for (std::uint32_t lane : lanes) {
            Scenario candidate = best_;
            std::erase_if(candidate.operations, [&](const Operation& o) { return o.lane == lane; });
            (void)take(candidate);
        }
    }

    // Half of the operations, a quarter, ... one.
    void drop_chunks() {
        for (std::size_t chunk = best_.operations.size() / 2; chunk > 0 && more_(); chunk /= 2)
            for (std::size_t first = 0; first < best_.operations.size();) {
                Scenario candidate = best_;
                auto at = candidate.operations.begin() + static_cast<std::ptrdiff_t>(first);
                std::size_t count = std::min(chunk, candidate.operations.size() - first);
                candidate.operations.erase(at, at + static_cast<std::ptrdiff_t>(count));
                if (!take(candidate)) first += chunk;
            }
    }

    // A disk that nobody uses, the last one only: so no number changes but those of its paths.
    void drop_disks() {
        while (best_.disks.size() > 1) {
            auto last = static_cast<std::uint32_t>(best_.disks.size() - 1);
            Scenario candidate = best_;
            std::erase_if(candidate.operations, [&](const Operation& o) {
                return o.disk == last || best_.paths[o.path].disk == last;
            });
            std::erase_if(candidate.paths, [&](const PathPlan& p) { return p.disk == last; });
            candidate.disks.pop_back();
            if (!take(candidate)) return;
        }
    }

    Scenario best_;
    const Fails& fails_;
    const More& more_;
};

}  // namespace

Scenario shrink(Scenario scenario, const Fails& fails, const More& more) {
    return Shrinker(std::move(scenario), fails, more).run();
}

}  // namespace ebb::kmodmodel
