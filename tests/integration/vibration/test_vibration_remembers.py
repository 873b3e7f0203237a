"""The vibration workload over restarts, acknowledgements and inquiries, with a faked agent."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from manifests.messages import Configure, Inquire
from manifests.model import RUN_VARIABLE, RunContext
from tests.simulators.bearing_signal import Fault, Machine, record
from tests.support.busserver import BusServer
from tests.support.workload_process import running
from workloads.vibration.sources.block import unpack

FAULTY = Machine(seconds=2.0, faults=(Fault(part="IR", level=1.0),))


class Site:
    """A folder of records, a kept folder and a run folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool, self.kept = root / "spool", root / "kept"
        for folder in (self.spool, self.kept):
            folder.mkdir()
        self.put_count = 0

    def context(self, *, revision: int = 0, **more: Any) -> None:
        machine = {
            "name": "fan",
            "place": {"area": "hall", "line": "air", "asset": "fan-1"},
            "spool": {"folder": str(self.spool), "rateHz": 12_000, "unit": "g", "intervalMs": 100},
            "bearings": [{"name": "de", "geometry": {"elements": 9, "diameter": 7.938, "pitch": 38.5}}],
            "rpm": 1750,
            "zone": "class1",
            "trend": {"learn": 10},
        }
        context = RunContext(
            enterprise="acme",
            site="hamburg",
            node="edge-1",
            instance="vibration-1",
            workload="vibration",
            version="0.1.0",
            generation=1,
            revision=revision,
            kept=str(self.kept),
            config={"live": None, "block": {"periodMs": 100}, "machines": [machine], **more},
        )
        part = self.root / ".context"
        part.write_bytes(msgspec.json.encode(context))
        part.rename(self.root / "context.json")

    def put(self, machine: Machine) -> None:
        self.put_count += 1
        np.save(self.spool / ".writing.npy", record(machine, self.put_count).astype(np.float32))
        (self.spool / ".writing.npy").rename(self.spool / f"r{self.put_count:03d}.npy")


def _last(bus: BusServer, tag: str) -> tuple[float, str | None]:
    told = bus.samples().get(tag, []) if bus.blocks() else []
    return (told[-1][1], told[-1][3]) if told else (float("nan"), None)


async def test_baselines_and_alerts_outlive_a_restart_and_an_acknowledgement_is_taken(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.context()
    env = {RUN_VARIABLE: str(tmp_path)}
    bus = BusServer(tmp_path / "bus.sock")
    await bus.start()
    try:
        async with running("workloads.vibration", env=env):
            await bus.until(lambda: bool(bus.heartbeats) and bool(bus.heartbeats[-1].devices))
            for count in range(1, 15):
                site.put(Machine(seconds=2.0) if count < 12 else FAULTY)
                await bus.until(lambda count=count: _last(bus, "records")[0] == count)  # type: ignore[misc]
            await bus.until(lambda: _last(bus, "alert")[1] == "de: IR")
            assert _last(bus, "alert_state")[1] == "unacknowledged"
            assert _last(bus, "alarm")[1] == "normal", "learnt"
        before = len(bus.all_frames())

        async with running("workloads.vibration", env=env):
            await bus.until(lambda: len(bus.all_frames()) > before)
            site.put(FAULTY)
            await bus.until(lambda: _last(bus, "records")[0] == 1)
            assert _last(bus, "alarm")[1] == "normal", "not learning anew"
            assert _last(bus, "alert")[1] == "de: IR"
            site.context(revision=1, acknowledged={"fan": "2100-01-01T00:00:00Z"})
            bus.say(Configure(generation=1, revision=1))
            site.put(FAULTY)
            await bus.until(lambda: _last(bus, "alert_state")[1] == "acknowledged")
    finally:
        await bus.stop()


async def test_spectra_waterfall_and_evidence_are_answered_when_asked(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.context()
    bus = BusServer(tmp_path / "bus.sock")
    await bus.start()

    async def ask(kind: str, **arguments: Any) -> Any:
        body = json.dumps(arguments).encode()
        answers = await bus.ask(Inquire(id=f"{kind}-{len(bus.answers)}", kind=kind, body=body, timeout_s=10.0))
        assert answers[-1].final
        if answers[-1].error:
            return answers[-1].error
        parts = [each for each in answers if each.payload]
        return json.loads(parts[0].payload) if parts[0].media == "application/json" else parts

    try:
        async with running("workloads.vibration", env={RUN_VARIABLE: str(tmp_path)}):
            await bus.until(lambda: bool(bus.heartbeats) and bool(bus.heartbeats[-1].devices))
            assert "no record yet" in await ask("spectrum")
            for count in range(1, 4):
                site.put(FAULTY)
                await bus.until(lambda count=count: _last(bus, "records")[0] == count)  # type: ignore[misc]
            spectrum = await ask("spectrum", machine="fan", of="amplitude", lines=100_000)
            lines = np.frombuffer(base64.b64decode(spectrum["values"]), dtype="<f4")
            assert len(lines) == spectrum["count"] == 12_001
            shaft = lines[round(1750 / 60 / spectrum["stepHz"])]
            assert 0.01 < float(shaft) < 0.03, "0.02 g at the shaft, within the window's scallop"
            envelope = await ask("spectrum", of="envelope")
            assert envelope["unit"] == "dB over floor"
            assert envelope["diagnoses"]["de"]["fault"] == "IR"
            assert envelope["orders"]["de"]["bpfi"] > 5
            assert len((await ask("waterfall"))["rows"]) == 3
            wave = await ask("waveform", points=500)
            assert len(base64.b64decode(wave["low"])) == len(base64.b64decode(wave["high"]))
            assert (await ask("asset"))["bearings"][0]["fault"] == "IR"
            assert (await ask("trend"))["rms"]["alarm"] == "learning"
            (kept,) = await ask("evidence", machine="fan")
            pieces = await ask("evidence", id=kept["id"])
            heard = unpack(b"".join(piece.payload for piece in pieces))
            assert heard.channels.shape == (24_000, 1)
            assert "unknown spectrum" in await ask("spectrum", of="colour")
            assert "no machine" in await ask("asset", machine="pump")
    finally:
        await bus.stop()
