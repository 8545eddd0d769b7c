# SPDX-License-Identifier: Apache-2.0
# Every target is one command; `make help` lists them.

TOP    := $(CURDIR)
PREFIX ?= /usr
DESTDIR ?=
# Cores for compiling; the check steps share the machine by themselves.
JOBS   ?= $(shell nproc)
FUZZ_SECONDS ?= 60
# 0: until it is stopped
HUNT_SECONDS ?= 0
HUNT_KERNELS ?= 6.1 6.12
KREL   ?= $(shell uname -r)
KDIR   ?= /lib/modules/$(KREL)/build
export EBB_CACHE ?= $(TOP)/.cache

CHECK := scripts/check.py $(if $(CHECK_JOBS),--jobs $(CHECK_JOBS))

.DEFAULT_GOAL := all
.PHONY: all deps build kmod check check-unit check-sim check-fuzz check-gates check-cli check-kmod \
	check-vm check-kernels check-full check-debug check-install fuzz demo bench hunt-sim hunt-kmod install uninstall clean format help

all: build kmod ## build ebbd, ebbctl and the module for the running kernel

deps: ## install what building and testing needs
	@scripts/install-deps.sh

build: ## build ebbd, ebbctl and the tests
	@EBB_JOBS=$(JOBS) scripts/build.sh

kmod: ## build ebb.ko for the running kernel (KREL=, KDIR= choose another)
	@scripts/kmod-build.sh "$(KDIR)"

check: deps ## run everything: gates, unit tests, simulator, module and machine tests
	@$(CHECK)

check-unit: deps ## unit tests of every layer, also under ASan, UBSan and TSan
	@$(CHECK) unit

check-sim: deps ## simulator: 500 seeds, each fault kind often
	@$(CHECK) sim

check-fuzz: deps ## fuzz targets: their corpora and some seconds each
	@$(CHECK) fuzz

check-gates: deps ## formatting, clang-tidy, layer rules, documentation in step
	@$(CHECK) gates

check-cli: deps ## ebbctl and a controller: good paths, every refusal, killed in the middle
	@$(CHECK) cli

check-kmod: deps ## module tests in virtual machines, a share on every kernel
	@$(CHECK) kmod

check-vm: deps ## two-machine tests: power cuts, killed daemons, the command line
	@$(CHECK) vm

check-kernels: deps ## every module test on 6.1, and on two of 5.10, 6.12, trixie's and sid's; goes on where it stopped (EBB_FRESH=1: all anew)
	@$(CHECK) kernels

check-full: deps ## check-kernels, planted faults in the module, userspace in machines (EBB_FRESH=1)
	@$(CHECK) kernels full

check-debug: deps ## module tests under KASAN, lockdep, kmemleak, and under KCSAN; goes on where it stopped (EBB_FRESH=1)
	@$(CHECK) debug

check-install: deps ## make install, units, DKMS
	@$(CHECK) install

fuzz: deps ## fuzz every decoder under ASan, FUZZ_SECONDS each
	@EBB_JOBS=$(JOBS) scripts/build.sh asan ebb_fuzz
	@tests/fuzz/run.sh build/asan $(FUZZ_SECONDS) --keep

demo: deps ## one machine comes home, from protect to commit
	@tests/vm/demo.sh

bench: deps ## measure against performance targets and peers
	@tests/bench/run.sh

hunt-sim: deps build ## simulator with new seeds until stopped (HUNT_SECONDS)
	@tests/sim/hunt.sh build $(HUNT_SECONDS)

hunt-kmod: deps build ## module against its model with new seeds until stopped (HUNT_KERNELS="6.1 6.12")
	@tests/kmod/hunt.py $(addprefix --kernel ,$(HUNT_KERNELS)) --seconds $(HUNT_SECONDS)

install: ## install what build made, and the module's source, into $(DESTDIR)$(PREFIX)
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" scripts/install.sh install

uninstall: ## remove what install put there
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" scripts/install.sh uninstall

format: ## format the C++ sources in place
	@scripts/gates/format.sh --fix

clean: ## remove build products (the cache stays)
	@rm -rf build
	@if [ -f kmod/Makefile ]; then find kmod \( -name '*.o' -o -name '*.ko' -o -name '*.mod' \
		-o -name '*.mod.c' -o -name '.*.cmd' -o -name modules.order -o -name Module.symvers -o -path "*/found*" \) -delete; fi

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
