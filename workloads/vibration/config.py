"""The configuration of the vibration workload: machines, their bearings, where records come from, how alarms behave.

Read by ``__main__`` through ``kit.service``; ``check`` finds the contradictions between fields. No I/O.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from manifests.errors import DocumentError, Problem
from manifests.model import TopicLevel
from workloads.kit.service import KitConfig
from workloads.vibration.bearing import Geometry, Orders, by_name, check_orders, orders_of
from workloads.vibration.trend import TrendRule
from workloads.vibration.zones import LIMITS

WHERE = "config"


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pass


class Place(_Part, frozen=True):
    """Where in the plant: the levels of the topic below the site."""

    area: TopicLevel
    line: TopicLevel
    asset: TopicLevel


class OrdersConfig(_Part, frozen=True):
    """Defect orders as the bearing's maker gives them, multiples of shaft speed."""

    ftf: float
    bsf: float
    bpfo: float
    bpfi: float


class GeometryConfig(_Part, frozen=True):
    """Diameters in one unit, contact angle in degrees."""

    elements: int
    diameter: float
    pitch: float
    contact_deg: float = 0.0


class Bearing(_Part, frozen=True):
    """Exactly one of ``type`` (a designation of the library), ``orders`` and ``geometry``."""

    name: TopicLevel
    type: str | None = None
    orders: OrdersConfig | None = None
    geometry: GeometryConfig | None = None


class Spool(_Part, frozen=True):
    """A folder into which an acquisition program writes one file per record. A file counts as complete when it did
    not change between two looks. ``existing``: what lies there at start is skipped or analysed. Nothing is deleted.

    Beside ``x.npy`` may lie ``x.npy.json`` with ``rpm``, ``load`` (share of rated) and ``startNs``.
    """

    folder: Annotated[str, Meta(min_length=1, max_length=1024)]
    rate_hz: Annotated[float, Meta(gt=0)] | None = None
    unit: Literal["g", "m/s2", "mm/s"] | None = None
    channel: Annotated[int, Meta(ge=0, le=1023)] = 0
    interval_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 5000
    existing: Literal["skip", "analyse"] = "skip"


class TrendConfig(_Part, frozen=True):
    """``learn`` records make a baseline; alarm above ``sigmas`` robust deviations in ``sustained`` of ``ofLast``."""

    learn: Annotated[int, Meta(ge=10, le=10_000)] = 40
    warning_sigmas: Annotated[float, Meta(gt=0, le=100)] = 4.0
    sigmas: Annotated[float, Meta(gt=0, le=100)] = 6.0
    release: Annotated[float, Meta(ge=0, le=100)] = 3.0
    sustained: Annotated[int, Meta(ge=1, le=100)] = 5
    of_last: Annotated[int, Meta(ge=1, le=100)] = 7

    @property
    def rule(self) -> TrendRule:
        return TrendRule(
            learn=self.learn,
            settle=self.of_last,
            warning_sigmas=self.warning_sigmas,
            sigmas=self.sigmas,
            release=self.release,
            sustained=self.sustained,
            of_last=self.of_last,
        )


class Machine(_Part, frozen=True):
    """``rpm`` is what a record without a speed of its own turned with; leave it out for a varying speed.

    ``zone`` names the group or class of the severity limits. ``maxSilenceS``: without a record for so long the
    machine counts as silent.
    """

    name: Annotated[str, Meta(min_length=1, max_length=63)]
    place: Place
    spool: Spool
    bearings: Annotated[tuple[Bearing, ...], Meta(max_length=16)] = ()
    rpm: Annotated[float, Meta(gt=0)] | None = None
    zone: str | None = None
    trend: TrendConfig = TrendConfig()
    max_silence_s: Annotated[float, Meta(gt=0, le=604_800)] = 900.0


class Evidence(_Part, frozen=True):
    """Where the record that raised an alert is kept, and how many of them (the oldest goes first)."""

    folder: Annotated[str, Meta(min_length=1, max_length=1024)]
    keep: Annotated[int, Meta(ge=1, le=1000)] = 20


class VibrationConfig(KitConfig, frozen=True):
    machines: Annotated[tuple[Machine, ...], Meta(min_length=1, max_length=200)]
    evidence: Evidence | None = None


def orders_for(bearing: Bearing) -> Orders:
    """Raises DocumentError when the bearing cannot be."""
    if bearing.orders is not None:
        return check_orders(msgspec.structs.asdict(bearing.orders))
    if bearing.geometry is not None:
        return orders_of(Geometry(**msgspec.structs.asdict(bearing.geometry)))
    return by_name(bearing.type or "")


def check(config: VibrationConfig) -> list[Problem]:
    """Every contradiction between fields, in reading order."""
    problems: list[Problem] = []
    for what, counted in (
        ("are named", Counter(machine.name for machine in config.machines)),
        ("have the place", Counter("/".join(levels(machine.place)) for machine in config.machines)),
    ):
        problems += [
            Problem(WHERE, "machines", f'{count} machines {what} "{name}"', "names and places tell them apart")
            for name, count in counted.items()
            if count > 1
        ]
    for m, machine in enumerate(config.machines):
        path = f"machines[{m}]"
        if machine.zone is not None and machine.zone not in LIMITS:
            problems.append(
                Problem(WHERE, f"{path}.zone", f'unknown zone "{machine.zone}"', f"known: {', '.join(LIMITS)}")
            )
        trend = machine.trend
        if not trend.release < trend.warning_sigmas <= trend.sigmas:
            problems.append(Problem(WHERE, f"{path}.trend", "release, warningSigmas and sigmas must rise"))
        if trend.sustained > trend.of_last:
            problems.append(Problem(WHERE, f"{path}.trend.sustained", "more than ofLast cannot be above"))
        names = Counter(bearing.name for bearing in machine.bearings)
        problems += [
            Problem(WHERE, f"{path}.bearings", f'{count} bearings are named "{name}"')
            for name, count in names.items()
            if count > 1
        ]
        for b, bearing in enumerate(machine.bearings):
            here = f"{path}.bearings[{b}]"
            if sum(given is not None for given in (bearing.type, bearing.orders, bearing.geometry)) != 1:
                problems.append(Problem(WHERE, here, "give exactly one of type, orders and geometry"))
                continue
            try:
                orders_for(bearing)
            except DocumentError as error:
                problems += [Problem(WHERE, f"{here}.{one.path}", one.what, one.hint) for one in error.problems]
    return problems


def levels(place: Place) -> tuple[str, str, str]:
    return place.area, place.line, place.asset
