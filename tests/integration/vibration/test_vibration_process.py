"""The vibration workload as a process, fed as an acquisition program would feed it, with a faked agent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np

from manifests.messages import State
from manifests.model import RUN_VARIABLE
from tests.simulators.bearing_signal import Fault, Machine, record
from tests.support.busserver import BusServer
from tests.support.workload_process import running, write_context
from workloads.vibration.sources.block import unpack

FAULTY = Machine(seconds=2.0, faults=(Fault(part="IR", level=1.0),))


def _config(spool: Path, **other: Any) -> dict[str, Any]:
    machine = {
        "name": "fan",
        "place": {"area": "hall", "line": "air", "asset": "fan-1"},
        "spool": {"folder": str(spool), "rateHz": 12_000, "unit": "g", "intervalMs": 100, "existing": "analyse"},
        "bearings": [{"name": "de", "geometry": {"elements": 9, "diameter": 7.938, "pitch": 38.5}}],
        "rpm": 1750,
        "zone": "class1",
    }
    return {"live": None, "block": {"periodMs": 100}, "machines": [machine], **other}


def _put(spool: Path, name: str, samples: np.ndarray) -> None:
    np.save(spool / "writing.tmp.npy", samples)
    (spool / "writing.tmp.npy").rename(spool / name)


async def test_records_become_values_and_a_fault_becomes_an_alert_with_evidence(tmp_path: Path) -> None:
    spool, kept = tmp_path / "spool", tmp_path / "evidence"
    spool.mkdir()
    bus = BusServer(tmp_path / "bus.sock")
    await bus.start()
    write_context(tmp_path, _config(spool, evidence={"folder": str(kept)}), workload="vibration")
    try:
        async with running("workloads.vibration", env={RUN_VARIABLE: str(tmp_path)}):
            _put(spool, "a.npy", record(Machine(seconds=2.0), 0))
            await bus.until(lambda: bool(bus.blocks()) and bool(bus.samples()["fault"]))
            topics = {tag.topic for tag in bus.descriptor().tags}
            assert "acme/hamburg/hall/air/fan-1/velocity_rms" in topics
            assert "acme/hamburg/hall/air/fan-1/de/fault" in topics
            assert bus.samples()["fault"][-1][3] == "N"

            _put(spool, "b.npy", np.full(24_000, np.nan))
            await bus.until(lambda: any("no numbers" in (each[3] or "") for each in bus.samples()["quality"]))
            await bus.until(lambda: bus.heartbeats[-1].devices[0].state is State.FAILED)
            assert bus.heartbeats[-1].devices[0].reason == "BadRecord"

            for seed in range(3):
                _put(spool, f"c{seed}.npy", record(FAULTY, seed))
            await bus.until(lambda: any(each[3] == "de: IR" for each in bus.samples()["alert"]))
            await bus.until(lambda: bus.heartbeats[-1].devices[0].state is State.RUNNING)
            async with asyncio.timeout(10):
                while not list(kept.glob("*.json")):  # another process writes it
                    await asyncio.sleep(0.05)
    finally:
        await bus.stop()
    (summary,) = kept.glob("*.json")
    told = json.loads(summary.read_text())
    assert told["diagnoses"]["de"]["fault"] == "IR"
    heard = unpack(summary.with_suffix(".svb1").read_bytes())
    assert heard.channels.shape == (24_000, 1)
    assert heard.rate_hz == 12_000


async def test_a_folder_that_is_missing_is_told_and_waited_for(tmp_path: Path) -> None:
    spool = tmp_path / "later"
    bus = BusServer(tmp_path / "bus.sock")
    await bus.start()
    write_context(tmp_path, _config(spool), workload="vibration")
    try:
        async with running("workloads.vibration", env={RUN_VARIABLE: str(tmp_path)}):
            await bus.until(lambda: bool(bus.heartbeats) and bus.heartbeats[-1].devices != ())
            await bus.until(lambda: bus.heartbeats[-1].devices[0].reason == "Unreachable")
            spool.mkdir()
            _put(spool, "a.npy", record(Machine(seconds=2.0), 0))
            await bus.until(lambda: bus.heartbeats[-1].devices[0].state is State.RUNNING)
            await bus.until(lambda: bool(bus.blocks()) and bool(bus.samples()["fault"]))
    finally:
        await bus.stop()
