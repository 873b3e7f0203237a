"""The store-and-forward buffer: what it took it keeps, once and in order; what it drops it counts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.buffer import FILE_NAME, OLD_LIFE_NS, RESERVE_NAME, Buffer, Refusal
from manifests.messages import Frame, FrameKind, StreamMark


def descriptor(stream: str = "m/data", incarnation: str = "a") -> Frame:
    return Frame(stream=stream, incarnation=incarnation, seq=1, kind=FrameKind.DESCRIPTOR, payload=b"{}")


def samples(seq: int, *, stream: str = "m/data", incarnation: str = "a", size: int = 1000, count: int = 10) -> Frame:
    return Frame(
        stream=stream,
        incarnation=incarnation,
        seq=seq,
        kind=FrameKind.SAMPLES,
        count=count,
        first_ns=seq * 1000,
        last_ns=seq * 1000 + 999,
        payload=seq.to_bytes(4, "big") * (size // 4),
    )


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    opened = Buffer(tmp_path, cap_bytes=1 << 20)
    yield opened
    opened.close()


def fill(buffer: Buffer, up_to: int, *, stream: str = "m/data", incarnation: str = "a", size: int = 1000) -> None:
    frames = [descriptor(stream, incarnation)]
    frames += [samples(n, stream=stream, incarnation=incarnation, size=size) for n in range(2, up_to + 1)]
    for result in buffer.append(frames, 1):
        assert isinstance(result, StreamMark)


def mark(seq: int, stream: str = "m/data", incarnation: str = "a") -> StreamMark:
    return StreamMark(stream=stream, incarnation=incarnation, seq=seq)


def test_frames_come_out_as_they_went_in(buffer: Buffer) -> None:
    fill(buffer, 5)
    out = buffer.batch(64, 1 << 20)
    assert out == [descriptor(), *(samples(n) for n in range(2, 6))]


def test_a_repeated_frame_is_confirmed_and_not_stored_twice(buffer: Buffer) -> None:
    fill(buffer, 3)
    assert buffer.append([samples(2), samples(3)], 2) == [mark(3), mark(3)]
    assert buffer.status().frames == 3


def test_a_hole_is_refused_with_the_expected_number(buffer: Buffer) -> None:
    fill(buffer, 3)
    (result,) = buffer.append([samples(5)], 2)
    assert isinstance(result, Refusal)
    assert result.expected_seq == 4
    assert result.retryable


def test_a_life_must_begin_with_its_descriptor_or_a_gap(buffer: Buffer) -> None:
    first = Frame(stream="m/data", incarnation="x", seq=1, kind=FrameKind.SAMPLES, count=1, payload=b"x")
    (result,) = buffer.append([first], 1)
    assert isinstance(result, Refusal)
    assert not result.retryable
    gap = Frame(stream="m/data", incarnation="x", seq=1, last_seq=6, kind=FrameKind.GAP, count=3, reason="lost")
    assert buffer.append([gap, samples(7, incarnation="x")], 1) == [mark(6, incarnation="x"), mark(7, incarnation="x")]


def test_marks_survive_reopening_and_confirmation(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, 1 << 20)
    fill(buffer, 4)
    buffer.batch(64, 1 << 20)
    buffer.confirm([mark(4)], 2)
    buffer.close()
    again = Buffer(tmp_path, 1 << 20)
    assert again.marks([("m/data", "a"), ("m/data", "b")]) == [mark(4), mark(0, incarnation="b")]
    assert again.append([samples(4)], 3) == [mark(4)]
    assert again.batch(64, 1 << 20) == []
    again.close()


def test_confirmed_frames_are_gone_and_the_rest_stays(buffer: Buffer) -> None:
    fill(buffer, 6)
    buffer.batch(64, 1 << 20)
    assert buffer.confirm([mark(4)], 2) == 4
    assert [frame.seq for frame in buffer.batch(64, 1 << 20)] == [5, 6]


def test_over_the_cap_the_oldest_samples_become_one_counted_gap(buffer: Buffer) -> None:
    fill(buffer, 1000, size=4000)
    status = buffer.status()
    assert status.bytes <= status.cap_bytes
    frames = buffer.batch(10_000, 1 << 30)
    assert frames[0].kind is FrameKind.DESCRIPTOR
    gap = frames[1]
    assert gap.kind is FrameKind.GAP
    assert (gap.seq, gap.last_seq) == (2, frames[2].seq - 1)
    dropped = gap.last_seq - gap.seq + 1
    assert gap.count == dropped * 10 == status.dropped_samples
    assert status.dropped_frames == dropped
    assert [frame.seq for frame in frames[2:]] == list(range(gap.last_seq + 1, 1001))
    assert (gap.first_ns, gap.last_ns) == (2000, gap.last_seq * 1000 + 999)


def test_a_flood_pushes_out_its_own_samples_not_a_quiet_neighbours(buffer: Buffer) -> None:
    fill(buffer, 20, stream="quiet/data")
    fill(buffer, 2000, stream="flood/data", size=4000)
    quiet = [frame for frame in buffer.batch(10_000, 1 << 30) if frame.stream == "quiet/data"]
    assert [frame.kind for frame in quiet[1:]] == [FrameKind.SAMPLES] * 19


def test_frames_on_their_way_are_not_dropped(buffer: Buffer) -> None:
    fill(buffer, 100, size=4000)
    sent = buffer.batch(8, 1 << 20)
    for n in range(101, 600):
        buffer.append([samples(n, size=4000)], 2)
    again = buffer.batch(8, 1 << 20)
    assert again == sent


def test_descriptors_are_not_dropped_while_their_life_goes_on(buffer: Buffer) -> None:
    frame = Frame(stream="m/data", incarnation="a", seq=1, kind=FrameKind.DESCRIPTOR, payload=b"x" * 600_000)
    assert isinstance(buffer.append([frame], 1)[0], StreamMark)
    second = Frame(stream="m/data", incarnation="a", seq=2, kind=FrameKind.DESCRIPTOR, payload=b"x" * 600_000)
    (result,) = buffer.append([second], 1)
    assert isinstance(result, Refusal)
    assert result.retryable
    assert buffer.append([samples(2)], 1) == [mark(2)]


def test_weeks_of_crashing_lives_do_not_fill_the_buffer(buffer: Buffer) -> None:
    for life in range(500):
        frame = Frame(stream="m/data", incarnation=str(life), seq=1, kind=FrameKind.DESCRIPTOR, payload=bytes(10_000))
        assert isinstance(buffer.append([frame], life)[0], StreamMark)
    status = buffer.status()
    assert status.bytes <= status.cap_bytes
    assert status.frames == 500  # every life still accounts for its first number


def test_the_centre_ahead_moves_the_mark_up(buffer: Buffer) -> None:
    fill(buffer, 3)
    buffer.confirm([mark(9)], 2)
    assert buffer.append([samples(9), samples(10)], 3) == [mark(9), mark(10)]
    assert [frame.seq for frame in buffer.batch(64, 1 << 20)] == [10]


def test_the_centre_behind_gets_a_gap_for_what_is_no_longer_held(buffer: Buffer) -> None:
    fill(buffer, 6)
    buffer.confirm([mark(4)], 2)
    buffer.confirm([mark(2)], 3)
    gap, *rest = buffer.batch(64, 1 << 20)
    assert (gap.kind, gap.seq, gap.last_seq, gap.reason) == (FrameKind.GAP, 3, 4, "no-longer-held")
    assert [frame.seq for frame in rest] == [5, 6]


def test_the_centre_behind_an_empty_buffer_still_lets_later_frames_through(buffer: Buffer) -> None:
    fill(buffer, 6)
    buffer.confirm([mark(6)], 2)
    buffer.confirm([mark(2)], 3)
    buffer.append([samples(7)], 4)
    assert [frame.seq for frame in buffer.batch(64, 1 << 20)] == [7]
    buffer.confirm([mark(2)], 5)
    assert [(frame.seq, frame.end) for frame in buffer.batch(64, 1 << 20)] == [(3, 6), (7, 7)]


def test_lives_take_turns_so_that_a_backlog_does_not_starve_fresh_data(buffer: Buffer) -> None:
    fill(buffer, 500, stream="old/data")
    fill(buffer, 3, stream="fresh/data")
    out = buffer.batch(64, 1 << 20)
    assert len(out) == 64
    assert [frame.seq for frame in out if frame.stream == "fresh/data"] == [1, 2, 3]
    assert [frame.seq for frame in out if frame.stream == "old/data"] == list(range(1, 62))


def test_batches_keep_to_their_bytes_but_always_carry_one_frame(buffer: Buffer) -> None:
    fill(buffer, 10, size=100_000)
    assert sum(len(frame.payload) for frame in buffer.batch(64, 250_000)) <= 250_000
    buffer.confirm([mark(1)], 2)
    assert [frame.seq for frame in buffer.batch(64, 10)] == [2]


def test_lives_that_are_over_are_forgotten_but_not_the_newest(buffer: Buffer) -> None:
    for life in "abc":
        fill(buffer, 2, incarnation=life)
        buffer.confirm([mark(2, incarnation=life)], 10)
    assert buffer.prune([("m/data", "a")], 10 + OLD_LIFE_NS) == 0
    assert buffer.prune([("m/data", "a")], 11 + OLD_LIFE_NS) == 1
    assert buffer.marks([("m/data", life) for life in "abc"]) == [
        mark(2, incarnation="a"),
        mark(0, incarnation="b"),
        mark(2, incarnation="c"),
    ]


def test_the_file_follows_what_it_holds(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, 64 << 20)
    fill(buffer, 4000, size=4000)
    large = (tmp_path / FILE_NAME).stat().st_size
    for seq in range(100, 4001, 100):
        buffer.confirm([mark(seq)], 2)
    buffer.close()
    assert (tmp_path / FILE_NAME).stat().st_size < large / 4


def test_a_full_disk_drops_the_oldest_and_goes_on(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, 64 << 20)
    fill(buffer, 900, size=4000)
    (pages,) = buffer._db.execute("PRAGMA page_count").fetchone()
    buffer._db.execute(f"PRAGMA max_page_count={pages + 10}")
    for n in range(901, 1200):
        (result,) = buffer.append([samples(n, size=4000)], 2)
        assert isinstance(result, StreamMark), result
    status = buffer.status()
    assert status.dropped_samples > 0
    frames = buffer.batch(10_000, 1 << 30)
    assert sum(frame.count for frame in frames) == 1198 * 10
    assert (tmp_path / RESERVE_NAME).exists()
    buffer.close()


def test_a_damaged_file_is_put_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all, really not" * 500)
    buffer = Buffer(tmp_path, 1 << 20)
    assert buffer.damaged
    assert (tmp_path / f"damaged-{FILE_NAME}").exists()
    fill(buffer, 2)
    buffer.close()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_number_is_accounted_for_once_and_in_order(data: st.DataObject) -> None:
    """A centre that keeps marks sees a contiguous run of numbers and every sample as delivered or counted as dropped,
    whatever happens between: full buffers, lost replies, partial acceptance, repeated frames."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        buffer = Buffer(Path(folder), cap_bytes=40_000)
        rng = random.Random(data.draw(st.integers(0, 2**32)))
        centre: dict[str, int] = {"a": 0, "b": 0}
        delivered = {"a": 0, "b": 0}
        sent = {"a": 0, "b": 0}
        for _ in range(data.draw(st.integers(5, 60))):
            life = rng.choice("ab")
            if rng.random() < 0.6:
                for _ in range(rng.randrange(1, 8)):
                    sent[life] += 1
                    seq = sent[life]
                    frame = descriptor(incarnation=life) if seq == 1 else samples(seq, incarnation=life, size=2000)
                    assert isinstance(buffer.append([frame], 1)[0], StreamMark)
            else:
                request = buffer.batch(rng.randrange(1, 20), 30_000)
                taken = request[: rng.randrange(0, len(request) + 1)] if request else []
                for frame in taken:
                    if frame.end <= centre[frame.incarnation]:
                        continue
                    assert frame.seq <= centre[frame.incarnation] + 1
                    assert frame.seq == centre[frame.incarnation] + 1
                    centre[frame.incarnation] = frame.end
                    delivered[frame.incarnation] += frame.count
                if rng.random() < 0.7:  # else the reply is lost
                    asked = {frame.incarnation for frame in request}
                    buffer.confirm([mark(centre[name], incarnation=name) for name in asked], 2)
                else:
                    buffer.confirm([mark(centre[name], incarnation=name) for name in "ab"], 2)
                buffer.release()
        while request := buffer.batch(64, 1 << 20):
            for frame in request:
                assert frame.seq == centre[frame.incarnation] + 1
                centre[frame.incarnation] = frame.end
                delivered[frame.incarnation] += frame.count
            buffer.confirm([mark(seq, incarnation=name) for name, seq in centre.items()], 3)
        for life in "ab":
            assert centre[life] == sent[life]
            assert delivered[life] == max(0, sent[life] - 1) * 10
        buffer.close()


