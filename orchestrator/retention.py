"""Keeps the database from growing for ever: hourly, what is older than ``--keep-days`` is deleted in small batches.

Called by ``app``. It refuses to touch what the ledger of streams needs: marks and chains stay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from orchestrator.store import Store, retention

DAY_NS = 86_400 * 10**9


def forget_old(
    store: Store,
    keep_days: int,
    now_ns: int,
    forgotten: Callable[[str, int], None],
    stopping: Callable[[], bool] = lambda: False,
    *,
    between_s: float = 0.02,
) -> int:
    """One pass; says how many rows went. ``keep_days`` 0 keeps everything. ``forgotten(table, rows)`` per batch.

    ``between_s``: a breath for those who wait for the lock.
    """
    if keep_days <= 0:
        return 0
    before_ns = now_ns - keep_days * DAY_NS
    security_ns = now_ns - retention.SECURITY_FACTOR * keep_days * DAY_NS
    pause = threading.Event()
    total = 0

    def told(table: str, rows: int) -> bool:
        nonlocal total
        total += rows
        if rows:
            forgotten(table, rows)
            pause.wait(between_s)
        return rows >= retention.BATCH and not stopping()

    with store.read() as conn:
        chosen = retention.streams(conn, before_ns)
    for stream_id in chosen:
        for table in retention.OF_STREAMS:
            if stopping():
                return total
            with store.read() as conn:  # most streams have nothing to forget: ask without the writers' lock
                if not retention.has_old_frames(conn, table, stream_id, before_ns):
                    continue
            more = True
            while more:
                with store.write() as conn:
                    rows = retention.forget_frames(conn, table, stream_id, before_ns)
                more = told(table.name, rows)
    more = True
    while more:
        with store.write() as conn:
            rows = retention.forget_events(conn, before_ns, security_ns)
        more = told("event", rows)
    with store.write() as conn:
        rows = retention.forget_credentials(conn, before_ns)
    told("credential", rows)
    return total
