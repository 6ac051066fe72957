# SPDX-License-Identifier: GPL-2.0
"""Suspend to RAM, up to the point where the machine would sleep (pm_test), and resume.

The device is reset on the way, and forgets all endpoints, domains and mappings, or keeps them: it depends.
"""

import pytest
import qemu
from harness import parity
from harness.agent import SELFTESTS
from harness.assertions import assert_disks_hold_what_is_written, assert_handed_over
from harness.load import Holder
from harness.machine import C_DRIVER, DEBUG, F_BYPASS_CONFIG, MODULE, RELEASE, SHARED, runs_on

pytestmark = [
    pytest.mark.lifecycle,
    pytest.mark.parity,
    parity.c_driver("the guest never comes back: the sync spins on the device that is reset"),
]
flavour = runs_on(RELEASE, DEBUG, C_DRIVER)

# How far it goes: devices are suspended, and then the CPUs, too
LEVELS = ("devices", "core")
# What edu_dma says when no byte arrived
BLOCKED = 2
# Behind a bridge that hides who it is: a device there has its own id, and the bridge's
BRIDGE = [qemu.device("pcie-pci-bridge", id="bridge", addr=8), qemu.edu(bus="bridge", addr=1)]


def suspend(guest, level):
    """Returns the mark in the trace from where on this shows."""
    mark = guest.trace.mark()
    # It stays there for five seconds otherwise.
    guest.check("echo 1 > /sys/module/suspend/parameters/pm_test_delay")
    guest.check(f"echo {level} > /sys/power/pm_test && echo mem > /sys/power/state", timeout=120)
    assert guest.trace.since(mark).first("reset") is not None, f"not reset; the device saw\n{guest.trace.since(mark)}"
    return mark


@pytest.fixture(scope="module")
def guest(guests):
    return guests.boot(boot_bypass=True)


@pytest.fixture(scope="module")
def mark(guest):
    """Where the trace begins that is of a suspend and the resume that followed it."""
    guest.selftest("disk_data.sh")
    return suspend(guest, "core")


@pytest.fixture(scope="module")
def after(guest, mark):
    return guest.trace.since(mark)


def test_device_is_let_go(guest, mark):
    assert_handed_over(guest, mark, boot_value=None, taken_again=True)


def test_endpoints_return_to_their_domains(guest, after):
    reset = after.first("reset")
    again = after[reset:]
    spaces = again.address_spaces()
    untranslated = [device for device in guest.slots.endpoints if not spaces.get(device)]
    assert not untranslated, f"not translated after resume: {untranslated}; the device saw\n{again}"


def test_mappings_return(after):
    mapped = after[after.first("reset") :].named("map")
    assert mapped, f"no mapping was replayed; the device saw\n{after}"


def test_global_bypass_is_cleared_again(after):
    assert after[after.first("reset") :].bypass() == 0, f"the device saw\n{after.named('set_config')}"


def test_disks_work_after_resume(guest, after):
    assert after
    assert_disks_hold_what_is_written(guest)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("interface", ["type1", "iommufd"])
def test_assigned_device_reaches_its_memory_after_resume(guest, interface, level):
    """Its process is frozen, and knows nothing of it."""
    holder = Holder(guest, interface, guest.edu)
    suspend(guest, level)
    holder.release()
    assert_disks_hold_what_is_written(guest)


@pytest.mark.parametrize("level", LEVELS)
def test_group_of_several_works_after_resume(guests, level):
    guest = guests.boot(slots=SHARED)
    group = guest.check(f"ls /sys/bus/pci/devices/0000:00:{guest.slots.disk:02x}.0/iommu_group/devices").split()
    assert len(group) == 1 + guest.slots.beside_disk, f"the disk's group is {group}"
    suspend(guest, level)
    for bdf in group[1:]:
        result = guest.run(f"{SELFTESTS}/edu_dma {bdf} physical")
        assert result.status == BLOCKED, f"{bdf}: status {result.status}: {result.output}"
    assert_disks_hold_what_is_written(guest)


@pytest.mark.parametrize("level", LEVELS)
def test_device_behind_a_bridge_works_after_resume(guests, level):
    guest = guests.boot(devices=BRIDGE)
    bus = int(guest.check("cat /sys/bus/pci/devices/0000:00:08.0/secondary_bus_number"))
    holder = Holder(guest, "type1", f"0000:{bus:02x}:01.0")
    suspend(guest, level)
    holder.release()
    assert_disks_hold_what_is_written(guest)


@pytest.mark.parametrize("level", LEVELS)
def test_identity_mapped_groups_work_after_resume(guests, level):
    # The driver is a module: the feature is masked before it is loaded.
    flavour = MODULE if guests.flavour == RELEASE else guests.flavour
    guest = guests.start(flavour, command_line="iommu.passthrough=1", slots=SHARED)
    guest.boot(without_feature=F_BYPASS_CONFIG)
    mark = suspend(guest, level)
    after = guest.trace.since(mark)
    assert after[after.first("reset") :].named("map"), f"nothing was mapped again; the device saw\n{after}"
    for bdf in (guest.edu, f"0000:00:{guest.slots.disk:02x}.1"):
        result = guest.run(f"{SELFTESTS}/edu_dma {bdf} physical")
        assert result.status == 0, f"{bdf}: status {result.status}: {result.output}"
    assert_disks_hold_what_is_written(guest)
