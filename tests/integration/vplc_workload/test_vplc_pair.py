"""Two instances stand by for each other at one tank: whatever ends the leader, the other drives on from there."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.vplc_workload.vplc_plant import VplcPlant, until
from tests.simulators.launch import Simulator, started
from tests.support.peers import mbpoll_read
from tests.support.workload_process import ROOT
from vplc.scan import status, watch

pytestmark = [pytest.mark.peer, pytest.mark.timeout(240)]

WRITES, LONGEST_MS, TRIPS, CHANGES = 4, 7, 8, 11  # the tank's books


class Pair:
    """`a` is the primary, `b` the standby; both are containers' insides as the agent would start them."""

    def __init__(self, folder: Path, memory: Path, tank: Simulator) -> None:
        self.tank = tank
        self.both: dict[str, VplcPlant] = {}
        for name, role in (("a", "primary"), ("b", "standby")):
            home, shared = folder / name, memory / name
            for path in (home, shared, memory / "pair"):
                path.mkdir(exist_ok=True)
            plant = self.both[name] = VplcPlant(home, shared, tank)
            plant.instance, plant.pair = f"tank-{name}", str(memory / "pair")
            plant.config |= {"pair": {"role": role, "name": "tank"}}

    async def start(self, program: Path, **link: Any) -> None:
        """On one machine `a` drives before `b` begins: of two drivers of one image the first to come has the device."""
        for plant in self.both.values():
            await plant.bus.start()
            plant.write_context()
            await plant.start(program, wait=False)
            if plant.instance == "tank-a" and plant.config["pair"].get("over") != "network":
                await plant.outputs_move()
        await until("a ready pair", self.ready)

    def of(self, name: str) -> status.Pair:
        found = self.both[name].status()
        assert found is not None
        assert found.pair is not None
        return found.pair

    def ready(self) -> bool:
        """One leads, the other could take over."""
        found = [plant.status() for plant in self.both.values()]
        pairs = [one.pair for one in found if one is not None and one.alive and one.pair is not None]
        return sorted(p.duty for p in pairs) == ["following", "leading"] and all(p.ready for p in pairs)

    def leader(self) -> str:
        return next(name for name in self.both if self.leads(name))

    def leads(self, name: str) -> bool:
        found = self.both[name].status()
        return found is not None and found.alive and found.pair is not None and found.pair.duty == "leading"

    def counter(self, name: str) -> int:
        watcher = watch.Watcher(self.both[name].shared, ["Tank.scans"])
        try:
            return int(str(watcher.ask().values["Tank.scans"]))
        finally:
            watcher.close()

    def books(self) -> list[int]:
        return [int(word) for word in mbpoll_read(self.tank.host, self.tank.port, 1, "input", 0, "uint16", 12)]

    async def new_books(self) -> None:
        where = ["-m", "tcp", "-p", str(self.tank.port), "-a", "1", "-t", "0", "-r", "8", "-0", "-1"]
        await asyncio.to_thread(
            subprocess.run, ["mbpoll", "-q", *where, self.tank.host, "1"], check=True, capture_output=True
        )

    async def drives(self) -> None:
        await self.both["a"].outputs_move()

    async def end(self) -> None:
        for plant in self.both.values():
            await plant.end()


@pytest.fixture
async def pair(tmp_path: Path, packed: Path) -> AsyncIterator[Pair]:
    memory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="vplc-pair-", dir="/dev/shm"))
    try:
        with started("tank", "--level", "950") as tank:
            made = Pair(tmp_path, memory, tank)
            try:
                yield made
            finally:
                await made.end()
    finally:
        shutil.rmtree(memory, ignore_errors=True)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def group_of(process: asyncio.subprocess.Process) -> None:
    """All of an instance at once, as an engine's kill ends a container."""
    os.killpg(process.pid, signal.SIGKILL)


async def test_the_standby_drives_on_when_its_primary_is_killed_again_and_again(pair: Pair, packed: Path) -> None:
    await pair.start(packed)
    await pair.drives()
    await pair.new_books()
    await pair.drives()  # the leader is in the new books, so that the next writer is a change
    for turn in range(4):
        leader = pair.leader()
        other = "b" if leader == "a" else "a"
        before, epoch = await asyncio.to_thread(pair.counter, leader), pair.of(leader).epoch
        [process] = [one for one in pair.both[leader].processes if one.returncode is None]
        group_of(process)
        await process.wait()
        await until("the other to lead", lambda other=other: pair.leads(other))  # type: ignore[misc]
        assert pair.of(other).epoch == epoch + 1
        assert await asyncio.to_thread(pair.counter, other) >= before
        await pair.drives()
        books = await asyncio.to_thread(pair.books)
        assert books[CHANGES] == turn + 1, "two drivers took turns"
        assert books[TRIPS] == 0, "the tank's fail-safe struck"
        await pair.both[leader].start(packed, wait=False)
        await until("a ready pair", pair.ready)
        assert pair.leader() == other  # whoever returns does not take the lead away
    print(f"longest time between two writes over 4 kills: {(await asyncio.to_thread(pair.books))[LONGEST_MS]} ms")


