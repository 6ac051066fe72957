# SPDX-License-Identifier: GPL-2.0
"""The driver as a module: it stays while it is in use, and goes without a trace when it is not."""

import pytest
from harness import parity
from harness.assertions import assert_handed_over, assert_no_leaks
from harness.machine import C_DRIVER, DEBUG, MODULE, runs_on

pytestmark = [pytest.mark.lifecycle, pytest.mark.parity]
flavour = runs_on(MODULE, DEBUG, C_DRIVER)

MODALIAS = "virtio:d00000017v00001AF4"
TIMES = 100


@pytest.fixture(scope="module")
def guest(guests):
    guest = guests.start(boot_bypass=True)
    guest.wait_ready(timeout=90)
    guest.check(
        "directory=/lib/modules/$(uname -r) && mkdir -p $directory &&"
        f" cp /lib/{guest.flavour.module}.ko $directory && cd $directory && depmod"
    )
    return guest


def test_alias_of_the_device_loads_the_module(guest):
    """What udev does when the device appears."""
    guest.check(f"grep -q {MODALIAS} /sys/bus/virtio/devices/*/modalias")
    guest.check(f"modprobe {MODALIAS}")
    guest.wait_for_disks()
    guest.selftest("group_types.sh DMA-FQ")


def test_module_is_not_unloaded_while_it_has_endpoints(guest):
    result = guest.run(f"rmmod {guest.flavour.module}")
    assert result.status != 0, f"unloaded: {result.output}"
    guest.selftest("disk_data.sh")


@parity.c_driver("leaves the global bypass field alone: it is never cleared")
def test_unload_without_endpoints_restores_global_bypass_before_the_reset(guest):
    guest.check(
        f"for device in /sys/bus/pci/devices/*; do"
        f"  case $device in *:00:{guest.slots.iommu:02x}.0) ;; *) echo 1 > $device/remove;; esac;"
        "done"
    )
    mark = guest.trace.mark()
    guest.check(f"rmmod {guest.flavour.module}")
    assert_handed_over(guest, mark, boot_value=1)


def test_module_is_loaded_and_unloaded_100_times(guest):
    """Without endpoints; each time the device is taken and given back."""
    mark = guest.trace.mark()
    module = guest.flavour.module
    guest.check(
        f"i=0; while [ $i -lt {TIMES} ]; do insmod /lib/{module}.ko && rmmod {module} || exit 1; i=$((i + 1)); done",
        timeout=200,
    )
    resets = guest.trace.since(mark).named("reset")
    assert len(resets) >= TIMES, f"the device saw {len(resets)} resets"
    assert_no_leaks(guest)


@parity.c_driver("leaves the global bypass open")
def test_module_can_be_loaded_again(guest):
    mark = guest.trace.mark()
    guest.load_driver()
    guest.check("echo 1 > /sys/bus/pci/rescan")
    guest.wait_for_disks()
    guest.selftest("group_types.sh DMA-FQ")
    guest.selftest("disk_data.sh")
    assert guest.trace.since(mark).bypass() == 0
    assert_no_leaks(guest)


@pytest.fixture(scope="module")
def late(guests):
    """A guest whose disks have waited for the driver in vain. They are outside of the IOMMU for good."""
    guest = guests.start(boot_bypass=True, endpoints_wait=1)
    guest.wait_ready(timeout=90)
    guest.wait_for_disks()
    guest.load_driver()
    return guest


def test_driver_that_comes_late_leaves_the_disks_alone(late):
    disk = f"/sys/bus/pci/devices/0000:00:{late.slots.disk:02x}.0"
    late.check(f"[ -e {disk}/driver ] && [ ! -e {disk}/iommu_group ]")
    for name in ("vda", "nvme0n1"):
        late.check(f"disk-test /dev/{name} 1")
    late.check(f"[ -e /sys/bus/pci/devices/{late.edu}/iommu_group ]")


@parity.c_driver("never closes the global bypass, and does not speak of it")
def test_driver_that_comes_late_says_why_the_global_bypass_stays_open(late):
    disk = f"0000:00:{late.slots.disk:02x}.0"
    said = late.check("dmesg | grep 'global bypass stays open'")
    assert disk in said, f"{disk} is not named: {said}"
    assert late.trace.since().bypass() == 1, "the global bypass was closed"


def drivers_outside(guest):
    """The PCI devices that have a driver, but no IOMMU, which does not count itself."""
    return guest.check(
        "for device in /sys/bus/pci/devices/*; do"
        f"  case $device in *:00:{guest.slots.iommu:02x}.0) continue;; esac;"
        "  [ -e $device/driver ] && [ ! -e $device/iommu_group ] && basename $device;"
        "done; true"
    ).split()


@parity.c_driver("never closes the global bypass")
def test_global_bypass_is_closed_when_the_last_device_outside_has_gone(guests):
    """By unbinding its driver, as a user would to have it taken over, or by removing it."""
    guest = guests.start(boot_bypass=True, endpoints_wait=1)
    guest.wait_ready(timeout=90)
    guest.wait_for_disks()
    guest.load_driver()
    mark = guest.trace.mark()
    *others, last = drivers_outside(guest)
    assert others, f"only {last} is outside: this shows nothing"
    for name in others:
        guest.check(f"echo {name} > /sys/bus/pci/devices/{name}/driver/unbind")
        guest.check(f"[ -e /sys/bus/pci/devices/{name}/iommu_group ]")
        changed = guest.trace.since(mark).named("set_config")
        assert not changed, f"changed with {drivers_outside(guest)} outside: {changed}"
    guest.check(f"echo 1 > /sys/bus/pci/devices/{last}/remove")
    assert guest.trace.since(mark).bypass() == 0, f"not closed: {guest.trace.since(mark)}"

    for name in others:
        guest.check(f"echo {name} > /sys/bus/pci/drivers_probe")
    guest.check("echo 1 > /sys/bus/pci/rescan")
    guest.wait_for_disks()
    for name in ("vda", "nvme0n1"):
        guest.check(f"disk-test /dev/{name} 1")
    assert not drivers_outside(guest)


@parity.c_driver("oopses: NULL pointer in iommu_device_unlink, the endpoints are still there")
def test_driver_is_not_unbound_while_it_has_endpoints(guests):
    guest = guests.boot()
    driver = guest.check(f"readlink -f $(dirname $(grep -l {MODALIAS} /sys/bus/virtio/devices/*/modalias))/driver")
    result = guest.run(f"cd {driver} && for device in virtio*; do echo $device > unbind || exit 1; done")
    assert result.status != 0, f"unbound: {result.output}"
    guest.selftest("disk_data.sh")
