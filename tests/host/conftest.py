# SPDX-License-Identifier: GPL-2.0
"""Fixtures that boot guests, once per module and flavour of the kernel, and the last line of the report."""

import re
from pathlib import Path

import pytest
from harness import images, log, machine, parity
from harness.machine import DEBUG, PLATFORMS, RELEASE, Flavour, Machine, qemu_version, runs_on

FLAVOURS = [value.name for value in vars(machine).values() if isinstance(value, Flavour)]
# Where a test's name has the flavour that it runs on. Of two that match the longer comes first: arm64-acpi, arm64.
FLAVOUR_IN_NAME = re.compile(rf"[\[-]({'|'.join(sorted(FLAVOURS, key=len, reverse=True))})(?=[-\]])")


class Guests:
    """The guests of one test module: started on demand, examined and ended with the module."""

    def __init__(self, directory, flavour):
        self.directory, self.flavour = directory, flavour
        self.all = []
        self._reported = set()

    def start(self, flavour=None, **options):
        """Start a guest, and wait for nothing."""
        directory = self.directory / f"guest{len(self.all)}"
        guest = Machine(directory, flavour or self.flavour, **options)
        guest.__enter__()
        self.all.append(guest)
        return guest

    def boot(self, flavour=None, **options):
        """Start a guest, and wait until it has a driver and disks."""
        return self.start(flavour, **options).boot()

    def boot_holding_itself(self, flavour=None, files=None, **options):
        """A guest that holds its kernel and a RAM disk, for kexec, as /boot/kernel and /boot/initramfs."""
        flavour = flavour or self.flavour
        directory = self.directory / f"next{len(self.all)}"
        directory.mkdir()
        modules = images.modules(flavour.variant) if flavour.module else {}
        ram_disk = images.ram_disk(directory / "initramfs", modules)
        files = {**(files or {}), "boot/kernel": flavour.kernel, "boot/initramfs": ram_disk}
        return self.boot(flavour, files=files, **options)

    def finish(self):
        """End all of them; fails if the log of one holds what it must not."""
        try:
            for guest in self.all:
                if guest.alive and guest.answers:
                    guest.power_off()
        finally:
            for guest in self.all:
                guest.kill()
        self.check_logs()

    def check_logs(self):
        """Fails if the log of one holds what it must not, but once only for each of these."""
        for guest in self.all:
            splats = [splat for splat in log.splats(guest.console) if splat.splitlines()[0] not in self._reported]
            self._reported |= {splat.splitlines()[0] for splat in splats}
            assert not splats, f"{splats[0].splitlines()[0]}\nin {guest.console_log}:\n" + "\n\n".join(splats)


def pytest_addoption(parser):
    text = "also the long tests (marked `long`), and all tests on the debug kernel"
    parser.addoption("--all", action="store_true", help=text)
    text = "only the soak test (marked `soak`), for that long"
    parser.addoption("--soak", type=float, metavar="MINUTES", help=text)
    text = "only the tests on guests of this architecture; may be repeated"
    parser.addoption("--arch", action="append", choices=PLATFORMS, help=text)
    text = "also the tests on this flavour of the kernel; may be repeated; part of --all"
    parser.addoption("--flavour", action="append", default=[], help=text)
    text = "also the tests over the C driver, to compare, and their long ones; part of --all"
    parser.addoption("--parity", action="store_true", help=text)
    for mark, tests in parity.MARKS.items():
        text = f"a document whose table of the outcomes of {tests} over both drivers is to be refreshed"
        parser.addoption(f"--{mark}-table", type=Path, metavar="FILE", help=text)


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; runs with --all only")
    config.addinivalue_line("markers", "soak: takes as long as --soak says; runs with it only, and alone")
    text = "lifecycle: how kernels take the IOMMU, let it go and hand it over; there QEMUs differ most"
    config.addinivalue_line("markers", text)
    config.addinivalue_line("markers", "parity: also runs over the C driver, with --parity or --all")
    config.addinivalue_line("markers", "matrix: a machine of the matrix, over both drivers; see matrix.rst")
    config.addinivalue_line("markers", "c_driver(reason): why the C driver fails")
    for table in parity.tables():
        config.pluginmanager.register(table, f"{table.mark}-table")


def pytest_report_header(config):
    """Which QEMU this is about."""
    return [f"{arch}: {qemu_version(arch)}" for arch in config.getoption("--arch") or PLATFORMS]


def flavours_of(item):
    """The flavours that a test is parametrised with."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return [value for value in parameters if isinstance(value, Flavour)]


def is_wanted(config, item):
    is_soak = item.get_closest_marker("soak") is not None
    if config.getoption("--soak") or is_soak:
        return bool(config.getoption("--soak")) and is_soak
    flavours = flavours_of(item)
    archs = config.getoption("--arch")
    if archs and not {flavour.arch for flavour in flavours or [RELEASE]} <= set(archs):
        return False
    is_compared = item.get_closest_marker("parity") and not any(flavour.long for flavour in flavours)
    if config.getoption("--parity") and (is_compared or parity.is_over_c(item)):
        return True
    named = config.getoption("--flavour")
    is_long = item.get_closest_marker("long") or any(flavour.long and flavour.name not in named for flavour in flavours)
    return config.getoption("--all") or not is_long


def pytest_collection_modifyitems(config, items):
    config.hook.pytest_deselected(items=[item for item in items if not is_wanted(config, item)])
    items[:] = [item for item in items if is_wanted(config, item)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n`, a module's tests on one flavour of the kernel stay together: they may share a guest."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGuests(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return scope_of(nodeid)

    return ByGuests(config, log)


def scope_of(nodeid):
    """The module that a test is in, and the flavour that its name holds, if any."""
    module, _, name = nodeid.partition("::")
    found = FLAVOUR_IN_NAME.search(name)
    return module, found and found.group(1)


def pytest_sessionfinish(session):
    # With `-n`, the others run the tests, and this process gets to know all outcomes.
    if hasattr(session.config, "workerinput"):
        return
    for mark in parity.MARKS:
        if path := session.config.getoption(f"--{mark}-table"):
            session.config.pluginmanager.get_plugin(f"{mark}-table").write(path)


# Where a module does not say otherwise
flavour = runs_on(RELEASE, DEBUG)


@pytest.fixture(scope="module")
def guests(flavour, tmp_path_factory, request):
    """Starts guests of a flavour; they live until the module's tests have run."""
    name = f"{request.module.__name__}-{flavour.name}"
    started = Guests(tmp_path_factory.mktemp(name), flavour)
    yield started
    started.finish()


@pytest.fixture(autouse=True)
def logs_are_checked(request):
    """With both drivers side by side, a report in a log counts against the test that caused it."""
    yield
    if any(request.node.get_closest_marker(mark) for mark in parity.MARKS) and "guests" in request.fixturenames:
        request.getfixturevalue("guests").check_logs()


def pytest_unconfigure(config):
    """The last line, for people and scripts. An error outside a test's body counts as a failure."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.collectonly:
        return
    count = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    print(f"{count['passed']} passed, {count['failed'] + count['error']} failed, {count['skipped']} skipped")
