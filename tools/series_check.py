# SPDX-License-Identifier: GPL-2.0
"""Apply the series to a copy of the kernel tree, patch by patch, and build after each what it can have broken.

The copy and its objects stay in the cache. So does a list of the states of the tree that were found good, and with
what tools, so that the next time only what is new gets built.
"""

import hashlib
import json
import re
import shutil
import subprocess
import time

from common import BUILD, CACHE, LLVM, PROJECT, ToolError, output, require_space, run, say, version_of
from integration import MANIFEST, differs, pristine, write
from kbuild import Config, configure, kbuild_command, kbuild_output

ARCH = "x86_64"
# Both drivers and the fake device as modules, and the KUnit tests
FRAGMENTS = [PROJECT / f"tests/configs/{name}.config" for name in ("base", ARCH, "module")]
TARGETS = ("prepare", "rust/", "drivers/iommu/", "drivers/acpi/viot.o")
SELFTESTS = "tools/testing/selftests/"
NOT_BUILT = ("Documentation/", "MAINTAINERS")
BAD = re.compile(r"\bwarning\b|\berror\b", re.I)


class Check:
    """A run over the series."""

    def __init__(self, tree, git_in):
        self.tree, self.source, self.objects = tree, CACHE / "series/linux", CACHE / "obj/series"
        self.git = git_in(self.source)
        self.logs = BUILD / "series-check"
        self.record = CACHE / "series/good.json"
        self.good = set(json.loads(self.record.read_text(encoding="utf-8"))) if self.record.exists() else set()
        self.tools = [version_of(tool, "--version") for tool in ("rustc", f"clang{LLVM}", "bindgen", "gcc")]
        # Files that were changed since the last build
        self.unbuilt = set()
        self.configured = False

    def prepare(self, patches):
        """A copy of the tree without this project. In the repository there is only what the patches touch."""
        require_space(CACHE, 4, "checking the series")
        say(f"copying {self.tree.name} to {self.source}")
        self.source.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.source / ".git", ignore_errors=True)
        # What is the same is left alone: kbuild goes by the time of a file.
        but = ["--exclude=/.git", f"--exclude=/{MANIFEST}"]
        run("rsync", "-rlp", "--checksum", "--delete", *but, f"{self.tree}/", f"{self.source}/")
        before = pristine(self.tree)
        write(self.source, {name: text for name, text in before.items() if differs(self.source / name, text)})
        run(*self.git, "init", "--quiet")
        touched = {
            name
            for patch in patches
            for name in re.findall(r"^diff --git a/(\S+) b/\S+$", patch.read_text(encoding="utf-8"), re.M)
        }
        run(*self.git, "add", "--force", *sorted(name for name in touched if (self.source / name).exists()))
        run(*self.git, "commit", "--quiet", "--message", "base")

    def build(self, name):
        """Build what the files in `unbuilt` have to do with. Returns the number of steps."""
        files = {file for file in self.unbuilt if not file.startswith(NOT_BUILT)}
        self.unbuilt.clear()
        said, steps, log = [], 0, self.logs / f"{name}.log"
        self.logs.mkdir(parents=True, exist_ok=True)
        if any(not file.startswith(SELFTESTS) for file in files):
            if not self.configured or any("Kconfig" in file for file in files):
                configure(self.source, self.objects, ARCH, FRAGMENTS)
                self.configured = True
            command = kbuild_command(self.source, self.objects, ARCH, *TARGETS)
            steps += kbuild_output(command, log, name, said)
        if any(file.startswith(SELFTESTS) for file in files):
            command = kbuild_command(self.source, self.objects, ARCH, "headers")
            steps += kbuild_output(command, log, name, said)
            steps += self.selftests(said)
        if bad := [line for line in said if BAD.search(line)]:
            raise ToolError(f"{name} builds with a warning; all of the output is in {log}:\n{''.join(bad)}")
        return steps

    def selftests(self, said):
        folder, programs = self.source / SELFTESTS / "virtio_iommu", self.objects / "selftests"
        programs.mkdir(exist_ok=True)
        command = [
            *("make", "-C", folder, f"OUTPUT={programs}", f"KHDR_INCLUDES=-isystem {self.objects}/usr/include"),
            *("USERLDFLAGS=-static", "USERCFLAGS=-Werror"),
        ]
        made = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        said += made.stderr.splitlines(keepends=True)
        if made.returncode:
            raise ToolError(f"{folder} does not build:\n{made.stderr}")
        return len(made.stdout.splitlines())

    def apply(self, patch):
        """Apply a patch, and build, unless its outcome is known to be good. Returns what was done, in words."""
        started = time.monotonic()
        run(*self.git, "am", "--quiet", patch)
        changed = output(*self.git, "show", "--format=", "--name-only", "HEAD").split("\n")
        self.unbuilt |= set(changed)
        state = output(*self.git, "rev-parse", "HEAD^{tree}")
        inputs = [state, self.tools, TARGETS, *(fragment.read_text(encoding="utf-8") for fragment in FRAGMENTS)]
        key = hashlib.sha256(json.dumps([self.tree.name, *inputs]).encode()).hexdigest()
        if key in self.good:
            return "known to be good"
        steps = self.build(patch.name)
        self.good.add(key)
        self.record.write_text(json.dumps(sorted(self.good)), encoding="utf-8")
        return f"{steps} steps in {time.monotonic() - started:.0f} s" if steps else "nothing to build"


def check(tree, patches, git_in):
    """Apply and build the patches. Raises an error that names the first one that is not good on its own."""
    started = time.monotonic()
    run_over = Check(tree, git_in)
    run_over.prepare(patches)
    for patch in patches:
        try:
            done = run_over.apply(patch)
        except ToolError as error:
            raise ToolError(f"{patch.name} is not good on its own: {error}") from None
        print(f"{patch.name:60} {done}", flush=True)
    if run_over.configured:
        Config.of_fragments(FRAGMENTS).check(Config.read(run_over.objects / ".config"), "the series")
    say(f"each of {len(patches)} patches builds without a warning ({time.monotonic() - started:.0f} s)")
