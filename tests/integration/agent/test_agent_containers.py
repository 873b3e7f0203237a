"""A real agent over a real engine: images travel as blobs, containers outlive the agent and come back by themselves."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from agent.runtimes.docker_engine import DockerRuntime
from manifests.model import Conduit, Health, WorkloadClass, WorkloadRelease
from tests.support import tiny_worker
from tests.support.agent_node import Node
from tests.support.orchestrator_fake import OrchestratorFake

pytestmark = pytest.mark.engine


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    site = f"t{secrets.token_hex(3)}"
    with OrchestratorFake(folder / "far") as far:
        made = Node(folder, far, site=site, runtime="docker")
        made.artifact = tiny_worker.container_artifact(folder, DockerRuntime(folder, site=site, node="x").platform)
        for path in (folder / "blobs").rglob("*"):
            if path.is_file():
                far.add_blob(path.read_bytes())
        yield made
        made.agent.stop()
        runtime = DockerRuntime(made.state, site=site, node="edge-1")
        for name in runtime.observe([]).instances:
            runtime.stop(name, 1)
            runtime.remove(name)
        runtime.forget_except([], [])


def release(node: Node, version: str = "1.0.0") -> WorkloadRelease:
    return node.far.publish(
        WorkloadRelease(
            name="worker",
            version=version,
            workload_class=WorkloadClass.SYSTEM,
            artifacts=(node.artifact,),
            health=Health(heartbeat=False),
            conduits=(Conduit(segment="ot"),),
        )
    )


def test_containers_start_from_blobs_and_outlive_kill_9_cut_links_and_rollouts_of_others(node: Node) -> None:
    first = release(node)
    node.order(1, ("press", first, {}), ("pump", first, {}))
    node.agent.start()
    press, pump = node.until_running("press"), node.until_running("pump")
    api = docker.APIClient(version="auto")
    mounts = api.inspect_container(f"sluice-{node.site}-edge-1-press")["Mounts"]
    assert [(mount["Destination"], mount["RW"]) for mount in mounts] == [("/run/sluice", False)]

    node.agent.kill9()
    node.far.stop()
    node.agent.start()
    assert (node.until_running("press"), node.until_running("pump")) == (press, pump)
    node.far.start()

    node.order(2, ("press", release(node, "1.1.0"), {}), ("pump", first, {}))
    node.until(lambda: node.instance("press").get("version") == "1.1.0", "the new release does not run")
    assert node.until_running("press") != press
    assert node.until_running("pump") == pump
    assert node.instance("pump").get("restarts", 0) == 0

    node.order(3, ("pump", first, {}))
    node.until(lambda: not node.instance("press"), "what left is still there")
    assert not api.containers(all=True, filters={"name": f"sluice-{node.site}-edge-1-press"})
    assert node.until_running("pump") == pump


def test_a_container_killed_from_outside_comes_back_and_is_counted(node: Node) -> None:
    node.order(1, ("press", release(node), {}))
    node.agent.start()
    life = node.until_running("press")
    name = f"sluice-{node.site}-edge-1-press"
    api = docker.APIClient(version="auto")
    api.remove_container(name, force=True)
    node.until(lambda: node.instance("press").get("runtime_id", life) != life, "it does not come back")
    node.until_running("press")


def test_a_crash_loop_under_the_engines_own_restarts_is_reported(node: Node) -> None:
    node.order(1, ("press", release(node), {"mode": "crash"}))
    node.agent.start()
    node.until(lambda: node.word("press") == "Failed (CrashLoop)", "no crash loop is reported")
    assert "exit code 7" in node.instance("press")["detail"]
