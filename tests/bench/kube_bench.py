"""How long the agent takes to bring one workload up on a cluster, beside ``kubectl apply`` of an equal Deployment in
the same run; and what the agent weighs with the cluster's client loaded.

Both sides wait for the same: the container runs, as the API server tells. They take turns, so that a busy machine slows
both.
"""

from __future__ import annotations

import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from msgspec import structs

from agent.runtimes.base import Wanted
from agent.runtimes.containers import container_platform
from agent.runtimes.kubernetes.objects import Place, deployment
from agent.status import read_status
from tests.bench.figure import Figure, pss_mb
from tests.support import tiny_worker
from tests.support.cluster import ClusterNamespace, kubectl, load_image, missing
from tests.support.orchestrator_fake import OrchestratorFake
from tests.support.procs import Program

PREFIXES = ("kube_",)
ROUNDS = 7
SETTLE_S = 20.0


def figures() -> Iterator[Figure]:
    if reason := missing():
        raise RuntimeError(f"no cluster to measure on: {reason}")
    with tempfile.TemporaryDirectory(prefix="sluice-") as place:
        folder = Path(place)
        space = ClusterNamespace(folder, f"b{secrets.token_hex(3)}")
        try:
            yield from _apply(folder, space)
            yield from _weight(folder, space)
        finally:
            kubectl("delete", "deployments", "--all", "-n", space.name, check=False)
            space.close()


def _apply(folder: Path, space: ClusterNamespace) -> Iterator[Figure]:
    artifact = tiny_worker.container_artifact(folder, container_platform())
    runtime = space.runtime(folder)
    runtime.pull(artifact, partial(tiny_worker.blob_path, folder))
    for archive in (folder / "images").glob("*.tar"):
        load_image(archive)
    runtime.observe([])
    ours, theirs = [], []
    image = runtime._images.image(artifact)
    assert image is not None
    for number in range(ROUNDS):
        instance = _alone(tiny_worker.make(artifact, f"ours{number}", site=space.site))
        run_folder = tiny_worker.write_context(folder, instance)
        began = time.monotonic()
        runtime.start(instance, run_folder)
        ours.append(time.monotonic() - began)
        runtime.stop(instance.name, 1)
        runtime.remove(instance.name)
        peer = _alone(tiny_worker.make(artifact, f"peer{number}", site=space.site))
        tiny_worker.write_context(folder, peer)
        theirs.append(_kubectl(runtime._place, peer, image))
    runtime.close()
    ratio = statistics.median(ours) / statistics.median(theirs)
    yield Figure(
        key="kube_apply_to_running",
        value=statistics.median(ours),
        unit="s",
        goal="ratio <= 1.5",
        compared_to=f"kubectl apply of an equal Deployment: {statistics.median(theirs):.2f} s",
        ratio=round(ratio, 3),
    )


def _alone(instance: Wanted) -> Wanted:
    """Without a port: the next one need not wait for the last one's to be free."""
    return replace(instance, release=structs.replace(instance.release, provides=()))


def _kubectl(place: Place, instance: Wanted, image: str) -> float:
    """Seconds from ``kubectl apply`` until a watch tells that the container runs. The watch is there before."""
    manifest = deployment(place, instance, image)
    labels = ",".join(f"{key}={value}" for key, value in manifest["spec"]["selector"]["matchLabels"].items())
    watch = subprocess.Popen(
        ["kubectl", "get", "pods", "-n", place.namespace, "-l", labels, "--watch", "-o", "json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.0)  # the program has started and watches
    began = time.monotonic()
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    assert watch.stdout is not None
    for found in _documents(watch.stdout):
        statuses = found.get("status", {}).get("containerStatuses") or [{}]
        if "running" in statuses[0].get("state", {}):
            break
    taken = time.monotonic() - began
    watch.kill()
    watch.wait()
    kubectl("delete", "deployment", manifest["metadata"]["name"], "-n", place.namespace, "--wait=true")
    return taken


def _documents(lines: Any) -> Iterator[dict[str, Any]]:
    decoder, held = json.JSONDecoder(), ""
    for line in lines:
        held += line
        if line.startswith("}"):
            document, end = decoder.raw_decode(held.lstrip())
            held = held.lstrip()[end:]
            yield document


def _weight(folder: Path, space: ClusterNamespace) -> Iterator[Figure]:
    """An agent process on that cluster with one workload, after its start-up has settled."""
    with OrchestratorFake(folder / "far") as far:
        state = folder / "s"
        far.identity(state, space.site, "edge-1")
        settings = {"state": ".", "runtime": space.settings(), "pollS": 1, "syncWaitS": 0}
        (state / "agent.yaml").write_text(yaml.safe_dump(settings))
        far.assign(space.site, [], generation=1)
        command = [sys.executable, "-m", "agent", "run", "--config", str(state / "agent.yaml")]
        agent = Program("agent", command, folder / "agent.log")
        agent.start()
        try:
            deadline = time.monotonic() + 60
            while "does not answer" in (read_status(state) or {"runtime": "does not answer"})["runtime"]:
                assert time.monotonic() < deadline, agent.tail(20)
                time.sleep(0.2)
            time.sleep(SETTLE_S)
            yield Figure(key="kube_agent_pss", value=pss_mb(agent.pid), unit="MB", goal="< 120")
        finally:
            agent.stop()
