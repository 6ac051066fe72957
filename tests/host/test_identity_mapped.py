# SPDX-License-Identifier: GPL-2.0
"""Without VIRTIO_IOMMU_F_BYPASS_CONFIG, an identity domain maps its aperture onto itself, except reserved regions."""

import pytest
from harness import parity
from harness.assertions import assert_disks_hold_what_is_written, assert_identity_mapped, assert_no_leaks
from harness.machine import ARM64, ARM64_64K, C_DRIVER, DEBUG, F_BYPASS_CONFIG, MODULE, runs_on

pytestmark = [pytest.mark.lifecycle, pytest.mark.parity]
flavour = runs_on(MODULE, DEBUG, ARM64, C_DRIVER, ARM64_64K)


@pytest.fixture(scope="module")
def guest(guests):
    guest = guests.start(command_line="iommu.passthrough=1", boot_bypass=False)
    return guest.boot(without_feature=F_BYPASS_CONFIG)


def test_every_group_is_identity(guest):
    guest.selftest("group_types.sh identity")


def test_maps_cover_the_aperture_except_reserved_regions(guest):
    assert_identity_mapped(guest)


def test_no_endpoint_is_in_a_bypass_domain(guest):
    events = guest.trace.since()
    spaces = events.address_spaces()
    bypassed = [device for device in guest.slots.endpoints if not spaces[device]]
    assert not bypassed, f"not translated: {bypassed}; the device saw\n{events.named('switch_address_space')}"


def test_global_bypass_field_is_left_alone(guest):
    written = guest.trace.since().named("set_config")
    assert not written, f"without the feature there is no such field; the device saw\n{written}"


def test_data_through_disks_compares_equal(guest):
    assert_disks_hold_what_is_written(guest)


@parity.c_driver("names an endpoint number in a fault, not the device")
def test_physical_dma_arrives_until_the_group_is_translated(guest):
    guest.selftest("isolation.sh")
    assert_no_leaks(guest)
