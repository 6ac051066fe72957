# SPDX-License-Identifier: GPL-2.0
"""Suspend to RAM, up to the point where the machine would sleep (pm_test), and resume.

The device is reset on the way, and forgets all endpoints, domains and mappings.
"""

import pytest
from harness import parity
from harness.assertions import assert_disks_hold_what_is_written
from harness.machine import C_DRIVER, DEBUG, RELEASE, runs_on

pytestmark = [
    pytest.mark.parity,
    parity.c_driver("the guest never comes back: the sync spins on the device that is reset"),
]
flavour = runs_on(RELEASE, DEBUG, C_DRIVER)


@pytest.fixture(scope="module")
def guest(guests):
    return guests.boot(boot_bypass=True)


@pytest.fixture(scope="module")
def after(guest):
    """What the device saw of a suspend and the resume that followed it."""
    guest.selftest("disk_data.sh")
    mark = guest.trace.mark()
    guest.check("echo core > /sys/power/pm_test && echo mem > /sys/power/state", timeout=120)
    return guest.trace.since(mark)


def test_endpoints_return_to_their_domains(guest, after):
    reset = after.first("reset")
    assert reset is not None, f"the device was not reset; it saw\n{after}"
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
