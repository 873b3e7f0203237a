"""A site on a real cluster: the agent is a process here, its workloads are pods, the line between is in our hands."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.runtimes.containers import container_platform
from manifests.model import Artifact, Conduit, DataStream, Health, Resources, WorkloadClass, WorkloadRelease
from manifests.oci import export_image
from tests.simulators.launch import started
from tests.support.agent_node import Node
from tests.support.cluster import ClusterNamespace, kubectl, load_image, missing, on_a_line, saved_image
from tests.support.orchestrator_fake import OrchestratorFake


@pytest.fixture(scope="session", autouse=True)
def _cluster() -> None:
    """Before anything is built for a cluster that nobody named."""
    if reason := missing():
        pytest.skip(f"NOT TRIED ON KUBERNETES: {reason}")


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sluice-"))  # short: sockets lie in it
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def translator(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    """The Modbus translator's image as blobs, and on the cluster's node."""
    place = tmp_path_factory.mktemp("translator")
    saved = saved_image("modbus", place)
    load_image(saved)
    return export_image(saved, place / "blobs", container_platform()), place / "blobs"


class Site:
    """One namespace, one node, one enrolled agent; ``line`` is all it has to the API server."""

    def __init__(self, folder: Path, far: OrchestratorFake, artifact: Artifact, blobs: Path, pump: int) -> None:
        self.name = f"t{secrets.token_hex(3)}"
        self.space = ClusterNamespace(folder, self.name)
        self.node = Node(folder, far, site=self.name)
        self.far = far
        self.artifact = artifact
        self.pump = pump
        for path in blobs.rglob("*"):
            if path.is_file():
                far.add_blob(path.read_bytes())
        self.line = on_a_line(self.space.kubeconfig)
        config = self.node.state / "agent.yaml"
        said = yaml.safe_load(config.read_text())
        config.write_text(yaml.safe_dump(said | {"runtime": self.space.settings()}))

    def release(self, version: str = "1.0.0", **fields: Any) -> WorkloadRelease:
        made: dict[str, Any] = {
            "artifacts": (self.artifact,),
            "health": Health(startup_grace_s=60, heartbeat_timeout_s=15),
            "streams": (DataStream(name="tags"),),
            "conduits": (Conduit(segment="ot", ports=(self.pump,)),),
            "resources": Resources(memory_mb=128, cpus=0.2, scratch_mb=4),
            **fields,
        }
        return self.far.publish(
            WorkloadRelease(name="modbus", version=version, workload_class=WorkloadClass.TRANSLATOR, **made)
        )

    @property
    def config(self) -> dict[str, Any]:
        tags = [{"name": "sample_counter", "area": "input", "address": 0, "type": "uint32"}]
        device = {
            "name": "pump",
            "host": "127.0.0.1",
            "port": self.pump,
            "unit": 1,
            "place": {"area": "utilities", "line": "cooling", "asset": "pump1"},
            "groups": [{"name": "process", "intervalMs": 100, "tags": tags}],
        }
        return {"live": None, "devices": [device], "block": {"periodMs": 200}}

    def order(self, generation: int, *releases: tuple[str, WorkloadRelease]) -> None:
        self.node.order(generation, *((name, release, self.config) for name, release in releases))

    def arrived(self, name: str = "pump") -> int:
        return len(self.node.arrived(f"{name}/tags"))

    def acked(self, name: str = "pump") -> int:
        streams = self.node.instance(name).get("streams") or [{}]
        return int(streams[0].get("acked_seq", 0))

    def deployment(self, name: str = "pump") -> Any:
        return self.space.get("deployment", f"{name}.edge-1")

    def close(self) -> None:
        self.node.end()
        kubectl("delete", "deployments,pods", "--all", "-n", self.space.name, "--grace-period=1", check=False)
        self.line.close()
        self.space.close()


@pytest.fixture
def site(folder: Path, translator: tuple[Artifact, Path]) -> Iterator[Site]:
    with started("pump_skid") as pump, OrchestratorFake(folder / "far") as far:
        made = Site(folder, far, *translator, pump.port)
        try:
            yield made
        finally:
            if os.environ.get("SLUICE_KEEP"):  # to look at what a failed test left
                print(made.node.agent.tail(60), json.dumps(made.node.status(), indent=1))
            made.close()
