# SPDX-License-Identifier: GPL-2.0
"""The driver as a module: it stays while it is in use, and goes without a trace when it is not."""

import pytest
from harness.assertions import assert_no_leaks, assert_restored_before_reset
from harness.machine import DEBUG, MODULE

MODALIAS = "virtio:d00000017v00001AF4"


@pytest.fixture(scope="module", params=[MODULE, DEBUG], ids=lambda flavour: flavour.name)
def flavour(request):
    return request.param


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


def test_driver_is_not_unbound_while_it_has_endpoints(guest):
    driver = guest.check(f"readlink -f $(dirname $(grep -l {MODALIAS} /sys/bus/virtio/devices/*/modalias))/driver")
    result = guest.run(f"cd {driver} && for device in virtio*; do echo $device > unbind || exit 1; done")
    assert result.status != 0, f"unbound: {result.output}"
    guest.selftest("disk_data.sh")


def test_module_is_not_unloaded_while_it_has_endpoints(guest):
    result = guest.run(f"rmmod {guest.flavour.module}")
    assert result.status != 0, f"unloaded: {result.output}"
    guest.selftest("disk_data.sh")


def test_unload_without_endpoints_restores_global_bypass_before_the_reset(guest):
    guest.check(
        f"for device in /sys/bus/pci/devices/*; do"
        f"  case $device in *:00:{guest.slots.iommu:02x}.0) ;; *) echo 1 > $device/remove;; esac;"
        "done"
    )
    mark = guest.trace.mark()
    guest.check(f"rmmod {guest.flavour.module}")
    assert_restored_before_reset(guest.trace.since(mark), boot_value=1)


def test_module_can_be_loaded_again(guest):
    mark = guest.trace.mark()
    guest.load_driver()
    guest.check("echo 1 > /sys/bus/pci/rescan")
    guest.wait_for_disks()
    guest.selftest("group_types.sh DMA-FQ")
    guest.selftest("disk_data.sh")
    assert guest.trace.since(mark).bypass() == 0
    assert_no_leaks(guest)
