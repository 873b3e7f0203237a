"""A node moves from Docker Engine to a cluster, by the commands of manifests/kubernetes/README.md: same folder, nothing
buffered lost."""

from __future__ import annotations

import ipaddress
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest
import yaml

from tests.simulators.launch import started
from tests.support.agent_node import ROOT

if TYPE_CHECKING:
    from tests.integration.kubernetes.conftest import Site

pytestmark = [pytest.mark.kubernetes, pytest.mark.engine]


@pytest.fixture
def plant_network() -> Iterator[tuple[str, str]]:
    """A network of the engine, and the machine's own address in it, which containers and pods of the machine reach."""
    api = docker.APIClient(version="auto")
    name = f"sluice-test-{secrets.token_hex(3)}"
    # Conduits need fixed addresses, and the engine fixes none in a subnet that it chose by itself.
    api.create_network(name)
    subnet = api.inspect_network(name)["IPAM"]["Config"][0]["Subnet"]
    api.remove_network(name)
    pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)])
    api.create_network(name, ipam=pool, internal=True)
    try:
        yield name, str(next(ipaddress.ip_network(subnet).hosts()))
    finally:
        api.remove_network(name)


def use(site: Site, **settings: Any) -> Any:
    """What ``runtime:`` of agent.yaml said before."""
    path = site.node.state / "agent.yaml"
    said = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(said | settings))
    return said["runtime"]


def agent(config: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "agent", *arguments, "--config", str(config)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def containers(site: Site) -> list[str]:
    found = docker.APIClient(version="auto").containers(all=True, filters={"label": f"sluice.site={site.name}"})
    return [name for one in found for name in one["Names"]]


def test_what_was_buffered_on_docker_arrives_from_the_cluster(site: Site, plant_network: tuple[str, str]) -> None:
    network, address = plant_network
    with started("pump_skid", host=address, port=site.pump):
        config = site.config
        config["devices"][0]["host"] = address
        cluster = use(site, runtime="docker", segments={"ot": {"network": network}})
        site.node.order(1, ("pump", site.release(), config))
        site.node.agent.start()
        try:
            site.node.until(lambda: site.node.word("pump") == "Running (Ok)", "it does not run on Docker", 60)
            site.node.until(lambda: site.arrived() > 3, "no data", 60)
            assert len(containers(site)) == 1
            site.far.offline_now = True
            site.far.cut()
            site.node.until(lambda: site.acked() > site.arrived(), "nothing is buffered", 60)
            covered = site.acked()
        finally:
            site.node.agent.stop()
            cleared = agent(site.node.state / "agent.yaml", "clear")
        assert "pump" in cleared
        assert containers(site) == []
        use(site, runtime=cluster, segments={"ot": {"network": f"{address}/32"}})
        site.node.agent.start()
        site.node.until(lambda: site.node.word("pump") == "Running (Ok)", "it does not run on the cluster", 90)
        assert len(site.space.pods("pump")) == 1
        site.far.offline_now = False
        lives = lambda: [len(frames) for frames in list(site.far.frames.values())]  # noqa: E731 - read twice
        site.node.until(lambda: len(lives()) == 2 and min(lives()) > 3, "both lives' data does not arrive", 60)
        site.node.until(lambda: max(lives()) >= covered, "what was buffered does not arrive", 60)
        site.arrived()  # each life's numbers without a gap
