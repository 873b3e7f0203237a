"""A block of samples: the one unit in which data travels and is stored.

An Arrow IPC stream with one record batch of the columns ``tag:u32 ts:i64 v:f64 q:u8`` (and ``s:utf8`` when the block
holds text), sorted by tag then time, compressed as a whole with zstd. Times are nanoseconds since the Unix epoch, UTC.
Booleans and integers travel as float64: exact up to 2**53. Quality is the OPC DA quality byte: 192 good,
64 uncertain, 0 bad, with its sub-status in the lower bits. Workloads encode, the centre decodes; the agent never opens
one.
"""

from __future__ import annotations

import enum
import io
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nanoarrow as na
import zstandard
from nanoarrow.ipc import InputStream, StreamWriter

from manifests.errors import DocumentError, Problem

# A block's own limit is 1 MB compressed; 64 MB unpacked stops a decompression bomb.
MAX_UNPACKED_BYTES = 64 << 20
ZSTD_LEVEL = 1  # the best bytes per sample for the time it takes; higher levels gain under 10 %


class Quality(enum.IntEnum):
    """OPC DA quality byte: QQSSSSLL."""

    BAD = 0
    BAD_CONFIGURATION = 4
    BAD_NOT_CONNECTED = 8
    BAD_DEVICE_FAILURE = 12
    BAD_SENSOR_FAILURE = 16
    BAD_LAST_KNOWN = 20
    BAD_COMMUNICATION = 24
    BAD_OUT_OF_SERVICE = 28
    BAD_WAITING = 32
    UNCERTAIN = 64
    UNCERTAIN_LAST_USABLE = 68
    UNCERTAIN_RANGE = 84
    GOOD = 192
    GOOD_LOCAL_OVERRIDE = 216


def is_good(quality: int) -> bool:
    return quality >= Quality.GOOD


@dataclass(frozen=True, slots=True)
class Columns:
    """Decoded block: columns of equal length as buffers (``memoryview`` of I, q, d, B); ``s`` is None without text.

    ``v`` is NaN where there is no number (text, or no value at all).
    """

    tag: memoryview
    ts: memoryview
    v: memoryview
    q: memoryview
    s: list[str | None] | None

    def __len__(self) -> int:
        return len(self.tag)


def encode(
    tag: Sequence[int], ts: Sequence[int], v: Sequence[float], q: Sequence[int], s: Sequence[str | None] | None = None
) -> bytes:
    """One block from columns of equal length, sorted here by (tag, ts). Raises ValueError if unequal or empty."""
    count = len(tag)
    if not (len(ts) == len(v) == len(q) == count) or (s is not None and len(s) != count):
        raise ValueError("columns of a block must have equal lengths")
    if count == 0:
        raise ValueError("an empty block says nothing")
    order = sorted(range(count), key=lambda i: (tag[i], ts[i]))
    columns: dict[str, Any] = {
        "tag": na.c_array(array("I", [tag[i] for i in order]), na.uint32()),
        "ts": na.c_array(array("q", [ts[i] for i in order]), na.int64()),
        "v": na.c_array(array("d", [v[i] for i in order]), na.float64()),
        "q": na.c_array(array("B", [q[i] for i in order]), na.uint8()),
    }
    if s is not None and any(text is not None for text in s):
        columns["s"] = na.c_array([s[i] for i in order], na.string())
    fields = {name: na.Schema(column.schema) for name, column in columns.items()}
    batch = na.c_array_from_buffers(na.struct(fields), count, [None], children=list(columns.values()))
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        writer.write_array(batch)
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(out.getvalue())


def decode(data: bytes) -> Columns:
    """Raises DocumentError when ``data`` is not a block, whatever its bytes."""
    try:
        size = zstandard.get_frame_parameters(data).content_size  # "unknown" is 2**64 - 1
        if size > MAX_UNPACKED_BYTES:
            raise ValueError("larger than allowed once unpacked, or of undeclared size")
        plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_UNPACKED_BYTES)
        arrays = list(na.ArrayStream(InputStream.from_readable(plain)).read_all().iter_chunks())
        if len(arrays) != 1:
            raise ValueError(f"expected one record batch, found {len(arrays)}")
        batch = arrays[0]
        schema = {field.name: index for index, field in enumerate(batch.schema.fields)}
        views: list[Any] = []
        for name, item in (("tag", "I"), ("ts", "q"), ("v", "d"), ("q", "B")):
            column = batch.child(schema[name])
            flat: Any = memoryview(column.buffer(1)).cast("B")
            views.append(flat.cast(item)[column.offset : column.offset + len(column)])
        texts = batch.child(schema["s"]).to_pylist() if "s" in schema else None
    except Exception as error:  # the decoders raise many kinds; all of them mean: not a block
        raise DocumentError([Problem(where="block", path="", what=f"not a block of samples: {error}")]) from error
    if len({len(view) for view in views}) != 1:
        raise DocumentError([Problem(where="block", path="", what="columns of unequal length")])
    tag, ts, v, q = views
    return Columns(tag, ts, v, q, texts)
