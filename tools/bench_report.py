# SPDX-License-Identifier: GPL-2.0
"""The outcome of `make bench`: as a table, as files under Documentation/performance/, compared with the last one."""

import itertools
import json
from dataclasses import asdict, dataclass

from bench_claims import figures_page, page
from bench_guest import REQUESTS
from bench_plots import draw
from bench_workloads import Row
from common import PROJECT, ToolError

DIRECTORY = PROJECT / "Documentation/performance"
RESULTS = DIRECTORY / "results.json"

REGRESSION = "REGRESSION"
# How much more a figure may be before it counts. It is not 0 because a compiler makes other code of the same source.
TOLERANCE = {"instructions": 0.02, "irqs_off": 0.25}
OTHER_TOLERANCE = 0.01
# With lazy invalidation, what becomes one UNMAP depends on when the core's timer flushes. In UNMAPs for each operation:
CHANCE_OF_A_FLUSH = 0.05

ABBREVIATIONS = {"map": "M", "unmap": "U", "attach": "A", "detach": "D", "probe": "P"}
LEGEND = "requests: M MAP, U UNMAP, A ATTACH, D DETACH, P PROBE"
HEADINGS = ("", "requests C", "Rust", "notifications C", "Rust", "instructions C", "Rust", "Rust/C")


def number(value):
    """A figure, as exact as it is of use."""
    if value is None:
        return ""
    if value == int(value):
        return f"{int(value)}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}" if value < 10 else f"{value:.1f}"


def requests(values):
    sent = [f"{number(values[kind])}{ABBREVIATIONS[kind]}" for kind in REQUESTS if kind in values]
    return "+".join(sent) or ("0" if "notifications" in values else "")


def notes(row):
    """What has no column."""
    c, rust = row.values["c"], row.values["rust"]
    if "ratio" in rust:
        spread = f"{rust['low']:.2f} to {rust['high']:.2f}, {rust['rounds']} rounds, load {rust['load']}"
        return f"throughput Rust/C {rust['ratio']:.2f} ({spread})"
    if "irqs_off" in rust:
        return f"interrupts off for at most C {c['irqs_off']}, Rust {rust['irqs_off']} instructions"
    if "allocations" in rust:
        return f"allocations: C {c['allocations']:g}, Rust {rust['allocations']:g}"
    if "bytes" in rust:
        return f"memory: C {c['bytes']:.1f}, Rust {rust['bytes']:.1f} bytes"
    return ""


def cells(row):
    c, rust = row.values["c"], row.values["rust"]
    line = [row.name, requests(c), requests(rust)]
    for kind in ("notifications", "instructions"):
        line += [number(c.get(kind)), number(rust.get(kind))]
    comparable = c.get("instructions") and rust.get("instructions")
    return [*line, f"{rust['instructions'] / c['instructions']:.2f}" if comparable else ""]


def by_section(rows):
    sections = dict.fromkeys(row.section for row in rows)
    return [(section, [row for row in rows if row.section == section]) for section in sections]


def table(rows):
    """For a terminal."""
    lines = [cells(row) for row in rows]
    widths = [max(len(line[i]) for line in [HEADINGS, *lines]) for i in range(len(HEADINGS))]

    def formatted(line):
        first, *others = (cell.ljust(width) if i == 0 else cell.rjust(width)
                          for i, (cell, width) in enumerate(zip(line, widths, strict=True)))
        return "  ".join([first, *others]).rstrip()

    text = [formatted(HEADINGS)]
    for section, members in by_section(rows):
        text += ["", section]
        for row in members:
            text.append(formatted(cells(row)))
            if notes(row):
                text.append(f"{'':{widths[0]}}  {notes(row)}")
    return "\n".join([*text, "", LEGEND])


def rst_table(rows):
    """The same for a page of documentation."""
    headings = [*HEADINGS, ""]
    blocks = []
    for section, members in by_section(rows):
        lines = [[*cells(row), notes(row)] for row in members]
        used = [i for i in range(len(headings)) if i == 0 or any(line[i] for line in lines)]
        lines = [[line[i] for i in used] for line in [headings, *lines]]
        lines[0][0] = "workload"
        widths = [max(len(line[i]) for line in lines) or 1 for i in range(len(used))]
        rule = "  ".join("=" * width for width in widths)
        # In a simple table, a cell of the first column must not be empty, others may.
        body = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        blocks.append("\n".join([section, "-" * len(section), "", rule, body[0], rule, *body[1:], rule, ""]))
    return "\n".join(blocks)


@dataclass
class Results:
    """The rows of a run, or of several with the same tools."""

    rows: list
    made_with: dict

    def updated(self, rows, made_with):
        """These results, with newer rows in the place of those of the same name."""
        if self.rows and made_with != self.made_with:
            raise ToolError(f"the committed results were made with {self.made_with}: run all of `make bench`")
        new = {row.name: row for row in rows}
        rows = [new.pop(row.name, row) for row in self.rows]
        return Results(rows + list(new.values()), made_with)


def committed():
    if not RESULTS.exists():
        return Results([], {})
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    return Results([Row(**row) for row in found["rows"]], found["made_with"])


def _judge(row, old, kind):
    """A line about a figure that is not what it was, or None."""
    now, before = row.values["rust"].get(kind, 0), old.values["rust"].get(kind, 0)
    what = f"{row.name}: {kind}"
    if kind == "instructions":
        # Relative to the C driver, which the same compiler has made: a kernel's or compiler's change is no regression.
        now, before = (one.values["rust"][kind] / max(1, one.values["c"][kind]) for one in (row, old))
        what += " relative to C"
    tolerance = TOLERANCE.get(kind, OTHER_TOLERANCE)
    change = f"{what}: {number(before)} before, {number(now)} now"
    slack = before * tolerance
    if kind == "unmap" and "lazy" in row.name:
        slack += CHANCE_OF_A_FLUSH
    if now > before + slack:
        return f"{REGRESSION}: {change}"
    if now < before - slack:
        return f"better: {change}"
    return None


def compare(rows, before):
    """Lines about the deterministic figures that differ from those of an earlier run, worst first."""
    old = {row.name: row for row in before}
    complaints = []
    for row in rows:
        if not row.deterministic or row.name not in old:
            continue
        kinds = dict.fromkeys(itertools.chain(old[row.name].values["rust"], row.values["rust"]))
        complaints += [_judge(row, old[row.name], kind) for kind in kinds]
    return sorted(filter(None, complaints), key=lambda line: not line.startswith(REGRESSION))


def _rounded(values):
    return {driver: {kind: round(value, 4) for kind, value in kinds.items()} for driver, kinds in values.items()}


def write(results):
    """Write the results, the plots and the pages."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    rows = [asdict(row) | {"values": _rounded(row.values)} for row in results.rows]
    text = json.dumps({"made_with": results.made_with, "rows": rows}, indent=1)
    RESULTS.write_text(f"{text}\n", encoding="utf-8")
    plots = draw(results.rows, DIRECTORY)
    (DIRECTORY / "index.rst").write_text(page(results.rows, results.made_with, plots), encoding="utf-8")
    (DIRECTORY / "figures.rst").write_text(figures_page(rst_table(results.rows), LEGEND), encoding="utf-8")
