"""The channels of a driver as its configuration writes them, before the driver's own keys are looked at. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vplc.scan import values
from vplc.scan.configuration import Reader
from vplc.scan.values import Json

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")  # it becomes part of file names
COMMON = ("kind", "inputs", "outputs", "write", "period_ms", "host_timeout_ms")
OUTPUTS = (*COMMON, "refresh_ms")
Types = Mapping[str, str]  # elementary type by channel; empty when nobody knows them yet


@dataclass(frozen=True, slots=True)
class Row:
    """A channel: its place in the file, its type in the program ("" when unknown), its keys for the device, and for
    outputs the safe value."""

    name: str
    path: str
    type: str
    device: Mapping[str, Any]
    safe: Json = 0


@dataclass(frozen=True, slots=True)
class Writing:
    """How outputs go to the device. `refresh_ns` 0: only when they change; `host_timeout_ns` 0: never on its own;
    `insist`: that time was given, so it also holds where another host stands by."""

    granted: bool
    refresh_ns: int
    host_timeout_ns: int
    insist: bool = False


def rows(reader: Reader, settings: Mapping[str, Any], side: str, types: Types) -> list[Row]:
    """The channels of one side; those without a name or device are problems."""
    given = settings.get(side, [])
    if not isinstance(given, list):
        reader.add(side, "must be a list of channels")
        return []
    out: list[Row] = []
    for i, row in enumerate(given):
        path = f"{side}[{i}]"
        if not isinstance(row, dict):
            reader.add(path, "must be an object")
            continue
        name = row.get("name") or row.get("variable") or row.get("address")
        if not isinstance(name, str):
            reader.add(path, 'needs "address" or "variable"')
            continue
        if "device" not in row:
            reader.add(f"{path}.device", f"is missing: where the device has {name}")
            continue
        device = reader.table(row["device"], f"{path}.device")
        kind = types.get(name, "")
        if types and not kind:
            reader.add(path, f"the program has no channel {name} here", f"it has: {', '.join(types)}")
        if kind and kind not in values.SIZES:
            reader.add(path, f"{name} is a {kind}, which no driver carries")
            continue
        out.append(Row(name, path, kind, device, row.get("safe", 0)))
    return out


def writing(reader: Reader, settings: dict[str, Any]) -> Writing:
    granted = settings.get("write", False)
    if not isinstance(granted, bool):
        reader.add(
            "write", f"must be true or false, is {granted!r}", "true is the grant to write outputs to the device"
        )
    refresh = reader.number(settings, "refresh_ms", "", 1000, 0, 3_600_000)
    host = reader.number(settings, "host_timeout_ms", "", 1000, 0, 3_600_000)
    return Writing(granted is True, int(refresh * 1e6), int(host * 1e6), "host_timeout_ms" in settings)


def milliseconds(reader: Reader, settings: dict[str, Any], key: str, default: float, low: float, high: float) -> float:
    """Seconds from a key in ms."""
    return reader.number(settings, key, "", default, low, high) / 1000


def choice(reader: Reader, table: dict[str, Any], key: str, path: str, known: tuple[str, ...], default: str) -> str:
    value = reader.text(table, key, path, default)
    if value not in known:
        reader.add(f"{path}.{key}".lstrip("."), f"must be one of {', '.join(known)}, is {value!r}")
        return default
    return value


def whole(reader: Reader, table: dict[str, Any], key: str, path: str, default: int | None, low: int, high: int) -> int:
    """A whole number; default None: it must be given."""
    value = table.get(key, default)
    where = f"{path}.{key}".lstrip(".")
    if value is None:
        reader.add(where, "is missing")
        return low
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        reader.add(where, f"must be a whole number from {low} to {high}, is {value!r}")
        return low
    return value


def host(reader: Reader, settings: dict[str, Any]) -> str:
    value = settings.get("host")
    if not isinstance(value, str) or not value.strip():
        reader.add("host", "is missing: name or address of the device")
        return ""
    return value.strip()
