# SPDX-License-Identifier: GPL-2.0
"""What the driver shows in debugfs, against what the device has."""

import pytest
from harness.machine import ARM64, DEBUG, RELEASE, endpoint_id, runs_on

flavour = runs_on(RELEASE, DEBUG, ARM64)


@pytest.fixture(scope="module")
def guest(guests):
    return guests.boot(boot_bypass=True)


def shown(guest, name):
    """The lines of a file in debugfs, as dictionaries."""
    heading, *lines = guest.check(f"cat /sys/kernel/debug/virtio_iommu-*/{name}").splitlines()
    return [dict(zip(heading.split(), line.split(), strict=True)) for line in lines]


def edu(guest):
    """The line of the edu device."""
    (line,) = [line for line in shown(guest, "endpoints") if int(line["id"]) == endpoint_id(guest.slots.edu)]
    return line


def test_endpoints_are_where_the_device_has_them(guest):
    lines = shown(guest, "endpoints")
    assert {int(line["id"]): int(line["domain"]) for line in lines} == guest.trace.since().attached()
    assert {line["kind"] for line in lines} == {"translated"}
    assert edu(guest)["device"] == guest.edu


def test_domains_have_ids_and_mappings(guest):
    domains = {line["domain"]: line for line in shown(guest, "domains")}
    for endpoint in shown(guest, "endpoints"):
        assert domains[endpoint["domain"]]["kind"] == endpoint["kind"]
    assert sum(int(line["ids"]) for line in domains.values()) == len(shown(guest, "endpoints"))
    disk = endpoint_id(guest.slots.nvme)
    (used,) = [line["domain"] for line in shown(guest, "endpoints") if int(line["id"]) == disk]
    mappings, size = (int(domains[used][key]) for key in ("mappings", "bytes"))
    assert mappings > 0 and size >= mappings * 0x1000, domains[used]


def test_kind_changes_with_the_type_of_the_group(guest):
    group = f"/sys/bus/pci/devices/{guest.edu}/iommu_group/type"
    before = guest.check(f"cat {group}")
    guest.check(f"echo identity > {group}")
    line = edu(guest)
    assert line["kind"] == "bypass"
    (domain,) = [each for each in shown(guest, "domains") if each["domain"] == line["domain"]]
    assert (domain["kind"], domain["mappings"]) == ("bypass", "0")
    guest.check(f"echo {before} > {group}")
    assert edu(guest)["kind"] == "translated"
