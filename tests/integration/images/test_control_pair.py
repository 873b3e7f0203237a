"""Two containers of the tank's image as the agent's runtime starts a pair: one is killed, the other drives the tank."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.runtimes.docker_engine import DockerRuntime
from manifests.model import CONTEXT_NAME, Artifact, RunContext
from tests.simulators.launch import Simulator, started
from tests.support import tiny_worker
from tests.support.engine import engine
from tests.support.peers import mbpoll_read
from tests.support.tank_container import (
    CHANGES,
    CONTROL,
    GRANT,
    LONGEST_MS,
    TRIPS,
    WRITES,
    Shipped,
    engine_runtime,
    instance,
    scan,
)

pytestmark = [pytest.mark.engine, pytest.mark.peer, pytest.mark.timeout(600)]


class Pair:
    def __init__(self, runtime: DockerRuntime, folder: Path, tank: Simulator, artifact: Artifact, site: str) -> None:
        self.runtime, self.folder, self.tank, self.site = runtime, folder, tank, site
        self.gateway = ""
        self.members = {
            name: instance(artifact, site, tank.port, name, pair={"role": role, "name": "north"})
            for name, role in (("tank-a", "primary"), ("tank-b", "standby"))
        }

    def start(self, name: str) -> None:
        one = self.members[name]
        folder = self.folder / "run" / name
        folder.mkdir(parents=True, exist_ok=True)
        given = self.runtime.folders(one, folder)
        context = RunContext(
            enterprise="acme", site=self.site, node="edge", instance=name, workload="tank", version="0.1.0",
            generation=1, config=one.config, hosts={"tank-io": self.gateway}, writes=(GRANT,), control=CONTROL,
            core=one.core, shared=given.shared, kept=given.kept, pair=given.pair,
        )  # fmt: skip
        (folder / CONTEXT_NAME).write_bytes(msgspec.json.encode(context))
        folder.chmod(0o755)
        self.runtime.start(one, folder)

    def container(self, name: str) -> str:
        return f"sluice-{self.site}-edge-{name}"

    def pair(self, name: str) -> dict[str, Any]:
        done = scan(self.site, name, "status", "/run/shared", "--json")
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        return (found.get("pair") or {}) if found.get("alive") else {}

    def counter(self, name: str) -> int:
        done = scan(self.site, name, "watch", "/run/shared", "Tank.scans", "--json")
        return int(json.loads(done.stdout)["values"]["Tank.scans"])

    def books(self) -> list[int]:
        return [int(word) for word in mbpoll_read("127.0.0.1", self.tank.port, 1, "input", 0, "uint16", 12)]

    def new_books(self) -> None:
        where = ["-m", "tcp", "-p", str(self.tank.port), "-a", "1", "-t", "0", "-r", "8", "-0", "-1"]
        subprocess.run(["mbpoll", "-q", *where, "127.0.0.1", "1"], check=True, capture_output=True)

    def wait_for_writes(self) -> None:
        """The leader is in the books, so that the next writer is a change."""
        before, deadline = self.books()[WRITES], time.monotonic() + 30
        while self.books()[WRITES] == before:
            assert time.monotonic() < deadline, "nobody drives"
            time.sleep(0.1)

    def until(self, what: str, duties: dict[str, str]) -> None:
        deadline = time.monotonic() + 60
        while True:
            found = {name: self.pair(name) for name in duties}
            ready = len(duties) == 1 or all(one.get("ready") for one in found.values())
            if ready and {name: one.get("duty") for name, one in found.items()} == duties:
                return
            logs = "\n".join(line for name in duties for line in self.runtime.logs(name))
            assert time.monotonic() < deadline, f"{what}: {found}\n{logs}"
            time.sleep(0.2)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sluice-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def pair(folder: Path, shipped: Shipped) -> Iterator[Pair]:
    with engine():
        site = f"p{secrets.token_hex(3)}"
        runtime, gateway = engine_runtime(folder, site)
        with started("tank", "--level", "950", "--host", "0.0.0.0") as tank:
            made = Pair(runtime, folder, tank, shipped.artifact, site)
            try:
                runtime.pull(shipped.artifact, partial(tiny_worker.blob_path, shipped.folder))
                made.gateway = gateway
                yield made
            finally:
                for name in made.members:
                    with contextlib.suppress(Exception):
                        runtime.stop(name, 1)
                        runtime.remove(name)
                runtime.forget_except([], [])


def test_docker_kill_of_the_leader_loses_no_state_and_a_switch_loses_no_scan(pair: Pair) -> None:
    pair.start("tank-a")
    pair.until("the primary to lead", {"tank-a": "leading"})
    pair.wait_for_writes()  # by its own driver: the standby's waits for its turn
    pair.start("tank-b")
    pair.until("a ready pair", {"tank-a": "leading", "tank-b": "following"})
    pair.new_books()
    pair.wait_for_writes()
    before, epoch = pair.counter("tank-a"), pair.pair("tank-a")["epoch"]
    subprocess.run(["docker", "kill", pair.container("tank-a")], check=True, capture_output=True)
    pair.until("the standby to lead", {"tank-b": "leading"})
    found = pair.pair("tank-b")
    assert (found["reason"], found["epoch"]) == ("took over: the leader went silent", epoch + 1)
    assert pair.counter("tank-b") > before
    pair.wait_for_writes()
    books = pair.books()
    print(f"longest time between two writes over docker kill: {books[LONGEST_MS]} ms")
    assert (books[CHANGES], books[TRIPS]) == (1, 0), "two drove, or the tank's fail-safe struck"

    pair.start("tank-a")  # the same container again: what a power cut and the engine do too
    pair.until("a ready pair", {"tank-a": "following", "tank-b": "leading"})
    before = pair.counter("tank-b")
    assert scan(pair.site, "tank-b", "switch", "/run/shared").returncode == 0
    pair.until("the switch", {"tank-a": "leading", "tank-b": "following"})
    assert pair.pair("tank-a")["reason"] == "took over as asked"
    assert pair.counter("tank-a") > before

    pair.runtime.stop("tank-a")  # as an upgrade does it: the leader hands over
    pair.until("the hand-over", {"tank-b": "leading"})
    assert pair.pair("tank-b")["reason"] == "took over as asked"
    pair.wait_for_writes()
    assert pair.books()[TRIPS] == 0
