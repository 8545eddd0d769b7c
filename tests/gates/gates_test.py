#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each gate passes a small tree that keeps the rules and fails once a violation is planted in it."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GATES = os.path.join(TOP, "scripts", "gates")
CXX = "// SPDX-License-Identifier: Apache-2.0\n"

CLEAN = {
    "daemon/base/size.h": CXX + "#pragma once\n\n#include <cstdint>\n\nnamespace ebb {\n\n"
                          "inline std::uint64_t twice(std::uint64_t bytes) {\n    return 2 * bytes;\n}\n\n"
                          "}  // namespace ebb\n",
    "daemon/core/pass.cc": CXX + '#include "base/size.h"\n\nnamespace ebb {\n\n'
                           "std::uint64_t pass_size() {\n    return twice(1);\n}\n\n}  // namespace ebb\n",
    "daemon/core/epoch.cc": CXX + '#include "base/size.h"\n\nnamespace ebb {\n\n'
                            "std::uint64_t epoch_size() {\n    return twice(2);\n}\n\n}  // namespace ebb\n",
    "daemon/platform/disk.cc": CXX + '#include <unistd.h>\n\n#include "base/size.h"\n\nnamespace ebb '
                               "{\n\nint page_size() {\n    return getpagesize();\n}\n\n}  // namespace ebb\n",
    "scripts/run.sh": "#!/bin/bash\n# SPDX-License-Identifier: Apache-2.0\necho \"$1\"\n",
    "kmod/main.c": "// SPDX-License-Identifier: GPL-2.0-only\nint ebb_init(void);\n",
    "kmod/compat/probe.c": "// SPDX-License-Identifier: GPL-2.0-only\nint probe = KERNEL_"
                           "VERSION;\n",
    "include/uapi/linux/ebb.h":
        "/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */\n"
        "#ifndef EBB_H\n#define EBB_H\n#include <linux/types.h>\n\n"
        "struct ebb_range {\n\t__u64 start;\n\t__u32 count;\n\t__u32 flags;\n};\n\n#endif\n",
    "docs/man/ebbctl.1": '.\\" SPDX-License-Identifier: Apache-2.0\n.TH EBBCTL 1\n.SH COMMANDS\n'
                         ".SS job watch ID\nWatches, with \\-\\-json or \\-\\-help.\n",
    "docs/man/ebbd.8": '.\\" SPDX-License-Identifier: Apache-2.0\n.TH EBBD 8\n.SH OPTIONS\n'
                       "\\-\\-help\n",
    "docs/failure-model.md": "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
                             "| P1 | A write is seen | `case:splits`, `sim:undo` |\n",
    "tests/kmod/cases/splits.sh": "# SPDX-License-Identifier: Apache-2.0\ntrue\n",
    "tests/sim/main.cc": CXX + 'const char* mutation = "undo";\n',
    "build/ebbctl": "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\ncase \"$1$2\" in\n"
                    "--help) printf 'Commands:\\n  job  what runs\\n' ;;\n"
                    "job--help) printf 'Subcommands:\\n  watch  follow\\n' ;;\n"
                    "jobwatch) printf 'Options:\\n  --help  this\\n  --json  as JSON\\n' ;;\nesac\n",
    "docs/man/ebb-attach.8": '.\\" SPDX-License-Identifier: Apache-2.0\n.TH EBB-ATTACH 8\n.SH OPTIONS\n'
                             "\\-\\-help\n",
    "build/ebb-attach": "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\necho 'Options: --help'\n",
    "docs/man/ebb-freeze.8": '.\\" SPDX-License-Identifier: Apache-2.0\n.TH EBB-FREEZE 8\n.SH OPTIONS\n'
                             "\\-\\-help\n",
    "build/ebb-freeze": "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\necho 'Options: --help'\n",
    "build/ebbd": "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\necho 'Options: --help'\n",
}


