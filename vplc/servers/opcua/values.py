"""IEC values as OPC UA values, both ways. Pure.

Source: OPC 30000 1.02, table 27. The host holds every duration and date as nanoseconds; TIME and TOD travel as whole
milliseconds, the long forms as nanoseconds, DATE and DT as DateTime. What has no meaning in its type (a character code
beyond the string, a date beyond the year 9999) is brought to the nearest that has.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import ua

from vplc.scan.layout import Variable
from vplc.scan.values import Json

V = ua.VariantType
PLC = "plc"  # the data type lies in the PLCopen namespace
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime(1601, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_FILETIME_1970 = 116_444_736_000_000_000  # in 100 ns
_MS = 1_000_000
_ARRAY = re.compile(r"ARRAY\s*\[([^\]]*)\]\s*OF\s+(.+)$", re.IGNORECASE)
_TEXT = re.compile(r"(W?)STRING(?:\[(\d+)\])?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Kind:
    """How an elementary type is held (`memory`, a struct format), what it is called and how it travels (`wire`)."""

    memory: str
    variant: ua.VariantType
    namespace: str
    data_type: int
    wire: str
    to_ua: Callable[[Any], Any] | None = None
    from_ua: Callable[[Any], Json] | None = None


def date_time(ns: int) -> ua.DateTime:
    """Nanoseconds since 1970 as UTC."""
    try:
        found = _EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        found = _LAST if ns > 0 else _FIRST
    found = min(max(found, _FIRST), _LAST)
    return ua.DateTime(*found.timetuple()[:6], found.microsecond, tzinfo=UTC)


def _ns(value: datetime) -> int:
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1) * 1000


def _ms(ns: int) -> int:
    return int(ns / _MS) if abs(ns) < 1 << 53 else (abs(ns) // _MS) * (1 if ns > 0 else -1)


def _of_ms(value: Any) -> int:
    return int(value) * _MS


def _day_ms(ns: int) -> int:
    return min(max(ns // _MS, 0), 0xFFFFFFFF)


KINDS = {
    "BOOL": Kind("?", V.Boolean, "", 1, "?"),
    "SINT": Kind("b", V.SByte, "", 2, "b"), "USINT": Kind("B", V.Byte, "", 3, "B"),
    "INT": Kind("h", V.Int16, "", 4, "h"), "UINT": Kind("H", V.UInt16, "", 5, "H"),
    "DINT": Kind("i", V.Int32, "", 6, "i"), "UDINT": Kind("I", V.UInt32, "", 7, "I"),
    "LINT": Kind("q", V.Int64, "", 8, "q"), "ULINT": Kind("Q", V.UInt64, "", 9, "Q"),
    "REAL": Kind("f", V.Float, "", 10, "f"), "LREAL": Kind("d", V.Double, "", 11, "d"),
    "BYTE": Kind("B", V.Byte, PLC, 3001, "B"), "WORD": Kind("H", V.UInt16, PLC, 3002, "H"),
    "DWORD": Kind("I", V.UInt32, PLC, 3003, "I"), "LWORD": Kind("Q", V.UInt64, PLC, 3004, "Q"),
    "TIME": Kind("q", V.Int64, PLC, 3005, "q", _ms, _of_ms), "LTIME": Kind("q", V.Int64, PLC, 3006, "q"),
    "DATE": Kind("q", V.DateTime, PLC, 3007, "", date_time, _ns),
    "TOD": Kind("q", V.UInt32, PLC, 3008, "I", _day_ms, _of_ms), "LTOD": Kind("q", V.Int64, PLC, 3009, "q"),
    "DT": Kind("q", V.DateTime, PLC, 3010, "", date_time, _ns),
    "CHAR": Kind("B", V.Byte, PLC, 3011, "B"), "WCHAR": Kind("H", V.UInt16, PLC, 3012, "H"),
    "LDATE": Kind("q", V.Int64, PLC, 3014, "q"), "LDT": Kind("q", V.Int64, PLC, 3015, "q"),
}  # fmt: skip
# Base types of the PLCopen data types, for the address space.
PLC_TYPES = {
    "BYTE": (3001, 3), "WORD": (3002, 5), "DWORD": (3003, 7), "LWORD": (3004, 9), "TIME": (3005, 8),
    "LTIME": (3006, 8), "DATE": (3007, 13), "TOD": (3008, 7), "LTOD": (3009, 8), "DT": (3010, 13),
    "CHAR": (3011, 3), "WCHAR": (3012, 5), "STRING": (3013, 12), "LDATE": (3014, 8), "LDT": (3015, 8),
}  # fmt: skip
_TEXT_KIND = Kind("", V.String, PLC, 3013, "")
_WIDE_KIND = Kind("", V.String, "", 12, "")
_ENUM = Kind("", V.Int32, "", 29, "i")


@dataclass(frozen=True, slots=True)
class Codec:
    """Of one variable. `dims` are the lengths of an array's dimensions, empty for one value."""

    base: str
    kind: Kind
    dims: tuple[int, ...]
    size: int  # of one element, bytes
    bit: int
    memory: str

    @property
    def count(self) -> int:
        total = 1
        for n in self.dims:
            total *= n
        return total

    def raw(self, data: bytes) -> list[Any]:
        """All elements as the host holds them: dates and durations in ns."""
        if self.bit >= 0:
            return [bool(data[0] >> self.bit & 1)]
        if self.kind.variant == V.String:
            return [_text(data[i : i + self.size], self.base) for i in range(0, self.count * self.size, self.size)]
        return list(struct.unpack(f"<{self.count}{self.memory}", data))

    def flat(self, data: bytes) -> list[Any]:
        """All elements, as OPC UA knows them."""
        found = self.raw(data)
        return [self.kind.to_ua(v) for v in found] if self.kind.to_ua else found

    def variant(self, data: bytes) -> ua.Variant:
        found = self.flat(data)
        if not self.dims:
            return ua.Variant(found[0], self.kind.variant)
        return ua.Variant(nested(found, self.dims), self.kind.variant, is_array=True)

    def wire(self, data: bytes) -> bytes:
        """Inside a structure (OPC 10000-6, 5.2): arrays with their length, matrices with their dimensions first."""
        out = b""
        if len(self.dims) == 1:
            out = struct.pack("<i", self.dims[0])
        elif self.dims:
            out = struct.pack(f"<i{len(self.dims)}i", len(self.dims), *self.dims)
        found = self.flat(data)
        if self.kind.variant == V.String:
            texts = [t.encode("utf-8") for t in found]
            return out + b"".join(struct.pack("<i", len(t)) + t for t in texts)
        if self.kind.variant == V.DateTime:
            raw = struct.unpack(f"<{self.count}q", data)
            return out + struct.pack(f"<{self.count}q", *(max(n // 100 + _FILETIME_1970, 0) for n in raw))
        return out + struct.pack(f"<{self.count}{self.kind.wire}", *found)

    def json(self, value: Any) -> Json:
        """What `Access.write` takes, from a client's value. Raises ValueError when it is none of the type."""
        if self.dims:
            rows = value
            for n in self.dims[1:]:
                if not isinstance(rows, list) or any(not isinstance(r, list) or len(r) != n for r in rows):
                    break
                rows = [v for r in rows for v in r]
            if not isinstance(rows, list) or len(rows) != self.count:
                raise ValueError(f"an array of {self.count} values is needed")
            return [self._one(v) for v in rows]
        return self._one(value)

    def _one(self, value: Any) -> Json:
        if value is None:
            raise ValueError("there is no value")
        if self.kind.from_ua is not None:
            return self.kind.from_ua(value)
        if isinstance(value, (bool, int, float, str)):
            return value
        raise ValueError(f"{type(value).__name__} is no value of {self.base}")


def nested(found: list[Any], dims: tuple[int, ...]) -> list[Any]:
    """A flat list as lists of lists."""
    for n in reversed(dims[1:]):
        found = [found[i : i + n] for i in range(0, len(found), n)]
    return found


def _text(data: bytes, base: str) -> str:
    if base.upper().startswith("W"):
        units = data.decode("utf-16-le", "replace")
        return units.split("\0", 1)[0].encode("utf-8", "replace").decode("utf-8")
    return data.split(b"\0", 1)[0].decode("latin-1")


def codec(v: Variable, named: str | None = None, enumeration: bool = False) -> Codec | None:
    """`named` is the elementary type under an enumeration or subrange. None for what cannot be told: references, and
    types of which only the size is known."""
    array = _ARRAY.match(v.base)
    dims: tuple[int, ...] = ()
    base = v.base
    if array:
        spans = [span.partition("..") for span in array.group(1).split(",")]
        dims = tuple(int(high) - int(low) + 1 for low, _, high in spans)
        base = array.group(2)
    count = 1
    for n in dims:
        count *= n
    if count < 1 or v.refers:
        return None
    size = v.size // count
    text = _TEXT.match(base)
    if text:
        return Codec(base, _WIDE_KIND if text.group(1) else _TEXT_KIND, dims, size, -1, "")
    base = named or base
    if base not in KINDS or struct.calcsize("<" + KINDS[base].memory) != size:
        return None
    kind = KINDS[base]
    if enumeration and base not in ("UDINT", "LINT", "ULINT"):  # those may not fit the Int32 of an enumeration
        return Codec(base, _ENUM, dims, size, v.bit, kind.memory)
    return Codec(base, kind, dims, size, v.bit, kind.memory)
