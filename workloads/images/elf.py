"""Which shared libraries a program needs, read from the file itself.

Called by `rootfs` to keep just the libraries that are used. Works for any architecture, runs nothing and
needs no `ldd` (which would run the program's own loader). Refuses nothing: what is not ELF needs nothing.

Source: System V ABI, chapters 4 and 5 (ELF header, program header, dynamic section).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def is_elf(data: bytes) -> bool:
    """Whether these bytes start an ELF file."""
    return data[:4] == b"\x7fELF" and len(data) > 64


def needed(data: bytes) -> list[str]:
    """Names of the libraries (DT_NEEDED) and, as an absolute path, the loader (PT_INTERP) of one file."""
    if not is_elf(data):
        return []
    wide = data[4] == 2
    order = "<" if data[5] == 1 else ">"
    segments = _segments(data, wide, order)
    names = [_text(data, part.offset) for part in segments if part.kind == _PT_INTERP]
    for dynamic in (part for part in segments if part.kind == _PT_DYNAMIC):
        entry = struct.Struct(order + ("qQ" if wide else "iI"))
        raw = data[dynamic.offset : dynamic.offset + dynamic.size // entry.size * entry.size]
        pairs = list(entry.iter_unpack(raw))
        table = next((value for tag, value in pairs if tag == _DT_STRTAB), None)
        if table is None:
            continue
        base = _offset(segments, table)
        names += [_text(data, base + value) for tag, value in pairs if tag == _DT_NEEDED]
    return names


def _segments(data: bytes, wide: bool, order: str) -> list[_Segment]:
    if wide:
        (start,) = struct.unpack_from(order + "Q", data, 32)
        size, count = struct.unpack_from(order + "HH", data, 54)
        layout, fields = struct.Struct(order + "IIQQQQ"), (0, 2, 3, 5)
    else:
        (start,) = struct.unpack_from(order + "I", data, 28)
        size, count = struct.unpack_from(order + "HH", data, 42)
        layout, fields = struct.Struct(order + "IIIII"), (0, 1, 2, 4)
    found = []
    for index in range(count):
        values = layout.unpack_from(data, start + index * size)
        found.append(_Segment(*(values[field] for field in fields)))
    return found


def _offset(segments: list[_Segment], address: int) -> int:
    """Where in the file a virtual address lies."""
    for part in segments:
        if part.kind == _PT_LOAD and part.address <= address < part.address + part.size:
            return address - part.address + part.offset
    return address


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode("utf-8", "replace")
