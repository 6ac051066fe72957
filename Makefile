# SPDX-License-Identifier: GPL-2.0-only
ifneq ($(KERNELRELEASE),)
obj-$(CONFIG_VIRTIO_IOMMU_RUST) += virtio_iommu.o
else

# Outside of a kernel build this is the developer's front door. tools/ does the work.

# `make run SHELL=1` asks for a shell in the guest. But SHELL is also what make runs its recipes with.
ifeq ($(origin SHELL),command line)
GUEST_SHELL := $(SHELL)
override SHELL := /bin/sh
endif

ARCH ?= $(patsubst aarch64,arm64,$(shell uname -m))
PYTHON := $(shell python3 -c 'import pytest, xdist' 2>/dev/null && echo python3 || echo /usr/bin/python3)

# What is on the command line is for these recipes, not for the makes that they run.
MAKEOVERRIDES :=
export ARCH KDIR VARIANT QEMU

# The architectures of the guests that setup prepares for
GUESTS = $(ARCH)

.DEFAULT_GOAL := help
.PHONY: help setup kernel run test test-all test-kernels soak robustness bench parity matrix lint series integrate unintegrate clean

help:
	@sed -n 's/^#: \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

#: make setup         install and fetch what is missing: packages, kernel source, Rust source, bindgen
#: make run           build the kernel and boot a guest with disks and an edu device behind the IOMMU
#:   PASSTHROUGH=1      identity domains (iommu.passthrough=1)
#:   SHELL=1            an interactive shell in the guest; Ctrl-A X ends it
#:   ACPI=1             on arm64: UEFI firmware and ACPI instead of a devicetree
#:   APPEND='...'       more words for the kernel command line
#:   QEMU_ARGS='...'    more arguments for QEMU
#: make kernel        build a kernel into build/$ARCH/
#:   VARIANT=name       a variant, see tests/configs/: module, passthrough, plain, debug, ...
#: make test          the test suite; its last line counts what passed, failed and was skipped
#:   ARCH=arm64         only with guests of that architecture, otherwise with x86_64 and arm64 guests
#:   T=name             only the tests whose name holds this
#:   M=lifecycle        only the tests with this mark of pytest's: what is about kexec, shutdown, suspend, hot-plug, ...
#:   FAILED=1           only those that failed the last time
#:   JOBS=1             that many tests at a time, otherwise one for each CPU
#: make test-all      the long tests too, all tests on the debug kernel, some with KCSAN and PREEMPT_RT;
#:                    then the suite on QEMU 10.0 and 11.1, and a build after each patch of the series
#: make soak          everything at once over a fake device, on the debug kernel, for an hour
#:   MINUTES=5          or that long
#: make robustness    what both drivers do with each case of the fake device; refreshes Documentation/robustness.rst
#: make bench         requests, notifications, instructions, throughput: this driver and the C driver
#:   W=name             only the workloads whose name holds this
#:   UPDATE=1           with W=name: put their figures into Documentation/performance/
#:   CHECK=1            only compare with the committed figures; fails if one is worse
#: make parity        the tests that compare with the C driver, over both; refreshes Documentation/parity.rst
#: make matrix        machines with devices of all kinds, over both; refreshes Documentation/matrix.rst
#: make fuzz          fuzz the parsers, each for FUZZ_SECONDS=300; FUZZ_SECONDS=3600 is more
#: make lint          rustfmt, clippy, rustdoc, checkpatch, no unsafe in the driver, shellcheck, ruff
#: make integrate KDIR=tree     put this project into a Linux 7.3 tree
#: make unintegrate KDIR=tree   take it out again
#: make series        the same as a patch series with a cover letter, in build/series/
#:   CHECK=1            and build after each patch: what fails, or has a warning, is named
#: make clean         remove build/; the cache in ~/.cache/virtio-iommu-rust stays
#:
#: KDIR=tree makes every target use that kernel tree instead of the fetched one; it gets integrated.
#: ARCH=arm64 builds and boots for that architecture.
#: QEMU=10.0 or QEMU=11.1 makes every target use that QEMU, which gets fetched; QEMU=folder one of your own.

