"""Records out of files: WAV, CSV, npy, UFF 58, MAT, Parquet, and the workload's own blocks.

The only part of the analysis that reads disks.

Called by the command line and ``sources.spool``. Everything read is bounded, nothing is executed (npy without pickle),
and a file that contradicts what was declared - another sampling rate, a channel it does not have - is refused. A file
of several named records (MAT) is never guessed from: the channel must be named.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.errors import DocumentError, Problem
from workloads.vibration import mat, parquet, uff, wav
from workloads.vibration.record import Array, Record, Unit, unit_of
from workloads.vibration.sources.block import unpack

MAX_FILE_BYTES = 2 << 30
# A declared rate may differ from the file's own by rounding, not by more.
RATE_TOLERANCE = 1e-3
TIME_NAME = re.compile(r"^(time|t|zeit|seconds?|s)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a file with what the file says of it; ``name`` empty where it has none."""

    samples: Array
    rate_hz: float | None = None
    unit: Unit | None = None
    name: str = ""
    rpm: float | None = None
    start_ns: int | None = None
    overload: bool = False


def _refusal(path: Path, what: str, hint: str = "", place: str = "") -> DocumentError:
    return DocumentError([Problem(str(path), place, what, hint)])


def read(
    path: Path,
    *,
    rate_hz: float | None = None,
    rpm: float | None = None,
    unit: Unit | None = None,
    channel: int = 0,
    variable: str | None = None,
) -> Record:
    """One channel of a file, by number (from 0) or by name. ``rate_hz`` is needed where the file does not carry it.

    Raises DocumentError: missing, unreadable, too large, of no known kind, without the channel, or contradicting.
    """
    found = pick(path, channels(path), channel, variable)
    own_rate, own_unit = found.rate_hz, found.unit
    if rate_hz is None and own_rate is None:
        raise _refusal(path, "the file does not tell its sampling rate", "give --rate in Hz", "rate")
    if rate_hz is not None and own_rate is not None and abs(rate_hz / own_rate - 1) > RATE_TOLERANCE:
        what = f"declared rate {rate_hz:g} Hz, but the file says {own_rate:g} Hz"
        raise _refusal(path, what, "correct the one that is wrong: every frequency hangs on it", "rate")
    if unit is not None and own_unit is not None and unit is not own_unit:
        raise _refusal(path, f"declared unit {unit.value}, but the file says {own_unit.value}", "", "unit")
    rate = own_rate if own_rate is not None else float(rate_hz or 0.0)
    return Record(
        samples=found.samples,
        rate_hz=rate,
        unit=unit or own_unit,
        rpm=rpm if rpm is not None else found.rpm,
        start_ns=found.start_ns,
        overload=found.overload,
        source=path.name,
    )


