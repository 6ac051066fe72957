# SPDX-License-Identifier: GPL-2.0
"""The plots of Documentation/performance/, drawn by gnuplot, as SVG and PNG."""

import subprocess
from dataclasses import dataclass

from bench_workloads import PAGES, THREADS
from common import ToolError

COLOURS = {"c": "#9aa0a6", "rust": "#c4622d"}
COMMON = """
set encoding utf8
set grid ytics lc rgb '#dddddd'
set border 3
set tics nomirror out
set key top left
set style fill solid 1 border -1
set boxwidth 0.8 relative
"""
TERMINALS = {
    "svg": "svg size 720,400 font 'sans,12' background rgb 'white'",
    "png": "pngcairo size 1080,600 font 'sans,16'",
}


@dataclass(frozen=True)
class Plot:
    name: str
    title: str
    # What gnuplot needs, without terminal and output; None if there are no rows for it
    script: str | None


def _bars(rows, names, figure, label, axis):
    """A group of two bars for each name: (name in the rows, name on the axis). `figure` takes a driver's values."""
    points = [(text, rows[name].values) for name, text in names if name in rows]
    if not points:
        return None
    data = "\n".join(f'"{text}" {figure(values["c"])} {figure(values["rust"])}' for text, values in points)
    return f"""
$data << END
{data}
END
set style data histograms
set style histogram clustered gap 1
set ylabel '{label}'
{axis}
plot $data using 2:xtic(1) title 'C' lc rgb '{COLOURS["c"]}', \\
     $data using 3 title 'Rust' lc rgb '{COLOURS["rust"]}'
"""


def _kind(name):
    return lambda values: values.get(name, 0)


def _requests(values):
    return values.get("map", 0) + values.get("unmap", 0)


def _ratios(rows):
    lines = []
    for position, mode in enumerate(("strict", "lazy")):
        for number, threads in enumerate(THREADS):
            row = rows.get(f"threads-{mode}-{threads}")
            if row:
                found = row.values["rust"]
                at = number + (position - 0.5) * 0.2
                lines.append((mode, f"{at} {found['ratio']} {found['low']} {found['high']}"))
    if {mode for mode, _ in lines} != {"strict", "lazy"}:
        return None
    blocks = "".join(
        f"${mode} << END\n" + "\n".join(text for owner, text in lines if owner == mode) + "\nEND\n"
        for mode in ("strict", "lazy")
    )
    tics = ", ".join(f"'{threads}' {number}" for number, threads in enumerate(THREADS))
    return f"""
{blocks}
set ylabel 'throughput, Rust / C'
set xlabel 'threads'
set logscale y 2
set xrange [-0.5:{len(THREADS) - 0.5}]
set xtics ({tics})
set arrow from graph 0, first 1 to graph 1, first 1 nohead lc rgb '{COLOURS["c"]}'
plot $strict using 1:2:3:4 with yerrorbars pt 7 lw 2 lc rgb '{COLOURS["rust"]}' title 'strict', \\
     $lazy using 1:2:3:4 with yerrorbars pt 5 lw 2 lc rgb '#3b6ea5' title 'lazy'
"""


def plots(rows):
    pages = [(f"dma-strict-{n}", str(n)) for n in PAGES]
    reattach = [(f"reattach-{n}", f"{n:,}") for n in (1, 1000, 1000000)]
    linear = "set xlabel 'pages'\nset yrange [0:*]"
    logarithmic = "set xlabel 'mappings'\nset logscale y\nset yrange [1:*]"
    return [
        Plot(
            "instructions",
            "Guest instructions for one map and one unmap with the DMA API, strict, by number of pages",
            _bars(rows, pages, _kind("instructions"), "instructions", linear),
        ),
        Plot(
            "requests",
            "Requests for one map and one unmap with the DMA API, strict, by number of pages",
            _bars(rows, pages, _requests, "requests", linear),
        ),
        Plot(
            "reattach",
            "Notifications to attach an endpoint to a domain, by number of mappings that the domain has",
            _bars(rows, reattach, _kind("notifications"), "notifications", logarithmic),
        ),
        Plot(
            "threads",
            "Throughput of dma_map_benchmark, 1 page: median and range of several rounds",
            _ratios(rows),
        ),
    ]


def draw(rows, directory):
    """Draw the plots that there are rows for into a directory; returns them."""
    drawn = [plot for plot in plots({row.name: row for row in rows}) if plot.script]
    for plot in drawn:
        for suffix, terminal in TERMINALS.items():
            script = f"set terminal {terminal}\nset output '{plot.name}.{suffix}'\n{COMMON}{plot.script}"
            done = subprocess.run(
                ["gnuplot"], input=script, text=True, cwd=directory, capture_output=True, check=False
            )
            if done.returncode or done.stderr.strip():
                raise ToolError(f"gnuplot cannot draw {plot.name}: {done.stderr}")
        # gnuplot leaves blanks at the ends of lines, which a patch must not have.
        svg = directory / f"{plot.name}.svg"
        lines = svg.read_text(encoding="utf-8").splitlines()
        svg.write_text("".join(f"{line.rstrip()}\n" for line in lines), encoding="utf-8")
    return drawn