# On a command line of `make bench`, setup looks for what draws its plots, too.
bench: SETUP := --bench

setup:
	@command -v python3 >/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends python3; } || \
		{ echo 'python3 is missing: apt-get install python3' >&2; exit 1; }
	tools/setup $(SETUP) $(GUESTS)

kernel: setup
	tools/build --arch '$(ARCH)' --variant '$(VARIANT)'

run: kernel
	PASSTHROUGH='$(PASSTHROUGH)' GUEST_SHELL='$(GUEST_SHELL)' ACPI='$(ACPI)' APPEND='$(APPEND)' QEMU_ARGS='$(QEMU_ARGS)' \
		tools/boot --arch '$(ARCH)' --variant '$(VARIANT)'

# The architectures to test: arm64 too, unless one is asked for
NAMED := $(filter-out file,$(origin ARCH))
TESTED := $(ARCH) $(if $(NAMED),,$(filter-out $(ARCH),arm64))
TEST_KERNELS.x86_64 := base module passthrough plain
# Pages of 64 KiB, when arm64 is asked for by its name
TEST_KERNELS.arm64 := base $(if $(NAMED),64k)
test-all: TEST_KERNELS.x86_64 += debug kcsan preempt_rt hibernate machines doctests
test-all: TEST_KERNELS.arm64 := base 64k
# The QEMUs that the suite runs on after the installed one, unless one is asked for
OTHER_QEMUS := $(if $(QEMU),,10.0 11.1)
test-all: SETUP := $(OTHER_QEMUS:%=--qemu=%)
# The fake device is in kernels for x86-64 only, and so is the comparison with the C driver.
soak robustness parity matrix: TESTED := x86_64
soak: TEST_KERNELS.x86_64 := debug
matrix: TEST_KERNELS.x86_64 := machines
robustness: TEST_KERNELS.x86_64 := module debug
test test-all parity matrix soak robustness: GUESTS := $(TESTED)

# One kernel after the other: they start from the base kernel's objects.
test-kernels: setup
	set -e; $(foreach arch,$(TESTED),for variant in $(TEST_KERNELS.$(arch):base=''); do \
		tools/build --arch $(arch) --variant "$$variant"; done;)

JOBS ?= $(shell nproc)
PYTEST = $(PYTHON) -m pytest tests/host -n $(JOBS) $(TESTED:%=--arch %) $(if $(T),-k '$(T)') $(if $(M),-m '$(M)') $(if $(FAILED),--last-failed)

test: test-kernels
	$(PYTEST) $(if $(NAMED),--flavour arm64-64k)

test-all: test-kernels
	status=0; $(PYTEST) --all || status=1; \
	for qemu in $(OTHER_QEMUS); do QEMU=$$qemu $(PYTEST) || status=1; done; \
	tools/series --check || status=1; exit $$status

MINUTES = 60
soak: test-kernels
	$(PYTEST) --soak '$(MINUTES)'

robustness: test-kernels
	$(PYTHON) tools/robustness

bench: setup
	$(PYTHON) tools/bench $(if $(W),--only '$(W)') $(if $(UPDATE),--update) $(if $(CHECK),--check)

parity: test-kernels
	$(PYTEST) --parity --parity-table Documentation/parity.rst -m parity

matrix: test-kernels
	$(PYTEST) --all --matrix-table Documentation/matrix.rst -m matrix

FUZZ_SECONDS ?= 300
fuzz: setup
	FUZZ_SECONDS='$(FUZZ_SECONDS)' $(PYTHON) -m pytest tests/host/test_fuzz.py $(if $(T),-k '$(T)')

lint: setup
	tools/lint

series: setup
	tools/series $(if $(CHECK),--check) $(if $(KDIR),'$(KDIR)')

integrate unintegrate:
	$(if $(KDIR),,$(error KDIR=<the top of a Linux 7.3 source tree> is missing))
	tools/integrate $(if $(filter unintegrate,$@),--undo) '$(KDIR)'

clean:
	rm -rf build

endif
