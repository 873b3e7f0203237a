"""Secrets of instances, as ciphertext: only the node each was sealed for can open it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, delete, select

from manifests.model import DesiredState, PlacedInstance, SealedSecret
from orchestrator.store import only, upsert
from orchestrator.store.tables import secret

_sealed = msgspec.json.Decoder(SealedSecret)


@dataclass(frozen=True, slots=True)
class StoredSecret:
    site: str
    instance: str
    node: str
    sealed: SealedSecret
    set_ns: int
    set_by: str
    why: str


def of_sites(conn: Connection, chosen: Collection[str] | None = None) -> list[StoredSecret]:
    query = only(select(secret).order_by(secret.c.site, secret.c.instance, secret.c.name), secret.c.site, chosen)
    return [
        StoredSecret(r.site, r.instance, r.node, _sealed.decode(r.sealed), r.set_ns, r.set_by, r.why)
        for r in conn.execute(query)
    ]


def put(conn: Connection, one: StoredSecret) -> None:
    fields = {
        "node": one.node,
        "sealed": msgspec.json.encode(one.sealed).decode(),
        "set_ns": one.set_ns,
        "set_by": one.set_by,
        "why": one.why,
    }
    statement = upsert(conn, secret).values(site=one.site, instance=one.instance, name=one.sealed.name, **fields)
    key = [secret.c.site, secret.c.instance, secret.c.name]
    conn.execute(statement.on_conflict_do_update(index_elements=key, set_=fields))


def remove(conn: Connection, site: str, instance: str, name: str) -> None:
    conn.execute(delete(secret).where(secret.c.site == site, secret.c.instance == instance, secret.c.name == name))


def lay_in(conn: Connection, states: Mapping[str, DesiredState]) -> dict[str, DesiredState]:
    """The states, by site, with each instance's secrets, as far as they were sealed for the node that runs it."""
    known: dict[tuple[str, str, str], list[SealedSecret]] = {}
    for one in of_sites(conn, states):
        known.setdefault((one.site, one.instance, one.node), []).append(one.sealed)
    replace = msgspec.structs.replace

    def sealed(site: str, item: PlacedInstance) -> PlacedInstance:
        found = known.get((site, item.instance.name, item.instance.node))
        return replace(item, instance=replace(item.instance, secrets=tuple(found))) if found else item

    return {
        site: replace(state, instances=tuple(sealed(site, item) for item in state.instances))
        for site, state in states.items()
    }
