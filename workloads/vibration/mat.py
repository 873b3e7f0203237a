"""Vectors out of MAT files of version 5, as most published recordings are. Bytes in, named numbers out.

Called by ``files``. Real numeric vectors of full arrays are read; structures, cells, texts and sparse matrices are
passed over. Not scipy: 100 MB for one reader. Version 7.3 files are HDF5 and refused by name.

Source: MathWorks, "MAT-File Format", chapter 1 (level 5).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
MIN_SAMPLES = 64  # shorter vectors are settings, not series
MAX_BYTES = 2 << 30
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC = range(6, 16)  # array classes double, single and the integers
_COMPLEX = 0x0800


def vectors(data: bytes) -> dict[str, Floats]:
    """Every series by name, in the order of the file. Raises ValueError saying what is wrong."""
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[512:520] == b"\x89HDF\r\n\x1a\n":
        raise ValueError("a MAT file of version 7.3 (HDF5) is not read: save it with -v7")
    mark = data[126:128]
    if len(data) < 136 or mark not in (b"IM", b"MI"):
        raise ValueError("no MAT file of version 5")
    order = "<" if mark == b"IM" else ">"
    found: dict[str, Floats] = {}
    try:
        for kind, body in _elements(data[128:], order):
            if kind == _COMPRESSED:
                (kind, body), *_ = _elements(_unpacked(body), order)
            if kind == _MATRIX:
                named = _vector(body, order)
                if named is not None:
                    found[named[0]] = named[1]
    except (struct.error, zlib.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"a damaged MAT file: {error}") from error
    if not found:
        raise ValueError(f"no vector of {MIN_SAMPLES} real numbers or more in it")
    return found


def _unpacked(body: bytes) -> bytes:
    machine = zlib.decompressobj()
    out = machine.decompress(body, MAX_BYTES)
    if machine.unconsumed_tail:
        raise ValueError(f"more than {MAX_BYTES} bytes when unpacked")
    return out


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 8 <= len(data):
        (kind,) = struct.unpack_from(order + "I", data, at)
        if kind >> 16:  # a small element: size and type share a word, up to four bytes follow
            yield kind & 0xFFFF, data[at + 4 : at + 4 + (kind >> 16)]
            at += 8
            continue
        (size,) = struct.unpack_from(order + "I", data, at + 4)
        if at + 8 + size > len(data):
            raise ValueError(f"the file is cut short: {size} bytes announced, {len(data) - at - 8} are there")
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size
        if kind != _COMPRESSED:
            at += -size % 8


def _vector(body: bytes, order: str) -> tuple[str, Floats] | None:
    parts = _elements(body, order)
    _, flags = next(parts, (0, b""))
    (word,) = struct.unpack_from(order + "I", flags)
    if (word & 0xFF) not in _NUMERIC or word & _COMPLEX:
        return None
    _, dimensions = next(parts, (0, b""))
    sides = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    _, name = next(parts, (0, b""))
    if sum(side > 1 for side in sides) != 1 or max(sides) < MIN_SAMPLES:
        return None
    kind, raw = next(parts, (0, b""))
    if kind not in _TYPES:
        return None
    values = np.frombuffer(raw, dtype=order + _TYPES[kind])
    if len(values) != max(sides):
        raise ValueError(f"{name.decode('latin-1')}: {len(values)} of {max(sides)} samples")
    return name.decode("latin-1"), values.astype(np.float32 if _TYPES[kind] == "f4" else np.float64)
