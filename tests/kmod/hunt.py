#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The model test (tests/kmod/model) with seeds that nobody has tried, for as long as it is let.

    tests/kmod/hunt.py [--kernel 6.1]... [--seconds N]      kernels in turn, a machine each time
    tests/kmod/hunt.py --kernel 6.12 --seed 4711 --tries 10 that seed again
    tests/kmod/hunt.py --replay FILE --tries 10             a saved scenario again

What failed is saved in $EBB_CACHE/hunt (or build/hunt): SEED-KERNEL.scenario, what was left of it
when made smaller in .small, and all that was said in .log. Exit status 1 if anything was found.
"""
import argparse
import os
import re
import sys
import time
from types import SimpleNamespace

import run

TURN = 420  # seconds of one machine


def save(folder, kernel, text, log):
    """Files of what failed; the name of the first."""
    scenarios = re.findall(r"^==== scenario\n(.*?)^==== end$", text, re.M | re.S)
    seed = re.search(r"^seed (\d+)$", scenarios[0], re.M).group(1) if scenarios else "none"
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, f"{seed}-{kernel}")
    for name, content in zip((".scenario", ".small"), (scenarios[0], scenarios[-1])
                             if len(scenarios) > 1 else scenarios):
        with open(base + name, "w", encoding="utf-8") as file:
            file.write(content)
    with open(base + ".log", "w", encoding="utf-8") as file:
        file.write(text + "\nkernel:\n" + log)
    return base


def turn(options, kernel, arguments, folder):
    """One machine, one call of the model test: whether nothing was found."""
    settings = SimpleNamespace(kernel=kernel, tag=f"hunt{os.getpid()}-", ko=options.ko, env=[])
    if not settings.ko:
        run.build_module(settings, "kmod", "build/kmod")
        settings.ko = os.path.join("build/kmod", kernel, "ebb.ko")
    run.build_module(settings, "tests/kmod/modules", "build/kmod-test")
    settings.env.append(f'MODEL="{arguments}"')
    case = run.Case(os.path.join(run.CASES, "model.sh"))
    case.timeout = options.limit
    try:
        machine = run.Machine(settings, "0", case.needs)
    except (run.LabError, run.QmpError, run.GuestError, OSError) as error:
        print(f"{kernel}: the machine does not start: {error}", flush=True)
        return False
    verdict, text = machine.run(case)
    log = run.console.read(machine.vm.console)
    try:
        machine.close()
    except run.LabError as error:
        verdict, text = "failed", f"{text}\n{error}"
    account = [line for line in text.splitlines() if line.startswith(("{", "FAILED"))]
    print(f"{kernel} {arguments}: {verdict}", *account, sep="\n    ", flush=True)
    if verdict == "failed":
        print("    saved: " + save(folder, kernel, text, log) + ".*", flush=True)
    return verdict == "passed"


def parse():
    parser = argparse.ArgumentParser(description="model test of the module, new seeds")
    parser.add_argument("--kernel", action="append", default=[])
    parser.add_argument("--seconds", type=int, default=0, help="0: until it is stopped")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--replay", help="a saved scenario, within the tree")
    parser.add_argument("--tries", type=int, default=1)
    parser.add_argument("--shrink", type=int, default=180, help="seconds for making it smaller")
    parser.add_argument("--ko", help="a module built already (path in the tree)")
    return parser.parse_args()


def main():
    options = parse()
    kernels = options.kernel or ["6.1"]
    cache = os.environ.get("EBB_CACHE")
    folder = os.path.join(cache or os.path.join(run.TOP, "build"), "hunt")
    options.limit = 4 * TURN + options.shrink
    again = f" --tries {options.tries} --shrink {options.shrink}"
    if options.replay:
        path = os.path.relpath(os.path.abspath(options.replay), run.TOP)
        if path.startswith(".."):
            parser_error = "the guest sees the project's tree alone: put the file into it"
            print(f"hunt.py: {options.replay}: {parser_error}", file=sys.stderr)
            return 2
        return not all([turn(options, k, f"--replay /ebb/{path}{again}", folder) for k in kernels])
    if options.seed is not None:
        return not all([turn(options, k, f"--seed {options.seed}{again}", folder)
                        for k in kernels])
    end, good, number = time.monotonic() + options.seconds, True, 0
    while not options.seconds or time.monotonic() < end:
        left = min(TURN, end - time.monotonic()) if options.seconds else TURN
        good &= turn(options, kernels[number % len(kernels)],
                     f"--seed {time.time_ns()} --seconds {int(left)}{again}", folder)
        number += 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
