# SPDX-License-Identifier: GPL-2.0
"""The kernel's own selftests of VFIO, on an edu device: each IOMMU mode that they know; pages of 4K, 2M and 1G."""

import pytest
from harness import images, tap
from harness.agent import SELFTESTS
from harness.assertions import without
from harness.machine import C_DRIVER, MODULE, runs_on

pytestmark = pytest.mark.parity
flavour = runs_on(MODULE, C_DRIVER)

# How many tests of each have to pass at least, so that a run of nothing does not count
PROGRAMS = {
    "vfio_dma_mapping_test": 30,
    "vfio_dma_mapping_mmio_test": 15,
    "vfio_iommufd_setup_test": 6,
    "vfio_pci_device_test": 3,
}
# QEMU's edu cannot be reset, and has MSI, but not MSI-X.
SKIPPED = {"vfio_pci_device_test.reset", "vfio_pci_irq_test.msix.enable_trigger_disable"}
# What it takes to find a free page of 1 GiB
MEMORY_MIB = 5120
HUGE_PAGES = "hugepagesz=1G hugepages=1 hugepagesz=2M hugepages=4"
MSI_REGION = (0xFEE00000, 0xFEEFFFFF)


@pytest.fixture(scope="module")
def guest(guests):
    guest = guests.boot(command_line=HUGE_PAGES, memory=MEMORY_MIB, files=images.vfio_selftests())
    guest.give_edu_to("vfio-pci")
    return guest


@pytest.mark.parametrize("program", PROGRAMS)
def test_vfio_selftest(guest, program):
    result = guest.run(f"/selftests/vfio/{program} {guest.edu}", timeout=150)
    report = tap.parse(result.output)
    assert report.passed, f"status {result.status}:\n{result.output}"
    skipped = {case.name for case in report.cases if case.directive == "SKIP"}
    assert skipped <= SKIPPED, f"skipped: {skipped}:\n{result.output}"
    passed = len(report.cases) - len(skipped)
    assert passed >= PROGRAMS[program], f"only {passed} tests passed:\n{result.output}"


def test_page_sizes_that_userspace_is_shown(guest):
    """QEMU's device has all from 4 KiB on."""
    assert int(guest.check(f"{SELFTESTS}/vfio_ranges page-sizes {guest.edu}"), 16) == 2**64 - 4096


@pytest.mark.parametrize("interface", ["type1", "iommufd"])
def test_addresses_that_userspace_may_map(guest, interface):
    """All of them, except what sysfs shows as reserved."""
    shown = guest.check(f"cat /sys/bus/pci/devices/{guest.edu}/iommu_group/reserved_regions")
    assert shown == "{:#018x} {:#018x} msi".format(*MSI_REGION), shown
    lines = guest.check(f"{SELFTESTS}/vfio_ranges {interface} {guest.edu}").splitlines()
    ranges = [tuple(int(number, 16) for number in line.split()) for line in lines]
    first, last = guest.input_range
    assert ranges == without(first, last, [MSI_REGION]), f"of {first:#x}-{last:#x}, userspace may map {lines}"
