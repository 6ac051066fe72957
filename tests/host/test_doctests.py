# SPDX-License-Identifier: GPL-2.0
"""The examples in the documentation of the kernel crate, the abstractions' among them, run by a kernel that boots."""

import re

import pytest
from harness import tap
from harness.machine import Flavour

DOCTESTS = Flavour("doctests", variant="doctests", patience=3)

# The files whose examples must be among those that ran
OURS = ("virtio", "iommu_driver", "device_link", "ratelimit", "print_deferred", "nmi", "ram_rs", "random_rs")


@pytest.fixture(scope="module")
def flavour():
    return DOCTESTS


@pytest.mark.long
def test_examples_of_the_kernel_crate_pass(guests):
    guest = guests.start(command_line="kunit.enable=1 kunit.autorun=1 kunit.filter_glob=rust_doctests_kernel")
    guest.wait_ready(timeout=120)
    # The kernel log's time stamps are in the way.
    report = tap.parse(re.sub(r"^\[ *\d+\.\d+\] ", "", guest.console, flags=re.M))
    failed = [f"{case.name}: {' '.join(case.comments)}" for case in report.failed]
    assert not failed, f"failed: {failed}"
    ran = [case.name for case in report.cases if case.depth > 0]
    missing = [name for name in OURS if not any(name in case for case in ran)]
    assert not missing, f"no example of {missing} among the {len(ran)} that ran"
