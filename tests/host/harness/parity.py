# SPDX-License-Identifier: GPL-2.0
"""The same tests over this project's driver and over the C driver of the same kernel, and one table of the outcomes.

A module that takes part says so, and has the C driver among its flavours:

    pytestmark = pytest.mark.parity
    flavour = runs_on(RELEASE, DEBUG, C_DRIVER)

What the C driver does is information: such a test never fails the run. Where it is known to fail, the test says why,
for the table:

    @parity.c_driver("hangs for good: it spins on the broken device with interrupts off")

The matrix of machines has a table of its own, with a column for each driver on each QEMU.
"""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import qemu

from harness.machine import C_DRIVER, MACHINES_C

_NOT_RUN = "-"
# How wide the columns of the table are on a terminal
_NAME_WIDTH, _OUTCOME_WIDTH = 62, 44

DRIVERS = ("C", "Rust")
# What has a table of its own: the mark of its tests, and what these are
MARKS = {"parity": "the tests that are compared", "matrix": "the matrix of machines"}


def c_driver(reason):
    """The mark of a test that the C driver fails, and why it does."""
    return pytest.mark.c_driver(reason)


def is_over_c(item):
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("flavour") in (C_DRIVER, MACHINES_C)


def driver_of(item):
    return DRIVERS[not is_over_c(item)]


def driver_and_qemu_of(item):
    series = re.search(r"version (\d+\.\d+)", qemu.version(item.callspec.params["flavour"].arch)).group(1)
    return f"{driver_of(item)} {series}"


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
    skipped: str | None = None

    def __str__(self):
        if self.failure is not None:
            return f"fails: {self.failure}"
        return "pass" if self.ran else self.skipped or _NOT_RUN


class Table:
    """A plugin of pytest that gathers the outcomes of tests with a mark, and the properties `cost` that they record.

    `columns` has the width of each in a document. With `skips` the table says why a test was skipped.
    """

    def __init__(self, mark, columns, column_of=driver_of, *, skips=False):
        self.mark, self.columns, self._column_of, self._skips = mark, columns, column_of, skips
        # Of each test: column to outcome
        self.rows = {}
        self.costs = []

    # Once it is known which tests run
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        for item in items:
            if not item.get_closest_marker(self.mark):
                continue
            known = item.get_closest_marker("c_driver")
            reason = known.args[0] if known and is_over_c(item) else None
            item.user_properties.append((self.mark, (row_name(item), self._column_of(item), reason)))
            if is_over_c(item):
                item.add_marker(pytest.mark.xfail(reason="the C driver", strict=False))

    def pytest_runtest_logreport(self, report):
        found = dict(report.user_properties).get(self.mark)
        if not found:
            return
        name, column, known = found
        if report.when == "call":
            self.costs += [f"{column:4}  {text}" for key, text in report.user_properties if key == "cost"]
        outcome = self.rows.setdefault(name, {}).setdefault(column, Outcome())
        failed = report.failed or (report.skipped and hasattr(report, "wasxfail"))
        if failed and outcome.failure is None:
            outcome.failure = known or first_line(report)
        if self._skips and report.skipped and not failed:
            outcome.skipped = f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
        outcome.ran |= report.when == "call" and not (report.skipped and not failed)

    def pytest_terminal_summary(self, terminalreporter):
        if not self.rows:
            return
        columns = [column for column in self.columns if any(column in row for row in self.rows.values())]
        terminalreporter.section("C driver and Rust driver")
        line = "  ".join([f"{{:{_NAME_WIDTH}}}", *[f"{{:{_OUTCOME_WIDTH}}}"] * len(columns)]).format
        terminalreporter.write_line(line("test", *columns).rstrip())
        for name, row in sorted(self.rows.items()):
            outcomes = (str(row.get(column, Outcome())) for column in columns)
            terminalreporter.write_line(line(name, *outcomes).rstrip())
        if self.costs:
            terminalreporter.section("What it took, on this machine and under emulation")
        for cost in self.costs:
            terminalreporter.write_line(cost)

    def write(self, path):
        """Refresh the rows in a document of the tests that have run; the others stay."""
        text = path.read_text(encoding="utf-8")
        begin, end = (f".. {self.mark} table: {word}" for word in ("begin", "end"))
        before, _, rest = text.partition(f"{begin}\n")
        old, found, after = rest.partition(f"{end}\n")
        if not found:
            raise ValueError(f"{path} has no `{begin}` or no `{end}`")
        lines = [line.strip() for line in old.splitlines() if line.startswith('   "')]
        rows = {name: outcomes for name, *outcomes in csv.reader(lines)}
        for name, row in self.rows.items():
            old_outcomes = rows.get(name, [_NOT_RUN] * len(self.columns))
            rows[name] = [
                old if (new := str(row.get(column, Outcome()))) == _NOT_RUN else new
                for column, old in zip(self.columns, old_outcomes, strict=True)
            ]
        out = io.StringIO()
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([name, *outcomes] for name, outcomes in sorted(rows.items()))
        table = "".join(f"   {line}\n" for line in out.getvalue().splitlines())
        header = ", ".join(f'"{word}"' for word in ("test", *self.columns))
        widths = ", ".join(str(width) for width in (50, *self.columns.values()))
        head = f"\n.. csv-table::\n   :header: {header}\n   :widths: {widths}\n\n"
        path.write_text(f"{before}{begin}\n{head}{table}\n{end}\n{after}", encoding="utf-8")


def tables():
    """Those that a run prints, and can write."""
    matrix = {f"{driver} {series}": 20 for series in ("7.2", "10.0", "11.1") for driver in DRIVERS}
    return [Table("parity", {"C": 40, "Rust": 10}), Table("matrix", matrix, driver_and_qemu_of, skips=True)]


def first_line(report):
    """What a failed test says of itself, short and without what differs from run to run."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    line = text.strip().splitlines()[0].removeprefix("AssertionError: ").removeprefix("qemu.GuestError: ")
    # Time stamps of the kernel log differ from run to run.
    return re.sub(r"\[ *\d+\.\d+\] ", "", line)[:160]
