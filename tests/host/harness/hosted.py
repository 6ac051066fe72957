# SPDX-License-Identifier: GPL-2.0
"""Programs of tests/hosted: the driver's sources, compiled for the host."""

import os
import subprocess
from functools import cache
from pathlib import Path

from common import CACHE, PROJECT, kernel_tree

WORKSPACE = PROJECT / "tests/hosted"
# Not in build/: a fresh clone need not compile the libraries again.
TARGET = CACHE / "hosted"


@cache
def tree():
    """The kernel's tree, with what this project changes in the files that are compiled here."""
    subprocess.run([PROJECT / "tools/integrate", kernel_tree()], check=True)
    return kernel_tree()


def cargo(*words, **environment):
    """Run cargo; what it needs from the network, `make setup` has fetched."""
    variables = {"KERNEL_TREE": tree(), "CARGO_TARGET_DIR": TARGET} | environment
    subprocess.run(
        ["cargo", *words, "--locked", "--offline"],
        cwd=WORKSPACE,
        env=os.environ | {name: str(value) for name, value in variables.items()},
        check=True,
    )


def _rustc(*words):
    return subprocess.run(["rustc", *words], capture_output=True, text=True, check=True).stdout.strip()


@cache
def fuzzer():
    """The path of the fuzzer, which is built: with feedback for libFuzzer, and AddressSanitizer if rustc has it."""
    host = next(line.split()[1] for line in _rustc("-vV").splitlines() if line.startswith("host:"))
    flags = ["--cfg=fuzzing", "-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=4"]
    for feedback in ("inline-8bit-counters", "pc-table", "trace-compares"):
        flags.append(f"-Cllvm-args=-sanitizer-coverage-{feedback}")
    libraries = Path(_rustc("--print", "sysroot")) / "lib/rustlib" / host / "lib"
    if list(libraries.glob("librustc*_rt.asan.a")):
        flags.append("-Zsanitizer=address")
    # The kernel's own build sets RUSTC_BOOTSTRAP as well. A target of its own keeps the flags from build scripts.
    environment = {"RUSTFLAGS": " ".join(flags), "RUSTC_BOOTSTRAP": "1", "CARGO_TARGET_DIR": TARGET / "fuzz"}
    cargo("build", "--quiet", "--package", "fuzz", "--target", host, **environment)
    return TARGET / "fuzz" / host / "debug" / "fuzz"


@cache
def program(package):
    """The path of a program, which is built."""
    cargo("build", "--quiet", "--package", package)
    return TARGET / "debug" / package


def run(package, *words, timeout):
    """Run a program; returns its exit status and what it printed."""
    command = [program(package), *(str(word) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    return done.returncode, done.stdout + done.stderr
