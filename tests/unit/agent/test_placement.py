"""What the planner does with live parameters, and with class control that a node can or cannot honour."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.actions import Configure, Replace, Start, Wait
from agent.placement import ControlNode
from agent.plan import plan
from agent.runtimes.base import Observed, ObservedInstance, Phase, Wanted, wanted
from manifests.model import (
    PROCESS_ARCHIVE,
    Artifact,
    Blob,
    Control,
    DesiredInstance,
    PlacedInstance,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)

SCHEMA: dict[str, Any] = {
    "properties": {"level": {"type": "number", "x-sluice-live": True}, "host": {"type": "string"}}
}
NODE = ControlNode(cores=(1, 2), realtime=True)


def make(
    name: str = "tank", *, release: int = 1, control: bool = True, core: Any = "any", revision: int = 0, **config: Any
) -> Wanted:
    digest = f"sha256:{release:064x}"
    artifact = Artifact(
        platform="process", media_type=PROCESS_ARCHIVE, root=Blob(digest=digest, size=1), command=("x",)
    )
    document = WorkloadRelease(
        name="vplc",
        version=f"1.0.{release}",
        workload_class=WorkloadClass.CONTROL if control else WorkloadClass.TRANSLATOR,
        artifacts=(artifact,),
        config_schema=SCHEMA,
        control=Control(period_ms=10, jitter_p999_us=500, watchdog_ms=50, max_stop_ms=1000, core=core)
        if control
        else None,
    )
    placed = PlacedInstance(
        instance=DesiredInstance(name=name, node="edge", config=config), release=document, release_digest=digest
    )
    facts = SiteFacts(site="s", enterprise="e", generation=1, revision=revision)
    return wanted(facts, placed, "process")


def seen(*instances: Wanted, core: int | None = 1, told: bool = True, phase: Phase = Phase.RUNNING) -> Observed:
    found = {
        one.name: ObservedInstance(
            name=one.name,
            phase=phase,
            runtime_id="1",
            release_digest=one.release_digest,
            config_digest=one.config_digest,
            core=core if one.release.control else None,
        )
        for one in instances
    }
    prepared = frozenset(f"sha256:{number:064x}" for number in (1, 2))
    context = {one.name: one.told_digest for one in instances} if told else {}
    return Observed(instances=found, prepared=prepared, segments=None, told=context)


# ---------------------------------------------------------------- live parameters


def test_a_change_of_live_parameters_configures_and_never_restarts() -> None:
    old, new = make(control=False, level=1), make(control=False, level=2, revision=1)
    assert old.config_digest == new.config_digest
    assert plan([new], seen(old), 0) == [Configure(new)]
    assert plan([new], replace(seen(new), instances=seen(old).instances), 0) == []


def test_another_property_beside_it_is_a_replacement() -> None:
    old, new = make(control=False, level=1, host="a"), make(control=False, level=2, host="b")
    assert isinstance(plan([new], seen(old), 0)[0], Replace)


def test_a_damaged_context_file_is_written_again_and_an_ended_instance_is_started_with_it() -> None:
    one = make(control=False, level=1)
    assert plan([one], replace(seen(one), told={"tank": ""}), 0) == [Configure(one)]
    (action,) = plan([one], seen(one, phase=Phase.EXITED), 0)
    assert isinstance(action, Start)


# ---------------------------------------------------------------- class control


@pytest.mark.parametrize(
    ("node", "core", "words"),
    [
        (ControlNode(), "any", "no real-time scheduling"),
        (ControlNode(cores=(1,)), "any", "no real-time scheduling"),
        (ControlNode(realtime=True), "any", "no processor"),
        (NODE, 7, "it needs processor 7; this node offers 1, 2"),
    ],
)
def test_what_a_node_cannot_honour_waits_and_says_why(node: ControlNode, core: Any, words: str) -> None:
    (action,) = plan([make(core=core)], seen(), 0, node)
    assert isinstance(action, Wait)
    assert action.reason == "NotPlaceable"
    assert words in action.detail


def test_other_classes_need_nothing_of_the_kind() -> None:
    (action,) = plan([make(control=False)], seen(), 0)
    assert isinstance(action, Start)
    assert action.instance.core is None


def test_instances_are_spread_over_the_offered_processors_and_the_surplus_waits() -> None:
    actions = plan([make("a"), make("b"), make("c")], seen(), 0, NODE)
    assert [action.instance.core for action in actions if isinstance(action, Start)] == [1, 2]
    assert isinstance(actions[2], Wait)
    assert "takes 2 of class control, and has 2" in actions[2].detail


def test_who_runs_keeps_its_place_whatever_its_name() -> None:
    late = make("z")
    (action,) = plan(
        [make("a"), late], seen(late, core=2), 0, ControlNode(cores=(1, 2), realtime=True, max_instances=1)
    )
    assert isinstance(action, Wait)
    assert action.name == "a"
    (action,) = plan([make("a"), late], seen(late, core=1), 0, NODE)
    assert isinstance(action, Start)
    assert action.instance.core == 2


def test_a_node_that_no_longer_offers_it_stops_nothing() -> None:
    one = make()
    assert plan([one], seen(one), 0, ControlNode()) == []
    newer = make(release=2, core=5)
    (action,) = plan([newer], seen(one), 0, NODE)
    assert isinstance(action, Wait)
    assert action.reason == "NotPlaceable"


def test_a_replacement_keeps_its_processor() -> None:
    (action,) = plan([make(release=2)], seen(make(), core=2), 0, NODE)
    assert isinstance(action, Replace)
    assert action.instance.core == 2
