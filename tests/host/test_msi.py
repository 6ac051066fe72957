# SPDX-License-Identifier: GPL-2.0
"""Message signalled interrupts of translated endpoints on arm64: writes to the doorbell of the ITS.

They go through the IOMMU. Either the device lets them pass, and says so with a reserved region, or the kernel maps
the doorbell (software MSI): in the domain of a driver of its own where there is room, in a domain of VFIO's in the
window that the IOMMU's driver names.
"""

import re

import pytest
from harness.assertions import GRANULE, assert_disks_hold_what_is_written
from harness.machine import ARM64, ARM64_64K, ARM64_ACPI, endpoint_id, runs_on

F_PROBE = 4
# The page of the ITS that endpoints write to; a page of 64 KiB begins there, too
DOORBELL = 0x8090000
SOFTWARE_WINDOW = (0x8000000, 0x80FFFFF)
# VIRTIO_IOMMU_MAP_F_WRITE and VIRTIO_IOMMU_MAP_F_MMIO
DOORBELL_FLAGS = 0x2 | 0x4

flavour = runs_on(ARM64, ARM64_ACPI, ARM64_64K)


@pytest.fixture(scope="module")
def guest(guests):
    """The device declares the doorbell."""
    return guests.boot()


@pytest.fixture(scope="module")
def guest_without_probe(guests):
    """The driver cannot ask the device for reserved regions."""
    guest = guests.start()
    return guest.boot(without_feature=F_PROBE)


def interrupts(guest, slot):
    """How many of an endpoint's interrupts came through the ITS, on all CPUs together."""
    text = guest.check("cat /proc/interrupts")
    lines = [line.split() for line in text.splitlines() if f"ITS-PCI-MSIX-0000:00:{slot:02x}.0" in line]
    return sum(int(word) for words in lines for word in words[1:] if word.isdigit())


def assert_interrupts_arrive(guest):
    disks = (guest.slots.disk, guest.slots.nvme)
    before = [interrupts(guest, slot) for slot in disks]
    assert_disks_hold_what_is_written(guest)
    after = [interrupts(guest, slot) for slot in disks]
    assert all(late > early for early, late in zip(before, after, strict=True)), (
        f"interrupts of the disks: {before}, and after they had worked {after}; the guest has\n"
        + guest.check("cat /proc/interrupts")
    )


def doorbell_maps(events, expected=GRANULE):
    """The MAPs of the doorbell, each of the size expected, and for writing to a device.

    The kernel maps a granule of the IOMMU's in a domain for DMA of its own, and a page in one of userspace's.
    """
    found = [
        event
        for event in events.named("map")
        if event["phys_start"] <= DOORBELL <= event["phys_start"] + event["virt_end"] - event["virt_start"]
    ]
    for event in found:
        size = event["virt_end"] - event["virt_start"] + 1
        assert (event["phys_start"], size) == (DOORBELL, expected), f"more or less than the doorbell: {event}"
        assert event["flags"] & DOORBELL_FLAGS == DOORBELL_FLAGS, f"not for writing to a device: {event}"
    return found


def domain_of(events, slot):
    """The domain that an endpoint is attached to in the end."""
    return [event["domain"] for event in events.named("attach") if event["endpoint"] == endpoint_id(slot)][-1]


def regions(guest):
    return guest.check("cat /sys/kernel/iommu_groups/*/reserved_regions | sort -u")


def test_declared_window_is_shown(guest):
    guest.selftest("group_types.sh DMA")
    declared = guest.trace.since().named("fill_resv_property")
    assert declared, "the device declared no reserved region"
    assert regions(guest) == guest.flavour.platform.msi_window


def test_declared_window_is_passed_through_unmapped(guest):
    assert_interrupts_arrive(guest)
    # VFIO's own container of type 1 gives such a domain no means to prepare a message: the core says EOPNOTSUPP.
    guest.give_edu_to("vfio-pci")
    guest.selftest(f"vfio_msi iommufd {guest.edu}")
    mapped = doorbell_maps(guest.trace.since())
    assert not mapped, f"the doorbell was mapped: {mapped}"


def test_software_window_is_shown_where_the_device_declares_none(guest_without_probe):
    guest = guest_without_probe
    guest.selftest("group_types.sh DMA")
    declared = guest.trace.since().named("fill_resv_property")
    assert not declared, f"the driver asked for reserved regions: {declared}"
    assert regions(guest) == "{:#018x} {:#018x} msi".format(*SOFTWARE_WINDOW)


def test_doorbell_is_mapped_where_the_device_declares_none(guest_without_probe):
    guest = guest_without_probe
    assert_interrupts_arrive(guest)
    events = guest.trace.since()
    domains = [event["domain"] for event in doorbell_maps(events)]
    for slot in (guest.slots.disk, guest.slots.nvme):
        times = domains.count(domain_of(events, slot))
        assert times == 1, f"for slot {slot} the doorbell was mapped {times} times; the device saw\n{events}"


def test_doorbell_of_an_assigned_device_is_in_the_software_window(guest_without_probe):
    guest = guest_without_probe
    guest.give_edu_to("vfio-pci")
    first, last = SOFTWARE_WINDOW
    for interface in ("type1", "iommufd"):
        mark = guest.trace.mark()
        guest.selftest(f"vfio_msi {interface} {guest.edu}")
        maps = doorbell_maps(guest.trace.since(mark), expected=guest.flavour.page_size)
        assert maps, f"{interface}: not mapped; the device saw\n{guest.trace.since(mark)}"
        outside = [str(event) for event in maps if not first <= event["virt_start"] <= event["virt_end"] <= last]
        assert not outside, f"{interface}: the doorbell was mapped outside of the window: {outside}"


def test_no_interrupt_was_refused(guest, guest_without_probe):
    for each in (guest, guest_without_probe):
        faults = each.trace.since().named("report_fault")
        assert not faults, f"refused:\n{faults}"
        unexpected = re.findall(r".*unexpected IRQ.*|.*nobody cared.*", each.console)
        assert not unexpected, unexpected
