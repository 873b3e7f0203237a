"""What is worth telling of every record: the screening set, from one transform shared by all.

Called by the command line, the workload and the benchmark. Amplitudes are in the record's own unit; velocity needs a
declared one and says why when it is missing. ``indicators`` holds what speaks for unbalance and its relatives.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workloads.vibration.quality import Effect, Finding, refusals
from workloads.vibration.record import Array, Record
from workloads.vibration.spectrum import PowerLines, band_rms, power_lines, velocity_rms

Floats = npt.NDArray[np.floating]

BANDS = 32
# Where rolling bearings first become loud; most gears and shafts stay below.
HIGH_HZ = 5000.0
ENVELOPE_BINS = 2048


@dataclass(frozen=True, slots=True)
class Band:
    low_hz: float
    high_hz: float
    rms: float


@dataclass(frozen=True, slots=True)
class Features:
    """``rms``, ``peak``, bands in the record's unit, mean removed; ``crest`` = peak / RMS; ``kurtosis`` 3 for noise.

    ``impulsiveness``: kurtosis of the whitened envelope's square root (about 3.3 for noise), independent of tones.
    ``velocity_mm_s`` None with the reason in ``velocity_missing``. ``high_rms`` None when the rate does not reach.
    """

    mean: float
    rms: float
    peak: float
    crest: float
    kurtosis: float
    skewness: float
    impulsiveness: float
    velocity_mm_s: float | None
    velocity_missing: str
    high_rms: float | None
    bands: tuple[Band, ...]


def screen(record: Record, findings: tuple[Finding, ...] | list[Finding] = ()) -> Features:
    """The screening set of a record that ``quality.check`` has not refused; ``findings`` are that check's."""
    x = np.asarray(record.samples, dtype=np.float32)
    mean = float(x.mean())
    x = x - np.float32(mean)
    squares = np.square(x)
    mean_square = _dot(x, x) / len(x)
    rms = math.sqrt(mean_square)
    scale = max(mean_square, 1e-300)
    peak = max(float(x.max()), -float(x.min()))
    lines = power_lines(x, record.rate_hz)
    missing = "; ".join(one.what for one in refusals(findings, Effect.NO_ISO))
    if record.unit is None and not missing:
        missing = "the unit of the samples is not declared"
    velocity = None if missing or record.unit is None else velocity_rms(lines, record.unit)
    return Features(
        mean=mean,
        rms=rms,
        peak=peak,
        crest=peak / rms if rms > 0 else 0.0,
        kurtosis=_dot(squares, squares) / len(x) / scale / scale,
        skewness=_dot(squares, x) / len(x) / scale**1.5,
        impulsiveness=_impulsiveness(lines),
        velocity_mm_s=velocity,
        velocity_missing=missing,
        high_rms=band_rms(lines, HIGH_HZ, record.rate_hz / 2) if record.rate_hz > 2.5 * HIGH_HZ else None,
        bands=_bands(lines, record.rate_hz),
    )


def _dot(a: Floats, b: Floats) -> float:
    """Sum of products; blocks keep float32 exact to six digits however long the record."""
    return sum(float(np.dot(a[i : i + 65536], b[i : i + 65536])) for i in range(0, len(a), 65536))


def _bands(lines: PowerLines, rate_hz: float) -> tuple[Band, ...]:
    """Equal bands up to Nyquist; their squares sum to the squared RMS."""
    edges, hz = _edges(len(lines.values), lines.step_hz, rate_hz / 2)
    sums = np.sqrt(np.add.reduceat(lines.values, edges)).tolist()
    return tuple(map(Band, hz[:-1], hz[1:], sums))


@functools.lru_cache(maxsize=16)
def _edges(count: int, step_hz: float, top_hz: float) -> tuple[npt.NDArray[np.intp], tuple[float, ...]]:
    """First bins of the bands, and their limits in Hz; the last band ends before the last bin."""
    edges = np.linspace(1, count, min(BANDS, count - 1) + 1).astype(np.intp)
    return edges[:-1], tuple(np.minimum(edges * step_hz, top_hz).tolist())


