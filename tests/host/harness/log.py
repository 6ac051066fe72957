# SPDX-License-Identifier: GPL-2.0
"""Finding what a kernel log must not hold: the reports of the kernel's own checkers."""

import re

_SPLAT = re.compile(
    "|".join(
        [
            r"\bBUG\b",
            r"\bWARNING: ",
            r"\bOops\b",
            r"Internal error: ",
            r"Unable to handle kernel",
            r"Kernel panic",
            r"general protection fault",
            r"KASAN",
            r"UBSAN",
            r"rust_kernel: panicked",
            r"possible recursive locking",
            r"possible circular locking",
            r"possible irq lock inversion",
            r"inconsistent lock state",
            r"suspicious RCU usage",
            r"sleeping function called",
            r"scheduling while atomic",
            r"soft lockup",
            r"hard LOCKUP",
            r"detected stalls",
            r"self-detected stall",
            r"blocked for more than",
            r"kmemleak: \d+ new suspected memory leaks",
            r"unreferenced object",
            r"DMA-API: .*(error|warning|exceed|not )",
            r"refcount_t: ",
            r"list_(add|del) corruption",
            r"\bCall [Tt]race:",
        ]
    )
)
# What a debug kernel says of itself when it starts
_HARMLESS = re.compile(
    r"KernelAddressSanitizer initialized|kmemleak: (Kernel memory leak detector|Automatic memory)"
    r"|DMA-API: (preallocated|debugging enabled)|fault-injection"
)

_LINES_AFTER = 40


# From a panic that a test asks for, to the kernel that takes over
_WANTED_PANIC = re.compile(r"^[^\n]*sysrq: Trigger a crash$.*?(?=^[^\n]*Linux version)", re.M | re.S)


def splats(console):
    """Each report, with the lines that follow it; empty when all is well."""
    lines = _WANTED_PANIC.sub("", console).splitlines()
    found, covered = [], -1
    for number, line in enumerate(lines):
        if number <= covered or _HARMLESS.search(line) or not _SPLAT.search(line):
            continue
        covered = number + _LINES_AFTER
        found.append("\n".join(lines[number : covered + 1]))
    return found
