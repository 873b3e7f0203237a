"""History as people look at it: one tag between two times in few points, sparklines of many tags, CSV.

Values in, values out, with numpy; ``orchestrator.store.history`` finds the blocks. A bucket keeps its first and last
time, the last, lowest and highest good value and the worst quality, so that no spike and no gap disappears.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from manifests import block
from manifests.errors import DocumentError, Problem
from orchestrator.store.history import StoredBlock

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Qualities = npt.NDArray[np.uint8]
GOOD = int(block.Quality.GOOD)
# Samples read for one answer (17 bytes each in memory); a longer range must be asked for in parts.
MAX_SAMPLES = 10_000_000


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
    """The samples of each wanted tag in [begin, end], by tag id, in order of time.

    Raises DocumentError when the range holds more than MAX_SAMPLES.
    """
    total = 0
    parts: list[tuple[npt.NDArray[np.int64], Samples]] = []
    meaning: dict[int, int] | None = None
    for stored in blocks:
        if stored.numbers is not meaning:  # the same for all blocks between two descriptors
            meaning = stored.numbers
            known = np.array(sorted(meaning), np.int64)
            ids = np.array([meaning[number] for number in known.tolist()], np.int64)
        columns = block.decode(stored.payload)
        tag = np.asarray(columns.tag, np.uint32)
        start = int(np.searchsorted(tag, known[0]))
        stop = int(np.searchsorted(tag, known[-1], side="right"))
        ts = np.asarray(columns.ts, np.int64)[start:stop]
        place = np.minimum(np.searchsorted(known, tag[start:stop]), len(known) - 1)
        wanted = np.flatnonzero((known[place] == tag[start:stop]) & (ts >= begin_ns) & (ts <= end_ns))
        if len(wanted) == 0:
            continue
        total += len(wanted)
        if total > MAX_SAMPLES:
            what = f"more than {MAX_SAMPLES} samples lie in this range"
            raise DocumentError([Problem("history", "from", what, "ask for a shorter range")])
        value = np.asarray(columns.v, np.float64)[start:stop][wanted]
        quality = np.asarray(columns.q, np.uint8)[start:stop][wanted]
        text = None if columns.s is None else [columns.s[start + i] for i in wanted.tolist()]
        parts.append((ids[place[wanted]], Samples(ts[wanted], value, quality, text)))
    return _split(parts)


def _split(parts: list[tuple[npt.NDArray[np.int64], Samples]]) -> dict[int, Samples]:
    if not parts:
        return {}
    ids = np.concatenate([part_ids for part_ids, _ in parts])
    ts = np.concatenate([p.ts for _, p in parts])
    order = np.lexsort((ts, ids))
    ids, ts = ids[order], ts[order]
    value = np.concatenate([p.value for _, p in parts])[order]
    quality = np.concatenate([p.quality for _, p in parts])[order]
    text: list[str | None] | None = None
    if any(p.text is not None for _, p in parts):
        joined = [t for _, p in parts for t in (p.text if p.text is not None else [None] * len(p))]
        text = [joined[i] for i in order.tolist()]
    edges = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)]
    return {
        int(ids[a]): Samples(ts[a:b], value[a:b], quality[a:b], None if text is None else text[a:b])
        for a, b in itertools.pairwise(edges)
    }


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
