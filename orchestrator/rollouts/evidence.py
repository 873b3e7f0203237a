"""What is known of a site, as the store reads it and the gate weighs it: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manifests.messages import StatusReport


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The last report of a node. ``received_ns`` and ``online_since_ns`` are of the centre's clock."""

    site: str
    node: str
    report: StatusReport
    received_ns: int
    online_since_ns: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the newest incarnation of a stream delivers."""

    incarnation: str
    received_ns: int | None
    last_ns: int | None
    tags: int
    good_tags: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """``heard_ns``: when each enrolled node was last heard of. ``deliveries``: (stream, incarnation) -> how."""

    enrolled: frozenset[str]
    heard_ns: Mapping[str, int]
    reports: Mapping[str, NodeReport]
    deliveries: Mapping[tuple[str, str], Delivery]
