# SPDX-License-Identifier: GPL-2.0
"""What several tests assert."""

import hashlib
import re

from harness.machine import endpoint_id, short_name
from harness.trace import Events

# As disk_data.sh writes it
PATTERN_BYTES = 1 << 20

# Of QEMU's device
GRANULE = 0x1000
# VIRTIO_IOMMU_MAP_F_READ and VIRTIO_IOMMU_MAP_F_WRITE
READ_AND_WRITE = 0x1 | 0x2

# kmemleak takes an object for leaked only when it is older than that.
KMEMLEAK_MINIMUM_AGE_SECONDS = 5


def assert_no_leaks(guest):
    """kmemleak, in a kernel that has it, finds no lost memory."""
    if guest.run("test -e /sys/kernel/debug/kmemleak").status:
        return
    scan = "echo scan > /sys/kernel/debug/kmemleak"
    command = f"{scan}; sleep {KMEMLEAK_MINIMUM_AGE_SECONDS}; {scan}; cat /sys/kernel/debug/kmemleak"
    leaks = guest.check(command, timeout=120)
    assert not leaks, f"kmemleak found:\n{leaks}"


def disk_digests(report):
    """What disk_data.sh says the disks hold: name to SHA-256."""
    found = (re.match(r"# (\w+) holds (\w+)$", comment) for comment in report.comments())
    return {match.group(1): match.group(2) for match in found if match}


def assert_disk_holds(image, digest):
    """The host sees in the image what the guest wrote to the disk."""
    with open(image, "rb") as disk:
        actual = hashlib.sha256(disk.read(PATTERN_BYTES)).hexdigest()
    assert actual == digest, f"{image} holds {actual}, the guest wrote {digest}"


def assert_disks_hold_what_is_written(guest):
    """The guest writes to its disks, reads back, and the host sees the same in their images."""
    digests = disk_digests(guest.selftest("disk_data.sh"))
    assert digests.keys() == guest.disks.keys(), f"{digests.keys()}"
    for name, image in guest.disks.items():
        assert_disk_holds(image, digests[name])


def assert_handed_over(guest, mark, boot_value, taken_again=False):
    """How the driver lets go of the device, from the mark on, for whatever driver comes next.

    While the global bypass field is still clear, each endpoint leaves its domain: a device may keep domains over the
    driver's reset. Then the field gets its boot value, or stays as it was if that is None, and then comes the reset.
    Afterwards the driver touches nothing, unless it has taken the device again.
    """
    events = guest.trace.since(mark)
    # What the guest does when it boots again is another matter.
    events = events[: events.first("system_reset")]
    shown = f"the device saw\n{events.named('attach', 'detach', 'set_config', 'reset')}"
    reset = events.first("reset")
    assert reset is not None, f"the device was not reset; it saw\n{events}"
    written = [event["bypass"] for event in events[:reset].named("set_config")]
    if boot_value:
        assert written and written[-1] == boot_value, f"not restored before the reset; {shown}"
    else:
        assert not any(written), f"set although the guest booted with it clear; {shown}"
    assert boot_value is not None or not written, f"the field was to be left alone; {shown}"
    after = events[reset:].named("set_config")
    assert taken_again or not after, f"written after the reset; {shown}"
    opened = events.first("set_config", bypass=1)
    known = [*guest.trace.since(0, mark), *events[: reset if opened is None else opened]]
    left = Events(known).attached()
    assert not left, f"in domains still (endpoint: domain) when the device was let go: {left}; {shown}"


def assert_untranslated_without_global_bypass(guest):
    """Every endpoint is in a bypass domain of its own right: the global bypass field is clear.

    It is: the IOMMU's own PCI device, which is attached to nothing, would be blocked.
    """
    events = guest.trace.since()
    shown = f"the device saw\n{events.named('attach', 'detach', 'set_config', 'switch_address_space')}"
    assert events.bypass() == 0, shown
    spaces = events.address_spaces()
    assert spaces[short_name(guest.slots.iommu)], f"the field was cleared to no effect: {spaces}; {shown}"
    translated = [device for device in guest.slots.endpoints if spaces.get(device) is not False]
    assert not translated, f"translated: {translated}; {shown}"


def declared_regions(events, slot):
    """The reserved regions that the device declared for an endpoint, inclusive, in its order; there has to be one."""
    found = events.named("fill_resv_property")
    regions = [(event["start"], event["end"]) for event in found if event["dev"] == endpoint_id(slot)]
    assert regions, f"the device declared no reserved region for slot {slot}; it saw\n{events}"
    return regions


def without(first, last, regions):
    """What remains of an inclusive range without the granules that some inclusive regions touch."""
    gaps = []
    for region_first, region_last in sorted(regions):
        region_first, region_last = region_first & -GRANULE, region_last | (GRANULE - 1)
        if region_first > last:
            break
        if region_first > first:
            gaps.append((first, region_first - 1))
        first = max(first, region_last + 1)
    return [*gaps, (first, last)] if first <= last else gaps


def assert_identity_mapped(guest):
    """The domain of each endpoint maps the whole aperture onto itself, except what is reserved."""
    events = guest.trace.since()
    first, last = guest.input_range
    domains = {event["endpoint"]: event["domain"] for event in events.named("attach")}
    for slot in guest.slots.of_endpoints:
        regions = declared_regions(events, slot)
        maps = [event for event in events.named("map") if event["domain"] == domains[endpoint_id(slot)]]
        mapped = sorted((event["virt_start"], event["virt_end"]) for event in maps)
        expected = without(first, last, regions)
        assert mapped == expected, f"slot {slot}: mapped {mapped}, reserved {regions}, input {first:#x}-{last:#x}"
        wrong = [
            str(event)
            for event in maps
            if event["phys_start"] != event["virt_start"] or event["flags"] != READ_AND_WRITE
        ]
        assert not wrong, f"not an identity mapping for reading and writing: {wrong}"
