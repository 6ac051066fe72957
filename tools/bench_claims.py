# SPDX-License-Identifier: GPL-2.0
"""What Documentation/performance/ claims: each with the command that measures it, the figure, and why it is so.

The page is made from the rows of the same run, so a claim that does not hold says so.
"""

import math
import textwrap
from dataclasses import dataclass

from bench_profile import CORE, HELPERS, LOOP, VIRTQUEUE
from bench_workloads import ORDERS

RING = 256
# The driver uses two descriptors for each request, and no indirect ones.
RING_FULL = RING // 2
MILLION = 1000000


@dataclass(frozen=True)
class Claim:
    title: str
    # What `make bench W=` runs for it
    workload: str
    # Rows by name to (whether it holds, the figure in words)
    figure: object
    why: str
    # More of why
    argument: str = ""
    # What to add if it does not hold: takes the rows
    shortfall: object = None


def _ratio(row, kind="instructions"):
    return row.values["rust"][kind] / row.values["c"][kind]


def _instructions(row):
    c, rust = (row.values[driver]["instructions"] for driver in ("c", "rust"))
    return f"{rust:.0f} instructions, C {c:.0f}, which is {rust / c:.2f} times as many"


def _get(row, driver, kind):
    return row.values[driver].get(kind, 0)


def identity(rows):
    row = rows["dma-identity-1"]
    sent = sum(value for kind, value in row.values["rust"].items() if kind != "instructions")
    same = _get(row, "rust", "instructions") == _get(row, "c", "instructions")
    return sent == 0 and same, f"{sent:.0f} requests and notifications; {_instructions(row)}"


def one_page(rows):
    strict, lazy = rows["dma-strict-1"], rows["dma-lazy-1"]
    return (
        _ratio(strict) <= 0.7 and _ratio(lazy) <= 0.7,
        f"strict: {_instructions(strict)}; lazy: {_instructions(lazy)}",
    )


def benchmark_floor(rows):
    """What no driver can save in a strict turn of dma_map_benchmark."""

    def total(driver, *parts, mode="strict"):
        turn = {name: row for name, row in rows.items() if name.startswith(f"profile-{mode}: ")}
        names = [f"profile-{mode}: {part}" for part in parts] or turn
        return sum(turn[name].values[driver]["instructions"] for name in names)

    c, rust = total("c"), total("rust")
    theirs, floor = total("c", LOOP, CORE, VIRTQUEUE), total("rust", LOOP, CORE, VIRTQUEUE)
    text = "Of a strict turn of dma_map_benchmark, its loop, the core, and the virtqueue code for two requests take "
    text += f"{floor:.0f} instructions, {floor / c:.2f} of the {c:.0f} that C takes in all. For 0.7 of them, "
    text += f"{0.7 * c - floor:.0f} would be left for the rest, which is {c - theirs:.0f} in C, and is "
    text += f"{rust - floor:.0f} here. In that, the lock of the engine is taken twice for each wait, where C takes it "
    text += "once and keeps interrupts off until the device has answered; and "
    text += f"{total('rust', HELPERS):.0f} are calls of C's inline functions for locks, RCU and atomic variables. "
    text += "CONFIG_RUST_INLINE_HELPERS would inline them, but needs a clang and a rustc of the same LLVM, which these "
    text += "are not. Of a lazy turn, the same three take "
    c, rust = (total(driver, mode="lazy") for driver in ("c", "rust"))
    floor = total("rust", LOOP, CORE, VIRTQUEUE, mode="lazy")
    text += f"{floor:.0f}, {floor / c:.2f} of C's {c:.0f}, and the rest {rust - floor:.0f}: a map waits for its answer "
    return text + "as in strict mode, and what is unmapped is noted under the lock of the domain."


def allocations(rows):
    one, scattered = rows["allocations-strict-1"], rows["allocations-strict-sg-64"]
    ours, theirs = (_get(one, driver, "allocations") for driver in ("rust", "c"))
    text = f"{ours:g} allocations for a map and its unmap of one page, C {theirs:g}; with 64 scattered pages "
    text += f"{_get(scattered, 'rust', 'allocations'):.0f}, C {_get(scattered, 'c', 'allocations'):.0f}"
    # One for each mapping, and the IO address of so many pages, which has no cache
    return ours < 1.01 and _get(scattered, "rust", "allocations") < 65.1, text


