"""Spectra whose numbers can be read off: amplitude, power density, velocity by integration.

Called by ``features``, the command line and the workload. Every scale is one-sided and corrected for its window:
amplitude by the coherent gain, power by the noise bandwidth (Harris, Proc. IEEE 66, 1978; Heinzel et al., 2002).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from workloads.vibration.record import Array, Unit

Floats = npt.NDArray[np.floating]
Window = Literal["rectangular", "hann", "flat-top"]

# Cosine terms; the flat top is that of ISO 18431-2:2004 (also SRS's), amplitude error below 0.1 % between bins.
_TERMS: dict[str, tuple[float, ...]] = {
    "rectangular": (1.0,),
    "hann": (0.5, 0.5),
    "flat-top": (1.0, 1.933, 1.286, 0.388, 0.0322),
}
# Half width of the main lobe, bins.
LOBE = {"rectangular": 1, "hann": 2, "flat-top": 5}


@dataclass(frozen=True, slots=True)
class Taper:
    """A window of ``n`` values (periodic form) with the sums its corrections need."""

    values: npt.NDArray[np.float32]
    total: float  # sum: n times the coherent gain
    squares: float  # sum of squares


@functools.lru_cache(maxsize=16)
def taper(window: Window, count: int) -> Taper:
    phase = 2 * np.pi * np.arange(count) / count
    values = np.zeros(count)
    for k, term in enumerate(_TERMS[window]):
        values += (-1) ** k * term * np.cos(k * phase)
    narrow = values.astype(np.float32)
    narrow.flags.writeable = False
    return Taper(narrow, float(values.sum()), float((values * values).sum()))


@dataclass(frozen=True, slots=True)
class Spectrum:
    """``values`` per bin of ``step_hz`` from 0 Hz; what they are is the maker's business."""

    values: Floats
    step_hz: float

    @property
    def hz(self) -> Floats:
        return np.arange(len(self.values)) * self.step_hz

    def highest(self, hz: float, within_hz: float) -> tuple[float, float]:
        """Frequency and value of the highest bin in ``hz`` +- ``within_hz`` (at least the nearest bin)."""
        low = max(0, int(np.ceil((hz - within_hz) / self.step_hz)))
        high = min(len(self.values) - 1, int((hz + within_hz) / self.step_hz))
        if high < low:
            low = high = min(len(self.values) - 1, max(0, round(hz / self.step_hz)))
        best = low + int(np.argmax(self.values[low : high + 1]))
        return best * self.step_hz, float(self.values[best])


def amplitude_spectrum(samples: Array, rate_hz: float, window: Window = "flat-top") -> Spectrum:
    """Peak amplitude of each line, in the unit of ``samples`` (1-D, float); mean removed.

    With the flat top a steady tone reads right within 0.5 % wherever it lies between bins.
    """
    x = np.asarray(samples)
    shape = taper(window, len(x))
    spectrum = np.abs(np.fft.rfft((x - x.mean()) * shape.values)) * (2 / shape.total)
    spectrum[0] /= 2
    if len(x) % 2 == 0:
        spectrum[-1] /= 2
    return Spectrum(spectrum, rate_hz / len(x))


def power_density(
    samples: Array, rate_hz: float, *, segment: int = 4096, overlap: float = 0.5, window: Window = "hann"
) -> Spectrum:
    """One-sided power spectral density by Welch's method, unit squared per Hz; the mean of each segment removed."""
    x = np.asarray(samples)
    count = min(segment, len(x))
    shape = taper(window, count)
    hop = max(1, int(count * (1 - overlap)))
    pieces = np.lib.stride_tricks.sliding_window_view(x, count)[::hop]
    power = np.zeros(count // 2 + 1)
    for piece in pieces:  # one by one: all at once would copy the record several times
        line = np.fft.rfft((piece - piece.mean()) * shape.values)
        power += np.square(line.real) + np.square(line.imag)
    power *= 2 / (rate_hz * shape.squares * len(pieces))
    power[0] /= 2
    if count % 2 == 0:
        power[-1] /= 2
    return Spectrum(power, rate_hz / count)


@dataclass(frozen=True, slots=True)
class PowerLines:
    """Mean square per bin of a Hann-tapered record (unit squared): sums over bins are mean squares. One FFT."""

    values: npt.NDArray[np.float32]
    step_hz: float
    spectrum: npt.NDArray[np.complex64]


def power_lines(centred: npt.NDArray[np.float32], rate_hz: float) -> PowerLines:
    """``centred``: float32, mean removed. The one transform that all screening features share."""
    count = len(centred)
    shape = taper("hann", count)
    # numpy keeps single precision here; its type information says otherwise.
    spectrum = cast("npt.NDArray[np.complex64]", np.fft.rfft(centred * shape.values))
    power = np.abs(spectrum)
    power *= power
    power *= np.float32(2 / (count * shape.squares))
    return PowerLines(power, rate_hz / count, spectrum)


def band_rms(lines: PowerLines, low_hz: float, high_hz: float) -> float:
    """RMS between two frequencies, both ends included, in the unit of the samples."""
    low = max(1, int(np.ceil(low_hz / lines.step_hz)))
    high = min(len(lines.values) - 1, int(high_hz / lines.step_hz))
    return float(np.sqrt(lines.values[low : high + 1].sum(dtype=np.float64))) if high >= low else 0.0


def velocity_rms(lines: PowerLines, unit: Unit, low_hz: float = 10.0, high_hz: float = 1000.0) -> float:
    """Velocity RMS in mm/s between two frequencies, by integration of each line.

    The band is widened by the window's main lobe, so that a tone at its very edge counts whole (ISO 2954 allows its
    filter more there). Within 1 % of the truth from 10 to 1000 Hz for records of 1 s or more.
    """
    step = lines.step_hz
    low = max(2, round(low_hz / step) - LOBE["hann"])
    high = min(len(lines.values) - 1, round(high_hz / step) + LOBE["hann"])
    if high < low:
        return 0.0
    part = lines.values[low : high + 1].astype(np.float64)
    if not unit.is_acceleration:
        return float(np.sqrt(part.sum()))
    return float(np.sqrt(np.dot(part, _integration(low, high, step))) * unit.to_m_s2 * 1000)


@functools.lru_cache(maxsize=16)
def _integration(low: int, high: int, step_hz: float) -> Floats:
    """What the bins ``low`` to ``high`` of an acceleration count for in the mean square of velocity."""
    bins = np.arange(low, high + 1)
    # A Hann line spreads with a variance of 1/3 bin; the curvature of 1/f^2 over it is taken back to first order.
    weight: Floats = (1 - 1 / np.square(bins)) / np.square(2 * np.pi * step_hz * bins)
    weight.flags.writeable = False
    return weight
