# SPDX-License-Identifier: GPL-2.0
"""kexec into a kernel that knows nothing of virtio-iommu: it gets the machine as the first kernel found it."""

import pytest
from harness import images, parity
from harness.agent import SELFTESTS
from harness.assertions import assert_handed_over
from harness.load import Holder
from harness.machine import C_DRIVER, DEBUG, F_BYPASS_CONFIG, IOMMU_LAST, MODULE, RELEASE, SHARED, endpoint_id, runs_on
from qemu import KERNEL_WORDS

pytestmark = [pytest.mark.lifecycle, pytest.mark.parity]
flavour = runs_on(RELEASE, DEBUG, C_DRIVER)

PLAIN_COMMAND_LINE = f"{KERNEL_WORDS['x86_64']} root=/dev/vda rw init=/init"
# A kernel that can use its disk needs a fraction of that.
HOPELESS_AFTER_SECONDS = 15
DIGEST = "dd if=/dev/nvme0n1 bs=65536 count=32 iflag=direct status=none | sha256sum"
# What a disk of QEMU's does when it is given work
DISK_EVENTS = ("virtio_blk_handle_read", "virtio_blk_handle_write", "pci_nvme_read", "pci_nvme_write")
NVME_SHUT_DOWN = "pci_nvme_mmio_shutdown_set"
# What an access of an endpoint that is translated is, and one that is allowed
TRANSLATE_EVENTS = ("virtio_iommu_translate", "virtio_iommu_translate_out")


@pytest.fixture(scope="module")
def boot(guests):
    """Boot a guest that holds the other kernel, and the other kernel's root file system on its disk."""

    def boot_first_kernel(flavour=None, without_feature=None, **options):
        guest = guests.start(
            flavour,
            files={"boot/plain": images.kernel("plain")},
            disk=images.root_disk(guests.directory, f"root{len(guests.all)}"),
            **options,
        )
        return guest.boot(without_feature)

    return boot_first_kernel


def kexec(guest):
    """Start the plain kernel; returns the mark in the trace from where on this shows."""
    mark = guest.trace.mark()
    guest.start(f"{SELFTESTS}/kexec_boot /boot/plain - '{PLAIN_COMMAND_LINE}' > /dev/console 2>&1")
    return mark


def assert_plain_kernel_runs_from_disk(guest, digest):
    guest.wait_ready(timeout=60)
    assert "root=/dev/vda" in guest.check("cat /proc/cmdline")
    assert guest.check("grep ' / ' /proc/mounts | tail -n 1").startswith("/dev/root / ext2")
    assert not guest.check("ls /sys/kernel/iommu_groups"), "this kernel was to know nothing of the IOMMU"
    guest.check("echo written > /written; sync; echo 3 > /proc/sys/vm/drop_caches; grep -q written /written")
    assert guest.check(DIGEST) == digest, "the NVMe drive does not read as before"


def fill_nvme(guest):
    """Write what nobody else has; returns its digest."""
    guest.check("dd if=/dev/urandom of=/dev/nvme0n1 bs=65536 count=32 oflag=direct")
    return guest.check(DIGEST)


@parity.c_driver("does not touch the global bypass field, and may hang when it goes before the disks")
@pytest.mark.parametrize(
    "command_line",
    ["", "iommu.strict=1", "iommu.passthrough=1"],
    ids=["translated", "strict", "identity"],
)
def test_plain_kernel_boots_from_the_disk(boot, command_line):
    guest = boot(command_line=command_line, boot_bypass=True)
    digest = fill_nvme(guest)
    mark = kexec(guest)
    assert_plain_kernel_runs_from_disk(guest, digest)
    assert_handed_over(guest, mark, boot_value=1)
    guest.power_off()


@parity.c_driver("leaves the endpoints in its domains")
def test_plain_kernel_boots_after_identity_maps(boot, guests):
    """Without the field there is nothing to restore. The domains that mapped all of the memory have to go."""
    # The driver is a module: the feature is masked before it is loaded.
    flavour = MODULE if guests.flavour == RELEASE else guests.flavour
    guest = boot(flavour, F_BYPASS_CONFIG, command_line="iommu.passthrough=1", boot_bypass=True)
    digest = fill_nvme(guest)
    mark = kexec(guest)
    assert_plain_kernel_runs_from_disk(guest, digest)
    assert_handed_over(guest, mark, boot_value=None)
    guest.power_off()


