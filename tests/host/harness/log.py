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

# A report of KCSAN names the two functions that race, then says for each of them what called it.
_RACE = re.compile(r"BUG: KCSAN: ")
_RACE_SIDE = re.compile(r"\b(?:read|write) .*\bby (?:task|interrupt)\b")
_RUST = r"\b_R|\brust_helper_|\[virtio_iommu\]"
# Rust code is on the stack of the others, too, if it has notified the fake device, or is interrupted.
_CALLER = re.compile(rf"(?P<rust>{_RUST})|\[virtio_iommu_fake\]|\[vringh\]|\basm_")

# From a panic that a test asks for, to the kernel that takes over
_WANTED_PANIC = re.compile(r"^[^\n]*sysrq: Trigger a crash$.*?(?=^[^\n]*Linux version)", re.M | re.S)


def _race_of_others(lines):
    """Whether a report of KCSAN is about the kernel's own races, of which it has some without a driver, too.

    A race is ours if Rust code or one of its helpers is what races, on either side; and also if both sides are C
    functions that Rust called: these may leave it to their callers to take a lock.
    """
    if re.search(_RUST, lines[0]):
        return False
    callers = [_CALLER.search(stack) for stack in _RACE_SIDE.split("\n".join(lines))[1:]]
    return len(callers) < 2 or not all(caller and caller["rust"] for caller in callers)


def splats(console):
    """Each report, with the lines that follow it; empty when all is well."""
    lines = _WANTED_PANIC.sub("", console).splitlines()
    found, covered = [], -1
    for number, line in enumerate(lines):
        if number <= covered or not _SPLAT.search(line) or _HARMLESS.search(line):
            continue
        if _RACE.search(line):
            end = next((n for n in range(number, len(lines)) if lines[n].endswith("====")), len(lines))
            if _race_of_others(lines[number:end]):
                continue
        covered = number + _LINES_AFTER
        found.append("\n".join(lines[number : covered + 1]))
    return found
