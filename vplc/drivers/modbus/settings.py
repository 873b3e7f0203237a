"""The settings of a Modbus device, as types. Pure.

    {"kind": "modbus", "host": "10.0.0.7", "port": 502, "unit": 1, "period_ms": 10, "timeout_ms": 200, "write": true,
     "inputs":  [{"variable": "Tank.level", "device": {"area": "input", "address": 0, "type": "int16"}}],
     "outputs": [{"variable": "Tank.pump", "safe": 0, "device": {"area": "holding", "address": 0}}]}

Addresses count from 0. `order` are the bytes A (most significant) to D as the device sends them, so CDAB is the low
word first. value = number of the device * scale + offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vplc.drivers import rows
from vplc.drivers.rows import Row, Types, Writing
from vplc.scan.configuration import Reader

AREAS = ("holding", "input", "coil", "discrete")
# Registers and struct code of each type.
TYPES = {
    "int16": (1, "h"), "uint16": (1, "H"), "int32": (2, "i"), "uint32": (2, "I"), "int64": (4, "q"),
    "uint64": (4, "Q"), "float32": (2, "f"), "float64": (4, "d"),
}  # fmt: skip
ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
WRITES = ("auto", "single", "multiple")
_USUAL = {
    "BYTE": "uint16", "USINT": "uint16", "SINT": "int16", "INT": "int16", "UINT": "uint16", "WORD": "uint16",
    "DINT": "int32", "UDINT": "uint32", "DWORD": "uint32", "LINT": "int64", "ULINT": "uint64", "LWORD": "uint64",
    "REAL": "float32", "LREAL": "float64", "TIME": "int64", "LTIME": "int64",
}  # fmt: skip
_KEYS = (
    *rows.OUTPUTS, "host", "port", "unit", "timeout_ms", "backoff_ms", "max_gap", "max_registers", "max_bits", "writes",
    "combine",
)  # fmt: skip
_DEVICE = ("area", "address", "type", "bit", "order", "scale", "offset", "unit")


@dataclass(frozen=True, slots=True)
class Point:
    """One channel in the device. `type` "bool" with `bit` -1 is a coil or discrete input, else a bit of a register."""

    name: str
    kind: str  # the program's type, "" when unknown
    unit: int
    area: str
    address: int
    type: str
    bit: int
    order: str
    scale: float
    offset: float

    @property
    def count(self) -> int:
        """Registers, or 1 for a bit."""
        return TYPES[self.type][0] if self.type in TYPES else 1


@dataclass(frozen=True, slots=True)
class Settings:
    host: str
    port: int
    period_s: float
    timeout_s: float
    backoff_s: tuple[float, float]
    max_gap: int
    max_registers: int
    max_bits: int
    writes: str
    combine: bool  # function 23: one write and one read in a single request
    writing: Writing
    inputs: tuple[Point, ...]
    outputs: tuple[Point, ...]
    safe: Mapping[str, Any]


def parse(reader: Reader, settings: dict[str, Any], inputs: Types, outputs: Types) -> Settings:
    reader.table(settings, "", _KEYS)
    unit = rows.whole(reader, settings, "unit", "", 1, 0, 255)
    backoff = reader.table(settings.get("backoff_ms", {}), "backoff_ms", ("first", "most"))
    first = reader.number(backoff, "first", "backoff_ms", 200, 10, 60_000) / 1000
    most = reader.number(backoff, "most", "backoff_ms", 5000, 10, 600_000) / 1000
    combine = settings.get("combine", False)
    if not isinstance(combine, bool):
        reader.add("combine", f"must be true or false, is {combine!r}")
    ins = [p for r in rows.rows(reader, settings, "inputs", inputs) for p in [_point(reader, r, unit, True)] if p]
    out_rows = rows.rows(reader, settings, "outputs", outputs)
    outs = [p for r in out_rows for p in [_point(reader, r, unit, False)] if p]
    _apart(reader, outs)
    if not ins and not outs and not reader.problems:
        reader.add("", "has no channels: give inputs or outputs")
    return Settings(
        host=rows.host(reader, settings),
        port=rows.whole(reader, settings, "port", "", 502, 1, 65535),
        period_s=rows.milliseconds(reader, settings, "period_ms", 100, 1, 3_600_000),
        timeout_s=rows.milliseconds(reader, settings, "timeout_ms", 500, 5, 60_000),
        backoff_s=(first, max(first, most)),
        max_gap=rows.whole(reader, settings, "max_gap", "", 0, 0, 120),
        max_registers=rows.whole(reader, settings, "max_registers", "", 125, 4, 125),
        max_bits=rows.whole(reader, settings, "max_bits", "", 2000, 1, 2000),
        writes=rows.choice(reader, settings, "writes", "", WRITES, "auto"),
        combine=combine is True,
        writing=rows.writing(reader, settings),
        inputs=tuple(ins),
        outputs=tuple(outs),
        safe={r.name: r.safe for r in out_rows},
    )


def _point(reader: Reader, row: Row, default_unit: int, is_input: bool) -> Point | None:
    before = len(reader.problems)
    path, device = f"{row.path}.device", dict(row.device)
    reader.table(device, path, _DEVICE)
    boolean = row.type == "BOOL"
    usual_area = ("discrete" if is_input else "coil") if boolean else ("input" if is_input else "holding")
    area = rows.choice(reader, device, "area", path, AREAS if is_input else ("holding", "coil"), usual_area)
    address = rows.whole(reader, device, "address", path, None, 0, 65535)
    bits = area in ("coil", "discrete")
    bit = rows.whole(reader, device, "bit", path, -1, -1, 15)
    usual = "bool" if bits or bit >= 0 or boolean else _USUAL.get(row.type, "uint16")
    kind = rows.choice(reader, device, "type", path, (*TYPES, "bool"), usual)
    order = rows.choice(reader, device, "order", path, ORDERS, "ABCD")
    scale = reader.number(device, "scale", path, 1.0, -1e12, 1e12)
    offset = reader.number(device, "offset", path, 0.0, -1e15, 1e15)
    if scale == 0:
        reader.add(f"{path}.scale", "must not be 0")
    if bits and (kind != "bool" or bit >= 0):
        reader.add(path, f"a {area} is one bit: it has no type and no bit")
    if kind == "bool" and not bits and bit < 0:
        reader.add(f"{path}.bit", "is missing: which bit of the register, 0 to 15")
    if kind == "bool" and not bits and not is_input:
        reader.add(path, "one bit of a register cannot be written on its own", "use a coil, or a WORD output")
    if bit >= 0 and kind != "bool":
        reader.add(f"{path}.bit", f"belongs to bool, not to {kind}")
    if row.type and boolean != (kind == "bool"):
        reader.add(path, f"{row.name} is a {row.type} in the program, and {kind} in the device")
    if kind == "bool" and (scale != 1.0 or offset != 0.0):
        reader.add(path, "a bit has neither scale nor offset")
    if kind in TYPES and address + TYPES[kind][0] > 65536:
        reader.add(f"{path}.address", f"a {kind} at {address} reaches beyond the last register")
    unit = rows.whole(reader, device, "unit", path, default_unit, 0, 255)
    if len(reader.problems) > before:
        return None
    return Point(row.name, row.type, unit, area, address, kind, bit, order, float(scale), float(offset))


def _apart(reader: Reader, points: list[Point]) -> None:
    """Two outputs in one register would take turns."""
    taken: dict[tuple[int, str, int], str] = {}
    for p in points:
        for address in range(p.address, p.address + p.count):
            other = taken.setdefault((p.unit, p.area, address), p.name)
            if other != p.name:
                reader.add("outputs", f"{p.name} and {other} both write {p.area} {address} of unit {p.unit}")
                break
