# SPDX-License-Identifier: GPL-2.0
"""Endpoints that are plugged and unplugged through QMP while the guest runs and its disks work."""

import pytest
import qemu
from harness import hotplug, parity
from harness.agent import SELFTESTS
from harness.assertions import assert_disk_holds, assert_no_leaks, disk_digests
from harness.hotplug import NATIVE, PORTS
from harness.load import DiskLoad
from harness.machine import C_DRIVER, DEBUG, MODULE, endpoint_id, runs_on

pytestmark = [pytest.mark.lifecycle, pytest.mark.parity]
flavour = runs_on(MODULE, DEBUG, C_DRIVER)

EDU = ("edu", qemu.EDU_REACHES_ALL)
CYCLES = 50
# What edu_dma says when no byte arrived
BLOCKED = 2
# When the device makes and drops a domain
DOMAINS = ("virtio_iommu_get_domain", "virtio_iommu_put_domain")


@pytest.fixture(scope="module", params=["acpi", pytest.param("native", marks=pytest.mark.long)])
def guest(guests, request):
    """With hot-plug through ACPI, and by the root port itself."""
    if request.param == "native" and guests.flavour == DEBUG:
        pytest.skip("lockdep finds a cycle of pciehp's own locks, reset_lock and pci_rescan_remove_lock, and gives up")
    return guests.boot(
        boot_bypass=True,
        devices=[port.device for port in PORTS],
        extra=NATIVE if request.param == "native" else (),
        command_line="pcie_ports=native" if request.param == "native" else "",
        traced=DOMAINS,
    )


@pytest.fixture(scope="module")
def plugged(guest):
    """An edu that came while the disks were busy; with what the device saw of it."""
    mark = guest.trace.mark()
    with DiskLoad(guest):
        name = hotplug.plug_and_wait(guest, PORTS[0], EDU[0], **EDU[1])
    return name, guest.trace.since(mark)


def test_plugged_endpoint_is_attached(guest, plugged):
    endpoint = PORTS[0].endpoint(guest)
    _, events = plugged
    assert events.first("attach", endpoint=endpoint) is not None, f"the device saw\n{events}"
    group = guest.check(f"cat /sys/bus/pci/devices/{PORTS[0].bdf(guest)}/iommu_group/type")
    assert group == "DMA-FQ", f"its group is {group}"


def test_others_work_without_a_fault_meanwhile(guest, plugged):
    _, events = plugged
    ours = {endpoint_id(slot) for slot in (guest.slots.disk, guest.slots.nvme)}
    faults = [str(event) for event in events.named("report_fault") if event["endpoint"] in ours]
    assert not faults, f"DMA of the busy disks was refused: {faults}"


def test_plugged_endpoint_reaches_nothing_unmapped(guest, plugged):
    assert plugged
    mark = guest.trace.mark()
    result = guest.run(f"{SELFTESTS}/edu_dma {PORTS[0].bdf(guest)} physical")
    assert result.status == BLOCKED, f"status {result.status}: {result.output}"
    faults = guest.trace.since(mark).named("report_fault")
    endpoint = PORTS[0].endpoint(guest)
    assert any(fault["endpoint"] == endpoint for fault in faults), f"no fault of endpoint {endpoint}:\n{faults}"


def test_unplugged_endpoint_is_forgotten(guest, plugged):
    name, _ = plugged
    bdf = PORTS[0].bdf(guest)
    group = guest.check(f"basename $(readlink /sys/bus/pci/devices/{bdf}/iommu_group)")
    mark = guest.trace.mark()
    with DiskLoad(guest):
        hotplug.unplug(guest, PORTS[0], name)
    assert not guest.check(f"ls -d /sys/kernel/iommu_groups/{group} /sys/class/devlink/*{bdf} 2> /dev/null; :")
    endpoint = PORTS[0].endpoint(guest)
    events = guest.trace.since(mark)
    # The load comes and goes in the same trace.
    assert events.first("detach", endpoint=endpoint) is not None, f"never detached; the device saw\n{events}"


def test_disk_is_plugged_used_and_unplugged(guest):
    image = qemu.disk_image(guest.directory / "plugged.img")
    with DiskLoad(guest):
        name = hotplug.plug_disk(guest, PORTS[1], image)
        guest.wait_until("[ -b /dev/vdb ]")
        digests = disk_digests(guest.selftest("disk_data.sh vdb"))
        hotplug.unplug(guest, PORTS[1], name)
    assert_disk_holds(image, digests["vdb"])


def test_nothing_is_left_behind_after_50_times(guest):
    port, before = PORTS[0], hotplug.counted(guest)
    bdf = port.bdf(guest)
    mark = guest.trace.mark()
    with DiskLoad(guest):
        for _ in range(CYCLES):
            name = hotplug.plug_and_wait(guest, port, EDU[0], **EDU[1])
            # Powering the slot off is what the guest's user does, and a button press without its five seconds.
            guest.check(
                "for slot in /sys/bus/pci/slots/*; do"
                f"  case $(cat $slot/address) in {bdf[:-2]}) echo 0 > $slot/power;; esac;"
                "done"
            )
            guest.wait_until(f"[ ! -e /sys/bus/pci/devices/{bdf} ]")
            assert not hotplug.has(guest, name), f"{name} is still there"
    after = hotplug.counted(guest)
    assert after == before, f"before\n{before}\nafter\n{after}"
    events = guest.trace.since(mark)
    made, gone = len(events.named("get_domain")), len(events.named("put_domain"))
    assert made and made == gone, f"the device made {made} domains, and dropped {gone}"
    assert_no_leaks(guest)


@parity.c_driver("DMA reaches memory: the global bypass stays open")
def test_endpoint_is_blocked_until_the_kernel_attaches_it(guests):
    """A device is plugged that the kernel does not look for. Its DMA must not arrive before the kernel does."""
    port = PORTS[0]
    guest = guests.boot(boot_bypass=True, devices=[port.device], command_line="acpiphp.disable=1")
    bus = port.bus(guest)
    ecam = guest.check("sed -n 's/^ *\\([0-9a-f]*\\)-.*PCI ECAM 0000.*/\\1/p' /proc/iomem")
    window = guest.check(f"sed -n 's/^ *\\([0-9a-f]*\\)-.*PCI Bus 0000:{bus:02x}$/\\1/p' /proc/iomem").splitlines()
    assert ecam and window, guest.check("cat /proc/iomem")
    config = int(ecam, 16) + (bus << 20)
    hotplug.plug(guest, port, EDU[0], **EDU[1])
    assert guest.run(f"[ -e /sys/bus/pci/devices/{port.bdf(guest)} ]").status, "the kernel knows it already"

    mark = guest.trace.mark()
    result = guest.run(f"{SELFTESTS}/edu_dma {config:x}@{window[0]} physical")
    events = guest.trace.since(mark)
    assert result.status == BLOCKED, f"status {result.status}: {result.output}\n{events}"
    assert events.first("report_fault", endpoint=port.endpoint(guest)) is not None, f"the device saw\n{events}"

    guest.check("echo 1 > /sys/bus/pci/rescan")
    guest.wait_until(f"[ -e /sys/bus/pci/devices/{port.bdf(guest)}/iommu_group ]")
    events = guest.trace.since(mark)
    assert events.first("attach", endpoint=port.endpoint(guest)) is not None, f"the device saw\n{events}"
    result = guest.run(f"{SELFTESTS}/edu_dma {port.bdf(guest)} physical")
    assert result.status == BLOCKED, f"status {result.status}: {result.output}"
