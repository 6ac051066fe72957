# SPDX-License-Identifier: GPL-2.0
"""Guests for tests and for `make run`: start one, talk to it, wait for it.

    with Guest(directory, kernel, initramfs(directory / "initrd"), devices=[iommu(), *endpoints(directory)]) as guest:
        guest.wait_for(r"guest: status 0", timeout=60)
        guest.wait(timeout=20)

Every wait is bounded, and a guest that outlives its `with` block is killed. Everything about a guest is in its
directory: the console (console.log), what its IOMMU device saw (trace.log), the command (command), QEMU's own
messages (qemu.log).
"""

import functools
import io
import json
import os
import re
import shlex
import socket
import stat
import subprocess
import time
from pathlib import Path

from common import PROJECT, QEMU, QEMU_SERIES, ToolError, busybox, host_arch, output

GUEST_FILES = PROJECT / "tests/guest"
MACHINES = {
    "x86_64": ["qemu-system-x86_64", "-M", "q35", "-cpu", "max"],
    "arm64": ["qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a72"],
}
# Without it an arm64 guest has a devicetree. With it there is ACPI, too; acpi=force tells the kernel to prefer that.
UEFI = {"arm64": Path("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")}
# What each kernel is told. On a busy host the emulated timer may miss the few milliseconds that an x86 kernel gives it
# to prove itself: "IO-APIC + timer doesn't work!". Nor does the clock source's watchdog hear from all CPUs in time:
# some guests went no further then, before or after the driver had come.
KERNEL_WORDS = {"x86_64": "console=ttyS0 no_timer_check tsc=nowatchdog panic=-1", "arm64": "console=ttyAMA0 panic=-1"}


class GuestError(ToolError):
    """A guest did not do what was expected of it in time."""


# --- What this QEMU can do --------------------------------------------------------------------------------


def require_machine(arch):
    """Fail if the QEMU that was asked for cannot emulate that: nothing else on PATH stands in for it."""
    program = MACHINES[arch][0]
    if QEMU and not (QEMU / program).exists():
        hint = f"`make setup QEMU={QEMU_SERIES}` fetches it" if QEMU_SERIES else "QEMU= is its folder, or 10.0 or 11.1"
        raise ToolError(f"there is no {QEMU / program}: {hint}")


@functools.cache
def version(arch="x86_64"):
    """What QEMU says of itself."""
    require_machine(arch)
    return output(MACHINES[arch][0], "--version").splitlines()[0]


@functools.cache
def has_property(model, name, arch="x86_64"):
    """Whether a device has a property in this QEMU."""
    return re.search(rf"^ +{re.escape(name)}=", output(MACHINES[arch][0], "-device", f"{model},help"), re.M) is not None


@functools.cache
def has_model(model, arch="x86_64"):
    """Whether this QEMU has such a device."""
    # For one that it has not, it says so, and ends as if all was well.
    command = [MACHINES[arch][0], "-device", f"{model},help"]
    return f"{model} options" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


# --- Devices: each function returns arguments for QEMU ----------------------------------------------------


def named(properties):
    """Properties as QEMU calls them: underscores in names stand for dashes, double ones for underscores."""
    return {name.replace("__", "\0").replace("_", "-").replace("\0", "_"): value for name, value in properties.items()}


def device(model, **properties):
    """Any device. Its properties are named as named() says."""
    values = {name: value for name, value in named(properties).items() if value is not None}
    # QEMU reads the number of a slot as hexadecimal, with or without a prefix.
    values |= {"addr": hex(values["addr"])} if isinstance(values.get("addr"), int) else {}
    words = [f"{name}={('off', 'on')[value] if isinstance(value, bool) else value}" for name, value in values.items()]
    return ["-device", ",".join([model, *words])]


