"""The life of the demo's motor as one picture: how loud it is, what severity says, and when its bearing is named.

Called by ``bearing_pictures``. Every point is one simulated record, judged as the workload judges it.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from tests.simulators.bearing_motor import at
from tests.simulators.bearing_signal import Machine, record
from workloads.vibration.asset import Asset, AssetPlan, tell
from workloads.vibration.bearing import LIBRARY, orders_of
from workloads.vibration.record import Record, Unit
from workloads.vibration.trend import TrendRule
from workloads.vibration.zones import LIMITS

MOTOR = Machine(rate_hz=12_800, seconds=2.0, rpm=1480, geometry=LIBRARY["6205"], mains=0.005, shaft=(0.03, 0.01, 0.005))
RECORDS, MINUTES, ZONE = 150, 10.0, "class2"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 360, 56, 16, 52, 44
TOP_MM_S = 5.0
_FILLS = {"A": "#dcfce7", "B": "#f1f5f9", "C": "#fef3c7"}


@dataclass(frozen=True)
class Point:
    minutes: float
    velocity_mm_s: float
    fault: str
    alert: str
    zone: str
    why: str


def life() -> list[Point]:
    """The motor's ten minutes, one record every four seconds."""
    plan = AssetPlan(bearings={"drive-end": orders_of(MOTOR.geometry)}, zone=ZONE, rule=TrendRule(learn=15))
    asset, found = Asset(), []
    for number in range(RECORDS):
        share = number / (RECORDS - 1)
        wave = Record(samples=record(at(share, "OR", MOTOR), number), rate_hz=MOTOR.rate_hz, unit=Unit.G, rpm=MOTOR.rpm)
        told = tell(plan, asset, wave, days=share * MINUTES / 1440)
        asset, said = told.asset, told.values
        velocity = said["velocity_rms"]
        assert isinstance(velocity, float)
        alert, zone = str(said["alert"]), str(said["iso_zone"])
        fault, why = str(said["drive-end/fault"]), str(said["drive-end/why"])
        found.append(Point(share * MINUTES, velocity, fault, alert, zone, why))
    return found


def wear_svg() -> str:
    """Velocity against time over the zones; a dot per record, full where the worn part is named."""
    points, limits = life(), LIMITS[ZONE]
    named = next(one for one in points if one.alert)
    beyond = next(one for one in points if one.zone > "B")
    parts = []
    for zone, low, high in (
        ("A", 0.0, limits.a_b),
        ("B", limits.a_b, limits.b_c),
        ("C", limits.b_c, TOP_MM_S),
    ):
        height = _up(low) - _up(high)
        parts.append(
            f'<rect x="{LEFT}" y="{_up(high):.1f}" width="{WIDTH - LEFT - RIGHT}" height="{height:.1f}" '
            f'fill="{_FILLS[zone]}"/>'
        )
        parts.append(_text(LEFT + 8, _up(high) + 16, f"zone {zone}", 12))
    for one in points:
        full = "#c2410c" if one.fault == "OR" else "none"
        place = f'cx="{_across(one.minutes):.1f}" cy="{_up(one.velocity_mm_s):.1f}"'
        parts.append(f'<circle {place} r="3" fill="{full}" stroke="#0f172a" stroke-width="0.7"/>')
    for one, label in (
        (named, f"{named.alert} named, {named.minutes:.1f} min, zone {named.zone}"),
        (beyond, f"zone {beyond.zone}, {beyond.minutes:.1f} min"),
    ):
        x = _across(one.minutes)
        parts.append(f'<line x1="{x:.1f}" y1="{_up(0):.1f}" x2="{x:.1f}" y2="{TOP}" stroke="#c2410c"/>')
        parts.append(_text(x - 5, TOP + 14, label, 12, "end"))
    for minute in range(int(MINUTES) + 1):
        parts.append(_text(_across(minute), _up(0) + 17, str(minute), 11, "middle"))
    for level in range(int(TOP_MM_S) + 1):
        parts.append(_text(LEFT - 6, _up(level) + 4, str(level), 11, "end"))
    parts.append(_text(LEFT, 20, "A bearing wears: named by its envelope, long before severity moves", 15))
    parts.append(_text(LEFT, 38, named.why[:165], 11))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "minutes", 12, "middle"))
    parts.append(_text(8, TOP - 4, "mm/s", 11))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *parts, "</svg>\n"])


def _across(minutes: float) -> float:
    return LEFT + minutes / MINUTES * (WIDTH - LEFT - RIGHT)


def _up(mm_s: float) -> float:
    return HEIGHT - BOTTOM - mm_s / TOP_MM_S * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, text: str, size: int, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#0f172a"'
    return f"<text {place}>{escape(text)}</text>"
