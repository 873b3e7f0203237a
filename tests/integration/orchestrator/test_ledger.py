"""The ledger takes every frame exactly once, in order, whatever the line does; one test body over both databases."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select

from manifests import descriptor
from manifests.messages import MAX_BLOCK_BYTES, Frame, FrameKind, Tag, TagType
from orchestrator.ingest import Ingestor, prepare
from orchestrator.store import Store, history, ingest
from orchestrator.store.tables import block, gap, last_value, metadata, quarantine


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = Store(database)
    yield opened
    opened.close()


def take(store: Store, *frames: Frame, now_ns: int | None = None) -> ingest.Taken:
    with store.write() as conn:
        return ingest.take(conn, "hamburg", [prepare(f) for f in frames], now_ns or time.time_ns())


def take_and_die(store: Store, request: list[Frame]) -> None:
    try:
        with store.write() as conn:
            ingest.take(conn, "hamburg", [prepare(f) for f in request], 1)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


def chain_of(frames: list[Frame]) -> str:
    chain = bytes(32)
    for frame in frames:
        if frame.kind is FrameKind.SAMPLES:
            chain = hashlib.sha256(chain + hashlib.sha256(frame.payload).digest()).digest()
    return chain.hex()


def made(lab: Any, count: int, stream: str = "pump/data", incarnation: str = "i") -> list[Frame]:
    frames = [lab.descriptor(stream, incarnation, 1, [f"acme/{stream}/a", f"acme/{stream}/b"])]
    for seq in range(2, count + 1):
        frames.append(lab.samples(stream, incarnation, seq, [(0, seq * 1000, float(seq)), (1, seq * 1000, -1.0)]))
    return frames


def test_the_migrations_make_exactly_the_tables_the_code_uses(store: Store) -> None:
    with store.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []


@pytest.mark.parametrize("seed", range(4))
def test_random_duplication_reordering_and_rollback_lose_and_double_nothing(store: Store, lab: Any, seed: int) -> None:
    dice = random.Random(seed)
    sources = {name: made(lab, 40, stream=name) for name in ("pump/data", "press/data")}
    marks = dict.fromkeys(sources, 0)
    for _ in range(2000):
        if all(mark == 40 for mark in marks.values()):
            break
        request: list[Frame] = []
        for name, frames in sources.items():
            start = max(0, marks[name] - dice.randint(0, 5))
            part = frames[start : start + dice.randint(0, 8)]
            if dice.random() < 0.3:
                dice.shuffle(part)
            if dice.random() < 0.2 and part:
                part.append(dice.choice(part))
            if dice.random() < 0.2:
                part += frames[start + 20 : start + 22]  # beyond what is due
            request += part
        if dice.random() < 0.3:  # the process dies before the commit: no mark, no block
            take_and_die(store, request)
            continue
        taken = take(store, *request)
        if dice.random() < 0.3:
            continue  # the answer is lost: the sender does not learn the marks
        for mark in taken.marks:
            marks[mark.stream] = max(marks[mark.stream], mark.seq)
    with store.read() as conn:
        for found in ingest.streams(conn, "hamburg"):
            assert (found.mark, found.samples, found.gaps) == (40, 78, 0)
            assert found.chain == chain_of(sources[found.stream])
            seqs = conn.scalars(select(block.c.seq).where(block.c.stream_id == found.id).order_by(block.c.seq)).all()
            assert list(seqs) == list(range(2, 41))


def test_a_frame_beyond_the_mark_is_not_taken(store: Store, lab: Any) -> None:
    frames = made(lab, 5)
    assert take(store, frames[0], frames[3]).marks[0].seq == 1
    assert take(store, frames[3], frames[1], frames[2], frames[3]).marks[0].seq == 4


def test_a_gap_is_counted_without_what_was_delivered_before_it_was_dropped(store: Store, lab: Any) -> None:
    frames = made(lab, 4)
    take(store, *frames)
    lost = Frame(
        stream="pump/data", incarnation="i", seq=3, last_seq=10, kind=FrameKind.GAP, count=16, reason="buffer full"
    )
    assert take(store, lost).marks[0].seq == 10
    assert take(store, lost).duplicates == 1
    with store.read() as conn:
        (found,) = ingest.streams(conn, "hamburg")
        assert (found.gaps, found.lost_samples, found.samples) == (1, 12, 6)
        row = conn.execute(select(gap)).one()
        assert (row.seq, row.last_seq, row.count, row.reason) == (5, 10, 12, "buffer full")


@pytest.mark.parametrize(
    "broken",
    [
        Frame(stream="pump/data", incarnation="i", seq=2, kind=FrameKind.SAMPLES, payload=b"rubbish", count=3),
        Frame(stream="pump/data", incarnation="i", seq=2, kind=FrameKind.DESCRIPTOR, payload=b"{]"),
        Frame(stream="pump/data", incarnation="i", seq=2, kind=FrameKind.GAP, last_seq=1),
        Frame(stream="pump/data", incarnation="i", seq=2, kind=FrameKind.GAP, last_seq=2**63),
        "unknown tag",
    ],
)
def test_a_bad_frame_goes_to_quarantine_and_the_stream_goes_on(store: Store, lab: Any, broken: Any) -> None:
    if broken == "unknown tag":
        broken = lab.samples("pump/data", "i", 2, [(99, 5, 1.0)])
    frames = made(lab, 3)
    taken = take(store, frames[0], broken, frames[2])
    assert taken.marks[0].seq == 3
    assert len(taken.quarantined) == 1
    with store.read() as conn:
        row = conn.execute(select(quarantine)).one()
        assert row.payload == broken.payload
        assert row.reason
        assert ingest.streams(conn, "hamburg")[0].bad_frames == 1


def test_the_newest_value_wins_except_against_a_time_far_ahead(store: Store, lab: Any) -> None:
    now = 10**18
    take(store, lab.descriptor("p/d", "i", 1, ["a"]), lab.samples("p/d", "i", 2, [(0, now, 1.0)]), now_ns=now)
    take(store, lab.samples("p/d", "i", 3, [(0, now - 5, 2.0)]), now_ns=now)
    with store.read() as conn:
        assert history.last_values(conn, "hamburg")[0].value == 1.0
    take(store, lab.samples("p/d", "i", 4, [(0, 2 * 10**18, 3.0)]), now_ns=now)
    take(store, lab.samples("p/d", "i", 5, [(0, now + 1, 4.0)], quality=0), now_ns=now)
    with store.read() as conn:
        (found,) = history.last_values(conn, "hamburg")
        assert (found.value, found.quality, found.ts_ns) == (4.0, 0, now + 1)


def test_a_new_incarnation_starts_at_one_and_keeps_the_tags(store: Store, lab: Any) -> None:
    take(store, *made(lab, 3))
    take(store, *made(lab, 3, incarnation="j"))
    with store.read() as conn:
        assert [(s.incarnation, s.mark) for s in ingest.streams(conn, "hamburg")] == [("i", 3), ("j", 3)]
        assert len(history.tags(conn, "hamburg")) == 2
        assert conn.execute(select(func.count()).select_from(last_value)).scalar_one() == 2
        delivered = ingest.deliveries(conn, ["hamburg"])["hamburg"]
        assert [(k[1], d.tags, d.good_tags) for k, d in delivered.items()] == [("j", 2, 2)]


def test_a_tag_number_reused_by_a_later_descriptor_means_the_new_tag(store: Store, lab: Any) -> None:
    take(store, lab.descriptor("p/d", "i", 1, ["old"]), lab.samples("p/d", "i", 2, [(0, 100, 1.0)]))
    take(store, lab.descriptor("p/d", "i", 3, ["new"]), lab.samples("p/d", "i", 4, [(0, 200, 2.0)]))
    with store.read() as conn:
        for topic, expected in (("old", [100]), ("new", [200])):
            tag = history.find_tag(conn, "hamburg", topic)
            assert tag is not None
            from orchestrator.history import collect

            assert collect(history.blocks(conn, [tag.id], 0, 999), 0, 999)[tag.id].ts.tolist() == expected


def test_many_requests_at_once_share_commits_and_all_get_their_marks(store: Store, lab: Any) -> None:
    heard: list[str] = []
    ingestor = Ingestor(store, time.time_ns, lambda site, _taken: heard.append(site))
    answers = [ingestor.put(f"site{i}", made(lab, 5)) for i in range(40)]
    assert [a.result(30).marks[0].seq for a in answers] == [5] * 40
    ingestor.close()
    assert len(heard) == 40


def test_a_sender_that_hangs_up_does_not_stop_the_ingest(store: Store, lab: Any) -> None:
    def broken(_site: str, _taken: ingest.Taken) -> None:
        raise RuntimeError("the listener fell over")

    ingestor = Ingestor(store, time.time_ns, broken)
    for number in range(30):
        ingestor.put(f"gone{number}", made(lab, 3)).cancel()
    assert ingestor.put("hamburg", made(lab, 3)).result(30).marks[0].seq == 3
    assert ingestor.put("hamburg", made(lab, 4)).result(30).marks[0].seq == 4
    ingestor.close()


def test_gaps_whose_counts_no_sum_can_hold_do_not_stop_the_stream(store: Store, lab: Any) -> None:
    take(store, made(lab, 1)[0])
    for first in (2, 12):
        lost = Frame(
            stream="pump/data", incarnation="i", seq=first, last_seq=first + 9, kind=FrameKind.GAP, count=2**62,
            first_ns=-(2**62), last_ns=2**63 - 1, reason="full",
        )  # fmt: skip
        assert take(store, lost).marks[0].seq == first + 9
    with store.read() as conn:
        (found,) = ingest.streams(conn, "hamburg")
    assert (found.gaps, found.bad_frames) == (2, 0)


def test_a_frame_the_database_refuses_goes_to_quarantine_and_the_rest_is_taken(store: Store, lab: Any) -> None:
    if not store.sqlite:
        pytest.skip("the refusal is made with a trigger of SQLite")
    with store.write() as conn:
        conn.exec_driver_sql(
            "CREATE TRIGGER picky BEFORE INSERT ON block WHEN NEW.seq = 3 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    ingestor = Ingestor(store, time.time_ns, lambda _site, _taken: None)
    try:
        other = ingestor.put("leipzig", made(lab, 3, stream="press/data")[:2])
        taken = ingestor.put("hamburg", made(lab, 6)).result(20)
        assert other.result(20).marks[0].seq == 2
    finally:
        ingestor.close()
    assert taken.marks[0].seq == 6
    assert [seq for _, seq, _ in taken.quarantined] == [3]
    with store.read() as conn:
        assert list(conn.scalars(select(quarantine.c.seq))) == [3]


def test_a_topic_too_long_for_an_index_goes_to_quarantine(store: Store, lab: Any) -> None:
    taken = take(store, lab.descriptor("pump/data", "i", 1, ["\U0001d11e" * 1000]))
    assert taken.marks[0].seq == 1
    assert len(taken.quarantined) == 1


def test_a_dictionary_of_twenty_thousand_tags_fits_into_one_frame(store: Store, lab: Any) -> None:
    tags = tuple(
        Tag(
            id=n,
            topic=f"acme/hamburg/area-{n % 7}/line-{n % 31}/asset-{n % 501}/measurement_{n}_{n * 7919 % 104729}",
            type=TagType.FLOAT,
            unit="mm/s",
            description=f"Vibration velocity of bearing {n}, drive end",
            source=f"ns=4;s=Machine{n % 501}.Drive.Bearing{n}.Velocity",
        )
        for n in range(20_000)
    )
    payload = descriptor.encode(tags)
    assert len(payload) <= MAX_BLOCK_BYTES
    first = Frame(stream="press/data", incarnation="i", seq=1, kind=FrameKind.DESCRIPTOR, payload=payload)
    assert take(store, first).quarantined == []
    data = lab.samples("press/data", "i", 2, [(19_999, 2000, 1.5)])
    assert take(store, data).samples == 1


def test_a_packed_descriptor_that_never_ends_is_refused(store: Store) -> None:
    bomb = zstandard.ZstdCompressor().compress(b" " * (descriptor.MAX_UNPACKED_BYTES + 1))
    taken = take(store, Frame(stream="a/b", incarnation="i", seq=1, kind=FrameKind.DESCRIPTOR, payload=bomb))
    assert "larger than allowed" in taken.quarantined[0][2]
