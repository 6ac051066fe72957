# SPDX-License-Identifier: GPL-2.0
"""Guests that run benchmarks: what they are made of, how to run one, and what came of it.

A guest's steps are lines of shell (tests/bench/guest/bench has the functions). Each measurement of a guest is a line
"bench: name key=number..." on its console, and an interval between two marks in QEMU's trace (tests/bench/mark.h).
"""

import re
import shutil
from collections import Counter
from dataclasses import dataclass, field

import bench_profile
from common import (
    BUILD,
    LLVM,
    PROJECT,
    ToolError,
    kernel_tree,
    kernel_version,
    output as output_of,
    run,
    rust_library_source,
    say,
    version_of,
)
from qemu import Guest, GuestError, edu, initramfs, iommu

SOURCES = PROJECT / "tests/bench"
OUTPUT = BUILD / "bench"

# Driver to module
DRIVERS = {"c": "virtio-iommu", "rust": "virtio_iommu"}

# What the IOMMU device traces, and what it is called here. This device has one property for each PROBE.
EVENTS = {
    "virtio_iommu_map": "map",
    "virtio_iommu_unmap": "unmap",
    "virtio_iommu_attach": "attach",
    "virtio_iommu_detach": "detach",
    "virtio_iommu_fill_resv_property": "probe",
}
REQUESTS = tuple(EVENTS.values())
TRACED = (*EVENTS, "virtio_iommu_device_status", "virtio_set_status", "virtio_queue_notify", "pci_cfg_write")

# With this each instruction takes a nanosecond of the guest's time, so its clocks count instructions.
ICOUNT = ("-icount", "shift=0,sleep=off")

# The functions of the kernel that allocate from the slab allocator. None calls another; Rust ends up in one of them.
ALLOCATORS = r"(__kmalloc(_cache|_node|_track_caller)*|kmem_cache_alloc(_node|_lru)?)_noprof"

# This IOMMU remaps no interrupts; VFIO and iommufd want to be told that this is known.
UNSAFE_INTERRUPTS = "vfio_iommu_type1.allow_unsafe_interrupts=1 iommufd.allow_unsafe_interrupts=1"

IOMMU_SLOT, EDU_SLOT = 2, 5


@dataclass
class Measurement:
    """What a guest printed about a measurement, and what its IOMMU saw meanwhile."""

    name: str
    fields: dict = field(default_factory=dict)
    events: Counter = field(default_factory=Counter)
    mapped_bytes: int = 0
    profile: object = None

    @property
    def requests(self):
        return sum(self.events[kind] for kind in REQUESTS)

    @property
    def notifications(self):
        return self.events["notify"]


@dataclass(frozen=True)
class Run:
    """A guest to boot, once for each driver."""

    name: str
    steps: str
    command_line: str = ""
    smp: int = 1
    memory: int = 1024
    # Count instructions, instead of running as fast as the host can
    icount: bool = True
    # Whether to trace. That costs the host time.
    traced: bool = True
    # Whether to count calls of ALLOCATORS. QEMU logs when it gets to one.
    counts_allocations: bool = False
    # Whether to count the instructions by function, for the guest's only measurement
    profiled: bool = False
    # Called with the guest's directory; more arguments for QEMU
    devices: object = None
    timeout: int = 600


class Files:
    """The kernel and the programs for the guests, brought up to date, and kept as they are for all of a run.

    Guests have their directories in `output`.
    """

    def __init__(self, build=True, kernels=BUILD, output=OUTPUT):
        if build:
            run(PROJECT / "tools/build", "--arch", "x86_64", "--variant", "module")
        self.build, self.output = kernels / "x86_64-module", output
        OUTPUT.mkdir(parents=True, exist_ok=True)
        kernel = output / "kernel"
        shutil.rmtree(kernel, ignore_errors=True)
        kernel.mkdir(parents=True)
        for path in (self.build / "bzImage", *self.build.glob("*.ko")):
            if not path.exists():
                raise ToolError(f"there is no {path}: run `make kernel VARIANT=module`")
            shutil.copy2(path, kernel)
        self.kernel, self.modules = kernel / "bzImage", list(kernel.glob("*.ko"))
        self.vmlinux = self.build / "vmlinux"
        self.programs = self._programs()
        self.plugin = OUTPUT / "bin/profile.so"
        self.module = self._module()

    def _programs(self):
        tree = kernel_tree()
        headers, programs = BUILD / "selftests/headers", OUTPUT / "bin"
        if not (headers / "usr/include/linux/iommufd.h").exists():
            headers.mkdir(parents=True, exist_ok=True)
            run("make", "-s", "-C", tree, f"O={headers}", "headers")
        programs.mkdir(exist_ok=True)
        include = f"KHDR_INCLUDES=-isystem {headers}/usr/include"
        run("make", "-s", "-C", SOURCES, f"OUTPUT={programs}", include)
        return [path for path in programs.iterdir() if path.is_file() and path.suffix != ".so"]

    def _module(self):
        """iommu_cost.ko. kbuild makes it where its source is, so that is a copy."""
        place = OUTPUT / "module"
        module = place / "iommu_cost.ko"
        sources = [path for path in (SOURCES / "module").iterdir() if path.is_file()]
        newest = max(path.stat().st_mtime for path in (self.kernel, *sources))
        if module.exists() and module.stat().st_mtime > newest:
            return module
        # Objects of another configuration would pass for new ones.
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for source in sources:
            shutil.copy2(source, place)
        objects = (self.build / "obj").resolve()
        command = ["make", "-s", "-C", kernel_tree(), f"O={objects}", "ARCH=x86_64", f"LLVM={LLVM}"]
        with open(OUTPUT / "module.log", "w", encoding="utf-8") as log:
            run(*command, f"RUST_LIB_SRC={rust_library_source()}", f"M={place}", "modules", stdout=log, stderr=log)
        return module

    def allocation_log(self):
        """Arguments with which QEMU logs a line whenever one of the ALLOCATORS is entered."""
        symbols = output_of(f"llvm-nm{LLVM}", self.vmlinux)
        addresses = re.findall(rf"^([0-9a-f]+) T {ALLOCATORS}$", symbols, re.M)
        return ["-d", "exec,nochain", "-dfilter", ",".join(f"0x{address}+1" for address, *_ in addresses)]

    def for_guest(self, steps):
        files = {f"lib/{path.name}": path for path in (*self.modules, self.module)}
        files |= {f"bin/{path.name}": path for path in self.programs}
        files |= {f"bin/{path.name}": path for path in (SOURCES / "guest").iterdir()}
        return files | {"bench/steps": f"{steps.strip()}\n".encode()}


