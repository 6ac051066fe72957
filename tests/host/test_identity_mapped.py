# SPDX-License-Identifier: GPL-2.0
"""Without VIRTIO_IOMMU_F_BYPASS_CONFIG, an identity domain maps its aperture onto itself, except reserved regions."""

import pytest
from harness.assertions import assert_disk_holds, assert_no_leaks, disk_digests
from harness.machine import DEBUG, MODULE, endpoint_id

F_BYPASS_CONFIG = 6
VIRTIO_ID_IOMMU = "0x0017"
# Readable and writable
MAP_FLAGS = 3


@pytest.fixture(scope="module", params=[MODULE, DEBUG], ids=lambda flavour: flavour.name)
def flavour(request):
    return request.param


@pytest.fixture(scope="module")
def guest(guests):
    guest = guests.start(command_line="iommu.passthrough=1", boot_bypass=False)
    guest.wait_ready(timeout=90)
    guest.check(
        f"for device in $(grep -l {VIRTIO_ID_IOMMU} /sys/bus/virtio/devices/*/device); do"
        "  name=$(basename $(dirname $device));"
        f"  echo {F_BYPASS_CONFIG} > /sys/kernel/debug/virtio/$name/filter_feature_add || exit 1;"
        "done"
    )
    guest.load_driver()
    guest.wait_for_disks()
    return guest


def without(first, last, regions):
    """What remains of an inclusive range without some inclusive regions."""
    gaps = []
    for region_first, region_last in sorted(regions):
        if region_first > first:
            gaps.append((first, region_first - 1))
        first = max(first, region_last + 1)
    return [*gaps, (first, last)] if first <= last else gaps


def test_every_group_is_identity(guest):
    guest.selftest("group_types.sh identity")


def test_maps_cover_the_aperture_except_reserved_regions(guest):
    events = guest.trace.since()
    config = events.named("get_config")[-1].text
    assert "input range start=0x0 input range end=0xffffffffffffffff" in config, config
    domains = {event["endpoint"]: event["domain"] for event in events.named("attach")}
    for slot in (guest.slots.disk, guest.slots.nvme, guest.slots.edu):
        endpoint = endpoint_id(slot)
        regions = [
            (event["start"], event["end"])
            for event in events.named("fill_resv_property")
            if event["dev"] == endpoint
        ]
        assert regions, f"the device reported no reserved region of endpoint {endpoint}"
        maps = [event for event in events.named("map") if event["domain"] == domains[endpoint]]
        mapped = sorted((event["virt_start"], event["virt_end"]) for event in maps)
        assert mapped == without(0, 2**64 - 1, regions), f"endpoint {endpoint}: mapped {mapped}, reserved {regions}"
        wrong = [
            str(event) for event in maps if event["phys_start"] != event["virt_start"] or event["flags"] != MAP_FLAGS
        ]
        assert not wrong, f"not an identity mapping for reading and writing: {wrong}"


def test_no_endpoint_is_in_a_bypass_domain(guest):
    events = guest.trace.since()
    spaces = events.address_spaces()
    bypassed = [device for device in guest.slots.endpoints if not spaces[device]]
    assert not bypassed, f"not translated: {bypassed}; the device saw\n{events.named('switch_address_space')}"


def test_global_bypass_field_is_left_alone(guest):
    written = guest.trace.since().named("set_config")
    assert not written, f"without the feature there is no such field; the device saw\n{written}"


def test_data_through_disks_compares_equal(guest):
    digests = disk_digests(guest.selftest("disk_data.sh"))
    assert_disk_holds(guest.disk, digests["vda"])
    assert_disk_holds(guest.nvme, digests["nvme0n1"])


def test_physical_dma_arrives_until_the_group_is_translated(guest):
    guest.selftest("isolation.sh")
    assert_no_leaks(guest)
