#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules on the text of every file: SPDX line, length, words that mean unfinished, version tests."""
import os
import re

import gate

MAX_LINES = 1000
# Written in pieces, so that this file keeps its own rules.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|not imple" r"mented|unimple" r"mented)\b")
VERSION_TEST = re.compile(r"\b(LINUX_VERSION" r"_CODE|KERNEL_" r"VERSION|RHEL_" r"RELEASE\w*)\b")
SOURCE = (".c", ".h", ".cc", ".py", ".sh", ".cmake", ".S")
# Formats without comments, licence texts, and what is data.
NO_SPDX = re.compile(
    r"(^LICENSES/|^LICENSE|\.json$|/corpus/|\.gitignore$|\.gitattributes$|^CHANGELOG\.md$|\.sha256$"
    r"|\.pem$|\.bin$|\.txt$)")
IDENTIFIER = re.compile(r"SPDX-License-Identifier: ([^\n*>]+)")


def expected_licence(name):
    if name.startswith("include/uapi/"):
        return "GPL-2.0-only WITH Linux-syscall-note"
    if name.startswith(("kmod/", "tests/kmod/modules/", "scripts/lab/selftest/")):
        return "GPL-2.0-only"
    return "Apache-2.0"


def check_spdx(name, text):
    # The first line; the second after an interpreter line or a line a format demands first.
    head = "\n".join(text.split("\n")[:3])
    found = IDENTIFIER.search(head)
    if not found:
        return f"{name}:1: no SPDX-License-Identifier in the first lines"
    licence = found.group(1).replace("-->", "").rstrip("- ").strip().rstrip("\"'").strip()
    if licence != expected_licence(name):
        return f"{name}:1: licence is {licence}, should be {expected_licence(name)}"
    return None


def check(name, text):
    violations = []
    if not NO_SPDX.search(name) and text.strip():
        violations.append(check_spdx(name, text))
    lines = text.split("\n")
    if name.endswith(SOURCE) and len(lines) > MAX_LINES:
        violations.append(f"{name}:{len(lines)}: longer than {MAX_LINES} lines")
    for number, line in enumerate(lines, 1):
        if found := UNFINISHED.search(line):
            violations.append(f"{name}:{number}: unfinished by its own words: {found.group(0)}")
        if name.startswith("kmod/") and not name.startswith("kmod/compat/"):
            if VERSION_TEST.search(line):
                violations.append(f"{name}:{number}: version test outside kmod/compat/")
    return [v for v in violations if v]


def main():
    args = gate.arguments(__doc__)
    names = [n for n in gate.files(args.top) if not n.startswith("LICENSES/")]
    violations = []
    for name in names:
        if os.path.islink(os.path.join(args.top, name)):
            continue
        with open(os.path.join(args.top, name), "rb") as file:
            if b"\0" in file.read(8192):
                continue
        violations += check(name, gate.read(args.top, name))
    gate.finish("text", violations, len(names))


if __name__ == "__main__":
    main()
