# SPDX-License-Identifier: Apache-2.0
"""What every gate shares: which files there are, how violations are told."""
import argparse
import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def arguments(description, **extra):
    """The parsed command line; every gate takes --top, so that tests can give it a planted tree."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--top", default=TOP, help="the tree to look at")
    for name, options in extra.items():
        parser.add_argument(name, **options)
    args = parser.parse_args()
    args.top = os.path.abspath(args.top)
    return args


def files(top, *patterns):
    """Tracked and new files of the tree (not ignored ones), as git pathspecs choose them."""
    command = ["git", "-C", top, "ls-files", "-z", "-co", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, check=True, capture_output=True).stdout
    names = sorted(set(listed.decode().split("\0")) - {""})
    return [name for name in names if os.path.isfile(os.path.join(top, name))]


def read(top, name):
    with open(os.path.join(top, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def finish(what, violations, looked_at):
    """Prints the violations and ends the gate; nothing looked at is a fault of the gate."""
    for violation in violations:
        print(violation)
    if not looked_at:
        print(f"{what}: nothing to look at")
        sys.exit(2)
    print(f"{what}: {looked_at} looked at, {len(violations)} violations")
    sys.exit(1 if violations else 0)
