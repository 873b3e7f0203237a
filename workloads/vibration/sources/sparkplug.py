"""As much of a Sparkplug B payload as samples need: metrics with their numbers, bytes and arrays. Pure.

Called by ``mqtt``. Own reader of the protobuf wire format: of the schema's hundred fields fifteen matter here, and a
generated parser with its runtime costs a megabyte more than these lines. Data sets and templates are passed over.
It never asks for a rebirth: that is a command to the device.

Source: Eclipse Sparkplug 3.0.0, chapter 6.4 (payload, data types); protobuf encoding specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from manifests.errors import DocumentError, Problem
from workloads.vibration.sources.payload import Layout, decode_binary

MAX_METRICS = 10_000
MAX_ALIASES = 10_000
BYTES = 17
# Data types of arrays (6.4.16) as numpy knows them; all are little-endian in ``bytes_value``.
ARRAYS = {
    22: "<i1", 23: "<i2", 24: "<i4", 25: "<i8", 26: "<u1", 27: "<u2", 28: "<u4", 29: "<u8", 30: "<f4", 31: "<f8",
}  # fmt: skip
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}  # Int8 to Int64 travel as unsigned

Value = int | float | bool | str | bytes


@dataclass(frozen=True, slots=True)
class Metric:
    """``value`` None: null, or of a kind that is not read. ``timestamp_ms`` None: not given."""

    name: str = ""
    alias: int | None = None
    timestamp_ms: int | None = None
    datatype: int = 0
    value: Value | None = None
    properties: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Payload:
    timestamp_ms: int | None
    sequence: int | None
    metrics: tuple[Metric, ...]


def decode(data: bytes, where: str = "payload") -> Payload:
    """Raises DocumentError naming the byte at which it stops being Sparkplug."""
    timestamp: int | None = None
    sequence: int | None = None
    metrics = []
    try:
        for number, value in _fields(data, 0, len(data)):
            if number == 1 and isinstance(value, int):
                timestamp = value
            elif number == 3 and isinstance(value, int):
                sequence = value
            elif number == 2 and isinstance(value, tuple):
                metrics.append(_metric(data, *value))
                if len(metrics) > MAX_METRICS:
                    raise _BadWireError(value[0], f"more than {MAX_METRICS} metrics")
    except _BadWireError as error:
        what = f"no Sparkplug B payload: {error.what}"
        raise DocumentError([Problem(where, f"byte {error.at}", what)]) from error
    return Payload(timestamp, sequence, tuple(metrics))


def samples(metric: Metric, layout: Layout | None, where: str = "payload") -> npt.NDArray[np.float32]:
    """The array of a metric; plain bytes need ``layout``. Raises DocumentError."""
    name = metric.name or f"alias {metric.alias}"
    if not isinstance(metric.value, bytes):
        what = "is null" if metric.value is None else f"of data type {metric.datatype} is no array"
        raise DocumentError([Problem(where, name, what, "bytes, or an array type such as Int16Array")])
    kind = ARRAYS.get(metric.datatype)
    if kind is None:
        if layout is None or metric.datatype not in (0, BYTES):
            what = f"data type {metric.datatype} does not say what its bytes are"
            raise DocumentError([Problem(where, name, what, "give layout")])
        return decode_binary(metric.value, layout, where=where)
    width = np.dtype(kind).itemsize
    if len(metric.value) % width:
        what = f"{len(metric.value)} bytes are no whole number of values of {width}"
        raise DocumentError([Problem(where, name, what)])
    return np.frombuffer(metric.value, dtype=kind).astype(np.float32)


class Names:
    """Which alias means which metric: told at birth, forgotten at death.

    Sequence numbers are not watched: they count the messages of all devices of a node, of which we see one's.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def born(self, payload: Payload) -> None:
        """A device's birth adds to what its node's birth told."""
        for metric in payload.metrics:
            if metric.alias is not None and metric.name and len(self._names) < MAX_ALIASES:
                self._names[metric.alias] = metric.name

    def died(self) -> None:
        self._names.clear()

    def name(self, metric: Metric) -> str:
        """Empty when only an alias came and no birth has told it."""
        return metric.name or self._names.get(metric.alias if metric.alias is not None else -1, "")


# ---------------------------------------------------------------- wire format


class _BadWireError(Exception):
    def __init__(self, at: int, what: str) -> None:
        super().__init__(what)
        self.at = at
        self.what = what


Raw = int | bytes | tuple[int, int]  # varint; fixed 4 or 8 bytes; begin and end of what is length-delimited


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    begin = at
    while at < end:
        digit = data[at]
        at += 1
        value |= (digit & 0x7F) << shift
        if not digit & 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise _BadWireError(begin, "a number longer than 64 bits")
    raise _BadWireError(begin, "it ends inside a number")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, Raw]]:
    while at < end:
        begin = at
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise _BadWireError(begin, "field number 0")
        if wire == 0:
            value, at = _varint(data, at, end)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at, end)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _BadWireError(begin, f"wire type {wire}")
        if size > end - at:
            raise _BadWireError(begin, f"field {number} of {size} bytes, {end - at} are left")
        yield number, (at, at + size) if wire == 2 else data[at : at + size]
        at += size


def _metric(data: bytes, at: int, end: int) -> Metric:
    name, datatype = "", 0
    alias: int | None = None
    timestamp: int | None = None
    value: Value | None = None
    properties: dict[str, Value] = {}
    for number, raw in _fields(data, at, end):
        if isinstance(raw, int):
            if number == 2:
                alias = raw
            elif number == 3:
                timestamp = raw
            elif number == 4:
                datatype = raw
            elif number in (10, 11):
                value = raw
            elif number == 14:
                value = bool(raw)
        elif isinstance(raw, bytes):
            value = _float(number, raw, 12) if value is None else value
        elif number == 1:
            name = _text(data, *raw)
        elif number == 15:
            value = _text(data, *raw)
        elif number == 16:
            value = data[raw[0] : raw[1]]
        elif number == 9:
            properties = _properties(data, *raw)
    if datatype in _SIGNED and isinstance(value, int) and not isinstance(value, bool):
        value = _signed(value, _SIGNED[datatype])
    return Metric(name, alias, timestamp, datatype, value, properties)


def _properties(data: bytes, at: int, end: int) -> dict[str, Value]:
    keys: list[str] = []
    values: list[Value | None] = []
    for number, raw in _fields(data, at, end):
        if not isinstance(raw, tuple):
            continue
        if number == 1:
            keys.append(_text(data, *raw))
        elif number == 2:
            found: Value | None = None
            for inner, part in _fields(data, *raw):
                if inner in (3, 4) and isinstance(part, int):
                    found = part
                elif inner in (5, 6) and isinstance(part, bytes):
                    found = _float(inner, part, 5)
                elif inner == 7 and isinstance(part, int):
                    found = bool(part)
                elif inner == 8 and isinstance(part, tuple):
                    found = _text(data, *part)
            values.append(found)
    return {key: value for key, value in zip(keys, values, strict=False) if value is not None}


def _float(number: int, raw: bytes, single: int) -> float | None:
    """``single`` is the number of the field that holds a float32; the next holds a float64."""
    if number == single and len(raw) == 4:
        return float(struct.unpack("<f", raw)[0])
    if number == single + 1 and len(raw) == 8:
        return float(struct.unpack("<d", raw)[0])
    return None


def _text(data: bytes, at: int, end: int) -> str:
    try:
        return data[at:end].decode()
    except UnicodeDecodeError as error:
        raise _BadWireError(at, "a text that is not UTF-8") from error


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
