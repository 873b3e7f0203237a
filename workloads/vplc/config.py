"""What a site says of a virtual PLC: where its devices are, where it stands in the plant, what its set-points are.

Everything else is signed with the program (`program`). ``schema`` is the configuration schema of a program's release:
the types below, with exactly the set-points and forces that the program allows, in their ranges, marked as live.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from manifests.configuration import LIVE, UNIT
from manifests.errors import Problem
from manifests.model import Name, TopicLevel
from vplc.scan.layout import Layout
from workloads.kit.service import KitConfig
from workloads.vplc.program import WHOLE_NUMBERS, Adjustable, Control

WHERE = "config"

Value = bool | int | float


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pass


class Place(_Part, frozen=True):
    """Where in the plant: the levels of the topic below the site."""

    area: TopicLevel
    line: TopicLevel
    asset: TopicLevel


class Address(_Part, frozen=True):
    """Where the device of a driver is: ``host`` and ``port``, or the ``url`` of an OPC UA server."""

    host: Annotated[str, Meta(min_length=1, max_length=253)] | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    url: Annotated[str, Meta(pattern=r"^opc\.tcp://", max_length=500)] | None = None


Link = Annotated[str, Meta(pattern=r"^\[?[A-Za-z0-9.:-]{1,253}\]?:[0-9]{1,5}$", max_length=260)]


class Pair(_Part, frozen=True):
    """Hot standby: two instances of this release, one ``primary`` and one ``standby``. ``over`` memory: both on this
    node, and ``name`` is what both have in common. ``over`` network: on two nodes, which need ``listen`` and ``peer``
    (host:port), and a ``witness`` on a third one or the word ``partition: stop``."""

    role: Literal["primary", "standby"]
    name: Name = "pair"
    over: Literal["memory", "network"] = "memory"
    missed_scans: Annotated[int, Meta(ge=1, le=1000)] | None = None
    listen: Link | None = None
    peer: Link | None = None
    witness: Link | None = None
    partition: Literal["stop"] | None = None
    lease_ms: Annotated[float, Meta(ge=0.1, le=600_000)] | None = None


class VplcConfig(KitConfig, frozen=True):
    """``parameters`` and ``forces`` are live: they change without a restart."""

    place: Place
    pair: Pair | None = None
    drivers: Mapping[str, Address] = {}
    sample_ms: Annotated[int, Meta(ge=50, le=60_000)] = 500
    max_silence_ms: Annotated[int, Meta(ge=1000, le=3_600_000)] = 60_000
    parameters: Mapping[str, Value] = {}
    forces: Mapping[str, Value] = {}


def check(config: VplcConfig, control: Control) -> list[Problem]:
    """What does not fit between a site's configuration and the signed program."""
    problems = []
    drivers = control.scan.get("drivers", {})
    for name, address in config.drivers.items():
        if name not in drivers:
            hint = f"it has: {', '.join(drivers) or 'none'}"
            problems.append(Problem(WHERE, f"drivers.{name}", "the program has no such driver", hint))
        elif address.url is not None and (address.host, address.port) != (None, None):
            problems.append(Problem(WHERE, f"drivers.{name}", "give either url, or host and port"))
    for kind, allowed, given in (
        ("parameters", control.parameters, config.parameters),
        ("forces", control.forces, config.forces),
    ):
        for path, value in given.items():
            at = f"{kind}.{path}"
            if path not in allowed:
                problems.append(Problem(WHERE, at, "the signed program does not allow it"))
            elif not isinstance(value, bool) and not _within(value, allowed[path]):
                low, high = allowed[path].minimum, allowed[path].maximum
                problems.append(Problem(WHERE, at, f"{value} is not within {low} to {high}"))
    return problems


def _within(value: float, range_: Adjustable) -> bool:
    low = -float("inf") if range_.minimum is None else range_.minimum
    high = float("inf") if range_.maximum is None else range_.maximum
    return low <= value <= high


def schema(control: Control, layout: Layout) -> dict[str, Any]:
    """The ``configSchema`` of this program's release."""
    whole: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(VplcConfig)))
    top = whole["$defs"]["VplcConfig"]
    bases = {variable.path.upper(): variable.base.upper() for variable in layout.variables}
    for kind, allowed in (("parameters", control.parameters), ("forces", control.forces)):
        top["properties"][kind] = {
            "type": "object",
            LIVE: True,
            "properties": {path: _value(range_, bases[path.upper()]) for path, range_ in allowed.items()},
            "additionalProperties": False,
            "default": {},
        }
    return whole


def _value(range_: Adjustable, base: str) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "boolean"}
    if base != "BOOL":
        kind = "integer" if base in WHOLE_NUMBERS else "number"
        out = {"type": kind, "minimum": range_.minimum, "maximum": range_.maximum}
    said = {"description": range_.description, UNIT: range_.unit}
    return out | {key: text for key, text in said.items() if text}
