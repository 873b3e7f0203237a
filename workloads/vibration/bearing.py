"""Defect orders of a rolling bearing: from its geometry, from a small library, or given by its maker.

Called by the command line, the workload's configuration and the simulators. An order is a multiple of the shaft's
turning frequency. It never guesses a bearing from a recording.

Source of the formulas: kinematics of pure rolling, e.g. Randall, "Vibration-based Condition Monitoring" (2011), 2.2.3;
real bearings slip by 1 to 2 %.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from manifests.errors import DocumentError, Problem

# Orders beyond these belong to no bearing that rolls: a slip of the pen.
MAX_ORDER = 200.0
# A spin order so far above what pure rolling allows was doubled already; a printed one is rounded, not 25 % off.
DOUBLED = 1.25
NAMES = ("ftf", "bsf", "bpfo", "bpfi")


@dataclass(frozen=True, slots=True)
class Orders:
    """Defect orders, multiples of shaft speed: cage, element spin, outer race, inner race.

    An element strikes both races in one turn of its own, so its fault is looked for at twice ``bsf``.
    """

    ftf: float
    bsf: float
    bpfo: float
    bpfi: float

    @property
    def bsf_is_doubled(self) -> bool:
        """Many tables print the element's *defect* order, twice its spin, under the name of the spin.

        The races' orders tell: they give d/D cos(phi), and the contact angle can only make the spin slower.
        """
        g = (self.bpfi - self.bpfo) / (self.bpfi + self.bpfo)
        return g > 0 and self.bsf > DOUBLED * (1 - g * g) / (2 * g)

    @property
    def element(self) -> float:
        """Impacts of a damaged element on both races per turn of the shaft."""
        return self.bsf if self.bsf_is_doubled else 2 * self.bsf


@dataclass(frozen=True, slots=True)
class Geometry:
    """``elements`` rolling elements of ``diameter`` on a ``pitch`` circle (same unit), contact angle in degrees."""

    elements: int
    diameter: float
    pitch: float
    contact_deg: float = 0.0


def orders_of(geometry: Geometry, *, outer_turns: bool = False) -> Orders:
    """Orders by pure rolling. With ``outer_turns`` the outer ring turns, the inner stands: only the cage differs.

    Raises DocumentError for dimensions that fit no bearing, all mistakes at once.
    """
    problems = []
    where = "bearing"
    if not 3 <= geometry.elements <= 200:
        problems.append(Problem(where, "elements", f"{geometry.elements} rolling elements; 3 to 200 are possible"))
    if not (math.isfinite(geometry.diameter) and geometry.diameter > 0):
        problems.append(Problem(where, "diameter", f"{geometry.diameter} is no diameter"))
    if not (math.isfinite(geometry.pitch) and geometry.pitch > geometry.diameter):
        problems.append(Problem(where, "pitch", f"pitch {geometry.pitch} must exceed the element's diameter"))
    if not 0 <= geometry.contact_deg < 90:
        problems.append(Problem(where, "contactDeg", f"{geometry.contact_deg} is not between 0 and 90 degrees"))
    if problems:
        raise DocumentError(problems)
    g = geometry.diameter / geometry.pitch * math.cos(math.radians(geometry.contact_deg))
    ftf = (1 - g) / 2
    return Orders(
        ftf=(1 + g) / 2 if outer_turns else ftf,
        bsf=geometry.pitch / (2 * geometry.diameter) * (1 - g * g),
        bpfo=geometry.elements * ftf,
        bpfi=geometry.elements * (1 + g) / 2,
    )


# Nominal dimensions in mm as common in catalogues; makers differ by a few per cent under one designation, and the
# number of elements is not standardised. Orders given by the maker always win.
LIBRARY: Mapping[str, Geometry] = {
    "6202": Geometry(8, 6.0, 25.0),
    "6203": Geometry(8, 6.75, 28.5),
    "6204": Geometry(8, 7.938, 33.5),
    "6205": Geometry(9, 7.938, 38.5),
    "6206": Geometry(9, 9.525, 46.0),
    "6207": Geometry(9, 11.112, 53.5),
    "6208": Geometry(9, 12.0, 60.0),
    "6209": Geometry(9, 12.7, 65.0),
    "6210": Geometry(10, 12.7, 70.0),
    "6304": Geometry(7, 9.525, 36.0),
    "6305": Geometry(7, 11.5, 43.5),
    "6306": Geometry(8, 12.0, 51.0),
    "6307": Geometry(8, 13.494, 58.0),
    "6308": Geometry(8, 15.081, 65.0),
    "6309": Geometry(8, 17.462, 72.5),
    "6310": Geometry(8, 19.05, 80.0),
}


def by_name(name: str) -> Orders:
    """Orders of a bearing of the library; suffixes such as ``-2RS`` or ``/C3`` do not change the geometry.

    Raises DocumentError for an unknown one, naming the nearest.
    """
    bare = name.strip().upper().split("-")[0].split("/")[0].split(" ")[0]
    geometry = LIBRARY.get(bare)
    if geometry is None:
        near = difflib.get_close_matches(bare, LIBRARY, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(LIBRARY)}"
        raise DocumentError(
            [Problem("bearing", name, "this bearing is not in the library", f"{hint}; or give its orders")]
        )
    return orders_of(geometry)


def completed(given: Mapping[str, float]) -> dict[str, float]:
    """``given`` with the cage's and the element's order worked out of the races' where they are missing.

    The cage's is exact; the element's holds for a contact angle of zero and is a little high for any other, so its
    fault may be missed there, not invented. What is no number, or no pair of races, is left as it is.
    """
    values = dict(given)
    try:
        outer, inner = float(values["bpfo"]), float(values["bpfi"])
        g = (inner - outer) / (inner + outer)
        missing = {"ftf": (1 - g) / 2, "bsf": (1 - g * g) / (2 * g)}
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return values
    return {**(missing if 0 < g < 1 else {}), **values}


def check_orders(given: Mapping[str, float], *, where: str = "orders") -> Orders:
    """Orders from a mapping of the four names. Raises DocumentError with every mistake."""
    problems = [
        Problem(where, key, f'unknown order "{key}"', f"known: {', '.join(NAMES)}") for key in given if key not in NAMES
    ]
    values: dict[str, float] = {}
    for name in NAMES:
        if name not in given:
            problems.append(Problem(where, name, f'"{name}" is missing', "give ftf, bsf, bpfo and bpfi"))
            continue
        value = given[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            problems.append(Problem(where, name, f"{value!r} is not a number"))
        elif not 0 < value <= MAX_ORDER:
            problems.append(Problem(where, name, f"{value} lies outside 0 to {MAX_ORDER:g} times shaft speed"))
        else:
            values[name] = float(value)
    if not problems:
        if not values["ftf"] < 1:
            problems.append(Problem(where, "ftf", f"{values['ftf']}: a cage turns slower than the shaft"))
        if values["bpfi"] <= values["bpfo"]:
            what = f"bpfi {values['bpfi']} must exceed bpfo {values['bpfo']}"
            problems.append(Problem(where, "bpfi", what, "are the two exchanged?"))
    if problems:
        raise DocumentError(problems)
    return Orders(**values)
