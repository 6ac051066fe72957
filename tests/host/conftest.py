# SPDX-License-Identifier: GPL-2.0
"""Fixtures that boot guests, once per module and flavour of the kernel, and the last line of the report."""

import pytest
from harness import log
from harness.machine import DEBUG, RELEASE, Machine


class Guests:
    """The guests of one test module: started on demand, examined and ended with the module."""

    def __init__(self, directory, flavour):
        self.directory, self.flavour = directory, flavour
        self.all = []

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

    def finish(self):
        """End all of them; fails if the log of one holds what it must not."""
        try:
            for guest in self.all:
                if guest.alive and guest.answers:
                    guest.power_off()
        finally:
            for guest in self.all:
                guest.kill()
        for guest in self.all:
            check_log(guest)


def check_log(guest):
    splats = log.splats(guest.console)
    assert not splats, f"in {guest.console_log}:\n" + "\n\n".join(splats)


def pytest_addoption(parser):
    text = "also the long tests (marked `long`), and all tests on the debug kernel"
    parser.addoption("--all", action="store_true", help=text)


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; runs with --all only")


def is_on_debug_kernel(item):
    """It takes ten times as long there."""
    return getattr(item, "callspec", None) is not None and DEBUG in item.callspec.params.values()


def pytest_collection_modifyitems(config, items):
    if config.getoption("--all"):
        return
    late = [item for item in items if item.get_closest_marker("long") or is_on_debug_kernel(item)]
    config.hook.pytest_deselected(items=late)
    items[:] = [item for item in items if item not in late]


@pytest.fixture(scope="module", params=[RELEASE, DEBUG], ids=lambda flavour: flavour.name)
def flavour(request):
    """The kernels that the tests run on."""
    return request.param


@pytest.fixture(scope="module")
def guests(flavour, tmp_path_factory, request):
    """Starts guests of a flavour; they live until the module's tests have run."""
    name = f"{request.module.__name__}-{flavour.name}"
    started = Guests(tmp_path_factory.mktemp(name), flavour)
    yield started
    started.finish()


def pytest_unconfigure(config):
    """The last line, for people and scripts. An error outside a test's body counts as a failure."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.collectonly:
        return
    count = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    print(f"{count['passed']} passed, {count['failed'] + count['error']} failed, {count['skipped']} skipped")