def interrupts(rows):
    few, many = rows["reattach-1000-watched"].values, rows["reattach-100000-watched"].values
    text = f"while 1,000 mappings are replayed, {few['rust']['irqs_off']:,} instructions in one go, "
    text += f"C {few['c']['irqs_off']:,}; while 100,000 are, {many['rust']['irqs_off']:,}, C {many['c']['irqs_off']:,}"
    return many["rust"]["irqs_off"] < 2 * few["rust"]["irqs_off"], text


def notifications(rows):
    names = ("dma-strict-1", "dma-strict-100", "sg-strict-64")
    one, hundred, scattered = (_get(rows[name], "rust", "notifications") for name in names)
    lazy = _get(rows["dma-lazy-1"], "rust", "notifications")
    text = f"a map and its unmap, strict: {one:g} with 1 page, {hundred:g} with 100 pages, {scattered:g} with 64 "
    text += f"scattered pages; lazy: {lazy:.3f} with 1 page"
    return max(one, hundred, scattered) <= 2 and lazy < 1.01, text


def any_alignment(what, kind):
    def figure(rows):
        row = rows[f"type1-1G-8K-at-4K-{what}"]
        ours, theirs = (_get(row, driver, kind) for driver in ("rust", "c"))
        text = f"1 GiB less 8 KiB from an address that is 4 KiB past a multiple of 1 GiB: {ours:g} {kind.upper()}"
        return ours == 1, f"{text}, C {theirs:g}"

    return figure


def coherent(rows):
    found = {name: row for name, row in rows.items() if name.startswith("coherent-")}
    maps = [(_get(row, "rust", "map"), _get(row, "c", "map")) for row in found.values()]
    named = [
        f"{name.removeprefix('coherent-')} {_get(row, 'rust', 'map'):g}, C {_get(row, 'c', 'map'):g}"
        for name, row in found.items()
    ]
    if not named:
        raise KeyError
    return all(ours <= theirs for ours, theirs in maps), f"MAPs for {'; '.join(named)}"


def coherent_shortfall(_rows):
    text = "This driver sends one for each piece of memory that is contiguous, and no driver can do with fewer. How "
    return text + "many pieces the page allocator makes of a large buffer differs between the two guests."


def reattach(rows):
    row = rows[f"reattach-{MILLION}"]
    ours, theirs = (_get(row, driver, "notifications") for driver in ("rust", "c"))
    text = f"1,000,000 mappings: {ours:,.0f} notifications, C {theirs:,.0f}"
    # One is that of the ATTACH.
    return ours - 1 <= math.ceil(MILLION / RING), text


def reattach_shortfall(_rows):
    text = f"N / ring size would be {math.ceil(MILLION / RING):,}. What was reached is one notification for each "
    text += f"ring-full, and {RING} descriptors take {RING_FULL} requests, {math.ceil(MILLION / RING_FULL):,} times. "
    text += "A request has two descriptors, one for the device to read and one to write. With indirect descriptors "
    text += "it would take one of the ring's, but the virtqueue code allocates a table for each request then; "
    return text + "this driver prefers not to allocate."


def memory(rows):
    row = rows[f"tree-{MILLION}-insert"]
    ours, theirs = (_get(row, driver, "bytes") for driver in ("rust", "c"))
    return ours <= theirs * 1.01, f"{ours:.1f} bytes for each of a million mappings, C {theirs:.1f}"


def lookup(rows):
    found = {mappings: rows[f"tree-{mappings}-lookup"] for mappings in (1, 1000, MILLION)}
    text = "; ".join(f"with {mappings:,} of them {_instructions(row)}" for mappings, row in found.items())
    return all(_ratio(row) <= 1 for row in found.values()), text


def lookup_shortfall(_rows):
    text = "The search itself is the shorter one. But each keeps what it found, for it is often asked for again: VFIO "
    return text + "asks for every page of what it unmaps."


def insertion(rows):
    found = {order: [rows[f"tree-{order}-{part}"] for part in ("insert", "remove")] for order in ORDERS}
    ratios = {order: " and ".join(f"{_ratio(row):.2f}" for row in both) for order, both in found.items()}
    text = "; ".join(f"{order}: {both}" for order, both in ratios.items())
    return all(_ratio(row) <= 0.95 for both in found.values() for row in both), text


