# SPDX-License-Identifier: GPL-2.0
"""The text of the cover letter: tools/series.d/cover-letter.txt, with figures of the last `make bench`."""

from bench_report import LEGEND, cells, committed
from common import ToolError
from series_plan import PARTS, WIDTH, raise_if

# What becomes of the columns of bench_report in a mail, which is narrow
HEADING = (("", "requests", "", "notifications", "", "instr."), ("", "C", "Rust", "C", "Rust", "Rust/C"))


def _line(cells_of_it, widths):
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells_of_it, widths, strict=True)).rstrip()


def figures(names):
    """The committed results of some workloads, as a table."""
    rows = {row.name: row for row in committed().rows}
    if unknown := [name for name in names if name not in rows]:
        raise ToolError(f"cover-letter.txt asks for {', '.join(unknown)}, and `make bench` has no such workload")
    groups, columns = HEADING
    lines = [columns]
    for name in names:
        *counts, _, _, ratio = cells(rows[name])
        lines.append((*counts, ratio))
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    # A word that stands over two columns makes neither of them wider than the two together have to be.
    over = [widths[0], widths[1] + 2 + widths[2], max(widths[3] + 2 + widths[4], len(groups[3])), widths[5]]
    widths[4] = over[2] - 2 - widths[3]
    table = [_line([word for i, word in enumerate(groups) if i not in (2, 4)], over)]
    return [f"  {line}".rstrip() for line in [*table, *(_line(line, widths) for line in lines), "", LEGEND]]


def cover_letter():
    """A line `@figures names` stands for these rows of `make bench`."""
    lines = []
    for line in (PARTS / "cover-letter.txt").read_text(encoding="utf-8").split("\n"):
        lines += figures(line.split()[1:]) if line.startswith("@figures ") else [line]
    raise_if([f"cover letter: more than {WIDTH} columns: {line}" for line in lines if len(line) > WIDTH])
    return "\n".join(lines).strip() + "\n"
