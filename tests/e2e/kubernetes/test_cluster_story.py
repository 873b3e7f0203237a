"""One plant on a real cluster, from its one-time token to the last pod cleared away; its agent dies between all of it.

The tests stand in the order of the story and share its plant; each leaves both workloads running. What counts is seen
by others than ourselves: the cluster's own account of its containers, the tank's registers, the historian's tables.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.demo.proof import prove
from tests.demo.tank import FAILSAFE_MS, TankLoop
from tests.support.cluster import ROOT, kubectl, missing
from tests.support.screenshots import browser, chromium_path, log_in, visit

if TYPE_CHECKING:
    from tests.e2e.kubernetes.cluster_stage import ClusterStage

pytestmark = [pytest.mark.kubernetes, pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.xdist_group("plants")]
AWAY_S = 120
SITE, PUMPS, TANK = "hamburg", "pumps", "tank"


@pytest.fixture(scope="module")
def plant() -> Iterator[ClusterStage]:
    """Enrolled and rolled out."""
    if reason := missing():
        pytest.skip(f"NOT TRIED ON KUBERNETES: {reason}")
    from tests.e2e.kubernetes.cluster_stage import FIRST, ClusterStage

    outside = Path(tempfile.mkdtemp(prefix="sluice-"))  # short: sockets lie in it
    stage = ClusterStage(outside / "stage", outside)
    try:
        stage.start_centre()
        stage.prepare()
        rollout = stage.roll_out(FIRST)
        stage.start_plant(SITE)
        stage.wait_for_rollout(rollout, 240)
        yield stage
    finally:
        if os.environ.get("SLUICE_KEEP"):  # to look at what a failed test left
            print(*(agent.tail(60) for agent in stage.agents.values()), sep="\n")
        stage.close()
        shutil.rmtree(outside, ignore_errors=True)


@pytest.fixture(autouse=True)
def _agent_dies_in_between(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("plant").restart_agent()


def test_a_translator_and_a_control_loop_run_as_pods_and_do_their_work(plant: ClusterStage) -> None:
    plant.until_running()
    plant.until_data(PUMPS)
    plant.until_data(TANK)
    values = plant.get(f"/sites/{SITE}/values")
    assert {value["quality"] for value in values} == {"good"}
    assert TankLoop(plant).in_spec()
    (tank,) = plant.space.pods(TANK)
    assert tank["status"]["qosClass"] == "Guaranteed"


def test_a_killed_pod_comes_back_and_what_was_acknowledged_is_there(plant: ClusterStage) -> None:
    before, told = plant.lives(), plant.stream(PUMPS)
    (pod,) = plant.space.pods(PUMPS)
    kubectl("delete", "pod", pod["metadata"]["name"], "-n", plant.space.name, "--grace-period=1")
    plant.until("another life", lambda: plant.lives().get(PUMPS, before[PUMPS]) != before[PUMPS])
    plant.until_running()
    plant.until_data()
    proof = prove(plant.folder / "centre", SITE, told["stream"], told["incarnation"], int(told["ackedSeq"]))
    assert proof.holds(int(told["ackedSamples"]), told["ackedChain"])
    assert plant.lives()[TANK] == before[TANK]


def test_a_drained_node_says_so_and_takes_its_work_up_again(plant: ClusterStage) -> None:
    before, loop = plant.lives(), TankLoop(plant)
    with plant.space.cordoned(drained=True):
        for name in (PUMPS, TANK):
            plant.until(f"{name} says that it has no place", lambda one=name: "(Unschedulable)" in plant.word(one))
        plant.until("the pump stopped by its fail-safe", lambda: loop.books().pump == 0)
        plant.agents[SITE].kill9()
        plant.agents[SITE].start()
    plant.until_running()
    assert not set(plant.lives().values()) & set(before.values())
    plant.until_data(TANK)
    assert loop.in_spec()


def test_without_the_api_server_data_flows_the_loop_holds_and_the_status_says_why_nothing_changes(
    plant: ClusterStage,
) -> None:
    before, told, loop = plant.lives(), plant.stream(PUMPS), TankLoop(plant)
    trips = loop.books().trips
    loop.reset_books()
    with plant.without_api_server():
        ends = time.monotonic() + AWAY_S
        plant.until("that it does not answer", lambda: any("does not answer" in why for why in plant.waits()))
        plant.until_data()
        plant.agents[SITE].kill9()
        plant.agents[SITE].start()  # boots without the cluster, and hears the workloads all the same
        plant.until_data()
        while time.monotonic() < ends:
            plant.until_data()
    books = loop.books()
    assert (books.trips, books.longest_ms < FAILSAFE_MS) == (trips, True)
    plant.until("the agent to see the cluster again", lambda: not plant.waits())
    plant.until_running()
    assert plant.lives() == before
    now = plant.stream(PUMPS)
    assert now["incarnation"] == told["incarnation"]
    proof = prove(plant.folder / "centre", SITE, now["stream"], now["incarnation"], int(now["ackedSeq"]))
    assert proof.holds(int(now["ackedSamples"]), now["ackedChain"])


def test_what_somebody_edits_is_put_right_and_told(plant: ClusterStage) -> None:
    before = plant.lives()
    kubectl("scale", "deployment", "pumps.edge1", "-n", plant.space.name, "--replicas=0")
    kubectl("delete", "networkpolicy", "tank.edge1", "-n", plant.space.name)
    plant.until("another life", lambda: plant.lives().get(PUMPS, before[PUMPS]) != before[PUMPS])
    plant.until_running()
    plant.until("the policy", lambda: len(plant.space.get("networkpolicies")["items"]) == 2)
    plant.until("the event", lambda: any(one["kind"] == "instance-drifted" for one in plant.get("/events")))
    plant.until_data()


def test_an_upgrade_replaces_its_workload_and_leaves_the_loop_alone(plant: ClusterStage) -> None:
    before = plant.lives()
    plant.wait_for_rollout(plant.roll_out("0.2.0"), 240)
    plant.until_running()
    assert plant.instance(SITE, PUMPS)["version"] == "0.2.0"
    assert plant.lives()[PUMPS] != before[PUMPS]
    assert plant.lives()[TANK] == before[TANK]


@pytest.mark.parametrize(("version", "reason"), [("0.3.0", "CrashLoop"), ("0.4.0", "Unschedulable")])
def test_a_bad_upgrade_stops_its_rollout_with_the_reason_and_the_way_back_is_one_more(
    plant: ClusterStage, version: str, reason: str
) -> None:
    before = plant.lives()
    bad = plant.roll_out(version)
    plant.until("the rollout to stop", lambda: plant.rollout(bad)["status"]["state"] == "Paused", 180)
    assert reason in json.dumps(plant.rollout(bad)["waves"])
    assert reason in plant.sluice("site", "show", SITE, parse=False)
    assert reason in plant.sluice("rollout", "status", str(bad), parse=False)
    read_in_console(plant, "Workloads", reason)
    plant.wait_for_rollout(plant.roll_out("0.2.0"), 240)
    plant.until_running()
    plant.until_data()
    assert plant.lives()[TANK] == before[TANK]


def test_a_broken_kubeconfig_and_a_missing_permission_are_said_wherever_people_look(plant: ClusterStage) -> None:
    before, kubeconfig = plant.lives(), plant.space.kubeconfig
    right = kubeconfig.read_text()
    kubeconfig.write_text("clusters: [")
    try:
        plant.agents[SITE].kill9()
        plant.agents[SITE].start()
        told_everywhere(plant, "the kubeconfig cannot be used")
        plant.until_data()
    finally:
        kubeconfig.write_text(right)
    plant.agents[SITE].kill9()
    plant.agents[SITE].start()
    plant.until("the cluster again", lambda: not plant.waits())
    rules = plant.space.get("role", "sluice-agent")["rules"]
    give(plant, [rule for rule in rules if "deployments" not in rule["resources"]])
    try:
        plant.agents[SITE].kill9()
        plant.agents[SITE].start()
        told_everywhere(plant, "forbidden")
        plant.until_data()
    finally:
        give(plant, rules)
    plant.until("the cluster again", lambda: not plant.waits())
    plant.until_running()
    assert plant.lives() == before


def give(plant: ClusterStage, rules: list[Any]) -> None:
    """The role holds these, and nothing else."""
    kubectl("patch", "role", "sluice-agent", "-n", plant.space.name, "--type=merge", "-p", json.dumps({"rules": rules}))


def told_everywhere(plant: ClusterStage, words: str) -> None:
    plant.until(words, lambda: any(words in why for why in plant.waits()))
    assert words in plant.sluice("site", "show", SITE, parse=False)
    status = [sys.executable, "-m", "agent", "status", "--state", str(plant.config.parent)]
    assert words in subprocess.run(status, capture_output=True, text=True, cwd=ROOT, check=False).stdout
    read_in_console(plant, "Nodes", words)


def read_in_console(plant: ClusterStage, panel: str, words: str) -> None:
    """As people see it, where the machine has a browser."""

    def look() -> None:
        with browser() as running:
            page = running.new_context(base_url=plant.url).new_page()
            log_in(page, plant.password)
            visit(page, f"/sites/{SITE}")
            page.get_by_role("region", name=panel).get_by_text(words).first.wait_for()

    if chromium_path():
        with ThreadPoolExecutor(1) as thread:  # one browser per thread, and other tests may have theirs in this one
            thread.submit(look).result()


def test_what_left_the_fleet_is_pruned_and_clearing_leaves_nothing(plant: ClusterStage) -> None:
    before = plant.lives()
    rollout = plant.roll_out(plant.instance(SITE, PUMPS)["version"], tank=False)
    plant.until("the site's own word to be asked for", lambda: "control-stop" in json.dumps(refusal(plant)))
    assert plant.lives() == before
    consent = [sys.executable, "-m", "agent", "consent", TANK, "--why", "out of service"]
    subprocess.run([*consent, "--state", str(plant.config.parent)], check=True, capture_output=True, cwd=ROOT)
    plant.wait_for_rollout(rollout, 240)
    for kind in ("deployments", "networkpolicies", "services"):
        plant.until(f"{kind} of the tank gone", lambda k=kind: not named(plant, k, TANK))
    assert [len(named(plant, kind, PUMPS)) for kind in ("deployments", "networkpolicies")] == [1, 1]
    assert plant.lives()[PUMPS] == before[PUMPS]
    plant.agents[SITE].stop()
    clear = [sys.executable, "-m", "agent", "clear", "--config", str(plant.config)]
    subprocess.run(clear, check=True, capture_output=True, cwd=ROOT)
    assert [plant.space.get(kind)["items"] for kind in ("deployments", "networkpolicies", "services")] == [[], [], []]


def refusal(plant: ClusterStage) -> Any:
    return plant.get(f"/sites/{SITE}")["nodes"][0]["refusal"]


def named(plant: ClusterStage, kind: str, instance: str) -> list[str]:
    found = plant.space.get(kind)["items"]
    return [one["metadata"]["name"] for one in found if one["metadata"]["labels"].get("sluice.instance") == instance]
