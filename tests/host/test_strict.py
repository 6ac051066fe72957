# SPDX-License-Identifier: GPL-2.0
"""iommu.strict=1: every group is translated, and a mapping is gone from the device when the unmap returns."""

import pytest
from harness.assertions import assert_disks_hold_what_is_written, assert_handed_over
from harness.machine import ARM64, C_DRIVER, DEBUG, KCSAN, PREEMPT_RT, RELEASE, runs_on

pytestmark = pytest.mark.parity
flavour = runs_on(RELEASE, DEBUG, KCSAN, PREEMPT_RT, ARM64, C_DRIVER)


@pytest.fixture(scope="module")
def guest(guests):
    return guests.boot(command_line="iommu.strict=1", boot_bypass=False)


def test_every_group_is_dma(guest):
    guest.selftest("group_types.sh DMA")


def test_data_through_disks_compares_equal(guest):
    assert_disks_hold_what_is_written(guest)


def test_no_mapping_is_left_behind(guest):
    """A read adds as many mappings as it removes, once it is over."""
    mark = guest.trace.mark()
    guest.check("dd if=/dev/nvme0n1 of=/dev/null bs=65536 count=64 iflag=direct")
    events = guest.trace.since(mark)
    mapped = sum(event["virt_end"] - event["virt_start"] + 1 for event in events.named("map"))
    unmapped = sum(event["virt_end"] - event["virt_start"] + 1 for event in events.named("unmap"))
    assert mapped >= 64 * 65536, f"{mapped} bytes were mapped for the reads; the device saw\n{events}"
    assert mapped == unmapped, f"{mapped} bytes were mapped and {unmapped} unmapped; the device saw\n{events}"


def test_closed_global_bypass_stays_closed(guest):
    events = guest.trace.since()
    written = [event["bypass"] for event in events.named("set_config")]
    assert not any(written), f"the guest booted with it clear; the device saw\n{events.named('set_config')}"
    assert events.bypass() == 0, f"the device saw\n{events.named('get_config', 'set_config')}"


def test_reboot_leaves_global_bypass_closed(guest):
    mark = guest.trace.mark()
    guest.start("reboot -f")
    guest.wait(timeout=30 * guest.patience)
    assert_handed_over(guest, mark, boot_value=0)
