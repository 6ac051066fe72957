# SPDX-License-Identifier: GPL-2.0
"""The driver over a device that is honest, failing, old or hostile: the KUnit suites of tests/fake.

One guest runs all of them; each KUnit case is a test here.
"""

from functools import cache

import pytest
from harness import fake, log
from harness.assertions import assert_no_leaks
from harness.machine import DEBUG, MODULE

# An allocation that fails on demand needs FAILSLAB, and memory that is plugged in MEMORY_HOTPLUG, which the other
# kernels do without: it touches nearly every object.
DEBUG_SUITES = ("viommu_fake_memory", "viommu_fake_hotplug")

# `unsafe`: what the C driver would not survive. `slow`: every request that is never answered waits for 10 seconds.
PARAMETERS = {
    MODULE: {"unsafe": 1, "sequences": 150, "stress_seconds": 10},
    DEBUG: {"unsafe": 1, "slow": 1, "sequences": 40, "stress_seconds": 30},
}
# A wait of ten seconds with interrupts off is longer than this watchdog waits, whatever its phase.
COMMAND_LINES = {MODULE: "sysctl.kernel.watchdog_thresh=6", DEBUG: ""}

# Once more, over the real devices
_CONFORMANCE = tuple(f"viommu_fake_{name}" for name in ("basic", "random", "resume", "gone", "stress"))
_REAL = (
    fake.Setting("qemu72", (*_CONFORMANCE, "viommu_fake_bypass"), {"personality": "qemu72"}),
    fake.Setting("qemu10", (*_CONFORMANCE, "viommu_fake_bypass"), {"personality": "qemu10"}),
    fake.Setting("cloud-hypervisor", _CONFORMANCE, {"personality": "cloud-hypervisor"}),
    fake.Setting("keep_boot_bypass", ("viommu_fake_endings",), {"keep_boot_bypass": 1}, {"keep_boot_bypass": 1}),
)
_IDENTITY = (fake.Setting("identity", tuple(f"viommu_fake_{name}" for name in ("bypass", "endings", "endpoints")), {}),)
SETTINGS = {"": _REAL, "iommu.passthrough=1": _IDENTITY}
SETTING_PARAMETERS = {"unsafe": 1, "sequences": 30, "stress_seconds": 2}
THOUSANDS = {"unsafe": 1, "sequences": 4000}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What becomes of all suites on a flavour of the kernel. Each flavour runs once."""

    def clean_up(guest):
        guest.check(f"rmmod {guest.driver}")
        assert_no_leaks(guest)

    @cache
    def run(flavour):
        directory = tmp_path_factory.mktemp(f"fake-{flavour.name}")
        return fake.run(
            directory,
            flavour,
            parameters=PARAMETERS[flavour],
            timeout=1500,
            afterwards=clean_up,
            command_line=COMMAND_LINES[flavour],
        )

    return run


def each_case():
    for flavour in (MODULE, DEBUG):
        for case in fake.cases():
            if flavour == DEBUG or case.suite not in DEBUG_SUITES:
                yield pytest.param(flavour, case, id=f"{flavour.name}-{case.suite}-{case.name}")


on_both_kernels = pytest.mark.parametrize("flavour", [MODULE, DEBUG], ids=lambda flavour: flavour.name)


@pytest.mark.parametrize("flavour, case", each_case())
def test_case(runs, flavour, case):
    run = runs(flavour)
    results = run.of(case)
    assert results, f"{case} did not run; {run.error or 'the guest ended well'}"
    failed = [str(result) for result in results if result.verdict == "failed"]
    assert not failed, "\n".join(failed)
    assert any(result.verdict == "passed" for result in results), f"{case} was skipped"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """What becomes of the suites of all settings that a kernel command line is good for."""

    @cache
    def run(command_line):
        return fake.run_settings(
            tmp_path_factory.mktemp("fake-settings"),
            MODULE,
            SETTINGS[command_line],
            parameters=SETTING_PARAMETERS,
            timeout=300,
            command_line=command_line,
        )

    return run


@pytest.mark.parametrize(
    "command_line, setting, suite",
    [
        pytest.param(command_line, setting.name, suite, id=f"{setting.name}-{suite}")
        for command_line, each in SETTINGS.items()
        for setting in each
        for suite in setting.suites
    ],
)
def test_setting(settings, command_line, setting, suite):
    run = settings(command_line).get((setting, suite))
    assert run, "the guest did not live to this suite"
    assert run.error is None, f"{run.error}"
    failed = [str(result) for result in run.results if result.verdict == "failed"]
    assert not failed, "\n".join(failed)
    assert any(result.verdict == "passed" for result in run.results), run.console
    splats = log.splats(run.console)
    assert not splats, "\n\n".join(splats)


@on_both_kernels
def test_guest_survives(runs, flavour):
    error = runs(flavour).error
    assert error is None, f"{error}"


@on_both_kernels
def test_log_has_no_splat(runs, flavour):
    splats = log.splats(runs(flavour).console)
    assert not splats, "\n\n".join(splats)


@pytest.mark.long
def test_thousands_of_random_sequences(tmp_path):
    run = fake.run(tmp_path, MODULE, parameters=THOUSANDS, timeout=1200, glob="viommu_fake_random")
    assert run.error is None, f"{run.error}"
    assert run.results, run.console
    failed = [str(result) for result in run.results if result.verdict != "passed"]
    assert not failed, "\n".join(failed)
