#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang-tidy-19 over the project's sources; a file found clean is not looked at again until it,
a project header it includes, the checks or the compile flags change.

Most of the time goes into the headers of libraries, so files with the same flags are looked at
many at a time, as one translation unit, those apart that define the same names for themselves. Where
that fails, for whatever reason, each half is tried; what is reported is what a file alone shows."""
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import tempfile
import time

import gate

TIDY = "clang-tidy-19"
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.M)
# Names that a file gives to what it defines outside of classes and functions, roughly.
DEFINED = re.compile(r"^(?!namespace|using|TEST|BENCH)(?:[a-zA-Z_][\w:<>,&*\[\]. ]*[ &*])?([a-zA-Z_]\w*)(?:\(|\{| \{| = |;)", re.M)
# Each program has one, and no header: they are given names of their own.
ONE_EACH = ("main", "LLVMFuzzerTestOneInput")
BATCH = 24
ROOTS = ("daemon", "include/uapi", "tests", "tests/kmod", ".")


class Closure:
    """Contents of a source and of all project headers it can see, as one digest."""

    def __init__(self, top):
        self.top = top
        self.direct = {}

    def includes(self, name):
        if name not in self.direct:
            found = set()
            for header in INCLUDE.findall(gate.read(self.top, name)):
                for root in (*ROOTS, os.path.dirname(name)):
                    path = os.path.normpath(os.path.join(root, header))
                    if os.path.isfile(os.path.join(self.top, path)):
                        found.add(path)
                        break
            self.direct[name] = found
        return self.direct[name]

    def digest(self, name, *context):
        seen, todo = {name}, [name]
        while todo:
            for header in self.includes(todo.pop()) - seen:
                seen.add(header)
                todo.append(header)
        total = hashlib.sha256()
        for part in context:
            total.update(part.encode() + b"\0")
        for path in sorted(seen):
            total.update(path.encode() + b"\0" + gate.read(self.top, path).encode() + b"\0")
        return total.hexdigest()


def arguments_of(entry):
    """The compile command without compiler launcher, output and source."""
    arguments = entry.get("arguments") or shlex.split(entry["command"])
    while not os.path.basename(arguments[0]).startswith(("g++", "clang", "c++", "gcc")):
        arguments = arguments[1:]
    out = arguments.index("-o")
    arguments = arguments[:out] + arguments[out + 2:]
    return [a for a in arguments if a not in ("-c", entry["file"])]


class Tidy:
    """Runs clang-tidy over files of one tree."""

    def __init__(self, top, build):
        self.top = top
        self.build = build

    def run(self, paths, *extra):
        # The compiler is GCC: what only it knows must not fail clang.
        command = [TIDY, "--quiet", "--extra-arg=-Wno-unknown-warning-option", *extra, *paths]
        done = subprocess.run(command, cwd=self.top, text=True, capture_output=True, check=False)
        return done.returncode, done.stdout + (done.stderr if done.returncode else "")

    def alone(self, name):
        code, text = self.run([os.path.join(self.top, name)], "-p", self.build)
        return "" if code == 0 else text.strip() or f"{name}: clang-tidy ended with {code}"

    def together(self, names, arguments):
        """True where all of them are clean as one translation unit."""
        with tempfile.TemporaryDirectory() as folder:
            unit = os.path.join(folder, "unit.cc")
            with open(unit, "w", encoding="utf-8") as file:
                for number, name in enumerate(names):
                    file.writelines(f"#define {one} {one}_{number}\n" for one in ONE_EACH)
                    file.write(f'#include "{os.path.join(self.top, name)}"\n')
                    file.writelines(f"#undef {one}\n" for one in ONE_EACH)
            with open(os.path.join(folder, "compile_commands.json"), "w", encoding="utf-8") as file:
                json.dump([{"directory": self.build, "file": unit,
                            "arguments": [*arguments, unit]}], file)
            config = os.path.join(self.top, ".clang-tidy")
            return self.run([unit], "-p", folder, f"--config-file={config}",
                            "--checks=-bugprone-suspicious-include",  # of sources, in the unit
                            r"--header-filter=.*/(daemon|ctl|tests)/.*\.(h|cc)$")[0] == 0

    def batch(self, batch):
        """(name, report) of each file; an empty report is a clean file."""
        began = time.monotonic()
        names = [name for name, _ in batch]
        if len(names) == 1:
            result = [(names[0], self.alone(names[0]))]
        elif self.together(names, batch[0][1]):
            result = [(name, "") for name in names]
        else:
            middle = len(batch) // 2
            return self.batch(batch[:middle]) + self.batch(batch[middle:])
        print(f"{time.monotonic() - began:6.1f} s  {' '.join(names)}", flush=True)
        return result


def batches(top, work):
    """Files with the same flags, at most BATCH at a time, that do not define the same names."""
    result = []
    for name, arguments in sorted(work):
        names = set(DEFINED.findall(gate.read(top, name))) - set(ONE_EACH)
        for batch, flags, taken in result:
            if flags == arguments and len(batch) < BATCH and not names & taken:
                batch.append((name, arguments))
                taken |= names
                break
        else:
            result.append(([(name, arguments)], arguments, names))
    return sorted((batch for batch, _, _ in result), key=len, reverse=True)


def main():
    args = gate.arguments(__doc__, **{
        "--build": {"default": "build", "help": "build tree with compile_commands.json"},
        "names": {"nargs": "*", "help": "only these files"}})
    top, build = args.top, os.path.join(args.top, args.build)
    cache = os.path.join(os.environ.get("EBB_CACHE", os.path.join(top, ".cache")), "tidy")
    os.makedirs(cache, exist_ok=True)
    version = subprocess.run([TIDY, "--version"], check=True, capture_output=True, text=True).stdout
    rules = gate.read(top, ".clang-tidy")
    closure = Closure(top)
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = json.load(file)
    known = set(gate.files(top, "daemon/*.cc", "ctl/*.cc", "tests/*.cc"))
    work, keys = [], {}
    for entry in commands:
        name = os.path.relpath(entry["file"], top)
        if name not in known or (args.names and name not in args.names):
            continue
        known.discard(name)
        arguments = arguments_of(entry)
        flags = " ".join(arguments).replace(top, "")
        keys[name] = os.path.join(cache, closure.digest(name, version, rules, flags))
        if not os.path.exists(keys[name]):
            work.append((name, arguments))
    violations = []
    tidy = Tidy(top, build)
    jobs = int(os.environ.get("EBB_JOBS", "0")) or len(os.sched_getaffinity(0))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for reports in pool.map(tidy.batch, batches(top, work)):
            for name, text in reports:
                if text:
                    violations.append(text)
                    continue
                with open(keys[name], "w", encoding="utf-8"):
                    pass
    print(f"tidy: {len(keys) - len(work)} of {len(keys)} clean since an earlier run")
    gate.finish("tidy", violations, len(keys))


if __name__ == "__main__":
    main()
