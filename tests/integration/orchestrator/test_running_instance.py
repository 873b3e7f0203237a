"""One running instance, asked and set from the centre: real orchestrator, command line, agent and workload process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.control_plant import SCHEMA, Plant


@pytest.fixture
def orchestrator(tmp_path: Path, key_folder: Path, lab: Any) -> Iterator[Any]:
    """A small plant: one person answers for OT and for IT."""
    running = lab.start(replace(lab.settings_for(tmp_path, key_folder), single_person=True), key_folder)
    yield running
    for client in running.clients:
        client.close()
    running.stop()


@pytest.fixture
def plant(orchestrator: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    made = Plant(tmp_path_factory.mktemp("p"), orchestrator)
    made.publish("1.0.0")
    made.roll_out(level=40)
    made.enrol()
    made.agent.start()
    try:
        made.until(made.runs, "the instance does not run")
        yield made
    finally:
        made.end()


def test_parameters_are_set_cleared_refused_and_kept_while_the_instance_runs_on(plant: Plant) -> None:
    before = plant.level()
    assert (before["level"], before["core"], before["shared"]) == (40, 0, True)
    assert before["writes"] == ["modbus io (ot): coil 0-3"]

    # Set: the same process holds the new value, and everybody can read who, when, why, old and new.
    answer = plant.put(values={"level": 55.5}, why="the night shift asked")
    assert answer.status_code == 200, answer.text
    view = answer.json()
    assert (view["revision"], view["parameters"][0]["limits"]) == (1, "number, minimum 0, maximum 80")
    plant.until(lambda: plant.level()["level"] == 55.5, "the new level is not taken over")
    assert plant.level()["pid"] == before["pid"]
    plant.until(lambda: plant.operator.get("/sites/hamburg/instances/tank/parameters").json()["adopted"], "not adopted")
    (event,) = plant.events("parameter-set")
    assert (event["actor"], event["subject"]) == ("admin", "tank level")
    assert event["text"] == f"40 -> 55.5, generation {plant.generation} revision 1: the night shift asked"
    plant.until(lambda: plant.events("instance-configured"), "the site does not tell it")

    # Refused at the centre, by the signed range and with its place; nothing changes.
    refused = plant.put(values={"level": 81, "nothing": 1})
    assert refused.status_code == 422
    assert {one["path"] for one in refused.json()["errors"]} == {"nothing"}
    refused = plant.put(values={"level": 81})
    (mistake,) = refused.json()["errors"]
    assert (mistake["path"], mistake["hint"]) == ("level", "number, minimum 0, maximum 80")
    assert plant.put(values={"level": 1}, why="").status_code == 422

    # Refused by the workload itself: it goes on with what it had, and says so.
    assert plant.put(values={"level": 13}).status_code == 200
    plant.until(lambda: plant.word() == "Running (ParametersRefused)", "the refusal is not told")
    assert "13 is unlucky" in plant.instance()["status"]["detail"]
    assert plant.level()["level"] == 55.5
    assert plant.put(values={"level": 60}).status_code == 200
    plant.until(lambda: plant.runs() and plant.level()["level"] == 60, "it does not recover")

    # The agent dies, the value changes meanwhile, and is taken over when it is back: no restart.
    plant.agent.kill9()
    assert plant.put(values={"level": 61}).status_code == 200
    plant.agent.start()
    plant.until(lambda: plant.ask("level").status_code == 200 and plant.level()["level"] == 61, "lost with the agent")
    assert plant.level()["pid"] == before["pid"]

    # A new start of the workload reads what was set, not what the fleet says.
    os.kill(before["pid"], 9)
    plant.until(lambda: plant.runs() and plant.ask("level").status_code == 200, "it is not started again")
    again = plant.level()
    assert again["level"] == 61
    assert again["pid"] != before["pid"]

    # A new release keeps what still has a place; what has none is listed beforehand, and told when it is dropped.
    properties = {**SCHEMA["properties"], "level": {**SCHEMA["properties"]["level"], "maximum": 50}}
    plant.publish("1.1.0", {**SCHEMA, "properties": properties})
    documents = {"documents": plant.fleet("1.1.0", level=40)}
    (change,) = plant.operator.post("/fleet/diff", json=documents).json()["changes"]
    assert change["action"] == "restart"
    assert any("parameter level = 61 is dropped: level: 61 is more than 50" in text for text in change["because"])
    assert "outputs stand for at most 30000 ms" in change["because"]
    plant.roll_out("1.1.0", level=40)
    plant.until(lambda: plant.runs("1.1.0") and plant.level()["level"] == 40, "the new release does not run")
    assert plant.level()["revision"] == 0
    assert len(plant.events("parameter-dropped")) == 1
    (replaced,) = plant.until(lambda: plant.events("instance-replaced"), "the replacement is not told")
    assert "of 30000 ms at most" in replaced["text"]


def test_a_new_generation_keeps_what_was_set_and_a_live_change_of_the_fleet_restarts_nothing(plant: Plant) -> None:
    pid = plant.level()["pid"]
    assert plant.put(values={"level": 55}).status_code == 200
    plant.until(lambda: plant.level()["level"] == 55, "not taken over")
    diff = plant.roll_out(level=41)
    assert [change["action"] for change in diff["changes"]] == ["keep"]  # what was set lies over it
    plant.until(lambda: plant.instance()["generation"] == plant.generation, "the generation does not arrive")
    assert (plant.level()["level"], plant.level()["pid"]) == (55, pid)
    assert plant.put(clear=["level"], why="back to the fleet's").status_code == 200
    plant.until(lambda: plant.level()["level"] == 41, "not cleared")
    (event,) = plant.events("parameter-cleared")
    assert event["text"].startswith("55 -> 41 (as the fleet says), generation 2 revision 1")
    diff = plant.roll_out(level=42)
    assert [change["action"] for change in diff["changes"]] == ["configure"]
    plant.until(lambda: plant.level()["level"] == 42, "the live change of the fleet does not arrive")
    assert plant.level()["pid"] == pid


def test_inquiries_are_answered_streamed_bounded_and_ended(plant: Plant) -> None:
    assert plant.level()["asked"] == {}
    assert plant.ask("level", deep={"a": [1, "b"]}).json()["value"]["asked"] == {"deep": {"a": [1, "b"]}}
    assert plant.ask("picture").json()["text"] == "<svg/>"
    big = plant.ask("big", bytes=1 << 20).json()
    assert len(big["base64"]) == (1 << 20) // 3 * 4 + 4

    # What cannot be answered says why, whoever says it.
    for answer, status, words in (
        (plant.ask("nonsense"), 422, "this workload answers: big, level, picture, watch"),
        (plant.ask("big", bytes=(1 << 20) + 1), 422, "can travel"),
        (plant.ask("big"), 422, "the workload failed: KeyError"),
        (plant.ask("level", padding="x" * 70_000), 413, "at most"),
        (plant.operator.post("/sites/hamburg/instances/nobody/inquiries", json={"kind": "a"}), 404, "no instance"),
    ):
        assert answer.status_code == status, answer.text
        assert words in answer.text

    # A stream ends by itself, with its end said.
    body = {"kind": "watch", "arguments": {"count": 5}, "timeoutS": 20}
    path, headers = "/sites/hamburg/instances/tank/inquiries", {"Accept": "text/event-stream"}
    with plant.operator.stream("POST", path, json=body, headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line.startswith(("event:", "data:"))]
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event:")]
    assert events == ["answer"] * 5 + ["end"]
    assert [json.loads(line[6:])["value"]["number"] for line in lines if '"number"' in line] == [0, 1, 2, 3, 4]
    assert json.loads(lines[-1][6:])["reason"] == "final"

    # Whoever hangs up frees its place: far more watchers than there are places come and go.
    for _ in range(20):
        with plant.operator.stream("POST", path, json={"kind": "watch", "timeoutS": 600}, headers=headers) as stream:
            next(line for line in stream.iter_lines() if line.startswith("data:"))
        time.sleep(0.1)
    plant.until(lambda: plant.ask("level").status_code == 200, "places are not freed")
    assert {one["text"] for one in plant.events("inquiry")} >= {"asked for level", "asked for watch"}

    # Nobody there: said within seconds.
    plant.agent.kill9()
    gone = plant.ask("level")
    assert gone.status_code in (503, 504)


def test_an_operator_at_a_prompt_sets_and_asks(plant: Plant) -> None:
    text = plant.sluice("parameter", "set", "hamburg", "tank", "level=47.5", "--why", "try")
    assert "47.5 cm" in text
    assert "minimum 0, maximum 80" in text
    assert plant.sluice("parameter", "list", "hamburg", "tank", "--json")["parameters"][0]["setBy"] == "admin"
    assert "81 is more than 80" in plant.sluice(
        "parameter", "set", "hamburg", "tank", "level=81", "--why", "try", code=1
    )
    assert "NAME=VALUE" in plant.sluice("parameter", "set", "hamburg", "tank", "level", "--why", "try", code=1)
    plant.until(lambda: plant.level()["level"] == 47.5, "not taken over")
    assert "47.5" in plant.sluice("inquire", "hamburg", "tank", "level")
    followed = plant.sluice("inquire", "hamburg", "tank", "watch", "count=3", "--follow")
    assert followed.count("number") == 3
    assert "this workload answers" in plant.sluice("inquire", "hamburg", "tank", "nonsense", code=1)
    assert "fleet says" in plant.sluice("parameter", "clear", "hamburg", "tank", "level", "--why", "try")
    plant.until(lambda: plant.level()["level"] == 40, "not cleared")


def test_measures_reach_the_site_view_and_the_metrics(plant: Plant) -> None:
    plant.until(lambda: plant.instance().get("measures", {}).get("jitter_p999_us") == 100.0, "no measures")
    scraped = plant.operator.get(f"{plant.running.operator_url}/metrics").text
    assert 'sluice_workload_measure{instance="tank",measure="overruns",site="hamburg"} 0.0' in scraped


def test_a_node_that_offers_no_real_time_starts_nothing_and_stops_nothing(plant: Plant) -> None:
    pid = plant.level()["pid"]
    plant.agent.stop()
    settings = yaml.safe_load((plant.state / "agent.yaml").read_text())
    (plant.state / "agent.yaml").write_text(yaml.safe_dump({**settings, "control": {"cores": [0]}}))
    plant.agent.start()
    plant.until(lambda: plant.ask("level").status_code == 200, "it does not answer")
    assert plant.level()["pid"] == pid
    plant.publish("1.1.0")
    plant.roll_out("1.1.0", level=40)
    plant.until(lambda: plant.word() == "Waiting (NotPlaceable)", "it does not say why it waits")
    detail = plant.instance()["status"]["detail"]
    assert detail == "still runs 1.0.0: this node offers no real-time scheduling (control.realtime in agent.yaml)"
    assert plant.level()["pid"] == pid
