# SPDX-License-Identifier: GPL-2.0
"""kexec from a kernel with one of the two drivers into one with the other, which gets the device as the first left it.

A device that keeps domains over a driver's reset has those of the first driver still, if that did not detach its
endpoints: the C driver does not.
"""

from dataclasses import replace

import pytest
from harness.agent import SELFTESTS
from harness.assertions import assert_disks_hold_what_is_written
from harness.machine import C_DRIVER, MODULE, SHARED, runs_on
from qemu import KERNEL_WORDS

pytestmark = pytest.mark.lifecycle
flavour = runs_on(MODULE)

C, RUST = C_DRIVER.driver, MODULE.driver
# The command lines that make groups of these types. The C driver may hang at a shutdown with lazy invalidation.
WORDS = {"DMA": "iommu.strict=1", "identity": "iommu.passthrough=1"}


@pytest.mark.parametrize(
    ("first", "before", "second", "after"),
    [
        (C, "DMA", RUST, "DMA"),
        (C, "DMA", RUST, "identity"),
        (C, "identity", RUST, "DMA"),
        (RUST, "DMA", C, "DMA"),
        (RUST, "DMA", RUST, "identity"),
    ],
)
def test_kexec(guests, first, before, second, after):
    old = replace(guests.flavour, driver=first)
    guest = guests.boot_holding_itself(old, command_line=WORDS[before], slots=SHARED)
    guest.selftest(f"group_types.sh {before}")
    assert_disks_hold_what_is_written(guest)

    mark = guest.trace.mark()
    command_line = f"{KERNEL_WORDS['x86_64']} deferred_probe_timeout=120 {WORDS[after]}"
    guest.start(f"{SELFTESTS}/kexec_boot /boot/kernel /boot/initramfs '{command_line}' > /dev/console 2>&1")
    guest.flavour = replace(guests.flavour, driver=second)
    guest.boot()
    guest.selftest(f"group_types.sh {after}")
    assert_disks_hold_what_is_written(guest)
    faults = guest.trace.since(mark).named("report_fault")
    assert not faults, f"DMA was refused:\n{faults}"
    guest.power_off()
