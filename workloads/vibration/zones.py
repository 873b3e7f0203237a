"""Severity zones of vibration standards as data: who said so, for which machines, in which edition.

Called by the command line and the workload. It refuses a zone where the standard gives none: for an unknown unit, a
machine too small, a speed outside. Limits are common knowledge of the trade and may be overridden per installation;
the newer ISO 20816-3 regroups machines, hence the edition in every answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from manifests.errors import DocumentError, Problem

ZONES = ("A", "B", "C", "D")


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper ends of zones A, B and C: velocity RMS in mm/s, 10 to 1000 Hz, on bearing housings."""

    edition: str
    machine: str
    a_b: float
    b_c: float
    c_d: float
    rpm: tuple[float, float] = (120.0, 15_000.0)

    def __post_init__(self) -> None:
        values = (self.a_b, self.b_c, self.c_d)
        if not (all(math.isfinite(v) and v > 0 for v in values) and self.a_b < self.b_c < self.c_d):
            what = f"limits {values} of {self.machine} must be positive and rise"
            raise DocumentError([Problem("zones", "limits", what)])


_3 = "ISO 10816-3:2009"
_1 = "ISO 10816-1:1995"
LIMITS: Mapping[str, Limits] = {
    "group1-rigid": Limits(_3, "above 300 kW, rigid support", 2.3, 4.5, 7.1),
    "group1-flexible": Limits(_3, "above 300 kW, flexible support", 3.5, 7.1, 11.0),
    "group2-rigid": Limits(_3, "15 to 300 kW, rigid support", 1.4, 2.8, 4.5),
    "group2-flexible": Limits(_3, "15 to 300 kW, flexible support", 2.3, 4.5, 7.1),
    "class1": Limits(_1, "class I: small machines, up to 15 kW", 0.71, 1.8, 4.5),
    "class2": Limits(_1, "class II: medium machines, up to 75 kW", 1.12, 2.8, 7.1),
    "class3": Limits(_1, "class III: large machines, rigid foundation", 1.8, 4.5, 11.2),
    "class4": Limits(_1, "class IV: large machines, soft foundation", 2.8, 7.1, 18.0),
}


def group_of(kilowatt: float, *, flexible: bool = False) -> str:
    """The ISO 10816-3 group of a machine by its rated power. Raises DocumentError below 15 kW: it has none there."""
    if not math.isfinite(kilowatt) or kilowatt < 15:
        what = f"ISO 10816-3 does not speak of machines of {kilowatt:g} kW"
        raise DocumentError([Problem("zones", "kilowatt", what, "below 15 kW name class1 of ISO 10816-1")])
    return f"group{1 if kilowatt > 300 else 2}-{'flexible' if flexible else 'rigid'}"


@dataclass(frozen=True, slots=True)
class Zone:
    """``name`` A to D, with what it was judged by."""

    name: str
    velocity_mm_s: float
    limits: Limits


def zone(velocity_mm_s: float, limits: Limits, rpm: float | None = None) -> Zone:
    """The zone of a velocity RMS. Raises DocumentError for a value that is none, or a speed the standard leaves out."""
    problems = []
    if not math.isfinite(velocity_mm_s) or velocity_mm_s < 0:
        problems.append(Problem("zones", "velocity", f"{velocity_mm_s} is no RMS velocity"))
    if rpm is not None and not limits.rpm[0] <= rpm <= limits.rpm[1]:
        what = f"{rpm:g} rpm lies outside {limits.rpm[0]:g} to {limits.rpm[1]:g} of {limits.edition}"
        problems.append(Problem("zones", "rpm", what))
    if problems:
        raise DocumentError(problems)
    above = sum(velocity_mm_s > limit for limit in (limits.a_b, limits.b_c, limits.c_d))
    return Zone(ZONES[above], velocity_mm_s, limits)
