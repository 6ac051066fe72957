# SPDX-License-Identifier: GPL-2.0
"""Hibernation: the image goes to a disk behind the IOMMU and comes from it, in the same machine or in a new one.

The device is let go for the snapshot, taken up again to write it, and let go once more by the kernel that has read
it. What it holds when the image runs again is that kernel's affair, or, in a new machine, another kernel's.
"""

import re

import pytest
import qemu
from harness.agent import SELFTESTS
from harness.assertions import assert_disk_holds, disk_digests
from harness.load import Holder
from harness.machine import F_BYPASS_CONFIG, HIBERNATE, SHARED, runs_on

pytestmark = pytest.mark.lifecycle
flavour = runs_on(HIBERNATE)

SWAP, SWAP_MIB, SWAP_SLOT = "vdb", 512, 9
DISKS = ("vda", "nvme0n1")
# What edu_dma says when no byte arrived
BLOCKED = 2
# What the driver says of a request that the device refuses, and of an endpoint that cannot return
REFUSED = re.compile(r"^.*(?: failed: \w+$|: cannot (?:be|return|attach) |domain is lost).*$", re.M)


@pytest.fixture
def start(guests, tmp_path):
    """Start a guest, or another one with the same disks. One of these is for the image."""
    disks = {name: qemu.disk_image(tmp_path / name) for name in DISKS}
    swap = qemu.virtio_blk(qemu.disk_image(tmp_path / SWAP, mib=SWAP_MIB), SWAP, addr=SWAP_SLOT)

    def started(**options):
        return guests.start(disk=disks["vda"], nvme_disk=disks["nvme0n1"], devices=[swap], **options)

    return started


def prepare(guest, mode):
    """Returns the mark in the trace from where on the hibernation shows."""
    guest.wait_until(f"[ -b /dev/{SWAP} ]")
    # The image holds what is in use, and no cache.
    guest.check(f"mkswap /dev/{SWAP} && swapon /dev/{SWAP} && echo 0 > /sys/power/image_size")
    guest.check(f"echo {mode} > /sys/power/disk")
    return guest.trace.mark()


def hibernate_and_resume(guest, bypass=0):
    """In the same machine; returns what the device saw of it. The driver may know of no global bypass field: None."""
    mark = prepare(guest, "test_resume")
    guest.check("echo disk > /sys/power/state", timeout=180)
    guest.check(f"swapoff /dev/{SWAP}")
    events = guest.trace.since(mark)
    # Let go for the snapshot, and again by what has read it
    before = guest.trace.since(0, mark).attached()
    assert len(events.named("attach")) >= 2 * len(before), f"the device saw\n{events}"
    assert_returned(guest, events, before, bypass)
    print(f"{len(events.named('reset'))} resets, {len(events.named('attach'))} ATTACHs, {len(events.named('map'))} MAPs")
    return events


def assert_returned(guest, events, before, bypass=0):
    """Whenever the device was reset nothing was attached; in the end all endpoints are, and nothing was refused."""
    everything = guest.trace.since()
    for position in (position for position, event in enumerate(everything) if event.name == "reset"):
        left = everything[:position].attached()
        assert not left, f"in domains still (endpoint: domain) at a reset: {left}\n{everything[:position]}"
    after = events[events.last("reset") :]
    assert after.attached().keys() == before.keys(), f"attached {after.attached()}, before {before}; it saw\n{after}"
    assert after.bypass() == bypass, f"the device saw\n{events.named('get_config', 'set_config')}"
    refusals = REFUSED.findall(guest.console)
    assert not refusals, refusals
    assert "refused 0" in guest.check("cat /sys/kernel/debug/virtio_iommu-*/stats")


def assert_disks_work(guest):
    digests = disk_digests(guest.selftest(f"disk_data.sh {' '.join(DISKS)}"))
    for name in DISKS:
        assert_disk_holds(guest.disks[name], digests[name])


def assert_dma(guest, bdf, status):
    result = guest.run(f"{SELFTESTS}/edu_dma {bdf} physical")
    assert result.status == status, f"{bdf}: status {result.status}: {result.output}"


@pytest.mark.parametrize("interface", ["type1", "iommufd"])
def test_assigned_device_reaches_its_memory(start, interface):
    """Its process is frozen, and knows nothing of it."""
    guest = start().boot()
    holder = Holder(guest, interface, guest.edu)
    hibernate_and_resume(guest)
    holder.release()
    assert_disks_work(guest)


def test_group_of_several(start):
    guest = start(slots=SHARED).boot()
    hibernate_and_resume(guest)
    for function in range(1, 1 + guest.slots.beside_disk):
        assert_dma(guest, f"0000:00:{guest.slots.disk:02x}.{function}", BLOCKED)
    assert_disks_work(guest)


def test_identity_mapped_groups(start):
    guest = start(command_line="iommu.passthrough=1", slots=SHARED).boot(without_feature=F_BYPASS_CONFIG)
    events = hibernate_and_resume(guest, bypass=None)
    assert events[events.last("reset") :].named("map"), f"nothing was mapped again; the device saw\n{events}"
    for bdf in (guest.edu, f"0000:00:{guest.slots.disk:02x}.1"):
        assert_dma(guest, bdf, 0)
    assert_disks_work(guest)


@pytest.mark.parametrize("interface", ["type1", "iommufd"])
def test_resumes_in_a_new_machine(start, interface):
    """Its kernel has the IOMMU already when it finds the image."""
    guest = start(slots=SHARED).boot()
    holder = Holder(guest, interface, guest.edu)
    prepare(guest, "shutdown")
    before = guest.trace.since().attached()
    # The agent cannot tell that this is another machine; the host has to be told.
    guest.start("echo disk > /sys/power/state && echo agent ready")
    assert guest.wait(120 * guest.patience) == 0
    left = guest.trace.since().attached()
    assert not left, f"in domains still (endpoint: domain) when the machine went off: {left}"

    second = start(slots=SHARED, command_line="second").boot()
    second.wait_until(f"[ -b /dev/{SWAP} ]")
    second.start(f"cat /sys/class/block/{SWAP}/dev > /sys/power/resume")
    second.wait_ready(timeout=120)
    second.check(":")
    assert second.run("grep -qw second /proc/cmdline").status, "this is not the kernel that was hibernated"
    assert_returned(second, second.trace.since(), before)
    holder.guest = second
    holder.release()
    for function in range(1, 1 + guest.slots.beside_disk):
        assert_dma(second, f"0000:00:{guest.slots.disk:02x}.{function}", BLOCKED)
    assert_disks_work(second)