def channels(path: Path) -> list[Channel]:
    """Every channel of a file, in its order. Raises DocumentError."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise _refusal(path, f"{size} bytes; at most {MAX_FILE_BYTES} are read", "cut it into records")
        if size == 0:
            raise _refusal(path, "the file is empty")
        kind = path.suffix.lower()
        reader = _READERS.get(kind)
        if reader is None:
            raise _refusal(path, f'"{kind}" is no kind of file that is read', f"known: {', '.join(SUFFIXES)}")
        return reader(path)
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror or error}") from error


def pick(path: Path, found: Sequence[Channel], channel: int, variable: str | None = None) -> Channel:
    """One of them. Raises DocumentError when there is no such channel, or none was named where names must decide."""
    names = [one.name for one in found if one.name]
    if variable is not None:
        for one in found:
            if one.name == variable:
                return one
        what = f'"{variable}" does not exist'
        raise _refusal(path, what, f"the file has {', '.join(names) or 'no names'}", "variable")
    if path.suffix.lower() == ".mat" and len(found) > 1:
        what = f"the file holds {len(found)} series, which may be of different records: {', '.join(names)}"
        raise _refusal(path, what, "name one: --variable", "variable")
    if not 0 <= channel < len(found):
        what = f"channel {channel} does not exist: the file has {len(found)}, counted from 0"
        raise _refusal(path, what, "", "channel")
    return found[channel]


def _table(values: npt.NDArray[np.floating], rate_hz: float | None = None, names: Sequence[str] = ()) -> list[Channel]:
    """The columns of samples x channels."""
    called = list(names) if len(names) == values.shape[1] else [""] * values.shape[1]
    return [Channel(np.ascontiguousarray(values[:, one]), rate_hz, None, name) for one, name in enumerate(called)]


def _npy(path: Path) -> list[Channel]:
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode=None)
    except (ValueError, EOFError, OSError) as error:
        raise _refusal(path, f"no npy array: {error}") from error
    if not isinstance(loaded, np.ndarray) or loaded.dtype.kind not in "fiu":
        kind = getattr(loaded, "dtype", type(loaded).__name__)
        raise _refusal(path, f"an array of {kind}, not of numbers", "save one array of floats")
    if loaded.dtype.kind != "f":
        loaded = loaded.astype(np.float32 if loaded.dtype.itemsize <= 2 else np.float64)
    elif loaded.dtype.itemsize not in (4, 8):
        loaded = loaded.astype(np.float64)
    if loaded.ndim > 2 or loaded.ndim == 0:
        raise _refusal(path, f"an array of shape {loaded.shape}", "one channel, or samples x channels")
    if loaded.ndim == 1:
        return _table(loaded[:, None])
    # Fewer channels than samples: the shorter side is the channels, however it was saved.
    return _table(loaded if loaded.shape[0] >= loaded.shape[1] else loaded.T)


_NUMBER = re.compile(r"^[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?$|^[+-]?(nan|inf|infinity)$", re.IGNORECASE)


def _csv(path: Path) -> list[Channel]:
    """Columns of numbers; header lines above are skipped. A first column named time that rises evenly tells the rate.

    Separators ``, ; tab space`` and the decimal comma (with ``;`` or tab) are recognised.
    """
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = text.splitlines()
    names: list[str] = []
    for number, line in enumerate(lines):
        separator = ";" if ";" in line else "\t" if "\t" in line else "," if "," in line else None
        cells = [cell.strip() for cell in line.split(separator)]
        if cells and all(_NUMBER.match(cell) for cell in cells if cell) and any(cells):
            break
        names = cells if line.strip() else names
        if number > 200:
            raise _refusal(path, "no numbers in the first 200 lines")
    else:
        raise _refusal(path, "no numbers found")
    body = "\n".join(lines[number:])
    if separator in (";", "\t") and "," in lines[number]:
        body = body.replace(",", ".")
    try:
        table = np.loadtxt(io.StringIO(body), delimiter=separator, ndmin=2, dtype=np.float64, comments=None)
    except ValueError as error:
        raise _refusal(path, f"below line {number}: {error}", "every line needs the same number of numbers") from error
    return _timed(path, table, names)


def _timed(path: Path, table: npt.NDArray[np.floating], names: Sequence[str]) -> list[Channel]:
    """A first column of times gives the rate and is no channel."""
    if table.shape[1] > 1 and names and TIME_NAME.match(names[0]):
        return _table(table[:, 1:], _rate_of(path, table[:, 0]), names[1:])
    return _table(table, None, names)


def _rate_of(path: Path, seconds: npt.NDArray[np.floating]) -> float:
    steps = np.diff(seconds)
    if len(steps) == 0 or not np.isfinite(steps).all() or not (steps > 0).all():
        raise _refusal(path, "the time column does not rise", "remove it and give --rate", "time")
    mean = float((seconds[-1] - seconds[0]) / len(steps))
    if float(np.abs(steps - mean).max()) > 0.5 * mean:
        first = int(np.argmax(np.abs(steps - mean)))
        what = f"the time column jumps after sample {first}: {steps[first]:g} s instead of {mean:g} s"
        raise _refusal(path, what, "records must be gapless", "time")
    return round(1 / mean, 3)


def _uff(path: Path) -> list[Channel]:
    found: list[Channel] = []
    data = path.read_bytes()
    while True:
        try:
            series = uff.time_series(data, len(found))
        except uff.NoSuchSeriesError as error:
            if found:
                return found
            raise _refusal(path, str(error), "", "channel") from error
        except ValueError as error:
            raise _refusal(path, str(error)) from error
        unit: Unit | None
        try:
            unit = unit_of(series.unit)
        except DocumentError:
            unit = None  # a unit that is not known is as good as none: no figure will hang on it
        found.append(Channel(series.values, series.rate_hz, unit))


def _wav(path: Path) -> list[Channel]:
    try:
        values, rate_hz = wav.waveform(path.read_bytes())
    except ValueError as error:
        raise _refusal(path, str(error)) from error
    return _table(values, rate_hz)


def _mat(path: Path) -> list[Channel]:
    try:
        return [Channel(values, name=name) for name, values in mat.vectors(path.read_bytes()).items()]
    except ValueError as error:
        raise _refusal(path, str(error)) from error


def _parquet(path: Path) -> list[Channel]:
    try:
        names, table = parquet.columns(path)
    except ValueError as error:
        raise _refusal(path, str(error)) from error
    return _timed(path, table, names)


def _block(path: Path) -> list[Channel]:
    """A record as the workload keeps evidence and takes it from brokers: it says everything itself."""
    heard = unpack(path.read_bytes(), path.name)
    return [
        Channel(column, heard.rate_hz, heard.unit, "", heard.rpm, heard.start_ns, heard.overload)
        for column in np.ascontiguousarray(heard.channels.T)
    ]


_READERS: Mapping[str, Callable[[Path], list[Channel]]] = {
    ".npy": _npy,
    ".wav": _wav,
    ".csv": _csv,
    ".txt": _csv,
    ".uff": _uff,
    ".unv": _uff,
    ".mat": _mat,
    ".parquet": _parquet,
    ".svb1": _block,
}
SUFFIXES = tuple(_READERS)
