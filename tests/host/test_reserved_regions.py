# SPDX-License-Identifier: GPL-2.0
"""Several reserved regions, given to the device in disorder: nothing that is mapped touches one of them.

Only arm64 machines take them. These have no controller for message signalled interrupts then.
"""

import pytest
from harness.assertions import assert_disks_hold_what_is_written, assert_identity_mapped, declared_regions
from harness.machine import ARM64, ARM64_64K, F_BYPASS_CONFIG, WITHOUT_MSI, runs_on

RESERVED, MSI = 0, 1
# Unsorted; they overlap, touch, hold each other, and begin and end within pages. None is in memory.
IN_DISORDER = (
    (0x2000_0800, 0x2000_2FFF, RESERVED),
    (0x1000_0000, 0x1000_0FFF, RESERVED),
    (0x2000_2000, 0x2000_47FF, RESERVED),
    (0xFFFF_FFFF_FFFF_F800, 0xFFFF_FFFF_FFFF_FFFF, RESERVED),
    (0x2000_1000, 0x2000_1FFF, RESERVED),
    (0x0, 0x7FF, RESERVED),
    (0x2000_4800, 0x2000_57FF, RESERVED),
    (0x12_3456_7800, 0x12_3456_78FF, MSI),
    # Where the kernel would put the first mappings of a translated disk
    (0xFFF0_0800, 0xFFFF_EFFF, RESERVED),
    (0x1000_2000, 0x1000_2FFF, RESERVED),
)

flavour = runs_on(ARM64, ARM64_64K)


@pytest.fixture(scope="module")
def guest(guests):
    guest = guests.start(
        command_line="iommu.passthrough=1", boot_bypass=False, regions=IN_DISORDER, slots=WITHOUT_MSI
    )
    return guest.boot(without_feature=F_BYPASS_CONFIG)


def joined(regions):
    """What regions cover, in order."""
    found = []
    for first, last in sorted(regions):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def test_device_declares_them(guest):
    """As they were given, in disorder, or sorted and without overlaps: QEMU 10.0 and later keep them like that."""
    events = guest.trace.since()
    given = [(first, last) for first, last, _ in IN_DISORDER]
    for slot in guest.slots.of_endpoints:
        declared = declared_regions(events, slot)
        assert declared in (given, sorted(declared)), f"neither as given nor sorted: {declared}"
        assert joined(declared) == joined(given), f"{declared}, not {given}"


def test_identity_maps_cover_the_aperture_except_them(guest):
    guest.selftest("group_types.sh identity")
    assert_identity_mapped(guest)


def test_data_through_disks_compares_equal(guest):
    assert_disks_hold_what_is_written(guest)


def test_they_are_shown_in_order(guest):
    guest.selftest("reserved_regions.sh")


def test_translated_mappings_keep_off_them(guest):
    mark = guest.trace.mark()
    guest.selftest("type_switch.sh", timeout=180)
    maps = guest.trace.since(mark).named("map")
    assert any(event["virt_start"] != event["phys_start"] for event in maps), f"no translated mapping in\n{maps}"
    wrong = [
        str(event)
        for event in maps
        for first, last, _ in IN_DISORDER
        if event["virt_start"] <= last and first <= event["virt_end"]
    ]
    assert not wrong, f"reserved addresses were mapped: {wrong}"
