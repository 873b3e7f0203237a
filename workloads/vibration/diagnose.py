"""Which part of a bearing is damaged, how sure that is, and on what evidence; or that nothing speaks for a fault.

Called by the command line and the workload; a pure function of one record. Three answers are kept apart: a *fault*
of a named part, *no fault of this bearing* (N), and *cannot judge* with its reasons. Amplitude plays no part: the
same record times any factor gets the same answer.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from workloads.vibration.bearing import Orders
from workloads.vibration.comb import CAGE, ELEMENT, INNER, OUTER, SPIN, TOP_ORDER, Fit, Lines, Tooth
from workloads.vibration.envelope import EnvelopeSpectrum, envelope_spectrum
from workloads.vibration.quality import Effect, Finding, check, refusals
from workloads.vibration.record import Record
from workloads.vibration.shaft import measured_shaft

Floats = npt.NDArray[np.floating]
Bins = npt.NDArray[np.intp]
DB = 10 / math.log(10)  # dB per unit of the levelled logarithm

# Margins over the best decoy from which a fault is named. From the simulated populations (tests/simulators,
# bearing_rigs.py above all): no more than about one null in a hundred exceeds PART.
PART = 0.26
# What an element that strikes one race only must show beyond: one hypothesis more for the same part.
SPIN_COST = 0.2
# Below this score no decoy need be looked for: some order of any record fits better.
FAINT = 0.65
# Impacts have harmonics: a fault needs two lines of its comb this many dB over the floor.
LINES, LINE_DB = 2, 9.0
# A cage draws lines where belts, loose parts and slow wander draw theirs: named only when plain.
CAGE_MARGIN = 0.7
# Fewer turns of the cage than this, and its lines run into those of everything slow.
MIN_CAGE_TURNS = 60
# Width of the logistic that turns a margin into a confidence, from the same population.
SOFTNESS = 0.12
# Silence is never certain: a fault may be too faint to hear. "No fault" gets at most 0.9.
SILENCE = 0.8


class Part(enum.Enum):
    """The answers, as the interface spells them."""

    NONE = "N"
    OUTER = "OR"
    INNER = "IR"
    ELEMENT = "B"
    CAGE = "FTF"


# Where a family usually lies beside its geometric order (fractions), and how far it strays.
LIKELY_SLIP = {Part.OUTER: -0.005, Part.INNER: 0.003, Part.ELEMENT: -0.005}
SLIP_SPREAD = 0.007


class Verdict(enum.Enum):
    FAULT = "fault"
    NO_FAULT = "no fault of this bearing"
    CANNOT_JUDGE = "cannot judge"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the evidence: ``above`` is its power over the local floor in dB, ``depth`` its modulation depth."""

    name: str
    order: float
    hz: float
    above: float
    depth: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``confidence`` 0 to 1 in the answer given; 0 with CANNOT_JUDGE. ``lines`` support the part in question, or the
    one that came nearest. ``severity`` (early, clear, advanced) speaks of the impacts' modulation, not of safety."""

    part: Part
    verdict: Verdict
    confidence: float
    severity: str
    nearest: Part
    fits: Mapping[Part, Fit]
    lines: tuple[Line, ...]
    shaft_hz: float
    measured_shaft_hz: float
    findings: tuple[Finding, ...]
    why: str


