"""Plots of a run: SVG and HTML by hand, PNG through matplotlib when it is installed.

Called by the command line. The SVG needs no fonts, scripts or files of others and looks right on light and dark pages.
"""

from __future__ import annotations

import html
import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vplc.compiler.source import UnsupportedError
from vplc.simulate.checks import Outcome
from vplc.simulate.project import Plot
from vplc.simulate.simulation import Samples

WIDTH, HEIGHT = 960, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 30, 34
# Okabe and Ito: told apart by people who see few colours.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")


@dataclass(frozen=True, slots=True)
class Axis:
    low: float
    high: float
    ticks: tuple[float, ...]


def axis(low: float, high: float) -> Axis:
    """Round numbers that enclose the values. Infinite and absent values leave 0..1."""
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = 0.0, 1.0
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-3):
        low, high = low - 0.5, high + 0.5
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(i * step for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def thin(values: memoryview[float], columns: int) -> list[tuple[float, float]]:
    """Positions (0..1) and values, at most about two per column: each column's first extreme, then the other, so that
    no spike is lost."""
    count = len(values)
    span = max(1, count - 1)
    if count <= 2 * columns:
        return [(i / span, v) for i, v in enumerate(values)]
    out: list[tuple[float, float]] = []
    for c in range(columns):
        a, b = c * count // columns, (c + 1) * count // columns
        part = values[a:b].tolist()
        low, high = min(part), max(part)
        i, j = part.index(low), part.index(high)
        out.extend(sorted({((a + i) / span, low), ((a + j) / span, high)}))
    return out


def svg(plots: Sequence[Plot], samples: Samples, title: str) -> str:
    """All plots below each other."""
    total = HEIGHT * max(1, len(plots))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" '
        f'font-family="sans-serif" font-size="11" role="img" aria-label="{html.escape(title)}">',
        "<style>.frame{fill:none;stroke:#888;stroke-width:1}.grid{stroke:#888;stroke-opacity:.25}"
        ".text{fill:#555}.line{fill:none;stroke-width:1.4;stroke-linejoin:round}"
        "@media(prefers-color-scheme:dark){.text{fill:#bbb}}</style>",
    ]
    for i, plot in enumerate(plots):
        out.extend(_one(plot, samples, i * HEIGHT))
    out.append("</svg>")
    return "\n".join(out) + "\n"


def _one(plot: Plot, samples: Samples, top: int) -> list[str]:
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    y0 = top + TOP
    rows = {path: samples.values[path] for path in plot.variables}
    finite = [v for path in rows for _, v in thin(rows[path], width) if math.isfinite(v)]
    vertical = axis(min(finite, default=0.0), max(finite, default=1.0))
    end_s = max(0, samples.count - 1) * samples.step_ns / 1e9
    horizontal = axis(0.0, end_s or 1.0)
    unit = f" [{plot.unit}]" if plot.unit else ""
    out = [f'<text class="text" x="{LEFT}" y="{y0 - 10}" font-weight="bold">{html.escape(plot.title + unit)}</text>']
    span = vertical.high - vertical.low

    def y_of(value: float) -> float:
        return y0 + height - (min(max(value, vertical.low), vertical.high) - vertical.low) / span * height

    for tick in vertical.ticks:
        y = y_of(tick)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="text" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in horizontal.ticks:
        if tick > end_s * (1 + 1e-9) and end_s:
            continue
        x = LEFT + tick / (end_s or 1.0) * width
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y0}" y2="{y0 + height}"/>')
        out.append(f'<text class="text" x="{x:.1f}" y="{y0 + height + 15}" text-anchor="middle">{tick:g}</text>')
    out.append(f'<text class="text" x="{LEFT + width}" y="{y0 + height + 29}" text-anchor="end">s</text>')
    out.append(f'<rect class="frame" x="{LEFT}" y="{y0}" width="{width}" height="{height}"/>')
    for n, (path, values) in enumerate(rows.items()):
        colour = COLOURS[n % len(COLOURS)]
        points = " ".join(f"{LEFT + x * width:.1f},{y_of(v):.1f}" for x, v in thin(values, width) if not math.isnan(v))
        out.append(f'<polyline class="line" stroke="{colour}" points="{points}"/>')
        y = y0 + 12 + 17 * n
        out.append(f'<rect x="{LEFT + width + 10}" y="{y - 8}" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text class="text" x="{LEFT + width + 25}" y="{y + 1}">{html.escape(path)}</text>')
    return out


def page(plots: Sequence[Plot], samples: Samples, outcomes: Sequence[Outcome], title: str) -> str:
    """One HTML file: the checks and the plots."""
    rows = "\n".join(
        f"<tr><td>{'passed' if o.passed else '<b>FAILED</b>'}</td><td>{html.escape(o.name)}</td>"
        f"<td>{html.escape(o.wanted)}</td><td>{html.escape(o.text)}</td></tr>"
        for o in outcomes
    )
    name = html.escape(title)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{name}</title>
<style>body{{font:14px sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}}
table{{border-collapse:collapse}}td,th{{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}}
svg{{max-width:100%;height:auto}}</style>
<h1>{name}</h1>
<table><tr><th></th><th>check</th><th>wanted</th><th>measured</th></tr>
{rows}
</table>
{svg(plots, samples, title)}</html>
"""


def png(plots: Sequence[Plot], samples: Samples, title: str, path: Path) -> None:
    """Raises UnsupportedError without matplotlib."""
    try:
        backend: Any = importlib.import_module("matplotlib.backends.backend_agg")
        figures: Any = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        what = f"{path.name}: PNG needs matplotlib (pip install matplotlib); .svg and .html need nothing"
        raise UnsupportedError(what) from error
    figure = figures.Figure(figsize=(10, 2.8 * max(1, len(plots))), layout="constrained")
    backend.FigureCanvasAgg(figure)
    figure.suptitle(title)
    for i, plot in enumerate(plots):
        axes = figure.add_subplot(len(plots), 1, i + 1)
        for n, variable in enumerate(plot.variables):
            values = samples.values[variable]
            end_s = max(0, samples.count - 1) * samples.step_ns / 1e9
            points = thin(values, 1500)
            axes.plot(
                [x * end_s for x, _ in points], [v for _, v in points],
                color=COLOURS[n % len(COLOURS)], linewidth=1.2, label=variable,
            )  # fmt: skip
        axes.set_title(plot.title + (f" [{plot.unit}]" if plot.unit else ""), loc="left", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": None})