def iommu(boot_bypass=None, regions=(), arch="x86_64", **properties):
    """`regions` are the reserved ones that it declares, as (first, last, type), on a machine without its own."""
    model, ranges = "virtio-iommu-pci", [f"{first:#x}:{last:#x}:{kind}" for first, last, kind in regions]
    if not regions:
        return device(model, boot_bypass=boot_bypass, **properties)
    if has_property(model, "len-reserved-regions", arch):
        declared = {"len_reserved_regions": len(ranges)}
        declared |= {f"reserved_regions[{number}]": text for number, text in enumerate(ranges)}
        return device(model, boot_bypass=boot_bypass, **properties, **declared)
    # A list, and that is JSON, where a number for an address would have the function in it.
    properties |= {} if boot_bypass is None else {"boot_bypass": boot_bypass}
    properties |= {"addr": hex(properties["addr"])} if "addr" in properties else {}
    return ["-device", json.dumps({"driver": model, **named(properties), "reserved-regions": ranges})]


def disk_image(path, mib=16):
    """A raw image of zeroes, made if it is not there."""
    if not path.exists():
        with open(path, "wb") as image:
            image.truncate(mib << 20)
    return path


def _drive(path, name):
    return ["-drive", f"file={path},if=none,format=raw,cache=writeback,id={name}"]


def virtio_blk(image, name="vdisk", **properties):
    properties = {"drive": name, "iommu__platform": True, "disable_legacy": True} | properties
    return [*_drive(image, name), *device("virtio-blk-pci", **properties)]


def nvme(image, name="nvme", **properties):
    return [*_drive(image, name), *device("nvme", drive=name, serial=name, **properties)]


# By default edu's DMA reaches 28 bits only.
EDU_REACHES_ALL = {"dma__mask": 2**64 - 1}


def edu(**properties):
    return device("edu", **(EDU_REACHES_ALL | properties))


def endpoints(directory):
    """What sits behind the IOMMU unless a test says otherwise: a disk, an NVMe drive, an edu device."""
    return [
        virtio_blk(disk_image(directory / "virtio-blk.img")),
        nvme(disk_image(directory / "nvme.img")),
        edu(),
    ]


# --- The initial RAM file system --------------------------------------------------------------------------


class _Cpio:
    """A cpio archive in the format that the kernel unpacks (newc)."""

    def __init__(self):
        self.data, self.names = io.BytesIO(), set()

    def add(self, name, mode, content=b"", device_number=(0, 0)):
        for parent in reversed(Path(name).parents[:-1]):
            if str(parent) not in self.names:
                self.add(str(parent), stat.S_IFDIR | 0o755)
        self.names.add(name)
        inode = len(self.names)
        fields = [inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device_number, len(name) + 1, 0]
        self.data.write(b"070701" + "".join(f"{value:08x}" for value in fields).encode() + name.encode() + b"\0")
        self._pad()
        self.data.write(content)
        self._pad()

    def _pad(self):
        self.data.write(b"\0" * (-self.data.tell() % 4))

    def finished(self):
        self.add("TRAILER!!!", 0)
        return self.data.getvalue()


def initramfs(path, extra_files=None, arch=None):
    """Write an initial RAM file system: busybox, the scripts of tests/guest, and more.

    `extra_files` maps a path in the guest, such as "bin/edu_dma", to a file or to bytes. All are executable.
    """
    archive = _Cpio()
    for directory in ("bin", "dev", "proc", "sys", "tmp"):
        archive.add(directory, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device_number=(5, 1))
    shell = busybox(arch or host_arch())
    files = {"bin/busybox": shell, "bin/sh": shell}
    files |= {f"bin/{script.name}": script for script in GUEST_FILES.iterdir() if script.is_file()}
    files["init"] = files.pop("bin/init")
    files |= extra_files or {}
    for name, content in sorted(files.items()):
        if not isinstance(content, bytes):
            content = Path(content).read_bytes()
        archive.add(name.lstrip("/"), stat.S_IFREG | 0o755, content)
    path.write_bytes(archive.finished())
    return path


# --- A running guest --------------------------------------------------------------------------------------