class Tree:
    """A git tree in a temporary folder, clean at first."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.top = self.folder.name
        subprocess.run(["git", "init", "-q", self.top], check=True)
        self.write(".gitignore", "/build/\n")
        for name in (".clang-format", ".clang-tidy"):
            shutil.copy(os.path.join(TOP, name), self.top)
        for name, text in CLEAN.items():
            self.write(name, text)
        for program in ("ebbctl", "ebbd", "ebb-attach", "ebb-freeze"):
            os.chmod(os.path.join(self.top, "build", program), 0o755)

    def write(self, name, text):
        path = os.path.join(self.top, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def compile_commands(self):
        entries = []
        for name in CLEAN:
            if name.endswith(".cc"):
                source = os.path.join(self.top, name)
                entries.append('{"directory": "%s", "file": "%s", "command": "g++-12 -std=c++23 '
                               '-I%s/daemon -o x.o -c %s"}' % (self.top, source, self.top, source))
        self.write("build/compile_commands.json", "[" + ",\n".join(entries) + "]")

    def gate(self, *command, cache=None):
        env = dict(os.environ, EBB_CACHE=cache or os.path.join(self.top, "build", "cache"))
        done = subprocess.run([os.path.join(GATES, command[0]), *command[1:], "--top", self.top],
                              text=True, capture_output=True, env=env, check=False)
        return done.returncode, done.stdout + done.stderr


class GateTest(unittest.TestCase):
    """A gate is asked twice: about the clean tree, and about the planted one."""

    def planted(self, command, name, text, expected, prepare=lambda tree: None):
        tree = Tree()
        self.addCleanup(tree.folder.cleanup)
        prepare(tree)
        code, output = tree.gate(*command)
        self.assertEqual(code, 0, f"{command[0]} fails a clean tree:\n{output}")
        tree.write(name, text)
        if name.startswith("build/"):
            os.chmod(os.path.join(tree.top, name), 0o755)
        code, output = tree.gate(*command)
        self.assertEqual(code, 1, f"{command[0]} lets {name} pass:\n{output}")
        self.assertIn(expected, output)

    def text(self, name, text, expected):
        self.planted(["text.py"], name, text, expected)

    def test_missing_spdx(self):
        self.text("daemon/base/other.cc", "int x;\n", "no SPDX")

    def test_wrong_licence(self):
        self.text("kmod/other.c", CXX, "should be GPL-2.0-only")

    def test_long_file(self):
        self.text("ctl/long.cc", CXX + "\n" * 1000, "longer than")

    def test_unfinished_word(self):
        self.text("ctl/other.cc", CXX + "// TO" "DO: later\n", "unfinished")

    def test_version_test_outside_compat(self):
        self.text("kmod/other.c", "// SPDX-License-Identifier: GPL-2.0-only\n#if LINUX_VERSION"
                  "_CODE > 1\n#endif\n", "version test")

    def test_format(self):
        self.planted(["format.sh"], "ctl/other.cc", CXX + "int   x ;\n", "clang-format")

    def layers(self, name, text, expected):
        self.planted(["layers.py"], name, CXX + text, expected)

    def test_layer_upwards(self):
        self.layers("daemon/base/other.cc", '#include "core/pass.h"\n', "not a header")

    def test_layer_sideways(self):
        def header(tree):
            tree.write("daemon/platform/net.h", CXX + "#pragma once\n")
        self.planted(["layers.py"], "daemon/core/other.cc", CXX + '#include "platform/net.h"\n',
                     "daemon/core may not include platform/", header)

    def test_system_header_in_core(self):
        self.layers("daemon/core/other.cc", "#include <unistd.h>\n", "may not include <unistd.h>")

    def test_clock_in_core(self):
        self.layers("daemon/core/other.cc", "auto t = std::chrono::steady_clock::now();\n",
                    "use env/")

    def test_ctl_includes_core(self):
        def header(tree):
            tree.write("daemon/core/pass.h", CXX + "#pragma once\n")
        self.planted(["layers.py"], "ctl/main.cc", CXX + '#include "core/pass.h"\n',
                     "ctl may not include core/", header)

    def test_header_not_self_contained(self):
        self.planted(["headers.py"], "daemon/base/other.h",
                     CXX + "#pragma once\nstd::string name();\n", "does not compile by itself")

    def test_header_without_pragma(self):
        self.planted(["headers.py"], "daemon/base/other.h", CXX, "no #pragma once")

    def test_shell(self):
        self.planted(["shell.sh"], "scripts/bad.sh",
                     "#!/bin/bash\ncd /tmp && rm -rf \"$undefined/\"*\nlocal x=1\n", "SC2168")

    def test_python_syntax(self):
        self.planted(["shell.sh"], "scripts/bad.py", "def f(:\n", "invalid syntax")

    def test_python_name_that_is_not_there(self):
        self.planted(["shell.sh"], "scripts/bad.py", "def f():\n    return NUMBERS\n", "NUMBERS")

    def test_uapi_hole(self):
        header = CLEAN["include/uapi/linux/ebb.h"].replace("\t__u32 flags;\n", "")
        self.planted(["uapi.sh"], "include/uapi/linux/ebb.h", header, "padding")

    def test_uapi_not_self_contained(self):
        self.planted(["uapi.sh"], "include/uapi/linux/other.h",
                     CLEAN["include/uapi/linux/ebb.h"].replace("#include <linux/types.h>", "")
                     .replace("EBB_H", "OTHER_H"), "error")

    def test_uapi_without_width(self):
        self.planted(["uapi.sh"], "include/uapi/linux/ebb.h",
                     CLEAN["include/uapi/linux/ebb.h"].replace("__u64 start", "unsigned long start"),
                     "without fixed width")

    def manual(self, name, old, new, expected):
        self.planted(["manpages.py"], name, CLEAN[name].replace(old, new), expected)

    def test_option_missing_in_manual(self):
        self.manual("docs/man/ebbctl.1", "\\-\\-json or ", "", "--json of 'ebbctl job watch'")

    def test_option_missing_in_help(self):
        self.manual("docs/man/ebbd.8", "\\-\\-help", "\\-\\-help \\-\\-config", "in no --help")

    def test_command_missing_in_manual(self):
        self.manual("build/ebbctl", "  job  what runs", "  job  what runs\\n  undo  back",
                    "command 'undo'")

    def test_command_missing_in_help(self):
        self.manual("docs/man/ebbctl.1", ".SS job watch ID", ".SS job watch ID\n.SS undo",
                    "'undo' is described")

    def promise(self, row, expected):
        name = "docs/failure-model.md"
        self.planted(["promises.py"], name, CLEAN[name] + row, expected)

    def test_promise_without_test(self):
        self.promise("| P2 | It never fails | `by nature` |\n", "P2: names no test")

    def test_promise_of_missing_case(self):
        self.promise("| P2 | It never fails | `case:never` |\n", "no test case:never")

    def test_promise_of_missing_mutation(self):
        self.promise("| P2 | It never fails | `sim:never` |\n", "no test sim:never")

    def tidy(self, name, text, expected):
        self.planted(["tidy.py"], name, text, expected, Tree.compile_commands)

    def test_tidy_naming(self):
        self.tidy("daemon/core/pass.cc",
                  CXX + "namespace ebb {\nint PassSize() { return 1; }\n}  // namespace ebb\n",
                  "readability-identifier-naming")

    def test_tidy_in_header(self):
        # The clean state of the files that include it is known by then: it must not be believed.
        self.tidy("daemon/base/size.h", CLEAN["daemon/base/size.h"].replace("twice(", "Twice(") +
                  "inline std::uint64_t twice(std::uint64_t b) {\n    return ebb::Twice(b);\n}\n",
                  "readability-identifier-naming")


MODULE = {
    "kmod/Kbuild": "# SPDX-License-Identifier: GPL-2.0-only\nobj-m := ebb.o\nebb-y := main.o\n",
    "kmod/compat/probe.c": "// SPDX-License-Identifier: GPL-2.0-only\n",
    "kmod/main.c": "// SPDX-License-Identifier: GPL-2.0-only\n#include <linux/module.h>\n\n"
                   "static int __init ebb_init(void)\n{\n\treturn 0;\n}\n\n"
                   "static void __exit ebb_exit(void)\n{\n}\n\nmodule_init(ebb_init);\n"
                   "module_exit(ebb_exit);\nMODULE_LICENSE(\"GPL\");\n"
                   "MODULE_DESCRIPTION(\"planted\");\n",
}


@unittest.skipUnless(os.environ.get("EBB_GATES_MODULE"), "needs the lab's kernel trees")
class ModuleGateTest(unittest.TestCase):
    """The gates on the module, on a small module of its own."""

    def planted(self, gate, old, new, expected):
        tree = Tree()
        self.addCleanup(tree.folder.cleanup)
        for name, text in MODULE.items():
            tree.write(name, text)
        cache = os.environ.get("EBB_CACHE", os.path.join(TOP, ".cache"))
        code, output = tree.gate("module.sh", gate, cache=cache)
        self.assertEqual(code, 0, f"{gate} fails a clean module:\n{output}")
        tree.write("kmod/main.c", MODULE["kmod/main.c"].replace(old, new))
        code, output = tree.gate("module.sh", gate, cache=cache)
        self.assertEqual(code, 1, f"{gate} lets it pass:\n{output}")
        self.assertIn(expected, output)

    def test_checkpatch(self):
        self.planted("checkpatch", "\treturn 0;", "        return 0;", "code indent")

    def test_sparse(self):
        self.planted("sparse", "\treturn 0;",
                     "\tint __user *p = (int *)ebb_init;\n\n\treturn p != NULL;", "main.c")


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=2).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed")
    sys.exit(1 if bad else 0)
