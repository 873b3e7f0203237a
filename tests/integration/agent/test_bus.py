"""The bus server with a real buffer behind it, spoken to as a workload would, and as a broken one would."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.buffer import Buffer
from agent.busserver import MAX_CONNECTIONS, BusServer
from agent.committer import Committer
from manifests.bus import PROTOCOL, SOCKET_NAME, read_message, write_message
from manifests.messages import (
    CONFIGURE,
    INQUIRE,
    MAX_MEASURES,
    Ack,
    Answer,
    Configure,
    DeviceStatus,
    Downward,
    Frame,
    FrameKind,
    Heartbeat,
    Hello,
    Inquire,
    Publish,
    Refused,
    State,
    StreamMark,
    Welcome,
    encode,
)


def frame(
    seq: int, *, stream: str = "data", life: str = "a", payload: bytes = b"x", kind: FrameKind | None = None
) -> Frame:
    kind = kind or (FrameKind.DESCRIPTOR if seq == 1 else FrameKind.SAMPLES)
    return Frame(stream=stream, incarnation=life, seq=seq, kind=kind, count=1, payload=payload)


@dataclass
class Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, message: Any) -> None:
        write_message(self.writer, message)

    async def hear(self) -> Any:
        async with asyncio.timeout(10):
            return await read_message(self.reader, Downward)

    async def acked(self, seq: int) -> None:
        while True:
            message = await self.hear()
            assert isinstance(message, Ack), message
            if message.seq >= seq:
                return


@dataclass
class Bench:
    folder: Path
    committer: Committer
    bus: BusServer
    heard: list[int]

    async def connect(self, instance: str = "press") -> Line:
        return Line(*await asyncio.open_unix_connection(str(self.folder / instance / SOCKET_NAME)))

    async def hello(
        self, instance: str = "press", life: str = "a", streams: tuple[str, ...] = ("data",)
    ) -> tuple[Line, Any]:
        line = await self.connect(instance)
        line.say(Hello(protocol=PROTOCOL, incarnation=life, streams=streams))
        return line, await line.hear()

    async def held(self) -> list[Frame]:
        return await self.committer.call(lambda buffer: buffer.batch(1000, 8 << 20))


@pytest.fixture
async def bench(folder: Path) -> AsyncIterator[Bench]:
    committer = Committer(lambda: Buffer(folder, 64 << 20), window_s=0.005)
    await committer.start()
    heard: list[int] = []

    async def marks(lives: Any) -> Any:
        return await committer.call(lambda buffer: buffer.marks(lives))

    bus = BusServer(committer, marks, clock_ns=lambda: 77, heard=lambda: heard.append(1))
    for instance in ("press", "pump"):
        await bus.open(instance, folder / instance)
    yield Bench(folder, committer, bus, heard)
    await bus.close_all()
    await committer.stop()


async def test_frames_are_acknowledged_and_carry_their_instance(bench: Bench) -> None:
    line, welcome = await bench.hello()
    assert welcome == Welcome(protocol=PROTOCOL, marks=(StreamMark(stream="data", incarnation="a", seq=0),))
    for seq in range(1, 101):
        line.say(Publish(frame=frame(seq)))
    await line.acked(100)
    held = await bench.held()
    assert [(f.stream, f.seq) for f in held] == [("press/data", seq) for seq in range(1, 101)]


async def test_after_reconnecting_the_welcome_says_where_to_go_on(bench: Bench) -> None:
    line, _ = await bench.hello()
    line.say(Publish(frame=frame(1)))
    line.say(Publish(frame=frame(2)))
    await line.acked(2)
    line.writer.close()
    line, welcome = await bench.hello()
    assert welcome.marks[0].seq == 2
    line.say(Publish(frame=frame(2)))
    line.say(Publish(frame=frame(3)))
    await line.acked(3)
    assert [f.seq for f in await bench.held()] == [1, 2, 3]


async def test_a_hole_is_refused_with_the_number_to_go_on_from(bench: Bench) -> None:
    line, _ = await bench.hello()
    line.say(Publish(frame=frame(1)))
    await line.acked(1)
    line.say(Publish(frame=frame(5)))
    refused = await line.hear()
    assert (refused.seq, refused.expected_seq, refused.retryable) == (5, 2, True)


async def test_an_unknown_life_may_begin_with_a_gap(bench: Bench) -> None:
    line, _ = await bench.hello(life="old")
    line.say(Publish(frame=frame(8, life="old")))
    assert (await line.hear()).expected_seq == 1
    gap = Frame(stream="data", incarnation="old", seq=1, last_seq=7, kind=FrameKind.GAP, count=30, reason="lost")
    line.say(Publish(frame=gap))
    line.say(Publish(frame=frame(8, life="old")))
    await line.acked(8)


async def test_only_streams_of_the_signed_manifest_are_taken_others_refused_by_name_and_counted(bench: Bench) -> None:
    bench.bus.declare("press", ["other"])
    line, _ = await bench.hello()
    for seq in (1, 2):
        line.say(Publish(frame=frame(seq)))
        refused = await line.hear()
        assert (refused.what, refused.retryable) == ("stream 'data' is not declared in the signed manifest", False)
    assert bench.bus.rejected == {"press": 2}
    assert "'data'" in bench.bus.reasons["press"]
    assert await bench.held() == []
    bench.bus.declare("press", ["data"])  # a release that declares it
    line.say(Publish(frame=frame(1)))
    await line.acked(1)


async def test_a_stream_that_was_not_announced_is_refused(bench: Bench) -> None:
    line, _ = await bench.hello()
    line.say(Publish(frame=frame(1, stream="other")))
    refused = await line.hear()
    assert isinstance(refused, Refused)
    assert not refused.retryable
    line.say(Publish(frame=frame(1)))
    await line.acked(1)


@pytest.mark.parametrize(
    "hello",
    [
        Hello(protocol=99, incarnation="a", streams=("data",)),
        Hello(protocol=PROTOCOL, incarnation="", streams=("data",)),
        Hello(protocol=PROTOCOL, incarnation="x" * 65, streams=("data",)),
        Hello(protocol=PROTOCOL, incarnation="a", streams=("../pump/data",)),
        Hello(protocol=PROTOCOL, incarnation="a", streams=tuple(f"s{n}" for n in range(65))),
    ],
)
async def test_a_wrong_hello_is_answered_with_the_reason(bench: Bench, hello: Hello) -> None:
    line = await bench.connect()
    line.say(hello)
    assert isinstance(await line.hear(), Refused)
    assert await line.hear() is None
    assert bench.bus.rejected == {"press": 1}


async def test_heartbeats_are_kept_with_their_time_and_only_changes_wake_the_loop(bench: Bench) -> None:
    line, _ = await bench.hello()
    for _ in range(3):
        line.say(Heartbeat(state=State.RUNNING, reason="Ok"))
    line.say(Heartbeat(state=State.RUNNING, reason="Degraded"))
    line.say(Publish(frame=frame(1)))
    await line.acked(1)
    voice = bench.bus.voice("press")
    assert voice.heartbeat is not None
    assert (voice.heartbeat.reason, voice.heard_ns) == ("Degraded", 77)
    assert len(bench.heard) == 2


async def test_a_new_life_does_not_speak_with_the_old_ones_words(bench: Bench) -> None:
    line, _ = await bench.hello(life="one")
    line.say(Heartbeat(state=State.RUNNING, reason="Ok"))
    line.say(Publish(frame=frame(1, life="one")))
    await line.acked(1)
    await bench.hello(life="two")
    assert bench.bus.voice("press").heartbeat is None


async def test_rubbish_ends_its_own_connection_only(bench: Bench) -> None:
    good, _ = await bench.hello("pump")
    for rubbish in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc", bytes(4) * 100):
        bad = await bench.connect("press")
        bad.writer.write(rubbish)
        with contextlib.suppress(ConnectionError):
            assert await bad.hear() is None
    good.say(Publish(frame=frame(1)))
    await good.acked(1)
    assert bench.bus.rejected["press"] == 3


async def test_connections_are_bounded_and_the_newest_wins(bench: Bench) -> None:
    lines = [(await bench.hello(life=f"a{n}"))[0] for n in range(MAX_CONNECTIONS + 3)]
    lines[-1].say(Publish(frame=frame(1, life=f"a{MAX_CONNECTIONS + 2}")))
    await lines[-1].acked(1)
    with contextlib.suppress(ConnectionError):
        assert await lines[0].hear() is None
    assert len(bench.bus._connections["press"]) == MAX_CONNECTIONS


async def test_a_workload_that_never_reads_is_cut_off_and_bounded(bench: Bench) -> None:
    line, _ = await bench.hello()
    line.say(Publish(frame=frame(1)))
    await line.acked(1)
    wrong = frame(9, stream="x" * 90)
    with contextlib.suppress(ConnectionError):
        for _ in range(50_000):
            line.say(Publish(frame=wrong))  # each is answered, no answer is read
            if line.writer.transport.get_write_buffer_size() > 1 << 20:
                async with asyncio.timeout(10):
                    await line.writer.drain()
    assert line.writer.transport.is_closing() or bench.bus._connections["press"] == []


async def test_an_old_socket_file_is_replaced_in_a_folder_of_any_depth(bench: Bench, folder: Path) -> None:
    deep = folder / ("d" * 100) / ("e" * 100)
    await bench.bus.open("deep", deep)
    await bench.bus.close("deep")
    await bench.bus.open("deep", deep)
    assert (deep / SOCKET_NAME).is_socket()


async def test_frames_that_arrive_together_share_one_commit(bench: Bench) -> None:
    commits: list[int] = []

    def count(buffer: Buffer) -> None:
        real = buffer.append

        def counted(frames: Any, now_ns: int) -> Any:
            commits.append(len(frames))
            return real(frames, now_ns)

        buffer.append = counted  # type: ignore[method-assign]  # only watched

    await bench.committer.call(count)
    line, _ = await bench.hello()
    for seq in range(1, 51):
        line.say(Publish(frame=frame(seq)))
    await line.acked(50)
    assert sum(commits) == 50
    assert len(commits) < 25


@pytest.mark.parametrize(
    "bad",
    [
        {"first_ns": 2**63},
        {"last_ns": -(2**63)},
        {"count": 2**63},
        {"count": 2**62},
        {"kind": FrameKind.GAP, "payload": b"", "last_seq": 2**63},
        {"kind": FrameKind.GAP, "payload": b"", "last_seq": 3, "reason": "r" * 100_000},
    ],
)
async def test_a_frame_no_database_can_hold_is_refused_and_harms_nobody_else(bench: Bench, bad: dict[str, Any]) -> None:
    other, _ = await bench.hello("pump")
    line, _ = await bench.hello()
    line.say(Publish(frame=frame(1)))
    await line.acked(1)
    line.say(Publish(frame=msgspec.structs.replace(frame(2), **bad)))
    refused = await line.hear()
    assert isinstance(refused, Refused)
    assert not refused.retryable
    other.say(Publish(frame=frame(1)))
    await other.acked(1)
    line.say(Publish(frame=frame(2)))
    await line.acked(2)


async def test_an_incarnation_that_no_centre_could_store_is_not_welcome(bench: Bench) -> None:
    _, answer = await bench.hello(life="a\nb")
    assert isinstance(answer, Refused)
    assert "printable" in answer.what


async def test_a_returning_producer_hears_its_marks_only_after_its_old_connection_has_spoken(folder: Path) -> None:
    taken: list[int] = []
    gate = asyncio.Event()

    class Slow:
        async def append(self, frames: Any) -> Any:
            await gate.wait()
            taken.extend(f.seq for f in frames)
            return [StreamMark(stream=f.stream, incarnation=f.incarnation, seq=f.seq) for f in frames]

    async def marks(lives: Any) -> Any:
        return [StreamMark(stream=s, incarnation=i, seq=max(taken, default=0)) for s, i in lives]

    bus = BusServer(Slow(), marks, heard=lambda: None)
    await bus.open("press", folder / "press")
    bench = Bench(folder, None, bus, [])  # type: ignore[arg-type]  # no buffer behind this one
    old, _ = await bench.hello()
    for seq in range(1, 4):
        old.say(Publish(frame=frame(seq)))
    await old.writer.drain()
    new = await bench.connect()
    new.say(Hello(protocol=PROTOCOL, incarnation="a", streams=("data",)))
    asyncio.get_running_loop().call_later(0.05, gate.set)
    welcome = await new.hear()
    told = welcome.marks[0].seq
    with contextlib.suppress(ConnectionError):
        old.say(Publish(frame=frame(told + 1)))
    new.say(Publish(frame=frame(told + 1)))
    await new.acked(told + 1)
    assert max(taken) == told + 1
    assert taken == sorted(set(taken))
    await bus.close_all()


async def test_what_a_heartbeat_says_is_bounded_because_reports_are(bench: Bench) -> None:
    line, _ = await bench.hello()
    devices = tuple(
        DeviceStatus(name=f"d{n}", state=State.FAILED, reason="Gone", since_ns=1, detail="x" * 500) for n in range(1500)
    )
    measures = {f"m{n}": float(n) for n in range(1000)} | {"not a name": 1.0}
    measures = {"infinite": math.inf, "lost": math.nan} | measures
    line.say(Heartbeat(state=State.RUNNING, reason="Ok", detail="y" * 100_000, devices=devices, measures=measures))
    async with asyncio.timeout(5):
        while bench.bus.voice("press").heartbeat is None:
            await asyncio.sleep(0.01)
    said = bench.bus.voice("press").heartbeat
    assert said is not None
    assert len(encode(said)) < 400_000
    assert len(said.measures) <= MAX_MEASURES
    assert all(math.isfinite(value) for value in said.measures.values())


async def test_a_workload_hears_what_it_said_it_understands_after_its_welcome_and_nothing_else(bench: Bench) -> None:
    deaf, _ = await bench.hello(life="old")
    assert bench.bus.inquire("press", Inquire(id="q0", kind="watch")) == "this release answers no inquiries"
    bench.bus.configure("press", 1, 1)
    deaf.say(Publish(frame=frame(1, life="old")))
    await deaf.acked(1)  # it was told nothing before that

    line = await bench.connect()
    line.say(Hello(protocol=PROTOCOL, incarnation="new", streams=(), hears=(CONFIGURE, INQUIRE)))
    assert isinstance(await line.hear(), Welcome)
    bench.bus.configure("press", 1, 2)
    assert await line.hear() == Configure(generation=1, revision=2)
    inquire = Inquire(id="q1", kind="watch", body=b'{"a": 1}')
    assert bench.bus.inquire("press", inquire) == ""
    assert await line.hear() == inquire
    assert bench.bus.inquire("nobody", inquire) == "no such instance runs on this node"

    answers: list[tuple[str, Answer]] = []
    silenced: list[str] = []
    bench.bus.answered = lambda instance, answer: answers.append((instance, answer))
    bench.bus.silenced = silenced.append
    line.say(Answer(id="q1", final=True, payload=b"2"))
    line.writer.close()
    async with asyncio.timeout(5):
        while not silenced:
            await asyncio.sleep(0.01)
    assert silenced == ["press"]
    assert [(name, answer.payload) for name, answer in answers] == [("press", b"2")]
