# SPDX-License-Identifier: GPL-2.0
"""Everything at once over the fake device, on kernels that look for what goes wrong then: for a minute, or an hour."""

import time

import pytest
from harness import fake, log
from harness.assertions import assert_no_leaks
from harness.machine import DEBUG, KCSAN, MODULE, PREEMPT_RT

# The cases about concurrency and about a full ring, those about a device that goes, and random sequences
GLOB = "viommu_fake_[grs]?[nr]*"
SUITES = {"viommu_fake_gone", "viommu_fake_random", "viommu_fake_ring", "viommu_fake_stress"}
# Of one round. The guest stays the same; the sequences differ from round to round.
PARAMETERS = {"unsafe": 1, "sequences": 20, "stress_seconds": 10}
ROUND_SECONDS = 600
# More than two on this kernel alone: a virtual CPU of a slow one, on a busy host, looks as if it were locked up.
CPUS = {MODULE: 4}


def one_round(guest, seen):
    """Run the suites, and look at what the console says from `seen` on. Returns how far that is now, and the suites."""
    guest.run_suites(PARAMETERS, timeout=ROUND_SECONDS)
    console = guest.console
    results = fake.Run(console[seen:], None).results
    failed = [str(result) for result in results if result.verdict == "failed"]
    assert not failed, "\n".join(failed)
    splats = log.splats(console[seen:])
    assert not splats, "\n\n".join(splats)
    return len(console), {result.case.suite for result in results if result.verdict == "passed"}


def soak(directory, flavour, minutes):
    deadline = time.monotonic() + 60 * minutes
    rounds, seen = 0, 0
    with fake.FakeGuest(directory, flavour, glob=GLOB, cpus=CPUS.get(flavour, 2)) as guest:
        guest.boot()
        while rounds == 0 or time.monotonic() < deadline:
            seen, suites = one_round(guest, seen)
            rounds += 1
            assert suites == SUITES, f"round {rounds} ran {suites}"
        guest.check(f"rmmod {guest.driver}")
        assert_no_leaks(guest)
        guest.power_off()
    splats = log.splats(guest.console)
    assert not splats, "\n\n".join(splats)


@pytest.mark.parametrize("flavour", [MODULE, KCSAN, PREEMPT_RT], ids=lambda flavour: flavour.name)
def test_for_a_minute(tmp_path, flavour):
    soak(tmp_path, flavour, minutes=1)


@pytest.mark.soak
def test_for_as_long_as_asked(tmp_path, request):
    soak(tmp_path, DEBUG, request.config.getoption("--soak"))
