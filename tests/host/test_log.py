# SPDX-License-Identifier: GPL-2.0
"""Which reports of KCSAN count: a guest for concurrency passes over the others."""

import pytest
from harness import log

RUST, OTHER_RUST = "_RNvMs_7request6Engine5stage+0x1/0x2 [virtio_iommu]", "_RNvNt7request4sync+0x1/0x2 [virtio_iommu]"
HELPER = "rust_helper_atomic_read_acquire+0x1/0x2"
DEVICE, RING = "fake_vq_notify+0x1/0x2 [virtio_iommu_fake]", "virtqueue_add_split+0x1/0x2"
TREE, TICK = "rb_erase+0x1/0x2", "tick_nohz_handler+0x1/0x2"
INTERRUPT = "asm_sysvec_apic_timer_interrupt+0x1/0x2"


def report(*stacks):
    """What KCSAN prints about accesses with these stacks; what is called comes before its caller."""
    race = " / ".join(stack[0].replace("+0x1/0x2", "") for stack in stacks)
    lines = ["=" * 66, f"BUG: KCSAN: data-race in {race}", ""]
    for number, stack in enumerate(stacks):
        access = "read (marked) to" if number else "write to"
        lines += [f"{access} 0xffff888000a6e402 of 2 bytes by task 10{number} on cpu {number}:"]
        lines += [f" {frame}" for frame in stack] + [""]
    lines += ["Reported by Kernel Concurrency Sanitizer on:", "=" * 66, "all is well"]
    return "\n".join(f"[   29.877655] {line}" for line in lines)


@pytest.mark.parametrize(
    "stacks",
    [
        ([RUST], [RUST]),
        ([TICK], [RUST]),
        ([RING], [RUST]),
        ([RUST], [DEVICE, RUST]),
        ([HELPER, RUST], [RING]),
        ([TREE, RUST], [TREE, OTHER_RUST]),
        ([RING, RUST, DEVICE], [RING, OTHER_RUST, INTERRUPT]),
        # Of unknown origin
        ([RUST],),
    ],
)
def test_race_is_ours(stacks):
    assert len(log.splats(report(*stacks))) == 1


@pytest.mark.parametrize(
    "stacks",
    [
        ([TICK], [TICK]),
        ([TREE], [TREE, RUST]),
        ([TICK, INTERRUPT, RUST], [TICK, INTERRUPT, OTHER_RUST]),
        # The ring is shared with the device, which is elsewhere otherwise.
        ([DEVICE, RUST], [RING, OTHER_RUST]),
        ([TICK, RUST],),
    ],
)
def test_race_is_of_others(stacks):
    assert log.splats(report(*stacks)) == []
    assert len(log.splats(report(*stacks) + report([RUST], [RUST]))) == 1
