# SPDX-License-Identifier: GPL-2.0
"""What guests are made of: kernels built by `make kernel`, and the programs of tests/selftests."""

import fcntl
import os
import re
import shutil
import subprocess
from functools import cache, wraps
from pathlib import Path

from common import BUILD, CROSS_COMPILE, PROJECT, host_arch, kernel_tree
from qemu import initramfs

KERNELS = Path(os.environ.get("VIOMMU_KERNELS") or BUILD)
SELFTESTS = PROJECT / "tests/selftests"
AGENT = PROJECT / "tests/host/agent"
OUTPUT = BUILD / "selftests"


def kernel(variant="", arch="x86_64"):
    """The image of a variant of the kernel."""
    name = f"{arch}-{variant}" if variant else arch
    image = KERNELS / name / {"x86_64": "bzImage", "arm64": "Image"}[arch]
    if not image.exists():
        words = f"ARCH={arch}{f' VARIANT={variant}' if variant else ''}"
        raise FileNotFoundError(f"there is no {image}: run `make kernel {words}`")
    return image


def setting(symbol, variant, arch="x86_64"):
    """The value of a symbol in the configuration of a variant, or None if it is not set."""
    config = (kernel(variant, arch).parent / "config").read_text(encoding="utf-8")
    found = re.search(rf"^{symbol}=(.*)$", config, re.M)
    return found.group(1) if found else None


def modules(variant, arch="x86_64"):
    """The modules of a variant, as files for an initial RAM file system."""
    return {f"lib/{path.name}": path for path in kernel(variant, arch).parent.glob("*.ko")}


def _make(*words):
    subprocess.run(["make", "-s", *(str(word) for word in words)], check=True)


def _built(build):
    """For what puts programs into OUTPUT: once in a process, and, as `pytest -n` is several, one at a time."""

    @cache
    @wraps(build)
    def alone(*words):
        OUTPUT.mkdir(parents=True, exist_ok=True)
        with open(OUTPUT / "lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return build(*words)

    return alone


def _headers(arch):
    """The kernel's headers for programs, as a folder."""
    objects = OUTPUT / arch / "headers"
    headers = objects / "usr/include"
    if not (headers / "linux/iommufd.h").exists():
        objects.mkdir(parents=True, exist_ok=True)
        _make("-C", kernel_tree(), f"O={objects}", f"ARCH={arch}", "headers")
    return headers


@_built
def selftests(arch="x86_64"):
    """The guest selftests, built static, as files for an initial RAM file system."""
    tree, headers = kernel_tree(), _headers(arch)
    programs = OUTPUT / arch / "bin"
    programs.mkdir(exist_ok=True)
    cross = "" if arch == host_arch() else CROSS_COMPILE[arch]
    _make(
        *("-C", SELFTESTS, f"OUTPUT={programs}", f"KSELFTESTS={tree}/tools/testing/selftests"),
        *(f"KHDR_INCLUDES=-isystem {headers}", "USERLDFLAGS=-static", "USERCFLAGS=-Werror"),
        f"CROSS_COMPILE={cross}",
    )
    files = [*SELFTESTS.glob("*.sh"), *(path for path in programs.iterdir() if path.is_file())]
    helpers = tree / "tools/testing/selftests/kselftest/ktap_helpers.sh"
    return {f"selftests/virtio_iommu/{path.name}": path for path in files} | {
        "selftests/kselftest/ktap_helpers.sh": helpers
    }


@_built
def dma_map_benchmark():
    """The kernel's own program of that name, for guests of this machine's architecture."""
    headers = _headers(host_arch())
    program = OUTPUT / host_arch() / "dma_map_benchmark"
    source = kernel_tree() / "tools/dma/dma_map_benchmark.c"
    subprocess.run(["cc", "-static", "-O2", "-isystem", headers, "-o", program, source], check=True)
    return {"bin/dma_map_benchmark": program}


@_built
def vfio_selftests():
    """The kernel's own selftests of VFIO, for guests of this machine's architecture."""
    programs = OUTPUT / host_arch() / "vfio"
    programs.mkdir(parents=True, exist_ok=True)
    source = kernel_tree() / "tools/testing/selftests/vfio"
    headers = _headers(host_arch())
    _make("-C", source, f"OUTPUT={programs}", f"KHDR_INCLUDES=-isystem {headers}", "LDFLAGS=-static")
    return {f"selftests/vfio/{path.name}": path for path in programs.glob("vfio_*_test")}


def ram_disk(path, extra_files=None, arch="x86_64"):
    """An initial RAM file system with the agent, the selftests and more."""
    return initramfs(path, {"init": AGENT} | selftests(arch) | (extra_files or {}), arch)


def root_disk(directory, name, mib=32):
    """An image of a disk with a root file system: the agent, for a kernel that boots from that disk."""
    root = directory / name
    for mount_point in ("bin", "dev", "proc", "sys", "tmp", "sbin"):
        (root / mount_point).mkdir(parents=True, exist_ok=True)
    for program in ("bin/busybox", "bin/sh"):
        shutil.copy2("/bin/busybox", root / program)
    shutil.copy2(AGENT, root / "init")
    (root / "init").chmod(0o755)
    image = directory / f"{name}.img"
    subprocess.run(["/sbin/mke2fs", "-q", "-F", "-t", "ext2", "-d", root, image, f"{mib}M"], check=True)
    shutil.rmtree(root)
    return image