async def test_a_killed_host_alone_is_followed_by_the_other_one_through_the_same_driver(
    pair: Pair, packed: Path
) -> None:
    await pair.start(packed)
    await pair.drives()
    await pair.new_books()
    await pair.drives()  # the leader is in the new books, so that the next writer is a change
    await pair.both["a"].kill("host")
    await until("the other to lead", lambda: pair.leads("b"))
    await pair.drives()
    await until("a ready pair", pair.ready)
    assert pair.leader() == "b"
    books = await asyncio.to_thread(pair.books)
    assert (books[CHANGES], books[TRIPS]) == (0, 0)


async def test_a_planned_switch_loses_no_scan_and_an_orderly_stop_hands_over(pair: Pair, packed: Path) -> None:
    await pair.start(packed)
    await pair.drives()
    command = [sys.executable, "-m", "vplc.scan", "switch", str(pair.both["a"].shared)]
    before = await asyncio.to_thread(pair.counter, "a")
    done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    await until("the switch", lambda: pair.leads("b"))
    assert pair.of("b").reason == "took over as asked"
    await pair.drives()
    await until("a ready pair", pair.ready)
    assert await asyncio.to_thread(pair.counter, "b") > before
    [process] = pair.both["b"].processes
    process.send_signal(signal.SIGTERM)
    await until("the hand-over back", lambda: pair.leads("a"))
    assert pair.of("a").reason == "took over as asked"
    assert await asyncio.wait_for(process.wait(), 15) == 0
    await pair.drives()
    assert (await asyncio.to_thread(pair.books))[TRIPS] == 0


async def test_the_platform_sees_who_leads_and_set_points_are_those_of_the_leader(pair: Pair, packed: Path) -> None:
    await pair.start(packed)
    a, b = pair.both["a"], pair.both["b"]
    await until("its measures", lambda: a.measure("pair_leads") == 1)
    await until("its measures", lambda: b.measure("pair_ready") == 1)
    assert b.measure("pair_leads") == 0
    await a.heard("Running", "Ok", "leads, epoch 1, a standby is ready")
    await b.heard("Running", "Ok", "standby, ready")
    await a.configure(parameters={"Tank.setpoint": 1234})

    def mirrored() -> bool:
        watcher = watch.Watcher(b.shared, ["Tank.setpoint"])
        try:
            return watcher.ask().values["Tank.setpoint"] == 1234
        finally:
            watcher.close()

    await until("the set-point at the standby", mirrored)
    [process] = a.processes
    group_of(process)
    await process.wait()
    await until("the take-over", lambda: b.measure("pair_takeovers") == 1)
    assert mirrored()  # its own configuration still says 1000: going on counts more
    entries = json.dumps([json.loads(line) for line in (b.shared / "journal").read_text().splitlines()])
    assert "tank-b: took over: the leader went silent" in entries


async def test_over_a_network_each_host_has_its_own_driver_and_only_the_leaders_writes(
    pair: Pair, packed: Path
) -> None:
    ends = [f"127.0.0.1:{free_udp_port()}" for _ in range(2)]
    for plant, listen, peer in zip(pair.both.values(), ends, reversed(ends), strict=True):
        # Long leases: this is about drivers, and the machine that tests run on is busy.
        link = {"over": "network", "listen": listen, "peer": peer, "partition": "stop", "missedScans": 20}
        plant.config["pair"] |= {**link, "leaseMs": 200}
        plant.pair = ""
    await pair.start(packed)
    await pair.drives()
    await pair.new_books()
    await pair.drives()  # the leader is in the new books, so that the next writer is a change
    await pair.drives()
    leader = pair.leader()
    other = "b" if leader == "a" else "a"
    assert all(plant.children()["driver-remote_io"].pid for plant in pair.both.values())
    before = await asyncio.to_thread(pair.counter, leader)
    [process] = pair.both[leader].processes
    group_of(process)
    await process.wait()
    await until("the other to lead", lambda: pair.leads(other))
    await pair.drives()
    assert await asyncio.to_thread(pair.counter, other) >= before
    books = await asyncio.to_thread(pair.books)
    assert (books[CHANGES], books[TRIPS]) == (1, 0)
