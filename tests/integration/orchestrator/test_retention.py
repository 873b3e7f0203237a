"""What is older than people want to keep goes, in batches; what makes a frame a duplicate stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select

from manifests.messages import Frame, FrameKind, Severity
from orchestrator.ingest import prepare
from orchestrator.retention import DAY_NS, forget_old
from orchestrator.store import Store, events, ingest, retention, sites
from orchestrator.store.tables import block, enrol_token, event, gap

NOW_NS = 1_800_000_000 * 10**9


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = Store(database)
    yield opened
    opened.close()


def take(store: Store, at_ns: int, *frames: Frame) -> ingest.Taken:
    with store.write() as conn:
        return ingest.take(conn, "hamburg", [prepare(frame) for frame in frames], at_ns)


def count(store: Store, table: Any) -> int:
    with store.read() as conn:
        return int(conn.execute(select(func.count()).select_from(table)).scalar_one())


def fill(store: Store, lab: Any, monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    monkeypatch.setattr(retention, "BATCH", 3)
    frames = [lab.descriptor("pump/data", "i", 1, ["acme/a"])]
    frames += [lab.samples("pump/data", "i", seq, [(0, 2**61, 1.0)]) for seq in range(2, 12)]  # a clock far ahead
    lost = Frame(stream="pump/data", incarnation="i", seq=12, last_seq=14, kind=FrameKind.GAP, count=3, reason="full")
    take(store, NOW_NS - 40 * DAY_NS, *frames, lost)
    take(store, NOW_NS - DAY_NS, lab.samples("pump/data", "i", 15, [(0, 1000, 1.0)]))  # a clock in 1970
    return frames


def test_old_rows_go_in_batches_and_young_ones_stay(
    store: Store, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    frames = fill(store, lab, monkeypatch)
    with store.write() as conn:
        for days in (40, 1, 400):
            events.add(conn, NOW_NS - days * DAY_NS, Severity.INFO, "old", "text")
            events.add(conn, NOW_NS - days * DAY_NS, Severity.SECURITY, "old", "text")
        sites.add_token(conn, "h", "s", "n", by="t", now_ns=1, expires_ns=2)
    told: list[tuple[str, int]] = []
    gone = forget_old(store, 30, NOW_NS, lambda table, rows: told.append((table, rows)), between_s=0)
    assert (count(store, block), count(store, gap), count(store, event), count(store, enrol_token)) == (1, 0, 3, 0)
    assert [rows for table, rows in told if table == "block"] == [3, 3, 3, 1]
    assert gone == sum(rows for _, rows in told) == 10 + 1 + 3 + 1
    assert forget_old(store, 30, NOW_NS, lambda _table, _rows: None, between_s=0) == 0
    again = take(store, NOW_NS, *frames)  # the mark is still known: nothing comes twice
    assert (again.frames, again.duplicates) == (0, len(frames))


def test_keeping_for_ever_deletes_nothing(store: Store, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, lab, monkeypatch)
    assert forget_old(store, 0, NOW_NS, lambda _table, _rows: None) == 0
    assert count(store, block) == 11
