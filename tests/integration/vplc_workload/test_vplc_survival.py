"""Whoever dies beside the scan host, it scans on, and the tank's outputs keep moving."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.vplc_workload.vplc_plant import VplcPlant, plant, until

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]


@pytest.fixture
async def tank(tmp_path: Path, packed: Path) -> AsyncIterator[VplcPlant]:
    async with plant(tmp_path) as made:
        await made.start(packed)
        await made.outputs_move()
        yield made


@pytest.mark.parametrize("name", ["telemetry", "driver-remote_io", "server-hmi"])
async def test_a_killed_neighbour_is_started_again_and_the_host_does_not_notice(tank: VplcPlant, name: str) -> None:
    found = tank.status()
    assert found is not None
    before = await tank.kill(name)
    await until(f"{name} again", lambda: tank.children()[name].pid not in (0, before))
    scans = tank.scans()
    await until("more scans", lambda: tank.scans() > scans + 20)
    await tank.outputs_move()
    after, now = tank.children(), tank.status()
    assert now is not None
    assert (now.pid, after["host"].restarts) == (found.pid, 0)
    assert (after[name].restarts, after[name].end) == (1, "signal 9")
    assert tank.tank_says()[8] == 0  # the remote I/O never had to switch the pump off


async def test_a_killed_host_comes_back_warm_and_drives_on(tank: VplcPlant) -> None:
    await tank.configure(parameters={"Tank.setpoint": 1111})
    await until("the retained set-point", lambda: any((tank.kept / "retain").glob("retain.*")))
    before = await tank.kill("host")
    await until("another host", lambda: tank.children()["host"].pid not in (0, before) and tank.scans() > 0)
    await tank.outputs_move()
    found = tank.status()
    assert found is not None
    assert found.restored > 0
    await tank.bus.until(lambda: tank.last_heartbeat().measures.get("host_restarts") == 1)
    await tank.heard("Running", "Ok")


async def test_it_drives_on_without_its_agent(tank: VplcPlant) -> None:
    host = tank.children()["host"].pid
    await tank.bus.stop()
    await tank.outputs_move()
    await tank.bus.start()
    await tank.bus.until(lambda: len(tank.bus.hellos) > 1)
    assert tank.children()["host"].pid == host
    assert tank.children()["telemetry"].restarts == 0


async def test_a_stop_ends_in_order_with_the_pump_off(tank: VplcPlant) -> None:
    await until("the pump to be asked for", lambda: tank.tank_says()[2] > 0)
    [process] = tank.processes
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 15) == 0
    found = tank.status()
    assert found is not None
    assert found.phase == "stopped"
    await until("the pump to stand", lambda: tank.tank_says()[2] < 20)
    assert tank.tank_says()[8] == 0  # told to, not by its own fail-safe


async def test_nobody_is_left_behind_when_the_keeper_is_killed(tank: VplcPlant) -> None:
    children = [child.pid for child in tank.children().values()]
    [process] = tank.processes
    process.kill()
    await process.wait()
    await until("all to end", lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in children))
