# SPDX-License-Identifier: GPL-2.0
"""Programs of tests/hosted: the driver's sources, compiled for the host."""

import os
import subprocess
from functools import cache

from common import CACHE, PROJECT, kernel_tree

WORKSPACE = PROJECT / "tests/hosted"
# Not in build/: a fresh clone need not compile the libraries again.
TARGET = CACHE / "hosted"


def cargo(*words, **environment):
    """Run cargo; what it needs from the network, `make setup` has fetched."""
    variables = {"KERNEL_TREE": kernel_tree(), "CARGO_TARGET_DIR": TARGET} | environment
    subprocess.run(
        ["cargo", *words, "--locked", "--offline"],
        cwd=WORKSPACE,
        env=os.environ | {name: str(value) for name, value in variables.items()},
        check=True,
    )


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
