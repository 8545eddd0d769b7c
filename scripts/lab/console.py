# SPDX-License-Identifier: Apache-2.0
"""Finds in a guest's serial log what a healthy kernel never says."""
import re

COMPLAINTS = re.compile("|".join((
    r"\bBUG: ", r"kernel BUG at", r"\bWARNING: ", r"\bOops\b", r"KASAN", r"UBSAN", r"KCSAN",
    r"general protection fault", r"[Uu]nable to handle", r"Kernel panic",
    r"possible recursive locking", r"possible circular locking", r"inconsistent lock state",
    r"possible irq lock inversion", r"suspicious RCU usage", r"DEBUG_LOCKS_WARN_ON",
    r"held lock freed", r"still held", r"lock held when returning", r"bad unlock balance",
    r"Invalid wait context", r"sleeping function called", r"scheduling while atomic",
    r"INFO: task .* blocked for more than", r"rcu.*detected (stalls|expedited stalls)",
    r"self-detected stall", r"(soft|hard) (lockup|LOCKUP)", r"unreferenced object",
    r"new suspected memory leaks", r"refcount_t: ", r"list_(add|del) corruption",
    r"Bad page (state|map)", r"ODEBUG: ", r"stack-protector", r"double fault", r"nobody cared",
    r"Call Trace:", r"workqueue: .* (hogged|lockup)",
)))

# Said by Debian's kernels on emulated machines, with nothing of ours loaded.
HARMLESS = re.compile("|".join((
    r"MDS CPU bug present", r"Speculative Return Stack", r"WARNING: Spectre", r"RETBleed: WARNING",
    r"Spectre V2 : WARNING", r"L1TF CPU bug", r"TAA CPU bug", r"x86/cpu: ", r"MMIO Stale Data",
)))


def read(path):
    """The log as text (serial lines may hold anything)."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def complaints(text, allow=()):
    """Lines of complaint, each with its number; `allow` holds regular expressions to pass over."""
    allowed = [re.compile(a) for a in allow]
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if COMPLAINTS.search(line) and not HARMLESS.search(line) and not any(
                a.search(line) for a in allowed):
            found.append(f"{number}: {line.strip()}")
    return found


def excerpt(text, first, lines=60):
    """The part of the log from one line before the complaint numbered like complaints() does."""
    start = max(0, int(first.split(":", 1)[0]) - 2)
    return "\n".join(text.splitlines()[start:start + lines])
