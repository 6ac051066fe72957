# SPDX-License-Identifier: GPL-2.0
"""Disks that are kept busy while something else happens."""

from harness.agent import SELFTESTS
from harness.machine import endpoint_id

DISKS = ("vda", "nvme0n1")


class DiskLoad:
    """Reads from disks until it is stopped. `dd` past the page cache: each read is mapped and unmapped."""

    def __init__(self, guest, disks=DISKS):
        self.guest, self.disks = guest, disks

    def __enter__(self):
        self.guest.check("rm -f /tmp/load.*")
        for disk in self.disks:
            read = f"dd if=/dev/{disk} of=/dev/null bs=65536 count=64 iflag=direct"
            self.guest.check(
                f"(while [ ! -e /tmp/load.stop ] && {read} 2> /tmp/load.{disk}.said; do echo >> /tmp/load.{disk}; done;"
                f" [ -e /tmp/load.stop ] || cp /tmp/load.{disk}.said /tmp/load.{disk}.failed;"
                f" echo > /tmp/load.{disk}.over) > /dev/null 2>&1 &"
            )
        self.wait_for_progress()
        return self

    def wait_for_progress(self):
        """Wait until each disk has been read from again."""
        for disk in self.disks:
            before = self.guest.check(f"cat /tmp/load.{disk} 2> /dev/null | wc -l")
            self.guest.wait_until(
                f"[ -e /tmp/load.{disk}.failed ] || [ $(cat /tmp/load.{disk} 2> /dev/null | wc -l) -gt {before} ]"
            )
        self.check()

    def check(self):
        """No read has failed."""
        failed = self.guest.check("for file in /tmp/load.*.failed; do [ -e $file ] && echo $file && cat $file; done; :")
        assert not failed, f"a disk under load failed:\n{failed}"

    def __exit__(self, kind, *_):
        if kind is not None or not self.guest.answers:
            return
        self.wait_for_progress()
        self.guest.check("touch /tmp/load.stop")
        for disk in self.disks:
            self.guest.wait_until(f"[ -e /tmp/load.{disk}.over ]")
        self.check()


class MappingLoad:
    """The kernel's dma_map_benchmark on the edu device: it maps and unmaps on both CPUs. It does not end by itself."""

    SECONDS = 290

    def __init__(self, guest):
        self.guest = guest

    def __enter__(self):
        guest = self.guest
        guest.give_edu_to("dma_map_benchmark")
        attached = guest.trace.since().named("attach")
        domain = attached[attached.last("attach", endpoint=endpoint_id(guest.slots.edu))]["domain"]
        mark = guest.trace.mark()
        guest.check(f"dma_map_benchmark -t 2 -s {self.SECONDS} -g 1 -d 2 > /tmp/benchmark.said 2>&1 &")

        def both(events):
            return all(events.first(kind, domain=domain) is not None for kind in ("map", "unmap"))

        events = guest.trace.wait_for(both, timeout=20 * guest.patience, mark=mark)
        assert both(events), f"no mapping of dma_map_benchmark: {guest.run('cat /tmp/benchmark.said').output}"
        return self

    def __exit__(self, *_):
        pass


class Holder:
    """A process in the guest to which a device is assigned, with a page mapped for it, until it is released.

    Only an edu can be released, which then has to reach that page.
    """

    GO = "/tmp/hold.go"

    def __init__(self, guest, interface, bdf, released=True):
        self.guest = guest
        guest.give(bdf, "vfio-pci")
        command = f"{SELFTESTS}/vfio_hold {interface} {bdf} {self.GO if released else ''}"
        held = f"{command} > /tmp/hold.said 2>&1; echo $? > /tmp/hold.over"
        guest.check(f"rm -f /tmp/hold.*; ({held}) > /dev/null 2>&1 &")
        guest.wait_until("grep -q holding /tmp/hold.said || [ -e /tmp/hold.over ]")
        assert not guest.run("grep -q holding /tmp/hold.said").status, guest.check("cat /tmp/hold.said")

    def release(self):
        self.guest.check(f"echo > {self.GO}")
        self.guest.wait_until("[ -e /tmp/hold.over ]")
        said = self.guest.check("cat /tmp/hold.said /tmp/hold.over")
        assert said.split()[-1] == "0", f"its page was not reached: {said}"
