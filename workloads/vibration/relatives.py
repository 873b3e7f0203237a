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
# Lines that only half an order, or a third of it, would draw, in multiples of the order; weight 1/sqrt of their number.
_FRACTIONS = np.array([1 / 2, 3 / 2, 5 / 2, 1 / 3, 2 / 3, 4 / 3, 5 / 3, 7 / 3, 8 / 3])
_NUMBERS = np.array([1.0, 3.0, 5.0, 1.0, 2.0, 4.0, 5.0, 7.0, 8.0])
_ALL = np.stack(
    [np.concatenate([CARRIERS[:, 0], _FRACTIONS]), np.concatenate([CARRIERS[:, 2], _NUMBERS**-0.5])], axis=1
)
_HALVES, _THIRDS = slice(4, 7), slice(7, 13)
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
        found, masked = self._look(place)
        best = (found @ teeth[:, 2]).argmax(axis=1)
        rows = np.arange(len(orders))
        return found[rows, best], masked[rows, best]

    def trials(self, order: float, teeth: Floats) -> tuple[Floats, Bools]:
        """Levels and masks (trials x teeth) around one order."""
        return self._look(np.multiply.outer(_TRIALS, teeth[:, 0] * order))

    def _look(self, place: Floats) -> tuple[Floats, Bools]:
        last = len(self._open) - 1
        index = np.minimum(np.maximum((place * self.per_order + 0.5).astype(np.intp), 0), last)
        return self._open[index], self._masked[index] | (index >= last)


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
    near = max(NEAR_BINS / levels.per_order, NEAR_SHARE * order)
    alone = np.abs(_family(order, spacing)[:, None] - _FRACTIONS * order).min(axis=0) > near
    found, masked = levels.trials(order, _ALL)
    mine, mine_open = _best(found[:, :4], masked[:, :4], CARRIERS[:, 2])
    if not mine_open:
        return math.inf
    least = math.inf
    for part, place in ((2, _HALVES), (3, _THIRDS)):
        weights = _ALL[place, 1] * alone[place.start - 4 : place.stop - 4]
        if order / part < LOWEST or (part == 2 and not half) or not weights.any():
            continue
        theirs, theirs_open = _best(found[:, place], masked[:, place], weights)
        if theirs_open:
            least = min(least, mine - theirs)
    return least


def _best(found: Floats, masked: Bools, weights: Floats) -> tuple[float, bool]:
    """Mean level of the open lines at the trial that fits best; whether any was open."""
    at = int((found @ weights).argmax())
    shares = np.where(masked[at], 0.0, weights)
    total = float(shares.sum())
    return (float(found[at] @ shares) / total, True) if total > 0 else (0.0, False)


def _family(order: float, spacing: float) -> Floats:
    """Multiples of the order with two sidebands each side, of the shaft's turns and of the part's own modulation."""
    multiples = np.arange(0, 8)[:, None] * order
    sides = [float(k) for k in range(-2, 3)] + ([k * spacing for k in range(-2, 3)] if spacing else [])
    lines: Floats = (multiples + np.array(sides)).ravel()
    return np.asarray(lines[np.abs(lines) > 1e-9])
