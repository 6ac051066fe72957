# SPDX-License-Identifier: GPL-2.0
"""iommu.passthrough=1: every group is an identity domain, which is a bypass domain to the device."""

import pytest
from harness import parity
from harness.assertions import (
    assert_disks_hold_what_is_written,
    assert_handed_over,
    assert_no_leaks,
    assert_untranslated_without_global_bypass,
)
from harness.machine import ARM64, ARM64_ACPI, C_DRIVER, DEBUG, RELEASE, runs_on

pytestmark = [pytest.mark.lifecycle, pytest.mark.parity]
flavour = runs_on(RELEASE, DEBUG, ARM64, ARM64_ACPI, C_DRIVER)


@pytest.fixture(scope="module")
def guest(guests):
    return guests.boot(command_line="iommu.passthrough=1", boot_bypass=True, reboots=True)


def test_every_group_is_identity(guest):
    guest.selftest("group_types.sh identity")


@parity.c_driver("leaves the global bypass open")
def test_every_endpoint_is_in_a_bypass_domain(guest):
    assert_untranslated_without_global_bypass(guest)


def test_data_through_disks_compares_equal_without_any_map(guest):
    assert_disks_hold_what_is_written(guest)
    maps = guest.trace.since().named("map", "unmap")
    assert not maps, f"the device saw\n{maps}"


@parity.c_driver("names an endpoint number in a fault, not the device")
def test_physical_dma_arrives_until_the_group_is_translated(guest):
    guest.selftest("isolation.sh")


@parity.c_driver("names an endpoint number in a fault, not the device")
def test_assigned_device_is_translated_while_the_rest_stay_identity(guest):
    mark = guest.trace.mark()
    guest.selftest("assigned_device.sh")
    events = guest.trace.since(mark)
    disk, nvme, edu = guest.slots.endpoints
    switched = {event["device"] for event in events.named("switch_address_space")}
    assert edu in switched, f"{edu} was not switched; the device saw\n{events}"
    others = switched - {edu}
    assert not others & {disk, nvme}, f"{others} were switched too; the device saw\n{events}"
    spaces = guest.trace.since().address_spaces()
    assert not any(spaces[device] for device in (disk, nvme, edu)), f"in the end: {spaces}"


@parity.c_driver("does not touch the global bypass field")
def test_reboot_restores_global_bypass_before_the_reset(guest):
    assert_no_leaks(guest)
    mark = guest.trace.mark()
    guest.start("reboot -f")
    guest.boot()
    assert_handed_over(guest, mark, boot_value=1)


def test_guest_works_again_after_the_reboot(guest):
    guest.selftest("group_types.sh identity")
    guest.selftest("disk_data.sh")
