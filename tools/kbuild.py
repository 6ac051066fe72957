# SPDX-License-Identifier: GPL-2.0
"""Running kbuild, and reading what it reads and writes: configurations, and the output of a build."""

import os
import re
import subprocess
import sys
import time

from common import LLVM, ToolError, run, rust_library_source

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


def kbuild_command(tree, objects, arch, *words):
    library = rust_library_source()
    if library is None:
        raise ToolError("the source of Rust's standard library is missing: run `make setup`")
    command = [
        *("make", "-C", tree, f"O={objects}", f"ARCH={arch}", f"LLVM={LLVM}", f"RUST_LIB_SRC={library}"),
        *(f"-j{(os.cpu_count() or 1) + 1}", "--no-print-directory", *words),
    ]
    return [str(word) for word in command]


def configure(tree, objects, arch, fragments):
    """Write objects/.config: the smallest configuration, with what the fragments say."""
    objects.mkdir(parents=True, exist_ok=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    run(*kbuild_command(tree, objects, arch, "rustavailable"), **quiet)
    run(*kbuild_command(tree, objects, arch, "tinyconfig"), **quiet)
    merge = [tree / "scripts/kconfig/merge_config.sh", "-m", "-O", objects, objects / ".config"]
    run(*merge, *fragments, cwd=tree, **quiet)
    run(*kbuild_command(tree, objects, arch, "olddefconfig"), **quiet)


def kbuild_output(command, log_path, name, unusual=None):
    """Run a build; its output goes to a log, progress and everything unusual to the terminal.

    The unusual lines are appended to a list, too, if there is one. Returns the number of steps that kbuild took.
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
                    if unusual is not None:
                        unusual.append(line)
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
