"""Which instances stand by for each other, as the agent reads it from their configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.actions import Replace, Wait
from agent.pairs import is_standby, pair_of
from agent.placement import ControlNode
from agent.plan import PAIR_NS, plan
from agent.runtimes.base import Attempts, Observed, ObservedInstance, Phase, Wanted, wanted
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


def instance(pair: Any, kind: WorkloadClass = WorkloadClass.CONTROL) -> Wanted:
    release = WorkloadRelease(name="tank", version="1.0.0", workload_class=kind, artifacts=())
    config = {} if pair is None else {"pair": pair}
    placed = PlacedInstance(
        instance=DesiredInstance(name="tank-a", node="edge", config=config), release=release, release_digest="d"
    )
    return wanted(SiteFacts(site="s", enterprise="e", generation=1), placed, "process")


def test_a_pair_is_named_after_its_release_so_that_no_other_program_shares_its_memory() -> None:
    assert pair_of(instance({"role": "primary", "name": "north"})) == "tank.north"
    assert pair_of(instance({"role": "primary"})) == "tank.pair"


@pytest.mark.parametrize(
    "said", [None, {}, "north", {"over": "network", "name": "n"}, {"name": "../x"}, {"name": ""}, {"name": 7}]
)
def test_whatever_else_is_said_gives_no_folder(said: Any) -> None:
    assert pair_of(instance(said)) == ""


def test_only_class_control_has_pairs() -> None:
    assert pair_of(instance({"role": "primary", "name": "n"}, WorkloadClass.TRANSLATOR)) == ""


def test_the_standby_is_known_by_its_role() -> None:
    assert is_standby(instance({"role": "standby"}))
    assert not is_standby(instance({"role": "primary"}))
    assert not is_standby(instance(None))


# ------------------------------------------------------------ replacing one after the other

SECOND = 1_000_000_000


def member(name: str, role: str, release: int) -> Wanted:
    artifact = Artifact(
        platform="process", media_type=PROCESS_ARCHIVE, root=Blob(digest=f"sha256:{release:064x}", size=1)
    )
    made = WorkloadRelease(
        name="tank",
        version=f"1.0.{release}",
        workload_class=WorkloadClass.CONTROL,
        artifacts=(artifact,),
        control=Control(period_ms=10, jitter_p999_us=1, watchdog_ms=1, max_stop_ms=1),
    )
    placed = PlacedInstance(
        instance=DesiredInstance(name=name, node="edge", config={"pair": {"role": role, "name": "north"}}),
        release=made,
        release_digest=f"sha256:{100 + release:064x}",
    )
    return wanted(SiteFacts(site="s", enterprise="e", generation=1), placed, "process")


def both(release: int) -> list[Wanted]:
    return [member("tank-a", "primary", release), member("tank-b", "standby", release)]


def seen(*instances: Wanted, now_ns: int = 0, phase: Phase = Phase.RUNNING) -> Observed:
    found = {
        one.name: ObservedInstance(one.name, phase, "life", one.release_digest, one.config_digest, core=0)
        for one in instances
    }
    attempts = {one.name: Attempts(life="life", life_ns=now_ns) for one in instances}
    prepared = frozenset(f"sha256:{release:064x}" for release in (1, 2))
    return Observed(found, prepared, None, attempts)


NODE = ControlNode(cores=(0,), realtime=True, max_instances=2)


def test_the_standby_is_replaced_first_then_the_primary_when_it_had_time_to_follow() -> None:
    replaced, waits = sorted(plan(both(2), seen(*both(1)), SECOND, NODE), key=lambda one: isinstance(one, Wait))
    assert isinstance(replaced, Replace)
    assert isinstance(waits, Wait)
    assert (replaced.name, waits.name, waits.reason) == ("tank-b", "tank-a", "PairInTurn")

    half = seen(both(1)[0], both(2)[1], now_ns=5 * SECOND)
    [waits] = plan(both(2), half, 5 * SECOND + PAIR_NS - 1, NODE)
    assert isinstance(waits, Wait)
    assert waits.until_ns == 5 * SECOND + PAIR_NS
    [last] = plan(both(2), half, 5 * SECOND + PAIR_NS, NODE)
    assert isinstance(last, Replace)
    assert last.name == "tank-a"


def test_a_standby_that_does_not_run_keeps_nobody_waiting() -> None:
    a, b = both(1)
    down = seen(a)
    [step] = [one for one in plan(both(2), down, SECOND, NODE) if one.name == "tank-a"]
    assert isinstance(step, Replace)
    ended = replace(down, instances={**down.instances, **seen(b, phase=Phase.EXITED).instances})
    [step] = [one for one in plan(both(2), ended, SECOND, NODE) if one.name == "tank-a"]
    assert isinstance(step, Replace)


def test_both_are_never_replaced_in_the_same_round() -> None:
    same = [member("tank-a", "standby", 2), member("tank-b", "standby", 2)]  # a mistake of the fleet: still in turn
    old = [member("tank-a", "standby", 1), member("tank-b", "standby", 1)]
    steps = plan(same, seen(*old), SECOND, NODE)
    assert sum(isinstance(one, Replace) for one in steps) == 1
