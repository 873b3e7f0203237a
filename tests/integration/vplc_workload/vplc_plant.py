"""A virtual PLC as the agent starts it, with a faked agent, at a simulated tank that an independent client reads."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from manifests.messages import Configure, Heartbeat
from tests.simulators.launch import Simulator, started
from tests.support.busserver import BusServer
from tests.support.peers import mbpoll_read
from tests.support.workload_process import ROOT
from vplc.scan import status
from vplc.scan.errors import NotRunning
from workloads.vplc.health import ProcessState, parse_processes

PATIENCE_S = 30.0  # only how long a broken test takes to say so
GRANTS = [{"segment": "ot", "protocol": "modbus", "target": "tank-io", "points": ["holding 0", "coil 0-2"]}]


async def until(what: str, probe: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not await asyncio.to_thread(probe):
        assert time.monotonic() < end, f"gave up waiting for {what}"
        await asyncio.sleep(0.05)


class VplcPlant:
    def __init__(self, folder: Path, shared: Path, tank: Simulator) -> None:
        self.folder, self.shared, self.tank = folder, shared, tank
        self.run = folder / "run"
        self.kept = folder / "kept"
        for path in (self.run, self.kept, folder / "scratch"):
            path.mkdir(exist_ok=True)
        self.bus = BusServer(self.run / "bus.sock")
        self.instance = "tank"
        self.pair = ""
        self.config: dict[str, Any] = {
            "live": None,
            "place": {"area": "utilities", "line": "water", "asset": "tank1"},
            "drivers": {"remote_io": {"host": "tank-io", "port": tank.port}},
            "sampleMs": 100,
            "block": {"periodMs": 200},
            "parameters": {"Tank.setpoint": 1000},
        }
        self.revision = 0
        self.processes: list[asyncio.subprocess.Process] = []

    def write_context(self, **more: Any) -> None:
        context = {
            "enterprise": "acme", "site": "hh", "node": "edge1", "instance": self.instance, "workload": "tank",
            "version": "0.1.0", "generation": 1, "revision": self.revision, "config": self.config,
            "hosts": {"tank-io": self.tank.host}, "writes": GRANTS, "shared": str(self.shared), "kept": str(self.kept),
            "pair": self.pair,
            "control": {"periodMs": 10, "jitterP999Us": 20000, "watchdogMs": 100, "maxStopMs": 5000, "priority": 60},
        } | more  # fmt: skip
        fresh = self.run / ".context.json"
        fresh.write_text(json.dumps(context))
        fresh.rename(self.run / "context.json")

    async def start(self, program: Path, wait: bool = True) -> asyncio.subprocess.Process:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("VPLC_")}
        environment |= {"SLUICE_RUN": str(self.run), "TMPDIR": str(self.folder / "scratch"), "PYTHONPATH": str(ROOT)}
        with (self.folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "workloads.vplc", str(program), env=environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        if wait:
            await until(f"the first scans\n{self.log()}", lambda: self.scans() > 0)
        return process

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text()[-4000:] if path.exists() else ""

    async def configure(self, **live: Mapping[str, Any]) -> None:
        self.revision += 1
        self.config = {**self.config, **live}
        self.write_context()
        self.bus.say(Configure(generation=1, revision=self.revision))

    # ---- looking

    def status(self) -> status.Status | None:
        try:
            return status.read(self.shared)
        except NotRunning:
            return None

    def scans(self) -> int:
        found = self.status()
        return sum(task.scans for task in found.tasks) if found is not None and found.alive else 0

    def children(self) -> dict[str, ProcessState]:
        return parse_processes((self.shared / "processes.state").read_text())

    async def kill(self, name: str) -> int:
        """Kills a child that runs and gives its number; 0 would be the tests' own process group."""
        await until(f"{name} to run", lambda: self.children()[name].pid > 0)
        pid = self.children()[name].pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def tank_says(self) -> list[int]:
        """The tank's books (`tests.simulators.tank`), by mbpoll."""
        return [int(word) for word in mbpoll_read(self.tank.host, self.tank.port, 1, "input", 0, "uint16", 12)]

    def writes(self) -> int:
        says = self.tank_says()
        return says[4] << 16 | says[5]

    async def outputs_move(self) -> None:
        """Ten more writes arrive at the tank, and its pump is not kept off by the fail-safe."""
        first = await asyncio.to_thread(self.writes)
        await until("writes at the tank", lambda: self.writes() >= first + 10)

    def last_heartbeat(self) -> Heartbeat:
        return self.bus.heartbeats[-1]

    def measure(self, name: str) -> float | None:
        return self.last_heartbeat().measures.get(name) if self.bus.heartbeats else None

    async def heard(self, state: str, reason: str, detail: str = "") -> Heartbeat:
        def said() -> bool:
            return any(
                (h.state.value, h.reason) == (state, reason) and detail in h.detail for h in self.bus.heartbeats[-1:]
            )

        await self.bus.until(said, PATIENCE_S)
        return self.last_heartbeat()

    async def end(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 15)
                except TimeoutError:
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        await self.bus.stop()


@asynccontextmanager
async def plant(folder: Path) -> AsyncIterator[VplcPlant]:
    shared = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="vplc-plant-", dir="/dev/shm"))
    try:
        with started("tank", "--level", "950") as tank:
            made = VplcPlant(folder, shared, tank)
            await made.bus.start()
            made.write_context()
            try:
                yield made
            finally:
                await made.end()
    finally:
        shutil.rmtree(shared, ignore_errors=True)
