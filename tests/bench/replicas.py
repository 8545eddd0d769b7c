# SPDX-License-Identifier: Apache-2.0
"""Runs replicate (replicate.cc), and what several tables need of numbers."""
import json
import os
import statistics
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MIB = 1 << 20


class Failed(subprocess.SubprocessError):
    """What was measured did not work."""


def run(mode, folder, *numbers):
    """What it says of itself."""
    done = subprocess.run([os.path.join(TOP, "build/tests/bench/replicate"), mode, folder, *map(str, numbers)],
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failed(f"replicate {mode}: {done.stderr[-300:]}")
    return json.loads(done.stdout) if done.stdout else None


def same(folder):
    """The replica, and the peer's copy, have what the source has."""
    for copy in ("replica-0.raw", "peer.raw"):
        if os.path.exists(f"{folder}/{copy}"):
            subprocess.run(["cmp", f"{folder}/source-0.raw", f"{folder}/{copy}"], check=True)


def median(numbers):
    """Of any iterable."""
    return statistics.median(numbers)


def spread(numbers):
    """From the least to the most."""
    numbers = list(numbers)
    low, high = min(numbers), max(numbers)
    digits = 0 if low >= 20 else 2
    return f"{low:.{digits}f} to {high:.{digits}f}"
