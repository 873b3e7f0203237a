"""Which instances stand by for each other, as the agent reads it from their configuration."""

from __future__ import annotations

from typing import Any

import pytest

from agent.pairs import is_standby, pair_of
from agent.runtimes.base import Wanted, wanted
from manifests.model import DesiredInstance, PlacedInstance, SiteFacts, WorkloadClass, WorkloadRelease


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