def diagnose(record: Record, orders: Orders) -> Diagnosis:
    """``record`` of one channel against one bearing's ``orders``. Never raises for what a record may hold."""
    findings = tuple(check(record, orders))
    stops = refusals(findings, Effect.NO_DIAGNOSIS)
    shaft_hz = record.shaft_hz
    if stops or shaft_hz is None:
        why = "; ".join(one.what for one in stops)
        return Diagnosis(
            Part.NONE, Verdict.CANNOT_JUDGE, 0.0, "", Part.NONE, {}, (), shaft_hz or 0.0, 0.0, findings, why
        )
    top_hz = min(record.rate_hz / 4, TOP_ORDER * shaft_hz)
    spectrum = envelope_spectrum(record.samples, record.rate_hz, shaft_hz, top_hz)
    measured_hz = measured_shaft(spectrum, shaft_hz)
    lines = Lines(spectrum, measured_hz)
    fits = {
        Part.OUTER: lines.fit(OUTER, orders.bpfo, 0.0, least=FAINT),
        Part.INNER: lines.fit(INNER, orders.bpfi, 1.0, least=FAINT),
        Part.ELEMENT: _element(lines, orders),
    }
    asked = {Part.OUTER: orders.bpfo, Part.INNER: orders.bpfi, Part.ELEMENT: orders.element}
    spacings = {Part.OUTER: 0.0, Part.INNER: 1.0, Part.ELEMENT: orders.ftf, Part.CAGE: 0.0}
    sure = {
        part: fit
        for part, fit in fits.items()
        if fit.margin >= PART and _several(fit.comb.teeth, _places(spectrum, lines, fit, spacings[part]))
    }
    nearest = _nearest(sure or fits, asked)
    part = nearest if sure else Part.NONE
    if part is Part.NONE and record.turns * orders.ftf >= MIN_CAGE_TURNS:
        cage = lines.fit(CAGE, orders.ftf, 0.0, least=CAGE_MARGIN)
        if cage.margin >= CAGE_MARGIN:
            fits[Part.CAGE] = cage
            part = nearest = Part.CAGE
    shown = _evidence(spectrum, lines, nearest, fits[nearest], spacings[nearest])
    margin = fits[nearest].margin
    confidence = _confidence(margin - (CAGE_MARGIN if nearest is Part.CAGE else PART))
    if part is Part.NONE:
        confidence = min(confidence, 0.5)  # one strong line alone is no fault, nor is it silence
    return Diagnosis(
        part=part,
        verdict=Verdict.NO_FAULT if part is Part.NONE else Verdict.FAULT,
        confidence=0.5 + SILENCE * (0.5 - confidence) if part is Part.NONE else confidence,
        severity="" if part is Part.NONE else _severity(shown),
        nearest=nearest,
        fits=fits,
        lines=shown,
        shaft_hz=shaft_hz,
        measured_shaft_hz=measured_hz,
        findings=findings,
        why=_why(part, nearest, fits[nearest], shown),
    )


def _nearest(fits: Mapping[Part, Fit], orders: Mapping[Part, float]) -> Part:
    """The part whose family stands out most. Where two parts claim the same lines, the one that explains more of
    them, less what its distance from the geometric order makes improbable."""
    best = max(fits, key=lambda part: (fits[part].margin, fits[part].score))

    def claim(part: Part) -> float:
        away = (fits[part].order / orders[part] - 1 - LIKELY_SLIP[part]) / SLIP_SPREAD
        return fits[part].score - 0.25 * away * away

    rivals = [part for part in fits if abs(fits[part].order / fits[best].order - 1) < 0.005 and fits[part].margin > 0]
    return max(rivals, key=claim) if len(rivals) > 1 else best


def _confidence(beyond: float) -> float:
    """Confidence that there is a fault, 0.5 at the threshold."""
    return 1 / (1 + math.exp(-max(-40.0, min(40.0, beyond / SOFTNESS))))


_NAMES = {Part.OUTER: "BPFO", Part.INNER: "BPFI", Part.ELEMENT: "BSF", Part.CAGE: "FTF"}
_WORDS = {
    Part.OUTER: "outer race",
    Part.INNER: "inner race",
    Part.ELEMENT: "rolling element",
    Part.CAGE: "cage",
}


