"""The outbox against a modelled agent: whatever is cut, refused or full, nothing is lost unsaid, nothing twice."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import DocumentError, InternalError
from manifests.messages import MAX_BLOCK_BYTES, Frame, FrameKind, StreamMark
from workloads.kit.outbox import Outbox


def names() -> Iterator[str]:
    return (f"life-{number}" for number in count(1))


def outbox(cap_bytes: int = 1 << 20, window_frames: int = 64) -> Outbox:
    made = names()
    box = Outbox(lambda: next(made), cap_bytes=cap_bytes, window_frames=window_frames)
    box.open("tags", b"{}")
    return box


def connect(box: Outbox, seq: int = 0) -> None:
    assert not box.welcomed({"tags": StreamMark(stream="tags", incarnation=box.incarnation, seq=seq)})


def drain(box: Outbox, now_s: float = 0.0) -> list[Frame]:
    frames = []
    while (frame := box.next_frame(now_s)) is not None:
        frames.append(frame)
    return frames


def add(box: Outbox, number: int, samples: int = 1, size: int = 100) -> bytes:
    payload = number.to_bytes(4, "big").ljust(size, b".")
    box.add("tags", payload, samples, number * 10, number * 10 + 5)
    return payload


def test_frames_are_numbered_from_one_and_the_descriptor_comes_first() -> None:
    box = outbox()
    add(box, 1)
    add(box, 2)
    connect(box)
    frames = drain(box)
    assert [(frame.seq, frame.kind) for frame in frames] == [
        (1, FrameKind.DESCRIPTOR),
        (2, FrameKind.SAMPLES),
        (3, FrameKind.SAMPLES),
    ]
    assert drain(box) == []


def test_after_a_reconnect_only_what_the_agent_lacks_is_sent_again() -> None:
    box = outbox()
    for number in range(5):
        add(box, number)
    connect(box)
    drain(box)
    box.acked("tags", box.incarnation, 2)
    box.disconnected()
    connect(box, 4)
    assert [frame.seq for frame in drain(box)] == [5, 6]
    assert box.progress("tags").acked_seq == 4
    assert box.progress("tags").acked_samples == 3


def test_the_chain_covers_acknowledged_payloads_in_order() -> None:
    box = outbox()
    payloads = [add(box, number, samples=number) for number in range(1, 4)]
    connect(box)
    drain(box)
    box.acked("tags", box.incarnation, 3)
    chain = bytes(32)
    for payload in payloads[:2]:
        chain = hashlib.sha256(chain + hashlib.sha256(payload).digest()).digest()
    assert box.progress("tags").chain == chain
    assert box.progress("tags").acked_samples == 3


def test_the_window_bounds_what_is_under_way() -> None:
    box = outbox(window_frames=3)
    for number in range(10):
        add(box, number)
    connect(box)
    assert [frame.seq for frame in drain(box)] == [1, 2, 3]
    box.acked("tags", box.incarnation, 2)
    assert [frame.seq for frame in drain(box)] == [4, 5]


def test_over_the_cap_the_oldest_unsent_samples_become_one_counted_gap() -> None:
    box = outbox(cap_bytes=2000)
    for number in range(20):
        add(box, number, samples=7)
    connect(box)
    frames = drain(box)
    gap = frames[1]
    assert (gap.kind, gap.seq) == (FrameKind.GAP, 2)
    assert gap.count == 7 * (gap.last_seq - gap.seq + 1)
    assert (gap.first_ns, gap.last_ns) == (0, 10 * (gap.last_seq - 2) + 5)
    assert [frame.seq for frame in frames[2:]] == list(range(gap.last_seq + 1, 22))
    assert box.progress("tags").dropped_samples == gap.count
    assert box.bytes <= 2000


def test_frames_under_way_are_never_dropped() -> None:
    box = outbox(cap_bytes=1500, window_frames=3)
    for number in range(3):
        add(box, number)
    connect(box)
    sent = drain(box)
    for number in range(3, 20):
        add(box, number)
    box.acked("tags", box.incarnation, sent[-1].seq)
    assert box.progress("tags").acked_samples == 2
    assert drain(box)[0].kind is FrameKind.GAP


def test_a_retryable_refusal_is_sent_again_after_a_growing_pause() -> None:
    box = outbox()
    add(box, 1)
    connect(box)
    drain(box)
    box.refused("tags", 2, what="disk full", retryable=True, expected_seq=0, now_s=10.0)
    assert drain(box, 10.05) == []
    assert box.wait_s(10.05) == pytest.approx(0.05)
    assert [frame.seq for frame in drain(box, 10.2)] == [2]
    box.refused("tags", 2, what="disk full", retryable=True, expected_seq=0, now_s=10.2)
    assert box.wait_s(10.2) == pytest.approx(0.2)


def test_a_frame_the_agent_will_never_take_becomes_a_gap_with_its_reason() -> None:
    box = outbox()
    add(box, 1, samples=9)
    add(box, 2)
    connect(box)
    drain(box)
    box.refused("tags", 2, what="too large", retryable=False, expected_seq=0, now_s=0.0)
    gap, after = drain(box, 1.0)
    assert (gap.kind, gap.seq, gap.last_seq, gap.count) == (FrameKind.GAP, 2, 2, 9)
    assert "too large" in gap.reason
    assert after.seq == 3


def test_an_agent_that_forgot_what_it_acknowledged_gets_a_new_incarnation_with_all_that_is_held() -> None:
    box = outbox()
    for number in range(4):
        add(box, number)
    connect(box)
    drain(box)
    box.acked("tags", "life-1", 3)
    box.disconnected()
    assert box.welcomed({"tags": StreamMark(stream="tags", incarnation="life-1", seq=1)})
    assert box.incarnation == "life-2"
    connect(box)
    frames = drain(box)
    assert [(frame.seq, frame.incarnation) for frame in frames] == [(1, "life-2"), (2, "life-2"), (3, "life-2")]
    assert frames[0].kind is FrameKind.DESCRIPTOR
    assert box.progress("tags").acked_samples == 0


def test_an_acknowledgement_of_what_was_never_sent_is_an_error() -> None:
    box = outbox()
    add(box, 1)
    with pytest.raises(DocumentError, match="only 0 was sent"):
        box.acked("tags", box.incarnation, 2)


def test_a_descriptor_too_large_to_travel_is_refused_at_once() -> None:
    box = outbox()
    with pytest.raises(InternalError, match="at most"):
        box.open("more", b"x" * (MAX_BLOCK_BYTES + 1))


class Agent:
    """What an agent keeps on disk, and the two pipes of a connection that may be cut at any moment."""

    def __init__(self) -> None:
        self.disk: list[Frame] = []
        self.up: deque[Frame] = deque()
        self.down: deque[tuple[str, int, int]] = deque()  # kind, seq, expected

    def take(self, mood: str) -> None:
        if not self.up:
            return
        frame = self.up.popleft()
        mark = self.disk[-1].end if self.disk else 0
        if mood == "full":
            self.down.append(("retry", frame.seq, 0))
        elif frame.seq != mark + 1 and frame.end > mark:
            self.down.append(("order", frame.seq, mark + 1))
        elif mood == "never" and frame.kind is FrameKind.SAMPLES and frame.end > mark:
            self.down.append(("never", frame.seq, 0))
        else:
            if frame.end > mark:
                self.disk.append(frame)
            self.down.append(("ack", self.disk[-1].end, 0))

    def answer(self, box: Outbox, now_s: float) -> None:
        if not self.down:
            return
        kind, seq, expected = self.down.popleft()
        if kind == "ack":
            box.acked("tags", box.incarnation, seq)
        else:
            retryable = kind != "never"
            assert not box.refused("tags", seq, what=kind, retryable=retryable, expected_seq=expected, now_s=now_s), (
                "nothing was forgotten: no new incarnation"
            )


STEPS = st.lists(
    st.sampled_from(["add", "add", "send", "send", "take", "take", "answer", "answer", "full", "never", "cut"]),
    max_size=200,
)


@given(steps=STEPS, cap=st.sampled_from([900, 3_000, 1 << 20]), window=st.integers(1, 8))
@settings(deadline=None, max_examples=300)
def test_every_sample_arrives_once_in_order_or_is_counted_in_a_gap(steps: list[str], cap: int, window: int) -> None:
    box, agent = outbox(cap, window), Agent()
    connected, now_s, added = False, 0.0, 0

    def step(what: str) -> None:
        nonlocal connected, added
        if what == "add":
            added += 1
            add(box, added, samples=added)
        elif what == "cut":
            agent.up.clear()
            agent.down.clear()
            box.disconnected()
            connected = False
        elif not connected:
            connect(box, agent.disk[-1].end if agent.disk else 0)
            connected = True
        elif what == "send":
            frame = box.next_frame(now_s)
            if frame is not None:
                agent.up.append(frame)
        elif what == "answer":
            agent.answer(box, now_s)
        else:
            agent.take(what)

    for what in steps:
        now_s += 0.03
        step(what)
    for _ in range(60 * (len(steps) + 2)):  # a quiet end: everything gets through
        now_s += 1.0
        for what in ("send", "take", "answer"):
            step(what)
        if not box.unacked_frames:
            break
    assert box.unacked_frames == 0

    position = 1
    arrived: list[int] = []
    chain, counted, gone = bytes(32), 0, 0
    for frame in agent.disk:
        assert frame.seq == position, "no hole, no overlap"
        position = frame.end + 1
        if frame.kind is FrameKind.SAMPLES:
            arrived.append(int.from_bytes(frame.payload[:4], "big"))
            assert frame.count == arrived[-1]
            counted += frame.count
            chain = hashlib.sha256(chain + hashlib.sha256(frame.payload).digest()).digest()
        elif frame.kind is FrameKind.GAP:
            gone += frame.count
    assert arrived == sorted(set(arrived))
    assert gone == sum(set(range(1, added + 1)) - set(arrived))
    progress = box.progress("tags")
    assert (progress.acked_samples, progress.chain, progress.dropped_samples) == (counted, chain, gone)
    assert progress.acked_seq == position - 1
    assert box.bytes == 0


def test_the_gap_for_a_refused_frame_does_not_carry_the_times_that_were_refused() -> None:
    box = outbox()
    box.add("tags", b"x", 3, -(2**63), 2**63)
    connect(box)
    drain(box)
    box.acked("tags", box.incarnation, 1)
    box.refused("tags", 2, what="impossible times", retryable=False, expected_seq=0, now_s=0.0)
    (gap,) = drain(box, 100.0)
    assert (gap.kind, gap.count, gap.first_ns, gap.last_ns) == (FrameKind.GAP, 3, 0, 0)
