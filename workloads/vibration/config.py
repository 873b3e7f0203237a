"""The configuration of the vibration workload: machines, their bearings, where records come from, how alarms behave.

Read by ``__main__`` through ``kit.service``; ``check`` finds the contradictions between fields. No I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from manifests.configuration import LIVE
from manifests.errors import DocumentError, Problem
from manifests.grants import Write
from manifests.model import TopicLevel
from workloads.kit.service import KitConfig
from workloads.vibration.bearing import Geometry, Orders, by_name, check_orders, orders_of
from workloads.vibration.sources.config import (
    ModbusRecords,
    MqttRecords,
    OpcuaRecords,
    Part,
    Spool,
    check_source,
    freeze_write,
)
from workloads.vibration.trend import TrendRule
from workloads.vibration.zones import LIMITS, Limits

WHERE = "config"


class Place(Part, frozen=True):
    """Where in the plant: the levels of the topic below the site."""

    area: TopicLevel
    line: TopicLevel
    asset: TopicLevel


class OrdersConfig(Part, frozen=True):
    """Defect orders as the bearing's maker gives them, multiples of shaft speed."""

    ftf: float
    bsf: float
    bpfo: float
    bpfi: float


class GeometryConfig(Part, frozen=True):
    """Diameters in one unit, contact angle in degrees."""

    elements: int
    diameter: float
    pitch: float
    contact_deg: float = 0.0


class Bearing(Part, frozen=True):
    """Exactly one of ``type`` (a designation of the library), ``orders`` and ``geometry``."""

    name: TopicLevel
    type: str | None = None
    orders: OrdersConfig | None = None
    geometry: GeometryConfig | None = None


class TrendConfig(Part, frozen=True):
    """``learn`` records make a baseline; alarm above ``sigmas`` robust deviations in ``sustained`` of ``ofLast``.

    ``mayReach``: how many times its baseline this machine's level may become; only then a remaining time is told."""

    learn: Annotated[int, Meta(ge=10, le=10_000)] = 40
    warning_sigmas: Annotated[float, Meta(gt=0, le=100)] = 4.0
    sigmas: Annotated[float, Meta(gt=0, le=100)] = 6.0
    release: Annotated[float, Meta(ge=0, le=100)] = 3.0
    sustained: Annotated[int, Meta(ge=1, le=100)] = 5
    of_last: Annotated[int, Meta(ge=1, le=100)] = 7
    may_reach: Annotated[float, Meta(gt=1, le=1000)] | None = None

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


class Severity(Part, frozen=True):
    """Limits of this installation: upper ends of zones A, B and C, velocity RMS in mm/s, 10 to 1000 Hz.

    ``edition`` says where they come from (a standard's edition, a maker's letter), ``machine`` for what machines."""

    edition: Annotated[str, Meta(min_length=1, max_length=100)]
    machine: Annotated[str, Meta(min_length=1, max_length=200)]
    a_b: Annotated[float, Meta(gt=0)]
    b_c: Annotated[float, Meta(gt=0)]
    c_d: Annotated[float, Meta(gt=0)]


class Machine(Part, frozen=True):
    """Exactly one of ``spool``, ``mqtt``, ``opcua`` and ``modbus`` says where its records come from.

    ``rpm`` is what a record without a speed of its own turned with; leave it out for a varying speed.

    ``zone`` names the group or class of the severity limits; ``limits`` gives others. The indicators look for
    ``mainsHz`` and a gear of ``teeth`` on the shaft. ``maxSilenceS``: without a record for so long the machine counts
    as silent.
    """

    name: Annotated[str, Meta(min_length=1, max_length=63)]
    place: Place
    spool: Spool | None = None
    mqtt: MqttRecords | None = None
    opcua: OpcuaRecords | None = None
    modbus: ModbusRecords | None = None
    bearings: Annotated[tuple[Bearing, ...], Meta(max_length=16)] = ()
    rpm: Annotated[float, Meta(gt=0)] | None = None
    zone: str | None = None
    limits: Severity | None = None
    mains_hz: Literal[50, 60] = 50
    teeth: Annotated[int, Meta(ge=2, le=1000)] | None = None
    trend: TrendConfig = TrendConfig()
    max_silence_s: Annotated[float, Meta(gt=0, le=604_800)] = 900.0

    @property
    def sources(self) -> dict[str, Spool | MqttRecords | OpcuaRecords | ModbusRecords]:
        """Those that are given, by the key they are given under: one, once checked."""
        given = {"spool": self.spool, "mqtt": self.mqtt, "opcua": self.opcua, "modbus": self.modbus}
        return {key: source for key, source in given.items() if source is not None}


