"""The whole line through the centre: fleet, catalog, enrolment, rollout, data, history, live."""

from __future__ import annotations

import json
import time
from typing import Any


def test_a_fleet_goes_live_and_its_values_are_queryable(
    over_each_database: Any, tmp_path: Any, lab: Any, eventually: Any
) -> None:
    running = over_each_database
    enroller = lab.Enroller(running, tmp_path)
    operator = running.operator()
    digest = lab.publish(running, operator)
    assert lab.apply_fleet(operator, lab.fleet_documents()) == 1
    hamburg, leipzig = enroller.enrol(operator, "hamburg"), enroller.enrol(operator, "leipzig")
    assert hamburg.generation() == 0
    policy = {
        "apiVersion": "sluice/v1",
        "kind": "Rollout",
        "metadata": {"name": "careful"},
        "spec": {
            "waves": [{"name": "first", "selector": {"sites": ["hamburg"]}}, {"name": "rest"}],
            "gate": {"soakS": 0.2, "timeoutS": 60},
        },
    }
    started = operator.post("/rollouts", json={"policy": policy, "reason": "first light"})
    assert started.status_code == 201, started.text
    number = started.json()["id"]
    assert {c["action"] for c in started.json()["changes"]} == {"start"}
    seen: list[tuple[int, int]] = []

    def done() -> bool:
        seen.append((hamburg.obey(digest), leipzig.obey(digest)))
        return operator.get(f"/rollouts/{number}").json()["status"]["state"] == "Done"

    eventually(done, 40)
    assert (1, 0) in seen  # the second wave waited for the first
    assert seen[-1] == (1, 1)
    summaries = {s["name"]: s for s in operator.get("/sites").json()}
    assert summaries["hamburg"]["health"]["reason"] == "Ok", summaries["hamburg"]
    assert summaries["hamburg"]["tags"] == summaries["hamburg"]["goodTags"] == 1
    (value,) = operator.get("/sites/hamburg/values").json()
    assert (value["topic"], value["value"], value["quality"]) == ("acme/site/flow", 1.5, "good")
    site = operator.get("/sites/hamburg").json()
    assert site["instances"][0]["streams"][0]["samples"] >= 1
    assert site["instances"][0]["workloadClass"] == "translator"
    assert operator.get("/releases").json()[0]["runningOn"] == 2
    assert operator.get("/sites/hamburg/sparklines").json()[0]["value"]
    kinds = {e["kind"] for e in operator.get("/events").json()}
    assert {"fleet-applied", "node-enrolled", "rollout-started", "wave-passed", "rollout-done"} <= kinds
    metrics = operator.get(f"{running.operator_url}/metrics").text
    assert 'sluice_sites{link="online"} 2.0' in metrics
    assert 'sluice_rollout{status="Done"} 1.0' in metrics


def test_history_is_downsampled_with_extremes_and_exported_whole(orchestrator: Any, enroller: Any, lab: Any) -> None:
    operator = orchestrator.operator()
    lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    node = enroller.enrol(operator, "hamburg")
    begin = 1_700_000_000 * 10**9
    node.ingest(lab.descriptor("pump/data", "i", 1, ["acme/flow", "acme/level"]))
    for part in range(10):
        rows = [(0, begin + (part * 100 + i) * 10**9, float(i)) for i in range(100)]
        rows += [(1, begin + (part * 100 + i) * 10**9, -1.0) for i in range(100)]
        if part == 5:
            rows[50] = (0, rows[50][1], 1e6)
        node.ingest(lab.samples("pump/data", "i", part + 2, rows))
    query = {"topic": "acme/flow", "from": "2023-11-14T22:13:20Z", "to": "2023-11-14T22:30:00Z", "points": 50}
    series = operator.get("/sites/hamburg/history", params=query).json()
    assert series["downsampled"]
    assert series["samples"] == 1000
    assert len(series["tMs"]) <= 50
    assert max(series["max"]) == 1e6
    assert min(series["min"]) == 0
    assert series["tMs"][0] == 1_700_000_000_000
    assert series["tMs"][-1] == 1_700_000_999_000
    csv = operator.get("/sites/hamburg/history", params={**query, "format": "csv"})
    assert len(csv.text.splitlines()) == 1001
    assert csv.text.splitlines()[1] == "2023-11-14T22:13:20.000000000Z,0.0,192,"
    assert operator.get("/sites/hamburg/history", params={**query, "topic": "no/such"}).status_code == 404
    assert operator.get("/sites/nowhere/values").status_code == 404


