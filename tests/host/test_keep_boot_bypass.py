# SPDX-License-Identifier: GPL-2.0
"""keep_boot_bypass: the driver leaves the global bypass field as the guest booted with it."""

import pytest

pytestmark = pytest.mark.lifecycle


@pytest.fixture(scope="module")
def guest(guests):
    return guests.boot(boot_bypass=True, parameters={"keep_boot_bypass": 1})


def test_groups_are_translated_all_the_same(guest):
    guest.selftest("group_types.sh DMA-FQ")


def test_field_keeps_its_value_until_the_end(guest):
    guest.power_off()
    events = guest.trace.since()
    assert events.bypass() == 1, f"the device saw\n{events.named('get_config', 'set_config')}"
    assert events.first("set_config", bypass=0) is None, f"the device saw\n{events.named('set_config')}"
