# SPDX-License-Identifier: GPL-2.0
"""Reading what kbuild reads and writes: configurations, and the output of a build."""

import re
import subprocess
import sys
import time

from common import ToolError

# "  CC      kernel/fork.o", "  RUSTC L rust/kernel.o", "  LD [M]  drivers/iommu/virtio-iommu.ko"
_STEP = re.compile(r"^  [A-Z][A-Z0-9_]*( \[M\]| [A-Z]{1,2})?\s+\S")
_NOISE = re.compile(r"^make\[|^$|^Kernel: .* is ready|^#|^  Generating|^mkpiggy|is up to date")
_SECONDS_BETWEEN_REPORTS = 15


class Config(dict):
    """A kernel configuration: symbol, without CONFIG_, to value; "n" for one that is not set."""

    @classmethod
    def read(cls, path):
        config = cls()
        for line in path.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"CONFIG_(\w+)=(.*)$", line):
                config[found.group(1)] = found.group(2)
            elif found := re.match(r"# CONFIG_(\w+) is not set$", line):
                config[found.group(1)] = "n"
        return config

    @classmethod
    def of_fragments(cls, paths):
        """What a sequence of fragments asks for: the last one to name a symbol has its way."""
        config = cls()
        for path in paths:
            config |= cls.read(path)
        return config

    def check(self, actual, name):
        """Every symbol asked for must have taken effect: kconfig drops silently what it cannot do."""
        wrong = [
            f"CONFIG_{symbol}={wanted} (is {actual.get(symbol, 'n')})"
            for symbol, wanted in self.items()
            if actual.get(symbol, "n") != wanted
        ]
        if wrong:
            raise ToolError(
                f"{name}: these settings of tests/configs did not take effect; a dependency is missing, or the "
                "symbol has another name in this kernel:\n  " + "\n  ".join(wrong)
            )


def kbuild_output(command, log_path, name):
    """Run a build; its output goes to a log, progress and everything unusual to the terminal.

    Returns the number of steps that kbuild took.
    """
    steps, reported, latest = 0, time.monotonic(), ""
    live = sys.stderr.isatty()
    width = 100
    with (
        open(log_path, "w", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        for line in process.stdout:
            log.write(line)
            if not _STEP.match(line):
                if not _NOISE.match(line):
                    print(f"\r{'':{width}}\r{line}" if live else line, end="", file=sys.stderr, flush=True)
                continue
            steps += 1
            latest = " ".join(line.split())
            if live:
                print(f"\r{f'{name}: {steps} {latest}':{width}.{width}}", end="", file=sys.stderr, flush=True)
            elif time.monotonic() - reported > _SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                print(f"    {name}: {steps} steps, {latest}", file=sys.stderr, flush=True)
    if live:
        print(f"\r{'':{width}}\r", end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise ToolError(f"{name}: the build failed; all of its output is in {log_path}")
    return steps
