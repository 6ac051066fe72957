# SPDX-License-Identifier: GPL-2.0
"""Devices that come and go while the guest runs: slots for them, and QMP to use these."""

import time
from dataclasses import dataclass

import qemu

# With it QEMU leaves hot-plug to the root port itself, instead of doing it through ACPI.
NATIVE = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")


@dataclass(frozen=True)
class Port:
    """A root port, with a slot for one device."""

    name: str
    chassis: int
    slot: int

    @property
    def device(self):
        """Arguments for QEMU."""
        return qemu.device("pcie-root-port", id=self.name, chassis=self.chassis, slot=self.chassis, addr=self.slot)

    def bus(self, guest):
        """The number of the bus behind it."""
        return int(guest.check(f"cat /sys/bus/pci/devices/0000:00:{self.slot:02x}.0/secondary_bus_number"))

    def bdf(self, guest):
        """The device in it, as the guest names it."""
        return f"0000:{self.bus(guest):02x}:00.0"

    def endpoint(self, guest):
        """The device in it, as the IOMMU names it."""
        return self.bus(guest) << 8


PORTS = (Port("port0", 1, 8), Port("port1", 2, 9))


def has(guest, name):
    """Whether QEMU has the device."""
    return any(entry["name"] == name for entry in guest.qmp("qom-list", path="/machine/peripheral"))


def plug(guest, port, driver, **properties):
    """Put a device into a port; returns its name. The guest may not know of it yet."""
    name = f"{port.name}-{driver}"
    guest.qmp("device_add", driver=driver, bus=port.name, id=name, **properties)
    return name


def plug_and_wait(guest, port, driver, **properties):
    """Put a device into a port, and wait until the guest has it in an IOMMU group."""
    name = plug(guest, port, driver, **properties)
    guest.wait_until(f"[ -e /sys/bus/pci/devices/{port.bdf(guest)}/iommu_group ]", timeout=40)
    return name


def plug_disk(guest, port, image):
    """Put a virtio disk into a port."""
    node = f"{port.name}-node"
    guest.qmp("blockdev-add", driver="raw", node_name=node, file={"driver": "file", "filename": str(image)})
    return plug_and_wait(guest, port, "virtio-blk-pci", drive=node, iommu__platform=True, disable_legacy="on")


def unplug(guest, port, name, timeout=40):
    """Ask the guest to let a device go, and wait until it has."""
    bdf = port.bdf(guest)
    guest.qmp("device_del", id=name)
    deadline = time.monotonic() + timeout * guest.patience
    while has(guest, name):
        if time.monotonic() > deadline:
            raise qemu.GuestError(f"the guest did not let {name} go in {timeout * guest.patience} s")
        time.sleep(0.05)
    guest.wait_until(f"[ ! -e /sys/bus/pci/devices/{bdf} ]")


def counted(guest):
    """What grows if an endpoint leaves something behind."""
    return guest.check(
        "for what in /sys/kernel/iommu_groups /sys/class/devlink /sys/bus/pci/devices; do"
        "  echo $what $(ls $what | wc -l); done"
    )
