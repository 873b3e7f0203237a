"""Forgetting what is older than people want to keep, a batch per call, so that ingest never waits long for the lock.

Age counts from when the centre received something, not from the time it carries: a device whose clock shows 1970 must
not lose its history on arrival, one that shows 2100 must not keep it for ever. Marks of streams are never forgotten:
they are what makes a frame that comes again a duplicate.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Table, delete, select

from manifests.messages import Severity
from orchestrator.store.tables import block, certificate, enrol_token, event, gap, quarantine, stream

BATCH = 500  # rows: some MB of blocks, well under a second
SECURITY_FACTOR = 10  # who enrolled and who failed to log in is asked for long after the measurements
OF_STREAMS: Sequence[Table] = (block, gap, quarantine)


def streams(conn: Connection, before_ns: int) -> list[int]:
    """Streams that may hold something received before then."""
    return list(conn.scalars(select(stream.c.id).where(stream.c.created_ns < before_ns).order_by(stream.c.id)))


def has_old_frames(conn: Connection, table: Table, stream_id: int, before_ns: int) -> bool:
    query = select(table.c.received_ns).where(table.c.stream_id == stream_id).order_by(table.c.seq).limit(1)
    oldest_ns = conn.execute(query).scalar_one_or_none()
    return oldest_ns is not None and oldest_ns < before_ns


def forget_frames(conn: Connection, table: Table, stream_id: int, before_ns: int) -> int:
    """The oldest rows of one stream; frames arrive in order, so the first that is young ends the search."""
    oldest = (
        select(table.c.seq, table.c.received_ns)
        .where(table.c.stream_id == stream_id)
        .order_by(table.c.seq)
        .limit(BATCH)
    )
    last: int | None = None
    for seq, received_ns in conn.execute(oldest):
        if received_ns >= before_ns:
            break
        last = seq
    if last is None:
        return 0
    return conn.execute(delete(table).where(table.c.stream_id == stream_id, table.c.seq <= last)).rowcount


def forget_events(conn: Connection, before_ns: int, security_before_ns: int) -> int:
    security = event.c.severity == Severity.SECURITY.value
    old = (~security & (event.c.at_ns < before_ns)) | (security & (event.c.at_ns < security_before_ns))
    chosen = list(conn.scalars(select(event.c.id).where(old).order_by(event.c.id).limit(BATCH)))
    return conn.execute(delete(event).where(event.c.id.in_(chosen))).rowcount if chosen else 0


def forget_credentials(conn: Connection, before_ns: int) -> int:
    """Enrolment tokens that ran out and certificates that were revoked long ago; neither opens anything any more."""
    tokens = conn.execute(delete(enrol_token).where(enrol_token.c.expires_ns < before_ns)).rowcount
    return tokens + conn.execute(delete(certificate).where(certificate.c.revoked_ns < before_ns)).rowcount
