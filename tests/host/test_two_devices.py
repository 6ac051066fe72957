# SPDX-License-Identifier: GPL-2.0
"""Two virtio-iommu devices in one guest: QEMU's, with disks that are busy, and the fake one, which comes and goes.

QEMU has no second one to offer ("QEMU does not support multiple vIOMMUs for x86 yet").
"""

import pytest
from harness import fake, parity
from harness.load import DiskLoad
from harness.machine import C_DRIVER, DEBUG, MODULE, runs_on

pytestmark = pytest.mark.parity
flavour = runs_on(MODULE, DEBUG, C_DRIVER)

SUITES = "viommu_fake_b*"


@pytest.fixture(scope="module")
def guest(guests):
    return guests.boot(
        command_line=f"kunit.enable=1 kunit.autorun=1 kunit.filter_glob={SUITES} log_buf_len=4M", boot_bypass=True
    )


@pytest.fixture(scope="module")
def meanwhile(guest):
    """What QEMU's device saw while the fake one was there."""
    mark = guest.trace.mark()
    with DiskLoad(guest):
        for module in (*fake.LIBRARIES, "virtio_iommu_fake"):
            guest.check(f"insmod /lib/{module}.ko", timeout=300)
        guest.check("rmmod virtio_iommu_fake")
    return guest.trace.since(mark)


@parity.c_driver("leaves the global bypass open, makes no device links, unmaps in parts, maps over what is mapped")
def test_fake_device_is_driven(guest, meanwhile):
    """Its endpoints, its domain ids and its global bypass field are its own."""
    assert meanwhile
    results = fake.Run(guest.console, None).results
    assert {result.case.suite for result in results} == {"viommu_fake_basic", "viommu_fake_bypass"}
    failed = [str(result) for result in results if result.verdict == "failed"]
    assert not failed, "\n".join(failed)


def test_other_device_is_left_alone(guest, meanwhile):
    touched = meanwhile.named("attach", "detach", "set_config", "reset", "report_fault")
    assert not touched, f"QEMU's device saw\n{touched}"
    guest.selftest("group_types.sh DMA-FQ")
    guest.selftest("disk_data.sh")
