"""One channel of vibration with all that must be known of it before anything may be said.

Made by ``files`` and the sources of the workload, read by everything else. It carries no opinion: ``quality`` judges.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manifests.errors import DocumentError, Problem

Array = npt.NDArray[np.floating]

STANDARD_GRAVITY = 9.80665  # m/s2 per g, exact by definition (BIPM, 3rd CGPM)


class Unit(enum.Enum):
    """What a sample measures. Accelerations in g or m/s2, velocity in mm/s."""

    G = "g"
    METRE_PER_S2 = "m/s2"
    MM_PER_S = "mm/s"

    @property
    def is_acceleration(self) -> bool:
        return self is not Unit.MM_PER_S

    @property
    def to_m_s2(self) -> float:
        """Factor from this unit to m/s2; velocity has none (ValueError)."""
        if not self.is_acceleration:
            raise ValueError("a velocity is not an acceleration")
        return STANDARD_GRAVITY if self is Unit.G else 1.0


_SPELLINGS = {
    "g": Unit.G,
    "gn": Unit.G,
    "m/s2": Unit.METRE_PER_S2,
    "m/s^2": Unit.METRE_PER_S2,
    "m/s²": Unit.METRE_PER_S2,
    "ms-2": Unit.METRE_PER_S2,
    "mm/s": Unit.MM_PER_S,
}


def unit_of(text: str | None, *, where: str = "unit") -> Unit | None:
    """None stays None (not declared). Raises DocumentError for a unit that is not known."""
    if text is None or not text.strip():
        return None
    unit = _SPELLINGS.get(text.strip().lower())
    if unit is None:
        raise DocumentError([Problem(where, "unit", f'"{text[:40]}" is no unit of vibration', "g, m/s2 or mm/s")])
    return unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """``samples``: one-dimensional, in ``unit`` (None: not declared). ``rate_hz`` exact sampling rate.

    ``rpm`` None: not known. ``overload`` as reported by the instrument. ``full_scale`` in ``unit``, if declared.
    """

    samples: Array
    rate_hz: float
    unit: Unit | None = None
    rpm: float | None = None
    start_ns: int | None = None
    overload: bool = False
    full_scale: float | None = None
    sequence: int | None = None
    source: str = ""

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz

    @property
    def shaft_hz(self) -> float | None:
        """Turning frequency; None when the speed is not known."""
        return None if self.rpm is None or not math.isfinite(self.rpm) or self.rpm <= 0 else self.rpm / 60

    @property
    def turns(self) -> float:
        """Shaft turns in the record; 0 when the speed is not known."""
        return (self.shaft_hz or 0.0) * self.seconds
