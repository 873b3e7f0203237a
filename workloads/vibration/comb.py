"""How well a family of lines fits an order, and how well it fits orders that are no bearing's.

Called by ``diagnose`` only. A part's fault draws a comb into the envelope spectrum: multiples of its order with the
sidebands of what modulates it. The same comb laid over every other order of the same record (decoys) tells what
chance, noise, other machines and other faults would score; a part must beat the best of them. So noise, record length
and machine character cancel out, and zero means "no better than any order".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from workloads.vibration.envelope import EnvelopeSpectrum
from workloads.vibration.masks import LOWEST, masked
from workloads.vibration.relatives import CARRIERS, Levels, over_fractions, over_neighbours

Floats = npt.NDArray[np.floating]

# Lines that count end here (in orders): inner races of thirteen elements reach order 8, times three, and sidebands.
TOP_ORDER = 45.0
# Where bearing orders live, and so the decoys. Below are the shaft's own and the cage's.
DECOYS = (1.3, 15.0)
CAGE_DECOYS = (0.22, 0.95)
# A line below e^0.5 of the floor is ordinary noise; above e^3 (13 dB) it says no more than "a line".
NOISE, CAP = 0.5, 2.5
# Share of a comb's strongest line that does not count. A healthy bearing under load modulates at its ball pass too, but
# as a sine, with one line; impacts have several.
DISCOUNT = 0.5

# How many strangers' families may be taken out, what each costs, and between which scores and margins it is tried.
PEELS, PEEL_COST, PEEL_FROM, PEEL_UNTIL = 2, 0.05, 0.6, 0.3
# A family's lines are this wide (share of their order): slip is a random walk.
SMEAR = 0.018

# A masked line is unknown, not absent: what it counts for.
UNKNOWN = 0.6
# Levels below this are noise where families are compared without a cap.
GROUND = 0.5
# How far a family may fall short of a turn beside, or of its half and third, before it is held to be theirs.
BESIDE, FRACTION = 0.0, 0.0
# Relatives are looked at only from this distance to the decoys on.
WORTH = 0.2


@dataclass(frozen=True, slots=True)
class Tooth:
    """A line at ``multiple`` x order + ``side`` x sideband spacing."""

    multiple: float
    side: int
    weight: float


def _teeth(carriers: Sequence[tuple[float, float]], sides: Sequence[tuple[float, float]] = ()) -> tuple[Tooth, ...]:
    teeth = [Tooth(multiple, 0, weight) for multiple, weight in carriers]
    teeth += [Tooth(multiple, side, weight) for multiple, weight in sides for side in (-1, 1)]
    return tuple(teeth)


@dataclass(frozen=True, slots=True)
class Comb:
    """``window``: how far below and above the geometric order the family may lie (fractions).

    The cage's slip lowers outer race, element and cage and *raises* the inner race; the speed given may be wrong in
    either direction by some tenths of a per cent.
    """

    teeth: tuple[Tooth, ...]
    window: tuple[float, float]
    spread: tuple[float, float]

    table: Floats = field(init=False, compare=False, repr=False)  # rows: multiple, side, weight

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", np.array([(one.multiple, one.side, one.weight) for one in self.teeth]))


OUTER = Comb(_teeth([(1, 1.0), (2, 0.7), (3, 0.5), (4, 0.35)]), (-0.02, 0.008), DECOYS)
INNER = Comb(_teeth([(1, 1.0), (2, 0.7), (3, 0.4)], [(1, 0.5), (2, 0.3)]), (-0.012, 0.015), DECOYS)
ELEMENT = Comb(_teeth([(1, 1.0), (2, 0.7), (3, 0.4), (0.5, 0.2)], [(1, 0.4), (2, 0.25)]), (-0.02, 0.006), DECOYS)
CAGE = Comb(_teeth([(1, 1.0), (2, 0.9), (3, 0.8), (4, 0.6), (5, 0.5)]), (-0.025, 0.01), CAGE_DECOYS)
# An element that strikes one race only, or one race much harder: all multiples of its spin.
SPIN = Comb(_teeth([(1, 1.0), (2, 0.9), (3, 0.6), (4, 0.4)], [(1, 0.3), (2, 0.3)]), (-0.02, 0.006), DECOYS)


@dataclass(frozen=True, slots=True)
class Fit:
    """``score`` and ``decoy`` in units of the levelled logarithm; ``order`` where ``comb`` sits best.

    ``decoy``: the best score of any other order once this family is taken out. ``relative``: how much better the
    family's lines stand than a relative's, over the least that is asked; below zero they are the relative's.
    """

    comb: Comb
    score: float
    decoy: float
    relative: float
    order: float

    @property
    def margin(self) -> float:
        over = self.score - self.decoy
        return over if self.relative >= 0 else min(over, self.relative)


class Lines:
    """The levelled envelope spectrum, made ready for combs: capped, shaft and mains lines unknown.

    ``shaft_hz`` is the speed the orders are multiples of.
    """

    def __init__(self, spectrum: EnvelopeSpectrum, shaft_hz: float) -> None:
        self.per_order = shaft_hz / spectrum.step_hz  # bins
        level = spectrum.level
        self.masked = masked(level, spectrum.step_hz, shaft_hz)
        bare = np.maximum(level - np.float32(GROUND), np.float32(0))
        capped = np.minimum(np.maximum(level - np.float32(NOISE), np.float32(0)), np.float32(CAP))
        bare[self.masked] = 0
        capped[self.masked] = UNKNOWN
        capped[: max(2, int(LOWEST * self.per_order))] = 0
        self.levels = Levels(widened(bare, 2), self.masked, self.per_order)
        self.capped = widened(capped, 1)
        self._grids: dict[tuple[float, float], tuple[float, Floats]] = {}

    def fit(self, comb: Comb, order: float, spacing: float, least: float = 0.0) -> Fit:
        """Lay ``comb`` (sidebands ``spacing`` orders apart) over ``order`` and over all decoys.

        Where another order fits better, but other lines speak for this one, the family of that order is somebody
        else's: it is taken out, and both are laid on what is left, at most PEELS times and each at a cost.
        A score below ``least`` ends it there: without decoys, and so with a margin of minus infinity.
        """
        step, grid = self._grid(comb)
        low, high = (round(float(np.log1p(edge)) / step) for edge in comb.window)
        span = high - low + 1
        near = order * np.exp(step * np.arange(low, high + 1))
        lines = self.capped
        best = Fit(comb, -1.0, math.inf, 0.0, order)
        for peeled in range(PEELS + 1):
            scores = self._score(lines, comb, near, spacing)
            at = int(np.argmax(scores))
            found, score = float(near[at]), float(scores[at])
            if score < least:
                best = best if peeled else Fit(comb, score, math.inf, 0.0, found)
                break
            rest = _family_out(lines, self.per_order, comb, found, spacing)
            others = _highest(self._score(rest, comb, grid, spacing), span)
            decoy = float(others.max())
            if comb is CAGE:
                # All cages turn at about 0.4 times shaft speed, so a cage's lines may be any bearing's: beside another
                # fault they say nothing.
                decoy = max(decoy, self._best(rest, OUTER))
            if score - decoy - peeled * PEEL_COST > best.score - best.decoy:
                best = Fit(comb, score, decoy + peeled * PEEL_COST, 0.0, found)
            if comb is CAGE or score - decoy > PEEL_UNTIL or score < PEEL_FROM:
                break
            stranger = float(grid[min(len(grid) - 1, int(np.argmax(others)) + span // 2)])
            lines = _family_out(lines, self.per_order, OUTER, stranger, 0.0)
        if best.score - best.decoy < WORTH:
            return best
        return replace(best, relative=self._relative(comb, best.order, spacing))

    def _relative(self, comb: Comb, order: float, spacing: float) -> float:
        fraction = over_fractions(self.levels, order, spacing, half=comb is not ELEMENT) - FRACTION
        if comb is CAGE:
            return fraction
        # The load's turn may raise an inner race's sidebands over their carriers: the whole comb is compared.
        teeth = comb.table if comb is INNER else CARRIERS
        return min(fraction, over_neighbours(self.levels, teeth, order, spacing) - BESIDE)

    def _grid(self, comb: Comb) -> tuple[float, Floats]:
        """Trial orders in equal ratios: a bin at the highest, so that no widened line falls between two of them."""
        grid = self._grids.get(comb.spread)
        if grid is None:
            first, last = comb.spread
            step = min(1 / (self.per_order * last), 0.002)
            grid = step, first * np.exp(step * np.arange(int(np.log(last / first) / step) + 1))
            self._grids[comb.spread] = grid
        return grid

    def _best(self, lines: Floats, comb: Comb) -> float:
        return float(self._score(lines, comb, self._grid(comb)[1], 0.0).max())

    def _score(self, lines: Floats, comb: Comb, orders: Floats, spacing: float) -> Floats:
        teeth = comb.table
        place = np.multiply.outer(teeth[:, 0], orders * self.per_order)
        place += (teeth[:, 1] * (spacing * self.per_order) + 0.5)[:, None]
        # The last bin is the end of what is looked at and holds nothing; lines below zero do not exist.
        found = lines.take(place.astype(np.intp), mode="clip")
        weights = teeth[:, 2].astype(np.float32)
        found *= weights[:, None]
        return np.asarray((found.sum(axis=0) - np.float32(DISCOUNT) * found.max(axis=0)) / weights.sum())


def _family_out(lines: Floats, per_order: float, comb: Comb, order: float, spacing: float) -> Floats:
    """The lines without the family of ``order``: only what it does not explain may count against it."""
    multiples = np.arange(1, int(len(lines) / per_order / order) + 1, dtype=float)
    if comb is ELEMENT:
        multiples = np.concatenate([[0.5], multiples])
    sides = np.array([0.0] if comb is CAGE else [0.0, -1.0, 1.0]) * (spacing or 1.0)
    centres = (multiples[:, None] * order + sides).ravel()
    wide = np.maximum(3 / per_order, np.minimum(SMEAR * centres, 0.2))
    low = np.clip((centres - wide) * per_order, 0, len(lines)).astype(np.intp)
    high = np.clip((centres + wide) * per_order + 2, low, len(lines)).astype(np.intp)
    # One up where a line's place begins, one down where it ends: the running sum is zero outside all of them.
    edges = np.bincount(low, minlength=len(lines) + 1) - np.bincount(high, minlength=len(lines) + 1)
    return np.where(np.cumsum(edges[:-1]) > 0, np.float32(0), lines)


def widened(lines: Floats, by: int) -> Floats:
    """Each bin takes the highest of its neighbours within ``by``; the first and last bins hold nothing."""
    out = lines.copy()
    for shift in range(1, by + 1):
        np.maximum(out[shift:], lines[:-shift], out=out[shift:])
        np.maximum(out[:-shift], lines[shift:], out=out[:-shift])
    out[-1] = 0
    return out


def _highest(scores: Floats, span: int) -> Floats:
    """Running maximum over ``span`` values (a decoy may use the same slip window), by doubling."""
    have = 1
    out = scores
    while have * 2 <= span:
        out = np.maximum(out[:-have], out[have:])
        have *= 2
    if have < span:
        out = np.maximum(out[: have - span], out[span - have :])
    return out