def _power_off(guest, driver):
    """All is measured, and the guest powers itself off. With the C driver it may hang (Documentation/parity.rst)."""
    try:
        guest.wait(60)
    except GuestError:
        if driver != "c":
            raise
        say("the guest with the C driver hung when it powered off")
        guest.qmp("quit")
        guest.wait(10)


def execute(files, what, driver, extra=()):
    """Boot a guest with a driver, let it do its steps; returns its measurements by name."""
    directory = files.output / f"{what.name}-{driver}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    command_line = f"quiet run=bench driver={DRIVERS[driver]} deferred_probe_timeout=60 {UNSAFE_INTERRUPTS}"
    devices = [iommu(addr=IOMMU_SLOT), edu(addr=EDU_SLOT)]
    if what.devices:
        devices += what.devices(directory)
    events = [word for event in TRACED if what.traced for word in ("-trace", event)]
    if what.counts_allocations:
        events += files.allocation_log()
    if what.profiled:
        events += bench_profile.plugin_options(files.plugin, files.vmlinux, directory / "profile")
    guest = Guest(
        directory,
        files.kernel,
        initramfs(directory / "initrd", files.for_guest(what.steps)),
        cmdline=f"{command_line} {what.command_line}",
        devices=devices,
        smp=what.smp,
        mem=what.memory,
        trace=None,
        extra=(*(ICOUNT if what.icount else ()), *events, *extra),
    )
    with guest:
        guest.wait_for(r"^guest: status \d+", what.timeout)
        _power_off(guest, driver)
    found = measurements(guest.console, guest.trace_log if what.traced else None)
    if what.profiled:
        (only,) = found.values()
        only.profile = bench_profile.read(directory / "profile", files.vmlinux)
    (directory / "initrd").unlink()
    guest.trace_log.unlink(missing_ok=True)
    return found


def measurements(console, trace=None):
    """The measurements that a guest printed, with what the trace has between its marks."""
    lines = re.findall(r"^bench: (\S+)(.*)$", console, re.M)
    if not lines or lines[-1][0] != "end":
        raise ToolError("a guest did not do all its steps; the end of its console:\n" + console[-3000:])
    found = []
    for name, text in lines[:-1]:
        found.append(Measurement(name, {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", text)}))
    if trace:
        intervals = list(_intervals(trace))
        if len(intervals) != len(found):
            raise ToolError(f"{len(found)} measurements on the console, {len(intervals)} in {trace}")
        for measurement, (events, mapped_bytes) in zip(found, intervals, strict=True):
            measurement.events, measurement.mapped_bytes = events, mapped_bytes
    return {measurement.name: measurement for measurement in found}


def _intervals(trace):
    """For each pair of marks, how often each event happened, and how many bytes were mapped."""
    mark = re.compile(r"^pci_cfg_write \S+ 00:0+(?:\.0)? @0x3c <- 0x([0-9a-f]+)")
    ours = status_of = None
    events, mapped = None, 0
    with open(trace, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, text = line.partition(" ")
            if name == "pci_cfg_write":
                if found := mark.match(line):
                    if int(found.group(1), 16) & 0xFF:
                        events, mapped = Counter(), 0
                    elif events is not None:
                        yield events, mapped
                        events = None
            elif name == "virtio_set_status":
                status_of = text.split()[1]
            elif name == "virtio_iommu_device_status":
                ours = status_of
            elif events is None:
                continue
            elif name == "Trace":
                events["allocation"] += 1
            elif name == "virtio_queue_notify":
                # vdev POINTER n QUEUE vq POINTER; queue 0 is that of requests
                words = text.split()
                if words[1] == ours and words[3] == "0":
                    events["notify"] += 1
            elif name in EVENTS:
                events[EVENTS[name]] += 1
                if name == "virtio_iommu_map":
                    start, end = re.findall(r"virt_(?:start|end)=(0x[0-9a-f]+)", text)
                    mapped += int(end, 0) - int(start, 0) + 1


def provenance():
    """What the figures depend on, to go with them."""
    return {
        "kernel": kernel_version(kernel_tree()),
        "qemu": version_of("qemu-system-x86_64", "--version"),
        "clang": version_of(f"clang{LLVM}", "--version"),
        "rustc": version_of("rustc", "--version"),
    }
