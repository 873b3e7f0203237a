"""The vibration workload as its own process before a simulated machine, with the agent faked by ``BusServer``."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from manifests.model import RUN_VARIABLE, RunContext, WriteGrant
from tests.support.busserver import BusServer
from tests.support.workload_process import running, wait_for_port

PLACE = {"area": "hall", "line": "drives", "asset": "motor-1"}
#: The simulated motor's nodes (tests/simulators/bearing_source.py).
OPCUA = {"node": "nsu=urn:sluice:simulators:bearing;s=Motor.Acceleration", "intervalMs": 100, "timeoutMs": 4000}
BESIDE = {"sequenceNode": "ns=2;s=Motor.Sequence", "speedNode": "ns=2;s=Motor.Speed",
          "overloadNode": "ns=2;s=Motor.Overload"}  # fmt: skip


@dataclass
class Rig:
    bus: BusServer
    folder: Path
    stack: AsyncExitStack
    port: int

    async def simulate(self, way: str, *more: str) -> asyncio.subprocess.Process:
        process = await self.stack.enter_async_context(
            running(
                "tests.simulators.bearing_source", way, "--host", "127.0.0.1", "--port", str(self.port),
                "--minutes", "0", "--period", "0.4", "--seconds", "1.5", *more,
            )
        )  # fmt: skip
        await wait_for_port(self.port, 40)
        return process

    async def watch(
        self,
        *,
        live: int | None = None,
        writes: tuple[WriteGrant, ...] = (),
        secrets: dict[str, str] | None = None,
        **source: Any,
    ) -> None:
        machine = {"name": "motor", "place": PLACE, "bearings": [{"name": "de", "type": "6205"}], "zone": "class1"}
        config = {
            "live": None if live is None else {"host": "127.0.0.1", "port": live, "minIntervalMs": 20},
            "block": {"periodMs": 100},
            "machines": [machine | source],
        }
        for name, value in (secrets or {}).items():
            self.secret(name, value)
        context = RunContext(
            enterprise="acme",
            site="hamburg",
            node="edge-1",
            instance="vibration-1",
            workload="vibration",
            version="0.1.0",
            generation=1,
            config=config,
            writes=writes,
            secrets=str(self.folder / "secrets") if secrets else "",
        )
        (self.folder / "context.json").write_bytes(msgspec.json.encode(context))
        await self.stack.enter_async_context(running("workloads.vibration", env={RUN_VARIABLE: str(self.folder)}))

    def secret(self, name: str, value: str) -> None:
        """As the agent hands one out, also anew while the instance runs."""
        folder = self.folder / "secrets"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(value)

    async def told(self, tag: str, value: str) -> None:
        def came() -> bool:
            return bool(self.bus.blocks()) and any(each[3] == value for each in self.bus.samples()[tag])

        await self.bus.until(came, 40)

    async def refused(self, count: int) -> None:
        def came() -> bool:
            return bool(self.bus.blocks()) and any(each[1] >= count for each in self.bus.samples()["refused"])

        await self.bus.until(came, 40)

    async def unreachable(self, why: str) -> None:
        """The source says that it cannot be reached, and why."""

        def came() -> bool:
            devices = self.bus.heartbeats[-1].devices if self.bus.heartbeats else ()
            return bool(devices) and devices[0].reason == "Unreachable" and why in devices[0].detail

        await self.bus.until(came, 40)

    def last(self, tag: str) -> float:
        return self.bus.samples()[tag][-1][1]
