#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--help and man page of each program agree: the same commands, the same options, both ways.

A program's --help lists its commands in sections whose header ends in "ommands:", one a line
("  NAME  description"); `PROGRAM COMMAND --help` is read in turn. The man page has an .SS for each
command under .SH COMMANDS (or ... COMMANDS)."""
import os
import re
import subprocess

import gate

PROGRAMS = (("ebbctl", "docs/man/ebbctl.1"), ("ebbd", "docs/man/ebbd.8"),
            ("ebb-attach", "docs/man/ebb-attach.8"), ("ebb-freeze", "docs/man/ebb-freeze.8"))
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")
COMMAND_LINE = re.compile(r"^  ([a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*)*)(?:  |$)")


class Help:
    """Commands and options of a program, as its own help tells them."""

    def __init__(self, program):
        self.program = program
        self.commands = set()
        self.options = {}  # option: command that has it
        self.problems = []
        self.walk(())

    def walk(self, path, above=""):
        shown = " ".join((os.path.basename(self.program), *path))
        done = subprocess.run([self.program, *path, "--help"], text=True, capture_output=True,
                              timeout=30, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0 or not done.stdout.strip():
            self.problems.append(f"{shown} --help: exit {done.returncode}, or nothing printed")
            return
        if done.stdout == above:
            return  # a command without a help of its own shows its program's
        for option in OPTION.findall(done.stdout):
            self.options.setdefault(option, shown)
        listing = False
        for line in done.stdout.split("\n"):
            if line and not line.startswith(" "):
                listing = line.rstrip().endswith("ommands:")
            found = COMMAND_LINE.match(line)
            if listing and found and len(path) < 3:
                command = (*path, *found.group(1).split())
                self.commands.add(" ".join(command))
                self.walk(command, done.stdout)


def plain(roff):
    """A man page's text: escapes and font changes gone."""
    text = re.sub(r"\\f[BIRP]|\\f\(..|\\&|\\%|\"", "", roff)
    text = re.sub(r'(?m)^\.\\.*$', "", text)
    return text.replace("\\-", "-")


def described_commands(text, program):
    commands, section = set(), ""
    for line in text.split("\n"):
        if line.startswith(".SH"):
            section = line[3:].strip()
        elif line.startswith(".SS") and section.endswith("COMMANDS"):
            words = line[3:].split()
            if words and words[0] == program:
                words = words[1:]
            path = []
            for word in words:
                if not re.fullmatch(r"[a-z][a-z0-9-]*", word):
                    break
                path.append(word)
            commands.add(" ".join(path))
    return commands


def compare(program, page, text, help_):
    violations = list(help_.problems)
    name = os.path.basename(program)
    described = described_commands(text, name)
    documented = set(OPTION.findall(text))
    # A group ("job") is described by the commands in it ("job watch").
    groups = {c for c in help_.commands if any(o.startswith(c + " ") for o in help_.commands)}
    for command in sorted(help_.commands - described - groups):
        violations.append(f"{page}: command '{command}' of --help has no .SS under COMMANDS")
    for command in sorted(described - help_.commands):
        violations.append(f"{page}: '{command}' is described and not in --help")
    for option in sorted(set(help_.options) - documented):
        violations.append(f"{page}: option --{option} of '{help_.options[option]}' is missing")
    for option in sorted(documented - set(help_.options)):
        violations.append(f"{page}: option --{option} is described and in no --help")
    return violations


def roff_problems(top, page):
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", page], cwd=top, text=True,
                          capture_output=True, check=False)
    return [f"{page}: groff: {line}" for line in done.stderr.split("\n") if line.strip()]


def main():
    args = gate.arguments(__doc__, **{
        "--bin": {"default": "build", "help": "folder with the programs"}})
    violations, looked = [], 0
    for name, page in PROGRAMS:
        program = os.path.join(args.top, args.bin, name)
        if not os.path.exists(program):
            violations.append(f"{name}: no such program in {args.bin}")
            continue
        if not os.path.exists(os.path.join(args.top, page)):
            violations.append(f"{page}: no such page")
            continue
        looked += 1
        violations += compare(program, page, plain(gate.read(args.top, page)), Help(program))
        violations += roff_problems(args.top, page)
    gate.finish("manpages", violations, looked)


if __name__ == "__main__":
    main()
