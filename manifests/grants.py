"""Which writes do the signed grants of a release allow? Pure; for workloads that drive outputs.

A workload asks before it opens a line to a device, with the writes its configuration wants: the configuration comes
from whoever runs the orchestrator, the grants from whoever signed the release. Nothing granted means nothing written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from manifests.errors import Problem
from manifests.model import WriteGrant

_RANGE = re.compile(r"^(.*?)(\d{1,10})-(\d{1,10})$")
_NUMBERED = re.compile(r"^(.*?)(\d{1,10})$")


@dataclass(frozen=True, slots=True)
class Write:
    """One point a configuration wants to write; ``path`` is where the configuration says so."""

    protocol: str
    target: str
    point: str
    path: str = ""


def allows(grant: WriteGrant, write: Write) -> bool:
    if (grant.protocol, grant.target) != (write.protocol, write.target):
        return False
    return any(_covers(pattern, write.point) for pattern in grant.points)


def _covers(pattern: str, point: str) -> bool:
    if pattern.endswith("*"):
        return point.startswith(pattern[:-1])
    wanted, numbered = _RANGE.match(pattern), _NUMBERED.match(point)
    if wanted and numbered and wanted[1] == numbered[1] and int(wanted[2]) <= int(numbered[2]) <= int(wanted[3]):
        return True
    return pattern == point


def ungranted(writes: Iterable[Write], grants: Sequence[WriteGrant], *, where: str = "config") -> list[Problem]:
    """One problem per write that no grant allows; empty when all are granted."""
    hint = "writes are granted in the signed release (spec.writes); now: " + ("; ".join(map(str, grants)) or "none")
    return [
        Problem(where, write.path, f"no grant to write {write.protocol} {write.target} {write.point}", hint)
        for write in writes
        if not any(allows(grant, write) for grant in grants)
    ]
