"""Is this order's family of lines its own, or that of a relative: one shaft turn beside, its half or its third?

Called by ``comb``. Decoys cannot tell: a relative shares lines with the part in question, and what the part explains
is taken out before decoys are laid. It compares bare levels without a cap, and only lines that both could show.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

# Slip moves a family a little between its fit and here.
_TRIALS = 1 + np.linspace(-0.002, 0.002, 9)
CARRIERS = np.array([[1.0, 0.0, 1.0], [2.0, 0.0, 0.7], [3.0, 0.0, 0.5], [4.0, 0.0, 0.35]])
# Of the weight of a comb, so much must be open on both sides before a turn beside may be compared.
OPEN_SHARE = 0.3
# A relative's line nearer than this to one of the family's own is that one (bins, and share of the order).
NEAR_BINS, NEAR_SHARE = 2.5, 0.003
LOWEST = 0.3  # orders below are the cage's


class Levels:
    """``open``: the levelled spectrum without masked lines, widened; ``masked`` its mask; ``per_order`` in bins."""

    def __init__(self, open_: Floats, masked: Bools, per_order: float) -> None:
        self._open = open_
        self._masked = masked
        self.per_order = per_order

    def at(self, orders: Floats, teeth: Floats, spacing: float) -> tuple[Floats, Bools]:
        """Levels and masks (orders x teeth) of each order's best trial; ``teeth`` rows: multiple, side, weight."""
        place = orders[:, None, None] * _TRIALS[None, :, None] * teeth[:, 0] + spacing * teeth[:, 1]
        last = len(self._open) - 1
        index = np.clip((place * self.per_order + 0.5).astype(np.intp), 0, last)
        found = self._open[index]
        best = (found @ teeth[:, 2]).argmax(axis=1)
        rows = np.arange(len(orders))
        chosen = index[rows, best]
        return found[rows, best], self._masked[chosen] | (chosen >= last)


def over_neighbours(levels: Levels, teeth: Floats, order: float, spacing: float) -> float:
    """How much higher the family's lines stand than those of the orders one turn beside; infinite where none can."""
    orders = np.array([order, *(one for one in (order + 1, order - 1) if one > 0.5)])
    found, masked = levels.at(orders, teeth, spacing)
    weights = teeth[:, 2]
    least = math.inf
    for one in range(1, len(orders)):
        both = ~(masked[0] | masked[one])
        weight = float(weights[both].sum())
        if weight >= OPEN_SHARE * float(weights.sum()):
            least = min(least, float((found[0] - found[one])[both] @ weights[both]) / weight)
    return least


def over_fractions(levels: Levels, order: float, spacing: float, *, half: bool = True) -> float:
    """How much higher the multiples of ``order`` stand than those lines only its half or third would draw.

    ``half`` False: the half is of the same part (an element's spin).
    """
    found, masked = levels.at(np.array([order]), CARRIERS, 0.0)
    weights = np.where(masked[0], 0.0, CARRIERS[:, 2])
    if weights.sum() <= 0:
        return math.inf
    mine = float(found[0] @ weights / weights.sum())
    near = max(NEAR_BINS / levels.per_order, NEAR_SHARE * order)
    own = _family(order, spacing)
    least = math.inf
    for part in (2, 3) if half else (3,):
        base = order / part
        times = np.array([h for h in range(1, 3 * part) if h % part], dtype=float)
        times = times[np.abs(own[:, None] - times * base).min(axis=0) > near]
        if base < LOWEST or not len(times):
            continue
        teeth = np.stack([times, np.zeros_like(times), times**-0.5], axis=1)
        theirs, hidden = levels.at(np.array([base]), teeth, 0.0)
        shares = np.where(hidden[0], 0.0, teeth[:, 2])
        if shares.sum() > 0:
            least = min(least, mine - float(theirs[0] @ shares / shares.sum()))
    return least


def _family(order: float, spacing: float) -> Floats:
    """Multiples of the order with two sidebands each side, of the shaft's turns and of the part's own modulation."""
    multiples = np.arange(0, 8)[:, None] * order
    sides = [float(k) for k in range(-2, 3)] + ([k * spacing for k in range(-2, 3)] if spacing else [])
    lines: Floats = (multiples + np.array(sides)).ravel()
    return np.asarray(lines[np.abs(lines) > 1e-9])
