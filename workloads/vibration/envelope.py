"""The envelope spectrum of a whitened record: where the repetition of impacts becomes lines.

Called by ``diagnose`` and the command line. Strong tones (gears, mains, resonances) are robbed of their weight by
dividing each bin of the spectrum by its magnitude (cepstrum pre-whitening: Borghesani et al., Mechanical Systems and
Signal Processing 36, 2013); what repeats stays, because repetition lives in the phase. A second view divides by the
root of the magnitude only and so leaves loud bands, where an impact may ring, some of their weight. Of both, two
envelopes are looked at: the squared one (Antoni) and its logarithm, which single large shocks cannot dominate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from workloads.vibration.record import Array

Floats = npt.NDArray[np.floating]

# Share of the spectrum that is used: the edges hold the sensor's drift and the converter's filter.
BAND = (0.02, 0.98)
# A longer record is cut into pieces of this length whose spectra are averaged: finer lines than 0.1 Hz only follow
# the wander of the speed.
PIECE_S = 12.0
# Relative floor under the logarithm: a silent moment must not weigh more than a loud one.
LOG_FLOOR = 0.05
# The median that stands for the floor is taken over this many shaft orders: wider than a line with its sidebands'
# skirts, narrower than the colour of the envelope.
FLOOR_ORDERS = 0.8


@dataclass(frozen=True, slots=True)
class EnvelopeSpectrum:
    """``level``: natural logarithm of power over the local floor, mean over views and envelopes, per ``step_hz``.

    ``depth``: amplitude of each line of the whitened squared envelope over its mean (1.0 is full modulation).
    """

    level: Floats
    depth: Floats
    step_hz: float


def fast_length(count: int) -> int:
    """The largest even 2^a 3^b 5^c up to ``count``: FFTs of such lengths are several times faster."""
    best = 2
    fives = 2
    while fives <= count:
        threes = fives
        while threes <= count:
            best = max(best, threes << int(math.log2(count // threes)))
            threes *= 3
        fives *= 5
    return best


def whitened(samples: Array) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.complex64]]:
    """Two spectra of ``samples`` (even length): magnitudes all 1, and root magnitudes; (n/2 + 1,) each, complex64."""
    x = np.asarray(samples, dtype=np.float32)
    # numpy keeps single precision here; its type information says otherwise.
    spectrum = cast("npt.NDArray[np.complex64]", np.fft.rfft(x - x.mean(dtype=np.float64).astype(np.float32)))
    parts = spectrum.view(np.float32)
    size = np.sqrt(np.square(parts[0::2]) + np.square(parts[1::2]))
    # A bin that holds nothing has no phase either: it stays nothing.
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > float(size.max(initial=0.0)) * 1e-9)
    return spectrum * scale, spectrum * np.sqrt(scale)


def squared_envelope(white: npt.NDArray[np.complex64], band: tuple[float, float] = BAND) -> Floats:
    """Squared magnitude of the analytic signal of ``band`` (shares of Nyquist) at half the sampling rate, (n/2,).

    The analytic signal has no negative frequencies, so half the samples hold it; what folds back into the squared
    magnitude are lags near Nyquist, far above any line that is looked for.
    """
    half = len(white) - 1
    low, high = int(band[0] * half), int(band[1] * half)
    moved = np.zeros(half, dtype=np.complex64)
    moved[: high - low] = white[low:high]
    analytic = np.fft.ifft(moved)
    return np.square(analytic.real) + np.square(analytic.imag)


def envelope_spectrum(samples: Array, rate_hz: float, shaft_hz: float, top_hz: float) -> EnvelopeSpectrum:
    """Lines of the whitened envelope up to ``top_hz``, levelled by their own running median.

    ``samples``: 1-D, at least 64 values. Longer records are averaged piece by piece, all of one length.
    """
    pieces = max(1, round(len(samples) / rate_hz / PIECE_S))
    count = fast_length(len(samples) // pieces)
    half = count // 2
    step_hz = rate_hz / count
    bins = max(8, min(half // 2, int(top_hz / step_hz) + 1))
    # The envelope is wanted at low frequencies only: thinned so that what folds back stays above twice ``top_hz``.
    thin = max((k for k in (1, 2, 4, 8, 16) if half % k == 0 and bins * 4 * k <= half), default=1)
    taper = np.hanning(half // thin).astype(np.float32)
    wide = FLOOR_ORDERS * shaft_hz / step_hz
    power = np.zeros((4, bins))
    for piece in range(pieces):
        begin = piece * (len(samples) // pieces)
        for view, spectrum in enumerate(whitened(samples[begin : begin + count])):
            envelope = _thinned(squared_envelope(spectrum), thin)
            envelope /= max(float(envelope.mean()), 1e-30)
            power[2 * view] += _lines(envelope - 1, taper, bins)
            logged = np.log(envelope + LOG_FLOOR)
            power[2 * view + 1] += _lines(logged - logged.mean(), taper, bins)
    level = np.mean([_over_floor(one, wide) for one in power], axis=0)
    return EnvelopeSpectrum(level, np.sqrt(power[0] / pieces) * (2 / float(taper.sum())), step_hz)


def _thinned(envelope: Floats, by: int) -> Floats:
    """Means of ``by`` neighbours."""
    total = envelope[0::by].copy()
    for offset in range(1, by):
        total += envelope[offset::by]
    return total


def _lines(envelope: Floats, taper: Floats, bins: int) -> Floats:
    spectrum = np.fft.rfft(envelope * taper)[:bins]
    return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag), dtype=np.float64)


def _over_floor(power: Floats, wide: float) -> Floats:
    """Logarithm of ``power`` over its running median, taken in blocks of ``wide`` bins and drawn straight between."""
    block = int(max(8, min(wide, len(power))))
    count = max(1, len(power) // block)
    medians = np.median(power[: count * block].reshape(count, block), axis=1)
    floor = np.interp(np.arange(len(power)), (np.arange(count) + 0.5) * block, medians)
    top = float(power.max(initial=0.0))
    tiny = top * 1e-12 + 1e-300
    return np.asarray(np.log((power + tiny) / (floor + tiny)))
