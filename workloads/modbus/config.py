"""The configuration of the Modbus translator, as frozen types, and what can be wrong between its fields.

Addresses are zero-based, as they travel in the frame: 40001 of a data sheet is ``area: holding, address: 0``.
No I/O.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from manifests.errors import Problem
from manifests.model import TopicLevel
from workloads.kit.backoff import BackoffConfig
from workloads.kit.deadband import Deadband, mistakes
from workloads.kit.service import KitConfig

Area = Literal["holding", "input", "coil", "discrete"]
Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]
BIT_AREAS = ("coil", "discrete")

# Registers each type occupies; bool in a register area is one bit of it; string[n] takes n registers, 2n characters.
WORDS = {
    "bool": 1,
    "int16": 1,
    "uint16": 1,
    "int32": 2,
    "uint32": 2,
    "float32": 2,
    "int64": 4,
    "uint64": 4,
    "float64": 4,
}
TYPE_PATTERN = r"^(bool|u?int(16|32|64)|float(32|64)|string\[([1-9]|[1-9][0-9]|1[01][0-9]|12[0-5])\])$"
WHERE = "config"


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pass


class Place(_Part, frozen=True):
    """Where in the plant: the levels of the topic below the site."""

    area: TopicLevel
    line: TopicLevel
    asset: TopicLevel


class TagConfig(_Part, frozen=True):
    """One tag. Engineering value = raw value x scale + offset; deadband, low and high are in engineering units."""

    name: TopicLevel
    area: Area
    address: Annotated[int, Meta(ge=0, le=65535)]
    type: Annotated[str, Meta(pattern=TYPE_PATTERN)] = "uint16"
    bit: Annotated[int, Meta(ge=0, le=15)] | None = None
    byte_order: Order = "ABCD"
    scale: float = 1.0
    offset: float = 0.0
    unit: Annotated[str, Meta(max_length=32)] = ""
    description: Annotated[str, Meta(max_length=500)] = ""
    deadband: float | Deadband | None = None
    low: float | None = None
    high: float | None = None
    place: Place | None = None

    @property
    def words(self) -> int:
        """Addresses taken: registers, or bits in the bit areas."""
        if self.area in BIT_AREAS:
            return 1
        if self.type.startswith("string"):
            return int(self.type[7:-1])
        return WORDS[self.type]


class Group(_Part, frozen=True):
    """Tags that are read together, every ``interval_ms``."""

    name: Annotated[str, Meta(min_length=1, max_length=63)]
    tags: Annotated[tuple[TagConfig, ...], Meta(min_length=1, max_length=5000)]
    interval_ms: Annotated[int, Meta(ge=10, le=3_600_000)] = 1000


class Forbidden(_Part, frozen=True):
    """Addresses ``first`` to ``last`` (inclusive) that must never be part of a read."""

    area: Area
    first: Annotated[int, Meta(ge=0, le=65535)]
    last: Annotated[int, Meta(ge=0, le=65535)]


class ReadConfig(_Part, frozen=True):
    """How tags are gathered into reads: limits of the protocol unless the device has narrower ones."""

    max_registers: Annotated[int, Meta(ge=1, le=125)] = 125
    max_bits: Annotated[int, Meta(ge=1, le=2000)] = 2000
    max_gap: Annotated[int, Meta(ge=0, le=124)] = 8
    forbidden: tuple[Forbidden, ...] = ()


class Device(_Part, frozen=True):
    """One Modbus server. One request at a time is under way to it, as small controllers demand."""

    name: Annotated[str, Meta(min_length=1, max_length=63)]
    host: Annotated[str, Meta(min_length=1, max_length=253)]
    place: Place
    groups: Annotated[tuple[Group, ...], Meta(min_length=1, max_length=100)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 502
    framing: Literal["tcp", "rtu"] = "tcp"  # rtu: RTU frames through a serial server's TCP port
    unit: Annotated[int, Meta(ge=0, le=255)] = 1
    timeout_ms: Annotated[int, Meta(ge=20, le=60_000)] = 1000
    backoff: BackoffConfig = BackoffConfig()
    read: ReadConfig = ReadConfig()


class ModbusConfig(KitConfig, frozen=True):
    devices: Annotated[tuple[Device, ...], Meta(min_length=1, max_length=200)]
    max_silence_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 60_000


def check(config: ModbusConfig) -> list[Problem]:
    """Every contradiction between fields, in reading order."""
    problems: list[Problem] = []
    for name, count in Counter(device.name for device in config.devices).items():
        if count > 1:
            problems.append(Problem(WHERE, "devices", f'{count} devices are named "{name}"', "names tell them apart"))
    topics: dict[tuple[Place, str], str] = {}
    for d, device in enumerate(config.devices):
        if device.backoff.max_ms < device.backoff.min_ms:
            problems.append(Problem(WHERE, f"devices[{d}].backoff", "maxMs is smaller than minMs"))
        for f, forbidden in enumerate(device.read.forbidden):
            if forbidden.last < forbidden.first:
                path = f"devices[{d}].read.forbidden[{f}]"
                problems.append(Problem(WHERE, path, "last is smaller than first"))
        for g, group in enumerate(device.groups):
            for t, tag in enumerate(group.tags):
                path = f"devices[{d}].groups[{g}].tags[{t}]"
                problems.extend(_check_tag(tag, device, path))
                key = (tag.place or device.place, tag.name)
                if key in topics:
                    what = f'"{tag.name}" has the same topic as {topics[key]}'
                    problems.append(Problem(WHERE, f"{path}.name", what, "give one of them another name or place"))
                else:
                    topics[key] = path
    return problems


def _check_tag(tag: TagConfig, device: Device, path: str) -> list[Problem]:
    found: list[tuple[str, str, str]] = []
    last = tag.address + tag.words - 1
    if tag.area in BIT_AREAS:
        if tag.type not in ("bool", "uint16"):  # uint16 is what an omitted type reads as
            found.append(("type", f"a {tag.area} is a bool, not {tag.type}", "leave type out"))
        if tag.bit is not None:
            found.append(("bit", f"a {tag.area} has no bits inside", "leave bit out"))
    else:
        if tag.bit is not None and tag.type not in ("bool", "uint16"):
            found.append(("bit", f"bit takes one bit of one register, not of {tag.type}", "use type: bool"))
        if tag.type == "bool" and tag.bit is None:
            found.append(("bit", "which bit of the register?", "bit: 0 is the least significant"))
        if tag.words > device.read.max_registers:
            what = f"{tag.type} takes {tag.words} registers, the device allows {device.read.max_registers}"
            found.append(("type", what, "raise read.maxRegisters"))
    if last > 65535:
        found.append(("address", f"{tag.type} at {tag.address} ends beyond 65535", ""))
    for forbidden in device.read.forbidden:
        if forbidden.area == tag.area and forbidden.first <= last and tag.address <= forbidden.last:
            what = f"{tag.area} {tag.address} lies in the forbidden range {forbidden.first} to {forbidden.last}"
            found.append(("address", what, "remove the tag or shorten the range"))
    if tag.scale == 0 or tag.scale - tag.scale != 0:
        found.append(("scale", "scale must be a number other than 0", ""))
    found.extend(("deadband", what, "") for what in mistakes(tag.deadband, tag.low, tag.high))
    if tag.low is not None and tag.high is not None and not tag.low < tag.high:
        found.append(("low", "low must be below high", ""))
    return [Problem(WHERE, f"{path}.{key}", what, hint) for key, what, hint in found]
