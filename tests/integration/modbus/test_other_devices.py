"""Devices unlike the pump skid: RTU frames behind a serial server, a slow one, one that drops every connection."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from manifests.messages import State
from tests.support.workload_process import free_port
from workloads.kit.backoff import BackoffConfig
from workloads.kit.samples import TagTable
from workloads.modbus.config import Device, Group, Place, ReadConfig, TagConfig
from workloads.modbus.device import DevicePoller
from workloads.modbus.translate import Point, spec


class Told:
    def __init__(self) -> None:
        self.samples: list[tuple[int, int, float, int]] = []

    def add(self, tag: int, ts_ns: int, value: float, quality: int, text: str | None = None) -> None:
        self.samples.append((tag, ts_ns, value, quality))

    def extend(self, tags: object, ts_ns: int, values: object, qualities: object) -> None:
        for tag, value, quality in zip(tags, values, qualities, strict=True):  # type: ignore[call-overload]
            self.samples.append((tag, ts_ns, value, quality))


@asynccontextmanager
async def polling(port: int, **more: object) -> AsyncIterator[tuple[DevicePoller, Told]]:
    tags = (TagConfig(name="a", area="holding", address=0), TagConfig(name="b", area="holding", address=1))
    group = Group(name="g", tags=tags, interval_ms=50)
    device = Device(
        name="d",
        host="127.0.0.1",
        port=port,
        place=Place(area="a", line="l", asset="p"),
        groups=(group,),
        timeout_ms=200,
        backoff=BackoffConfig(min_ms=20, max_ms=40),
        **more,  # type: ignore[arg-type]
    )
    told, clock = Told(), itertools.count(1_000_000_000, 1_000_000)
    table = TagTable(told, lambda tag: None)
    points = [Point(table.add(spec(n, tag, device, group, "x/y", 100)), tag) for n, tag in enumerate(tags)]
    poller = DevicePoller(
        device,
        [points],
        table,
        address="127.0.0.1",
        now_ns=lambda: next(clock),
        random=lambda: 0.5,
        changed=lambda: None,
    )
    job = asyncio.create_task(poller.run())
    try:
        yield poller, told
    finally:
        job.cancel()
        await asyncio.wait({job}, timeout=2)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # the poller has nothing to wait for
            await asyncio.sleep(0.01)


async def test_rtu_frames_behind_a_serial_server_are_read() -> None:
    port = free_port()
    memory = SimDevice(1, simdata=[SimData(0, values=[7, 65535], datatype=DataType.REGISTERS)])
    server = ModbusTcpServer(memory, framer=FramerType.RTU, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    async with polling(port, framing="rtu") as (poller, told):
        await until(lambda: len(told.samples) >= 2)
        assert {(tag, value) for tag, _, value, _ in told.samples} == {(0, 7.0), (1, 65535.0)}
        assert poller.status().state is State.RUNNING
    await server.shutdown()


async def test_a_device_that_drops_every_connection_is_asked_again_with_pauses_and_named() -> None:
    knocks = 0

    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal knocks
        knocks += 1
        with suppress(asyncio.IncompleteReadError):
            await reader.readexactly(1)
        writer.close()

    port = free_port()
    server = await asyncio.start_server(slam, "127.0.0.1", port)
    async with polling(port) as (poller, told):
        await until(lambda: knocks >= 4)
        assert poller.status().state is State.FAILED
        assert poller.status().reason == "Unreachable"
        assert "closed the connection" in poller.status().detail
        assert [quality for _, _, _, quality in told.samples] == [24, 24], "told once, not at every attempt"
    server.close()


async def test_an_answer_to_another_request_is_never_taken_for_ours() -> None:
    async def confused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(12)
                wrong = (int.from_bytes(head[:2], "big") + 1).to_bytes(2, "big")
                writer.write(wrong + b"\0\0\0\7\1\3\4\0\1\0\2")
                await writer.drain()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(confused, "127.0.0.1", port)
    async with polling(port) as (poller, told):
        await until(lambda: poller.status().state is State.FAILED)
        assert {quality for _, _, _, quality in told.samples} == {24}
    server.close()


async def test_a_short_answer_is_an_error_and_not_a_value() -> None:
    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(12)
                writer.write(head[:2] + b"\0\0\0\5\1\3\2\0\1")
                await writer.drain()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(short, "127.0.0.1", port)
    async with polling(port) as (poller, told):
        await until(lambda: bool(told.samples))
        assert {quality for _, _, _, quality in told.samples} == {24}
        await until(lambda: poller.status().state is State.FAILED)
    server.close()


async def test_a_read_that_is_never_answered_does_not_starve_the_others_and_is_told_bad() -> None:
    async def selective(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(12)
                if head[8:10] == b"\0\0":  # address 0: silence
                    continue
                writer.write(head[:2] + b"\0\0\0\5\1\3\2\0\7")
                await writer.drain()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(selective, "127.0.0.1", port)
    async with polling(port, read=ReadConfig(max_registers=1)) as (_, told):
        await until(lambda: any(tag == 1 and quality == 192 for tag, _, _, quality in told.samples))
        await until(lambda: any(tag == 0 for tag, *_ in told.samples))
        assert {quality for tag, _, _, quality in told.samples if tag == 0} == {24}
        assert {value for tag, _, value, quality in told.samples if tag == 1 and quality == 192} == {7.0}
    server.close()
