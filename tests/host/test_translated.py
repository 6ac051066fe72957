# SPDX-License-Identifier: GPL-2.0
"""A guest as it boots without options: every group is translated, on x86 with lazy invalidation."""

import pytest
from harness import parity
from harness.assertions import assert_disks_hold_what_is_written, assert_handed_over, assert_no_leaks
from harness.machine import (
    ARM64,
    ARM64_64K,
    ARM64_ACPI,
    C_DRIVER,
    DEBUG,
    KCSAN,
    PREEMPT_RT,
    RELEASE,
    endpoint_id,
    runs_on,
)

pytestmark = pytest.mark.parity
flavour = runs_on(RELEASE, DEBUG, KCSAN, PREEMPT_RT, ARM64, ARM64_ACPI, C_DRIVER, ARM64_64K)


@pytest.fixture(scope="module")
def guest(guests):
    return guests.boot(boot_bypass=True)


def test_every_group_is_of_the_default_type(guest):
    guest.selftest(f"group_types.sh {guest.flavour.platform.default_type}")


def test_device_translates_every_endpoint(guest):
    events = guest.trace.since()
    spaces = events.address_spaces()
    untranslated = [device for device in guest.slots.endpoints if not spaces.get(device)]
    assert not untranslated, f"not translated: {untranslated}; the device saw\n{events.named('switch_address_space')}"


@parity.c_driver("leaves the global bypass open")
def test_global_bypass_is_cleared_once_endpoints_are_attached(guest):
    events = guest.trace.since()
    cleared = events.first("set_config", bypass=0)
    assert cleared is not None, f"the device saw\n{events.named('get_config', 'set_config')}"
    assert events[:cleared].named("get_config")[-1]["bypass"] == 1, "the boot value was not read first"
    attached = {event["endpoint"] for event in events[:cleared].named("attach")}
    expected = {endpoint_id(slot) for slot in (guest.slots.disk, guest.slots.nvme, guest.slots.edu)}
    assert expected <= attached, f"attached before the field was cleared: {attached}, not {expected - attached}"
    assert events.bypass() == 0, f"the device saw\n{events.named('set_config')}"


def test_data_through_disks_compares_equal(guest):
    assert_disks_hold_what_is_written(guest)


def test_reserved_regions_are_shown(guest):
    guest.selftest("reserved_regions.sh")
    regions = guest.check("cat /sys/kernel/iommu_groups/*/reserved_regions | sort -u")
    assert regions == guest.flavour.platform.msi_window, regions


@parity.c_driver("names an endpoint number in a fault, not the device")
def test_dma_to_unmapped_memory_is_stopped_and_reported(guest):
    mark = guest.trace.mark()
    guest.selftest("isolation.sh")
    faults = guest.trace.since(mark).named("report_fault")
    from_edu = [fault for fault in faults if fault["endpoint"] == endpoint_id(guest.slots.edu)]
    assert from_edu, f"no fault of the edu device; the device saw\n{guest.trace.since(mark)}"


def test_group_type_changes_at_run_time(guest):
    mark = guest.trace.mark()
    guest.selftest("type_switch.sh", timeout=180)
    events = guest.trace.since(mark).named("switch_address_space")
    for device in guest.slots.endpoints[:2]:
        states = [bool(event["enabled"]) for event in events if event["device"] == device]
        changes = [state for previous, state in zip([True, *states], states, strict=False) if state != previous]
        assert changes == [False, True], f"{device} was translated {states}, expected off, then on again"


@parity.c_driver("names an endpoint number in a fault, not the device")
def test_assigned_device_reaches_only_what_is_mapped_for_it(guest):
    guest.selftest("assigned_device.sh")


def test_disks_still_work_in_the_end(guest):
    guest.selftest("disk_data.sh")


@parity.c_driver("does not touch the global bypass field")
def test_power_off_restores_global_bypass_before_the_reset(guest):
    assert_no_leaks(guest)
    mark = guest.trace.mark()
    guest.power_off()
    assert_handed_over(guest, mark, boot_value=1)
