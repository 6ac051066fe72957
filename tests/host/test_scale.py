# SPDX-License-Identifier: GPL-2.0
"""Many endpoints, many domains, many mappings: all stays right, and what it costs is printed."""

import pytest
import qemu
from harness import parity
from harness.agent import SELFTESTS
from harness.machine import C_DRIVER, MODULE, endpoint_id, runs_on

pytestmark = pytest.mark.parity
flavour = runs_on(MODULE, C_DRIVER)

FIRST_SLOT, SLOTS, FUNCTIONS = 0x10, 8, 8
MEMORY_MIB = 2048
BLOCKED = 2


def many_edus():
    """64 functions."""
    return [
        qemu.edu(addr=f"{slot:x}.{function}", multifunction=True)
        for slot in range(FIRST_SLOT, FIRST_SLOT + SLOTS)
        for function in range(FUNCTIONS)
    ]


def edu_names():
    return [f"0000:00:{FIRST_SLOT + slot:02x}.{function}" for slot in range(SLOTS) for function in range(FUNCTIONS)]


@pytest.fixture(scope="module")
def crowd(guests):
    """A guest with 64 endpoints more."""
    return guests.boot(devices=many_edus())


@pytest.fixture(scope="module")
def assigned(guests):
    """A guest whose edu is assigned to userspace."""
    guest = guests.boot(memory=MEMORY_MIB)
    guest.give_edu_to("vfio-pci")
    return guest


def switch(guest, kind):
    """Change the type of the groups of the 64; returns the seconds that it took."""
    before, after = guest.check(
        "cut -d' ' -f1 /proc/uptime;"
        f"for group in $(for edu in {' '.join(edu_names())}; do readlink -f /sys/bus/pci/devices/$edu/iommu_group;"
        f" done | sort -u); do echo {kind} > $group/type || exit 1; done;"
        "cut -d' ' -f1 /proc/uptime",
        timeout=120,
    ).splitlines()
    return float(after) - float(before)


def test_64_endpoints_change_their_domains(crowd, record_property):
    expected = {f"00:{FIRST_SLOT + slot:02x}.{function}" for slot in range(SLOTS) for function in range(FUNCTIONS)}
    attached = {event["endpoint"] for event in crowd.trace.since().named("attach")}
    missing = {endpoint_id(FIRST_SLOT + slot) + function for slot in range(SLOTS) for function in range(FUNCTIONS)}
    assert missing <= attached, f"not attached: {missing - attached}"
    for kind, translated in (("identity", False), ("DMA", True)):
        seconds = switch(crowd, kind)
        spaces = crowd.trace.since().address_spaces()
        wrong = [device for device in expected if spaces.get(device) is not translated]
        assert not wrong, f"after {kind}, translated or not, but wrongly so: {wrong}"
        record_property("cost", f"64 endpoints to {kind}: {seconds:.2f} s")
    for name in (edu_names()[0], edu_names()[-1]):
        result = crowd.run(f"{SELFTESTS}/edu_dma {name} physical")
        assert result.status == BLOCKED, f"{name}: status {result.status}: {result.output}"
    crowd.selftest("disk_data.sh")


def test_fault_storm_leaves_the_guest_usable(crowd, record_property):
    """64 devices fault at once and time and again: the log is not flooded, the disks work, and reports still come."""
    rounds = 20
    address = 1 << 40
    crowd.check("dmesg -c > /dev/null")
    mark = crowd.trace.mark()
    crowd.check(
        f"({SELFTESTS}/edu_storm {address} {rounds} {' '.join(edu_names())}; echo $? > /tmp/storm.over)"
        " > /tmp/storm.said 2>&1 &"
    )
    crowd.selftest("disk_data.sh")
    crowd.wait_until("[ -e /tmp/storm.over ]", timeout=90)
    assert crowd.check("cat /tmp/storm.over") == "0", crowd.check("cat /tmp/storm.said")

    faults = len(crowd.trace.since(mark).named("report_fault"))
    assert faults >= SLOTS * FUNCTIONS * rounds, f"{faults} faults only"
    lines = [line for line in crowd.check("dmesg").splitlines() if "fault" in line]
    # Perhaps none: what may be said in this time may have been said already, of the faults of the test before.
    assert len(lines) < faults / 10, f"{len(lines)} lines in the log for {faults} faults:\n" + "\n".join(lines[:30])
    record_property("cost", f"fault storm: {faults} faults, {len(lines)} lines in the log")

    # Reports still come.
    crowd.wait_until(
        f"dmesg -c > /dev/null; {SELFTESTS}/edu_dma {edu_names()[-1]} write {address + 0x1000};"
        f" dmesg | grep -i fault | grep -q {address + 0x1000:x}",
        timeout=30,
    )


def test_1000_domains(assigned, record_property):
    report = assigned.selftest(f"vfio_scale domains {assigned.edu} 1000", timeout=240)
    record_costs(record_property, report)


@parity.c_driver("replays under a spinlock, interrupts off: hard lockup reported")
@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_mappings_in_one_domain(assigned, record_property, count):
    mark = assigned.trace.mark()
    report = assigned.selftest(f"vfio_scale mappings {assigned.edu} {count}", timeout=580)
    record_costs(record_property, report)
    # Too many to parse; it is attached three times.
    with open(assigned.trace.path, encoding="utf-8") as lines:
        lines.seek(mark)
        maps = sum("virtio_iommu_map " in line and "phys_start" in line for line in lines)
    assert maps >= 3 * count, f"the device saw {maps} MAP requests"


def record_costs(record_property, report):
    for comment in report.comments():
        if comment.startswith("# cost: "):
            record_property("cost", comment.removeprefix("# cost: "))
