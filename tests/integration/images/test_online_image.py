"""Two releases whose programs differ, on a real engine: the second takes over in the first one's container."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.actions import Change, Wait
from agent.busserver import BusServer
from agent.execute import Executor
from agent.plan import plan
from agent.runtimes.base import Observed, ObservedInstance, Wanted
from agent.runtimes.docker_engine import DockerRuntime
from manifests.errors import TrustError
from manifests.messages import StreamMark
from tests.simulators.launch import Simulator, started
from tests.support import tiny_worker
from tests.support.engine import engine
from tests.support.peers import mbpoll_read
from tests.support.tank_container import CONTROL, NODE, TRIPS, WRITES, Shipped, artifact, engine_runtime, instance, scan
from workloads.images import build as images
from workloads.images import container_engine

pytestmark = [pytest.mark.engine, pytest.mark.peer, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
ONLINE = msgspec.structs.replace(CONTROL, online_change=True)


class Blobs:
    """All of them lie there already."""

    def __init__(self, folder: Path) -> None:
        self.path = partial(tiny_worker.blob_path, folder)

    def has(self, digest: str) -> bool:
        return True

    def fetch(self, blob: Any) -> Path:
        raise AssertionError("nothing is missing")

    def forget_except(self, digests: Any) -> None: ...


async def taken(frames: Any) -> list[StreamMark]:
    return [StreamMark(stream=f.stream, incarnation=f.incarnation, seq=f.end) for f in frames]


async def marks(lives: Any) -> list[StreamMark]:
    return [StreamMark(stream=stream, incarnation=life, seq=0) for stream, life in lives]


@dataclass
class Site:
    """An agent's plan and executor over a real engine, a real bus and the tank."""

    runtime: DockerRuntime
    executor: Executor
    bus: BusServer
    tank: Simulator
    name: str
    blobs: Blobs
    old: Wanted
    new: Wanted

    @contextlib.contextmanager
    def one_bit_turned(self) -> Iterator[None]:
        """In the layer with the new program, on the disk of the node."""
        assert self.new.artifact is not None
        manifest = json.loads(self.blobs.path(self.new.artifact.root.digest).read_bytes())
        path = self.blobs.path(manifest["layers"][-1]["digest"])
        data = path.read_bytes()
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        yield
        path.write_bytes(data)

    def look(self) -> Observed:
        artifacts = [one.artifact for one in (self.old, self.new) if one.artifact is not None]
        return self.executor.as_changed(self.runtime.observe(artifacts))

    async def reach(self, wanted: Wanted) -> list[type]:
        """Round by round until nothing is left to do; the kinds of steps that were taken."""
        taken: list[type] = []
        for _ in range(10):
            actions = plan([wanted], await asyncio.to_thread(self.look), time.monotonic_ns(), NODE)
            if not actions:
                return taken
            for action in actions:
                assert not isinstance(action, Wait), action
                await self.executor.perform(action)
                taken.append(type(action))
        raise AssertionError(taken)

    def found(self) -> ObservedInstance:
        return self.look().instances["tank"]

    def value(self, path: str) -> Any:
        """None while no host answers."""
        done = scan(self.name, "tank", "watch", "/run/shared", path, "--json")
        return json.loads(done.stdout)["values"][path] if done.returncode == 0 else None

    async def until(self, path: str, wanted: Any) -> None:
        deadline = time.monotonic() + 60
        while (found := await asyncio.to_thread(self.value, path)) != wanted:
            assert time.monotonic() < deadline, (path, found, self.runtime.logs("tank"))
            await asyncio.sleep(0.2)

    async def hears(self) -> None:
        """The telemetry is connected and sees scans."""
        deadline = time.monotonic() + 60
        while (said := self.bus.voice("tank").heartbeat) is None or "scans" not in said.measures:
            assert time.monotonic() < deadline, self.runtime.logs("tank")
            await asyncio.sleep(0.1)

    async def writes_on(self, books: list[int]) -> None:
        deadline = time.monotonic() + 60
        while (await asyncio.to_thread(self.books))[WRITES] == books[WRITES]:
            assert time.monotonic() < deadline, self.runtime.logs("tank")
            await asyncio.sleep(0.1)

    def books(self) -> list[int]:
        return [int(word) for word in mbpoll_read("127.0.0.1", self.tank.port, 1, "input", 0, "uint16", 12)]


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


