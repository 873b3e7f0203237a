"""Samples out of what the wire carries: binary blocks and Modbus registers. Bytes in, float32 in the unit out.

Called by the sources and the benchmark. Text formats cost a hundred times as much; they are read by ``files`` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from manifests.errors import DocumentError, Problem

Layout = Literal["int16", "int16-big", "float32", "float32-big"]
_TYPES = {"int16": "<i2", "int16-big": ">i2", "float32": "<f4", "float32-big": ">f4"}
MAX_BYTES = 64 << 20


def decode_binary(
    data: bytes, layout: Layout, scale: float = 1.0, offset: float = 0.0, *, where: str = "payload"
) -> npt.NDArray[np.float32]:
    """Sample = raw value x ``scale`` + ``offset``, in order. Raises DocumentError for a length that does not fit."""
    kind = np.dtype(_TYPES[layout])
    if len(data) > MAX_BYTES or len(data) % kind.itemsize:
        what = f"{len(data)} bytes are no whole number of {layout} values up to {MAX_BYTES} bytes"
        raise DocumentError([Problem(where, "samples", what)])
    raw = np.frombuffer(data, dtype=kind)
    samples = raw.astype(np.float32)
    if scale != 1.0:
        samples *= np.float32(scale)
    if offset:
        samples += np.float32(offset)
    return samples


def decode_registers(
    registers: Sequence[int], layout: Layout, scale: float = 1.0, offset: float = 0.0, *, where: str = "registers"
) -> npt.NDArray[np.float32]:
    """Modbus registers (16 bits each, in order of address); float32 takes two, high word first with ``-big``."""
    try:
        words = np.array(registers, dtype=np.uint16)
    except (ValueError, OverflowError, TypeError) as error:
        raise DocumentError([Problem(where, "registers", f"not all are 16-bit numbers: {error}")]) from error
    order = words.astype(">u2") if layout.endswith("big") else words.astype("<u2")
    bare: Layout = layout if layout.startswith("float32") else ("int16-big" if layout.endswith("big") else "int16")
    return decode_binary(order.tobytes(), bare, scale, offset, where=where)
