"""Live parameters at the centre: laid over the fleet's configuration, kept where they still fit, named where not."""

from __future__ import annotations

from typing import Any

import pytest

from manifests.model import (
    Control,
    DesiredInstance,
    DesiredState,
    PlacedInstance,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
    WriteGrant,
)
from orchestrator.fleets import ChangeAction, diff
from orchestrator.parameters import lay_over, mistakes

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "level": {"type": "number", "minimum": 0, "maximum": 80, "x-sluice-live": True},
        "gain": {"type": "number", "x-sluice-live": True},
        "host": {"type": "string"},
    },
    "additionalProperties": False,
}
GRANT = WriteGrant(segment="ot", protocol="modbus", target="io", points=("coil 0-3",))


def state(
    *, version: str = "1.0.0", schema: dict[str, Any] = SCHEMA, generation: int = 1, writes: Any = (), **config: Any
) -> DesiredState:
    release = WorkloadRelease(
        name="vplc",
        version=version,
        workload_class=WorkloadClass.CONTROL,
        artifacts=(),
        config_schema=schema,
        control=Control(period_ms=10, jitter_p999_us=500, watchdog_ms=50, max_stop_ms=800),
        writes=writes,
    )
    placed = PlacedInstance(
        instance=DesiredInstance(name="tank", node="edge", config=config),
        release=release,
        release_digest=f"sha256:{version.replace('.', ''):0>64}",
    )
    facts = SiteFacts(site="hamburg", enterprise="acme", generation=generation)
    return DesiredState(facts=facts, instances=(placed,))


def test_what_an_operator_set_lies_over_what_the_fleet_says() -> None:
    laid, dropped = lay_over(state(level=40, host="io"), {"tank": {"level": 60}}, revision=3)
    assert laid.instances[0].instance.config == {"level": 60, "host": "io"}
    assert laid.facts.order == (1, 3)
    assert dropped == []


def test_what_has_no_place_in_another_release_is_dropped_and_said() -> None:
    narrower = {**SCHEMA, "properties": {**SCHEMA["properties"], "level": {"type": "number", "maximum": 50}}}
    narrower["properties"].pop("gain")
    overlay = {"tank": {"level": 60, "gain": 2}, "gone": {"x": 1}}
    laid, dropped = lay_over(state(version="1.1.0", schema=narrower, level=40), overlay)
    assert laid.instances[0].instance.config == {"level": 40}
    assert [(one.instance, one.name) for one in dropped] == [("tank", "gain"), ("tank", "level"), ("gone", "x")]
    assert str(dropped[0]) == "parameter gain = 2 is dropped: is no live property of this release"


@pytest.mark.parametrize(
    ("values", "clear", "path", "words"),
    [
        ({"level": 81}, [], "level", "81 is more than 80"),
        ({"level": "high"}, [], "level", "is not number"),
        ({"host": "x"}, [], "host", "is no live parameter"),
        ({"levle": 1}, [], "levle", "is no live parameter"),
        ({}, ["gain"], "gain", "is not set"),
        ({"level": 1}, ["level"], "level", "both set and cleared"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_the_signed_range(
    values: dict[str, Any], clear: list[str], path: str, words: str
) -> None:
    (problem,) = mistakes(state(level=40).instances[0], {"level": 50}, values, clear)
    assert problem.path == path
    assert words in problem.what
    if path == "level" and values.get("level") == 81:
        assert problem.hint == "number, minimum 0, maximum 80"
    if path == "levle":
        assert "level" in problem.hint


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes(state(level=40).instances[0], {}, {"level": 81, "gain": "x"}, [])
    assert [problem.path for problem in found] == ["gain", "level"]


def test_a_change_of_live_parameters_only_is_told_as_such_in_a_diff() -> None:
    (change,) = diff({"hamburg": state(level=40, host="io")}, {"hamburg": state(level=41, host="io", generation=2)})
    assert change.action is ChangeAction.CONFIGURE
    assert change.because == ("config.level 40 -> 41",)


def test_a_replacement_of_class_control_says_how_long_outputs_stand_and_what_may_be_written() -> None:
    before, after = state(level=40), state(version="1.1.0", level=40, writes=(GRANT,))
    (change,) = diff({"hamburg": before}, {"hamburg": after}, {("hamburg", "tank"): ["parameter x is dropped"]})
    assert change.action is ChangeAction.RESTART
    assert change.because == (
        "version 1.0.0 -> 1.1.0",
        "may now write modbus io (ot): coil 0-3",
        "outputs stand for at most 800 ms",
        "parameter x is dropped",
    )
    (back,) = diff({"hamburg": after}, {"hamburg": before})
    assert "may no longer write modbus io (ot): coil 0-3" in back.because
    (new,) = diff({}, {"hamburg": after})
    assert new.because == ("new here", "may now write modbus io (ot): coil 0-3")
