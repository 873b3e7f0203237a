"""Live parameters that operators have set, per site and instance: they lie over whatever the fleet says."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select

from orchestrator.store import only, upsert
from orchestrator.store.tables import parameter

Overlay = dict[str, dict[str, Any]]  # instance -> name -> value


@dataclass(frozen=True, slots=True)
class StoredParameter:
    site: str
    instance: str
    name: str
    value: Any
    set_ns: int
    set_by: str
    why: str


def of_site(conn: Connection, site: str) -> list[StoredParameter]:
    query = select(parameter).where(parameter.c.site == site).order_by(parameter.c.instance, parameter.c.name)
    return [StoredParameter(**{**row._mapping, "value": json.loads(row.value)}) for row in conn.execute(query)]


def overlays(conn: Connection, chosen: Collection[str] | None = None) -> dict[str, Overlay]:
    """By site; of the chosen sites, or of all."""
    found: dict[str, Overlay] = {}
    query = select(parameter.c.site, parameter.c.instance, parameter.c.name, parameter.c.value)
    for row in conn.execute(only(query, parameter.c.site, chosen)):
        found.setdefault(row.site, {}).setdefault(row.instance, {})[row.name] = json.loads(row.value)
    return found


def put(
    conn: Connection, site: str, instance: str, values: Mapping[str, Any], *, by: str, why: str, now_ns: int
) -> None:
    for name, value in sorted(values.items()):
        fields = {"value": json.dumps(value), "set_ns": now_ns, "set_by": by, "why": why}
        statement = upsert(conn, parameter).values(site=site, instance=instance, name=name, **fields)
        key = [parameter.c.site, parameter.c.instance, parameter.c.name]
        conn.execute(statement.on_conflict_do_update(index_elements=key, set_=fields))


def remove(conn: Connection, site: str, instance: str, names: Iterable[str]) -> None:
    for name in names:
        key = (parameter.c.site == site, parameter.c.instance == instance, parameter.c.name == name)
        conn.execute(delete(parameter).where(*key))