def _element(lines: Lines, orders: Orders) -> Fit:
    """Struck by both races or by one: the better fit, its order that of the impacts on both."""
    both = lines.fit(ELEMENT, orders.element, orders.ftf, least=FAINT)
    one = lines.fit(SPIN, orders.element / 2, orders.ftf, least=FAINT)
    one = replace(one, decoy=one.decoy + SPIN_COST, order=2 * one.order)
    return one if one.margin > both.margin else both


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the teeth of a fit stand: bins (0 where there is none), and levels there (0 beneath shaft and mains)."""

    bins: Bins
    level: Floats


def _places(spectrum: EnvelopeSpectrum, lines: Lines, fit: Fit, spacing: float) -> _Places:
    """The highest open bin of each tooth's three."""
    base = fit.order / 2 if fit.comb is SPIN else fit.order
    table = fit.comb.table
    middle = np.rint((table[:, 0] * base + table[:, 1] * spacing) * lines.per_order).astype(np.intp)
    inside = (middle >= 1) & (middle < len(spectrum.level) - 1)
    three = np.where(inside, middle, 1)[:, None] + np.arange(-1, 2)
    near = np.where(lines.masked[three], 0.0, np.maximum(spectrum.level[three], 0.0))
    best = near.argmax(axis=1)
    rows = np.arange(len(best))
    return _Places(np.where(inside, three[rows, best], 0), np.where(inside, near[rows, best], 0.0))


def _evidence(spectrum: EnvelopeSpectrum, lines: Lines, part: Part, fit: Fit, spacing: float) -> tuple[Line, ...]:
    """The part's multiples, and those of its sidebands that stand out."""
    shown = []
    places = _places(spectrum, lines, fit, spacing)
    for tooth, place, level in zip(fit.comb.teeth, places.bins.tolist(), places.level.tolist(), strict=True):
        above = round(level * DB, 1)
        if place == 0 or (tooth.side and above < LINE_DB):
            continue
        times = tooth.multiple * (2 if fit.comb is ELEMENT else 1)
        name = (f"{times:g}x{_NAMES[part]}" if times != 1 else _NAMES[part]) + _sideband(part, tooth.side)
        hz = place * spectrum.step_hz
        depth = round(float(spectrum.depth[place]), 5)
        shown.append(Line(name, round(place / lines.per_order, 4), round(hz, 3), above, depth))
    return tuple(shown)


def _sideband(part: Part, side: int) -> str:
    return "" if not side else f"{'+' if side > 0 else '-'}{'shaft' if part is Part.INNER else 'FTF'}"


def _several(teeth: Sequence[Tooth], places: _Places) -> bool:
    """Enough lines stand, and not only even multiples: those alone are the comb of twice this order, somebody else's.

    A half speaks for an element like an odd multiple, and so does a sideband of the first.
    """
    seen = [tooth for tooth, level in zip(teeth, places.level.tolist(), strict=True) if level * DB >= LINE_DB]
    odd = any(tooth.multiple == 1 if tooth.side else tooth.multiple in (0.5, 1, 3) for tooth in seen)
    return len(seen) >= LINES and odd


def _severity(lines: tuple[Line, ...]) -> str:
    """By the modulation depth of the whitened envelope over all harmonics: how much of the sound is impacts."""
    depth = math.sqrt(sum(line.depth**2 for line in lines))
    return "early" if depth < 0.1 else "clear" if depth < 0.5 else "advanced"


def _why(part: Part, nearest: Part, fit: Fit, lines: tuple[Line, ...]) -> str:
    seen = ", ".join(f"{line.name} at {line.hz:g} Hz {line.above:g} dB" for line in lines if line.above > 6)
    if part is not Part.NONE:
        return f"{_WORDS[part]}: {seen} over the floor; {fit.margin:.2f} above the best of all other orders"
    if fit.margin >= PART:
        return f"one line alone near the {_WORDS[nearest]}: a modulation, but no impacts"
    if fit.relative < 0 and fit.score > fit.decoy:
        return f"the lines near the {_WORDS[nearest]} belong to another order: a fraction of it, or one turn beside"
    if fit.score < FAINT:
        return "nothing speaks for this bearing: none of its lines stand out"
    if fit.score < fit.decoy:
        return f"nothing speaks for this bearing: other orders fit {fit.decoy - fit.score:.2f} better"
    return f"the {_WORDS[nearest]} comes nearest, but only {fit.margin:.2f} above chance"
