"""The bus client on a real socket, against an agent that refuses, dies and forgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from manifests.messages import Frame, FrameKind, Heartbeat, Refused, State, Tag, TagType
from tests.support.busserver import BusServer
from workloads.kit.backoff import Backoff, BackoffConfig
from workloads.kit.batcher import Batcher, BlockConfig
from workloads.kit.outbox import Outbox
from workloads.kit.publisher import Publisher

TAGS = (Tag(id=0, topic="acme/hamburg/a/l/p/t", type=TagType.INT),)


class Producer:
    """Numbers 0, 1, 2, ... as samples of one tag, one block each."""

    def __init__(self, path: Path, cap_bytes: int = 1 << 20) -> None:
        lives = count(1)
        self.outbox = Outbox(lambda: f"life-{next(lives)}", cap_bytes=cap_bytes)
        backoff = Backoff(BackoffConfig(min_ms=10, max_ms=50), lambda: 0.5)
        self.publisher = Publisher(path, self.outbox, backoff, self.heartbeat, streams=("tags",))
        self.publisher.open("tags", TAGS)
        self._batcher = Batcher(BlockConfig(), lambda *block: self.publisher.publish("tags", *block))
        self.produced = 0

    def heartbeat(self) -> Heartbeat:
        status = self.publisher.status("tags", tags=1, good_tags=1)
        return Heartbeat(state=State.RUNNING, reason="Ok", streams=(status,))

    def produce(self, samples: int) -> None:
        for _ in range(samples):
            self._batcher.add(0, 1_000 + self.produced, float(self.produced), 192)
            self._batcher.flush()
            self.produced += 1


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[BusServer]:
    server = BusServer(tmp_path / "bus.sock")
    await server.start()
    yield server
    await server.stop()


async def test_frames_refused_for_a_full_disk_arrive_later_once_and_in_order(agent: BusServer) -> None:
    producer = Producer(agent.path)
    full = True

    def refuse(frame: Frame) -> Refused | None:
        if full and frame.seq > 3:
            return Refused(stream=frame.stream, seq=frame.seq, what="disk full", retryable=True)
        return None

    agent.refuse = refuse
    job = asyncio.create_task(producer.publisher.run())
    producer.produce(20)
    await agent.until(lambda: len(agent.all_frames()) == 3)
    full = False
    assert await producer.publisher.flushed(20)
    assert [v for _, v, _, _ in agent.samples()["t"]] == list(range(20))
    job.cancel()


async def test_a_stream_whose_tags_become_known_late_was_announced_at_the_start(agent: BusServer) -> None:
    outbox = Outbox(lambda: "life", cap_bytes=1 << 20)
    backoff = Backoff(BackoffConfig(min_ms=10, max_ms=50), lambda: 0.5)
    beat = Heartbeat(state=State.STARTING, reason="Starting")
    publisher = Publisher(agent.path, outbox, backoff, lambda: beat, streams=("tags",))
    job = asyncio.create_task(publisher.run())
    await agent.until(lambda: len(agent.hellos) == 1)
    publisher.open("tags", TAGS)
    await agent.until(lambda: len(agent.all_frames()) == 1)
    assert agent.hellos[0].streams == ("tags",)
    job.cancel()


async def test_a_frame_that_is_never_taken_is_counted_and_the_rest_goes_on(agent: BusServer) -> None:
    producer = Producer(agent.path)
    agent.refuse = lambda frame: (
        Refused(stream=frame.stream, seq=frame.seq, what="not a block", retryable=False)
        if frame.seq == 4 and frame.kind is FrameKind.SAMPLES
        else None
    )
    job = asyncio.create_task(producer.publisher.run())
    producer.produce(6)
    assert await producer.publisher.flushed(20)
    assert [v for _, v, _, _ in agent.samples()["t"]] == [0, 1, 3, 4, 5]
    [gap] = [frame for frame in agent.all_frames() if frame.kind is FrameKind.GAP]
    assert (gap.seq, gap.last_seq, gap.count) == (4, 4, 1)
    assert producer.heartbeat().streams[0].dropped_samples == 1
    job.cancel()


async def test_an_agent_with_a_new_disk_gets_a_new_incarnation_and_nothing_unacknowledged_is_lost(
    agent: BusServer,
) -> None:
    producer = Producer(agent.path)
    job = asyncio.create_task(producer.publisher.run())
    producer.produce(10)
    assert await producer.publisher.flushed(20)
    await agent.stop()
    agent.forget()
    producer.produce(10)
    await agent.start()
    await agent.until(lambda: len(agent.all_frames()) >= 11)
    producer.produce(5)
    assert await producer.publisher.flushed(20)
    assert [v for _, v, _, _ in agent.samples()["t"]] == list(range(10, 25))
    assert agent.hellos[-1].incarnation == "life-2"
    status = producer.heartbeat().streams[0]
    assert agent.chain("tags", "life-2", status.acked_seq) == (15, status.acked_chain)
    job.cancel()


async def test_what_did_not_fit_while_the_agent_was_away_is_one_exact_gap(agent: BusServer) -> None:
    producer = Producer(agent.path, cap_bytes=40_000)
    await agent.stop()
    job = asyncio.create_task(producer.publisher.run())
    producer.produce(400)
    await agent.start()
    assert await producer.publisher.flushed(20)
    frames = agent.all_frames()
    [gap] = [frame for frame in frames if frame.kind is FrameKind.GAP]
    values = [v for _, v, _, _ in agent.samples()["t"]]
    assert values == list(range(gap.count, 400))
    assert frames[0].kind is FrameKind.DESCRIPTOR
    assert producer.heartbeat().streams[0].dropped_samples == gap.count
    job.cancel()


async def test_heartbeats_follow_a_change_at_once(agent: BusServer) -> None:
    producer = Producer(agent.path)
    job = asyncio.create_task(producer.publisher.run())
    await agent.until(lambda: len(agent.heartbeats) == 1)
    producer.publisher.changed()
    await agent.until(lambda: len(agent.heartbeats) == 2, 4.0)
    job.cancel()
