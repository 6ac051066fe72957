# SPDX-License-Identifier: GPL-2.0
"""Where the instructions of a guest go: a plugin of QEMU's counts them by address, this by function and by part."""

import bisect
import re
from collections import Counter
from dataclasses import dataclass, field

from common import LLVM, output

# The benchmark of the kernel whose turns are counted, and what it calls once for each
START, TURN = "map_benchmark_ioctl", "dma_single_map_benchmark_do_map"

MODULE = "module"
LOOP, CORE, VIRTQUEUE = "the benchmark's own loop", "core: DMA API, IO addresses, IOMMU API", "virtqueue"
HELPERS = "inline functions of C, called by Rust"
PARTS = {
    LOOP: r"map_benchmark_thread|dma_single_map_benchmark|ktime_get|read_tsc|\w*delay|kthread_should_stop",
    CORE: r"_*(dma|iommu|iova|viot)_|_*(alloc|free)_iova|iova_rcache|__iova",
    VIRTQUEUE: r"virtqueue_|_*vring_|detach_buf|sg_(init|next)|vp_notify|more_used|iowrite16|is_vmalloc_addr",
    "memory: slab allocator, memset, memcpy": r"_*k[mz]alloc|kfree|kvfree|_*kmem_|_*slab|_*mem(set|cpy)|refill|___slab",
    "locks and RCU": r"_raw_(spin|read|write)|queued_|__?rcu|rcu_|preempt_|refcount|lockref",
    HELPERS: r"rust_helper_",
    # Mangled names begin with _R.
    "driver, its tree, and the abstractions for Rust": rf"{MODULE}$|_R|interval_tree_|_*rb_",
}
OTHER = "anything else"


@dataclass
class Profile:
    """Executed instructions by function, and how often each function was entered."""

    instructions: Counter = field(default_factory=Counter)
    calls: Counter = field(default_factory=Counter)

    def parts(self):
        """Instructions for each turn of the benchmark, by part of the kernel."""
        turns, found = self.calls[TURN], Counter()
        for function, count in self.instructions.items():
            part = next((part for part, names in PARTS.items() if re.match(names, function)), OTHER)
            found[part] += count / turns
        return {part: found[part] for part in (*PARTS, OTHER)}


def _symbols(text):
    return {int(address, 16): name for address, name in re.findall(r"^([0-9a-f]{16}) [tTwW] (\S+)$", text, re.M)}


def plugin_options(plugin, vmlinux, out):
    """Arguments for QEMU."""
    symbols = _symbols(output(f"llvm-nm{LLVM}", vmlinux))
    start = next(address for address, name in symbols.items() if name == START)
    return ["-plugin", f"{plugin},start={start:x},out={out}"]


def read(out, vmlinux):
    """The profile of a guest. All that is at no address of the kernel's is the module's."""
    symbols = _symbols(output(f"llvm-nm{LLVM}", vmlinux))
    addresses = sorted(symbols)
    last = addresses[-1]
    profile = Profile()
    with open(out, encoding="utf-8") as lines:
        for address, count in (line.split() for line in lines):
            address, count = int(address, 16), int(count)
            if not address >> 63:
                name = "user"
            elif address > last:
                name = MODULE
            else:
                begin = addresses[bisect.bisect_right(addresses, address) - 1]
                name = symbols[begin]
                if begin == address:
                    profile.calls[name] += count
            profile.instructions[name] += count
    return profile
