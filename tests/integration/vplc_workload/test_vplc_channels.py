"""What the platform gets from a running program and may change: tags, measures, set-points, forces, inquiries."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from manifests.block import Quality
from manifests.messages import Inquire, TagType
from tests.integration.vplc_workload.vplc_plant import VplcPlant, plant, until
from vplc.scan.access import Access
from vplc.scan.watch import Watcher

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def tank(tmp_path: Path, packed: Path) -> AsyncIterator[VplcPlant]:
    async with plant(tmp_path) as made:
        await made.start(packed)
        await made.heard("Running", "Ok")
        await made.bus.until(lambda: bool(made.bus.all_frames()))  # the descriptor comes first
        yield made


def value(tank: VplcPlant, path: str) -> Any:
    watcher = Watcher(tank.shared, [path])
    try:
        return watcher.ask().values[path]
    finally:
        watcher.close()


async def ask(tank: VplcPlant, kind: str, **arguments: Any) -> list[Any]:
    number = f"q{len(tank.bus.answers)}"
    answers = await tank.bus.ask(Inquire(id=number, kind=kind, body=json.dumps(arguments).encode(), timeout_s=10))
    errors = [one.error for one in answers if one.error]
    assert not errors, errors
    return [json.loads(one.payload) for one in answers if one.payload]


async def test_tags_have_type_unit_and_quality(tank: VplcPlant) -> None:
    await tank.bus.until(lambda: any(s[2] == Quality.GOOD for s in tank.bus.samples().get("level", ())))
    tags = {tag.topic: tag for tag in tank.bus.descriptor().tags}
    level = tags["acme/hh/utilities/water/tank1/level"]
    assert (level.type, level.unit, level.source) == (TagType.INT, "mm", "Tank.level INT AT %IW0")
    assert tags["acme/hh/utilities/water/tank1/interlock"].type is TagType.BOOL
    assert [s[1] for s in tank.bus.samples()["setpoint"]] == [1000.0]


async def test_an_unplugged_tank_makes_its_level_bad_and_nothing_else(tank: VplcPlant) -> None:
    await tank.bus.until(lambda: any(s[2] == Quality.GOOD for s in tank.bus.samples().get("level", ())))
    tank.tank.freeze()
    await tank.bus.until(lambda: tank.bus.samples()["level"][-1][2] < Quality.UNCERTAIN)
    heartbeat = await tank.heard("Running", "Degraded")
    assert "remote_io" in heartbeat.detail
    assert tank.bus.samples()["setpoint"][-1][2] == Quality.GOOD
    tank.tank.resume()
    await tank.heard("Running", "Ok")
    await tank.bus.until(lambda: tank.bus.samples()["level"][-1][2] == Quality.GOOD)


async def test_the_measures_of_the_gate_travel_with_each_heartbeat(tank: VplcPlant) -> None:
    await tank.bus.until(lambda: tank.bus.heartbeats[-1].measures.get("jitter_p999_us", 0) > 0)
    told = tank.last_heartbeat().measures
    assert {"overruns", "missed", "faults", "wake_p99_us", "execution_p99_us", "retain_saves"} <= set(told)
    assert told["faults"] == 0


async def test_a_new_set_point_is_in_the_program_without_a_restart(tank: VplcPlant) -> None:
    host = tank.children()["host"].pid
    await tank.configure(parameters={"Tank.setpoint": 1234.5})
    await until("the set-point", lambda: value(tank, "Tank.setpoint") == 1234.5)
    assert tank.children()["host"].pid == host


async def test_a_set_point_beyond_the_signed_range_is_refused_and_the_old_one_stays(tank: VplcPlant) -> None:
    await tank.configure(parameters={"Tank.setpoint": 1900})
    heartbeat = await tank.heard("Running", "ParametersRefused")
    assert "1900 is not within 400" in heartbeat.detail
    assert value(tank, "Tank.setpoint") == 1000.0
    await tank.configure(parameters={"Tank.setpoint": 900})
    await tank.heard("Running", "Ok")
    assert value(tank, "Tank.setpoint") == 900.0


async def test_a_force_from_the_centre_is_held_told_and_ended(tank: VplcPlant) -> None:
    await tank.configure(forces={"Tank.pump_speed": 321})
    await until("the force", lambda: value(tank, "Tank.pump_speed") == 321)
    await until("the pump", lambda: tank.tank_says()[2] > 250)
    await tank.bus.until(lambda: "forced: Tank.pump_speed" in tank.last_heartbeat().detail)
    await tank.configure(forces={})
    with Access(tank.shared) as access:
        await until("the end of the force", lambda: access.forced() == {})


async def test_a_force_at_the_node_is_not_ended_from_the_centre(tank: VplcPlant) -> None:
    with Access(tank.shared, "somebody at the machine") as access:
        access.force({"Tank.gain": 0.7})
        await tank.configure(forces={"Tank.pump_speed": 100})
        await until("the force", lambda: "Tank.pump_speed" in access.forced())
        await tank.configure(forces={})
        await until("its end", lambda: "Tank.pump_speed" not in access.forced())
        assert access.forced() == {"Tank.gain": pytest.approx(0.7)}
    await tank.bus.until(lambda: len(tank.bus.samples()["journal"]) >= 4)
    texts = [text or "" for _, _, _, text in tank.bus.samples()["journal"]]
    assert texts[0] == "tank 0.1.0 begins"
    assert "somebody at the machine force Tank.gain = 0.7 (was 0.5)" in texts[1]
    assert "centre unforce Tank.pump_speed (was 100)" in texts[3]
    [answer] = await ask(tank, "journal")
    told = [(entry["who"], entry["what"], entry["path"]) for entry in answer["entries"]]
    assert told == [
        ("somebody at the machine", "force", "Tank.gain"),
        ("centre", "force", "Tank.pump_speed"),
        ("centre", "unforce", "Tank.pump_speed"),
    ]


async def test_the_status_tells_what_is_forced_by_whom_and_how_the_drivers_are(tank: VplcPlant) -> None:
    with Access(tank.shared, "somebody at the machine") as access:
        access.force({"Tank.pump_speed": 300})
    [answer] = await ask(tank, "status")
    assert answer["forced"] == {"Tank.pump_speed": 300}
    entry = answer["journal"][-1]
    assert (entry["who"], entry["what"], entry["path"]) == ("somebody at the machine", "force", "Tank.pump_speed")
    assert [(one["name"], one["kind"], one["state"]) for one in answer["drivers"]] == [
        ("remote_io", "modbus", "running")
    ]


async def test_the_source_is_the_one_that_was_signed(tank: VplcPlant, packed: Path) -> None:
    [answer] = await ask(tank, "source")
    [file] = answer["files"]
    assert file["name"] == "tank.st"
    assert file["text"] == (packed / "source" / "tank.st").read_text()


async def test_the_report_of_its_tests_and_simulation_came_with_the_program(tank: VplcPlant) -> None:
    [answer] = await ask(tank, "report")
    assert answer["passed"]
    assert len(answer["tests"]) >= 8
    assert all(check["passed"] for check in answer["simulation"]["checks"])


async def test_variables_are_listed_with_what_may_be_changed(tank: VplcPlant) -> None:
    [answer] = await ask(tank, "variables", prefix="Tank.", limit=2000)
    rows = {row["path"]: row for row in answer["variables"]}
    assert answer["total"] == len(rows)
    assert rows["Tank.setpoint"] | {"settable": True, "retain": True, "type": "REAL"} == rows["Tank.setpoint"]
    assert rows["Tank.pump_speed"]["forcible"]
    assert not rows["Tank.level"]["settable"]


async def test_an_instance_is_watched_with_all_its_parts(tank: VplcPlant) -> None:
    answers = await ask(tank, "watch", paths=["Tank.controller", "Tank.scans"], every_ms=100, seconds=0.5)
    assert len(answers) >= 3
    assert "Tank.controller.integral" in answers[0]["values"]
    scans = [answer["values"]["Tank.scans"] for answer in answers]
    assert scans == sorted(scans)
    assert scans[-1] > scans[0]


async def test_an_unknown_path_is_refused_with_the_nearest(tank: VplcPlant) -> None:
    body = json.dumps({"paths": ["Tank.setpiont"]}).encode()
    [answer] = await tank.bus.ask(Inquire(id="wrong", kind="watch", body=body, timeout_s=10))
    assert "Tank.setpoint" in answer.error


async def test_the_status_shows_tasks_with_their_histograms(tank: VplcPlant) -> None:
    [answer] = await ask(tank, "status")
    [task] = answer["tasks"]
    assert (task["name"], answer["phase"], answer["program"]) == ("Fast", "running", "tank")
    assert task["latency"]["count"] > 0
