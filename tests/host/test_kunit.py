# SPDX-License-Identifier: GPL-2.0
"""The KUnit suites of the driver and of the abstractions, run by a kernel that boots."""

import re

import pytest
from harness import tap
from harness.machine import ARM64, ARM64_64K, DEBUG, RELEASE, runs_on

flavour = runs_on(RELEASE, DEBUG, ARM64, ARM64_64K)

# No suite, no test: an empty run must not pass. These are the subjects that have to be there.
SUBJECTS = ("request", "property", "event", "reserved", "mappings", "rust_iommu_driver", "rust_virtio")


@pytest.fixture(scope="module")
def report(guests):
    guest = guests.start(command_line="kunit.enable=1 kunit.autorun=1 kunit.filter_glob=*io*")
    guest.wait_ready(timeout=90)
    if guest.flavour.module:
        guest.load_driver()
    # The console may be behind. The kernel log's time stamps are in the way.
    return tap.parse(re.sub(r"^\[ *\d+\.\d+\] ", "", guest.check("dmesg"), flags=re.M))


def test_every_suite_passes(report):
    failed = [f"{case.name}: {' '.join(case.comments)}" for case in report.failed]
    assert not failed, f"failed: {failed}"


def test_every_subject_has_a_suite(report):
    suites = [case.name for case in report.outermost]
    missing = [subject for subject in SUBJECTS if not any(subject in suite for suite in suites)]
    assert not missing, f"no suite for {missing} among {suites}"


def test_suites_are_not_empty(report):
    tests = [case for case in report.cases if case.depth > 0]
    assert len(tests) > len(report.outermost), f"{len(tests)} tests in {len(report.outermost)} suites"
