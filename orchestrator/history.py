"""History as people look at it: one tag between two times in few points, sparklines of many tags, CSV.

Values in, values out, with numpy; ``orchestrator.store.history`` finds the blocks. A bucket keeps its first and last
time, the last, lowest and highest good value and the worst quality, so that no spike and no gap disappears.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from manifests import block
from orchestrator.store.history import StoredBlock

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Qualities = npt.NDArray[np.uint8]
GOOD = int(block.Quality.GOOD)
# Samples read for one answer; beyond it the answer would be minutes late and the process large.
MAX_SAMPLES = 20_000_000


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one tag in order of time."""

    ts: Times
    value: Floats
    quality: Qualities
    text: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self.ts)


NOTHING = Samples(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8))


@dataclass(frozen=True, slots=True)
class Series:
    """Columns of equal length; NaN where a bucket holds no good value. ``samples``: how many lie in the range."""

    downsampled: bool
    samples: int
    ts: Times
    value: Floats
    low: Floats
    high: Floats
    quality: Qualities
    text: list[str | None] | None = None


def collect(blocks: Iterable[StoredBlock], begin_ns: int, end_ns: int) -> dict[int, Samples]:
    """The samples of each wanted tag in [begin, end], by tag id, in order of time."""
    found: dict[int, list[Samples]] = {}
    for stored in blocks:
        columns = block.decode(stored.payload)
        tag = np.asarray(columns.tag, np.uint32)
        ts = np.asarray(columns.ts, np.int64)
        value = np.asarray(columns.v, np.float64)
        quality = np.asarray(columns.q, np.uint8)
        for number, tag_id in stored.numbers.items():
            start, stop = np.searchsorted(tag, [number, number + 1]).tolist()
            if start == stop:
                continue
            inside = np.searchsorted(ts[start:stop], [begin_ns, end_ns + 1])
            first, last = start + int(inside[0]), start + int(inside[1])
            if first >= last:
                continue
            text = None if columns.s is None else columns.s[first:last]
            # Copies, so that one tag's few samples do not keep whole blocks in memory.
            part = Samples(ts[first:last].copy(), value[first:last].copy(), quality[first:last].copy(), text)
            found.setdefault(tag_id, []).append(part)
    return {tag_id: _join(parts) for tag_id, parts in found.items()}


def _join(parts: list[Samples]) -> Samples:
    ts = np.concatenate([p.ts for p in parts])
    value = np.concatenate([p.value for p in parts])
    quality = np.concatenate([p.quality for p in parts])
    text: list[str | None] | None = None
    if any(p.text is not None for p in parts):
        text = [t for p in parts for t in (p.text if p.text is not None else [None] * len(p))]
    if len(ts) > 1 and (ts[1:] < ts[:-1]).any():
        order = np.argsort(ts, kind="stable")
        ts, value, quality = ts[order], value[order], quality[order]
        text = None if text is None else [text[i] for i in order.tolist()]
    return Samples(ts, value, quality, text)


def downsample(samples: Samples, begin_ns: int, end_ns: int, points: int) -> Series:
    """At most ``points`` points. Raw when there are no more samples than that; else equal buckets of time, each at the
    time of its last sample, and empty buckets between full ones as one NaN so that a gap is seen as a gap."""
    good = np.where(samples.quality >= GOOD, samples.value, np.nan)
    if len(samples) <= points:
        return Series(False, len(samples), samples.ts, good, good, good, samples.quality, samples.text)
    width = max(1, -(-(end_ns - begin_ns + 1) // points))
    bucket = (samples.ts - begin_ns) // width
    starts = np.append(0, np.flatnonzero(bucket[1:] != bucket[:-1]) + 1)
    ends = np.append(starts[1:], len(samples)) - 1
    low = np.fmin.reduceat(good, starts)
    high = np.fmax.reduceat(good, starts)
    # The last good value of each bucket: carry the index of the newest good sample, if it lies in this bucket.
    index = np.where(np.isnan(good), -1, np.arange(len(good)))
    newest = np.maximum.accumulate(index)[ends]
    value = np.where(newest >= starts, good[np.maximum(newest, 0)], np.nan)
    quality = np.minimum.reduceat(samples.quality, starts)
    ts = samples.ts[ends].copy()
    ts[0] = samples.ts[0]  # first and last sample keep their own times
    number = bucket[starts]
    holes = np.flatnonzero(np.diff(number) > 1)
    if len(holes):
        middle = begin_ns + (number[holes] + 1) * width
        at = holes + 1
        ts = np.insert(ts, at, middle)
        value, low, high = (np.insert(column, at, np.nan) for column in (value, low, high))
        quality = np.insert(quality, at, 0)
    return Series(True, len(samples), ts, value, low, high, quality)


def rows(samples: Samples) -> Iterator[str]:
    """CSV, every sample: time (RFC 3339, UTC), value, quality code, text."""
    yield "time,value,quality,text\r\n"
    for i in range(len(samples)):
        second, rest = divmod(int(samples.ts[i]), 1_000_000_000)
        time = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
        value = float(samples.value[i])
        text = samples.text[i] if samples.text is not None else None
        out = io.StringIO()
        csv.writer(out).writerow(
            [time, "" if not np.isfinite(value) else repr(value), int(samples.quality[i]), _inert(text)]
        )
        yield out.getvalue()


def _inert(text: str | None) -> str:
    """Spreadsheets run cells that begin like a formula; text from a device must not be one."""
    if not text:
        return ""
    return f"'{text}" if text[0] in "=+-@\t\r" else text


def numbers(column: Floats) -> list[float | None]:
    """JSON has no NaN."""
    return [v if f else None for v, f in zip(column.tolist(), np.isfinite(column).tolist(), strict=True)]


def milliseconds(ts: Times) -> list[float]:
    return [t / 1e6 for t in ts.tolist()]


def sparklines(found: Mapping[int, Samples], begin_ns: int, end_ns: int, points: int) -> dict[int, Series]:
    return {tag_id: downsample(samples, begin_ns, end_ns, points) for tag_id, samples in found.items()}
