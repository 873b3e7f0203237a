"""The uplink against a whole fake centre that keeps marks: in order, exactly once, whatever the line does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from agent.buffer import Buffer
from agent.client import DEADLINE_S, ingest_deadline_s
from agent.uplink import FIRST_DELAY_S, LONGEST_DELAY_S, Uplink
from manifests.errors import TrustError, UnreachableError
from manifests.messages import Frame, FrameKind, IngestReply, IngestRequest, StreamMark

T = TypeVar("T")


class FakeCentre:
    """Takes only mark + 1. Faults: ``down``; ``lose_answers``; ``poison`` refuses requests that hold that stream."""

    def __init__(self) -> None:
        self.marks: dict[tuple[str, str], int] = {}
        self.frames: list[Frame] = []
        self.requests: list[IngestRequest] = []
        self.down = False
        self.lose_answers = 0
        self.poison = ""
        self.most = 1000

    async def __call__(self, request: IngestRequest) -> IngestReply:
        if self.down:
            raise UnreachableError("no line")
        self.requests.append(request)
        if self.poison and any(frame.stream == self.poison for frame in request.frames):
            raise TrustError("cannot be read", kind="refused")
        for frame in request.frames[: self.most]:
            life = (frame.stream, frame.incarnation)
            mark = self.marks.setdefault(life, 0)
            if frame.seq <= mark + 1 <= frame.end:
                self.frames.append(frame)
                self.marks[life] = frame.end
        if self.lose_answers:
            self.lose_answers -= 1
            raise UnreachableError("the answer was lost")
        lives = {(frame.stream, frame.incarnation) for frame in request.frames}
        return IngestReply(
            marks=tuple(StreamMark(stream=s, incarnation=i, seq=self.marks.get((s, i), 0)) for s, i in lives)
        )


class Direct:
    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer

    async def call(self, run: Callable[[Buffer], T]) -> T:
        return run(self.buffer)


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    opened = Buffer(tmp_path, 16 << 20)
    yield opened
    opened.close()


def put(buffer: Buffer, stream: str, first: int, last: int, incarnation: str = "a") -> None:
    frames = [
        Frame(
            stream=stream,
            incarnation=incarnation,
            seq=seq,
            kind=FrameKind.DESCRIPTOR if seq == 1 else FrameKind.SAMPLES,
            count=0 if seq == 1 else 1,
            payload=b"x" * 100,
        )
        for seq in range(first, last + 1)
    ]
    assert all(isinstance(result, StreamMark) for result in buffer.append(frames, 1))


def make(buffer: Buffer, centre: FakeCentre) -> Uplink:
    return Uplink(Direct(buffer), centre, clock_ns=lambda: 1, jitter=lambda: 1.0)


async def test_everything_arrives_once_and_in_order(buffer: Buffer) -> None:
    centre = FakeCentre()
    put(buffer, "a/data", 1, 200)
    put(buffer, "b/data", 1, 3)
    assert await make(buffer, centre).send_all()
    assert [f.seq for f in centre.frames if f.stream == "a/data"] == list(range(1, 201))
    assert [f.seq for f in centre.frames if f.stream == "b/data"] == [1, 2, 3]
    assert all(len(request.frames) <= 64 for request in centre.requests)
    assert buffer.status().frames == 0


async def test_a_lost_answer_is_asked_again_and_stores_nothing_twice(buffer: Buffer) -> None:
    centre = FakeCentre()
    centre.lose_answers = 1
    put(buffer, "a/data", 1, 10)
    uplink = make(buffer, centre)
    assert not await uplink.send_all()
    assert buffer.status().frames == 10
    assert await uplink.send_all()
    assert [f.seq for f in centre.frames] == list(range(1, 11))
    assert uplink.link.up


async def test_without_a_line_nothing_is_forgotten(buffer: Buffer) -> None:
    centre = FakeCentre()
    centre.down = True
    put(buffer, "a/data", 1, 10)
    uplink = make(buffer, centre)
    assert not await uplink.send_all()
    assert buffer.status().frames == 10
    assert not uplink.link.up
    assert "no line" in uplink.link.reason


async def test_partial_acceptance_goes_on_from_the_mark(buffer: Buffer) -> None:
    centre = FakeCentre()
    centre.most = 7
    put(buffer, "a/data", 1, 100)
    assert await make(buffer, centre).send_all()
    assert [f.seq for f in centre.frames] == list(range(1, 101))


async def test_a_centre_that_lost_data_gets_what_is_held_and_a_gap_for_the_rest(buffer: Buffer) -> None:
    centre = FakeCentre()
    put(buffer, "a/data", 1, 10)
    assert await make(buffer, centre).send_all()
    centre.marks["a/data", "a"] = 4  # restored from an older copy
    put(buffer, "a/data", 11, 12)
    assert await make(buffer, centre).send_all()
    assert [(f.kind, f.seq, f.end) for f in centre.frames[10:]] == [
        (FrameKind.GAP, 5, 10),
        (FrameKind.SAMPLES, 11, 11),
        (FrameKind.SAMPLES, 12, 12),
    ]


async def test_a_centre_that_is_ahead_needs_nothing_again(buffer: Buffer) -> None:
    centre = FakeCentre()
    centre.marks["a/data", "a"] = 50
    put(buffer, "a/data", 1, 10)
    assert await make(buffer, centre).send_all()
    assert centre.frames == []
    assert buffer.marks([("a/data", "a")])[0].seq == 50


async def test_a_stream_the_centre_refuses_does_not_hold_up_the_others(buffer: Buffer) -> None:
    centre = FakeCentre()
    centre.poison = "bad/data"
    put(buffer, "bad/data", 1, 100)
    put(buffer, "good/data", 1, 100)
    uplink = make(buffer, centre)
    for _ in range(400):
        await uplink.send_all()
    assert [f.seq for f in centre.frames] == list(range(1, 101))
    assert uplink.stuck
    assert buffer.status().frames == 100


async def test_a_centre_that_takes_nothing_is_not_asked_in_a_circle(buffer: Buffer) -> None:
    centre = FakeCentre()
    centre.most = 0
    put(buffer, "a/data", 1, 10)
    uplink = make(buffer, centre)
    assert not await uplink.send_all()
    assert len(centre.requests) == 1
    assert uplink.stuck


async def test_delays_grow_to_a_limit_and_end_when_the_line_is_back(buffer: Buffer) -> None:
    centre = FakeCentre()
    centre.down = True
    put(buffer, "a/data", 1, 10)
    slept: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) >= 10:
            enough.set()
            await asyncio.Event().wait()  # never: only the line's return can end this wait

    uplink = Uplink(Direct(buffer), centre, clock_ns=lambda: 1, jitter=lambda: 1.0, sleep=sleep)
    job = asyncio.create_task(uplink.run())
    await enough.wait()
    assert slept[0] == FIRST_DELAY_S * 2
    assert slept == sorted(slept)
    assert slept[-1] == LONGEST_DELAY_S
    centre.down = False
    uplink.line_is_back()
    while buffer.status().frames:
        await asyncio.sleep(0)
    job.cancel()
    assert [f.seq for f in centre.frames] == list(range(1, 11))


async def test_a_line_too_slow_for_a_full_batch_still_empties_the_buffer(buffer: Buffer) -> None:
    """No answer arrives for more than 40 kB within the deadline."""
    centre = FakeCentre()
    for stream in ("m/a", "m/b"):
        frames = [Frame(stream=stream, incarnation="a", seq=1, kind=FrameKind.DESCRIPTOR, payload=b"{}")]
        frames += [
            Frame(stream=stream, incarnation="a", seq=n, kind=FrameKind.SAMPLES, count=1, payload=b"x" * 20_000)
            for n in range(2, 60)
        ]
        buffer.append(frames, 1)

    async def slow(request: IngestRequest) -> IngestReply:
        if sum(len(frame.payload) for frame in request.frames) > 40_000:
            raise UnreachableError("no complete answer within 30 s")
        return await centre(request)

    uplink = Uplink(Direct(buffer), slow)
    for _ in range(400):
        if await uplink.send_all():
            break
    assert centre.marks == {("m/a", "a"): 59, ("m/b", "a"): 59}


def test_a_large_frame_that_is_alone_gets_the_time_a_slow_line_needs() -> None:
    frame = Frame(stream="m/a", incarnation="a", seq=1, kind=FrameKind.SAMPLES, payload=bytes(1 << 20))
    assert ingest_deadline_s(IngestRequest(frames=(frame,))) > (1 << 20) * 8 / 16_000
    assert ingest_deadline_s(IngestRequest(frames=(frame, frame))) == DEADLINE_S