class Guest:
    """A virtual machine. `devices` is a list of argument lists, as the functions above return them."""

    def __init__(
        self,
        directory,
        kernel,
        initrd,
        *,
        cmdline="",
        devices=(),
        arch="x86_64",
        smp=2,
        mem=512,
        trace="virtio_iommu_*",
        reboots=False,
        extra=(),
    ):
        require_machine(arch)
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.console_log = self.directory / "console.log"
        self.trace_log = self.directory / "trace.log"
        self._qmp_path = self.directory / "qmp"
        self._process = self._qmp = None
        words = f"{KERNEL_WORDS[arch]} {cmdline}".strip()
        self.command = [
            *MACHINES[arch],
            *("-accel", "tcg", "-smp", smp, "-m", mem, "-nodefaults", "-display", "none"),
            *("-kernel", kernel, "-initrd", initrd, "-append", words),
            *(() if reboots else ("-no-reboot",)),
            *(("-trace", trace) if trace else ()),
            *("-D", self.trace_log),
            *(word for arguments in devices for word in arguments),
            *extra,
        ]
        self.command = [str(word) for word in self.command]

    def __enter__(self):
        """Start it with its console in a log, and a QMP socket."""
        for stale in (self.console_log, self.trace_log, self._qmp_path):
            stale.unlink(missing_ok=True)
        # The socket's path must be short: QEMU gets it relative to the guest's directory.
        command = [
            *self.command,
            *("-chardev", f"stdio,id=console,logfile={self.console_log},signal=off", "-serial", "chardev:console"),
            *("-qmp", f"unix:{self._qmp_path.name},server=on,wait=off"),
        ]
        (self.directory / "command").write_text(shlex.join(command) + "\n", encoding="utf-8")
        with open(self.directory / "qemu.log", "wb") as messages:
            self._process = subprocess.Popen(
                command, cwd=self.directory, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages
            )
        return self

    def __exit__(self, *_):
        self.kill()

    def interactive(self):
        """Run it on this terminal until it ends; Ctrl-A X ends it."""
        return subprocess.run([*self.command, "-serial", "mon:stdio"], check=False).returncode

    def kill(self):
        if self._qmp:
            self._qmp.close()
            self._qmp = None
        if self._process.poll() is None:
            self._process.kill()
        self._process.stdin.close()
        self._process.wait()

    @property
    def console(self):
        """What the guest has printed until now."""
        if not self.console_log.exists():
            return ""
        return self.console_log.read_text(encoding="utf-8", errors="replace").replace("\r", "")

    def send(self, line):
        """Type a line on the guest's console."""
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def wait_for(self, pattern, timeout, start=0):
        """Wait until the console, from character `start` on, matches; returns the match."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self._process.poll() is not None
            found = re.compile(pattern, re.M).search(self.console, start)
            if found:
                return found
            if ended or time.monotonic() > deadline:
                how = "ended without printing" if ended else f"did not print in {timeout} s"
                raise GuestError(f"the guest {how} /{pattern}/; the end of {self.console_log}:\n{self._tail()}")
            time.sleep(0.05)

    def wait(self, timeout):
        """Wait until the guest is powered off; returns QEMU's exit status."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GuestError(
                f"the guest did not power off in {timeout} s; the end of {self.console_log}:\n{self._tail()}"
            ) from None

    def _tail(self):
        return "\n".join(self.console.splitlines()[-25:]) + (self.directory / "qemu.log").read_text(errors="replace")

    def qmp(self, command, timeout=10, **arguments):
        """Run a QMP command with arguments named as named() says; returns what it returns."""
        if self._qmp is None:
            self._qmp = self._connect(timeout)
            self.qmp("qmp_capabilities")
        self._qmp.settimeout(timeout)
        request = {"execute": command, "arguments": named(arguments)}
        self._qmp.sendall(json.dumps(request).encode())
        while True:
            answer = json.loads(self._read_line())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise GuestError(f"QMP {command}: {answer['error']['desc']}")

    def _connect(self, timeout):
        deadline = time.monotonic() + timeout
        while True:
            # A socket's path has a length limit; one relative to an open directory is always short.
            directory = os.open(self.directory, os.O_RDONLY)
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(f"/proc/self/fd/{directory}/{self._qmp_path.name}")
                return connection
            except OSError:
                connection.close()
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise GuestError(f"QEMU offers no QMP socket:\n{self._tail()}") from None
                time.sleep(0.05)
            finally:
                os.close(directory)

    def _read_line(self):
        line = b""
        while not line.endswith(b"\n"):
            received = self._qmp.recv(1)
            if not received:
                raise GuestError("QEMU closed its QMP socket")
            line += received
        return line