def insertion_shortfall(_rows):
    text = "C makes a node that it has cleared, and keeps the largest end below each node. Here an insertion looks at "
    text += "both neighbours, and sets the links of its node twice: when the node is made, and, by a call of "
    return text + "rb_link_node(), in the tree. What both pay alike is the core, the allocator, and the rebalancing."


def threads(rows):
    row = rows["threads-strict-4"]
    found = row.values["rust"]
    # A map and an unmap are two operations.
    ours, theirs = (row.values[driver]["notifications"] / 2 for driver in ("rust", "c"))
    text = f"{found['ratio']:.2f} times the throughput of C, the median of {found['rounds']} rounds from "
    text += f"{found['low']:.2f} to {found['high']:.2f}, on a host with a load of {found['load']}; "
    text += f"{ours:.3f} notifications for each map and each unmap, C {theirs:.3f}"
    return found["low"] >= 2 and ours < 1, text


def threads_shortfall(rows):
    found = rows["threads-strict-4"].values["rust"]
    text = "The claim is taken for shown when each round is above 2. "
    if found["low"] < 1 < found["high"]:
        text += "These rounds contradict one another, so they show nothing about throughput: the host had "
        text += "more to do than it has processors, and a virtual CPU that is not running may hold a lock. "
        text += "Repeat it on an idle host. "
    text += "Under emulation, the device works inside the write that notifies it, so a CPU that is in the device "
    return text + "does not stay there for long, and the others find little time to stage for it."


def boot(rows):
    row = rows["boot-64-endpoints"]
    ours, theirs = (_get(row, driver, "notifications") for driver in ("rust", "c"))
    sent = {driver: sum(_get(row, driver, kind) for kind in ("attach", "probe")) for driver in row.values}
    text = f"{sent['rust']:g} requests with {ours:g} notifications, C {sent['c']:g} with {theirs:g}"
    return sent["rust"] <= sent["c"] and ours <= theirs, text


