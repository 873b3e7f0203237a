"""The configuration of the OPC UA translator, as frozen types, and what can be wrong between its fields. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import msgspec
from msgspec import Meta

from manifests.errors import Problem
from manifests.model import TopicLevel
from workloads.kit.backoff import BackoffConfig
from workloads.kit.context import SecretName
from workloads.kit.deadband import Deadband
from workloads.kit.deadband import mistakes as deadband_mistakes
from workloads.kit.opcua import Security, ServerUrl, mistakes
from workloads.kit.service import KitConfig

WHERE = "config"
Address = Annotated[str, Meta(min_length=1, max_length=1024)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pass


class Place(_Part, frozen=True):
    """Where in the plant: the levels of the topic below the site."""

    area: TopicLevel
    line: TopicLevel
    asset: TopicLevel


class NodeConfig(_Part, frozen=True):
    """One variable: ``node`` is a NodeId (``ns=2;s=Press.Force``, or ``nsu=<uri>;s=...`` which survives a server whose
    namespaces change places) or a browse path from Objects (``2:Press/2:Ram/2:Force``). Unit and band are read from
    the server where they are left out."""

    name: TopicLevel
    node: Address
    unit: Annotated[str, Meta(max_length=32)] | None = None
    description: Annotated[str, Meta(max_length=500)] = ""
    deadband: float | Deadband | None = None
    low: float | None = None
    high: float | None = None
    place: Place | None = None


class Browse(_Part, frozen=True):
    """A whole subtree: every scalar variable below ``root``, named by its path with dots (``Ram.Position``)."""

    root: Address
    depth: Annotated[int, Meta(ge=1, le=20)] = 10
    include: tuple[str, ...] = ("*",)  # glob patterns on the dotted name
    exclude: tuple[str, ...] = ()
    max_tags: Annotated[int, Meta(ge=1, le=20_000)] = 5_000
    deadband_percent: Annotated[float, Meta(ge=0, le=100)] = 0.0  # of each variable's EURange
    place: Place | None = None


class Endpoint(_Part, frozen=True):
    """One OPC UA server. Intervals in ms."""

    name: Annotated[str, Meta(min_length=1, max_length=63)]
    url: ServerUrl
    place: Place
    nodes: Annotated[tuple[NodeConfig, ...], Meta(max_length=20_000)] = ()
    browse: tuple[Browse, ...] = ()
    publishing_interval_ms: Annotated[int, Meta(ge=50, le=60_000)] = 500
    sampling_interval_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = None  # None: as often as published
    queue_size: Annotated[int, Meta(ge=1, le=1000)] = 10
    timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 4000
    backoff: BackoffConfig = BackoffConfig()
    security: Security | None = None
    username: str = ""
    password: str = ""  # readable by whoever reads the configuration: better a secret
    password_secret: SecretName = ""


class OpcuaConfig(KitConfig, frozen=True):
    endpoints: Annotated[tuple[Endpoint, ...], Meta(min_length=1, max_length=50)]
    max_silence_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 60_000


def check(config: OpcuaConfig) -> list[Problem]:
    """Every contradiction between fields, in reading order."""
    problems: list[Problem] = []
    for name, count in Counter(endpoint.name for endpoint in config.endpoints).items():
        if count > 1:
            problems.append(Problem(WHERE, "endpoints", f'{count} endpoints are named "{name}"'))
    topics: dict[tuple[Place, str], str] = {}
    for e, endpoint in enumerate(config.endpoints):
        base = f"endpoints[{e}]"
        if endpoint.backoff.max_ms < endpoint.backoff.min_ms:
            problems.append(Problem(WHERE, f"{base}.backoff", "maxMs is smaller than minMs"))
        if not endpoint.nodes and not endpoint.browse:
            what = "nothing to read"
            problems.append(Problem(WHERE, base, what, "give nodes, or browse with a root"))
        problems += [
            Problem(WHERE, f"{base}.{key}", what, hint) for key, what, hint in mistakes(endpoint.security, endpoint)
        ]
        for n, each in enumerate(endpoint.nodes):
            path = f"{base}.nodes[{n}]"
            key = (each.place or endpoint.place, each.name)
            if key in topics:
                what = f'"{each.name}" has the same topic as {topics[key]}'
                problems.append(Problem(WHERE, f"{path}.name", what, "give one of them another name or place"))
            topics.setdefault(key, path)
            if not isinstance(each.deadband, Deadband) or each.deadband.percent is None:
                found = deadband_mistakes(each.deadband, each.low, each.high)
            else:  # a percent deadband may refer to the range the server tells
                found = [] if 0 <= each.deadband.percent <= 100 else ["percent lies between 0 and 100"]
                if each.deadband.absolute is not None:
                    found.append("give either absolute or percent")
            problems.extend(Problem(WHERE, f"{path}.deadband", what) for what in found)
    return problems
