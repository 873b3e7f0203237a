"""The evidence of a diagnosis as a picture: the envelope spectrum with the bearing's lines drawn into it, as SVG.

Called by the command line. Plain text, no drawing library; what is drawn is thinned to one highest value per pixel.
"""

from __future__ import annotations

from html import escape

import numpy as np

from workloads.vibration.bearing import Orders
from workloads.vibration.comb import TOP_ORDER
from workloads.vibration.diagnose import Diagnosis, Part, Verdict
from workloads.vibration.envelope import envelope_spectrum
from workloads.vibration.record import Record

WIDTH, HEIGHT = 960, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 52, 44
ORDERS_SHOWN = 18.0
DB = 10 / np.log(10)
_COLOURS = {Part.OUTER: "#c2410c", Part.INNER: "#1d4ed8", Part.ELEMENT: "#15803d", Part.CAGE: "#7e22ce"}
_NAMES = {Part.OUTER: "BPFO", Part.INNER: "BPFI", Part.ELEMENT: "2xBSF", Part.CAGE: "FTF"}


def evidence_svg(record: Record, orders: Orders, found: Diagnosis) -> str:
    """Level over the local floor (dB) against order up to 18; lines of the nearest part as found, others dashed."""
    shaft_hz = found.shaft_hz
    if found.verdict is Verdict.CANNOT_JUDGE or shaft_hz <= 0:
        return _page([_text(LEFT, HEIGHT / 2, f"cannot judge: {found.why}", 14)])
    spectrum = envelope_spectrum(
        record.samples, record.rate_hz, shaft_hz, min(record.rate_hz / 4, TOP_ORDER * shaft_hz)
    )
    order = np.arange(len(spectrum.level)) * spectrum.step_hz / shaft_hz
    shown = (order > 0.15) & (order < ORDERS_SHOWN)
    x, y = order[shown], np.maximum(spectrum.level[shown], 0) * DB
    top = max(15.0, float(y.max(initial=0.0)) * 1.1)

    def across(value: float) -> float:
        return LEFT + value / ORDERS_SHOWN * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    pixel = ((x / ORDERS_SHOWN) * (WIDTH - LEFT - RIGHT)).astype(int)
    highest = np.zeros(WIDTH - LEFT - RIGHT + 1)
    np.maximum.at(highest, pixel, y)
    points = " ".join(f"{LEFT + p},{up(float(v)):.1f}" for p, v in enumerate(highest))
    parts = [_text(LEFT, 20, f"{found.verdict.value} [{found.part.value}], confidence {found.confidence:.2f}", 15)]
    parts.append(_text(LEFT, 38, found.why[:140], 11))
    for tick in range(0, int(ORDERS_SHOWN) + 1, 2):
        parts.append(_line(across(tick), up(0), across(tick), up(0) + 4, "#475569"))
        parts.append(_text(across(tick), up(0) + 17, str(tick), 11, "middle"))
    for level in range(0, int(top), 5):
        parts.append(_line(LEFT, up(level), WIDTH - RIGHT, up(level), "#e2e8f0"))
        parts.append(_text(LEFT - 6, up(level) + 4, str(level), 11, "end"))
    given = {Part.OUTER: orders.bpfo, Part.INNER: orders.bpfi, Part.ELEMENT: orders.element, Part.CAGE: orders.ftf}
    for part, base in given.items():
        if part is Part.CAGE and found.nearest is not Part.CAGE:
            continue
        base = found.fits[part].order if part in found.fits else base
        mine = part is found.nearest
        for multiple in range(1, 5 if mine else 2):
            if multiple * base < ORDERS_SHOWN:
                at = across(multiple * base)
                parts.append(_line(at, up(0), at, TOP, _COLOURS[part], "" if mine else "3 4"))
                label = _NAMES[part] if multiple == 1 else f"{multiple}x"
                parts.append(_text(at + 3, TOP + 10, label, 11, colour=_COLOURS[part]))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#0f172a" stroke-width="1"/>')
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "order (multiples of shaft speed)", 12, "middle"))
    parts.append(_text(8, TOP - 4, "dB over floor", 11))
    return _page(parts)


def _page(parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *parts, "</svg>\n"])


def _text(x: float, y: float, text: str, size: int, anchor: str = "start", colour: str = "#0f172a") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{escape(text)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'