CLAIMS = (
    Claim(
        "An endpoint in an identity domain pays nothing",
        "dma-identity",
        identity,
        "Where the device offers VIRTIO_IOMMU_F_BYPASS_CONFIG, an identity domain is a bypass domain: one ATTACH, "
        "and the driver is not in the path of the DMA API any more. Nothing of it is called, so the instructions are "
        "those of the DMA API, whichever the driver.",
    ),
    Claim(
        "One notification for a map, one for a strict unmap, one for a flush",
        "dma-",
        notifications,
        "map_range() puts a MAP into the ring and does not notify. The core calls iotlb_sync_map() once for a "
        "map, however many segments a scatterlist has, and that notifies once. What unmap_range() removes waits "
        "in the core's gather, and iotlb_sync() makes one UNMAP and one notification of it. With lazy "
        "invalidation there is no such sync: the range waits with its domain, where ranges that touch become one, "
        "until the core's flush queue asks for a flush, after 256 unmaps at the latest. A request takes two of "
        f"the {RING} descriptors of this ring, so beyond {RING_FULL} segments there is one more notification for "
        f"each {RING_FULL}.",
    ),
    Claim(
        "A page mapped and unmapped takes at most 0.7 of the C driver's instructions",
        "dma-",
        one_page,
        "Both drivers do the same in the core: allocate an IO address, walk its layers, add to the virtqueue. For each "
        "request, C allocates and clears the request, allocates an indirect descriptor table, and frees both; for each "
        "mapping it allocates and frees a node. Here the request slots are allocated once and an unused node stays "
        "with its domain, so the path of a mapping allocates nothing.",
        shortfall=benchmark_floor,
    ),
    Claim(
        "Nothing is allocated but the node of a mapping",
        "allocations",
        allocations,
        "The slots of requests, which are also what the device reads and writes, are allocated with the queue; a ring "
        "without indirect descriptors needs no table. Up to 64 unused nodes, a page of them, stay with a domain for "
        "its next mappings, and if there are none, eight are made at a time. C allocates the request, its indirect table and the node of a mapping.",
    ),
    Claim(
        "Interrupts are not off while the driver waits",
        "watched",
        interrupts,
        "Locks are held to put requests into the ring and to take answers out, never to wait for one. A replay "
        "drops them after each ring-full: what is left is what it takes to find the mappings of one ring-full in "
        "the tree and to put them into the ring, and the timer's own interrupt. C holds a spinlock with "
        "interrupts off for all of a replay, and the lock of the queue, with interrupts off, while it waits for "
        "any answer.",
    ),
    Claim(
        "A contiguous range of any alignment is mapped with one MAP",
        "space",
        any_alignment("map", "map"),
        "The core splits a range at the page sizes that a driver declares. Both declare every power of two from 4 KiB "
        "up, so with C an unaligned range takes a request for each size on the way up and down. The domains of this "
        "driver have map_range() and unmap_range() of struct pt_iommu_ops, which the core calls once for a whole "
        "range; a MAP takes any number of granules.",
        "A larger MAP cannot be unmapped in part: the device must not split a mapping. It costs no correctness, "
        "because no caller cuts where a call of iommu_map() has not. Pages of one call are contiguous. VFIO type 1 "
        "unmaps the largest chunk that iova_to_phys() shows to be contiguous. iommufd always 'cuts at a place "
        "where the pfns are not contiguous to pair with the maps' (drivers/iommu/iommufd/pages.c). The DMA API "
        "unmaps what it has mapped. For a caller that did cut, the API has an answer: iommu_unmap() may remove "
        "more than it was asked for, and returns how much. The driver removes a mapping that reaches over the end "
        "of the range as a whole, and nothing if the range begins inside of one; it never sends an UNMAP that "
        "would split one.",
    ),
    Claim(
        "A range of any alignment is unmapped with one UNMAP",
        "space",
        any_alignment("unmap", "unmap"),
        "For the same reason, and because what is unmapped is gathered until the sync: VFIO unmaps scattered "
        "memory page by page and syncs at the end. Ranges that touch are one UNMAP, which may cover many "
        "mappings.",
    ),
    Claim(
        "Memory that is allocated for DMA takes no more MAPs than with the C driver",
        "coherent",
        coherent,
        "The core puts a large buffer together from pages as large as there are of those sizes that the domain "
        "declares, and those that are neighbours are mapped with one call. When free memory is in pieces, a buffer is, "
        "too.",
        shortfall=coherent_shortfall,
    ),
    Claim(
        "Attaching a domain with N mappings takes N / ring size notifications",
        "reattach",
        reattach,
        "The device drops the mappings of a domain with its last endpoint, so they have to be sent again. C sends each "
        "on its own, under a spinlock with interrupts off, and waits for it. Here they are staged until the ring is "
        "full, and the device is notified once. No lock is held while the driver waits.",
        shortfall=reattach_shortfall,
    ),
    Claim(
        "Four threads have at least twice the throughput, with less than a notification each",
        "threads-strict",
        threads,
        "A CPU that waits for the device holds no lock and has not turned interrupts off. The others stage "
        "meanwhile; the device often finds that before it is done, and what is left goes out with the next "
        "notification. C holds the lock of the queue, with interrupts off, until all requests are answered, so "
        "the others spin.",
        shortfall=threads_shortfall,
    ),
    Claim(
        "A mapping takes no more memory than with the C driver",
        "tree",
        memory,
        "A node of the red-black tree has three links, the range, the physical address and the flags: 64 bytes, which "
        "is a size of the allocator. C's node of an interval tree is of the same size.",
    ),
    Claim(
        "A lookup takes no more instructions than with the C driver",
        "tree",
        lookup,
        "The mappings do not overlap, so a plain red-black tree finds the one that holds an address in one descent; an "
        "interval tree keeps the largest end below each node, and looks at it on the way.",
        shortfall=lookup_shortfall,
    ),
    Claim(
        "An insertion and a removal take at most 0.95 of the C driver's instructions",
        "tree-orders",
        insertion,
        "For each of a million mappings, ascending (up), descending (down) and in random order. A search compares "
        "once a level, and a node comes from the allocator without the way through krealloc().",
        shortfall=insertion_shortfall,
    ),
    Claim(
        "Endpoints that are present at boot take no more requests",
        "boot",
        boot,
        "An endpoint takes a PROBE and an ATTACH. Each is waited for: the core attaches one endpoint after the other.",
    ),
)


