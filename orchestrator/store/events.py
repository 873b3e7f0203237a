"""Events: what happened at sites and at the centre, in order; those of agents exactly once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from manifests.audit import AuditEntry
from manifests.messages import Event, Severity
from orchestrator.store import audit, upsert
from orchestrator.store.tables import event, event_seen

NUL = "\x00"  # PostgreSQL refuses it in text
# What sites report of this kind is an act or a matter of trust even without a name beside it.
AUDITED = ("trust-", "certificate-", "consent", "hold", "force", "unforce", "secret-", "parameters-", "conduit-")


@dataclass(frozen=True, slots=True)
class StoredEvent:
    id: int
    at_ns: int
    site: str | None
    node: str | None
    severity: str
    kind: str
    subject: str
    text: str
    actor: str | None


def add(
    conn: Connection,
    now_ns: int,
    severity: Severity,
    kind: str,
    text: str,
    *,
    subject: str = "",
    site: str | None = None,
    node: str | None = None,
    actor: str | None = None,
    reported_ns: int | None = None,
) -> StoredEvent:
    """Something that happened at the centre; or at a site, which reported it at ``reported_ns`` of our clock."""
    fields = {
        "at_ns": now_ns,
        "site": site,
        "node": node,
        "severity": severity.value,
        "kind": kind,
        "subject": subject.replace(NUL, "")[:1000],
        "text": text.replace(NUL, "")[:4000],
        "actor": actor,
    }
    (number,) = conn.execute(insert(event).values(fields).returning(event.c.id)).one()
    stored = StoredEvent(id=number, **fields)  # type: ignore[arg-type]  # the same names, spelt once above
    if is_audited(kind, severity, actor):
        _audit(conn, stored, reported_ns)
    return stored


def is_audited(kind: str, severity: Severity, actor: str | None) -> bool:
    """Acts of people, whatever touches trust, and what sites say about either."""
    return actor is not None or severity is Severity.SECURITY or kind.startswith(AUDITED)


def _audit(conn: Connection, stored: StoredEvent, reported_ns: int | None) -> None:
    audit.append(
        conn,
        AuditEntry(
            at_ns=stored.at_ns if reported_ns is None else reported_ns,
            kind=stored.kind,
            actor=stored.actor,
            site=stored.site,
            node=stored.node,
            subject=stored.subject,
            text=stored.text,
            severity=stored.severity,
            reported=reported_ns is not None,
            happened_ns=0 if reported_ns is None else stored.at_ns,
        ),
    )


def add_reported(
    conn: Connection, site: str, node: str, incarnation: str, reported: Sequence[Event], now_ns: int
) -> tuple[int, list[StoredEvent]]:
    """Store what an agent reported and was not stored yet; gives the highest number stored and the new ones."""
    key = (event_seen.c.site == site, event_seen.c.node == node, event_seen.c.incarnation == incarnation)
    first = {"site": site, "node": node, "incarnation": incarnation, "seq": 0}
    conn.execute(upsert(conn, event_seen).values(first).on_conflict_do_nothing())
    seen = conn.execute(select(event_seen.c.seq).where(*key).with_for_update()).scalar_one()
    stored = []
    for item in sorted(reported, key=lambda e: e.seq):
        if not seen < item.seq < 2**62:
            continue
        at_ns = min(max(item.at_ns, 0), 2**62)
        stored.append(
            add(conn, at_ns, item.severity, item.kind.replace(NUL, "")[:100], item.text,
                subject=item.subject, site=site, node=node, reported_ns=now_ns)
        )  # fmt: skip
        seen = item.seq
    if stored:
        conn.execute(update(event_seen).where(*key).values(seq=seen))
    return seen, stored


def newest(
    conn: Connection,
    *,
    site: str | None = None,
    limit: int = 100,
    before: int | None = None,
    seen: Collection[str] | None = None,
) -> list[StoredEvent]:
    """``seen``: only those of these sites."""
    query = select(event).order_by(event.c.id.desc()).limit(limit)
    if site is not None:
        query = query.where(event.c.site == site)
    if seen is not None:
        query = query.where(event.c.site.in_(sorted(seen)))
    if before is not None:
        query = query.where(event.c.id < before)
    return [StoredEvent(**row._mapping) for row in conn.execute(query)]


def after(conn: Connection, number: int, limit: int = 200) -> list[StoredEvent]:
    """Events newer than ``number``, oldest first."""
    query = select(event).where(event.c.id > number).order_by(event.c.id).limit(limit)
    return [StoredEvent(**row._mapping) for row in conn.execute(query)]
