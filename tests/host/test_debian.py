# SPDX-License-Identifier: GPL-2.0
"""Debian 13 on the disk behind the IOMMU: systemd-udevd loads the driver, from the root file system or the initramfs.

The distribution's own tools make both, so this takes the network, mmdebstrap, root, and minutes.
"""

import os
import re
import shutil
import subprocess

import pytest
import qemu
from common import CACHE
from harness import images, log
from harness.machine import MACHINES, Slots, endpoint_id
from harness.trace import IOMMU_EVENTS, Trace

pytestmark = pytest.mark.long

SUITE, PACKAGES = "trixie", "systemd-sysv,udev,kmod,initramfs-tools"
ROOT = CACHE / f"debian-{SUITE}.tar"
IMAGE_MIB = 1024
SLOT = Slots().disk
DISK = f"0000:00:{SLOT:02x}.0"
# Under emulation, on a busy host
BOOT_SECONDS, END_SECONDS = 400, 120

REPORT = f"""#!/bin/sh
# Says what has become of the root disk, and powers off when the host has looked.
exec > /dev/console 2>&1 < /dev/console
udevadm settle
echo "report: system $(systemctl is-system-running --wait)"
echo "report: root $(findmnt -n -o SOURCE /)"
echo "report: module $(cut -d ' ' -f 1 /proc/modules | grep virtio_iommu)"
group=/sys/bus/pci/devices/{DISK}/iommu_group
echo "report: group $([ -e $group ] && cat $group/type || echo none)"
dd if=/dev/urandom of=/data bs=1M count=8 status=none
before=$(sha256sum < /data)
sync
echo 3 > /proc/sys/vm/drop_caches
[ "$before" = "$(sha256sum < /data)" ] && echo "report: data right" || echo "report: data wrong"
echo "report: over"
read -r line
systemctl poweroff
"""
UNIT = """[Unit]
Description=What has become of the root disk

[Service]
Type=exec
ExecStart=/report

[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A folder with the root file system: the distribution's, and this kernel's modules."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed")
    if os.getuid():
        pytest.skip("only root may change into the root file system")
    if not ROOT.exists():
        part = ROOT.with_suffix(".part.tar")
        subprocess.run(["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, part], check=True)
        part.rename(ROOT)
    root = tmp_path_factory.mktemp("debian") / "root"
    root.mkdir()
    subprocess.run(["tar", "-C", root, "--numeric-owner", "--exclude=./dev/*", "-xf", ROOT], check=True)
    objects = images.kernel(MACHINES.variant).parent / "obj"
    release = (objects / "include/config/kernel.release").read_text(encoding="utf-8").strip()
    modules = root / "lib/modules" / release
    modules.mkdir(parents=True)
    for name in ("modules.builtin", "modules.builtin.modinfo"):
        shutil.copy2(objects / name, modules)
    shutil.copy2(images.modules(MACHINES.variant)["lib/virtio_iommu.ko"], modules)
    shutil.copy2(objects / ".config", root / f"boot/config-{release}")
    subprocess.run(["chroot", root, "depmod", release], check=True)
    (root / "etc/fstab").write_text("/dev/vda / ext2 defaults 0 1\n", encoding="utf-8")
    (root / "report").write_text(REPORT, encoding="utf-8")
    (root / "report").chmod(0o755)
    (root / "etc/systemd/system/report.service").write_text(UNIT, encoding="utf-8")
    subprocess.run(["chroot", root, "systemctl", "enable", "report.service"], check=True)
    # The report has the console to itself.
    subprocess.run(["chroot", root, "systemctl", "mask", "serial-getty@ttyS0.service"], check=True)
    (root / "etc/initramfs-tools/conf.d/tests").write_text("MODULES=list\nCOMPRESS=gzip\n", encoding="utf-8")
    return root, release


def started(system, directory, module_in_initramfs):
    """A guest that boots from the disk."""
    root, release = system
    wanted = "virtio_iommu\n" if module_in_initramfs else ""
    (root / "etc/initramfs-tools/modules").write_text(wanted, encoding="utf-8")
    subprocess.run(["chroot", root, "update-initramfs", "-c", "-k", release], check=True)
    initrd = directory / "initrd"
    shutil.move(root / f"boot/initrd.img-{release}", initrd)
    has = b"virtio_iommu.ko" in subprocess.run(["zcat", initrd], capture_output=True, check=True).stdout
    assert has == module_in_initramfs
    # Drivers of disks are built in: they wait for the module that comes soon, and else not.
    wait = "deferred_probe_timeout=120" if module_in_initramfs else ""
    image = directory / "root.img"
    subprocess.run(["/sbin/mke2fs", "-q", "-F", "-t", "ext2", "-d", root, image, f"{IMAGE_MIB}M"], check=True)
    return qemu.Guest(
        directory,
        images.kernel(MACHINES.variant),
        initrd,
        cmdline=f"root=/dev/vda rw systemd.show_status=1 {wait}",
        devices=[qemu.iommu(boot_bypass=True), qemu.virtio_blk(image, addr=SLOT)],
        mem=MACHINES.memory,
        trace=None,
        extra=(*MACHINES.platform.arguments, *(word for event in IOMMU_EVENTS for word in ("-trace", event))),
    )


@pytest.mark.parametrize("module_in_initramfs", [False, True], ids=["root-file-system", "initramfs"])
def test_root_disk(system, tmp_path, module_in_initramfs):
    """The module that comes late leaves the disk and the field alone, and says so; the other takes both."""
    with started(system, tmp_path, module_in_initramfs) as guest:
        guest.wait_for("^report: over", BOOT_SECONDS)
        events = Trace(guest.trace_log).since()
        guest.send("go")
        assert guest.wait(END_SECONDS) == 0
        console = guest.console
    said = dict(re.findall(r"^report: (\w+) (.*)$", console, re.M))
    assert said == {
        "system": "running",
        "root": "/dev/vda",
        "module": "virtio_iommu",
        "group": "DMA-FQ" if module_in_initramfs else "none",
        "data": "right",
    }
    named = re.search(rf"{DISK}: .*global bypass stays open", console)
    if module_in_initramfs:
        assert events.bypass() == 0 and not named
        assert endpoint_id(SLOT) in events.attached()
    else:
        assert events.bypass() == 1 and named
        assert endpoint_id(SLOT) not in events.attached()
    assert "reboot: Power down" in console
    splats = log.splats(console)
    assert not splats, "\n\n".join(splats)