class Evidence(Part, frozen=True):
    """The records that raised alerts, kept on the node until asked for: how many, and how much room they may take
    (the oldest goes first). ``folder`` only where the agent keeps none for this workload."""

    folder: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    keep: Annotated[int, Meta(ge=1, le=1000)] = 20
    keep_mb: Annotated[int, Meta(ge=1, le=10_000)] = 100


Instant = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$")]

Acknowledged = Annotated[dict[str, Instant], Meta(extra_json_schema={LIVE: True})]


class VibrationConfig(KitConfig, frozen=True):
    """``acknowledged`` by machine: every alert raised up to that time has been seen. A live parameter."""

    machines: Annotated[tuple[Machine, ...], Meta(min_length=1, max_length=200)]
    evidence: Evidence = Evidence()
    acknowledged: Annotated[dict[str, Instant], Meta(extra_json_schema={LIVE: True})] = msgspec.field(
        default_factory=dict
    )


def orders_for(bearing: Bearing) -> Orders:
    """Raises DocumentError when the bearing cannot be."""
    if bearing.orders is not None:
        return check_orders(msgspec.structs.asdict(bearing.orders))
    if bearing.geometry is not None:
        return orders_of(Geometry(**msgspec.structs.asdict(bearing.geometry)))
    return by_name(bearing.type or "")


def limits_for(machine: Machine) -> Limits | None:
    """Raises DocumentError when they do not rise."""
    return None if machine.limits is None else Limits(**msgspec.structs.asdict(machine.limits))


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
        sources = machine.sources
        if len(sources) != 1:
            what = f"{len(sources)} sources of records; give exactly one"
            problems.append(Problem(WHERE, path, what, "spool, mqtt, opcua or modbus"))
        for key, source in sources.items():
            problems += check_source(source, f"{path}.{key}")
        if machine.zone is not None and machine.zone not in LIMITS:
            problems.append(
                Problem(WHERE, f"{path}.zone", f'unknown zone "{machine.zone}"', f"known: {', '.join(LIMITS)}")
            )
        if machine.limits is not None:
            if machine.zone is not None:
                problems.append(Problem(WHERE, f"{path}.limits", "limits beside zone", "give one of them"))
            try:
                limits_for(machine)
            except DocumentError as error:
                problems += [Problem(WHERE, f"{path}.limits", one.what, one.hint) for one in error.problems]
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
    known = {machine.name for machine in config.machines}
    for name, text in config.acknowledged.items():
        if name not in known:
            problems.append(Problem(WHERE, f"acknowledged.{name}", "no machine has this name"))
        try:
            instant_ns(text)
        except ValueError as error:
            problems.append(Problem(WHERE, f"acknowledged.{name}", str(error)))
    return problems


def instant_ns(text: str) -> int:
    """Nanoseconds since 1970 of an ``Instant``. Raises ValueError for a day that does not exist."""
    return int(datetime.fromisoformat(text).timestamp() * 1e9)


def writes(config: VibrationConfig) -> Iterator[Write]:
    """What the configuration wants to write to devices: freeze registers, nothing else."""
    for m, machine in enumerate(config.machines):
        if machine.modbus is not None:
            yield from freeze_write(machine.modbus, f"machines[{m}].modbus")


def levels(place: Place) -> tuple[str, str, str]:
    return place.area, place.line, place.asset
