"""Records out of files: WAV, CSV, npy and UFF 58. The only part of the analysis that reads disks.

Called by the command line and the replay source. Everything read is bounded, nothing is executed (npy without pickle),
and a file that contradicts what was declared - another sampling rate, a channel it does not have - is refused.
"""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.errors import DocumentError, Problem
from workloads.vibration import uff
from workloads.vibration.record import Array, Record, Unit, unit_of

MAX_FILE_BYTES = 2 << 30
# A declared rate may differ from the file's own by rounding, not by more.
RATE_TOLERANCE = 1e-3
SUFFIXES = (".npy", ".wav", ".csv", ".txt", ".uff", ".unv")


def _refusal(path: Path, what: str, hint: str = "", place: str = "") -> DocumentError:
    return DocumentError([Problem(str(path), place, what, hint)])


def read(
    path: Path,
    *,
    rate_hz: float | None = None,
    rpm: float | None = None,
    unit: Unit | None = None,
    channel: int = 0,
) -> Record:
    """One channel (counted from 0) of a file. ``rate_hz`` is needed where the file does not carry it.

    Raises DocumentError: missing, unreadable, too large, of no known kind, without the channel, or contradicting.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise _refusal(path, f"{size} bytes; at most {MAX_FILE_BYTES} are read", "cut it into records")
        if size == 0:
            raise _refusal(path, "the file is empty")
        kind = path.suffix.lower()
        if kind == ".npy":
            samples, own_rate, own_unit = _npy(path, channel), None, None
        elif kind == ".wav":
            samples, own_rate = _wav(path, channel)
            own_unit = None
        elif kind in (".csv", ".txt"):
            samples, own_rate = _csv(path, channel)
            own_unit = None
        elif kind in (".uff", ".unv"):
            samples, own_rate, own_unit = _uff(path, channel)
        else:
            raise _refusal(path, f'"{kind}" is no kind of file that is read', f"known: {', '.join(SUFFIXES)}")
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror or error}") from error
    if rate_hz is None and own_rate is None:
        raise _refusal(path, "the file does not tell its sampling rate", "give --rate in Hz", "rate")
    if rate_hz is not None and own_rate is not None and abs(rate_hz / own_rate - 1) > RATE_TOLERANCE:
        what = f"declared rate {rate_hz:g} Hz, but the file says {own_rate:g} Hz"
        raise _refusal(path, what, "correct the one that is wrong: every frequency hangs on it", "rate")
    if unit is not None and own_unit is not None and unit is not own_unit:
        raise _refusal(path, f"declared unit {unit.value}, but the file says {own_unit.value}", "", "unit")
    rate = own_rate if own_rate is not None else float(rate_hz or 0.0)
    return Record(samples=samples, rate_hz=rate, unit=unit or own_unit, rpm=rpm, source=path.name)


def _pick(path: Path, table: npt.NDArray[np.floating], channel: int) -> Array:
    """One column of a (samples, channels) table."""
    if not 0 <= channel < table.shape[1]:
        what = f"channel {channel} does not exist: the file has {table.shape[1]}, counted from 0"
        raise _refusal(path, what, "", "channel")
    return np.ascontiguousarray(table[:, channel])


def _npy(path: Path, channel: int) -> Array:
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
        return _pick(path, loaded[:, None], channel)
    # Fewer channels than samples: the shorter side is the channels, however it was saved.
    return _pick(path, loaded if loaded.shape[0] >= loaded.shape[1] else loaded.T, channel)


def _wav(path: Path, channel: int) -> tuple[Array, float]:
    """RIFF WAVE: PCM of 8, 16, 24 or 32 bits as integers' own values / full scale (-1 to 1), or IEEE float."""
    data = path.read_bytes()
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise _refusal(path, "no RIFF WAVE file")
    form: tuple[int, int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        body = at + 8
        if name == b"fmt " and size >= 16 and body + 16 <= len(data):
            code, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", data, body)
            if code == 0xFFFE and size >= 26 and body + 26 <= len(data):
                code = struct.unpack_from("<H", data, body + 24)[0]
            form = (code, channels, rate, block, bits)
        elif name == b"data":
            if form is None:
                raise _refusal(path, "samples before their format")
            return _pcm(path, data[body : body + size], form, channel), float(form[2])
        at = body + size + (size & 1)
    raise _refusal(path, "no samples found", "the file is cut short or holds something else")


def _pcm(path: Path, raw: bytes, form: tuple[int, int, int, int, int], channel: int) -> Array:
    code, channels, rate, block, bits = form
    if channels < 1 or rate < 1 or block != channels * bits // 8:
        raise _refusal(path, f"contradicting format: {channels} channels, {bits} bits, {block} bytes, {rate} Hz")
    raw = raw[: len(raw) // block * block]
    flat: npt.NDArray[np.floating]
    if code == 3 and bits in (32, 64):
        flat = np.frombuffer(raw, dtype=f"<f{bits // 8}").astype(np.float32 if bits == 32 else np.float64)
    elif code == 1 and bits in (16, 32):
        whole: npt.NDArray[np.floating]
        whole = np.frombuffer(raw, dtype=f"<i{bits // 8}").astype(np.float32 if bits == 16 else np.float64)
        flat = whole / (1 << (bits - 1))
    elif code == 1 and bits == 24:
        bytes3 = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 3).astype(np.int32)
        whole24 = (bytes3[:, 0] << 8 | bytes3[:, 1] << 16 | bytes3[:, 2] << 24) >> 8
        flat = whole24.astype(np.float32) / (1 << 23)
    elif code == 1 and bits == 8:
        flat = (np.frombuffer(raw, dtype=np.uint8).astype(np.float32) - 128) / 128
    else:
        raise _refusal(path, f"WAV format {code} of {bits} bits is not read", "PCM or IEEE float")
    return _pick(path, flat.reshape(-1, channels), channel)


_NUMBER = re.compile(r"^[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?$|^[+-]?(nan|inf|infinity)$", re.IGNORECASE)


def _csv(path: Path, channel: int) -> tuple[Array, float | None]:
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
    if table.shape[1] > 1 and names and re.match(r"^(time|t|zeit|seconds?|s)\b", names[0], re.IGNORECASE):
        return _pick(path, table[:, 1:], channel), _rate_of(path, table[:, 0])
    return _pick(path, table, channel), None


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


def _uff(path: Path, channel: int) -> tuple[Array, float, Unit | None]:
    try:
        series = uff.time_series(path.read_bytes(), channel)
    except ValueError as error:
        raise _refusal(path, str(error), "", "channel" if isinstance(error, uff.NoSuchSeriesError) else "") from error
    unit: Unit | None
    try:
        unit = unit_of(series.unit)
    except DocumentError:
        unit = None  # a unit that is not known is as good as none: no figure will hang on it
    return series.values, series.rate_hz, unit
