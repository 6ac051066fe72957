# SPDX-License-Identifier: GPL-2.0
"""The workloads of `make bench`: which guests to boot, and how their measurements become rows of the table."""

import os
import statistics
from dataclasses import dataclass, field

from bench_guest import DRIVERS, REQUESTS, Run
from qemu import disk_image, edu, nvme, virtio_blk

ENDPOINTS = 64
# What the chipset has anyway, and the edu device that is always there
OWN_ENDPOINTS = 5

MODES = {"strict": "iommu.strict=1", "lazy": "iommu.strict=0", "identity": "iommu.passthrough=1"}


@dataclass
class Row:
    """A line of the table. `values` has for each driver what one operation takes, by kind.

    Kinds: those of requests; notifications; instructions; bytes; and for what depends on the host, `ratio`: the
    throughput with the Rust driver over that with the C driver, with `low`, `high`, `rounds`, and the host's `load`.
    """

    name: str
    section: str
    values: dict = field(default_factory=dict)
    deterministic: bool = True


@dataclass(frozen=True)
class Workload:
    """Rows that come from one guest for each driver, or from several in turns (`rounds`)."""

    section: str
    run: Run
    # Driver to measurements, and, if there are rounds, a list of these, to rows
    rows: object
    rounds: int = 0

    @property
    def deterministic(self):
        return not self.rounds


def counts(measurement, operations):
    """What one of some operations took, as the IOMMU device saw it."""
    values = {kind: measurement.events[kind] / operations for kind in REQUESTS if measurement.events[kind]}
    return values | {"notifications": measurement.notifications / operations}


def cost_rows(names, title):
    """Rows of what tests/bench/module/ has measured under these names."""

    def rows(found):
        for name in names:
            row = Row(name, title)
            for driver, measurements in found.items():
                one = measurements[name]
                operations = one.fields["operations"]
                cost = (one.fields["map"] + one.fields["unmap"]) / operations
                row.values[driver] = counts(one, operations) | {"instructions": cost}
            yield row

    return rows


# --- DMA API ----------------------------------------------------------------------------------------------

DMA = "DMA API, one thread, for each map and unmap"
PAGES = (1, 3, 64, 100, 256)
SEGMENTS = (3, 64, 256)
# Name to: how dma_map_benchmark maps, and how many pages
BENCHMARKS = {"1": ("single", 1), "16": ("single", 16), "256": ("single", 256), "sg-16": ("sg", 16)}


def dma_workload(mode):
    costs = [(f"dma-{mode}-{n}", f"dma {n}") for n in PAGES]
    costs += [(f"sg-{mode}-{n}", f"sg {n}") for n in SEGMENTS]
    benchmarks = {} if mode == "identity" else {f"benchmark-{mode}-{name}": how for name, how in BENCHMARKS.items()}
    steps = ["load", "insmod /lib/iommu_cost.ko", *(f"cost {name} {what}" for name, what in costs)]
    steps += ["rmmod iommu_cost", "bind dma_map_benchmark"]
    steps += [f"dma_map {name} {how} {pages} 1 1" for name, (how, pages) in benchmarks.items()]

    cost = cost_rows([name for name, _ in costs], DMA)

    def rows(found):
        yield from cost(found)
        for name, (_, pages) in benchmarks.items():
            # The benchmark does not tell how often it has gone round, but the device saw what it mapped.
            row = Row(name, "The kernel's dma_map_benchmark, one thread, for each turn of its loop")
            for driver, measurements in found.items():
                one = measurements[name]
                turns = one.mapped_bytes / (pages << 12)
                row.values[driver] = counts(one, turns) | {"instructions": one.fields["window"] / turns}
            yield row

    return Workload(f"dma-{mode}", Run(f"dma-{mode}", "\n".join(steps), MODES[mode]), rows)


def allocations_workload(mode):
    names = {f"allocations-{mode}-1": "dma 1", f"allocations-{mode}-sg-64": "sg 64"}
    steps = ["load", "insmod /lib/iommu_cost.ko", *(f"cost {name} {what}" for name, what in names.items())]

    def rows(found):
        for name in names:
            values = {}
            for driver, measurements in found.items():
                one = measurements[name]
                values[driver] = {"allocations": one.events["allocation"] / one.fields["operations"]}
            yield Row(name, "DMA API: calls of the slab allocator, for each map and unmap", values)

    section = f"allocations-{mode}"
    return Workload(section, Run(section, "\n".join(steps), MODES[mode], counts_allocations=True), rows)


COHERENT_SIZES = {"64K": 64, "1M": 1024, "4M": 4096, "16M": 16384, "64M": 65536}


