"""What the pure verdict refuses, case by case and by property."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import trust
from agent.trust import Accepted, Entry, Received, Refusal, accept
from manifests import signing
from manifests.model import DesiredInstance, DesiredState, WorkloadClass, WorkloadRelease, release_path
from tests.support.releases import a_release

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RELEASE = a_release()
PATH = release_path(RELEASE.workload_class, RELEASE.name, RELEASE.version)


def received(
    *, generation: int = 1, config: dict[str, Any] | None = None, release: WorkloadRelease = RELEASE, path: str = PATH
) -> Received:
    data = signing.release_bytes(release)
    custom = {"instances": signing.instances_text([DesiredInstance(name="press", node="n", config=config or {})])}
    entry = Entry(signing.release_digest(data), len(data), custom)
    return Received(
        site="hamburg",
        facts={"site": "hamburg", "enterprise": "acme", "generation": generation, "timeZone": "UTC"},
        director={path: entry},
        catalog={path: Entry(entry.digest, entry.length)},
        releases={path: release},
    )


def kind(said: Accepted | Refusal) -> str:
    return said.kind if isinstance(said, Refusal) else "accepted"


def state(said: Accepted | Refusal) -> DesiredState:
    assert isinstance(said, Accepted), said
    return said.state


GOOD = received()


def with_custom(custom: Any) -> Received:
    return replace(GOOD, director={PATH: replace(GOOD.director[PATH], custom=custom)})


OTHER = "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        (GOOD, "accepted"),
        (replace(GOOD, site="leipzig"), "wrong-site"),
        (replace(GOOD, facts=None), "malformed"),
        (replace(GOOD, facts={"site": "hamburg"}), "malformed"),
        (replace(GOOD, facts={"site": "hamburg", "enterprise": "a", "generation": -1}), "malformed"),
        (replace(GOOD, catalog={}), "catalog-mismatch"),
        (replace(GOOD, catalog={PATH: replace(GOOD.catalog[PATH], digest=OTHER)}), "catalog-mismatch"),
        (replace(GOOD, catalog={PATH: replace(GOOD.catalog[PATH], length=1)}), "catalog-mismatch"),
        (replace(GOOD, releases={}), "incomplete"),
        (received(release=a_release(workload_class=WorkloadClass.CONTROL)), "wrong-class"),
        (received(path="control/modbus/1.0.0/release.json"), "wrong-class"),
        (received(path="translator/other/1.0.0/release.json"), "wrong-path"),
        (received(path="translator/modbus/1.0.1/release.json"), "wrong-path"),
        (received(config={"period_s": 61}), "bad-config"),
        (received(config={"privileged": True}), "bad-config"),
        (received(release=a_release(config_schema={"unheardOf": 1})), "bad-config"),
        (with_custom(None), "malformed"),
        (with_custom({"instances": []}), "malformed"),
        (with_custom({"instances": "["}), "malformed"),
        (with_custom({"instances": "[" * 9000}), "malformed"),
        (with_custom({"instances": '[{"name":"A"}]'}), "malformed"),
    ],
)  # fmt: skip
def test_each_fault_has_its_word(changed: Received, word: str) -> None:
    said = accept(changed, None, NOW)
    assert kind(said) == word
    if isinstance(said, Refusal):
        assert said.what


def test_two_instances_of_one_name_are_refused() -> None:
    two = [DesiredInstance(name="press", node="a"), DesiredInstance(name="press", node="b")]
    entry = replace(GOOD.director[PATH], custom={"instances": signing.instances_text(two)})
    said = accept(replace(GOOD, director={PATH: entry}), None, NOW)
    assert isinstance(said, Refusal)
    assert "'press'" in said.what


def test_a_site_may_be_told_to_run_nothing() -> None:
    said = accept(replace(GOOD, director={}, releases={}), None, NOW)
    assert state(said).instances == ()


@given(st.integers(0, 50), st.integers(0, 50), st.booleans())
def test_generations_never_go_back_and_never_change(old: int, new: int, same: bool) -> None:
    last = state(accept(received(generation=old), None, NOW))
    said = accept(received(generation=new, config={} if same else {"period_s": 2}), last, NOW)
    allowed = new > old or (new == old and same)
    assert kind(said) == ("accepted" if allowed else "rollback")


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([1, 2])), max_size=30))
def test_whatever_is_offered_the_accepted_generation_only_grows(offers: list[tuple[int, int]]) -> None:
    last: DesiredState | None = None
    for generation, period_s in offers:
        said = accept(received(generation=generation, config={"period_s": period_s}), last, NOW)
        if isinstance(said, Accepted):
            assert last is None or said.state.facts.generation >= last.facts.generation
            assert last is None or said.state == last or said.state.facts.generation > last.facts.generation
            last = said.state


@pytest.mark.parametrize(
    ("lower", "higher"),
    [("1.9.0", "1.10.0"), ("1.0.0-rc.1", "1.0.0"), ("1.0.0-rc.2", "1.0.0-rc.10"), ("1.0.0-1", "1.0.0-a")],
)
def test_versions_are_ordered_by_meaning(lower: str, higher: str) -> None:
    assert trust.version_order(lower) < trust.version_order(higher)


def test_a_clock_is_wrong_before_the_build_and_before_the_latest_signature() -> None:
    assert trust.clock_refusal(datetime(1970, 1, 1, tzinfo=UTC), None) is not None
    assert trust.clock_refusal(NOW, None) is None
    assert trust.clock_refusal(NOW, NOW + timedelta(minutes=5)) is None
    assert trust.clock_refusal(NOW, NOW + timedelta(minutes=11)) is not None
    assert trust.future_refusal(NOW, NOW + timedelta(minutes=11), "x") is not None
    assert trust.future_refusal(NOW, None, "x") is None
