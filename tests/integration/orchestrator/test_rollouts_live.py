"""Rollouts through the API: operators' acts, superseding, late joiners; and metadata that is signed again in time."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from manifests.messages import RepositoryVersions, State, SyncRequest
from orchestrator.blobs import BlobFiles
from orchestrator.publish import DAY_NS, Publisher
from orchestrator.store import Store


@pytest.fixture
def plant(orchestrator: Any, enroller: Any, lab: Any) -> Any:
    operator = orchestrator.operator()
    digest = lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    return operator, digest


def policy(soak_s: float = 0.2, **spec: Any) -> dict[str, Any]:
    gate = {"soakS": soak_s, "timeoutS": 60}
    body = {"gate": gate, **spec}
    return {"apiVersion": "sluice/v1", "kind": "Rollout", "metadata": {"name": "r"}, "spec": body}


def test_a_site_that_enrols_after_the_rollout_is_done_gets_the_baseline(
    plant: Any, enroller: Any, eventually: Any
) -> None:
    operator, digest = plant
    hamburg = enroller.enrol(operator, "hamburg")
    hamburg.report()
    operator.post("/rollouts", json={"policy": policy(), "reason": "hamburg is there"})

    def done() -> bool:
        hamburg.obey(digest)
        return bool(operator.get("/rollouts/1").json()["status"]["state"] == "Done")

    eventually(done, 30)
    wave = operator.get("/rollouts/1").json()["waves"][0]
    assert {s["site"]: s["status"]["state"] for s in wave["sites"]} == {"hamburg": "Passed", "leipzig": "Offline"}
    leipzig = enroller.enrol(operator, "leipzig")
    assert eventually(lambda: leipzig.obey(digest) == 1)

    def passed() -> bool:
        leipzig.obey(digest)
        return bool(operator.get("/rollouts/1").json()["sitesPassed"] == 2)

    eventually(passed, 30)


def test_pause_resume_abort_and_superseding_with_their_conflicts(
    plant: Any, enroller: Any, lab: Any, eventually: Any
) -> None:
    operator, _ = plant
    hamburg = enroller.enrol(operator, "hamburg")
    hamburg.report()
    assert operator.post("/rollouts", json={"reason": ""}).status_code == 422
    operator.post("/rollouts", json={"policy": policy(), "reason": "one"})
    assert operator.post("/rollouts/1/resume", json={"reason": "x"}).status_code == 409
    assert operator.post("/rollouts/1/pause", json={"reason": "wait"}).json()["status"]["state"] == "Paused"
    assert operator.post("/rollouts/1/resume", json={"reason": "go"}).json()["status"]["state"] == "Running"
    eventually(lambda: hamburg.generation() == 1)
    assert lab.apply_fleet(operator, lab.fleet_documents(rate=2)) == 2
    second = operator.post("/rollouts", json={"reason": "two"}).json()
    assert {c["action"] for c in second["changes"] if c["site"] == "hamburg"} == {"restart"}
    first = operator.get("/rollouts/1").json()
    assert (first["status"]["state"], first["status"]["reason"]) == ("Aborted", "Superseded")
    eventually(lambda: hamburg.generation() == 2)
    assert operator.post("/rollouts", json={"generation": 1, "reason": "back"}).status_code == 409
    assert operator.post("/rollouts/2/abort", json={"reason": "enough"}).json()["status"]["state"] == "Aborted"
    assert hamburg.generation() == 2  # nothing is reverted
    assert operator.post("/rollouts/2/abort", json={"reason": "again"}).status_code == 409
    assert operator.get("/rollouts/3").status_code == 404


def test_the_preview_says_what_each_site_would_change_against_what_it_was_told(
    plant: Any, enroller: Any, lab: Any, eventually: Any
) -> None:
    operator, _ = plant
    hamburg = enroller.enrol(operator, "hamburg")
    hamburg.report()
    first = operator.get("/rollouts/preview").json()
    assert (first["generation"], first["behind"], first["ahead"]) == (1, ["hamburg", "leipzig"], [])
    assert {(c["site"], c["action"]) for c in first["changes"]} == {("hamburg", "start"), ("leipzig", "start")}
    only_hamburg = policy(waves=[{"name": "one", "selector": {"sites": ["hamburg"]}}])
    started = operator.post("/rollouts", json={"policy": only_hamburg, "reason": "one"}).json()
    assert started["changes"] == [c for c in first["changes"] if c["site"] == "hamburg"]
    eventually(lambda: hamburg.generation() == 1)
    assert lab.apply_fleet(operator, lab.fleet_documents(rate=2)) == 2
    second = operator.get("/rollouts/preview").json()
    assert {(c["site"], c["action"]) for c in second["changes"]} == {("hamburg", "restart"), ("leipzig", "start")}
    assert any("1 -> 2" in reason for change in second["changes"] for reason in change["because"])
    again = operator.get("/rollouts/preview", params={"generation": 1}).json()
    assert again["behind"] == ["leipzig"]
    assert {c["site"] for c in again["changes"]} == {"leipzig"}
    assert operator.get("/rollouts/preview", params={"generation": 3}).status_code == 404
    assert operator.get("/rollouts").json()[0]["id"] == started["id"]  # looking started nothing


def test_before_any_fleet_the_preview_has_nothing_to_roll_out(orchestrator: Any) -> None:
    empty = orchestrator.operator().get("/rollouts/preview").json()
    assert (empty["generation"], empty["changes"], empty["behind"]) == (0, [], [])


def test_a_sick_site_keeps_the_next_wave_from_starting_and_the_reason_is_shown(
    plant: Any, enroller: Any, eventually: Any
) -> None:
    operator, digest = plant
    hamburg, leipzig = enroller.enrol(operator, "hamburg"), enroller.enrol(operator, "leipzig")
    waves = [{"name": "first", "selector": {"matchLabels": {"ring": "one"}}}, {"name": "rest"}]
    body = policy(waves=waves, gate={"soakS": 0, "timeoutS": 1})
    hamburg.report()
    leipzig.report()
    operator.post("/rollouts", json={"policy": body, "reason": "will fail"})

    def paused() -> Any:
        hamburg.obey(digest, state=State.FAILED, reason="Crashed")
        leipzig.obey(digest)
        found = operator.get("/rollouts/1").json()
        return found if found["status"]["state"] == "Paused" else None

    found = eventually(paused, 30)
    assert "Crashed" in json.dumps(found["waves"][0])
    assert found["waves"][0]["status"]["state"] == "Failed"
    assert leipzig.generation() == 0
    kinds = {e["kind"] for e in operator.get("/events").json()}
    assert {"site-failed", "wave-failed", "rollout-paused"} <= kinds


def test_metadata_is_signed_again_when_under_twenty_days_are_left(key_folder: Any, tmp_path: Any) -> None:
    now = [time.time_ns()]
    store = Store(f"sqlite:///{tmp_path / 'x.db'}")
    changed: list[str] = []
    publisher = Publisher(store, BlobFiles(tmp_path), key_folder / "online", lambda: now[0], changed.append)
    publisher.prepare()
    with store.write() as conn:
        publisher.ensure(conn, "hamburg")

    def version(repository: str) -> int:
        reply = publisher.bundle("hamburg", SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions()))
        return int(json.loads(getattr(reply, repository)["timestamp.json"])["signed"]["version"])

    first = version("director"), version("catalog")
    now[0] += 9 * DAY_NS
    assert publisher.renew() == []
    now[0] += 2 * DAY_NS
    assert publisher.renew() == ["hamburg"]
    assert (version("director"), version("catalog")) == (first[0] + 1, first[1] + 1)
    assert changed == ["hamburg"]
    assert publisher.renew() == []
    store.close()
