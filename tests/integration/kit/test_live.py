"""Live values against a real broker that comes, goes and hangs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiomqtt

from manifests.messages import Tag, TagType
from tests.support.workload_process import broker, free_port
from workloads.kit.backoff import BackoffConfig
from workloads.kit.live import Live, LiveConfig
from workloads.kit.samples import TagSpec, TagTable

FAST = BackoffConfig(min_ms=20, max_ms=100)


class Nowhere:
    def add(self, *sample: object) -> None: ...
    def extend(self, *samples: object) -> None: ...


def tell(port: int, tags: int = 3) -> tuple[Live, TagTable]:
    config = LiveConfig(host="127.0.0.1", port=port, min_interval_ms=10, backoff=FAST)
    live = Live(config, "127.0.0.1", client_id="test", state_topic="acme/hamburg/_workloads/x", random=lambda: 0.5)
    table = TagTable(Nowhere(), live.touched)
    live.table = table
    for number in range(tags):
        table.add(TagSpec(Tag(id=number, topic=f"acme/hamburg/a/l/p/t{number}", type=TagType.INT, unit="bar")))
    return live, table


async def connected(live: Live) -> None:
    async with asyncio.timeout(10):
        while not live.connected:  # the product needs no event for this
            await asyncio.sleep(0.01)


async def retained(port: int, want: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with asyncio.timeout(10), aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("acme/#")
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            found[str(message.topic)] = json.loads(message.payload)
            if len(found) >= want:
                break
    return found


async def test_a_restarted_broker_is_told_every_value_again(tmp_path: Path) -> None:
    port = free_port()
    live, table = tell(port)
    job = asyncio.create_task(live.run())
    for number in range(3):
        table.offer(number, 1_000_000_000, float(number), 192)
    async with broker(tmp_path / "b", port):
        first = await retained(port, 4)
    async with broker(tmp_path / "b", port):
        second = await retained(port, 4)
    assert first["acme/hamburg/a/l/p/t2"]["value"] == second["acme/hamburg/a/l/p/t2"]["value"] == 2
    assert second["acme/hamburg/_workloads/x"]["state"] == "online"
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


async def test_an_orderly_end_sends_what_is_pending_and_says_offline(tmp_path: Path) -> None:
    port = free_port()
    live, table = tell(port)
    async with broker(tmp_path / "b", port):
        job = asyncio.create_task(live.run())
        await connected(live)
        table.offer(0, 1_000_000_000, 42.0, 192)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        found = await retained(port, 2)
    assert found["acme/hamburg/a/l/p/t0"]["value"] == 42
    assert found["acme/hamburg/_workloads/x"]["state"] == "offline"


async def test_a_broker_that_never_reads_costs_no_memory_and_blocks_nobody(tmp_path: Path) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x20\x02\x00\x00")  # CONNACK, then nothing is ever read again
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # the socket buffer is to fill up
        await asyncio.sleep(3600)

    port = free_port()
    server = await asyncio.start_server(hang, "127.0.0.1", port)
    live, table = tell(port, tags=500)
    job = asyncio.create_task(live.run())
    await connected(live)
    for turn in range(400):
        for number in range(500):
            table.offer(number, (turn + 1) * 1_000_000_000, float(turn), 192)
        if turn % 20 == 0:
            await asyncio.sleep(0.001)
    assert len(live._pending) <= 500
    assert live.superseded + live.sent + len(live._pending) == 400 * 500
    assert live.superseded > 100_000
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    server.close()
