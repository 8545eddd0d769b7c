#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every header compiles by itself (as the only include of a file), and has its #pragma once."""
import concurrent.futures
import os
import shutil
import subprocess

import gate

INCLUDES = ("daemon", "include/uapi", "tests", "tests/kmod", ".", "/usr/include/libnl3")


def compile_alone(top, compiler, name):
    text = gate.read(top, name)
    if "#pragma once" not in text:
        return f"{name}:1: no #pragma once"
    command = [compiler, "-std=c++23", "-x", "c++", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
               "-DBOOST_ERROR_CODE_HEADER_ONLY", "-DEBB_VERSION=\"0\""]
    for path in INCLUDES:
        command += ["-I", path]
    # Included from standard input, since #pragma once in a main file is a warning.
    done = subprocess.run(command + ["-"], input=f'#include "{os.path.join(top, name)}"\n',
                          cwd=top, text=True, capture_output=True, check=False)
    if done.returncode:
        first = next((l for l in done.stderr.split("\n") if "error" in l), done.stderr[:200])
        return f"{name}:1: does not compile by itself: {first}"
    return None


def main():
    args = gate.arguments(__doc__)
    compiler = shutil.which("g++-12") or "g++"
    names = gate.files(args.top, "daemon/*.h", "ctl/*.h", "tests/*.h")
    jobs = int(os.environ.get("EBB_JOBS", "0")) or len(os.sched_getaffinity(0))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda n: compile_alone(args.top, compiler, n), names))
    gate.finish("headers", [r for r in results if r], len(names))


if __name__ == "__main__":
    main()
