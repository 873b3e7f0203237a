"""Two people before class control is touched: one of OT, one of IT, for exactly this."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import InternalError
from manifests.model import Gate
from manifests.policy import Approver
from orchestrator.rollouts import approvals
from orchestrator.rollouts.approvals import BOTH, RolloutApproval, content, lacking, needed, why_not
from orchestrator.rollouts.plan import SECOND_NS, SiteReport, plan
from orchestrator.rollouts.states import (
    Abort,
    Approve,
    Assign,
    Begin,
    Pause,
    RolloutState,
    RolloutStatus,
    SiteState,
    StartWave,
    Wait,
    WaveState,
    apply,
)

OT, IT = Approver.OT, Approver.IT


def change(action: str = "restart", workload_class: str = "control", site: str = "a") -> dict[str, object]:
    return {"site": site, "instance": "tank", "workloadClass": workload_class, "action": action}


def rollout(**changes: object) -> RolloutState:
    wave = WaveState("w0", 1, (SiteState("a"), SiteState("b")))
    made = RolloutState(
        id=1, generation=7, gate=Gate(soak_s=0), on_failure="pause", waves=(wave,), status=RolloutStatus.WAITING,
        changes=json.dumps([change()]), needs=BOTH,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]  # fields by name


def approve(state: RolloutState, side: Approver, who: str, digest: str = "") -> RolloutState:
    return apply(state, Approve(RolloutApproval(side, who, "seen", 1, digest or content(state))), 1)


@pytest.mark.parametrize(
    ("changes", "sides"),
    [
        ([change("start")], BOTH),
        ([change("stop")], BOTH),
        ([change("restart")], BOTH),
        ([change("configure")], BOTH),
        ([change("keep")], ()),
        ([change("start", "translator")], ()),
        ([change("keep"), change("stop", "analytics"), change("start")], BOTH),
        ([], ()),
    ],
)
def test_what_starts_stops_or_changes_class_control_needs_both_sides(
    changes: list[dict[str, object]], sides: object
) -> None:
    assert needed(changes) == sides


def test_it_waits_says_for_whom_and_begins_when_both_have_spoken() -> None:
    state = rollout()
    reports = {site: SiteReport(online=True, healthy=True) for site in "ab"}
    (wait,) = plan(state, reports, 1)
    assert isinstance(wait, Wait)
    assert (wait.reason, wait.detail) == ("Approval", "waits for the approval of OT and IT")
    state = approve(state, OT, "olga")
    (wait,) = plan(state, reports, 1)
    assert isinstance(wait, Wait)
    assert wait.detail == "waits for the approval of IT; given by OT: olga"
    state = approve(state, IT, "ivan")
    assert plan(state, reports, 1) == [Begin()]
    state = apply(state, Begin(), 2)
    assert plan(state, reports, 2) == [StartWave(0)]


def test_one_person_cannot_speak_for_both_unless_the_plant_is_one_of_one_person() -> None:
    state = approve(rollout(), OT, "olga")
    assert "two people" in why_not(state, IT, "olga")
    assert why_not(state, IT, "ivan") == ""
    state = approve(state, IT, "olga")  # as if the database had been written by hand
    assert lacking(state) == (IT,)
    small = approve(approve(rollout(single_person=True), OT, "olga"), IT, "olga")
    assert lacking(small) == ()


def test_a_side_speaks_once_and_only_where_it_is_asked() -> None:
    state = approve(rollout(), OT, "olga")
    assert "OT has approved" in why_not(state, OT, "otto")
    assert "needs no approval" in why_not(rollout(needs=()), OT, "olga")


@pytest.mark.parametrize(
    "changed",
    [
        {"generation": 8},
        {"changes": json.dumps([change("stop")])},
        {"changes": json.dumps([change(), change(site="c")])},
        {"waves": (WaveState("w0", 1, (SiteState("a"),)),)},
    ],
)
def test_an_approval_of_something_else_counts_for_nothing(changed: dict[str, object]) -> None:
    approved = approve(approve(rollout(), OT, "olga"), IT, "ivan")
    assert lacking(approved) == ()
    other = replace(approved, **changed)  # type: ignore[arg-type]  # fields by name
    assert lacking(other) == BOTH
    assert isinstance(plan(other, {}, 1)[0], Wait)
    for status in (RolloutStatus.RUNNING, RolloutStatus.DONE):  # not even when somebody wrote that it runs
        assert not any(isinstance(action, Assign | StartWave) for action in plan(replace(other, status=status), {}, 1))
    assert why_not(other, OT, "otto") == ""


def test_what_happens_to_its_sites_does_not_void_an_approval() -> None:
    state = apply(approve(approve(rollout(), OT, "olga"), IT, "ivan"), Begin(), 1)
    state = apply(apply(state, StartWave(0), 2), Assign("a"), 3)
    assert lacking(state) == ()


def test_a_waiting_rollout_can_be_aborted_but_not_paused() -> None:
    assert apply(rollout(), Abort("Operator", "no"), 1).status is RolloutStatus.ABORTED
    with pytest.raises(InternalError):
        apply(rollout(), Pause("Operator", "no"), 1)
    with pytest.raises(InternalError):
        apply(rollout(status=RolloutStatus.RUNNING), Approve(RolloutApproval(OT, "olga", "", 1, "")), 1)


WORDS = st.lists(
    st.tuples(st.sampled_from(list(Approver)), st.sampled_from(["olga", "ivan", "eve"]), st.booleans()), max_size=6
)


@given(WORDS)
def test_no_site_is_told_before_two_people_of_both_sides_said_yes_to_this(
    said: list[tuple[Approver, str, bool]],
) -> None:
    state = rollout()
    reports = {site: SiteReport(online=True, healthy=True) for site in "ab"}
    for side, who, right in said:
        if state.status is RolloutStatus.WAITING:
            state = approve(state, side, who, "" if right else "sha256:00")
        for action in plan(state, reports, SECOND_NS):
            state = apply(state, action, SECOND_NS)
    ot = {who for side, who, right in said if side is OT and right}
    it = {who for side, who, right in said if side is IT and right}
    possible = any(one != other for one in ot for other in it)
    if any(site.assigned for wave in state.waves for site in wave.sites) or state.status is not RolloutStatus.WAITING:
        assert possible
        counted = approvals.given(state)
        assert len({one.who for one in counted}) == len({one.side for one in counted}) == 2