def coherent_workload(section, prepare):
    names = {f"{section}-{size}": kib for size, kib in COHERENT_SIZES.items()}
    steps = ["load", "insmod /lib/iommu_cost.ko", *prepare]
    steps += [f"cost {name} coherent {kib}" for name, kib in names.items()]
    title = "dma_alloc_coherent() and dma_free_coherent(), for each"
    return Workload(section, Run(section, "\n".join(steps), MODES["strict"]), cost_rows(names, title))


def link_workload(mode):
    names = {f"link-{mode}-{pieces}": pieces for pieces in (2, 64)}
    steps = ["load", "insmod /lib/iommu_cost.ko"]
    steps += [f"cost {name} link {pieces}" for name, pieces in names.items()]
    title = "dma_iova_link() of neighbours one by one, dma_iova_unlink() of the first, then of the others"
    return Workload(f"link-{mode}", Run(f"link-{mode}", "\n".join(steps), MODES[mode]), cost_rows(names, title))


def profile_workload(mode):
    section = f"profile-{mode}"
    steps = f"load\nbind dma_map_benchmark\ndma_map {section} single 1 1 1"

    def rows(found):
        parts = {driver: measurements[section].profile.parts() for driver, measurements in found.items()}
        for part in parts["rust"]:
            values = {driver: {"instructions": shares[part]} for driver, shares in parts.items()}
            # Not compared: some parts are next to nothing.
            title = "dma_map_benchmark, 1 page, one thread: instructions of a turn"
            yield Row(f"{section}: {part}", title, values, deterministic=False)

    return Workload(section, Run(section, steps, MODES[mode], traced=False, profiled=True), rows)


# --- One guest, and what it printed is the row ------------------------------------------------------------


def simple_rows(section, prefix=""):
    def rows(found):
        first = next(iter(found.values()))
        for name in first:
            if name.startswith(prefix):
                row = Row(name, section)
                for driver, measurements in found.items():
                    one = measurements[name]
                    row.values[driver] = counts(one, 1) | {"instructions": one.fields["total"]}
                yield row

    return rows


SPACE = Workload(
    "space",
    Run(
        "space",
        "load\nbind vfio-pci\nspace type1 $edu\nspace iommufd $edu",
        f"{MODES['strict']} hugepagesz=1G hugepages=1",
        memory=4096,
    ),
    simple_rows("VFIO and iommufd, for each map or unmap of a range"),
)

REATTACH_SECTION = "Attach an endpoint to a domain that has that many mappings"

REATTACH = Workload(
    "reattach",
    Run("reattach", "load\nbind vfio-pci\nreattach $edu 1 1000 1000000", MODES["strict"]),
    simple_rows(REATTACH_SECTION),
)


def watched_rows(found):
    for name in next(iter(found.values())):
        values = {driver: {"irqs_off": one[name].fields["irqs_off"]} for driver, one in found.items()}
        yield Row(name, REATTACH_SECTION, values)


WATCHED = Workload(
    "watched",
    Run(
        "watched",
        "load\ninsmod /lib/iommu_cost.ko\nbind vfio-pci\nWATCH=1 reattach $edu 1000 100000",
        # Without a word for it, no clock is good enough for timers that are finer than a tick.
        f"{MODES['strict']} tsc=reliable",
    ),
    watched_rows,
)


def tree_rows(found):
    for mappings in (1, 1000, 1000000):
        parts = ("insert", "lookup", "remove")
        rows = {part: Row(f"tree-{mappings}-{part}", "A domain without endpoints, for each mapping") for part in parts}
        for driver, measurements in found.items():
            fields = measurements[f"tree-{mappings}"].fields
            rows["insert"].values[driver] = {"instructions": fields["insert"] / mappings}
            rows["lookup"].values[driver] = {"instructions": fields["lookup"] / fields["lookups"]}
            rows["remove"].values[driver] = {"instructions": fields["remove"] / mappings}
            if mappings == 1000000:
                rows["insert"].values[driver]["bytes"] = fields["bytes"] / mappings
        yield from rows.values()


TREE = Workload(
    "tree",
    Run(
        "tree",
        "\n".join(["load", "insmod /lib/iommu_cost.ko", *(f"cost tree-{n} tree {n}" for n in (1, 1000, 1000000))]),
        MODES["strict"],
    ),
    tree_rows,
)


MILLION = 1_000_000
ORDERS = ("up", "down", "random")


def order_rows(found):
    for order in ORDERS:
        for part, count in (("insert", "mappings"), ("lookup", "lookups"), ("remove", "mappings")):
            row = Row(f"tree-{order}-{part}", "A domain without endpoints, for each of a million mappings, one by one")
            for driver, measurements in found.items():
                fields = measurements[f"tree-{order}"].fields
                row.values[driver] = {"instructions": fields[part] / fields[count]}
            yield row


TREE_ORDERS = Workload(
    "tree-orders",
    Run(
        "tree-orders",
        "\n".join(["load", "insmod /lib/iommu_cost.ko", *(f"cost tree-{how} {how} {MILLION}" for how in ORDERS)]),
        MODES["strict"],
    ),
    order_rows,
)