def test_the_live_line_starts_with_the_state_and_follows_changes(orchestrator: Any, enroller: Any, lab: Any) -> None:
    operator = orchestrator.operator()
    lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    node = enroller.enrol(operator, "hamburg")
    node.ingest(lab.descriptor("pump/data", "i", 1, ["acme/flow"]))
    node.ingest(lab.samples("pump/data", "i", 2, [(0, time.time_ns(), 1.0)]))
    seen: list[tuple[str, Any]] = []
    with operator.stream("GET", "/live", params={"site": "hamburg"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                seen.append((name, json.loads(line[6:])))
                if name == "values" and seen[-1][1]["values"][0]["value"] == 1.0:
                    node.ingest(lab.samples("pump/data", "i", 3, [(0, time.time_ns(), 2.0)]))
                    node.report(events=(_event(1),))
                values = [d["values"][0]["value"] for n, d in seen if n == "values"]
                if 2.0 in values and any(n == "event" for n, _ in seen):
                    break
    assert [d["name"] for n, d in seen if n == "site"][:2] == ["hamburg", "leipzig"]
    assert [d["kind"] for n, d in seen if n == "event"] == ["instance-started"]


def _event(seq: int) -> Any:
    from manifests.messages import Event, Severity

    return Event(seq=seq, at_ns=1, severity=Severity.INFO, kind="instance-started", subject="pump", text="up")


def test_reported_events_are_stored_once_however_often_they_come(orchestrator: Any, enroller: Any, lab: Any) -> None:
    operator = orchestrator.operator()
    lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    node = enroller.enrol(operator, "hamburg")
    assert node.report(events=(_event(1), _event(2))).events_seen == 2
    assert node.report(events=(_event(1), _event(2), _event(3))).events_seen == 3
    assert node.report(incarnation="agent-2", events=(_event(1),)).events_seen == 1
    events = operator.get("/events", params={"site": "hamburg"}).json()
    assert sum(1 for e in events if e["kind"] == "instance-started") == 4


def test_a_waiting_sync_is_woken_by_a_rollout(orchestrator: Any, enroller: Any, lab: Any) -> None:
    import threading

    import msgspec

    from manifests.messages import RepositoryVersions, SyncRequest

    operator = orchestrator.operator()
    digest = lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    node = enroller.enrol(operator, "hamburg")
    node.obey(digest)
    first = node.sync()

    def versions(files: Any) -> RepositoryVersions:
        def of(role: str) -> int:
            name = next(n for n in files if n.endswith(f"{role}.json"))
            return int(msgspec.json.decode(files[name])["signed"]["version"])

        top = {"timestamp", "snapshot", "targets"}
        roles = {name.split(".")[-2] for name in files} - top - {"root"}
        return RepositoryVersions(root=1, **{r: of(r) for r in top}, roles={r: of(f".{r}") for r in roles})

    held = SyncRequest(catalog=versions(first.catalog), director=versions(first.director))
    assert node.sync(held=held).director == {}
    box: list[Any] = []
    waiting = threading.Thread(target=lambda: box.append(node.sync(wait_s=50, held=held)))
    began = time.monotonic()
    waiting.start()
    assert operator.post("/rollouts", json={"reason": "go"}).status_code == 201
    waiting.join(40)
    assert box
    assert any(name.endswith("targets.json") for name in box[0].director)
    assert time.monotonic() - began < 40
