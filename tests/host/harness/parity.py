# SPDX-License-Identifier: GPL-2.0
"""The same tests over this project's driver and over the C driver of the same kernel, and one table of the outcomes.

A module that takes part says so, and has the C driver among its flavours:

    pytestmark = pytest.mark.parity
    flavour = runs_on(RELEASE, DEBUG, C_DRIVER)

What the C driver does is information: such a test never fails the run. Where it is known to fail, the test says why,
for the table:

    @parity.c_driver("hangs for good: it spins on the broken device with interrupts off")
"""

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.machine import C_DRIVER

_BEGIN, _END = ".. parity table: begin", ".. parity table: end"
_NOT_RUN = "-"
# How wide the columns of the table are on a terminal
_NAME_WIDTH, _C_WIDTH = 62, 44


def c_driver(reason):
    """The mark of a test that the C driver fails, and why it does."""
    return pytest.mark.c_driver(reason)


def is_over_c(item):
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("flavour") is C_DRIVER


def row_name(item):
    """What the table calls a test: its file, its name, and its parameters but for the kernel."""
    subject = Path(item.path).stem.removeprefix("test_").replace("_", " ")
    name = item.originalname.removeprefix("test_").replace("_", " ")
    flavour = item.callspec.params["flavour"].name
    # Whatever else the test's id has in brackets
    rest = re.sub(rf"(^|-){flavour}(-|$)", lambda found: "-" * all(found.groups()), item.callspec.id)
    return f"{subject}: {name}" + (f" ({rest})" if rest else "")


@dataclass
class Outcome:
    """How a test ended over one driver, on whatever number of kernels."""

    ran: bool = False
    failure: str | None = None

    def __str__(self):
        if self.failure is not None:
            return f"fails: {self.failure}"
        return "pass" if self.ran else _NOT_RUN


@dataclass
class Row:
    """One test over both drivers."""

    c: Outcome = field(default_factory=Outcome)
    rust: Outcome = field(default_factory=Outcome)


class Table:
    """A plugin of pytest that gathers the outcomes, and the properties `cost` that tests record."""

    def __init__(self):
        self.rows = {}
        self.costs = []

    def pytest_collection_modifyitems(self, items):
        for item in items:
            if not item.get_closest_marker("parity"):
                continue
            known = item.get_closest_marker("c_driver")
            item.user_properties.append(("parity", (row_name(item), is_over_c(item), known and known.args[0])))
            if is_over_c(item):
                item.add_marker(pytest.mark.xfail(reason="the C driver", strict=False))

    def pytest_runtest_logreport(self, report):
        found = dict(report.user_properties).get("parity")
        if not found:
            return
        name, over_c, known = found
        if report.when == "call":
            driver = "C" if over_c else "Rust"
            self.costs += [f"{driver:4}  {text}" for key, text in report.user_properties if key == "cost"]
        row = self.rows.setdefault(name, Row())
        outcome = row.c if over_c else row.rust
        failed = report.failed or (report.skipped and hasattr(report, "wasxfail"))
        if failed and outcome.failure is None:
            outcome.failure = (known if over_c else None) or first_line(report)
        outcome.ran |= report.when == "call" and not (report.skipped and not failed)

    def pytest_terminal_summary(self, terminalreporter):
        if not self.rows:
            return
        terminalreporter.section("C driver and Rust driver")
        line = f"{{:{_NAME_WIDTH}}}  {{:{_C_WIDTH}}}  {{}}".format
        terminalreporter.write_line(line("test", "C", "Rust"))
        for name, row in sorted(self.rows.items()):
            terminalreporter.write_line(line(name, str(row.c), str(row.rust)))
        if self.costs:
            terminalreporter.section("What it took, on this machine and under emulation")
        for cost in self.costs:
            terminalreporter.write_line(cost)

    def write(self, path):
        """Refresh the rows in a document of the tests that have run; the others stay."""
        text = path.read_text(encoding="utf-8")
        before, _, rest = text.partition(f"{_BEGIN}\n")
        old, _, after = rest.partition(f"{_END}\n")
        if not rest or not after:
            raise ValueError(f"{path} has no `{_BEGIN}` or no `{_END}`")
        lines = [line.strip() for line in old.splitlines() if line.startswith('   "')]
        rows = {name: (c, rust) for name, c, rust in csv.reader(lines)}
        for name, row in self.rows.items():
            old_c, old_rust = rows.get(name, (_NOT_RUN, _NOT_RUN))
            rows[name] = (
                (str(row.c) if row.c.ran or row.c.failure else old_c),
                (str(row.rust) if row.rust.ran or row.rust.failure else old_rust),
            )
        out = io.StringIO()
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([name, *outcomes] for name, outcomes in sorted(rows.items()))
        table = "".join(f"   {line}\n" for line in out.getvalue().splitlines())
        head = '\n.. csv-table::\n   :header: "test", "C", "Rust"\n   :widths: 50, 40, 10\n\n'
        path.write_text(f"{before}{_BEGIN}\n{head}{table}\n{_END}\n{after}", encoding="utf-8")


def first_line(report):
    """What a failed test says of itself, short and without what differs from run to run."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    line = text.strip().splitlines()[0].removeprefix("AssertionError: ").removeprefix("qemu.GuestError: ")
    # Time stamps of the kernel log differ from run to run.
    return re.sub(r"\[ *\d+\.\d+\] ", "", line)[:160]