def test_a_gap_over_frames_that_are_here_already_is_taken_from_where_they_end(buffer: Buffer) -> None:
    fill(buffer, 5)
    gap = Frame(stream="m/data", incarnation="a", seq=4, kind=FrameKind.GAP, last_seq=8, count=50, reason="full")
    assert buffer.append([gap], 2) == [mark(8)]
    assert [(f.seq, f.end) for f in buffer.batch(64, 1 << 20)][-2:] == [(5, 5), (6, 8)]


def test_what_failed_half_way_leaves_memory_and_disk_alike(buffer: Buffer) -> None:
    fill(buffer, 3)
    huge = Frame(stream="m/data", incarnation="a", seq=5, kind=FrameKind.SAMPLES, count=2**63, payload=b"x")
    with pytest.raises(OverflowError):
        buffer.append([samples(4), huge], 2)
    assert buffer.append([samples(4)], 3) == [mark(4)]
    assert [f.seq for f in buffer.batch(64, 1 << 20)] == [1, 2, 3, 4]


def test_a_file_that_breaks_in_use_is_put_aside_and_taking_goes_on(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, 16 << 20)
    fill(buffer, 400)
    path = tmp_path / FILE_NAME
    buffer._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    buffer._db.execute("PRAGMA cache_size=0")
    with path.open("r+b") as file:  # every page but the first
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    results = [buffer.append([samples(n)], 2)[0] for n in range(401, 404)]
    results += buffer.append([descriptor(), samples(2)], 3)
    assert buffer.damaged
    assert results[-1] == mark(2)
    assert [f.seq for f in buffer.batch(64, 1 << 20)] == [1, 2]
    assert (tmp_path / f"damaged-{FILE_NAME}").exists()
    buffer.close()
