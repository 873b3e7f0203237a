"""A record as one binary message: a header of 48 bytes that says all that must be known, then the samples.

Called by ``mqtt`` and by whoever publishes records (``pack``). Little-endian throughout:

    0  4s   magic "SVB1"              20  f64  sampling rate, Hz
    4  u8   layout: 1 int16, 2 float32  28  f32  scale: sample = raw x scale + offset
    5  u8   flags: 1 overload,        32  f32  offset
            2 rpm given, 4 load given 36  f32  rpm
    6  u8   unit: 0 not declared,     40  f32  load, share of rated
            1 g, 2 m/s2, 3 mm/s       44  u32  samples per channel
    7  u8   channels, interleaved     48  ...  samples
    8  u32  sequence number, counts up by one per record
    12 i64  start of the record, ns since 1970, 0 not known

JSON is read too: ``{"samples": [...], "rateHz", "unit", "rpm", "load", "startNs", "sequence", "overload"}``. It is
twenty to a hundred times as slow to decode as binary (``vib_decode_json_ms``); use it for slow sensors only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
import numpy as np

from manifests.errors import DocumentError, Problem
from workloads.vibration.record import Array, Unit, unit_of
from workloads.vibration.sources.arrival import Heard
from workloads.vibration.sources.payload import MAX_BYTES, Layout, decode_binary

MAGIC = b"SVB1"
_HEAD = struct.Struct("<4s4BIqd4fI")
HEAD_BYTES = _HEAD.size
_LAYOUTS: dict[int, Layout] = {1: "int16", 2: "float32"}
_UNITS = {0: None, 1: Unit.G, 2: Unit.METRE_PER_S2, 3: Unit.MM_PER_S}
OVERLOAD, HAS_RPM, HAS_LOAD = 1, 2, 4
MAX_CHANNELS = 64


class _Json(msgspec.Struct, kw_only=True, rename="camel"):
    """Keys it does not know are someone else's."""

    samples: list[float | list[float]]
    rate_hz: float | None = None
    unit: str | None = None
    rpm: float | None = None
    load: float | None = None
    start_ns: int | None = None
    sequence: int | None = None
    overload: bool = False


_decode_json = msgspec.json.Decoder(_Json).decode


def unpack(payload: bytes, where: str = "payload") -> Heard:
    """Raises DocumentError naming the byte that is wrong."""

    def refuse(place: str, what: str, hint: str = "") -> DocumentError:
        return DocumentError([Problem(where, place, what, hint)])

    if len(payload) < HEAD_BYTES:
        raise refuse("header", f"{len(payload)} bytes; the header alone has {HEAD_BYTES}")
    magic, layout, flags, unit, channels, sequence, start, rate, scale, offset, rpm, load, count = _HEAD.unpack_from(
        payload
    )
    if magic != MAGIC:
        raise refuse("byte 0", f"begins with {magic!r}, not with {MAGIC!r}", "is this topic another format?")
    if layout not in _LAYOUTS:
        raise refuse("byte 4", f"unknown layout {layout}", "1 int16, 2 float32")
    if unit not in _UNITS:
        raise refuse("byte 6", f"unknown unit {unit}", "0 not declared, 1 g, 2 m/s2, 3 mm/s")
    if not 1 <= channels <= MAX_CHANNELS:
        raise refuse("byte 7", f"{channels} channels; 1 to {MAX_CHANNELS} are possible")
    width = np.dtype(np.int16 if layout == 1 else np.float32).itemsize
    body = payload[HEAD_BYTES:]
    if len(body) != count * channels * width:
        what = f"{count} samples of {channels} channels are {count * channels * width} bytes; {len(body)} came"
        raise refuse("byte 44", what, "was the message cut?")
    if not (np.isfinite(scale) and scale != 0 and np.isfinite(offset)):
        raise refuse("byte 28", f"scale {scale} and offset {offset} are no factors")
    samples = decode_binary(body, _LAYOUTS[layout], scale, offset, where=where).reshape(-1, channels)
    return Heard(
        channels=samples,
        rate_hz=rate,
        unit=_UNITS[unit],
        # Full range of the converter, when it is one: int16 counts that reach it were cut off.
        full_scale=abs(scale) * 32767 if layout == 1 and offset == 0 else None,
        start_ns=start or None,
        rpm=rpm if flags & HAS_RPM else None,
        load=load if flags & HAS_LOAD else None,
        overload=bool(flags & OVERLOAD),
        sequence=sequence,
    )


def pack(
    samples: Array,
    rate_hz: float,
    *,
    unit: Unit | None = None,
    rpm: float | None = None,
    load: float | None = None,
    start_ns: int = 0,
    sequence: int = 0,
    overload: bool = False,
    counts_per_unit: float | None = None,
) -> bytes:
    """``samples``: one channel, or samples x channels. With ``counts_per_unit`` as int16, else as float32."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    flags = overload * OVERLOAD | (rpm is not None) * HAS_RPM | (load is not None) * HAS_LOAD
    codes = {one: code for code, one in _UNITS.items()}
    if counts_per_unit is None:
        layout, scale, body = 2, 1.0, samples.astype("<f4").tobytes()
    else:
        layout, scale = 1, 1 / counts_per_unit
        body = np.clip(np.round(samples * counts_per_unit), -32768, 32767).astype("<i2").tobytes()
    head = _HEAD.pack(
        MAGIC,
        layout,
        flags,
        codes[unit],
        channels,
        sequence & 0xFFFFFFFF,
        start_ns,
        rate_hz,
        scale,
        0.0,
        rpm or 0.0,
        load or 0.0,
        len(samples),
    )
    return head + body


def read_json(payload: bytes, where: str = "payload") -> Heard:
    """A record as a JSON object. Raises DocumentError."""
    if len(payload) > MAX_BYTES:
        raise DocumentError([Problem(where, "", f"{len(payload)} bytes; at most {MAX_BYTES} are read")])
    try:
        said = _decode_json(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError([Problem(where, "json", str(error))]) from error
    return Heard(
        channels=table(said.samples, where),
        rate_hz=said.rate_hz,
        unit=unit_of(said.unit, where=where),
        start_ns=said.start_ns,
        rpm=said.rpm,
        load=said.load,
        overload=said.overload,
        sequence=said.sequence,
    )


def table(rows: Sequence[float | list[float]], where: str) -> np.ndarray:
    """Samples x channels. Raises DocumentError for rows of unequal length."""
    try:
        values = np.array(rows, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise DocumentError([Problem(where, "samples", f"no table of numbers: {error}")]) from error
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] > MAX_CHANNELS:
        raise DocumentError([Problem(where, "samples", f"samples of shape {values.shape}")])
    return values
