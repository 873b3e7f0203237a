"""The Modbus translator as a process against the simulated pump skid, a real broker and a faked agent."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from manifests.messages import State
from manifests.model import RUN_VARIABLE
from tests.support.busserver import BusServer
from tests.support.workload_process import broker, free_port, running, wait_for_port, write_context

INTERVAL_MS = 250


def tag(name: str, address: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "area": "input", "address": address, "type": kind, **more}


def pump(port: int, name: str = "pump-1", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "host": "127.0.0.1",
        "port": port,
        "timeoutMs": 300,
        "backoff": {"minMs": 50, "maxMs": 200},
        "place": {"area": "water", "line": "line-1", "asset": name},
        "groups": [
            {
                "name": "fast",
                "intervalMs": INTERVAL_MS,
                "tags": [
                    tag("counter", 0, "uint32"),
                    tag("flow", 6, "float32", byteOrder="CDAB", unit="m3/h", low=40, high=80),
                    tag("level", 10, "uint16", scale=0.01, unit="%"),
                    tag("energy", 26, "int64", byteOrder="CDAB", unit="Wh"),
                    tag("starts", 42, "uint32"),
                    tag("running", 45, "bool", bit=0),
                    {"name": "model", "area": "holding", "address": 0, "type": "uint16"},
                    *more.pop("tags", []),
                ],
            }
        ],
        **more,
    }


@dataclass
class Rig:
    bus: BusServer
    modbus_port: int
    broker_port: int
    skid: asyncio.subprocess.Process
    folder: Path
    stack: AsyncExitStack

    async def translate(self, *devices: dict[str, Any]) -> asyncio.subprocess.Process:
        config = {
            "live": {"host": "127.0.0.1", "port": self.broker_port, "minIntervalMs": 20},
            "block": {"periodMs": 100},
            "devices": list(devices),
        }
        write_context(self.folder, config, workload="modbus")
        return await self.stack.enter_async_context(running("workloads.modbus", env={RUN_VARIABLE: str(self.folder)}))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        modbus_port, broker_port = free_port(), free_port()
        await stack.enter_async_context(broker(tmp_path / "broker", broker_port))
        skid = await stack.enter_async_context(
            running("tests.simulators.pump_skid", "--host", "127.0.0.1", "--port", str(modbus_port))
        )
        await wait_for_port(modbus_port)
        bus = BusServer(tmp_path / "bus.sock")
        await bus.start()
        stack.push_async_callback(bus.stop)
        yield Rig(bus, modbus_port, broker_port, skid, tmp_path, stack)


async def test_values_of_every_type_arrive_with_unit_source_and_time(rig: Rig) -> None:
    await rig.translate(pump(rig.modbus_port))
    await rig.bus.until(lambda: len(rig.bus.blocks()) >= 8)

    tags = {each.topic.rsplit("/", 1)[-1]: each for each in rig.bus.descriptor().tags}
    assert tags["flow"].topic == "acme/hamburg/water/line-1/pump-1/flow"
    assert (tags["flow"].unit, tags["flow"].low, tags["flow"].high) == ("m3/h", 40, 80)
    assert tags["flow"].source == "pump-1: input 6 float32 CDAB"

    samples = rig.bus.samples()
    counts = [v for _, v, _, _ in samples["counter"]]
    assert all(later > earlier for earlier, later in pairwise(counts))
    times = [ts for ts, _, _, _ in samples["counter"]]
    assert all(later > earlier for earlier, later in pairwise(times))
    assert {q for series in samples.values() for _, _, q, _ in series} == {192}
    assert 0 < samples["level"][-1][1] <= 100
    assert samples["running"][-1][1] == 1
    assert len(samples["running"]) == 1, "what does not change is told once"


async def test_a_silent_device_turns_bad_within_two_periods_and_everything_else_goes_on(rig: Rig) -> None:
    other_port = free_port()
    await rig.stack.enter_async_context(
        running("tests.simulators.pump_skid", "--host", "127.0.0.1", "--port", str(other_port))
    )
    await wait_for_port(other_port)
    await rig.translate(pump(rig.modbus_port), pump(other_port, "pump-2"))
    await rig.bus.until(lambda: len(rig.bus.blocks()) >= 5)

    rig.skid.send_signal(signal.SIGUSR1)
    await rig.bus.until(lambda: bool(rig.bus.heartbeats) and rig.bus.heartbeats[-1].streams[0].good_tags == 7)
    await rig.bus.until(lambda: all(told[-1][2] == 24 for told in _series(rig, "pump-1").values()))
    series = _series(rig, "pump-1")
    for name, told in series.items():
        _, value, quality, _ = told[-1]
        assert quality == 24, name
        assert value != value, name
    last_good = max(ts for ts, _, q, _ in series["counter"] if q == 192)
    went_bad = next(ts for ts, _, q, _ in series["counter"] if q == 24)
    # Half a period of slack for scheduling: the machine of the test is shared.
    assert went_bad - last_good <= 2.5 * INTERVAL_MS * 1_000_000
    states = {device.name: device.state for device in rig.bus.heartbeats[-1].devices}
    assert states == {"pump-1": State.FAILED, "pump-2": State.RUNNING}
    before = len(_series(rig, "pump-2")["counter"])
    await rig.bus.until(lambda: len(rig.bus.blocks()) >= 20)
    assert len(_series(rig, "pump-2")["counter"]) > before

    rig.skid.send_signal(signal.SIGUSR2)
    await rig.bus.until(lambda: rig.bus.heartbeats[-1].streams[0].good_tags == 14)
    assert rig.bus.heartbeats[-1].reason == "Ok"


def _series(rig: Rig, asset: str) -> dict[str, list[tuple[int, float, int, str | None]]]:
    names = {tag.id: tag.topic.split("/")[-2:] for tag in rig.bus.descriptor().tags}
    found: dict[str, list[tuple[int, float, int, str | None]]] = {}
    for block in rig.bus.blocks():
        for number, ts, v, q in zip(block.tag, block.ts, block.v, block.q, strict=True):
            if names[number][0] == asset:
                found.setdefault(names[number][1], []).append((ts, v, q, None))
    return found


async def test_one_illegal_address_costs_only_its_own_tag(rig: Rig) -> None:
    await rig.translate(pump(rig.modbus_port, tags=[tag("nowhere", 33, "uint16")]))
    await rig.bus.until(
        lambda: (
            bool(rig.bus.heartbeats)
            and bool(rig.bus.heartbeats[-1].devices)
            and rig.bus.heartbeats[-1].devices[0].reason == "BadTags"
        )
    )
    await rig.bus.until(lambda: len(rig.bus.blocks()) >= 5)
    device = rig.bus.heartbeats[-1].devices[0]
    assert device.state is State.RUNNING
    assert "nowhere: input 33 to 33: illegal data address (code 2)" in device.detail
    samples = rig.bus.samples()
    assert [q for _, _, q, _ in samples.pop("nowhere")] == [4]
    assert all(series[-1][2] == 192 for series in samples.values())


async def test_an_agent_that_dies_and_forgets_its_acks_in_flight_gets_every_sample_once_in_order(rig: Rig) -> None:
    process = await rig.translate(pump(rig.modbus_port))
    for _ in range(3):
        have = len(rig.bus.blocks())
        rig.bus.drop_after = 3
        await rig.bus.until(lambda have=have: len(rig.bus.blocks()) >= have + 3)  # type: ignore[misc]  # default binds
        await rig.bus.stop()
        await asyncio.sleep(0.5)
        await rig.bus.start()
    have = len(rig.bus.blocks())
    await rig.bus.until(lambda: len(rig.bus.blocks()) >= have + 3)
    beats = len(rig.bus.heartbeats)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 15) == 0

    assert len({hello.incarnation for hello in rig.bus.hellos}) == 1
    frames = rig.bus.all_frames()
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    counts = [v for _, v, _, _ in rig.bus.samples()["counter"]]
    assert all(later > earlier for earlier, later in pairwise(counts))
    last = rig.bus.heartbeats[-1].streams[0]
    assert beats
    assert rig.bus.chain("tags", last.incarnation, last.acked_seq) == (last.acked_samples, last.acked_chain)


async def test_live_values_are_retained_documents_and_the_will_tells_a_death(rig: Rig) -> None:
    process = await rig.translate(pump(rig.modbus_port))
    await rig.bus.until(lambda: len(rig.bus.blocks()) >= 3)
    async with aiomqtt.Client("127.0.0.1", rig.broker_port) as client:
        await client.subscribe("acme/hamburg/#")
        seen: dict[str, dict[str, Any]] = {}

        async def until(condition: Any) -> None:
            async with asyncio.timeout(15):
                async for message in client.messages:
                    assert isinstance(message.payload, bytes)
                    seen[str(message.topic)] = json.loads(message.payload)
                    if condition():
                        return

        flow = "acme/hamburg/water/line-1/pump-1/flow"
        state = "acme/hamburg/_workloads/modbus-1"
        await until(lambda: flow in seen and state in seen)
        assert set(seen[flow]) == {"value", "quality", "code", "ts", "unit"}
        assert (seen[flow]["quality"], seen[flow]["code"], seen[flow]["unit"]) == ("good", 192, "m3/h")
        assert seen[state]["state"] == "online"

        rig.skid.send_signal(signal.SIGUSR1)
        await until(lambda: seen[flow]["quality"] == "bad")
        assert isinstance(seen[flow]["value"], float), "the last value stays"
        process.kill()
        await until(lambda: seen[state]["state"] == "offline")


async def test_a_wrong_configuration_is_told_whole_and_the_process_stays(rig: Rig) -> None:
    device = pump(rig.modbus_port, tags=[tag("flow", 99, "float32"), tag("odd", 70000, "float31")])
    device["hots"] = "x"
    process = await rig.translate(device)
    await rig.bus.until(lambda: any(beat.reason == "BadConfig" for beat in rig.bus.heartbeats))
    detail = rig.bus.heartbeats[-1].detail
    assert 'unknown key "hots"' in detail
    assert 'did you mean "host"?' in detail
    assert "devices[0].groups[0].tags[8].address" in detail
    assert "devices[0].groups[0].tags[8].type" in detail
    assert process.returncode is None
