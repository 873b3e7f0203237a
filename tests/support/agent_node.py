"""One enrolled machine for tests: a real agent process, a far side, and something to run."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from agent.status import read_status
from manifests.messages import FrameKind
from manifests.model import Artifact, DataStream, Health, WorkloadClass, WorkloadRelease
from manifests.oci import pack_process
from tests.support.orchestrator_fake import OrchestratorFake
from tests.support.procs import Program

ROOT = Path(__file__).resolve().parents[2]
SITE = "hamburg"


class Node:
    """One enrolled machine, its agent process and the far side."""

    def __init__(self, folder: Path, far: OrchestratorFake, *, site: str = SITE, runtime: str = "process") -> None:
        self.site = site
        self.folder = folder
        self.far = far
        self.state = folder / "s"
        self.artifact = self._pack()
        far.identity(self.state, site, "edge-1")
        settings = {
            "runtime": runtime,
            "pollS": 0.2,
            "syncWaitS": 0,
            "reportS": 1,
            "buffer": {"capMb": 32},
            "logLevel": "debug",
        }
        (self.state / "agent.yaml").write_text(yaml.safe_dump({"state": ".", **settings}))
        self.agent = Program(
            "agent",
            [sys.executable, "-m", "agent", "run", "--config", str(self.state / "agent.yaml")],
            folder / "agent.log",
            cwd=ROOT,
        )

    def _pack(self) -> Artifact:
        package = self.folder / "source" / "producer"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        shutil.copy(ROOT / "tests/support/bus_producer.py", package / "__main__.py")
        artifact = pack_process(
            [package], ["python", "-m", "producer"], self.folder / "blobs", base=self.folder / "source"
        )
        for path in (self.folder / "blobs").rglob("*"):
            if path.is_file():
                self.far.add_blob(path.read_bytes())
        return artifact

    def release(self, version: str = "1.0.0") -> WorkloadRelease:
        return self.far.publish(
            WorkloadRelease(
                name="producer",
                version=version,
                workload_class=WorkloadClass.TRANSLATOR,
                artifacts=(self.artifact,),
                health=Health(startup_grace_s=5, heartbeat_timeout_s=3),
                streams=(DataStream(name="data"),),
            )
        )

    def order(self, generation: int, *instances: tuple[str, WorkloadRelease, dict[str, Any]]) -> None:
        placed = [self.far.placed(name, release, config=config) for name, release, config in instances]
        self.far.assign(self.site, placed, generation=generation)

    def status(self) -> dict[str, Any]:
        return read_status(self.state) or {}

    def instance(self, name: str) -> dict[str, Any]:
        found = [i for i in self.status().get("instances", []) if i["name"] == name]
        return found[0] if found else {}

    def word(self, name: str) -> str:
        found = self.instance(name)
        return f"{found['state']} ({found['reason']})" if found else ""

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self.agent.tail(40)}"
            time.sleep(0.05)

    def until_running(self, name: str) -> str:
        self.until(lambda: self.word(name) == "Running (Ok)", f"{name} does not run")
        life: str = self.instance(name)["runtime_id"]
        return life

    def arrived(self, stream: str) -> list[int]:
        """Numbers at the far side, checked: each life contiguous from 1, no duplicate, nothing dropped."""
        numbers: list[int] = []
        for (site, name, _), frames in list(self.far.frames.items()):
            if (site, name) == (self.site, stream):
                seqs = [frame.seq for frame in list(frames)]
                assert seqs == list(range(1, len(seqs) + 1))
                assert all(frame.kind is not FrameKind.GAP for frame in frames)
                numbers += seqs
        return numbers

    def producers(self) -> list[int]:
        """Process ids of everything that was started with this node's state folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue
                if f"SLUICE_RUN={self.state}/run/".encode() in environment:
                    found.append(int(entry.name))
        return found

    def end(self) -> None:
        self.agent.stop()
        for pid in self.producers():
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
