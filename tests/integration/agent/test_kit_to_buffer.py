"""The kit's publisher against the agent's real bus and buffer: both ends of one protocol, with the agent coming and
going in between; what the kit calls acknowledged is what the buffer holds, to the byte."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.buffer import Buffer
from agent.busserver import BusServer
from agent.committer import Committer
from manifests.bus import SOCKET_NAME
from manifests.messages import Frame, FrameKind, Heartbeat, State, StreamMark
from workloads.kit.backoff import Backoff, BackoffConfig
from workloads.kit.outbox import Outbox
from workloads.kit.publisher import Publisher


class AgentEnd:
    """The agent's end of the bus, which can go away without a word and come back from its disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def start(self) -> None:
        self.committer = Committer(lambda: Buffer(self.folder, 256 << 20), window_s=0.005)
        await self.committer.start()

        async def marks(lives: Any) -> Any:
            return await self.committer.call(lambda buffer: buffer.marks(lives))

        self.bus = BusServer(self.committer, marks, heard=lambda: None)
        await self.bus.open("press", self.folder / "press")

    async def stop(self) -> None:
        await self.bus.close_all()
        await self.committer.stop()

    def wipe(self) -> None:
        for path in self.folder.glob("buffer.*"):
            path.unlink()

    async def frames(self) -> list[Frame]:
        found: list[Frame] = []
        while frames := await self.committer.call(lambda buffer: buffer.batch(1000, 8 << 20)):
            found += frames
            ends = {(f.stream, f.incarnation): f.end for f in frames}
            done = [StreamMark(stream=s, incarnation=i, seq=seq) for (s, i), seq in ends.items()]
            await self.committer.call(lambda buffer, done=done: buffer.confirm(done, 1))  # type: ignore[misc]
        return found


@pytest.fixture
async def agent(folder: Path) -> AsyncIterator[AgentEnd]:
    end = AgentEnd(folder)
    await end.start()
    yield end
    await end.stop()


def producer(folder: Path, outbox: Outbox) -> Publisher:
    backoff = Backoff(BackoffConfig(min_ms=10, max_ms=50, jitter=0), lambda: 0.0)
    return Publisher(
        folder / "press" / SOCKET_NAME,
        outbox,
        backoff,
        lambda: Heartbeat(state=State.RUNNING, reason="Ok"),
        streams=("data",),
    )


async def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


async def test_through_restarts_of_the_agent_the_proof_of_the_kit_matches_the_buffer(
    agent: AgentEnd, folder: Path
) -> None:
    outbox = Outbox((f"life{n}" for n in itertools.count()).__next__)
    outbox.open("data", b"{}")
    publisher = producer(folder, outbox)
    job = asyncio.create_task(publisher.run())
    number = 0
    for _ in range(4):
        for _ in range(150):
            number += 1
            outbox.add("data", number.to_bytes(4, "big") * 100, 3, number, number)
            publisher.changed()
            await asyncio.sleep(0.001)
        await agent.stop()
        await asyncio.sleep(0.02)
        await agent.start()
    await until(lambda: outbox.unacked_frames == 0, "not everything is acknowledged")
    progress = outbox.progress("data")
    frames = await agent.frames()
    assert outbox.restarts == 0
    assert [frame.seq for frame in frames] == list(range(1, number + 2))
    chain = bytes(32)
    for frame in frames:
        if frame.kind is FrameKind.SAMPLES:
            chain = hashlib.sha256(chain + hashlib.sha256(frame.payload).digest()).digest()
    assert chain == progress.chain
    assert sum(frame.count for frame in frames) == progress.acked_samples == number * 3
    job.cancel()


async def test_a_replaced_disk_starts_a_new_life_and_the_data_goes_on(agent: AgentEnd, folder: Path) -> None:
    outbox = Outbox((f"life{n}" for n in itertools.count()).__next__)
    outbox.open("data", b"{}")
    publisher = producer(folder, outbox)
    job = asyncio.create_task(publisher.run())
    outbox.add("data", b"one", 1, 1, 1)
    publisher.changed()
    await until(lambda: outbox.unacked_frames == 0, "not acknowledged")
    await agent.stop()
    agent.wipe()
    await agent.start()
    await until(lambda: outbox.restarts == 1, "it does not notice")
    outbox.add("data", b"two", 1, 2, 2)
    publisher.changed()
    await until(lambda: outbox.unacked_frames == 0, "not acknowledged")
    frames = await agent.frames()
    assert {frame.incarnation for frame in frames} == {"life1"}
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[-1].payload == b"two"
    job.cancel()
