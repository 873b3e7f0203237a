"""The tags of the invented plants: what they are worth at a time."""

from __future__ import annotations

import math
import random
from typing import Any

from orchestrator.api import schemas as s
from tests.support.console_backend.program import Tank
from tests.support.console_backend.scene import Scene, rfc

#: area, line, asset, tag, type, unit, low, high, middle, swing, period in s
PUMP_TAGS: list[tuple[str, str, str, str, str, str, float | None, float | None, float, float, float]] = [
    ("utilities", "cooling", "pump-1", "speed", "float", "rpm", 1200, 1600, 1450, 60, 97),
    ("utilities", "cooling", "pump-1", "flow", "float", "m³/h", 30, 50, 42, 3, 61),
    ("utilities", "cooling", "pump-1", "discharge pressure", "float", "bar", 3.5, 5.5, 4.6, 0.3, 43),
    ("utilities", "cooling", "pump-1", "suction pressure", "float", "bar", 0.6, 1.4, 0.98, 0.08, 37),
    ("utilities", "cooling", "pump-1", "motor current", "float", "A", 8, 14, 11.2, 0.8, 97),
    ("utilities", "cooling", "pump-1", "bearing temperature", "float", "°C", 20, 75, 61, 4, 300),
    ("utilities", "cooling", "pump-1", "running", "bool", "", None, None, 1, 0, 1),
    ("utilities", "cooling", "pump-1", "starts", "int", "", None, None, 1204, 0, 1),
    ("utilities", "cooling", "tank-1", "level", "float", "%", 25, 85, 58, 14, 240),
    ("utilities", "cooling", "tank-1", "temperature", "float", "°C", 8, 24, 17.5, 1.5, 500),
    ("utilities", "cooling", "tank-1", "inlet valve", "float", "%", 0, 100, 44, 20, 120),
]
PRESS_TAGS: list[tuple[str, str, str, str, str, str, float | None, float | None, float, float, float]] = [
    ("forming", "line-2", "press-4", "ram position", "float", "mm", 0, 420, 210, 200, 7),
    ("forming", "line-2", "press-4", "force", "float", "kN", 0, 1600, 740, 700, 7),
    ("forming", "line-2", "press-4", "strokes", "int", "", None, None, 88213, 0, 1),
    ("forming", "line-2", "press-4", "oil temperature", "float", "°C", 30, 62, 48, 6, 400),
    ("forming", "line-2", "press-4", "oil pressure", "float", "bar", 180, 260, 222, 12, 7),
    ("forming", "line-2", "press-4", "program", "string", "", None, None, 0, 0, 1),
    ("forming", "line-2", "press-4", "guard closed", "bool", "", None, None, 1, 0, 1),
    ("forming", "line-2", "feeder", "strip tension", "float", "N", 400, 900, 655, 90, 23),
    ("forming", "line-2", "feeder", "coil remaining", "float", "m", 50, None, 812, 40, 900),
]
#: The level loop's: what they are worth comes from ``program``.
TANK_TAGS: list[tuple[str, str, str, str, str, str, float | None, float | None, float, float, float]] = [
    ("utilities", "water", "tank1", "level", "int", "mm", 300, 1700, 1000, 1, 1),
    ("utilities", "water", "tank1", "setpoint", "float", "mm", None, None, 1000, 1, 1),
    ("utilities", "water", "tank1", "flow", "int", "0.1 l/s", None, None, 230, 1, 1),
    ("utilities", "water", "tank1", "pump_speed", "int", "0.1 %", None, None, 380, 1, 1),
    ("utilities", "water", "tank1", "interlock", "bool", "", None, None, 0, 0, 1),
    ("utilities", "water", "tank1", "high_alarm", "bool", "", None, None, 0, 0, 1),
    ("utilities", "water", "tank1", "scans", "int", "", None, None, 0, 1, 1),
]
#: A machine under watch tells features, not spectra.
MOTOR_TAGS: list[tuple[str, str, str, str, str, str, float | None, float | None, float, float, float]] = [
    ("forming", "line-2", "motor-1", "velocity_rms", "float", "mm/s", None, 2.8, 1.23, 0.06, 90),
    ("forming", "line-2", "motor-1", "high_rms", "float", "g", None, None, 0.02, 0.002, 90),
    ("forming", "line-2", "motor-1", "crest", "float", "", None, None, 5.6, 0.3, 70),
]
#: Sub-assemblies of a large press, in the ranges that its server declares.
PARTS: list[tuple[str, str, str, float | None, float | None, float, float, float]] = [
    ("Die", "Lower.Zone.Temperature", "°C", 0, 250, 69, 1.5, 300),
    ("Die", "Strain", "µm/m", -500, 500, -0.4, 1.1, 31),
    ("Ram", "Position", "mm", -5, 650, 320, 300, 7),
    ("Ram", "Acceleration", "m/s²", -50, 50, 0, 22, 7),
    ("Ram", "Tilt", "mm/m", -1, 1, 0.02, 0.03, 17),
    ("Hydraulics", "Pressure", "bar", 0, 350, 221, 14, 7),
    ("Hydraulics", "Leakage", "mm³/stroke", None, None, 0.004, 0.002, 90),
    ("Drive", "Energy", "kWh", None, None, 12_345_678, 40, 900),
]


def tags(scene: Scene, name: str) -> list[tuple[Any, ...]]:
    extra = [
        ("forming", "line-2", "press-5", f"{group}.{part}{i // len(PARTS) + 1}", "float", *rest)
        for i in range(scene.tags_extra)
        for group, part, *rest in [PARTS[i % len(PARTS)]]
    ]
    if name != "hamburg" and scene.sites != 1:
        return [*PRESS_TAGS, *extra]
    return [*PUMP_TAGS, *PRESS_TAGS, *TANK_TAGS, *MOTOR_TAGS, *extra]


def value(scene: Scene, tank: Tank, name: str, tag: tuple[Any, ...], at: float) -> s.ValueView:
    area, line, asset, label, kind, unit, low, high = tag[:8]
    bad = name in scene.broken and asset == "pump-1"
    if label in scene.silent:
        at -= 600
    if name in scene.offline:
        at -= 671
    number: float | None = None if bad else number_at(tank, tag, at)
    topic = f"acme/{name}/{area}/{line}/{asset}/{label.replace(' ', '-')}"
    if label == "coil remaining":
        quality, code = "uncertain", 64
    else:
        quality, code = ("bad", 24) if bad else ("good", 192)
    return s.ValueView(
        topic=topic,
        name=label,
        value=None if kind == "string" else number,
        text=("4711-B" if not bad else None) if kind == "string" else None,
        type=kind,
        unit=unit,
        quality=quality,
        quality_code=code,
        at=rfc(at - (252 if bad else 0)),
        received_at=rfc(at),
        low=low,
        high=high,
        instance={"cooling": "pump-skid", "water": "tank"}.get(line, "motors" if asset == "motor-1" else "press"),
        description=f"{label.capitalize()} of {asset}",
    )


def number_at(tank: Tank, tag: tuple[Any, ...], at: float) -> float:
    if tag[1] == "water":
        return float(tank.value(f"Tank.{tag[3]}", at))
    middle, swing, period = float(tag[8]), float(tag[9]), float(tag[10])
    if tag[4] == "bool":
        return float(middle)
    if tag[4] == "int":
        return float(middle + int(at / 7) % 1000)
    wobble = random.Random(int(at * 2) ^ hash(tag[3])).uniform(-1, 1)
    return round(middle + swing * (math.sin(2 * math.pi * at / period) + 0.12 * wobble), 4)
