"""How far back the centre may set a workload: what a failed rollout needs, and no further."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.versions import Floors, below, raised, version_order
from manifests import signing
from manifests.model import DesiredInstance, DesiredState, PlacedInstance, SiteFacts
from tests.support.releases import a_release


def a_state(*versions: str, returns_to: str | None = None) -> DesiredState:
    """One instance per version, named a, b, ..."""
    placed = []
    for name, version in zip("abcdef", versions, strict=False):
        release = a_release(version=version, returns_to=returns_to)
        digest = signing.release_digest(signing.release_bytes(release))
        instance = DesiredInstance(name=name, node="n")
        placed.append(PlacedInstance(instance=instance, release=release, release_digest=digest))
    return DesiredState(facts=SiteFacts(site="hamburg", enterprise="acme", generation=1), instances=tuple(placed))


class Site:
    """Follows whatever is not below a floor."""

    def __init__(self, *first: str) -> None:
        self.running: DesiredState | None = None
        self.floors: Floors = {}
        self.take(*first)

    def take(self, *versions: str, let: Collection[str] = (), returns_to: str | None = None) -> bool:
        wanted = a_state(*versions, returns_to=returns_to)
        if below(wanted, self.floors, [self.running] if self.running else [], let):
            return False
        self.floors = raised(self.floors, self.running, wanted)
        self.running = wanted
        return True


def test_a_failed_rollout_returns_to_what_ran_before_whatever_lies_between() -> None:
    site = Site("1.0.0")
    assert site.take("1.4.0")
    assert site.take("1.0.0")
    assert site.take("1.4.0")
    assert site.take("1.0.0")


def test_nothing_goes_back_further_than_one_upgrade_in_any_number_of_steps() -> None:
    site = Site("1.0.0")
    assert site.take("1.1.0")
    assert site.take("1.2.0")
    assert not site.take("1.0.0")
    assert site.take("1.1.0")
    assert not site.take("1.0.0")
    assert site.take("1.2.0")
    assert not site.take("1.0.0")


def test_removing_a_workload_and_bringing_it_back_opens_no_way() -> None:
    site = Site("1.0.0")
    assert site.take("1.1.0")
    assert site.take("1.2.0")
    assert site.take()
    assert not site.take("1.0.0")
    assert site.take("1.1.0")


def test_another_instance_of_the_workload_opens_no_way() -> None:
    site = Site("1.0.0")
    assert site.take("1.1.0")
    assert site.take("1.2.0")
    assert not site.take("1.2.0", "1.0.0")


def test_a_release_states_how_far_back_its_site_may_go() -> None:
    site = Site("1.0.0")
    assert site.take("1.1.0")
    assert site.take("1.2.0", returns_to="1.0.0")
    assert site.take("1.0.0")
    assert site.take("2.0.0", returns_to="2.0.0")
    assert not site.take("1.0.0")


def test_who_is_let_goes_back_and_stays_there_without_being_let_again() -> None:
    site = Site("1.0.0")
    assert site.take("1.1.0")
    assert site.take("1.2.0")
    assert not site.take("1.0.0", let=["b"])
    assert site.take("1.0.0", let=["a"])
    assert site.take("1.0.0")
    assert site.take("1.2.0")
    assert site.take("1.0.0")  # what ran before the newest upgrade


def test_a_node_that_knows_no_floors_yet_goes_by_what_runs() -> None:
    assert below(a_state("1.0.0"), {}, [a_state("1.1.0")], [])
    assert not below(a_state("1.1.0"), {}, [a_state("1.1.0")], [])
    assert not below(a_state("1.0.0"), {}, [], [])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_the_floor_of_one_instance_only_rises_while_nobody_lets_it(asked: list[int]) -> None:
    site = Site(f"1.{asked[0]}.0")
    floor = site.floors["translator/modbus"]
    for number in asked[1:]:
        ran = site.running
        if not site.take(f"1.{number}.0"):
            assert site.running == ran
        assert version_order(site.floors["translator/modbus"]) >= version_order(floor)
        floor = site.floors["translator/modbus"]


@pytest.mark.parametrize(
    ("lower", "higher"),
    [("1.9.0", "1.10.0"), ("1.0.0-rc.1", "1.0.0"), ("1.0.0-rc.2", "1.0.0-rc.10"), ("1.0.0-1", "1.0.0-a")],
)
def test_versions_are_ordered_by_meaning(lower: str, higher: str) -> None:
    assert version_order(lower) < version_order(higher)
