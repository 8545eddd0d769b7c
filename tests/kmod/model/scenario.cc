// SPDX-License-Identifier: Apache-2.0
#include "model/scenario.h"

#include <sstream>

namespace ebb::kmodmodel {
namespace {

std::string disk_line(const DiskPlan& d) {
    std::ostringstream out;
    out << "disk " << d.kind << " " << d.sectors << " " << d.block << " " << d.queues << " "
        << d.irqmode << " " << d.nsec << " " << d.delay_ms << " " << d.polls << " " << d.first;
    return out.str();
}

bool take_line(const std::string& line, Scenario& scenario) {
    std::istringstream in(line);
    std::string word, name;
    if (!(in >> word)) return true;
    if (word == "seed") return static_cast<bool>(in >> scenario.seed);
    if (word == "parameter") return (in >> name) && (in >> scenario.parameters[name]);
    if (word == "disk") {
        DiskPlan d;
        in >> d.kind >> d.sectors >> d.block >> d.queues >> d.irqmode >> d.nsec >> d.delay_ms;
        if (in.fail()) return false;
        in >> d.polls >> d.first;  // what was saved before there were these has none
        scenario.disks.push_back(d);
        return true;
    }
    if (word == "path") {
        PathPlan p;
        in >> p.disk >> p.kind >> p.first;
        scenario.paths.push_back(p);
        return !in.fail();
    }
    if (word == "map") return (in >> scenario.map) && (in >> scenario.map_block);
    auto operation = parse_operation(line);
    if (operation) scenario.operations.push_back(*operation);
    return operation.has_value();
}

// Numbers of disks and paths are within bounds, as the executor relies on.
bool is_sound(const Scenario& scenario) {
    for (std::size_t d = 0; d < scenario.disks.size(); ++d) {
        const DiskPlan& disk = scenario.disks[d];
        if (disk.kind != "stacked") continue;
        if (d == 0 || scenario.disks[d - 1].kind == "stacked" ||
            disk.first + disk.sectors > scenario.disks[d - 1].sectors)
            return false;
    }
    for (const auto& path : scenario.paths)
        if (path.disk >= scenario.disks.size() || path.first >= scenario.disks[path.disk].sectors)
            return false;
    for (const auto& o : scenario.operations) {
        if (o.path >= scenario.paths.size() ||
            o.disk >= scenario.disks.size() + is_at_request(o.kind))
            return false;
        if (is_restart(o.kind) && scenario.map.empty()) return false;
    }
    return !scenario.disks.empty() && scenario.disks.size() <= most_disks;
}

}  // namespace

std::string to_text(const Scenario& scenario) {
    std::ostringstream out;
    out << "seed " << scenario.seed << "\n";
    for (const auto& [name, value] : scenario.parameters)
        out << "parameter " << name << " " << value << "\n";
    for (const auto& disk : scenario.disks) out << disk_line(disk) << "\n";
    for (const auto& path : scenario.paths)
        out << "path " << path.disk << " " << path.kind << " " << path.first << "\n";
    if (!scenario.map.empty()) out << "map " << scenario.map << " " << scenario.map_block << "\n";
    for (const auto& operation : scenario.operations) out << to_line(operation) << "\n";
    return out.str();
}

std::optional<Scenario> parse_scenario(const std::string& text) {
    Scenario scenario;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);)
        if (!take_line(line, scenario)) return std::nullopt;
    if (!is_sound(scenario)) return std::nullopt;
    return scenario;
}

}  // namespace ebb::kmodmodel