def _wrap(text):
    return textwrap.fill(text, 80, break_long_words=False, break_on_hyphens=False)


def _heading(text, line):
    return f"{text}\n{line * len(text)}\n"


def _claim(claim, rows):
    try:
        holds, figure = claim.figure(rows)
        shortfall = claim.shortfall(rows) if claim.shortfall and not holds else ""
    except KeyError:
        # Rows can be added one workload after the other.
        holds, figure, shortfall = True, "not yet", ""
    verdict = "" if holds else "**Not reached.** "
    paragraphs = filter(None, [f"{verdict}Measured: {figure}.", claim.why, claim.argument, shortfall])
    command = f"::\n\n   make bench W={claim.workload}\n"
    return "\n".join([_heading(claim.title, "-"), command, *(f"{_wrap(text)}\n" for text in paragraphs)])


FIGURES = """\
.. SPDX-License-Identifier: GPL-2.0

===========
All figures
===========

.. This page is written by `make bench`.

What each workload took with the C driver and with this one. How it was measured is on
the page before this one.

"""

INTRODUCTION = """\
.. SPDX-License-Identifier: GPL-2.0

===========
Performance
===========

.. This page is written by `make bench`; its text is in tools/bench_claims.py.

What a guest pays for a virtual IOMMU is round trips to the device first, instructions
second, and contention for locks third. This page has all three, for this driver and
for the C driver ``virtio-iommu``, on the same kernel, in the same run::

   make bench                the table, the plots, and this page
   make bench W=name         only the workloads whose name holds this
   make bench W=name UPDATE=1   and put their figures into this page
   make bench CHECK=1        compare the deterministic figures with those of this page

How it is measured
==================

The guests are QEMU's, emulated. They have one kernel with both drivers as modules, and
load one of them.

*Requests and notifications* are what QEMU's device has seen: its trace has each
request, and each notification of its queue. The guest marks the beginning and the
end of a measurement with a write to the configuration space of the host bridge, which
shows in the same trace. It is the same method for both drivers.

*Instructions* are those that the guest executes, in the kernel and, where a program
calls it, in the program, with everything that the call does. With QEMU's
``-icount shift=0,sleep=off`` each takes a nanosecond of the guest's time, so a
difference of the time stamp counter is a number of instructions. It is the same in
each run, give or take an interrupt of the timer. It is not time: an instruction that misses a cache counts as much as
one that does not, and the device's work not at all. The device of this QEMU works
inside the write that notifies it, so nobody waits, either.

*Throughput* depends on the host, and on emulation: virtual CPUs are threads of
a host with fewer processors than that. Guests with the two drivers run in turns, and the
figure is the median of the ratios of each turn, with the lowest and the highest. For
``dma_map_benchmark`` it is the ratio of the latencies that it reports, the sum of a map
and an unmap. These guests do not trace, as that takes the host's time; their requests and
notifications come from one more guest each. Neither driver takes part in the DMA of an
identity domain, so the rows of disks with identity show how far a ratio is from 1 by chance.
No absolute time is claimed, and ``CHECK=1`` does not look at throughput.

*Allocations* are entries into the functions of the slab allocator, which QEMU logs
(``-d exec`` with the addresses of these functions).

.. toctree::
   :maxdepth: 1

   figures

"""


def page(rows, made_with, plots):
    """The text of index.rst."""
    by_name = {row.name: row for row in rows}
    versions = ", ".join(f"{name} {version}" for name, version in made_with.items())
    parts = [INTRODUCTION]
    parts.append(_wrap(f"This page was measured with {versions}.") + "\n\n")
    parts.append(_heading("Claims", "=") + "\n")
    parts += [f"{_claim(claim, by_name)}\n" for claim in CLAIMS]
    parts.append(_heading("Plots", "=") + "\n")
    parts += [f".. figure:: {plot.name}.svg\n   :alt: {plot.title}\n\n   {plot.title}\n\n" for plot in plots]
    return "".join(parts).rstrip() + "\n"


def figures_page(tables, legend):
    """The text of figures.rst."""
    return FIGURES + f"{_wrap(legend[0].upper() + legend[1:])}. ``Rust/C`` compares instructions.\n\n{tables}\n"
