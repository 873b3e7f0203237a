"""Which lines of the envelope spectrum are the shaft's or the mains': they are never evidence for a bearing.

Called by ``comb``. A masked line is *unknown*, not absent: the bearing's own line may lie beneath it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

MAINS_HZ = (50.0, 60.0)
# Even multiples of the mains that must stand (e^2.5 over the floor) before any of them is taken for mains.
MAINS_LINES, MAINS_LEVEL, MAINS_MULTIPLES = 2, 2.5, 24
SHAFT_MULTIPLES = 60
# Half width in bins: a Hann line with its neighbours, and a strong one.
HALF, STRONG_HALF, STRONG = 1.5, 2.5, 3.0
# From this level on a shaft line's skirt, spread by the wander of the speed, is its own, down to SKIRT_END and no
# farther than this share of its frequency.
SKIRT_FROM, SKIRT_END, SKIRT_REACH = 2.0, 1.0, 0.01
# A peak so high (e^1.5 over the floor) and so far from a shaft line (bins, share of its order) is a line of its own.
PEAK, BESIDE, BESIDE_SHARE = 1.5, 0.8, 0.003
_WIDEST = np.arange(6)
_ASIDE = np.array([-2, -1, 1, 2])
# Below this order everything slow lives.
LOWEST = 0.15


def masked(level: Floats, step_hz: float, shaft_hz: float) -> Bools:
    """True where a line cannot speak for a bearing. ``level`` as in ``EnvelopeSpectrum``."""
    mask = np.zeros(len(level) + 8, dtype=bool)
    high = level.copy()  # each bin's highest of three
    np.maximum(high[1:], level[:-1], out=high[1:])
    np.maximum(high[:-1], level[1:], out=high[:-1])
    top_hz = len(level) * step_hz
    shaft = np.arange(1, int(min(top_hz / shaft_hz, SHAFT_MULTIPLES)) + 1) * (shaft_hz / step_hz)
    _around(mask, level, shaft)
    for base_hz in MAINS_HZ:
        mains = np.arange(1, int(min(top_hz / base_hz, MAINS_MULTIPLES)) + 1) * (base_hz / step_hz)
        if int(np.count_nonzero(_at(high, mains[1::2]) > MAINS_LEVEL)) >= MAINS_LINES:
            _around(mask, level, mains)
    for centre in shaft[_at(high, shaft) >= SKIRT_FROM]:
        _skirt(mask, level, float(centre))
    _reopen(mask, level, shaft)
    mask[: max(2, int(LOWEST * shaft_hz / step_hz))] = True
    return mask[: len(level)]


def _at(values: Floats, centres: Floats) -> Floats:
    return values.take((centres + 0.5).astype(np.intp), mode="clip")


def _around(mask: Bools, level: Floats, centres: Floats) -> None:
    half = np.where(_at(level, centres) > STRONG, STRONG_HALF, HALF)
    low, high = np.ceil(centres - half).astype(np.intp), np.floor(centres + half).astype(np.intp)
    index = low[:, None] + _WIDEST
    mask[np.maximum(index[index <= high[:, None]], 0)] = True


def _skirt(mask: Bools, level: Floats, centre: float) -> None:
    """From the line's peak outwards as long as it falls."""
    nearest = int(centre + 0.5)
    first = max(0, nearest - 1)
    peak = first + int(level[first : nearest + 2].argmax()) if first < len(level) else len(level)
    reach = max(2, int(SKIRT_REACH * centre))
    for way in (1, -1):
        at = peak
        while (
            0 <= at + way < len(level)
            and abs(at + way - centre) <= reach
            and level[at + way] < level[at]
            and level[at] > SKIRT_END
        ):
            at += way
            mask[at] = True


def _reopen(mask: Bools, level: Floats, centres: Floats) -> None:
    """A line whose own peak plainly lies beside the shaft's is not the shaft's."""
    peak = ((centres + 0.5).astype(np.intp)[:, None] + _ASIDE).ravel()
    centre = np.repeat(centres, len(_ASIDE))
    inside = (peak >= 1) & (peak < len(level) - 1)
    peak, centre = peak[inside], centre[inside]
    low, top, high = level[peak - 1], level[peak], level[peak + 1]
    highest = (top > PEAK) & (top >= low) & (top >= high)
    peak, centre, low, top, high = (one[highest] for one in (peak, centre, low, top, high))
    bend = np.minimum(low - 2 * top + high, -1e-6)
    away = np.abs(peak + 0.5 * (low - high) / bend - centre)
    mask[peak[away > np.maximum(BESIDE, BESIDE_SHARE * centre)]] = False
