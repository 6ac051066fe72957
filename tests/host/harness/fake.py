# SPDX-License-Identifier: GPL-2.0
"""The KUnit suites of the fake device (tests/fake) over a driver, in a guest that has no other virtio-iommu."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from common import PROJECT
from qemu import GuestError

from harness import images
from harness.agent import AgentGuest

SOURCES = PROJECT / "tests/fake"
RUST_DRIVER, C_DRIVER = "virtio_iommu", "virtio-iommu"
# What the fake device's module needs, in this order
LIBRARIES = ("vhost_iotlb", "vringh")
# On a busy host the guest may find too few timer interrupts when it boots, and panic. And insmod waits for each case,
# of which some take minutes: that is not a task that hangs.
COMMAND_LINE = "kunit.enable=1 kunit.autorun=1 log_buf_len=4M sysctl.kernel.hung_task_timeout_secs=0"

# Of memory that the guest finds, and that nobody has put online, in MiB: two blocks
DIMM = 256

_SUITE = re.compile(r'\.name = "(viommu_fake_\w+)"')
_CASE = re.compile(r"^\tKUNIT_CASE\w*\((\w+)", re.M)
_ABOUT = r"/\*((?:[^*]|\*(?!/))*)\*/\nstatic void {name}\(struct kunit \*test\)"

_STAMP = re.compile(r"^\[ *(\d+\.\d+)\] ?")
_SUBTEST = re.compile(r"^( *)# Subtest: (\S+)$")
_RESULT = re.compile(r"^( *)(not ok|ok) \d+ (.*?)(?: # (SKIP)\b *(.*))?$")
_FAILED = re.compile(r"^ *# \w+: (?:EXPECTATION|ASSERTION) FAILED at ")
_OF_A_DEVICE = re.compile(r"^\S+ (?:virtio\d|fake-)\S*: ")


class Case(NamedTuple):
    """A KUnit case; it may run several times, with a parameter each."""

    suite: str
    name: str

    def __str__(self):
        return self.name.removeprefix("fake_")


def cases():
    """Every case that the sources have, in the order in which they run, with the comment that says what it shows."""
    found = {}
    for source in sorted(SOURCES.glob("kunit_*.c")):
        text = source.read_text(encoding="utf-8")
        suite = _SUITE.search(text)
        assert suite, f"{source} has no suite"
        for name in _CASE.findall(text):
            about = re.search(_ABOUT.format(name=name), text)
            assert about, f"{source}: no comment says what {name} is about"
            words = re.sub(r"^ \* ?", "", about.group(1), flags=re.M).split()
            found[Case(suite.group(1), name)] = " ".join(words)
    return found


@dataclass
class Result:
    """How a case ended, with one parameter if it has any, and what its failed expectations said."""

    case: Case
    parameter: str | None
    verdict: str  # "passed", "failed" or "skipped"
    why: list = field(default_factory=list)

    def __str__(self):
        name = f"{self.case}, {self.parameter}" if self.parameter else str(self.case)
        return "\n    ".join([f"{name}: {self.verdict}", *self.why])


class _Reader:
    """Goes through the kernel log, in which KTAP is interleaved with everything else."""

    def __init__(self):
        self.results, self.suite, self.case = [], None, None
        self._why, self._stamp, self._explaining = [], None, False

    def line(self, text):
        stamp = _STAMP.match(text)
        same_message = stamp is None or stamp.group(1) == self._stamp
        text = text[stamp.end() :] if stamp else text
        self._stamp = stamp.group(1) if stamp else self._stamp
        if found := _SUBTEST.match(text):
            self._subtest(len(found.group(1)) // 4, found.group(2))
        elif found := _RESULT.match(text):
            self._result(*found.groups())
        elif _FAILED.match(text):
            self._why.append("")
            self._explaining = True
            return
        elif self._explaining and same_message and not _OF_A_DEVICE.match(text):
            # What a failed expectation says is one message of several lines. The last may be in the test's own words.
            # A device's message may follow in the same tick of the clock.
            own_words = not text.startswith(" ")
            self._why[-1] = text.strip() if own_words else f"{self._why[-1]} {text.strip()}".strip()
            return
        self._explaining = False

    def _subtest(self, depth, name):
        if depth == 1:
            self.suite, self.case = name, None
        elif depth == 2:
            self.case = Case(self.suite, name)
        self._why = []

    def _result(self, indent, result, name, skip, reason):
        why = [reason] if skip else self._why
        depth, verdict = len(indent) // 4, "skipped" if skip else "passed" if result == "ok" else "failed"
        if depth == 2 and self.case:
            self.results.append(Result(self.case, name, verdict, why))
        elif depth == 1 and self.case and self.case.name == name:
            self.case = None
        elif depth == 1:
            self.results.append(Result(Case(self.suite, name), None, verdict, why))
        self._why = []


@dataclass
class Run:
    """What became of the suites, and of the guest."""

    console: str
    error: GuestError | None

    def __post_init__(self):
        reader = _Reader()
        for line in self.console.splitlines():
            reader.line(line)
        self.results = reader.results

    def of(self, case):
        return [result for result in self.results if result.case == case]


class Setting(NamedTuple):
    """Suites that are run once more: over a real device, say, or over a driver that has parameters."""

    name: str
    suites: tuple
    parameters: dict
    driver: dict = {}


class FakeGuest(AgentGuest):
    """A guest with a driver for virtio-iommu, and with no device that it could drive."""

    def __init__(self, directory, flavour, driver=RUST_DRIVER, *, glob="viommu_fake_*", command_line="", cpus=2):
        directory.mkdir(parents=True, exist_ok=True)
        self.driver = driver
        memory, dimm = flavour.memory, ()
        if images.setting("CONFIG_MEMORY_HOTPLUG", flavour.variant):
            memory = f"{memory},slots=1,maxmem={memory + DIMM}M"
            dimm = ("-object", f"memory-backend-ram,id=dimm,size={DIMM}M", "-device", "pc-dimm,memdev=dimm")
        super().__init__(
            directory,
            flavour.kernel,
            images.ram_disk(directory / "initramfs", images.modules(flavour.variant)),
            cmdline=f"{COMMAND_LINE} kunit.filter_glob={glob} {command_line}",
            mem=memory,
            smp=cpus,
            patience=flavour.patience,
            extra=(*flavour.platform.arguments, *dimm),
        )

    def boot(self):
        self.wait_ready(timeout=90)
        for module in (*LIBRARIES, self.driver):
            self.load(module)
        return self

    def load(self, module, parameters=None, timeout=30):
        words = "".join(f" {name}={value}" for name, value in (parameters or {}).items())
        self.check(f"insmod /lib/{module}.ko{words}", timeout)

    def run_suites(self, parameters, timeout, glob=None):
        """Load the fake device, which runs its suites, and unload it again."""
        if glob:
            self.check(f"printf %s '{glob}' > /sys/module/kunit/parameters/filter_glob")
        self.load("virtio_iommu_fake", parameters, timeout)
        self.check("rmmod virtio_iommu_fake")

    def run_setting(self, setting, suite, parameters, timeout):
        """Run a suite as a setting wants it. Returns what the console says of it."""
        seen = len(self.console)
        if setting.driver:
            self.check(f"rmmod {self.driver}")
            self.load(self.driver, setting.driver)
        self.run_suites(parameters | setting.parameters, timeout, suite)
        return self.console[seen:]


def run(directory, flavour, driver=RUST_DRIVER, *, parameters, timeout, afterwards=None, **options):
    """Run suites in a guest of their own; a guest that dies of it is part of the outcome."""
    error = None
    with FakeGuest(directory, flavour, driver, **options) as guest:
        guest.boot()
        try:
            guest.run_suites(parameters, timeout)
            if afterwards:
                afterwards(guest)
            guest.power_off()
        except GuestError as caught:
            error = caught
    return Run(guest.console, error)


def run_settings(directory, flavour, settings, *, parameters, timeout, **options):
    """Run settings in one guest. Returns a run for each of a setting's suites, up to the one that the guest died of."""
    runs = {}
    with FakeGuest(directory, flavour, **options) as guest:
        guest.boot()
        for setting in settings:
            for suite in setting.suites:
                try:
                    console, error = guest.run_setting(setting, suite, parameters, timeout), None
                except GuestError as caught:
                    console, error = guest.console, caught
                runs[setting.name, suite] = Run(console, error)
                if error:
                    return runs
        guest.power_off()
    return runs
