"""The tank's image as the agent's Docker runtime runs it, for tests with a real engine."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.placement import ControlNode
from agent.runtimes.base import Wanted, wanted
from agent.runtimes.docker_engine import DockerRuntime
from manifests.model import (
    Artifact,
    Conduit,
    Control,
    DesiredInstance,
    PlacedInstance,
    Resources,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
    WriteGrant,
)
from manifests.oci import export_image

CORE = max(os.sched_getaffinity(0))
NODE = ControlNode(cores=(CORE,), realtime=True, max_instances=2)
GRANT = WriteGrant(segment="ot", protocol="modbus", target="tank-io", points=("*",))
CONTROL = Control(period_ms=10, jitter_p999_us=50_000, watchdog_ms=50, max_stop_ms=5000, priority=60)
WRITES, LONGEST_MS, TRIPS, CHANGES = 5, 7, 8, 11  # the tank's books


def engine_runtime(folder: Path, site: str) -> tuple[DockerRuntime, str]:
    """A runtime with the network "ot", and this machine's address there, which its configuration calls tank-io."""
    DockerRuntime(folder, site=site, node="edge").connect("ot")
    line = ["docker", "network", "inspect", f"sluice-{site}-ot", "-f", "{{(index .IPAM.Config 0).Subnet}}"]
    subnet = subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()
    address = str(ipaddress.ip_network(subnet)[1])
    return DockerRuntime(folder, site=site, node="edge", control=NODE, hosts={"tank-io": address}), address


@dataclass(frozen=True)
class Shipped:
    """An image of the engine, and the artifact that it makes: its blobs lie below ``folder``."""

    folder: Path
    image: str
    artifact: Artifact


def artifact(image: str, folder: Path, platform: str) -> Artifact:
    """An image of the engine as a release carries it; its blobs below ``folder``."""
    saved = folder / "image.tar"
    subprocess.run(["docker", "save", "-o", saved, image], check=True, capture_output=True)
    return export_image(saved, folder / "blobs", platform)


def instance(
    artifact: Artifact,
    site: str,
    port: int,
    name: str = "tank",
    *,
    version: str = "0.1.0",
    control: Control = CONTROL,
    **config: Any,
) -> Wanted:
    release = WorkloadRelease(
        name="tank",
        version=version,
        workload_class=WorkloadClass.CONTROL,
        artifacts=(artifact,),
        resources=Resources(memory_mb=192, cpus=1, pids=96, scratch_mb=16),
        conduits=(Conduit(segment="ot", ports=(port,)),),
        control=control,
        writes=(GRANT,),
    )
    said = {
        "live": None,
        "place": {"area": "a", "line": "l", "asset": "p"},
        "drivers": {"remote_io": {"host": "tank-io", "port": port}},
        **config,
    }
    placed = PlacedInstance(
        instance=DesiredInstance(name=name, node="edge", config=said),
        release=release,
        release_digest=artifact.root.digest,
    )
    made = wanted(SiteFacts(site=site, enterprise="acme", generation=1), placed, artifact.platform)
    return replace(made, core=CORE)


def scan(site: str, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """``python -m vplc.scan`` inside the container, as somebody at the node would."""
    line = ["docker", "exec", "-u", "10001", f"sluice-{site}-edge-{name}", "python3", "-m", "vplc.scan", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)
