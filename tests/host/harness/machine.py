# SPDX-License-Identifier: GPL-2.0
"""The virtual machines of the tests: a virtio-iommu, and behind it a disk, an NVMe drive and an edu device."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import qemu
from common import ToolError

from harness import images
from harness.agent import AgentGuest
from harness.trace import IOMMU_EVENTS

# Where the driver is a module: this project's, or for comparison the kernel's own, virtio-iommu
DRIVER = os.environ.get("VIOMMU_DRIVER", "virtio_iommu")

VIRTIO_ID_IOMMU = "0x0017"
F_BYPASS_CONFIG = 6

# This IOMMU does not remap interrupts; VFIO and iommufd want to be told that this is known.
UNSAFE_INTERRUPTS = "vfio_iommu_type1.allow_unsafe_interrupts=1 iommufd.allow_unsafe_interrupts=1"


@dataclass(frozen=True)
class Platform:
    """What the machines of an architecture have in common."""

    # The type of a group when the command line says nothing
    default_type: str
    # The window for interrupts that the machine declares as a reserved region, with its type as sysfs shows it
    msi_window: str
    arguments: tuple = ()
    # For ACPI where devicetree is the rule
    acpi_words: str = ""
    acpi_arguments: tuple = ()


PLATFORMS = {
    "x86_64": Platform(
        default_type="DMA-FQ",
        msi_window="0x00000000fee00000 0x00000000feefffff msi",
        # With five-level page tables, KASAN takes valid addresses for wild ones in an interrupt that hits the moment
        # when identify_cpu() of the kernel has cleared the boot CPU's features to find them out again.
        arguments=("-cpu", "max,la57=off"),
    ),
    "arm64": Platform(
        default_type="DMA",
        # The doorbell of the ITS
        msi_window="0x0000000008090000 0x000000000809ffff msi",
        acpi_words="acpi=force",
        acpi_arguments=("-bios", qemu.UEFI["arm64"]),
    ),
}


@dataclass(frozen=True)
class Slots:
    """Where the devices are on the root bus."""

    iommu: int = 2
    disk: int = 3
    nvme: int | None = 4
    edu: int | None = 5
    # How many edu devices are further functions of the disk's slot, and so in its group
    beside_disk: int = 0

    @property
    def of_endpoints(self):
        """Where the endpoints are that the tests work with."""
        return [slot for slot in (self.disk, self.nvme, self.edu) if slot is not None]

    @property
    def endpoints(self):
        """The endpoints that the tests work with, as QEMU's trace names them."""
        return [short_name(slot) for slot in self.of_endpoints]


IOMMU_FIRST = Slots()
# What works without MSI. edu insists on it, and QEMU's NVMe drive now and then leaves its interrupt pin raised.
WITHOUT_MSI = Slots(nvme=None, edu=None)
# Several endpoints in one group, and so in one domain
SHARED = Slots(beside_disk=2)
IOMMU_LAST = Slots(iommu=0x10, disk=2, nvme=3, edu=4)


def short_name(slot):
    """As QEMU's trace names the device in a slot."""
    return f"00:{slot:02x}.0"


def endpoint_id(slot):
    """As the virtio-iommu names the device in a slot."""
    return slot << 3


@dataclass(frozen=True)
class Flavour:
    """A kernel to run the tests on."""

    name: str
    variant: str = ""
    # Stretches the time-outs
    patience: float = 1
    memory: int = 1024
    arch: str = "x86_64"
    # On arm64: firmware with ACPI, not a devicetree
    acpi: bool = False
    page_size: int = 4096
    # Runs only in `make test-all`, or when it is asked for by its name
    long: bool = False
    # Which of the modules of a kernel that has several
    driver: str = DRIVER

    @property
    def kernel(self):
        return images.kernel(self.variant, self.arch)

    @property
    def module(self):
        """The module with the driver, or None if it is built in."""
        return self.driver if images.setting("CONFIG_VIRTIO_IOMMU_RUST", self.variant, self.arch) == "m" else None

    @property
    def platform(self):
        return PLATFORMS[self.arch]


RELEASE = Flavour("release")
PASSTHROUGH = Flavour("passthrough", variant="passthrough")
MODULE = Flavour("module", variant="module")
DEBUG = Flavour("debug", variant="debug", patience=5, memory=2048, long=True)
# Detects data races
KCSAN = Flavour("kcsan", variant="kcsan", patience=5, long=True)
# Spinlocks sleep, interrupts are threads
PREEMPT_RT = Flavour("preempt-rt", variant="preempt_rt", patience=5, long=True)
# Has drivers for devices of ordinary machines
MACHINES = Flavour("machines", variant="machines", long=True)
# Swaps, and hibernates
HIBERNATE = Flavour("hibernate", variant="hibernate", long=True)
# The driver is a module in this kernel.
ARM64 = Flavour("arm64", arch="arm64", patience=2)
ARM64_ACPI = replace(ARM64, name="arm64-acpi", acpi=True)
# The device's granule is smaller than the page.
ARM64_64K = replace(ARM64, name="arm64-64k", variant="64k", page_size=65536, long=True)
# The kernel's own driver, to compare with
C_DRIVER = Flavour("c", variant="module", driver="virtio-iommu", long=True)
MACHINES_C = replace(MACHINES, name="machines-c", driver=C_DRIVER.driver)


