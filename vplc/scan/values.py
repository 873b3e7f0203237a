"""Bytes of the state and of the image as Python values, by the elementary type's name. Pure."""

from __future__ import annotations

import math
import re
import struct

Json = bool | int | float | str | None | list["Json"] | dict[str, "Json"]

_FORMATS = {
    "BOOL": "B", "BYTE": "B", "USINT": "B", "CHAR": "B", "SINT": "b",
    "WORD": "H", "UINT": "H", "WCHAR": "H", "INT": "h",
    "DWORD": "I", "UDINT": "I", "DINT": "i",
    "LWORD": "Q", "ULINT": "Q", "LINT": "q",
    "REAL": "f", "LREAL": "d",
    "TIME": "q", "LTIME": "q", "DATE": "q", "LDATE": "q", "TOD": "q", "LTOD": "q", "DT": "q", "LDT": "q",
    "TIME_OF_DAY": "q", "DATE_AND_TIME": "q",
}  # fmt: skip
SIZES = {name: struct.calcsize("<" + code) for name, code in _FORMATS.items()}
_BY_SIZE = {1: "b", 2: "h", 4: "i", 8: "q"}
_ARRAY = re.compile(r"ARRAY\s*\[([^\]]*)\]\s*OF\s+(.+)$", re.IGNORECASE)
_TEXT = re.compile(r"(W?)STRING(?:\[(\d+)\])?$", re.IGNORECASE)


def encode(base: str, value: object) -> bytes:
    """The little-endian bytes of a scalar; ValueError says why it is none of the type. TIME and dates in ns."""
    code = _FORMATS.get(base)
    if code is None:
        raise ValueError(f"{base} cannot be carried by a channel")
    if base == "BOOL":
        if value not in (0, 1, True, False):
            raise ValueError(f"{value!r} is not a BOOL")
        return bytes([int(bool(value))])
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a number")
    if code in "fd":
        try:
            return struct.pack("<" + code, value)
        except OverflowError:
            raise ValueError(f"{value} does not fit {base}") from None
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"{value} is not a whole number")
        value = int(value)
    try:
        return struct.pack("<" + code, value)
    except struct.error:
        raise ValueError(f"{value} does not fit {base}") from None


def encode_variable(base: str, size: int, value: object) -> bytes:
    """The bytes of a whole variable: a scalar, a STRING or WSTRING that fits, or an array as a flat list of its full
    length. Derived scalars are taken as signed whole numbers. ValueError says why it does not fit."""
    text = _TEXT.match(base)
    if text:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not a text")
        step = 2 if text.group(1) else 1
        try:
            data = value.encode("utf-16-le" if text.group(1) else "latin-1")
        except UnicodeEncodeError as error:
            raise ValueError(f"{value!r} holds characters that {base} cannot carry") from error
        if "\0" in value or len(data) + step > size:
            raise ValueError(f"{value!r} is longer than {size // step - 1} characters or holds a zero")
        return data.ljust(size, b"\0")
    array = _ARRAY.match(base)
    if array:
        count = _count(array.group(1))
        if not isinstance(value, list) or len(value) != count:
            raise ValueError(f"needs a list of {count} values")
        return b"".join(encode_variable(array.group(2), size // count, v) for v in value)
    if base not in SIZES and size not in _BY_SIZE:
        raise ValueError(f"{base} cannot be written")
    known = base if base in SIZES else {1: "SINT", 2: "INT", 4: "DINT", 8: "LINT"}[size]
    data = encode(known, value)
    if len(data) != size:
        raise ValueError(f"{base} has {size} bytes here")
    return data


def _count(spans: str) -> int:
    count = 1
    for span in spans.split(","):
        low, _, high = span.partition("..")
        count *= int(high) - int(low) + 1
    return count


def decode(base: str, data: bytes, bit: int = -1) -> Json:
    """The value of a variable: scalars, STRING, WSTRING and arrays of scalars (flat). TIME and dates in ns."""
    if bit >= 0:
        return bool(data[0] >> bit & 1)
    text = _TEXT.match(base)
    if text:
        if text.group(1):
            return data.decode("utf-16-le", "replace").split("\0", 1)[0]
        return data.decode("latin-1").split("\0", 1)[0]
    array = _ARRAY.match(base)
    if array:
        count = _count(array.group(1))
        step = len(data) // max(count, 1)
        return [decode(array.group(2), data[i * step : (i + 1) * step]) for i in range(count)]
    if base == "BOOL":
        return bool(data[0])
    code = _FORMATS.get(base) or _BY_SIZE.get(len(data))
    if code is None or struct.calcsize("<" + code) != len(data):
        return data.hex()
    value: int | float = struct.unpack("<" + code, data)[0]
    if isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return str(value)
        return float(f"{value:.7g}") if code == "f" else value
    return value
