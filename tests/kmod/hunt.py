#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The model test (tests/kmod/model) with seeds that nobody has tried, for as long as it is let.

    tests/kmod/hunt.py [--kernel 6.1]... [--seconds N]      kernels in turn, a machine each time
    tests/kmod/hunt.py --kernel 6.12 --seed 4711 --tries 10 that seed again
    tests/kmod/hunt.py --replay FILE --tries 10             a saved scenario again

Both forms in turn: within one boot, and over restarts (model_restarts.py); --form takes one of them.

What failed is saved in $EBB_CACHE/hunt (or build/hunt): SEED-KERNEL.scenario, what was left of it
when made smaller in .small, and all that was said in .log. Exit status 1 if anything was found.
"""
import argparse
import os
import sys
import time
from types import SimpleNamespace

import model_restarts
import run

TURN = 420  # seconds of one machine


def save(folder, kernel, text, log):
    """Files of what failed; the name of the first."""
    return model_restarts.save(folder, kernel, text + "\nkernel:\n" + log)


def turn(options, kernel, arguments, folder):
    """One machine, one call of the model test within one boot: whether nothing was found."""
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


def over_restarts(options, kernel, plans, folder, seconds=0):
    """Plans one after the other, for so long: whether nothing was found."""
    settings = SimpleNamespace(kernel=kernel, tag=f"hunt{os.getpid()}", ko=options.ko,
                               tries=options.tries, shrink=options.shrink, shrink_tries=2)
    model_restarts.prepare(settings)
    end = time.monotonic() + seconds
    for plan in plans:
        good, text, _ = model_restarts.one(plan, settings)
        if not good:
            print("    saved: " + model_restarts.save(folder, kernel, text) + ".*", flush=True)
            return False
        if time.monotonic() > end:
            break
    return True


def new_plans():
    """Of seeds that nobody has tried."""
    while True:
        yield model_restarts.generate(time.time_ns())


def parse():
    parser = argparse.ArgumentParser(description="model test of the module, new seeds")
    parser.add_argument("--kernel", action="append", default=[])
    parser.add_argument("--seconds", type=int, default=0, help="0: until it is stopped")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--replay", help="a saved scenario, within the tree")
    parser.add_argument("--form", choices=("boot", "restarts"), help="one form alone")
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
        with open(options.replay, encoding="utf-8") as file:
            plan = model_restarts.Plan(file.read())
        if plan.restarts:
            return not all([over_restarts(options, k, [plan], folder) for k in kernels])
        path = os.path.relpath(os.path.abspath(options.replay), run.TOP)
        if path.startswith(".."):
            parser_error = "the guest sees the project's tree alone: put the file into it"
            print(f"hunt.py: {options.replay}: {parser_error}", file=sys.stderr)
            return 2
        return not all([turn(options, k, f"--replay /ebb/{path}{again}", folder) for k in kernels])
    if options.seed is not None and options.form == "restarts":
        return not all([over_restarts(options, k, [model_restarts.generate(options.seed)], folder)
                        for k in kernels])
    if options.seed is not None:
        return not all([turn(options, k, f"--seed {options.seed}{again}", folder)
                        for k in kernels])
    end, good, number = time.monotonic() + options.seconds, True, 0
    while not options.seconds or time.monotonic() < end:
        left = min(TURN, end - time.monotonic()) if options.seconds else TURN
        kernel, form = kernels[number // 2 % len(kernels)], options.form
        if form == "restarts" or (not form and number % 2):
            good &= over_restarts(options, kernel, new_plans(), folder, left)
        else:
            good &= turn(options, kernel,
                         f"--seed {time.time_ns()} --seconds {int(left)}{again}", folder)
        number += 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