def qemu_version(arch):
    """What the QEMU that emulates an architecture says of itself; a tool's error if it is not there."""
    try:
        return qemu.version(arch)
    except ToolError as error:
        raise pytest.UsageError(str(error)) from None


def runs_on(*flavours):
    """The fixture `flavour` of a module whose tests run on these."""

    @pytest.fixture(scope="module", params=flavours, ids=lambda flavour: flavour.name)
    def flavour(request):
        return request.param

    return flavour


class Machine(AgentGuest):
    """A guest on one flavour of the kernel. `parameters` are those of the driver, `iommu` properties of the
    device; `devices` come on top."""

    def __init__(
        self,
        directory,
        flavour,
        *,
        command_line="",
        parameters=None,
        boot_bypass=True,
        slots=IOMMU_FIRST,
        regions=(),
        disk=None,
        nvme_disk=None,
        files=None,
        traced=(),
        reboots=False,
        endpoints_wait=120,
        memory=None,
        iommu=None,
        devices=(),
        extra=(),
    ):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.flavour, self.slots = flavour, slots
        self.parameters = [f"{name}={value}" for name, value in (parameters or {}).items()]
        files = dict(files or {})
        platform = flavour.platform
        arguments = (*platform.arguments, *extra)
        if flavour.acpi:
            command_line += f" {platform.acpi_words}"
            arguments = (*arguments, *platform.acpi_arguments)
        if regions:
            # The machine declares one of its own for its MSI controller, and then takes no others.
            assert slots.edu is None and slots.nvme is None
            arguments = (*arguments, "-machine", "its=off")
        if flavour.module:
            files |= images.modules(flavour.variant, flavour.arch)
            # The endpoints wait for the driver that long, in seconds.
            command_line += f" deferred_probe_timeout={endpoints_wait}"
        else:
            command_line += "".join(f" virtio_iommu.{parameter}" for parameter in self.parameters)
        # As the guest names them
        self.disks = {"vda": disk or qemu.disk_image(directory / "disk.img")}
        first = qemu.virtio_blk(self.disks["vda"], addr=slots.disk, multifunction=bool(slots.beside_disk))
        others = [qemu.edu(addr=f"{slots.disk:x}.{function}") for function in range(1, slots.beside_disk + 1)]
        devices = [first, *others, *devices]
        if slots.nvme is not None:
            self.disks["nvme0n1"] = nvme_disk or qemu.disk_image(directory / "nvme.img")
            devices.append(qemu.nvme(self.disks["nvme0n1"], addr=slots.nvme))
        if slots.edu is not None:
            devices.append(qemu.edu(addr=slots.edu))
        iommu = {"boot_bypass": boot_bypass, "regions": regions, "addr": slots.iommu} | (iommu or {})
        super().__init__(
            directory,
            flavour.kernel,
            images.ram_disk(directory / "initramfs", files, flavour.arch),
            cmdline=f"{UNSAFE_INTERRUPTS} {command_line}",
            devices=[qemu.iommu(arch=flavour.arch, **iommu), *devices],
            mem=memory or flavour.memory,
            patience=flavour.patience,
            traced=(*IOMMU_EVENTS, *traced),
            reboots=reboots,
            extra=arguments,
            arch=flavour.arch,
        )

    def boot(self, without_feature=None):
        """Wait until the guest takes commands, its driver is loaded and its disks are there.

        The driver does not see the feature with that number. That is for flavours whose driver is a module.
        """
        self.wait_ready(timeout=90)
        if without_feature is not None:
            self.mask_feature(without_feature)
        if self.flavour.module:
            self.load_driver()
        self.wait_for_disks()
        return self

    def mask_feature(self, bit):
        """Hide a feature of the IOMMU from the driver, a module that is not loaded yet."""
        self.check(
            f"for device in $(grep -l {VIRTIO_ID_IOMMU} /sys/bus/virtio/devices/*/device); do"
            "  name=$(basename $(dirname $device));"
            f"  echo {bit} > /sys/kernel/debug/virtio/$name/filter_feature_add || exit 1;"
            "done"
        )

    def load_driver(self):
        self.check(f"insmod /lib/{self.flavour.module}.ko {' '.join(self.parameters)}")

    def wait_for_disks(self):
        self.wait_until(" && ".join(f"[ -b /dev/{name} ]" for name in self.disks), timeout=60)

    @property
    def input_range(self):
        """The addresses that the device translates, inclusive, as the driver has read them."""
        config = self.trace.since().named("get_config")[-1]
        return tuple(int(number, 0) for number in re.findall(r"input range (?:start|end)=(\w+)", config.text))

    def group_types(self):
        """The types of all groups, in the order of their numbers."""
        return self.check("cat /sys/kernel/iommu_groups/*/type").split()

    @property
    def edu(self):
        """The edu device, as the guest names it."""
        return f"0000:00:{self.slots.edu:02x}.0"

    def give_edu_to(self, driver):
        """Bind the edu device to a driver; returns its name."""
        return self.give(self.edu, driver)

    def give(self, bdf, driver):
        """Bind a device to a driver; returns its name."""
        device = f"/sys/bus/pci/devices/{bdf}"
        self.check(
            f"[ ! -e {device}/driver ] || echo {bdf} > {device}/driver/unbind;"
            f"echo {driver} > {device}/driver_override && echo {bdf} > /sys/bus/pci/drivers_probe"
            f" && [ -e {device}/driver ]"
        )
        return bdf
