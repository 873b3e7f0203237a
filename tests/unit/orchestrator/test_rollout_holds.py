"""A site that says "not now" within a rollout: it is waited for, its time stands still, and nobody passes it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.messages import BufferStatus, Hold, InstanceStatus, State, StatusReport, TrustStatus
from manifests.model import (
    DesiredInstance,
    DesiredState,
    Gate,
    PlacedInstance,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)
from orchestrator.rollouts.evidence import Evidence, NodeReport
from orchestrator.rollouts.gate import judge
from orchestrator.rollouts.plan import SECOND_NS, SiteReport, plan
from orchestrator.rollouts.states import (
    Assign,
    Fail,
    FinishWave,
    RolloutState,
    RolloutStatus,
    SitePhase,
    SiteState,
    WaveState,
    apply,
)

GOOD = SiteReport(online=True, healthy=True)
SICK = SiteReport(online=True, reason="BadTags", detail="0 of 4 tags are good")
HELD = SiteReport(online=True, reason="Held", detail="edge1 held by anna: a batch runs", held=True)
GONE = SiteReport(online=False)
GATE = Gate(soak_s=10, timeout_s=100, min_healthy_percent=100)


def rollout(*sites: str, concurrent: int = 10, gate: Gate = GATE) -> RolloutState:
    wave = WaveState("w0", concurrent, tuple(SiteState(site) for site in sites))
    return RolloutState(id=1, generation=7, gate=gate, on_failure="pause", waves=(wave,))


def advance(state: RolloutState, reports: Mapping[str, SiteReport], now_s: float) -> tuple[RolloutState, list[object]]:
    done: list[object] = []
    for _ in range(30):
        actions = plan(state, reports, int(now_s * SECOND_NS))
        done.extend(actions)
        before = state
        for action in actions:
            state = apply(state, action, int(now_s * SECOND_NS))
        if state == before:
            return state, done
    raise AssertionError("the plan does not come to rest")


def phase(state: RolloutState, site: str) -> SitePhase:
    return state.find(site)[1].phase


def test_a_held_site_is_told_nothing_and_is_shown_with_who_and_why() -> None:
    state, actions = advance(rollout("a"), {"a": HELD}, 0)
    assert not any(isinstance(action, Assign) for action in actions)
    site = state.find("a")[1]
    assert (site.phase, site.reason, site.detail) == (SitePhase.WAITING, "Held", HELD.detail)
    assert (state.status, state.reason) == (RolloutStatus.RUNNING, "Held")
    assert "a batch runs" in state.detail


def test_no_time_out_runs_while_a_site_holds_and_all_of_it_begins_afterwards() -> None:
    state, _ = advance(rollout("a"), {"a": SICK}, 1)
    assert phase(state, "a") is SitePhase.MOVING
    state, actions = advance(state, {"a": HELD}, 99)
    state, more = advance(state, {"a": HELD}, 10**6)
    assert not any(isinstance(action, Fail) for action in [*actions, *more])
    assert phase(state, "a") is SitePhase.WAITING
    state, _ = advance(state, {"a": SICK}, 10**6 + 1)
    assert phase(state, "a") is SitePhase.MOVING
    state, _ = advance(state, {"a": SICK}, 10**6 + 100)
    assert phase(state, "a") is SitePhase.MOVING
    state, actions = advance(state, {"a": SICK}, 10**6 + 101)
    assert any(isinstance(action, Fail) for action in actions)


def test_a_held_site_takes_no_place_unless_it_was_told_before() -> None:
    state, _ = advance(rollout("a", "b", concurrent=1), {"a": HELD, "b": SICK}, 0)
    assert (phase(state, "a"), phase(state, "b")) == (SitePhase.WAITING, SitePhase.MOVING)
    state, _ = advance(rollout("a", "b", concurrent=1), {"a": SICK, "b": SICK}, 1)
    state, _ = advance(state, {"a": HELD, "b": SICK}, 2)  # told: it moves by itself when it lets go
    assert (phase(state, "a"), phase(state, "b")) == (SitePhase.WAITING, SitePhase.PENDING)


def test_a_held_site_that_goes_silent_is_offline() -> None:
    state, _ = advance(rollout("a"), {"a": HELD}, 0)
    state, _ = advance(state, {"a": GONE}, 1)
    assert phase(state, "a") is SitePhase.OFFLINE


def test_a_hold_during_the_soak_of_a_healthy_site_changes_nothing() -> None:
    state, _ = advance(rollout("a"), {"a": GOOD}, 0)
    state, _ = advance(state, {"a": replace(GOOD, held=False)}, 10)
    assert state.status is RolloutStatus.DONE


SITES = ["a", "b", "c", "d"]
REPORTS = st.sampled_from([GOOD, SICK, HELD, GONE])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(SITES), REPORTS), max_size=15),
    st.integers(1, 3),
    st.sampled_from([1, 11, 70]),
)
def test_a_site_that_holds_is_never_told_never_failed_and_never_passed_by(
    moments: list[dict[str, SiteReport]], concurrent: int, step_s: int
) -> None:
    state = rollout(*SITES, concurrent=concurrent)
    now_ns = 0
    for reports in moments:
        now_ns += step_s * SECOND_NS
        for action in plan(state, reports, now_ns):
            held = isinstance(action, Assign | Fail) and reports.get(action.site, GONE).held
            assert not held
            state = apply(state, action, now_ns)
            (wave,) = state.waves
            assert wave.places_taken <= wave.max_concurrent
            if isinstance(action, FinishWave):
                assert wave.count(SitePhase.WAITING) == 0
    everybody = dict.fromkeys(SITES, GOOD)
    for _ in range(60):
        now_ns += 11 * SECOND_NS
        for action in plan(state, everybody, now_ns):
            state = apply(state, action, now_ns)
    if state.status is not RolloutStatus.PAUSED:
        assert state.waves[0].count(SitePhase.PASSED) == len(SITES)


# ---------------------------------------------------------------- what the reports say

DIGEST = "sha256:" + "ab" * 32
RELEASE = WorkloadRelease(name="modbus", version="1.0.0", workload_class=WorkloadClass.TRANSLATOR, artifacts=())
LOCAL = Hold(id="local-1", kind="local", who="anna", why="a batch runs", since_ns=10**18, until_ns=2 * 10**18)


def desired(generation: int, rate: int = 1) -> DesiredState:
    placed = PlacedInstance(
        instance=DesiredInstance(name="pump", node="edge1", config={"rate": rate}),
        release=RELEASE,
        release_digest=DIGEST,
    )
    return DesiredState(facts=SiteFacts(site="s", enterprise="e", generation=generation), instances=(placed,))


def judged(adopted: int, *holds: Hold, runs: str = DIGEST, refusal: str = "", rate: int = 1) -> SiteReport:
    found = InstanceStatus(
        name="pump", state=State.RUNNING, reason="Ok", since_ns=0, release_digest=runs, generation=adopted
    )
    report = StatusReport(
        node="edge1", agent_version="1", incarnation="a", at_ns=0, started_ns=0, platform="", runtime="",
        trust=TrustStatus(adopted_generation=adopted, refusal=refusal), instances=(found,), buffer=BufferStatus(),
        holds=holds,
    )  # fmt: skip
    evidence = Evidence(frozenset({"edge1"}), {"edge1": 10}, {"edge1": NodeReport("s", "edge1", report, 10, 0)}, {})
    history = {1: desired(1), 2: desired(2, rate)}
    return judge(history[2], evidence, history.get, now_ns=10, offline_after_ns=10**10)


@pytest.mark.parametrize(
    ("report", "held", "reason"),
    [
        (judged(1, LOCAL), True, "Held"),
        (judged(1), False, "NotAdopted"),
        (judged(1, msgspec.structs.replace(LOCAL, broken=(2,))), False, "NotAdopted"),
        (judged(1, msgspec.structs.replace(LOCAL, broken=(3,))), True, "Held"),
        (judged(1, LOCAL, refusal="rollback"), False, "Refused"),
        (judged(2, LOCAL), False, "Ok"),  # healthy at the generation: the hold keeps nothing out
        (judged(2, LOCAL, runs="sha256:00"), True, "Held"),  # it came in the middle
        (judged(2, runs="sha256:00"), False, "OtherRelease"),
    ],
)
def test_a_hold_explains_what_it_keeps_out_and_nothing_else(report: SiteReport, held: bool, reason: str) -> None:
    assert (report.held, report.reason) == (held, reason)
    if held:
        assert report.detail.startswith("edge1 held by anna since 2001-09-09 01:46 UTC until ")
