"""Time series out of Universal File Format 58 and 58b, as many analysers export them. Bytes in, numbers out.

Called by ``files``. Only evenly spaced real records of function type 1 (time response) are read; the rest of a file
is passed over. Source: SDRC / University of Cincinnati, "Universal File Format 58".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MARK = re.compile(rb"^ {4}-1[ \t]*\r?$", re.MULTILINE)
_TIME_RESPONSE = 1
HEADER_LINES = 12  # the dataset's number and eleven records


class NoSuchSeriesError(ValueError):
    """The file has fewer time series than asked for."""


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """``unit`` is the label of the ordinate as written, possibly empty."""

    values: npt.NDArray[np.floating]
    rate_hz: float
    unit: str


def time_series(data: bytes, number: int) -> TimeSeries:
    """The ``number``-th (from 0) time series. Raises ValueError saying what is wrong."""
    found = 0
    at = 0
    while True:
        mark = _MARK.search(data, at)
        if mark is None:
            raise NoSuchSeriesError(f"time series {number} does not exist: the file has {found}, counted from 0")
        start = mark.end() + 1
        lines, body = _header(data, start)
        if not lines or lines[0].split()[:1] not in ([b"58"], [b"58b"]):
            end = _MARK.search(data, start)
            at = end.end() if end is not None else len(data)
            continue
        try:
            binary = lines[0].strip().startswith(b"58b")
            kind, count, even = (int(field) for field in lines[7].split()[:3])
            step = float(lines[7].split()[4])
            width = {2: 4, 4: 8, 5: 8, 6: 16}[kind]
            size = int(lines[0].split()[4]) if binary else 0
            end = _MARK.search(data, body + size)  # the bytes of a binary dataset may look like a mark
            at = end.end() if end is not None else len(data)
            if int(lines[6][:5]) != _TIME_RESPONSE:
                continue
            if found < number:
                found += 1
                continue
            if kind not in (2, 4) or even != 1 or not (step > 0 and math.isfinite(step)):
                raise ValueError("only evenly spaced real values are read")
            if binary:
                order = ">" if lines[0].split()[1] == b"2" else "<"
                raw = data[body : body + count * width]
                values = np.frombuffer(raw[: len(raw) // width * width], dtype=f"{order}f{width}").astype(np.float64)
            else:
                end_at = end.start() if end is not None else len(data)
                values = np.array(data[body:end_at].split()[:count], dtype=np.float64)
            if len(values) < count:
                raise ValueError(f"{len(values)} of {count} samples")
        except (ValueError, IndexError, KeyError) as error:
            raise ValueError(f"dataset 58 number {found} cannot be read: {error}") from error
        label = lines[9].split()[-1:] or [b""]
        return TimeSeries(values, round(1 / step, 6), label[0].decode("latin-1").replace("NONE", ""))


def _header(data: bytes, start: int) -> tuple[list[bytes], int]:
    """The lines of a dataset's head, and where its values begin."""
    lines = []
    at = start
    for _ in range(HEADER_LINES):
        end = data.find(b"\n", at)
        if end < 0:
            return [], len(data)
        lines.append(data[at:end].rstrip(b"\r"))
        at = end + 1
    return lines, at
