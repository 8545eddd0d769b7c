#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The #include edges between layers are those of docs/architecture.md, and pure layers stay pure."""
import os
import re

import gate

# layer: (project layers it may include, system headers it may include beside the C++ library;
# None: any)
LAYERS = {
    "daemon/base": ((), ()),
    "daemon/format": (("base",), ("xxhash.h", "zstd.h", "openssl/", "boost/crc.hpp")),
    "daemon/env": (("base",), ()),
    "daemon/core": (("base", "format", "env"), ()),
    "daemon/api": (("base",), ("nlohmann/",)),
    "daemon/platform": (("env", "format", "base"), None),
    "daemon/provider": (("platform", "env", "base"), None),
    "daemon/service": (("base", "format", "env", "core", "api", "platform", "provider"), None),
    "ctl": (("api", "base"), None),
    "attach": (("platform", "format", "base"), None),
    "freeze": (("platform", "base"), None),
    "tests/sim": (("base", "format", "env", "core"), ()),
}
NAMES = {path.split("/")[-1] for path in LAYERS} - {"ctl", "attach", "freeze", "sim"}
# Clocks, threads, files and entropy come to these layers through env/, or the simulator lies.
PURE = ("daemon/format", "daemon/env", "daemon/core")
IMPURE_HEADERS = {
    "thread", "mutex", "shared_mutex", "condition_variable", "future", "semaphore", "stop_token",
    "fstream", "filesystem", "iostream", "ctime", "csignal", "random", "atomic",
}
IMPURE_WORDS = re.compile(
    r"(system_clock|steady_clock|high_resolution_clock|random_device|\bstd::thread\b|\bgetenv\b)")
CPP_HEADER = re.compile(r"^[a-z_]+$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def system_include(layer, header):
    allowed = LAYERS[layer][1]
    if layer in PURE and header in IMPURE_HEADERS:
        return f"{layer} may not use <{header}>: it comes through env/"
    if allowed is None or CPP_HEADER.match(header):
        return None
    if any(header == a or (a.endswith("/") and header.startswith(a)) for a in allowed):
        return None
    return f"{layer} may not include <{header}>"


def project_include(top, layer, header):
    first = header.split("/")[0]
    if first in NAMES and os.path.isfile(os.path.join(top, "daemon", header)):
        own = layer.split("/")[-1]
        if first != own and first not in LAYERS[layer][0]:
            return f"{layer} may not include {first}/"
        return None
    if os.path.isfile(os.path.join(top, layer, os.path.basename(header))):
        if layer.startswith("daemon/"):
            return f'include "{header}" relative to daemon/'
        return None
    if layer in ("daemon/platform", "daemon/service") and header.startswith("linux/"):
        return None
    return f'"{header}" is not a header of the project'


def check(top, layer, name):
    violations = []
    for number, line in enumerate(gate.read(top, name).split("\n"), 1):
        if found := INCLUDE.match(line):
            kind, header = found.groups()
            if kind == "<":
                problem = system_include(layer, header)
            else:
                problem = project_include(top, layer, header)
            if problem:
                violations.append(f"{name}:{number}: {problem}")
        code = line.split("//")[0]
        if layer in PURE and (found := IMPURE_WORDS.search(code)):
            violations.append(f"{name}:{number}: {found.group(1)} in {layer}: use env/")
    return violations


def main():
    args = gate.arguments(__doc__)
    violations, looked = [], 0
    for layer in LAYERS:
        for name in gate.files(args.top, f"{layer}/*.h", f"{layer}/*.cc"):
            looked += 1
            violations += check(args.top, layer, name)
    for name in gate.files(args.top, "daemon/*.h", "daemon/*.cc"):
        if not any(name.startswith(layer + "/") for layer in LAYERS):
            violations.append(f"{name}:1: belongs to no layer")
    gate.finish("layers", violations, looked)


if __name__ == "__main__":
    main()
