"""Records over OPC UA, MQTT, Sparkplug and Modbus into the vibration workload: real protocols, a faked agent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiomqtt
import pytest

from manifests.messages import State
from manifests.model import WriteGrant
from tests.support.vibration_rig import BESIDE, OPCUA, Rig
from tests.support.workload_process import broker


@pytest.mark.parametrize("limit", ["0", "4000"])
async def test_a_y_array_item_tells_rate_unit_and_range_itself(rig: Rig, limit: str) -> None:
    """Also where the server refuses to send it at once: then it is read in ranges."""
    await rig.simulate("opcua", "--max-values", limit)
    chunk = {"chunk": 3000} if limit != "0" else {}
    await rig.watch(opcua={"url": f"opc.tcp://127.0.0.1:{rig.port}", **OPCUA, **BESIDE, **chunk})
    await rig.told("fault", "OR")
    assert rig.last("velocity_rms") > 0, "the unit came with the item"
    assert rig.last("speed") == 1480
    await rig.bus.until(lambda: rig.bus.heartbeats[-1].devices[0].state is State.RUNNING)


async def test_an_axis_that_contradicts_the_declared_rate_is_refused_and_counted(rig: Rig) -> None:
    await rig.simulate("opcua")
    url = f"opc.tcp://127.0.0.1:{rig.port}"
    await rig.watch(opcua={"url": url, **OPCUA, **BESIDE, "rateHz": 25_600})
    await rig.bus.until(
        lambda: bool(rig.bus.blocks()) and any(each[1] >= 2 for each in rig.bus.samples()["refused"]), 40
    )
    detail = rig.bus.heartbeats[-1].devices[0].detail
    assert "declared rate 25600 Hz" in detail
    assert "12800" in detail


@pytest.mark.parametrize("form", ["binary", "json", "sparkplug"])
async def test_records_come_out_of_a_broker(rig: Rig, form: str) -> None:
    await rig.stack.enter_async_context(broker(rig.folder / "broker", rig.port))
    topic = "spBv1.0/plant/edge/motor" if form == "sparkplug" else "records/motor"
    more: dict[str, Any] = (
        {"metric": "wave", "rateMetric": "rate", "speedMetric": "speed"} if form == "sparkplug" else {}
    )
    mqtt = {"host": "127.0.0.1", "port": rig.port, "topic": topic, "format": form, **more}
    await rig.watch(mqtt=mqtt, live=rig.port)
    await rig.bus.until(lambda: bool(rig.bus.heartbeats) and bool(rig.bus.heartbeats[-1].devices))
    await asyncio.sleep(1.0)  # a birth is told once: whoever subscribes later never hears it
    await rig.simulate("mqtt", "--topic", topic, "--format", form)
    await rig.told("fault", "OR")
    assert rig.last("velocity_rms") > 0
    async with aiomqtt.Client("127.0.0.1", rig.port) as client:
        await client.subscribe("acme/hamburg/hall/drives/motor-1/vibration_asset")
        async with asyncio.timeout(10):
            message = await anext(client.messages)
    asset = json.loads(message.payload)  # type: ignore[arg-type]  # bytes
    assert asset["schema"] == "sluice/vibration-asset/v1"
    assert asset["bearings"][0]["fault"] == "OR"
    assert asset["rateHz"] == 12_800


async def test_what_is_no_record_is_refused_by_name_and_the_stream_goes_on(rig: Rig) -> None:
    await rig.stack.enter_async_context(broker(rig.folder / "broker", rig.port))
    await rig.watch(mqtt={"host": "127.0.0.1", "port": rig.port, "topic": "records/motor"})
    await rig.bus.until(lambda: bool(rig.bus.heartbeats) and bool(rig.bus.heartbeats[-1].devices))
    await asyncio.sleep(1.0)
    async with aiomqtt.Client("127.0.0.1", rig.port) as client:
        for garbage in (b"", b"hello", b"SVB1" + bytes(60), b"SVB2" + bytes(44)):
            await client.publish("records/motor", garbage)
            await asyncio.sleep(0.2)
    await rig.refused(4)
    assert "records/motor" in rig.bus.heartbeats[-1].devices[0].detail
    await rig.simulate("mqtt")
    await rig.told("fault", "OR")
    await rig.bus.until(lambda: rig.bus.heartbeats[-1].devices[0].state is State.RUNNING)


MODBUS = {"host": "127.0.0.1", "area": "input", "address": 100, "registers": 19_200, "layout": "int16", "unit": "g",
          "scale": 1 / 4096, "rateHz": 12_800, "indexAddress": 0, "speedAddress": 1, "speedScale": 0.1,
          "overloadAddress": 2, "intervalMs": 100}  # fmt: skip


async def test_a_modbus_block_that_stands_long_enough_is_read_without_a_write(rig: Rig) -> None:
    await rig.simulate("modbus", "--period", "3")
    await rig.watch(modbus={**MODBUS, "port": rig.port})
    await rig.told("fault", "OR")
    assert rig.last("velocity_rms") > 0


async def test_freezing_needs_the_grant_of_the_signed_release(rig: Rig) -> None:
    source = {**MODBUS, "port": rig.port, "freeze": {"address": 0, "write": True}}
    await rig.watch(modbus=source)
    await rig.bus.until(lambda: bool(rig.bus.heartbeats) and rig.bus.heartbeats[-1].reason == "BadConfig")
    assert "no grant to write modbus" in rig.bus.heartbeats[-1].detail


async def test_with_the_grant_a_fast_buffer_is_held_while_it_is_read(rig: Rig) -> None:
    await rig.simulate("modbus", "--period", "0.05")
    grant = WriteGrant(segment="ot", protocol="modbus", target="127.0.0.1", points=("holding 0",))
    await rig.watch(modbus={**MODBUS, "port": rig.port, "freeze": {"address": 0, "write": True}}, writes=(grant,))
    await rig.told("fault", "OR")
