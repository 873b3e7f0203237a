"""Applied generations: the documents as sent, and the desired state of every site worked out of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select

from manifests.model import DesiredState
from orchestrator.store import only
from orchestrator.store.tables import desired, generation, site

_state = msgspec.json.Decoder(DesiredState)


@dataclass(frozen=True, slots=True)
class Generation:
    number: int
    applied_ns: int
    applied_by: str
    reason: str
    enterprise: str
    documents: list[dict[str, Any]]
    sources: list[str]


def newest_number(conn: Connection) -> int:
    """0 when nothing was applied yet."""
    return int(conn.execute(select(func.coalesce(func.max(generation.c.number), 0))).scalar_one())


def add(
    conn: Connection,
    number: int,
    states: Mapping[str, DesiredState],
    *,
    documents: Sequence[Mapping[str, Any]],
    sources: Sequence[str],
    enterprise: str,
    by: str,
    reason: str,
    now_ns: int,
) -> None:
    conn.execute(
        insert(generation).values(
            number=number,
            applied_ns=now_ns,
            applied_by=by,
            reason=reason,
            enterprise=enterprise,
            documents=json.dumps(list(documents)),
            sources=json.dumps(list(sources)),
        )
    )
    rows = [{"generation": number, "site": s, "state": msgspec.json.encode(d)} for s, d in states.items()]
    if rows:
        conn.execute(insert(desired), rows)


def get(conn: Connection, number: int) -> Generation | None:
    row = conn.execute(select(generation).where(generation.c.number == number)).one_or_none()
    if row is None:
        return None
    fields = dict(row._mapping)
    fields["documents"] = json.loads(fields["documents"])
    fields["sources"] = json.loads(fields["sources"])
    return Generation(**fields)


def desired_states(conn: Connection, number: int, chosen: Collection[str] | None = None) -> dict[str, DesiredState]:
    """What a generation says of the chosen sites, or of all."""
    query = only(select(desired.c.site, desired.c.state).where(desired.c.generation == number), desired.c.site, chosen)
    return {r.site: _state.decode(r.state) for r in conn.execute(query)}


def desired_state(conn: Connection, number: int, site: str) -> DesiredState | None:
    query = select(desired.c.state).where(desired.c.generation == number, desired.c.site == site)
    content = conn.execute(query).scalar_one_or_none()
    return None if content is None else _state.decode(content)


def assigned_states(conn: Connection, chosen: Collection[str] | None = None) -> dict[str, DesiredState]:
    """What each site, of the chosen ones or of all, was told to run."""
    query = select(desired.c.site, desired.c.state).join(
        site, (site.c.name == desired.c.site) & (site.c.assigned_generation == desired.c.generation)
    )
    return {r.site: _state.decode(r.state) for r in conn.execute(only(query, desired.c.site, chosen))}
