"""A workload or simulator as its own process, as an agent would start it, with the far side faked by `BusServer`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from manifests.model import RUN_VARIABLE, RunContext

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def wait_for_port(port: int, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def write_context(folder: Path, config: Mapping[str, Any], *, workload: str) -> None:
    context = RunContext(
        enterprise="acme",
        site="hamburg",
        node="edge-1",
        instance=f"{workload}-1",
        workload=workload,
        version="0.1.0",
        generation=1,
        config=config,
    )
    (folder / "context.json").write_bytes(msgspec.json.encode(context))


@asynccontextmanager
async def running(*command: str, env: Mapping[str, str] | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m ...`; ended with SIGTERM, or SIGKILL when that does not help."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, cwd=ROOT, env={**os.environ, **(env or {})}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


@asynccontextmanager
async def broker(folder: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A real mosquitto, started as an agent without a container engine starts it."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240  # before anything runs
    write_context(folder, {"port": port}, workload="broker")
    async with running("workloads.broker", env={RUN_VARIABLE: str(folder)}) as process:
        await wait_for_port(port)
        yield process
