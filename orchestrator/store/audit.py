"""The audit log: who did what, when and why, in an append-only Merkle tree (``manifests.merkle``).

``events.add`` appends in the transaction of the act itself, so there is no act without its entry. Entries are text
that is hashed as it stands; nothing here changes or deletes one, and triggers refuse whoever tries by accident.
Retention leaves this table alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, func, insert, select, text

from manifests import merkle
from manifests.audit import AuditEntry, TreeHead, entry_text
from orchestrator.store.tables import audit_entry, audit_node

_LOCK = 736575  # PostgreSQL: those who append take turns until their transaction ends


@dataclass(frozen=True, slots=True)
class StoredEntry:
    number: int
    entry: str


def append(conn: Connection, said: AuditEntry) -> int:
    """The entry's number, from 0."""
    if conn.dialect.name != "sqlite":
        conn.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    number = size(conn)
    line = entry_text(msgspec.structs.replace(said, number=number))
    row = {"number": number, "at_ns": said.at_ns, "kind": said.kind, "actor": said.actor, "site": said.site}
    conn.execute(insert(audit_entry).values(entry=line, **row))
    made = merkle.append(number, merkle.leaf_hash(line.encode()), lambda level, index: _node(conn, level, index))
    rows = [{"level": node.level, "position": node.index, "hash": node.hash} for node in made]
    conn.execute(insert(audit_node), rows)
    return number


def size(conn: Connection) -> int:
    newest = conn.execute(select(func.max(audit_entry.c.number))).scalar_one_or_none()
    return 0 if newest is None else int(newest) + 1


def head(conn: Connection, entries: int | None = None) -> TreeHead:
    """Of the first ``entries``; of all without. Raises ValueError when there are fewer."""
    known = size(conn)
    wanted = known if entries is None else entries
    if not 0 <= wanted <= known:
        raise ValueError(f"there are {known} entries, not {wanted}")
    found = merkle.root(wanted, lambda level, index: _node(conn, level, index))
    return TreeHead(size=wanted, root=found.hex())


def inclusion(conn: Connection, number: int, entries: int) -> tuple[bytes, ...]:
    """Raises ValueError when the entry is not among the first ``entries``."""
    known = size(conn)
    if entries > known:
        raise ValueError(f"there are {known} entries, not {entries}")
    return merkle.inclusion_proof(number, entries, lambda level, index: _node(conn, level, index))


def consistency(conn: Connection, old: int, new: int) -> tuple[bytes, ...]:
    """Raises ValueError unless 0 <= old <= new."""
    return merkle.consistency_proof(old, new, lambda level, index: _node(conn, level, index))


def listed(
    conn: Connection, *, first: int = 0, limit: int = 200, site: str | None = None, newest_first: bool = False
) -> list[StoredEntry]:
    query = select(audit_entry.c.number, audit_entry.c.entry).limit(limit)
    if newest_first:
        query = query.order_by(audit_entry.c.number.desc())
    else:
        query = query.where(audit_entry.c.number >= first).order_by(audit_entry.c.number)
    if site is not None:
        query = query.where(audit_entry.c.site == site)
    return [StoredEntry(*row) for row in conn.execute(query)]


def everything(conn: Connection, end: int, batch: int = 500) -> Iterator[StoredEntry]:
    """Entries 0 to ``end`` - 1, a batch at a time."""
    for first in range(0, end, batch):
        yield from (one for one in listed(conn, first=first, limit=batch) if one.number < end)


def _node(conn: Connection, level: int, position: int) -> bytes:
    query = select(audit_node.c.hash).where(audit_node.c.level == level, audit_node.c.position == position)
    return bytes(conn.execute(query).scalar_one())
