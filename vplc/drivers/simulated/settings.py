"""The settings of a simulated plant, as types. Pure.

    {"kind": "simulated", "plant": {"library": "plant.so", "program": "TankPlant", "dt": "dt_s"}, "period_ms": 10,
     "inputs":  [{"variable": "Tank.level", "device": {"variable": "level"}}],
     "outputs": [{"variable": "Tank.pump_speed", "device": {"variable": "speed", "scale": 10}}]}

or "plant": {"python": "tank_plant.py:Tank"}. value of the program = value of the plant * scale + offset, both ways.
Files are relative to the driver's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vplc.drivers import rows
from vplc.drivers.rows import Row, Types, Writing
from vplc.scan.configuration import Reader
from vplc.scan.values import Json


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    kind: str
    variable: str
    scale: float
    offset: float


@dataclass(frozen=True, slots=True)
class Settings:
    """Either `library` (with `program` and `dt`) or `python`."""

    library: str
    program: str
    dt: str
    python: str
    period_s: float
    writing: Writing
    inputs: tuple[Point, ...]
    outputs: tuple[Point, ...]
    safe: Mapping[str, Json]

    @property
    def plant(self) -> str:
        return self.python or self.library


def parse(reader: Reader, settings: dict[str, Any], inputs: Types, outputs: Types) -> Settings:
    reader.table(settings, "", (*rows.COMMON, "plant"))
    plant = reader.table(settings.get("plant", {}), "plant", ("library", "program", "dt", "python"))
    library, python = reader.text(plant, "library", "plant"), reader.text(plant, "python", "plant")
    if bool(library) == bool(python):
        reader.add("plant", 'needs either "library" (made by vplc build) or "python" (FILE.py:Class)')
    if python and ":" not in python:
        reader.add("plant.python", f"{python!r} names no class", "write FILE.py:Class or module:Class")
    out_rows = rows.rows(reader, settings, "outputs", outputs)
    return Settings(
        library=library,
        program=reader.text(plant, "program", "plant"),
        dt=reader.text(plant, "dt", "plant"),
        python=python,
        period_s=rows.milliseconds(reader, settings, "period_ms", 10, 1, 60_000),
        # There is no device: the model always gets the outputs.
        writing=replace(rows.writing(reader, settings), granted=True, refresh_ns=0),
        inputs=tuple(_point(reader, r) for r in rows.rows(reader, settings, "inputs", inputs)),
        outputs=tuple(_point(reader, r) for r in out_rows),
        safe={r.name: r.safe for r in out_rows},
    )


def _point(reader: Reader, row: Row) -> Point:
    path, device = f"{row.path}.device", dict(row.device)
    reader.table(device, path, ("variable", "scale", "offset"))
    variable = reader.text(device, "variable", path)
    if not variable:
        reader.add(f"{path}.variable", "is missing: the plant's variable")
    scale = reader.number(device, "scale", path, 1.0, -1e12, 1e12)
    if scale == 0:
        reader.add(f"{path}.scale", "must not be 0")
        scale = 1.0
    return Point(
        row.name, row.type, variable, float(scale), float(reader.number(device, "offset", path, 0.0, -1e15, 1e15))
    )
