# SPDX-License-Identifier: GPL-2.0
"""What the tools share: where things are, how to run a command, how to fail."""

import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
BUILD = PROJECT / "build"

KERNEL_SERIES = "7.3"
LLVM = "-19"
# The prefix of the GNU tools that make programs for guests of another architecture than the host's
CROSS_COMPILE = {"arm64": "aarch64-linux-gnu-", "x86_64": "x86_64-linux-gnu-"}

_DEFAULT_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "virtio-iommu-rust"
CACHE = Path(os.environ.get("VIOMMU_CACHE") or _DEFAULT_CACHE)
DOWNLOADS = CACHE / "downloads"

# A bindgen that `cargo install` put there wins over an older one on PATH.
os.environ["PATH"] = f"{CACHE}/bin:{os.environ['PATH']}:{Path.home()}/.cargo/bin"

# QEMU= is a folder with QEMU's programs, or a series, such as 10.0, that tools/fetch puts into the cache.
_QEMU = os.environ.get("QEMU")
QEMU_SERIES = _QEMU if _QEMU and re.fullmatch(r"\d+\.\d+", _QEMU) else None


def fetched_qemu(series):
    """The folder of a QEMU in the cache, whether or not it is there yet."""
    return CACHE / f"qemu-{series}"


# Where the QEMU is that was asked for; None stands for the one on PATH.
QEMU = fetched_qemu(QEMU_SERIES) if QEMU_SERIES else Path(_QEMU).resolve() if _QEMU else None
if QEMU:
    os.environ["PATH"] = f"{QEMU}:{os.environ['PATH']}"

# The make that started a tool has its own flags and job server; the ones that the tool starts do not share them.
for _name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(_name, None)


class ToolError(Exception):
    """Something the user has to know; the text says what to do about it."""


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def main(function):
    """Run a tool: a ToolError becomes one message and exit status 1."""
    try:
        sys.exit(function())
    except ToolError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def run(*command, **options):
    """Run a command that has to succeed."""
    command = [str(word) for word in command]
    try:
        return subprocess.run(command, check=True, **options)
    except FileNotFoundError:
        raise ToolError(f"{command[0]} is not installed: run `make setup`") from None
    except subprocess.CalledProcessError as error:
        detail = f"\n{error.stderr}" if isinstance(error.stderr, str) else ""
        raise ToolError(f"`{' '.join(command)}` failed with status {error.returncode}{detail}") from None


def output(*command, **options):
    """The standard output of a command that has to succeed."""
    return run(*command, stdout=subprocess.PIPE, text=True, **options).stdout.strip()


def version_of(*command):
    """The first x.y.z that a program prints about itself, or None if it is not there."""
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    number = re.search(r"\d+\.\d+(\.\d+)?", found.stdout + found.stderr)
    return number.group() if number else None


def version_tuple(text):
    return tuple(int(part) for part in text.split("."))


def require_space(path, gib, what):
    path.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path).free / 2**30
    if free < gib:
        raise ToolError(
            f"{what} needs about {gib} GiB, and {path} has {free:.1f} GiB free: "
            "free some space, or point VIOMMU_CACHE at a larger disk"
        )


@contextlib.contextmanager
def cache_lock():
    """Hold the cache: one writer at a time, over all clones of this project.

    Nested use, also by a child process, is free: the holder leaves a mark in the environment.
    """
    if os.environ.get("VIOMMU_CACHE_LOCKED") == str(CACHE):
        yield
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            say(f"waiting for {lock.read().strip() or 'another process'}, which holds {CACHE}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"{Path(sys.argv[0]).name} (process {os.getpid()})\n")
        lock.flush()
        os.environ["VIOMMU_CACHE_LOCKED"] = str(CACHE)
        try:
            yield
        finally:
            del os.environ["VIOMMU_CACHE_LOCKED"]


def kernel_version(tree):
    """The version of a kernel tree, as a string such as 7.3.4."""
    try:
        text = (tree / "Makefile").read_text(encoding="utf-8")
        numbers = [
            re.search(rf"^{name} *= *(\d+)$", text, re.M).group(1)
            for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")
        ]
    except (OSError, AttributeError):
        raise ToolError(f"{tree} is not a kernel source tree: give its top directory (KDIR=)") from None
    return ".".join(numbers)


def check_kernel_version(tree):
    version = kernel_version(tree)
    if not f"{version}.".startswith(f"{KERNEL_SERIES}."):
        raise ToolError(
            f"{tree} is Linux {version}, this driver is for Linux {KERNEL_SERIES}: "
            f"give a {KERNEL_SERIES} tree with KDIR=, or leave KDIR out to have one fetched"
        )
    return version


def fetched_kernel():
    """The kernel tree in the cache, or None. The newest if there are several."""
    trees = [path for path in CACHE.glob(f"linux-{KERNEL_SERIES}.*") if (path / ".fetched").exists()]
    return max(trees, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)], default=None)


def kernel_tree():
    """The kernel tree to use: the user's own (KDIR=), or the fetched one."""
    own = os.environ.get("KDIR")
    tree = Path(own).resolve() if own else fetched_kernel()
    if tree is None:
        raise ToolError("there is no kernel tree yet: run `make setup`, or give one with KDIR=")
    check_kernel_version(tree)
    return tree


def rust_library_source():
    """The source of Rust's standard library that belongs to the rustc in use, or None."""
    version = version_of("rustc", "--version")
    if version is None:
        return None
    candidates = [
        Path(output("rustc", "--print", "sysroot")) / "lib/rustlib/src/rust/library",
        Path(f"/usr/src/rustc-{version}/library"),
        CACHE / f"rust-src-{version}" / f"usr/src/rustc-{version}/library",
    ]
    return next((path for path in candidates if (path / "core/src/lib.rs").exists()), None)


def busybox(arch):
    """The static busybox of guests: the machine's own, or the one that tools/fetch has for another architecture."""
    return Path("/bin/busybox") if arch == host_arch() else CACHE / f"busybox-{arch}/bin/busybox"


def host_arch():
    return {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
