"""What speaks for unbalance, misalignment, looseness, a gear or electrical trouble: lines with their evidence.

Called by the command line and the workload. An indicator is a hint to look, never a diagnosis: phase, which would
tell many of these apart, is not in a single channel. Rules of thumb as in
ISO 13373-1:2002, annex D, and Randall (2011).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from workloads.vibration.record import Record
from workloads.vibration.spectrum import Spectrum, amplitude_spectrum

# A line must rise this far above the median around it to count.
LINE_FACTOR = 8.0
MIN_TURNS = 20


@dataclass(frozen=True, slots=True)
class Indicator:
    """``strength`` 0 to 1: share of the shaft's (or mains') lines that shows it. ``evidence`` in words and numbers."""

    name: str
    strength: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Harmonic:
    """``amplitude`` peak, in the record's unit; 0 when no line stands out there. ``floor`` the median around it."""

    order: float
    hz: float
    amplitude: float
    floor: float


def harmonics(spectrum: Spectrum, base_hz: float, multiples: tuple[float, ...]) -> list[Harmonic]:
    """The lines at ``multiples`` of ``base_hz``; each may lie 0.7 % off; 0 where none stands out."""
    found = []
    top = (len(spectrum.values) - 1) * spectrum.step_hz
    for multiple in multiples:
        hz = multiple * base_hz
        if hz > 0.95 * top:
            break
        place, value = spectrum.highest(hz, min(max(2 * spectrum.step_hz, 0.007 * hz), 0.2 * base_hz))
        reach = max(20, int(0.45 * base_hz / spectrum.step_hz))
        middle = round(hz / spectrum.step_hz)
        floor = float(np.median(spectrum.values[max(1, middle - reach) : middle + reach + 1]))
        bin_ = round(place / spectrum.step_hz)
        # The skirt of a stronger line beside the window rises towards it: only a peak of its own is a line.
        peak = value >= float(spectrum.values[max(0, bin_ - 1) : bin_ + 2].max())
        found.append(Harmonic(multiple, place, value if peak and value > LINE_FACTOR * floor else 0.0, floor))
    return found


def sidebands(spectrum: Spectrum, carrier_hz: float, spacing_hz: float, count: int = 3) -> list[tuple[float, float]]:
    """(below, above) amplitudes of the first ``count`` sidebands of a carrier, as peak in the record's unit."""
    reach = 2 * spectrum.step_hz
    return [
        (
            spectrum.highest(carrier_hz - k * spacing_hz, reach)[1],
            spectrum.highest(carrier_hz + k * spacing_hz, reach)[1],
        )
        for k in range(1, count + 1)
    ]


def indicators(record: Record, *, teeth: int | None = None, mains_hz: float = 50.0) -> list[Indicator]:
    """All that shows. Empty without speed, or with fewer than 20 turns: orders could not be told apart."""
    shaft = record.shaft_hz
    if shaft is None or record.turns < MIN_TURNS:
        return []
    spectrum = amplitude_spectrum(record.samples, record.rate_hz, "hann")
    found = [*_shaft(spectrum, shaft), *_mains(spectrum, mains_hz, shaft)]
    if teeth is not None:
        found += _gear(spectrum, shaft, teeth)
    return found


def _velocity(lines: list[Harmonic]) -> list[float]:
    """Amplitudes over frequency: proportions of velocity, in which shaft troubles are judged."""
    return [line.amplitude / line.hz if line.hz > 0 else 0.0 for line in lines]


def _shaft(spectrum: Spectrum, shaft: float) -> list[Indicator]:
    whole = harmonics(spectrum, shaft, tuple(range(1, 11)))
    velocity = _velocity(whole)
    total = math.sqrt(sum(v * v for v in velocity))
    if total == 0 or len(velocity) < 3:
        return []
    found = []
    first, second, third = velocity[:3]
    share = first / total
    if first > 0 and share > 0.9:
        found.append(
            Indicator("unbalance", share, f"1x holds {share:.0%} of the shaft's velocity ({_lines(whole[:1])})")
        )
    if second > 0 and second > 0.7 * first:
        strength = min(1.0, math.hypot(second, third) / total)
        evidence = f"2x is {second / max(first, 1e-300):.1f} times 1x ({_lines(whole[:3])})"
        found.append(Indicator("misalignment", strength, evidence))
    halves = harmonics(spectrum, shaft, (0.5, 1.5, 2.5, 3.5, 4.5))
    seen = sum(line.amplitude > 0 for line in whole)
    half_seen = [line for line in halves if line.amplitude > 0]
    if seen >= 6 and len(half_seen) >= 2:
        strength = (seen + len(half_seen)) / (len(whole) + len(halves))
        evidence = f"{seen} harmonics of the shaft and {len(half_seen)} between them ({_lines(half_seen)})"
        found.append(Indicator("looseness", strength, evidence))
    return found


def _mains(spectrum: Spectrum, mains_hz: float, shaft: float) -> list[Indicator]:
    double = harmonics(spectrum, mains_hz, (2,))
    if not double or double[0].amplitude == 0:
        return []
    # A two-pole machine turns near the mains: its harmonics must not be taken for it.
    order = double[0].hz / shaft
    if abs(order - round(order)) * shaft < 2 * spectrum.step_hz:
        return []
    ratio = double[0].amplitude / double[0].floor
    evidence = f"{double[0].hz:.2f} Hz, {20 * math.log10(ratio):.0f} dB over its surroundings ({_lines(double)})"
    return [Indicator("electrical", min(1.0, ratio / 100), f"twice the mains frequency: {evidence}")]


def _gear(spectrum: Spectrum, shaft: float, teeth: int) -> list[Indicator]:
    mesh = harmonics(spectrum, shaft * teeth, (1, 2, 3))
    seen = [line for line in mesh if line.amplitude > 0]
    if not seen:
        return []
    pairs = sidebands(spectrum, seen[0].hz, shaft)
    strongest = max(max(pair) for pair in pairs) / seen[0].amplitude
    evidence = f"mesh {_lines(seen)}; strongest sideband at shaft spacing {strongest:.2f} of its carrier"
    return [Indicator("gear mesh", min(1.0, strongest), evidence)]


def _lines(lines: list[Harmonic]) -> str:
    return ", ".join(f"{line.order:g}x {line.amplitude:.3g} at {line.hz:.2f} Hz" for line in lines)
