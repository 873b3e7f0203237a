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
from manifests.policy import Approver, ClassPolicy, Consent, Policy
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


def test_a_clock_is_wrong_before_the_build_and_before_the_latest_signature() -> None:
    assert trust.clock_refusal(datetime(1970, 1, 1, tzinfo=UTC), None) is not None
    assert trust.clock_refusal(NOW, None) is None
    assert trust.clock_refusal(NOW, NOW + timedelta(minutes=5)) is None
    assert trust.clock_refusal(NOW, NOW + timedelta(minutes=11)) is not None
    assert trust.future_refusal(NOW, NOW + timedelta(minutes=11), "x") is not None
    assert trust.future_refusal(NOW, None, "x") is None


# ---------------------------------------------------------------- class control

CONTROL = a_release(name="tank", workload_class=WorkloadClass.CONTROL)
CONTROL_PATH = release_path(CONTROL.workload_class, CONTROL.name, CONTROL.version)
BOTH = (Approver.OT, Approver.IT)


def of_control(generation: int = 1, *, approved: tuple[Approver, ...] = BOTH, **changes: Any) -> Received:
    said = received(generation=generation, release=CONTROL, path=CONTROL_PATH)
    return replace(said, approvals={CONTROL_PATH: approved}, **changes)


def of_nothing(generation: int, **changes: Any) -> Received:
    return replace(received(generation=generation), director={}, releases={}, **changes)


@pytest.mark.parametrize(
    ("approved", "word"),
    [((), "unapproved"), ((Approver.OT,), "unapproved"), ((Approver.IT,), "unapproved"), (BOTH, "accepted")],
)
def test_class_control_needs_one_ot_and_one_it_approval(approved: tuple[Approver, ...], word: str) -> None:
    said = accept(of_control(approved=approved), None, NOW)
    assert kind(said) == word
    if isinstance(said, Refusal):
        assert all(side.value.upper() in said.what for side in set(BOTH) - set(approved))


def test_no_signed_policy_lowers_what_class_control_needs() -> None:
    lenient = Policy(classes={"control": ClassPolicy(approvals=())})
    assert kind(accept(of_control(approved=(), policy=lenient), None, NOW)) == "unapproved"


def test_other_classes_need_what_the_signed_policy_says() -> None:
    strict = Policy(classes={"translator": ClassPolicy(approvals=(Approver.OT,))})
    assert kind(accept(GOOD, None, NOW)) == "accepted"
    assert kind(accept(replace(GOOD, policy=strict), None, NOW)) == "unapproved"
    approved = replace(GOOD, policy=strict, approvals={PATH: (Approver.OT,)})
    assert kind(accept(approved, None, NOW)) == "accepted"


def test_an_approval_of_another_release_counts_for_nothing() -> None:
    said = replace(of_control(), approvals={CONTROL_PATH.replace("1.0.0", "1.0.1"): BOTH})
    assert kind(accept(said, None, NOW)) == "unapproved"


LAST = state(accept(of_control(), None, NOW))


def consent(generation: int, *, instance: str = "press", site: str = "hamburg") -> Consent:
    return Consent(site=site, instance=instance, generation=generation, why="decommissioned")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "control-stop"),
        ({"consented": frozenset({"press"})}, "accepted"),
        ({"consented": frozenset({"other"})}, "control-stop"),
        ({"consents": (consent(2),)}, "accepted"),
        ({"consents": (consent(1),)}, "control-stop"),  # what it was given for is done: no replay
        ({"consents": (consent(3),)}, "control-stop"),  # not yet
        ({"consents": (consent(2, instance="other"),)}, "control-stop"),
        ({"consents": (consent(2, site="leipzig"),)}, "control-stop"),
        ({"policy": Policy(stop_control="free")}, "accepted"),
    ],
)
def test_the_centre_alone_cannot_stop_class_control(changes: dict[str, Any], word: str) -> None:
    assert kind(accept(of_nothing(2, **changes), LAST, NOW)) == word


def placed_on(node: str, release: WorkloadRelease = CONTROL) -> Received:
    data = signing.release_bytes(release)
    path = release_path(release.workload_class, release.name, release.version)
    instance = DesiredInstance(name="press", node=node)
    entry = Entry(signing.release_digest(data), len(data), {"instances": signing.instances_text([instance])})
    said = replace(GOOD, facts={**GOOD.facts, "generation": 2}, director={path: entry}, releases={path: release})
    return replace(said, catalog={path: Entry(entry.digest, entry.length)}, approvals={path: BOTH})


def test_sending_control_to_another_node_or_putting_another_program_in_its_place_is_stopping_it() -> None:
    other = a_release(name="pump", workload_class=WorkloadClass.CONTROL)
    assert kind(accept(placed_on("n"), LAST, NOW)) == "accepted"
    assert kind(accept(placed_on("nowhere"), LAST, NOW)) == "control-stop"
    assert kind(accept(placed_on("n", other), LAST, NOW)) == "control-stop"
    let = replace(placed_on("n", other), consented=frozenset({"press"}))
    assert kind(accept(let, LAST, NOW)) == "accepted"


@pytest.mark.parametrize(
    ("sites", "word"), [((), "accepted"), (("hamburg", "x"), "accepted"), (("leipzig",), "not-for-site")]
)
def test_a_release_that_names_its_sites_runs_nowhere_else(sites: tuple[str, ...], word: str) -> None:
    assert kind(accept(received(release=a_release(sites=sites)), None, NOW)) == word


def test_turning_an_instance_into_another_class_is_stopping_it() -> None:
    assert kind(accept(received(generation=2), LAST, NOW)) == "control-stop"


def test_a_new_version_of_class_control_needs_no_consent_and_a_consented_stop_is_noted() -> None:
    newer = a_release(name="tank", version="1.1.0", workload_class=WorkloadClass.CONTROL)
    path = release_path(newer.workload_class, newer.name, newer.version)
    said = replace(received(generation=2, release=newer, path=path), approvals={path: BOTH})
    assert kind(accept(said, LAST, NOW)) == "accepted"
    gone = accept(of_nothing(2, consented=frozenset({"press"})), LAST, NOW)
    assert isinstance(gone, Accepted)
    assert gone.notes == ("press of class control stops, with consent",)