def many_endpoints(_directory):
    """Functions of edu devices, eight for each slot."""
    devices = []
    for i in range(ENDPOINTS - OWN_ENDPOINTS):
        slot, function = 6 + i // 8, i % 8
        devices.append(edu(addr=f"{slot:#x}.{function}", multifunction=True if function == 0 else None))
    return devices


def boot_workload(endpoints, devices):
    run = Run(f"boot-{endpoints}", f"load boot-{endpoints}-endpoints", devices=devices)
    return Workload(f"boot-{endpoints}", run, simple_rows("Load the driver, with that many endpoints present"))


# --- What depends on the host -----------------------------------------------------------------------------


def ratio(c, rust):
    """From throughputs, round by round."""
    ratios = [ours / theirs for ours, theirs in zip(rust, c, strict=True)]
    spread = {"low": min(ratios), "high": max(ratios), "rounds": len(ratios)}
    # How busy the host is with this and with other things; more than its processors spoil the figure.
    return {"ratio": statistics.median(ratios), **spread, "load": round(os.getloadavg()[0])}


THREADS = (1, 2, 4, 8)


def threads_workload(mode, how, pages):
    section = f"threads-{mode}" if how == "single" else f"threads-{mode}-{how}"
    names = {threads: f"{section}-{threads}" for threads in THREADS}
    steps = ["load", "bind dma_map_benchmark"]
    steps += [f"dma_map {name} {how} {pages} {threads} 1" for threads, name in names.items()]

    def rows(counted, rounds):
        for name in names.values():
            throughput = {}
            row = Row(name, f"dma_map_benchmark, {how} {pages}, that many threads", deterministic=False)
            for driver in DRIVERS:
                # What the benchmark says of its latencies, for the sum of a map and an unmap
                found = [one[driver][name].fields for one in rounds]
                throughput[driver] = [1 / (fields["map"] + fields["unmap"]) for fields in found]
                one = counted[driver][name]
                row.values[driver] = {"notifications": one.notifications / (one.mapped_bytes / (pages << 12))}
            row.values["rust"] |= ratio(throughput["c"], throughput["rust"])
            yield row

    run = Run(section, "\n".join(steps), MODES[mode], smp=4, icount=False)
    return Workload(section, run, rows, rounds=5)


DISKS = {"virtio-blk": "/dev/vda", "nvme": "/dev/nvme0n1"}
# Name to: sequential or random, size of a block, blocks for each thread, threads
ACCESSES = {"sequential": "sequential 131072 400 1", "random": "random 4096 500 4"}


def disks(directory):
    return [
        virtio_blk(disk_image(directory / "virtio-blk.img", 64), addr=6),
        nvme(disk_image(directory / "nvme.img", 64), addr=7),
    ]


def disk_workload(mode):
    names = {
        f"{disk}-{access}-{mode}": f"{path} {how}"
        for disk, path in DISKS.items()
        for access, how in ACCESSES.items()
    }
    steps = ["load", f"wait_for {' '.join(DISKS.values())}"]
    steps += [f"disk {name} {what}" for name, what in names.items()]

    def rows(counted, rounds):
        for name in names:
            throughput = {}
            row = Row(name, "Reads from disks, for each read", deterministic=False)
            for driver in DRIVERS:
                found = [one[driver][name].fields for one in rounds]
                throughput[driver] = [fields["operations"] / fields["time"] for fields in found]
                one = counted[driver][name]
                row.values[driver] = counts(one, one.fields["operations"])
            row.values["rust"] |= ratio(throughput["c"], throughput["rust"])
            yield row

    run = Run(f"disks-{mode}", "\n".join(steps), MODES[mode], smp=2, icount=False, devices=disks)
    return Workload(f"disks-{mode}", run, rows, rounds=3)


WORKLOADS = (
    *(dma_workload(mode) for mode in MODES),
    *(allocations_workload(mode) for mode in ("strict", "lazy")),
    *(profile_workload(mode) for mode in ("strict", "lazy")),
    coherent_workload("coherent", ()),
    # Free memory is in pieces of 64 KiB.
    coherent_workload("coherent-fragmented", ("echo fragment 4 > /sys/module/iommu_cost/parameters/run",)),
    *(link_workload(mode) for mode in ("strict", "lazy")),
    SPACE,
    REATTACH,
    WATCHED,
    TREE,
    TREE_ORDERS,
    boot_workload(OWN_ENDPOINTS, None),
    boot_workload(ENDPOINTS, many_endpoints),
    *(threads_workload(mode, *how) for mode in ("strict", "lazy") for how in (("single", 1), ("sg", 16))),
    *(disk_workload(mode) for mode in MODES),
)
