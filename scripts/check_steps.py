# SPDX-License-Identifier: Apache-2.0
"""The steps of `make check`, in the order in which they should start.

weight  cores that the step keeps busy (emulated machines: 2, so that on two cores they run alone;
        0: it waits for the network most of the time)
needs   steps that must have passed before
tests   True where the step must say how many tests it ran
limit   seconds after which a hanging step is killed; far above what a slow machine needs
when    path in the cache ($EBB_CACHE) without which the step is left out, and said to be: only for
        what takes hours to make
"""
from dataclasses import dataclass

# The groups `kernels`, `full` and `debug` (`make check-kernels`, `check-full`, `check-debug`) are not
# part of `make check`.
# First what others wait for, then what keeps one core busy, the longest first, then what has several:
# of two cores one would stand idle whenever such a step waits for the other.


@dataclass(frozen=True)
class Step:
    """One line of `make check`."""

    name: str
    group: str
    what: str
    command: str
    weight: int = 1
    needs: tuple = ()
    tests: bool = False
    limit: int = 1800
    when: str = ""


def _ctest(build, extra=""):
    return f"ctest --test-dir {build} --output-on-failure --no-tests=error -j ${{EBB_JOBS:-1}} {extra}"


def _gate(name, what, command, **more):
    return Step(name, "gates", what, "scripts/gates/" + command, **more)


