"""What a site and its people agree to: rollouts that wait for two of them, a site that says not now, a broken hold.

Real orchestrator with real accounts, command line, agent process and workload process, of class control.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.people.conftest import People
from tests.support.control_plant import ROOT, Plant


@pytest.fixture
def plant(orchestrator: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    made = Plant(tmp_path_factory.mktemp("p"), orchestrator)
    people = People(orchestrator, made.operator)
    made.sides = {
        side: people.person(name, f"{side}-engineer").client for side, name in (("ot", "olga"), ("it", "ivan"))
    }
    made.publish("1.0.0")
    try:
        yield made
    finally:
        made.end()


def status(plant: Plant) -> str:
    view = plant.operator.get(f"/rollouts/{plant.rollout}").json()["status"]
    return f"{view['state']} ({view['reason']})"


def progress(plant: Plant) -> tuple[str, str]:
    (site,) = plant.operator.get(f"/rollouts/{plant.rollout}").json()["waves"][0]["sites"]
    return f"{site['status']['state']} ({site['status']['reason']})", site["status"]["detail"]


def hold(plant: Plant, *words: str) -> None:
    command = [sys.executable, "-m", "agent", "hold", *words, "--state", str(plant.state)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def holds(plant: Plant) -> list[str]:
    return [one["id"] for one in plant.operator.get("/sites/hamburg").json()["summary"]["holds"]]


@pytest.mark.timeout(400)
def test_class_control_moves_only_after_two_people_and_only_when_the_site_lets_it(plant: Plant) -> None:
    # One of OT, one of IT, two people; whoever holds both roles speaks once, and nobody for the other side.
    sides, plant.sides = plant.sides, {}
    answer = plant.operator.post("/fleet", json={"documents": plant.fleet(level=40)})
    assert answer.status_code == 200, answer.text
    assert plant.operator.get("/rollouts/preview").json()["approvalsNeeded"] == ["ot", "it"]
    said = plant.sluice("rollout", "start", "--reason", "first light")
    assert "waits for the approval of OT and IT" in said
    (view,) = plant.operator.get("/rollouts").json()
    plant.rollout, plant.generation = view["id"], view["generation"]
    plant.until(lambda: status(plant) == "Waiting (Approval)", "it does not wait")
    path = f"/rollouts/{plant.rollout}/approvals"
    assert sides["it"].post(path, json={"side": "ot", "reason": "x"}).status_code == 403
    plant.sluice("rollout", "approve", str(plant.rollout), "--as", "ot", "--why", "tested on the bench")
    again = plant.operator.post(path, json={"side": "it", "reason": "me too"})
    assert again.status_code == 409
    assert "two people" in again.text
    assert plant.operator.get("/sites/hamburg").json()["summary"]["assignedGeneration"] is None
    approved = sides["it"].post(path, json={"side": "it", "reason": "the line is ready"})
    assert approved.status_code == 200
    assert approved.json()["lacking"] == []
    assert len({one["content"] for one in approved.json()["approvals"]}) == 1
    plant.until(lambda: status(plant) != "Waiting (Approval)", "it does not begin")
    assert {(one["actor"], one["kind"]) for one in plant.operator.get("/audit?limit=500").json()} >= {
        ("admin", "rollout-approved"),
        ("ivan", "rollout-approved"),
    }
    plant.sides = sides
    plant.enrol()
    plant.agent.start()
    plant.until(plant.runs, "the instance does not run")
    before = plant.level()["pid"]

    # Not now: the rollout shows who and why, the site is told nothing, and what runs is looked after.
    hold(plant, "--for", "8h", "--why", "a batch runs")
    (name,) = plant.until(lambda: holds(plant), "the hold is not reported")
    plant.publish("1.1.0")
    plant.roll_out("1.1.0", level=40)
    plant.until(lambda: progress(plant)[0] == "Waiting (Held)", "the rollout does not show the hold")
    assert "a batch runs" in progress(plant)[1]
    assert plant.operator.get("/sites/hamburg").json()["summary"]["assignedGeneration"] == 1
    assert "a batch runs" in plant.sluice("site", "show", "hamburg")
    assert plant.put(values={"level": 50}).status_code == 200
    plant.until(lambda: plant.level()["level"] == 50, "a parameter is not taken over while it is held")
    assert plant.level()["pid"] == before
    plant.agent.kill9()
    os.kill(before, 9)
    plant.agent.start()
    plant.until(lambda: plant.runs() and plant.ask("level").status_code == 200, "it is not started again")
    assert plant.level()["pid"] != before
    assert progress(plant)[0] == "Waiting (Held)"

    # Broken by one side: nothing. By both, from offline keys: this generation passes, and the hold still stands.
    keys = str(plant.running.keys / "offline")
    words = ("sign", "--unhold", f"hamburg/{name}", "--generation", str(plant.generation), "--keys", keys, "--yes")
    said = plant.sluice(*words, "--as", "ot", "--why", "recall", "--name", "Olga")
    assert "Still needed before any site takes it: IT" in said
    for _ in range(3):
        plant.until(lambda: plant.runs(), "it does not go on")
        assert progress(plant)[0] == "Waiting (Held)"
    plant.sluice(*words, "--as", "it", "--why", "agreed by telephone", "--name", "Ivan")
    plant.until(lambda: plant.runs("1.1.0"), "the broken hold still keeps it out")
    (event,) = plant.until(lambda: plant.events("hold-broken"), "the site does not tell it")
    assert "OT Olga: recall; IT Ivan: agreed by telephone" in event["text"]
    assert len(plant.events("hold-break-signed")) == 1
    assert holds(plant) == [name]

    # People at the site let go themselves; then everything goes its way.
    plant.publish("1.2.0")
    plant.roll_out("1.2.0", level=40)
    plant.until(lambda: progress(plant)[0] == "Waiting (Held)", "the next generation is not held")
    hold(plant, "--release")
    plant.until(lambda: plant.runs("1.2.0"), "it does not go on after the release")
    plant.until(lambda: status(plant) == "Done (Ok)", "the rollout does not end")
    (event,) = plant.events("hold-released")
    assert "released by" in event["text"]
    kinds = {one["kind"] for one in plant.operator.get("/audit?limit=500").json()}
    assert kinds >= {"hold-set", "hold-stands", "hold-broken", "hold-released", "hold-break-signed"}
