"""Rollout planning: tables of cases, and properties over random fleets, reports and crashes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import InternalError
from manifests.model import Gate
from orchestrator.rollouts.plan import SECOND_NS, SiteReport, plan
from orchestrator.rollouts.states import (
    IN_MOTION,
    Abort,
    Assign,
    Fail,
    Finish,
    FinishWave,
    Lose,
    Pass,
    Pause,
    Resume,
    RolloutState,
    RolloutStatus,
    SitePhase,
    SiteState,
    Soak,
    StartWave,
    Wait,
    WaveState,
    WaveStatus,
    apply,
)

GOOD = SiteReport(online=True, healthy=True)
SICK = SiteReport(online=True, healthy=False, reason="BadTags", detail="0 of 4 tags are good")
GONE = SiteReport(online=False)
GATE = Gate(soak_s=10, timeout_s=100, min_healthy_percent=100)


def rollout(
    *waves: tuple[str, ...], gate: Gate = GATE, concurrent: int = 10, on_failure: str = "pause"
) -> RolloutState:
    made = tuple(
        WaveState(f"w{i}", concurrent, tuple(SiteState(site) for site in sites)) for i, sites in enumerate(waves)
    )
    return RolloutState(id=1, generation=7, gate=gate, on_failure=on_failure, waves=made)


def advance(
    state: RolloutState, reports: Mapping[str, SiteReport], now_s: float, rounds: int = 50
) -> tuple[RolloutState, list[object]]:
    """Rounds at one moment until the plan has nothing more to do than wait."""
    done: list[object] = []
    now_ns = int(now_s * SECOND_NS)
    for _ in range(rounds):
        actions = plan(state, reports, now_ns)
        done.extend(actions)
        before = state
        for action in actions:
            state = apply(state, action, now_ns)
        if state == before:
            return state, done
    raise AssertionError("the plan does not come to rest")


def test_a_site_is_told_soaks_and_passes() -> None:
    state, actions = advance(rollout(("a",)), {"a": SICK}, 0)
    assert [type(a) for a in actions][:2] == [StartWave, Assign]
    state, actions = advance(state, {"a": GOOD}, 5)
    assert Soak("a") in actions
    state, actions = advance(state, {"a": GOOD}, 14.9)
    assert Pass("a") not in actions
    state, actions = advance(state, {"a": GOOD}, 15)
    assert actions[:3] == [Pass("a"), FinishWave(0), Finish()]
    assert state.status is RolloutStatus.DONE


def test_a_relapse_starts_the_soak_again() -> None:
    state, _ = advance(rollout(("a",)), {"a": GOOD}, 0)
    state, _ = advance(state, {"a": SICK}, 9)
    assert state.waves[0].sites[0].phase is SitePhase.MOVING
    state, _ = advance(state, {"a": GOOD}, 11)
    state, _ = advance(state, {"a": GOOD}, 20)
    assert state.status is RolloutStatus.RUNNING
    state, _ = advance(state, {"a": GOOD}, 21)
    assert state.status is RolloutStatus.DONE


def test_no_further_site_is_moved_once_the_wave_cannot_pass() -> None:
    state, _ = advance(rollout(("a", "b", "c"), concurrent=1), {"a": SICK, "b": GOOD, "c": GOOD}, 0)
    state, _ = advance(state, {"a": SICK, "b": GOOD, "c": GOOD}, 100)
    assert state.status is RolloutStatus.PAUSED
    assert [s.assigned for s in state.waves[0].sites] == [True, False, False]


def test_time_spent_paused_counts_neither_as_soak_nor_as_delay() -> None:
    state, _ = advance(rollout(("a", "b")), {"a": GOOD, "b": SICK}, 0)
    state = apply(state, Pause("Operator", "lunch"), SECOND_NS)
    state = apply(state, Resume("back"), 5000 * SECOND_NS)
    state, actions = advance(state, {"a": GOOD, "b": SICK}, 5001)
    assert not any(isinstance(a, Pass | Fail) for a in actions)
    state, actions = advance(state, {"a": GOOD, "b": SICK}, 5011)
    assert Pass("a") in actions


def test_a_site_that_never_gets_healthy_pauses_the_rollout_and_says_why() -> None:
    state, _ = advance(rollout(("a",), ("b",)), {"a": SICK, "b": GOOD}, 0)
    state, actions = advance(state, {"a": SICK, "b": GOOD}, 100)
    assert any(isinstance(a, Fail) for a in actions)
    assert state.status is RolloutStatus.PAUSED
    assert "0 of 4 tags are good" in state.waves[0].sites[0].detail
    assert state.waves[1].status is WaveStatus.PENDING
    assert plan(state, {"a": GOOD, "b": GOOD}, 10**12) == []
    state = apply(state, Resume("device repaired"), 200 * SECOND_NS)
    state, _ = advance(state, {"a": GOOD, "b": GOOD}, 200)
    state, _ = advance(state, {"a": GOOD, "b": GOOD}, 210)
    state, _ = advance(state, {"a": GOOD, "b": GOOD}, 220)
    assert state.status is RolloutStatus.DONE


def test_on_failure_abort_ends_the_rollout_and_reverts_nothing() -> None:
    state, _ = advance(rollout(("a", "b"), on_failure="abort"), {"a": SICK, "b": GOOD}, 0)
    state, actions = advance(state, {"a": SICK, "b": GOOD}, 100)
    assert any(isinstance(a, Abort) for a in actions)
    assert state.status is RolloutStatus.ABORTED
    assert all(site.assigned for site in state.waves[0].sites)


def test_the_share_that_must_be_healthy_is_of_those_online() -> None:
    gate = Gate(soak_s=0, timeout_s=100, min_healthy_percent=50)
    reports = {"a": GOOD, "b": SICK, "c": GONE, "d": GONE}
    state, _ = advance(rollout(("a", "b", "c", "d"), gate=gate), reports, 0)
    state, _ = advance(state, reports, 100)
    assert state.status is RolloutStatus.DONE
    assert [s.phase for s in state.waves[0].sites][2:] == [SitePhase.OFFLINE] * 2


def test_an_offline_site_is_moved_when_it_is_back_even_after_the_rollout_is_done() -> None:
    state, _ = advance(rollout(("a", "b"), gate=Gate(soak_s=0)), {"a": GOOD, "b": GONE}, 0)
    state, _ = advance(state, {"a": GOOD, "b": GONE}, 1)
    assert state.status is RolloutStatus.DONE
    state, actions = advance(state, {"a": GOOD, "b": GOOD}, 50)
    assert Assign("b") in actions
    state, _ = advance(state, {"a": GOOD, "b": GOOD}, 51)
    assert state.waves[0].sites[1].phase is SitePhase.PASSED
    assert plan(state, {"a": GOOD, "b": GOOD}, 60 * SECOND_NS) == []


def test_a_done_rollout_does_not_pull_a_site_back_from_something_newer() -> None:
    state, _ = advance(rollout(("a", "b"), gate=Gate(soak_s=0)), {"a": GOOD, "b": GONE}, 0)
    state, actions = advance(state, {"a": GOOD, "b": replace(GOOD, ahead=True)}, 50)
    assert not any(isinstance(a, Assign) and a.site == "b" for a in actions)


def test_a_first_wave_with_nobody_online_proves_nothing_and_waits() -> None:
    state, actions = advance(rollout(("a",), ("b",)), {"a": GONE, "b": GOOD}, 0)
    assert isinstance(actions[-1], Wait)
    assert state.waves[0].status is WaveStatus.RUNNING
    assert state.reason == "NobodyOnline"
    state, _ = advance(state, {"a": GOOD, "b": GOOD}, 1)
    state, _ = advance(state, {"a": GOOD, "b": GOOD}, 11)
    assert state.waves[1].status is WaveStatus.RUNNING


def test_an_empty_wave_is_passed_over() -> None:
    state, _ = advance(rollout((), ("a",), gate=Gate(soak_s=0)), {"a": GOOD}, 0)
    state, _ = advance(state, {"a": GOOD}, 1)
    assert state.status is RolloutStatus.DONE


def test_a_change_that_no_table_allows_is_our_bug() -> None:
    state = rollout(("a",))
    with pytest.raises(InternalError):
        apply(state, Pass("a"), 0)
    with pytest.raises(InternalError):
        apply(apply(state, Abort("Operator", ""), 0), Pause("Operator", ""), 0)
    with pytest.raises(InternalError):
        apply(state, Assign("nobody"), 0)


# ---------------------------------------------------------------- properties

SITES = [f"s{i}" for i in range(8)]
report = st.sampled_from([GOOD, SICK, GONE, GOOD, GOOD])
moment = st.dictionaries(st.sampled_from(SITES), report, max_size=8)


@st.composite
def fleets(draw: st.DrawFn) -> RolloutState:
    sites = draw(st.lists(st.sampled_from(SITES), unique=True, min_size=1))
    cuts = sorted(draw(st.lists(st.integers(0, len(sites)), max_size=3)))
    edges = [0, *cuts, len(sites)]
    waves = [tuple(sites[a:b]) for a, b in itertools.pairwise(edges)]
    gate = Gate(
        soak_s=draw(st.sampled_from([0, 5, 30])),
        timeout_s=draw(st.sampled_from([10, 60])),
        min_healthy_percent=draw(st.sampled_from([0, 50, 100])),
    )
    concurrent = draw(st.integers(1, 4))
    return rollout(*waves, gate=gate, concurrent=concurrent, on_failure=draw(st.sampled_from(["pause", "abort"])))


def check_rules(before: RolloutState, after: RolloutState) -> None:
    for wave in after.waves:
        assert wave.count(*IN_MOTION) <= wave.max_concurrent
    for earlier, later in itertools.pairwise(after.waves):
        if later.status is not WaveStatus.PENDING:
            assert earlier.status is WaveStatus.PASSED
        if later.status is WaveStatus.PENDING:
            assert not any(site.assigned for site in later.sites)
    for old, new in zip(before.waves, after.waves, strict=True):
        for old_site, new_site in zip(old.sites, new.sites, strict=True):
            assert new_site.assigned or not old_site.assigned, "never backwards"
            if old_site.phase is SitePhase.PASSED:
                assert new_site.phase is SitePhase.PASSED


@settings(max_examples=300, deadline=None)
@given(fleets(), st.lists(moment, max_size=12), st.data())
def test_no_rule_is_broken_whatever_the_sites_report_and_wherever_it_crashes(
    state: RolloutState, moments: list[dict[str, SiteReport]], data: st.DataObject
) -> None:
    now_ns = 0
    for reports in moments:
        now_ns += data.draw(st.sampled_from([1, 4, 11, 70])) * SECOND_NS
        actions = plan(state, reports, now_ns)
        crash = data.draw(st.integers(0, len(actions)))  # a crash loses the rest of the round, nothing else
        for action in actions[:crash]:
            before, state = state, apply(state, action, now_ns)
            check_rules(before, state)


@settings(max_examples=200, deadline=None)
@given(fleets(), st.data())
def test_a_crash_between_any_two_steps_converges_to_the_same_end(state: RolloutState, data: st.DataObject) -> None:
    health = {site: data.draw(report, label=site) for site in SITES}

    def run(crashing: bool) -> RolloutState:
        current, now_ns = state, 0
        for _ in range(700):
            now_ns += SECOND_NS
            actions = plan(current, health, now_ns)
            count = data.draw(st.integers(0, len(actions))) if crashing and now_ns < 30 * SECOND_NS else len(actions)
            for action in actions[:count]:
                current = apply(current, action, now_ns)
        return current

    def end(final: RolloutState) -> object:
        # Which sites were still moving when a wave failed depends on when it failed; everything else must not.
        failed = any(w.status is WaveStatus.FAILED for w in final.waves)
        phases = [] if failed else [(s.site, s.phase) for w in final.waves for s in w.sites]
        return final.status, [w.status for w in final.waves], phases

    assert end(run(crashing=True)) == end(run(crashing=False))


@settings(max_examples=200, deadline=None)
@given(fleets(), st.lists(moment, min_size=1, max_size=6))
def test_plan_after_plan_comes_to_rest(state: RolloutState, moments: list[dict[str, SiteReport]]) -> None:
    for number, reports in enumerate(moments):
        state, _ = advance(state, reports, number * 7, rounds=200)


def test_a_lost_site_frees_its_place_in_the_wave() -> None:
    state, _ = advance(rollout(("a", "b"), concurrent=1), {"a": SICK, "b": GOOD}, 0)
    assert state.waves[0].sites[1].phase is SitePhase.PENDING
    state, actions = advance(state, {"a": GONE, "b": GOOD}, 1)
    assert Lose("a", "LinkLost") in actions
    assert state.waves[0].sites[1].phase in IN_MOTION
