# SPDX-License-Identifier: GPL-2.0
"""The machine goes down, in each of its ways, while disks and dma_map_benchmark map and unmap lazily.

Each way has to end, and what comes next has to work.
"""

import hashlib
import re

import pytest
from harness import images, parity
from harness.agent import SELFTESTS
from harness.load import DiskLoad, MappingLoad
from harness.machine import C_DRIVER, DEBUG, IOMMU_FIRST, MODULE, SHARED, endpoint_id, runs_on
from qemu import KERNEL_WORDS, disk_image

pytestmark = [pytest.mark.lifecycle, pytest.mark.parity]
flavour = runs_on(MODULE, DEBUG, C_DRIVER)

SYSRQ = "echo {} > /proc/sysrq-trigger"
# What an init does: all processes are told to end, then the kernel
ORDERLY = "trap '' TERM; kill -TERM -1; sync; reboot -f"
WAYS = {
    "power-off": "poweroff -f",
    "reboot": ORDERLY,
    "reboot -f": "reboot -f",
    "sysrq-b": SYSRQ.format("b"),
    "sysrq-o": SYSRQ.format("o"),
}
# It takes a second or two.
PATIENCE_SECONDS = 40

NEXT_COMMAND_LINE = f"{KERNEL_WORDS['x86_64']} deferred_probe_timeout=120"
CRASH_COMMAND_LINE = f"{NEXT_COMMAND_LINE} nr_cpus=1 reset_devices"
CRASH_KERNEL_MIB, MEMORY_MIB, DUMP_DISK_MIB = 192, 448, 512


def boot(guests, **options):
    return guests.boot_holding_itself(files=images.dma_map_benchmark(), **options)


def go_down_busy(guest, command):
    """Run the last command under load; returns the mark in the trace where it began."""
    with MappingLoad(guest):
        load = DiskLoad(guest)
        load.__enter__()
        mark = guest.trace.mark()
        guest.start(command)
    return mark


HANGS = "hangs in most tries: the core breaks the device, and the sync spins on it with interrupts off"


@parity.c_driver(HANGS)
@pytest.mark.parametrize("way", WAYS)
def test_ends(guests, way):
    guest = boot(guests)
    mark = go_down_busy(guest, WAYS[way])
    status = guest.wait(PATIENCE_SECONDS * guest.patience)
    assert status == 0, f"QEMU ended with status {status}"
    faults = guest.trace.since(mark).named("report_fault")
    assert not faults, f"DMA was refused on the way:\n{faults}"


@parity.c_driver(HANGS)
def test_kexec_into_the_same_kernel(guests):
    guest = boot(guests)
    go_down_busy(guest, f"{SELFTESTS}/kexec_boot /boot/kernel /boot/initramfs '{NEXT_COMMAND_LINE}'")
    guest.boot()
    guest.selftest("group_types.sh DMA-FQ")
    guest.selftest("disk_data.sh")
    guest.power_off()


@pytest.mark.parametrize("slots", [IOMMU_FIRST, SHARED], ids=["a-domain-each", "several-in-a-domain"])
def test_panic_kernel_writes_its_dump_through_the_iommu(guests, slots):
    """A panic under load. The kernel that takes over has no mapping of the first one's, and needs none.

    The device may keep the first one's domains, with whatever endpoints are in them.
    """
    if guests.flavour == DEBUG:
        pytest.skip("with KASAN in both, a kernel and the one that waits for its panic do not fit the guest's memory")
    dump = disk_image(guests.directory / f"dump{len(guests.all)}.img", mib=DUMP_DISK_MIB)
    guest = boot(guests, disk=dump, slots=slots, memory=MEMORY_MIB, command_line=f"crashkernel={CRASH_KERNEL_MIB}M")
    guest.check(f"{SELFTESTS}/kexec_boot --panic /boot/kernel /boot/initramfs '{CRASH_COMMAND_LINE}'")
    mark = go_down_busy(guest, SYSRQ.format("c"))
    guest.boot()
    assert "elfcorehdr=" in guest.check("cat /proc/cmdline"), "this is not the panic kernel"

    written = guest.check(
        "dd if=/proc/vmcore of=/dev/vda bs=1M oflag=direct conv=fsync 2>&1 && stat -c %s /proc/vmcore &&"
        " sha256sum < /proc/vmcore",
        timeout=180,
    )
    size, digest = int(written.splitlines()[-2]), written.split()[-2]
    assert size > (MEMORY_MIB - CRASH_KERNEL_MIB) << 19, f"the dump has {size} bytes only"
    guest.power_off()
    with open(dump, "rb") as image:
        held = image.read(size)
    assert hashlib.sha256(held).hexdigest() == digest, "the disk does not hold what /proc/vmcore does"
    assert held.startswith(b"\x7fELF") and re.search(rb"OSRELEASE=7\.", held), "that is no dump of Linux"

    events = guest.trace.since(mark)
    again = events[events.first("reset") :]
    attached = again.first("attach", endpoint=endpoint_id(guest.slots.disk))
    assert attached is not None, f"the disk was not attached by the panic kernel; the device saw\n{again}"
    assert not events[: events.first("reset")].named("set_config"), "the panicking kernel opened the bypass"