def edited(image: str, folder: Path) -> str:
    """The same image with one variable more in its program; its digest."""
    made = docker("create", image)
    docker("cp", f"{made}:/app/program", str(folder / "program"))
    docker("rm", made)
    source = folder / "program/source/tank.st"
    text = source.read_text()
    source.write_text(text.replace("  scans : UDINT;\n", "  scans : UDINT;\n  marked : INT := 7;\n"))
    line = [sys.executable, "-m", "vplc", "build", str(source), "-o", str(folder / "program/program.so")]
    subprocess.run([*line, "--target", "x86-64"], cwd=ROOT, check=True, capture_output=True)
    shutil.copy(ROOT / "workloads/vplc/images/program/Dockerfile", folder / "Dockerfile")
    reference = f"sluice/tank-test:{secrets.token_hex(4)}"
    return container_engine.build(folder, reference, {}, {"RUNTIME": images.reference("vplc")}).digest


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sluice-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def in_thread(run: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(run, *arguments)


@pytest.fixture
async def site(folder: Path, shipped: Shipped) -> AsyncIterator[Site]:
    with engine():
        (folder / "new").mkdir()
        other = edited(shipped.image, folder / "new")
        name = f"o{secrets.token_hex(3)}"
        runtime, address = engine_runtime(folder, name)
        bus = BusServer(type("Taker", (), {"append": staticmethod(taken)})(), marks, heard=lambda: None)
        blobs = Blobs(shipped.folder)
        executor = Executor(
            runtime, blobs, bus, run_root=folder / "run", node="edge", hosts={"tank-io": address},
            in_thread=in_thread,
        )  # fmt: skip
        try:
            with started("tank", "--level", "950", "--host", "0.0.0.0") as tank:
                old = instance(shipped.artifact, name, tank.port)
                made = artifact(other, shipped.folder, runtime.platform)
                new = instance(made, name, tank.port, version="0.2.0", control=ONLINE)
                try:
                    yield Site(runtime, executor, bus, tank, name, blobs, old, new)
                finally:
                    await asyncio.to_thread(runtime.stop, "tank", 1)
                    await asyncio.to_thread(runtime.remove, "tank")
                    await bus.close_all()
                    runtime.forget_except([], [])
        finally:
            docker("rmi", "--force", other)


async def test_a_signed_program_takes_over_in_the_container_that_runs_and_outlives_its_restart(site: Site) -> None:
    await site.reach(site.old)
    await site.hears()
    assert site.new.artifact is not None
    await asyncio.to_thread(site.runtime.pull, site.new.artifact, site.blobs.path)
    with site.one_bit_turned(), pytest.raises(TrustError, match=r"not the signed one|not a process archive"):
        await site.reach(site.new)
    assert (site.found().version, site.value("Tank.marked")) == ("0.1.0", None)

    life, before = site.found().runtime_id, site.value("Tank.scans")
    assert (await site.reach(site.new))[-1] is Change
    found = site.found()
    assert (found.runtime_id, found.version, found.release_digest) == (life, "0.2.0", site.new.release_digest)
    assert "around it is 0.1.0" in found.note
    assert site.value("Tank.marked") == 7
    assert site.value("Tank.scans") > before
    books = site.books()
    await site.writes_on(books)
    assert books[TRIPS] == 0

    # The engine starts the container again, as after a power cut: the program that took over, not the container's own.
    docker("restart", f"sluice-{site.name}-edge-tank")
    await site.until("Tank.marked", 7)
    assert site.found().version == "0.2.0"
    assert await site.reach(site.new) == []

    # Back to the first release, whose word is a new start.
    await site.reach(site.old)
    assert (site.found().version, site.found().note) == ("0.1.0", "")
    await site.until("Tank.setpoint", 1000.0)
    assert site.value("Tank.marked") is None
