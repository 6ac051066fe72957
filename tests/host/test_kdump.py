# SPDX-License-Identifier: GPL-2.0
"""After a panic: what becomes of DMA that the old kernel left behind, once the crash kernel has the IOMMU.

The device may have kept the old kernel's domains, or not. bypass.rst says why attaching is not deferred.
"""

import re

import pytest
import qemu
from harness.agent import SELFTESTS
from harness.load import Holder
from harness.machine import MODULE, UNSAFE_INTERRUPTS, endpoint_id, runs_on
from qemu import KERNEL_WORDS, disk_image

pytestmark = pytest.mark.lifecycle
# The driver is a module: there is a time in the crash kernel before it comes.
flavour = runs_on(MODULE)

CRASH_COMMAND_LINE = (
    f"{KERNEL_WORDS['x86_64']} deferred_probe_timeout=120 nr_cpus=1 reset_devices {UNSAFE_INTERRUPTS}"
)
CRASH_KERNEL_MIB, MEMORY_MIB = 192, 448
DUMP_MIB = 32

# Two functions of a slot: one group, hence two endpoint ids in one domain
SLOT = 6
FUNCTIONS = (0, 1)
PAIR = [qemu.edu(addr=f"{SLOT}.0", multifunction=True), qemu.edu(addr=f"{SLOT}.1")]
# Where vfio_hold.c maps its page
HELD = 0x400000000
# An access of an endpoint that is allowed
ALLOWED = "virtio_iommu_translate_out"


def name(function):
    return f"0000:00:{SLOT:02x}.{function}"


def hold(guest):
    """Assign the pair to a process, with a page mapped for both."""
    for function in FUNCTIONS[1:]:
        guest.give(name(function), "vfio-pci")
    Holder(guest, "type1", name(0))


def writes(guest, function):
    """Let an edu write to where the page was mapped.

    Returns the frames of memory that it reached, and how often it was refused.
    """
    endpoint = endpoint_id(SLOT) + function
    mark = guest.trace.mark()
    guest.check(f"{SELFTESTS}/edu_storm {HELD:#x} 1 {name(function)}")
    events = guest.trace.since(mark)
    allowed = [event for event in events.named("translate_out") if event["sid"] == endpoint]
    targets = [re.fullmatch(r"(\w+) -> (\w+) .*", event.text).groups() for event in allowed]
    frames = {int(to, 16) >> 12 for from_, to in targets if int(from_, 16) >> 12 == HELD >> 12}
    refused = [event for event in events.named("report_fault") if event["endpoint"] == endpoint]
    return frames, len(refused)


def panic(guest, words=""):
    """Returns the mark in the trace where it began."""
    guest.check(f"{SELFTESTS}/kexec_boot --panic /boot/kernel /boot/initramfs '{CRASH_COMMAND_LINE} {words}'")
    mark = guest.trace.mark()
    guest.start("echo c > /proc/sysrq-trigger")
    guest.wait_ready(timeout=90)
    assert "elfcorehdr=" in guest.check("cat /proc/cmdline"), "this is not the crash kernel"
    return mark


def assert_dump_is_written(guest, image):
    """The beginning of it: test_shutdown.py writes a whole one."""
    guest.check(f"dd if=/proc/vmcore of=/dev/vda bs=1M count={DUMP_MIB} oflag=direct conv=fsync", timeout=60)
    digest = guest.check(f"head -c {DUMP_MIB << 20} /proc/vmcore | sha256sum").split()[0]
    read = f"dd if=/dev/vda bs=1M count={DUMP_MIB} iflag=direct 2> /dev/null | sha256sum"
    assert guest.check(read).split()[0] == digest, "the disk does not read as /proc/vmcore"
    with open(image, "rb") as file:
        assert file.read(4) == b"\x7fELF", "that is no dump"


@pytest.fixture
def boot(guests):
    def boot_with_room():
        image = disk_image(guests.directory / f"dump{len(guests.all)}.img", mib=2 * DUMP_MIB)
        guest = guests.boot_holding_itself(
            disk=image,
            devices=PAIR,
            memory=MEMORY_MIB,
            command_line=f"crashkernel={CRASH_KERNEL_MIB}M",
            traced=(ALLOWED,),
        )
        return guest, image

    return boot_with_room


def test_endpoints_reach_what_the_crash_kernel_maps_and_nothing_else(boot):
    guest, image = boot()
    hold(guest)
    old = set()
    for function in FUNCTIONS:
        reached, refused = writes(guest, function)
        assert len(reached) == 1 and not refused, f"{name(function)} did not reach the page: {reached}, {refused}"
        old |= reached
    assert len(old) == 1, f"these are not in one domain: {old}"
    before = {event["domain"] for event in guest.trace.since().named("attach")}

    mark = panic(guest)
    for function in FUNCTIONS:
        # The device has kept the domain, or blocks what is in none.
        reached, _ = writes(guest, function)
        assert reached <= old, f"{name(function)} reaches what nobody has mapped: {reached}"

    guest.load_driver()
    guest.wait_for_disks()
    for function in FUNCTIONS:
        reached, refused = writes(guest, function)
        assert not reached and refused, f"{name(function)} goes on: reached {reached}, refused {refused} times"
    after = {event["domain"] for event in guest.trace.since(mark).named("attach")}
    assert after and not after & before, f"domains of the old kernel are used again: {after & before}"

    hold(guest)
    for function in FUNCTIONS:
        reached, refused = writes(guest, function)
        assert len(reached) == 1 and not refused, f"{name(function)} does not reach its own page: {reached}, {refused}"
        assert not reached & old, f"{name(function)} reaches the old kernel's page"
    assert_dump_is_written(guest, image)
    guest.power_off()


def test_crash_kernel_with_identity_domains_writes_its_dump(boot):
    """There a driver maps nothing, so that an attach that waited for this would never come."""
    guest, image = boot()
    hold(guest)
    panic(guest, "iommu.passthrough=1")
    guest.load_driver()
    guest.wait_for_disks()
    guest.selftest("group_types.sh identity")
    assert_dump_is_written(guest, image)
    guest.power_off()
