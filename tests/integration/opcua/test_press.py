"""The OPC UA translator as a process against the simulated press and a faked agent."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

from manifests.messages import State, TagType
from manifests.model import RUN_VARIABLE
from tests.simulators.press_signals import SIGNALS
from tests.support.busserver import BusServer
from tests.support.workload_process import free_port, running, wait_for_port, write_context

PUBLISHING_MS = 400


@dataclass
class Rig:
    bus: BusServer
    port: int
    folder: Path
    stack: AsyncExitStack

    async def press(self, *more: str) -> asyncio.subprocess.Process:
        process = await self.stack.enter_async_context(
            running(
                "tests.simulators.press", "--host", "127.0.0.1", "--port", str(self.port), "--period-ms", "200", *more
            )
        )
        await wait_for_port(self.port, 40)
        return process

    async def translate(self, **endpoint: Any) -> asyncio.subprocess.Process:
        config = {
            "live": None,
            "block": {"periodMs": 100},
            "endpoints": [
                {
                    "name": "press-1",
                    "url": f"opc.tcp://127.0.0.1:{self.port}",
                    "place": {"area": "forming", "line": "line-1", "asset": "press-1"},
                    "publishingIntervalMs": PUBLISHING_MS,
                    "timeoutMs": 2000,
                    "backoff": {"minMs": 100, "maxMs": 300},
                    **endpoint,
                }
            ],
        }
        write_context(self.folder, config, workload="opcua")
        return await self.stack.enter_async_context(running("workloads.opcua", env={RUN_VARIABLE: str(self.folder)}))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        bus = BusServer(tmp_path / "bus.sock")
        await bus.start()
        stack.push_async_callback(bus.stop)
        yield Rig(bus, free_port(), tmp_path, stack)


async def test_a_whole_subtree_arrives_with_units_ranges_and_the_servers_time(rig: Rig) -> None:
    await rig.press()
    await rig.translate(browse=[{"root": "Objects/2:Press"}])
    await rig.bus.until(lambda: len(rig.bus.blocks()) >= 6, 60)

    tags = {tag.topic.removeprefix("acme/hamburg/forming/line-1/press-1/"): tag for tag in rig.bus.descriptor().tags}
    assert set(tags) == {signal.path.replace("/", ".") for signal in SIGNALS} | {"SampleCounter"}
    for each in SIGNALS:
        told = tags[each.path.replace("/", ".")]
        assert (told.unit, told.low, told.high) == (each.unit if each.low is not None else "", each.low, each.high), (
            each.path
        )
        kind = {"bool": TagType.BOOL, "string": TagType.STRING, "float": TagType.FLOAT, "double": TagType.FLOAT}
        assert told.type is kind.get(each.kind, TagType.INT), each.path
    phase = next(each for each in SIGNALS if each.kind == "phase")
    assert "0 " in tags[phase.path.replace("/", ".")].description

    series = rig.bus.samples()
    # The press changes 5 times a second and is sampled by the server that often at most: none may be missing.
    counter = series["SampleCounter"]
    assert all(later > earlier for earlier, later in pairwise(ts for ts, *_ in counter))
    assert all(ts % 1_000_000 == 0 for ts, *_ in counter), "whole milliseconds: the server's time stamps"
    assert {q for told in series.values() for _, _, q, _ in told} == {192}
    text = next(each for each in SIGNALS if each.kind == "string")
    assert all(s and v != v for _, v, _, s in rig.bus.samples()[text.path.replace("/", ".").rsplit("/", 1)[-1]])


async def test_a_frozen_server_turns_its_tags_bad_within_two_periods_and_a_new_one_is_found_again(rig: Rig) -> None:
    press = await rig.press()
    await rig.translate(nodes=[
        {"name": "counter", "node": "2:Press/2:SampleCounter"},
        {"name": "force", "node": "nsu=urn:sluice:simulators:press;s=Press.Ram.Force", "deadband": 5},
        {"name": "position", "node": "ns=2;s=Press.Ram.Position", "unit": "millimetre", "high": 700},
        {"name": "typo", "node": "ns=2;s=Press.Ram.Positoin"},
    ])  # fmt: skip
    await rig.bus.until(lambda: len(rig.bus.blocks()) >= 4, 60)
    tags = {tag.topic.rsplit("/", 1)[-1]: tag for tag in rig.bus.descriptor().tags}
    assert (tags["position"].unit, tags["position"].low, tags["position"].high) == ("millimetre", -5, 700)
    await rig.bus.until(lambda: rig.bus.heartbeats[-1].devices[0].state is State.RUNNING)
    assert "typo" in rig.bus.heartbeats[-1].devices[0].detail
    assert [q for _, _, q, _ in rig.bus.samples()["typo"]] == [4]

    press.send_signal(signal.SIGSTOP)
    await rig.bus.until(lambda: rig.bus.samples()["force"][-1][2] == 24)
    told = rig.bus.samples()["counter"]
    await rig.bus.until(lambda: rig.bus.samples()["counter"][-1][2] == 24)
    told = rig.bus.samples()["counter"]
    last_good = max(ts for ts, _, q, _ in told if q == 192)
    # Half a period of slack for scheduling, one for the press's own: it writes the value before it is published.
    assert told[-1][0] - last_good <= 3.5 * PUBLISHING_MS * 1_000_000
    assert rig.bus.heartbeats[-1].reason == "Degraded"

    press.send_signal(signal.SIGCONT)
    press.kill()
    await press.wait()
    await rig.press()
    await rig.bus.until(lambda: rig.bus.samples()["counter"][-1][2] == 192, 60)
    await rig.bus.until(lambda: rig.bus.heartbeats[-1].streams[0].good_tags == 3)
    for name, told in rig.bus.samples().items():
        assert all(later[0] > earlier[0] for earlier, later in pairwise(told)), name
    assert len({hello.incarnation for hello in rig.bus.hellos}) == 1


async def test_a_server_that_is_not_there_yet_is_reported_and_found_later(rig: Rig) -> None:
    await rig.translate(nodes=[{"name": "counter", "node": "ns=2;s=Press.SampleCounter"}])
    await rig.bus.until(
        lambda: any(device.reason == "Unreachable" for beat in rig.bus.heartbeats for device in beat.devices)
    )
    await rig.press()
    await rig.bus.until(lambda: len(rig.bus.blocks()) >= 2, 60)


async def test_an_encrypted_session_with_named_certificates_delivers(rig: Rig) -> None:
    own, theirs = rig.folder / "own", rig.folder / "theirs"
    own.mkdir()  # before anything runs
    await setup_self_signed_certificate(
        own / "key.pem",
        own / "cert.der",
        "urn:sluice:translator:opcua",
        "localhost",
        [ExtendedKeyUsageOID.CLIENT_AUTH],
        {"organizationName": "Sluice tests"},
    )
    await rig.press("--cert-dir", str(theirs))
    node = {"name": "counter", "node": "ns=2;s=Press.SampleCounter"}
    security = {
        "certificateFile": str(own / "cert.der"),
        "privateKeyFile": str(own / "key.pem"),
        "serverCertificateFile": str(theirs / "press.cert.der"),
    }
    await rig.translate(nodes=[node], security=security)
    await rig.bus.until(lambda: len(rig.bus.blocks()) >= 3, 60)
    assert rig.bus.samples()["counter"][-1][2] == 192


async def test_a_server_with_another_certificate_than_the_named_one_is_not_trusted(rig: Rig) -> None:
    folders = [rig.folder / name for name in ("own", "other")]
    for folder in folders:
        folder.mkdir()  # before anything runs
        await setup_self_signed_certificate(
            folder / "key.pem",
            folder / "cert.der",
            "urn:sluice:translator:opcua",
            "localhost",
            [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
            {"organizationName": "Sluice tests"},
        )
    await rig.press("--cert-dir", str(rig.folder / "theirs"))
    security = {
        "certificateFile": str(folders[0] / "cert.der"),
        "privateKeyFile": str(folders[0] / "key.pem"),
        "serverCertificateFile": str(folders[1] / "cert.der"),
    }
    await rig.translate(nodes=[{"name": "counter", "node": "ns=2;s=Press.SampleCounter"}], security=security)
    await rig.bus.until(
        lambda: any(device.reason == "Unreachable" for beat in rig.bus.heartbeats for device in beat.devices), 60
    )
    assert rig.bus.all_frames() == []
