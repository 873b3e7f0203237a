"""How well a family of lines fits an order, and how well it fits orders that are no bearing's.

Called by ``diagnose`` only. A part's fault draws a comb into the envelope spectrum: multiples of its order with the
sidebands of what modulates it. The same comb laid over every other order of the same record (decoys) tells what
chance, noise, other machines and other faults would score; a part must beat the best of them. So noise, record length
and machine character cancel out, and zero means "no better than any order".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workloads.vibration.envelope import EnvelopeSpectrum

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

# How far the comb at half an element's order may exceed its own.
HALF = 0.3


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


OUTER = Comb(_teeth([(1, 1.0), (2, 0.7), (3, 0.5), (4, 0.35)]), (-0.02, 0.008), DECOYS)
INNER = Comb(_teeth([(1, 1.0), (2, 0.7), (3, 0.4)], [(1, 0.5), (2, 0.3)]), (-0.012, 0.015), DECOYS)
ELEMENT = Comb(_teeth([(1, 1.0), (2, 0.7), (3, 0.4), (0.5, 0.2)], [(1, 0.4), (2, 0.25)]), (-0.02, 0.01), DECOYS)
CAGE = Comb(_teeth([(1, 1.0), (2, 0.9), (3, 0.8), (4, 0.6), (5, 0.5)]), (-0.025, 0.01), CAGE_DECOYS)
# For comparing an order with its relatives: bare multiples.
_CARRIERS = np.array([1.0, 0.7, 0.5, 0.35])
_TRIALS = np.arange(1, 5)[:, None] * (1 + np.linspace(-0.002, 0.002, 9))


@dataclass(frozen=True, slots=True)
class Fit:
    """``score``, ``decoy`` and ``relative`` in units of the levelled logarithm; ``order`` where the comb sits best.

    ``decoy``: the best score of any other order once this family is taken out. ``relative``: how much better (or
    worse, below zero) the bare multiples fit here than at a third, a half, or one shaft order beside.
    """

    score: float
    decoy: float
    relative: float
    order: float

    @property
    def margin(self) -> float:
        return min(self.score - self.decoy, self.relative)


class Lines:
    """The levelled envelope spectrum, made ready for combs: capped, shaft and mains lines taken out.

    ``shaft_hz`` is the speed given, ``measured_hz`` the one the shaft's own lines show: orders are multiples of the
    latter, both are masked.
    """

    def __init__(self, spectrum: EnvelopeSpectrum, shaft_hz: float, measured_hz: float) -> None:
        self.step_hz = spectrum.step_hz
        self.per_order = measured_hz / spectrum.step_hz  # bins
        masked = _masked(spectrum, shaft_hz, measured_hz)
        raw = np.where(masked, 0.0, np.maximum(spectrum.level, 0.0))
        self.masked = masked
        self.open = widened(raw, 2).astype(np.float32)
        capped = np.where(masked, 0.0, np.clip(spectrum.level - NOISE, 0.0, CAP))
        self.capped = widened(capped, 1).astype(np.float32)

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
        best = Fit(-1.0, float("inf"), 0.0, order)
        for peeled in range(PEELS + 1):
            scores = self._score(lines, comb, near, spacing)
            at = int(np.argmax(scores))
            found, score = float(near[at]), float(scores[at])
            if score < least:
                return Fit(score, float("inf"), 0.0, found) if peeled == 0 else best
            rest = _family_out(lines, self.per_order, comb, found, spacing)
            others = _highest(self._score(rest, comb, grid, spacing), span)
            decoy = float(others.max())
            if comb is CAGE:
                # All cages turn at about 0.4 times shaft speed, so a cage's lines may be any bearing's: beside another
                # fault they say nothing.
                decoy = max(decoy, self._best(rest, OUTER))
            fit = Fit(score, decoy + peeled * PEEL_COST, self._relative(comb, found), found)
            if fit.score - fit.decoy > best.score - best.decoy:
                best = fit
            if comb is CAGE or score - decoy > PEEL_UNTIL or score < PEEL_FROM or fit.relative <= 0:
                break
            stranger = float(grid[min(len(grid) - 1, int(np.argmax(others)) + span // 2)])
            lines = _family_out(lines, self.per_order, OUTER, stranger, 0.0)
        return best

    def _relative(self, comb: Comb, found: float) -> float:
        relatives = [found + 1, found - 1, found / 3, found / 2]
        own, *others = self._carriers([order for order in (found, *relatives) if order > 0.15])
        if comb is ELEMENT and found / 2 > 0.15:
            # At half its order an element's fault has lines of its own, since one race answers louder; they are the
            # weaker ones.
            others[-1] -= HALF
        return own - max(others)

    def _grid(self, comb: Comb) -> tuple[float, Floats]:
        """Trial orders in equal ratios: a bin at the highest, so that no widened line falls between two of them."""
        first, last = comb.spread
        step = min(1 / (self.per_order * last), 0.002)
        return step, first * np.exp(step * np.arange(int(np.log(last / first) / step) + 1))

    def _best(self, lines: Floats, comb: Comb) -> float:
        return float(self._score(lines, comb, self._grid(comb)[1], 0.0).max())

    def _score(self, lines: Floats, comb: Comb, orders: Floats, spacing: float) -> Floats:
        total = np.zeros(len(orders), dtype=np.float32)
        strongest = np.zeros(len(orders), dtype=np.float32)
        weights = 0.0
        place = orders * self.per_order
        for tooth in comb.teeth:
            index = (place * tooth.multiple + (tooth.side * spacing * self.per_order + 0.5)).astype(np.intp)
            # The last bin is the end of what is looked at and holds nothing; lines below zero do not exist.
            found = np.float32(tooth.weight) * lines.take(index, mode="clip")
            total += found
            np.maximum(strongest, found, out=strongest)
            weights += tooth.weight
        return (total - np.float32(DISCOUNT) * strongest) / np.float32(weights)

    def _carriers(self, orders: Sequence[float]) -> list[float]:
        """How well the bare multiples of each order fit, without a cap."""
        place = np.asarray(orders)[:, None, None] * (_TRIALS * self.per_order)
        index = np.minimum((place + 0.5).astype(np.intp), len(self.open) - 1)
        return [float(one) for one in (_CARRIERS @ self.open[index]).max(axis=-1) / _CARRIERS.sum()]


def _family_out(lines: Floats, per_order: float, comb: Comb, order: float, spacing: float) -> Floats:
    """The lines without the family of ``order``: only what it does not explain may count against it."""
    kept = lines.copy()
    top = len(kept) / per_order
    multiples = np.arange(1, int(top / order) + 1, dtype=float)
    if comb is ELEMENT:
        multiples = np.concatenate([[0.5], multiples])
    side = spacing or 1.0
    for multiple in multiples:
        for number in (0,) if comb is CAGE else (0, -1, 1):
            centre = multiple * order + number * side
            wide = max(3 / per_order, min(SMEAR * centre, 0.2))
            low = max(0, int((centre - wide) * per_order))
            kept[low : max(low, int((centre + wide) * per_order) + 2)] = 0
    return kept


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


def _masked(spectrum: EnvelopeSpectrum, shaft_hz: float, measured_hz: float) -> npt.NDArray[np.bool_]:
    """Bins at multiples of shaft and mains frequency: never evidence."""
    level, step = spectrum.level, spectrum.step_hz
    masked = np.zeros(len(level) + 8, dtype=bool)
    top_hz = len(level) * step
    for base_hz in {shaft_hz, measured_hz, 50.0, 60.0}:
        centres = np.arange(1, int(min(top_hz, 60 * base_hz) / base_hz) + 1) * (base_hz / step)
        nearest = np.minimum((centres + 0.5).astype(np.intp), len(level) - 1)
        strong = level[nearest] > 3.0  # the skirts of a strong line are lines too
        half = np.where(strong, 2.5, 1.5)
        low, high = np.ceil(centres - half).astype(np.intp), np.floor(centres + half).astype(np.intp)
        for offset in range(6):
            index = low + offset
            masked[np.maximum(index[index <= high], 0)] = True
    masked[: max(2, int(0.15 * shaft_hz / step))] = True
    return masked[: len(level)]
