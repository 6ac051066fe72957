# SPDX-License-Identifier: GPL-2.0
"""CONFIG_IOMMU_DEFAULT_PASSTHROUGH=y: identity domains without a boot option."""

import pytest
from harness.assertions import (
    assert_disks_hold_what_is_written,
    assert_handed_over,
    assert_untranslated_without_global_bypass,
)
from harness.machine import PASSTHROUGH

pytestmark = pytest.mark.lifecycle


@pytest.fixture(scope="module")
def flavour():
    return PASSTHROUGH


@pytest.fixture(scope="module")
def guest(guests):
    return guests.boot(boot_bypass=False)


def test_every_group_is_identity(guest):
    assert "passthrough" not in guest.check("cat /proc/cmdline")
    guest.selftest("group_types.sh identity")


def test_every_endpoint_is_in_a_bypass_domain(guest):
    assert_untranslated_without_global_bypass(guest)


def test_data_through_disks_compares_equal_without_any_map(guest):
    assert_disks_hold_what_is_written(guest)
    maps = guest.trace.since().named("map", "unmap")
    assert not maps, f"the device saw\n{maps}"


def test_power_off_leaves_global_bypass_closed(guest):
    """The guest booted with it closed."""
    mark = guest.trace.mark()
    guest.power_off()
    assert_handed_over(guest, mark, boot_value=0)