@parity.c_driver("leaves the endpoints in its domains, and does not touch the global bypass field")
@pytest.mark.parametrize("interface", ["type1", "iommufd"])
def test_plain_kernel_has_the_disk_that_was_assigned(boot, interface):
    """A process has the NVMe drive, and is there still when the machine goes down."""
    guest = boot(boot_bypass=True)
    digest = fill_nvme(guest)
    Holder(guest, interface, f"0000:00:{guest.slots.nvme:02x}.0", released=False)
    mark = kexec(guest)
    assert_plain_kernel_runs_from_disk(guest, digest)
    assert_handed_over(guest, mark, boot_value=1)
    guest.power_off()


@parity.c_driver("leaves the endpoints in its domains")
def test_plain_kernel_has_a_disk_of_a_group_of_several(boot):
    """The disk has shared a domain with two more endpoints."""
    guest = boot(boot_bypass=True, slots=SHARED)
    digest = fill_nvme(guest)
    mark = kexec(guest)
    assert_plain_kernel_runs_from_disk(guest, digest)
    assert_handed_over(guest, mark, boot_value=1)
    guest.power_off()


@parity.c_driver("never clears the field, so there is nothing to restore")
def test_plain_kernel_fails_when_the_field_is_not_restored(boot):
    """The counterproof: it is the restoration that the test above depends on."""
    guest = boot(boot_bypass=True, parameters={"restore_bypass": 0}, traced=TRANSLATE_EVENTS)
    mark = kexec(guest)

    def disk_tries(events):
        """DMA of the disk after the IOMMU's reset, which is that of the plain kernel."""
        reset = events.first("reset")
        return reset is not None and events[reset:].first("translate", rid=endpoint_id(guest.slots.disk)) is not None

    events = guest.trace.wait_for(disk_tries, timeout=60 * guest.patience, mark=mark)
    assert not events.named("set_config"), f"the device saw\n{events.named('set_config')}"
    assert disk_tries(events), f"the plain kernel did not try the disk; the device saw\n{events}"
    allowed = events[events.first("reset") :].named("translate_out")
    assert not allowed, f"the device let DMA through:\n{allowed}"
    assert not guest.is_ready_within(HOPELESS_AFTER_SECONDS), "the plain kernel runs from the disk all the same"


def test_closed_field_stays_closed(boot):
    """A guest that booted with the bypass closed hands it over closed."""
    guest = boot(boot_bypass=False)
    mark = kexec(guest)
    events = guest.trace.wait_for(is_reset, 60 * guest.patience, mark)
    assert is_reset(events), f"the device was not reset; it saw\n{events}"
    assert_handed_over(guest, mark, boot_value=0)


@parity.c_driver("makes no device links: the IOMMU goes before the endpoints below it")
def test_endpoint_below_the_iommu_is_shut_down_before_it(boot):
    """The disks are in slots below the IOMMU's, and busy: nothing of theirs may see the bypass opened."""
    guest = boot(boot_bypass=True, slots=IOMMU_LAST, traced=(*DISK_EVENTS, NVME_SHUT_DOWN))
    digest = guest.check(DIGEST)
    for disk in ("vda", "nvme0n1"):
        guest.check(
            f"while dd if=/dev/{disk} of=/dev/null bs=65536 count=64 iflag=direct status=none; do :; done"
            " > /dev/null 2>&1 &"
        )
    events = guest.trace.wait_for(both_disks_are_busy, timeout=20 * guest.patience, mark=guest.trace.mark())
    assert both_disks_are_busy(events), f"no DMA in flight: {events}"

    mark = kexec(guest)
    events = guest.trace.wait_for(is_reset, 60 * guest.patience, mark)
    assert both_disks_are_busy(events), f"no DMA was in flight at the shutdown; the device saw\n{events}"
    assert_handed_over(guest, mark, boot_value=1)
    opened, reset = events.first("set_config", bypass=1), events.first("reset")
    stopped = events.first(NVME_SHUT_DOWN)
    assert stopped is not None and stopped < opened, f"the NVMe drive was not shut down first: {events}"
    late = events[opened:reset].named(*DISK_EVENTS)
    assert not late, f"a disk worked after the bypass was opened:\n{late}"
    faults = events[:reset].named("report_fault")
    assert not faults, f"DMA was refused during the shutdown:\n{faults}"
    assert_plain_kernel_runs_from_disk(guest, digest)
    guest.power_off()


def is_reset(events):
    return events.first("reset") is not None


def both_disks_are_busy(events):
    return all(events.named(*(name for name in DISK_EVENTS if kind in name)) for kind in ("blk", "nvme"))