STEPS = [
    Step("lab", "lab", "fetch kernels, make guests' root filesystem",
         "for kernel in 5.10 6.1 6.12 trixie sid; do scripts/lab/kernel.sh fetch $kernel || exit 1; done; "
         "scripts/lab/rootfs.sh", weight=0, limit=3600),
    Step("build", "build", "compile daemon, tool and tests", "scripts/build.sh", weight=2,
         limit=3600),
    # Compiled by clang with -O1 and without the programs: what runs for a minute only.
    Step("asan", "build", "compile tests with ASan, UBSan and libFuzzer",
         "scripts/build.sh asan ebb_unit ebb_sim ebb_fuzz", weight=2, limit=3600),
    Step("tsan", "build", "compile tests with TSan", "scripts/build.sh tsan ebb_unit ebb_sim",
         weight=2, limit=3600),

    # The share of `make check`: cases with `# check: KERNEL` in their heads. One machine at a time,
    # whose CPUs QEMU emulates on one thread in most cases.
    Step("kmod-6.12", "kmod", "module tests on 6.12, a share", "tests/kmod/run.sh 6.12 --check",
         needs=("build", "lab"), tests=True, limit=3600),
    Step("kmod-6.1", "kmod", "module tests on 6.1, a share", "tests/kmod/run.sh 6.1 --check",
         needs=("build", "lab"), tests=True, limit=3600),
    # Building the debug kernel takes longer than all the rest.
    Step("kmod-debug-share", "kmod", "module tests under KASAN and lockdep, a share",
         "tests/kmod/run.sh debug --check", needs=("build", "lab"), tests=True,
         limit=3600, when="kernels/debug/complete"),
    Step("cli", "cli", "ebbctl against a controller", "tests/cli/run.sh build",
         needs=("build",), tests=True),
    Step("kmod-restarts", "kmod", "the durable map over reboots and power cuts, a share",
         "tests/kmod/restarts.py --check", needs=("build", "lab"), tests=True, limit=3600),
    Step("sim-mutations", "sim", "simulator: every removed sync and false tracker is caught",
         "tests/sim/run.sh build mutations", needs=("build",), tests=True, limit=7200),
    Step("kmod-5.10", "kmod", "module tests on 5.10, a share", "tests/kmod/run.sh 5.10 --check",
         needs=("build", "lab"), tests=True, limit=3600),
    Step("sim", "sim", "simulator, 500 seeds", "tests/sim/run.sh build",
         needs=("build",), tests=True, limit=3600),
    Step("tsan-unit", "unit", "unit tests under TSan", _ctest("build/tsan", "-L unit"),
         needs=("tsan",), tests=True),
    _gate("headers", "headers are self-contained", "headers.py"),
    Step("kmod-sid", "kmod", "module tests on sid's kernel, a share",
         "tests/kmod/run.sh sid --check", needs=("build", "lab"), tests=True,
         limit=3600),
    Step("kmod-trixie", "kmod", "module tests on trixie's kernel, a share",
         "tests/kmod/run.sh trixie --check", needs=("build", "lab"), tests=True,
         limit=3600),
    Step("asan-sim", "sim", "simulator under ASan and UBSan, 25 seeds",
         "build/asan/tests/ebb_sim --seeds 1..25", needs=("asan",), tests=True, limit=3600),
    Step("asan-unit", "unit", "unit tests under ASan and UBSan", _ctest("build/asan", "-L unit"),
         needs=("asan",), tests=True),
    Step("fuzz", "fuzz", "each decoder: its corpus and some seconds of new inputs",
         "tests/fuzz/run.sh build/asan 5", needs=("asan",), tests=True),
    Step("kmod-model-restarts", "kmod", "module against its model over reboots and power cuts, a share",
         "tests/kmod/model_restarts.py --check", needs=("build", "lab"), tests=True, limit=3600),
    Step("tsan-sim", "sim", "simulator under TSan, 6 seeds",
         "build/tsan/tests/ebb_sim --seeds 1..6", needs=("tsan",), tests=True, limit=3600),
    Step("unit", "unit", "unit tests of every layer", _ctest("build", "-L unit"),
         needs=("build",), tests=True),
    Step("install", "install", "make install, DKMS builds it, make uninstall",
         "tests/install/install_test.sh", needs=("build",), tests=True),
    _gate("sparse", "module built with sparse and W=1", "module.sh sparse", needs=("lab",)),
    _gate("checkpatch", "checkpatch --strict", "module.sh checkpatch", needs=("lab",)),
    Step("powercut", "vm", "the disk that loses its cache", "tests/vm/lib/powercut_test.py",
         tests=True),
    Step("demo-checks", "vm", "the demonstration's judges find planted faults",
         "tests/vm/demo_checks_test.py build", needs=("build",), tests=True),
    Step("gates-test", "gates", "each gate fails on a planted violation",
         "tests/gates/gates_test.py", tests=True),

    _gate("format", "clang-format", "format.sh"),
    _gate("text", "licences, length, words, version tests", "text.py"),
    _gate("layers", "include edges between layers", "layers.py"),
    _gate("shell", "shellcheck, pyflakes", "shell.sh"),
    _gate("uapi", "uapi header: C, C++, no padding", "uapi.sh"),
    _gate("manpages", "--help and man pages agree", "manpages.py", needs=("build",)),
    _gate("promises", "every promise of the failure model names its tests", "promises.py"),
    Step("mutations-apply", "gates", "the faults planted in the module are where its code is",
         "tests/kmod/mutations.py --dry-run", tests=True),
    Step("check-test", "gates", "the runner of make check counts no failure as passed",
         "tests/gates/check_test.py", tests=True),
    Step("verdicts-test", "gates", "a module test with a changed input is not taken as passed before",
         "tests/gates/verdicts_test.py", tests=True),
    Step("races-test", "gates", "of KCSAN's reports those of the module fail a case, and no others",
         "tests/gates/races_test.py", tests=True),
    Step("probe-test", "gates", "a kernel with an unknown feature ends the module's build",
         "tests/gates/probe_test.py", tests=True),
    Step("lab-cache-test", "gates", "the lab's cache: kernels of one's own, nothing stays mounted",
         "tests/gates/lab_cache_test.py", tests=True),
    Step("gates-module", "gates", "checkpatch and sparse fail on a planted violation",
         "EBB_GATES_MODULE=1 tests/gates/gates_test.py ModuleGateTest", needs=("lab",), tests=True),

    # Each has all cores of a small machine; one after the other, so that none waits beside what is short.
    Step("postgres", "vm", "PostgreSQL at three recovery points, after a power cut of the target",
         "tests/vm/postgres_test.py build", weight=2, needs=("build", "lab"), tests=True, limit=3600),
    Step("replication", "vm", "two machines: power cut, kill -9, connection cut, volume full",
         "tests/vm/replication_share_test.py build", weight=2, needs=("build", "lab"), tests=True,
         limit=3600),
    Step("restart", "vm", "the source restarts: clean reboot, power cut, its own initramfs",
         "tests/vm/restart_test.py --share build", weight=2, needs=("build", "lab"), tests=True),
    Step("replicas", "vm", "stock LVM, md and udev leave replicas alone",
         "tests/vm/replicas_left_alone_test.py build", weight=2, needs=("build", "lab"), tests=True),
    _gate("tidy", "clang-tidy", "tidy.py", weight=2, needs=("build",), limit=3600),

    # `make check-kernels`: every case on 6.1 and on two of the others. Hours: what has passed with the
    # same inputs is not run again (tests/kmod/verdicts.py), unless EBB_FRESH=1.
    Step("kmod-6.1-all", "kernels", "every module test on 6.1", "tests/kmod/run.sh 6.1 --resume", weight=2,
         needs=("build", "lab"), tests=True, limit=6 * 3600),
    Step("kmod-5.10-pairs", "kernels", "module tests on 5.10, pairwise",
         "tests/kmod/run.sh 5.10 --pairwise --resume", weight=2, needs=("build", "lab"), tests=True,
         limit=6 * 3600),
    Step("kmod-6.12-pairs", "kernels", "module tests on 6.12, pairwise",
         "tests/kmod/run.sh 6.12 --pairwise --resume", weight=2, needs=("build", "lab"), tests=True,
         limit=6 * 3600),
    Step("kmod-trixie-pairs", "kernels", "module tests on trixie's kernel, pairwise",
         "tests/kmod/run.sh trixie --pairwise --resume", weight=2, needs=("build", "lab"), tests=True,
         limit=6 * 3600),
    Step("kmod-sid-pairs", "kernels", "module tests on sid's kernel, pairwise",
         "tests/kmod/run.sh sid --pairwise --resume", weight=2, needs=("build", "lab"), tests=True,
         limit=6 * 3600),
    *(Step(f"kmod-restarts-{kernel}", "kernels", f"every story of the durable map on {kernel}",
           f"tests/kmod/restarts.py --kernel {kernel} --resume", weight=2, needs=("build", "lab"), tests=True,
           limit=4 * 3600) for kernel in ("5.10", "6.12", "trixie", "sid")),
    Step("kmod-kcsan", "debug", "module tests under KCSAN: data races",
         "scripts/lab/debug-kernel.sh kcsan && tests/kmod/run.sh kcsan --resume", weight=2,
         needs=("build", "lab"), tests=True, limit=6 * 3600),
    Step("kmod-debug", "debug", "module tests under KASAN, lockdep and kmemleak",
         "scripts/lab/debug-kernel.sh && tests/kmod/run.sh debug --resume", weight=2,
         needs=("build", "lab"), tests=True, limit=6 * 3600),
    Step("kmod-debug-restarts", "debug", "every story of the durable map under KASAN, lockdep and kmemleak",
         "scripts/lab/debug-kernel.sh && tests/kmod/restarts.py --kernel debug --resume", weight=2,
         needs=("build", "lab"), tests=True, limit=6 * 3600),
    Step("kmod-restarts-all", "full", "every story of the durable map",
         "tests/kmod/restarts.py --resume", weight=2, needs=("build", "lab"), tests=True, limit=4 * 3600),
    Step("kmod-mutations", "full", "module tests: every planted fault is caught",
         "scripts/lab/debug-kernel.sh && scripts/lab/debug-kernel.sh kcsan && "
         "tests/kmod/mutations.py", weight=2,
         needs=("build", "lab"), tests=True, limit=4 * 3600),
    Step("kmod-model-mutations", "full", "planted faults that the model tests have to find by themselves",
         "tests/kmod/mutations.py --model && tests/kmod/mutations.py --model-restarts", weight=2,
         needs=("build", "lab"), tests=True, limit=6 * 3600),
    Step("vm", "full", "userspace in virtual machines", "tests/vm/run.sh", weight=2,
         needs=("build", "lab"), tests=True, limit=14400),
    Step("lab-selftest", "full", "guests boot, answer, complain", "scripts/lab/selftest.sh", weight=2,
         needs=("lab",), tests=True),
    Step("serve", "full", "points read over NBD while replication goes on, test failover, bisect",
         "tests/vm/serve_test.py build", weight=2, needs=("build", "lab"), tests=True, limit=3600),
    Step("boots", "full", "the system of a source boots from a served point: test failover",
         "tests/vm/boots_test.py build", weight=2, needs=("build", "lab"), tests=True, limit=3600),
    Step("postgres-failover", "full", "PostgreSQL after a failover in the middle of a large close",
         "tests/vm/postgres_failover_test.py build", weight=2, needs=("build", "lab"), tests=True,
         limit=3600),
    Step("postgres-all", "full", "PostgreSQL at every recovery point of five minutes",
         "tests/vm/postgres_test.py --all --seconds 300 --interval 5 build", weight=2, needs=("build", "lab"),
         tests=True, limit=14400),
    Step("consistency", "full", "application-consistent points: clean, and thawed whatever dies",
         "tests/vm/consistency_test.py build", weight=2, needs=("build", "lab"), tests=True,
         limit=3600),
    Step("sim-orderings", "full", "simulator: every sync that comes after what relies on it is caught",
         "tests/sim/run.sh build orderings", needs=("build",), tests=True, limit=7200),
    Step("group", "full", "points that two machines have in common, whatever dies",
         "tests/vm/group_test.py build", weight=2, needs=("build", "lab"), tests=True, limit=3600),
    Step("restart-all", "full", "the source restarts: every gap is named and made good",
         "tests/vm/restart_test.py build", weight=2, needs=("build", "lab"), tests=True, limit=7200),
    Step("restart-dracut", "full", "the source restarts by an initramfs of dracut's",
         "EBB_RESTART_INITRAMFS=dracut tests/vm/restart_test.py --share build", weight=2,
         needs=("build", "lab"), tests=True, limit=3600),
]
