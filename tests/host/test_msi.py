# SPDX-License-Identifier: GPL-2.0
"""Message signalled interrupts of translated endpoints on arm64: writes to the doorbell of the ITS.

They go through the IOMMU. Either the device lets them pass, and says so with a reserved region, or the kernel maps
the doorbell (software MSI): in the domain of a driver of its own where there is room, in a domain of VFIO's in the
window that the IOMMU's driver names.
"""

import re

import pytest
from harness.assertions import assert_disk_holds, disk_digests
from harness.machine import ARM64, ARM64_ACPI, endpoint_id, runs_on

F_PROBE = 4
# The page of the ITS that endpoints write to
DOORBELL, DOORBELL_SIZE = 0x8090000, 0x1000
SOFTWARE_WINDOW = "0x0000000008000000 0x00000000080fffff msi"
# VIRTIO_IOMMU_MAP_F_WRITE and VIRTIO_IOMMU_MAP_F_MMIO
DOORBELL_FLAGS = 0x2 | 0x4

flavour = runs_on(ARM64, ARM64_ACPI)


@pytest.fixture(scope="module")
def guest(guests):
    """The device declares the doorbell."""
    return guests.boot()


@pytest.fixture(scope="module")
def guest_without_probe(guests):
    """The driver cannot ask the device for reserved regions."""
    guest = guests.start()
    guest.wait_ready(timeout=90)
    guest.mask_feature(F_PROBE)
    guest.load_driver()
    guest.wait_for_disks()
    return guest


def interrupts(guest, slot):
    """How many of an endpoint's interrupts came through the ITS, on all CPUs together."""
    text = guest.check("cat /proc/interrupts")
    lines = [line.split() for line in text.splitlines() if f"ITS-PCI-MSIX-0000:00:{slot:02x}.0" in line]
    return sum(int(word) for words in lines for word in words[1:] if word.isdigit())


def assert_interrupts_arrive(guest):
    disks = (guest.slots.disk, guest.slots.nvme)
    before = [interrupts(guest, slot) for slot in disks]
    digests = disk_digests(guest.selftest("disk_data.sh"))
    assert_disk_holds(guest.disk, digests["vda"])
    assert_disk_holds(guest.nvme, digests["nvme0n1"])
    after = [interrupts(guest, slot) for slot in disks]
    assert all(late > early for early, late in zip(before, after, strict=True)), (
        f"interrupts of the disks: {before}, and after they had worked {after}; the guest has\n"
        + guest.check("cat /proc/interrupts")
    )


def doorbell_maps(events, slot):
    """The MAPs of the doorbell in the domain that an endpoint is attached to in the end."""
    domain = [event["domain"] for event in events.named("attach") if event["endpoint"] == endpoint_id(slot)][-1]
    return [
        event
        for event in events.named("map")
        if event["domain"] == domain
        and event["phys_start"] <= DOORBELL <= event["phys_start"] + event["virt_end"] - event["virt_start"]
    ]


def regions(guest):
    return guest.check("cat /sys/kernel/iommu_groups/*/reserved_regions | sort -u")


def test_declared_window_is_shown(guest):
    guest.selftest("group_types.sh DMA")
    declared = guest.trace.since().named("fill_resv_property")
    assert declared, "the device declared no reserved region"
    assert regions(guest) == guest.flavour.platform.msi_window


def test_declared_window_is_passed_through_unmapped(guest):
    assert_interrupts_arrive(guest)
    events = guest.trace.since()
    mapped = [doorbell_maps(events, slot) for slot in (guest.slots.disk, guest.slots.nvme)]
    assert not any(mapped), f"the doorbell was mapped: {mapped}"


def test_software_window_is_shown_where_the_device_declares_none(guest_without_probe):
    guest = guest_without_probe
    guest.selftest("group_types.sh DMA")
    declared = guest.trace.since().named("fill_resv_property")
    assert not declared, f"the driver asked for reserved regions: {declared}"
    assert regions(guest) == SOFTWARE_WINDOW


def test_doorbell_is_mapped_where_the_device_declares_none(guest_without_probe):
    guest = guest_without_probe
    assert_interrupts_arrive(guest)
    events = guest.trace.since()
    for slot in (guest.slots.disk, guest.slots.nvme):
        maps = doorbell_maps(events, slot)
        assert len(maps) == 1, f"the doorbell was mapped for slot {slot} by {maps}; the device saw\n{events}"
        found = maps[0]
        size = found["virt_end"] - found["virt_start"] + 1
        assert (found["phys_start"], size) == (DOORBELL, DOORBELL_SIZE), f"more or less than the doorbell: {found}"
        assert found["flags"] == DOORBELL_FLAGS, f"not for writing to a device: {found}"


def test_no_interrupt_was_refused(guest, guest_without_probe):
    for each in (guest, guest_without_probe):
        faults = each.trace.since().named("report_fault")
        assert not faults, f"refused:\n{faults}"
        unexpected = re.findall(r".*unexpected IRQ.*|.*nobody cared.*", each.console)
        assert not unexpected, unexpected
