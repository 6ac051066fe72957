# SPDX-License-Identifier: GPL-2.0
"""Disks that are kept busy while something else happens."""

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
