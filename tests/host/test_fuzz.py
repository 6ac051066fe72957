# SPDX-License-Identifier: GPL-2.0
"""The parsers, and other pure code, fuzzed: see tests/hosted/fuzz."""

import os
import subprocess

import pytest
from harness import hosted

CORPUS = hosted.WORKSPACE / "fuzz/corpus"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))

# The longest input, in bytes. A range of a set takes 4 of them, and 65 are one too many; a tree, or a window, that is
# large takes more, and so does a property that is longer than those that there are today. What the fuzzer makes up on
# its own stays short for long: inputs of that size are in the corpus.
MAX_LEN = 4096

# How often each target runs, unless FUZZ_SECONDS says for how long (`make fuzz`).
TARGETS = {
    "config": 150_000,
    "event": 150_000,
    "mappings": 40_000,
    "property": 150_000,
    "reserved": 40_000,
    "request": 100_000,
    "span": 150_000,
    "spans": 20_000,
    "window": 30_000,
}


def unpack(target, directory):
    """What was found to be worth keeping: a line of hexadecimal digits each."""
    directory.mkdir()
    lines = (CORPUS / f"{target}.hex").read_text(encoding="ascii").split()
    assert lines
    for number, line in enumerate(lines):
        (directory / f"{number:03}").write_bytes(bytes.fromhex(line))
    return directory


@pytest.mark.parametrize("target", TARGETS)
def test_target(target, tmp_path):
    found = tmp_path / "found"
    found.mkdir()
    limits = [f"-max_total_time={SECONDS}"] if SECONDS else [f"-runs={TARGETS[target]}", "-seed=1"]
    options = [*limits, f"-max_len={MAX_LEN}", "-timeout=10", "-verbosity=0", f"-artifact_prefix={tmp_path}/"]
    command = [hosted.fuzzer(), *options, found, unpack(target, tmp_path / "kept")]
    done = subprocess.run(
        command,
        env=os.environ | {"FUZZ_TARGET": target},
        capture_output=True,
        text=True,
        timeout=120 + 2 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"FUZZ_TARGET={target} {command[0]}, with what is in {tmp_path}\n{done.stderr}"