def _impulsiveness(lines: PowerLines) -> float:
    spectrum = lines.spectrum
    low = len(spectrum) // 50
    middle = spectrum[low : low + min(1 << int(math.log2(len(spectrum) - 2 * low)), ENVELOPE_BINS)]
    # Nothing stays nothing: the least that can be divided by turns zero into zero.
    white = middle * np.reciprocal(np.maximum(np.abs(middle), np.float32(1e-30)))
    power = np.abs(np.fft.ifft(white))
    # The taper fades the ends out: the middle half tells.
    part = power[len(power) // 4 : -(len(power) // 4)]
    part = part - part.mean()
    square = np.square(part)
    variance = _dot(part, part) / len(part)
    return _dot(square, square) / len(part) / variance**2 if variance > 0 else 0.0


def spectral_kurtosis(samples: Array, rate_hz: float, segment: int = 256) -> tuple[Floats, Floats]:
    """Kurtosis of each band over time (0 for stationary noise): frequencies in Hz and values, (segment/2 + 1,).

    Antoni, Mechanical Systems and Signal Processing 20 (2006), with Hann segments overlapping by three quarters.
    """
    x = np.asarray(samples, dtype=np.float32)
    pieces = np.lib.stride_tricks.sliding_window_view(x - x.mean(), segment)[:: segment // 4]
    second = np.zeros(segment // 2 + 1)
    fourth = np.zeros(segment // 2 + 1)
    shape = np.hanning(segment + 1)[:-1].astype(np.float32)
    for start in range(0, len(pieces), 1024):
        line = np.fft.rfft(pieces[start : start + 1024] * shape, axis=1)
        power = np.square(line.real) + np.square(line.imag)
        second += power.sum(axis=0)
        fourth += np.square(power).sum(axis=0)
    count = len(pieces)
    value = np.divide(fourth / count, np.square(second / count), out=np.full(len(second), 2.0), where=second > 0) - 2
    return np.fft.rfftfreq(segment, 1 / rate_hz), value


def cepstrum(samples: Array, rate_hz: float) -> tuple[Floats, Floats]:
    """Real cepstrum: quefrencies in s and values, first half. A peak at T says: lines spaced by 1/T Hz."""
    x = np.asarray(samples, dtype=np.float64)
    power = np.abs(np.fft.rfft((x - x.mean()) * np.hanning(len(x))))
    logged = np.log(power + power.max(initial=0.0) * 1e-9 + 1e-300)
    value = np.fft.irfft(logged - logged.mean(), len(x))[: len(x) // 2]
    return np.arange(len(value)) / rate_hz, value


def angular(samples: Array, rate_hz: float, pulses_s: Floats, per_turn: int = 64) -> Array:
    """Samples at equal shaft angles, ``per_turn`` each turn, between the first and last tacho pulse (one per turn).

    Spectra of the result are order spectra: bin k of n samples is order k * per_turn / n. Content above half of
    ``per_turn`` orders is removed first. Raises ValueError for fewer than three pulses or ones that do not rise.
    """
    pulses = np.asarray(pulses_s, dtype=np.float64)
    if len(pulses) < 3 or not (np.diff(pulses) > 0).all():
        raise ValueError("order tracking needs at least three tacho pulses in rising order")
    if pulses[0] < 0 or pulses[-1] > (len(samples) - 1) / rate_hz:
        raise ValueError("tacho pulses lie outside the record")
    turns = len(pulses) - 1
    at = np.interp(np.arange(turns * per_turn) / per_turn, np.arange(len(pulses)), pulses)
    x = np.asarray(samples, dtype=np.float64)
    slowest_hz = 1 / float(np.diff(pulses).max())
    lines = np.fft.rfft(x)
    lines[int(per_turn / 2 * slowest_hz * len(x) / rate_hz) + 1 :] = 0
    # Eight times as dense before the straight lines between points: their error falls with the square.
    dense = np.fft.irfft(lines, 8 * len(x)) * 8
    return np.interp(at, np.arange(len(dense)) / (8 * rate_hz), dense)
