"""A real agent and a real cluster, with the shipped role: roll-out, killed pods, an API server that is away, drift."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from manifests.model import Artifact, Blob, Resources
from tests.support.cluster import kubectl

if TYPE_CHECKING:
    from tests.integration.kubernetes.conftest import Site

pytestmark = [pytest.mark.kubernetes, pytest.mark.engine]


def running(site: Site) -> str:
    """The translator is rolled out and its data arrives; its life."""
    site.order(1, ("pump", site.release()))
    site.node.agent.start()
    life = until_running(site)
    site.node.until(lambda: site.arrived() > 3, "no data")
    return life


def until_running(site: Site, name: str = "pump") -> str:
    site.node.until(lambda: site.node.word(name) == "Running (Ok)", f"{name} does not run", 90)
    return str(site.node.instance(name)["runtime_id"])


def events(site: Site) -> set[str]:
    return {event.kind for _, report in list(site.far.reports) for event in report.events}


def test_a_killed_pod_and_killed_agents_lose_no_acknowledged_sample(site: Site) -> None:
    life = running(site)
    site.node.agent.kill9()
    site.node.agent.start()
    assert until_running(site) == life
    (pod,) = site.space.pods("pump")
    site.far.offline_now = True
    site.far.cut()
    site.node.until(lambda: site.acked() > site.arrived(), "nothing acknowledged waits for the line", 60)
    covered = site.acked()
    kubectl("delete", "pod", pod["metadata"]["name"], "-n", site.space.name, "--grace-period=1", "--wait=false")
    site.node.until(lambda: site.node.instance("pump").get("runtime_id") not in ("", life), "no new pod", 90)
    second = until_running(site)
    site.node.agent.kill9()
    site.node.agent.start()
    assert until_running(site) == second
    site.far.offline_now = False
    lives = lambda: {key[2]: len(frames) for key, frames in list(site.far.frames.items())}  # noqa: E731 - read twice
    site.node.until(lambda: len(lives()) == 2, "the second life's data does not arrive", 60)
    site.node.until(lambda: max(lives().values()) >= covered, "what was acknowledged does not arrive", 60)
    site.arrived()  # each life's numbers without a gap


def test_with_the_api_server_away_data_flows_on_and_the_status_says_why_nothing_changes(site: Site) -> None:
    life = running(site)
    site.line.cut()
    site.node.until(lambda: any("does not answer" in why for why in site.node.status()["waiting"]), "it says nothing")
    before = site.arrived()
    site.order(2, ("pump", site.release("1.1.0")))
    site.node.until(lambda: site.node.status().get("generation") == 2, "instructions are not taken meanwhile")
    site.node.until(lambda: site.arrived() > before + 10, "data stopped")
    site.node.agent.kill9()
    site.node.agent.start()  # boots without the cluster, and hears the workload all the same
    site.node.until(lambda: site.node.status().get("generation") == 2, "it does not boot")
    before = site.arrived()
    site.node.until(lambda: site.arrived() > before + 10, "data stopped with the new agent")
    (pod,) = site.space.pods("pump")
    assert pod["status"]["containerStatuses"][0]["containerID"].rpartition("//")[2][:12] == life
    site.line.restore()
    site.node.until(lambda: site.node.instance("pump").get("version") == "1.1.0", "the plan does not go on", 90)
    assert until_running(site) != life
    site.node.until(lambda: {"runtime-unreachable", "runtime-back"} <= events(site), "the weather is not reported")


def test_what_somebody_edits_is_put_right_and_told(site: Site) -> None:
    running(site)
    as_signed = site.deployment()["spec"]
    extra = {"name": "guest", "image": "guest:latest"}
    for edit in ({"spec": {"replicas": 0}}, {"spec": {"template": {"spec": {"containers": [extra]}}}}):
        kubectl("patch", "deployment", "pump.edge-1", "-n", site.space.name, "-p", json.dumps(edit))
        site.node.until(lambda: site.deployment()["spec"] == as_signed, f"{edit} stays", 60)
    kubectl("delete", "networkpolicy", "pump.edge-1", "-n", site.space.name)
    site.node.until(lambda: len(site.space.get("networkpolicies")["items"]) == 1, "the policy does not come back", 60)
    site.node.until(lambda: "instance-drifted" in events(site), "nobody is told")
    until_running(site)
    kubectl("delete", "deployment", "pump.edge-1", "-n", site.space.name)
    site.node.until(lambda: site.space.get("deployments")["items"], "it does not come back", 60)
    until_running(site)


def test_upgrade_bad_upgrade_and_the_way_back(site: Site) -> None:
    first = running(site)
    site.order(2, ("pump", site.release("1.1.0")), ("other", site.release("1.1.0")))
    site.node.until(lambda: site.node.instance("pump").get("version") == "1.1.0", "no upgrade", 90)
    second = until_running(site)
    other = until_running(site, "other")
    assert second != first
    bad = missing_image(site)
    site.order(3, ("pump", site.release("1.2.0", artifacts=(bad,))), ("other", site.release("1.1.0")))
    site.node.until(lambda: "ImageMissing" in site.node.word("pump"), "a missing image is not named", 90)
    assert "the node has no image" in site.node.instance("pump")["detail"]
    assert site.node.instance("other")["runtime_id"] == other
    site.order(4, ("pump", site.release("1.1.0")), ("other", site.release("1.1.0")))
    site.node.until(lambda: site.node.word("pump") == "Running (Ok)", "no way back", 90)
    site.order(5, ("other", site.release("1.1.0")))
    site.node.until(lambda: not site.node.instance("pump"), "what left is still there", 90)
    left = [site.space.get(kind)["items"] for kind in ("deployments", "networkpolicies")]
    assert [[one["metadata"]["name"] for one in kind] for kind in left] == [["other.edge-1"], ["other.edge-1"]]
    assert until_running(site, "other") == other


def missing_image(site: Site) -> Artifact:
    """Signed and fetched, and never brought to the node: another configuration of the same layers."""
    manifest = json.loads(site.far.blobs[site.artifact.root.digest])
    config = json.loads(site.far.blobs[manifest["config"]["digest"]])
    config["config"]["Labels"] = {"made": "elsewhere"}
    config_blob = blob(site, config)
    manifest["config"] |= {"digest": config_blob.digest, "size": config_blob.size}
    layers = {layer["digest"] for layer in manifest["layers"]}
    blobs = (config_blob, *(one for one in site.artifact.blobs if one.digest in layers))
    return Artifact(
        platform=site.artifact.platform, media_type=site.artifact.media_type, root=blob(site, manifest), blobs=blobs
    )


def blob(site: Site, document: dict[str, Any]) -> Blob:
    data = json.dumps(document).encode()
    return Blob(digest=site.far.add_blob(data), size=len(data))


def test_a_full_node_and_a_drained_one_are_told_by_name(site: Site) -> None:
    site.order(1, ("pump", site.release(resources=Resources(memory_mb=65536))))
    site.node.agent.start()
    site.node.until(lambda: "Unschedulable" in site.node.word("pump"), "it says nothing", 60)
    assert "memory" in site.node.instance("pump")["detail"]
    site.order(2, ("pump", site.release("1.1.0")))
    life = until_running(site)
    with site.space.cordoned():
        (pod,) = site.space.pods("pump")
        kubectl("delete", "pod", pod["metadata"]["name"], "-n", site.space.name, "--grace-period=1")
        site.node.until(lambda: "Unschedulable" in site.node.word("pump"), "it says nothing", 60)
    assert until_running(site) != life
