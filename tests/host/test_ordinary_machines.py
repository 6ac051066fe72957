# SPDX-License-Identifier: GPL-2.0
"""Machines that work without an IOMMU driver, and have to work with one."""

import pytest
import qemu
from harness import images, parity
from harness.agent import SELFTESTS
from harness.load import MappingLoad
from harness.machine import C_DRIVER, DEBUG, MODULE, RELEASE, endpoint_id, runs_on

pytestmark = [pytest.mark.lifecycle, pytest.mark.parity]
flavour = runs_on(RELEASE, MODULE, DEBUG, C_DRIVER)

# With the disk of the machine itself
DISKS = ("vda", "vdb")
# What edu_dma says when no byte arrived
BLOCKED = 2
MODES = {"lazy": "", "strict": "iommu.strict=1", "identity": "iommu.passthrough=1"}


def behind_a_bridge(directory):
    """A disk and an edu device behind a conventional PCI bridge. Their DMA bears the bridge's id."""
    image = qemu.disk_image(directory / "bridged.img")
    return [
        qemu.device("pcie-root-port", id="bridge_port", chassis=9, slot=9, addr="0x10"),
        qemu.device("pcie-pci-bridge", id="bridge", bus="bridge_port"),
        qemu.virtio_blk(image, "bridged", bus="bridge", addr="1"),
        qemu.edu(bus="bridge", addr="2"),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_conventional_bridge(guests, tmp_path, mode):
    """An id that the device does not know is left out: the device sees that of the bridge alone."""
    guest = guests.boot(command_line=MODES[mode], devices=behind_a_bridge(tmp_path))
    guest.wait_until("[ -b /dev/vdb ]")
    for name in DISKS:
        guest.check(f"disk-test /dev/{name} 1")
    device = guest.check("basename $(dirname $(ls -d /sys/bus/pci/devices/*/virtio*/block/vdb | sed 's,/virtio.*,,')/x)")
    group = guest.check(f"readlink -f /sys/bus/pci/devices/{device}/iommu_group")
    devices = guest.check(f"ls {group}/devices").split()
    assert len(devices) >= 2, f"the disk behind the bridge is alone in its group: {devices}"
    edu = next(name for name in devices if "1234" in guest.check(f"cat /sys/bus/pci/devices/{name}/vendor"))
    result = guest.run(f"{SELFTESTS}/edu_dma {edu} physical")
    expected = 0 if mode == "identity" else BLOCKED
    assert result.status == expected, f"status {result.status}: {result.output}"


@pytest.mark.parametrize("mode", ["lazy", "identity", "swiotlb"])
def test_iommu_behind_itself(guests, mode):
    """The rings of the device are where its own translation has them, also when the global bypass is closed."""
    words = "swiotlb=force" if mode == "swiotlb" else MODES[mode]
    guest = guests.boot(command_line=words, iommu={"iommu__platform": True})
    guest.check("disk-test /dev/vda 1")
    events = guest.trace.since()
    if guest.flavour != C_DRIVER:
        assert events.bypass() == 0, f"the global bypass stays open:\n{guest.check('dmesg | grep -i iommu')}"
    own = endpoint_id(guest.slots.iommu)
    assert not [event for event in events.named("report_fault") if event["endpoint"] == own]


@parity.c_driver("does not come back from a suspend")
def test_iommu_behind_itself_suspends(guests):
    guest = guests.boot(iommu={"iommu__platform": True})
    guest.check("echo devices > /sys/power/pm_test; echo mem > /sys/power/state", timeout=60)
    guest.check("disk-test /dev/vda 1")
    assert guest.trace.since().bypass() == 0


NVME_DRIVES, NVME_SLOT = 8, 8


def test_drivers_that_probe_asynchronously(guests, tmp_path):
    """The core leaves out a device that a driver just refuses, for lack of an IOMMU, when this is registered."""
    slots = range(NVME_SLOT, NVME_SLOT + NVME_DRIVES)
    images_of = {slot: qemu.disk_image(tmp_path / f"nvme{slot}", mib=1) for slot in slots}
    drives = [qemu.nvme(image, f"drive{slot}", addr=slot) for slot, image in images_of.items()]
    guest = guests.boot(command_line="driver_async_probe=*", devices=drives)
    guest.wait_until(f"[ $(ls -d /sys/block/nvme* | wc -l) = {1 + NVME_DRIVES} ]", timeout=60)
    for number in range(1 + NVME_DRIVES):
        guest.check(f"dd if=/dev/nvme{number}n1 of=/dev/null bs=64k count=4 iflag=direct")
    iommu = f"0000:00:{guest.slots.iommu:02x}.0"
    outside = guest.check(
        "for device in /sys/bus/pci/devices/*; do"
        f"  [ ${{device##*/}} = {iommu} ] || [ -e $device/iommu_group ] || echo ${{device##*/}}; done"
    ).split()
    if guest.flavour != C_DRIVER:
        named = guest.run("dmesg | grep 'global bypass stays open'").output
        assert guest.trace.since().bypass() == bool(outside), f"without a group: {outside}; it says {named}"
        assert not outside or any(name in named for name in outside), f"without a group: {outside}; it says {named}"


RINGS = {"packed": True, "in_order": True, "event_idx": False, "indirect_desc": False}


@pytest.mark.parametrize("feature", RINGS)
def test_rings(guests, feature):
    """Each form that a ring can have, beside the usual one."""
    if not qemu.has_property("virtio-iommu-pci", feature):
        pytest.skip(f"this QEMU's virtio-iommu-pci has no {feature}")
    guest = guests.boot(iommu={feature.replace("_", "__"): RINGS[feature]})
    guest.check("disk-test /dev/vda 1")
    result = guest.run(f"{SELFTESTS}/edu_dma {guest.edu} physical")
    assert result.status == BLOCKED, f"status {result.status}: {result.output}"


VIRTIO_F_RING_PACKED = 34
# The smallest that there is, in slots of 2 KiB, for all devices but the edu
BOUNCE_BUFFERS, BOUNCE_SLOTS, BOUNCE_SLOT_SIZE = "iommu.passthrough=1 swiotlb=512,force", 512, 2048
READERS = BOUNCE_SLOTS + 128


def limit_nvme_drive(guest, requests_per_second):
    limits = dict.fromkeys(("bps", "bps__rd", "bps__wr", "iops__rd", "iops__wr"), 0)
    guest.qmp("block_set_io_throttle", device="nvme", iops=requests_per_second, **limits)


@parity.c_driver("fails the mapping")
def test_packed_ring_whose_buffers_cannot_be_mapped_for_a_moment(guests):
    """The core's -EIO of that, while a slow drive holds all bounce buffers: the request is late, and nothing else."""
    if not qemu.has_property("virtio-iommu-pci", "packed"):
        pytest.skip("this QEMU's virtio-iommu-pci has no packed")
    guest = guests.boot(
        command_line=BOUNCE_BUFFERS,
        iommu={"iommu__platform": True, "packed": True},
        files=images.dma_map_benchmark(),
    )
    iommu = f"0000:00:{guest.slots.iommu:02x}.0"
    features = guest.check(f"cat /sys/bus/pci/devices/{iommu}/virtio*/features")
    assert features[VIRTIO_F_RING_PACKED] == "1", f"not packed: {features}"
    guest.check(f"echo DMA > /sys/bus/pci/devices/{guest.edu}/iommu_group/type")
    with MappingLoad(guest):
        limit_nvme_drive(guest, 1)
        read = f"dd if=/dev/nvme0n1 of=/dev/null bs={BOUNCE_SLOT_SIZE} count=1 iflag=direct || echo >> /tmp/failed"
        guest.check(f"for i in $(seq {READERS}); do ({read}; echo >> /tmp/over) > /dev/null 2>&1 & done", timeout=120)
        guest.wait_until(f"dmesg | grep -q '{iommu}: swiotlb buffer is full'", timeout=60)
        limit_nvme_drive(guest, 0)
        guest.wait_until(f"[ $(cat /tmp/over | wc -l) = {READERS} ]", timeout=120)
        guest.check("[ ! -e /tmp/failed ]")
        guest.check("pidof dma_map_benchmark || { cat /tmp/benchmark.said; exit 1; }")
    if guest.flavour != C_DRIVER:
        assert "refused 0" in guest.check("cat /sys/kernel/debug/virtio_iommu-*/stats")
    for name in guest.disks:
        guest.check(f"disk-test /dev/{name} 1")
