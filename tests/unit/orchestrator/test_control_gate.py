"""Class control in a rollout: measured jitter keeps the signed budget, and counters stand still during the soak."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from manifests.messages import BufferStatus, InstanceStatus, State, StatusReport, TrustStatus
from manifests.model import (
    Control,
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
from orchestrator.rollouts.states import RolloutState, SitePhase, SiteState, WaveState, WaveStatus, apply

DIGEST = "sha256:" + "ab" * 32
RELEASE = WorkloadRelease(
    name="vplc",
    version="1.0.0",
    workload_class=WorkloadClass.CONTROL,
    artifacts=(),
    control=Control(period_ms=10, jitter_p999_us=500, watchdog_ms=50, max_stop_ms=1000),
)
DESIRED = DesiredState(
    facts=SiteFacts(site="hamburg", enterprise="acme", generation=1),
    instances=(
        PlacedInstance(
            instance=DesiredInstance(name="tank", node="edge1", config={}), release=RELEASE, release_digest=DIGEST
        ),
    ),
)
GOOD = {"jitter_p999_us": 120.0, "overruns": 3.0, "faults": 0.0, "missed": 7.0}


def judged(measures: dict[str, float]) -> SiteReport:
    instance = InstanceStatus(
        name="tank", state=State.RUNNING, reason="Ok", since_ns=0, release_digest=DIGEST, generation=1,
        measures=measures,
    )  # fmt: skip
    report = StatusReport(
        node="edge1", agent_version="1", incarnation="a", at_ns=0, started_ns=0, platform="", runtime="",
        trust=TrustStatus(adopted_generation=1), instances=(instance,), buffer=BufferStatus(),
    )  # fmt: skip
    evidence = Evidence(
        enrolled=frozenset({"edge1"}),
        heard_ns={"edge1": 10},
        reports={"edge1": NodeReport("hamburg", "edge1", report, 10, 0)},
        deliveries={},
    )
    return judge(DESIRED, evidence, {1: DESIRED}.get, now_ns=10, offline_after_ns=30)


@pytest.mark.parametrize(
    ("measures", "reason", "words"),
    [
        (GOOD, "Ok", ""),
        ({}, "NoMeasures", "has not measured its jitter"),
        ({**GOOD, "jitter_p999_us": 501.0}, "JitterOverBudget", "501 us late; 500 us are signed"),
    ],
)
def test_the_measured_jitter_decides_within_the_signed_budget(
    measures: dict[str, float], reason: str, words: str
) -> None:
    report = judged(measures)
    assert (report.healthy, report.reason) == (reason == "Ok", reason)
    assert words in report.detail


def test_the_standby_of_a_pair_does_not_scan_and_so_has_no_jitter() -> None:
    assert judged({"pair_leads": 0.0, "overruns": 0}).healthy
    assert not judged({"pair_leads": 1.0, "overruns": 0}).healthy


def test_counters_of_overruns_and_faults_go_along() -> None:
    assert judged(GOOD).counters == {"tank overruns": 3.0, "tank faults": 0.0}


def rounds(*steps: tuple[float, SiteReport]) -> SiteState:
    """A rollout of one site, one round per step."""
    site = SiteState("hamburg", phase=SitePhase.MOVING, reason="Assigned", assigned=True)
    waves = (WaveState("all", 1, (site,), status=WaveStatus.RUNNING),)
    state = RolloutState(id=1, generation=1, gate=Gate(soak_s=10, timeout_s=60), on_failure="pause", waves=waves)
    for at_s, report in steps:
        now_ns = int(at_s * SECOND_NS)
        for action in plan(state, {"hamburg": report}, now_ns):
            state = apply(state, action, now_ns)
    return state.waves[0].sites[0]


def counted(**counters: float) -> Any:
    return SiteReport(online=True, healthy=True, counters=counters)


def test_counters_that_stand_still_pass_the_soak() -> None:
    assert (
        rounds((1, counted(overruns=3)), (6, counted(overruns=3)), (12, counted(overruns=3))).phase is SitePhase.PASSED
    )


def test_a_new_overrun_during_the_soak_starts_it_again() -> None:
    site = rounds((1, counted(overruns=3)), (6, counted(overruns=4)))
    assert (site.phase, site.reason, site.detail) == (SitePhase.MOVING, "NewFaults", "overruns 3 -> 4")
    site = rounds(
        (1, counted(overruns=3)), (6, counted(overruns=4)), (7, counted(overruns=4)), (12, counted(overruns=4))
    )
    assert site.phase is SitePhase.SOAKING


def test_a_restart_during_the_soak_is_seen_by_counters_that_fell() -> None:
    assert rounds((1, counted(overruns=3)), (6, counted(overruns=0))).detail == "overruns 3 -> 0: it was restarted"


def test_who_overruns_for_ever_fails_when_its_time_is_over() -> None:
    steps = [(float(second), counted(overruns=float(second))) for second in range(1, 70)]
    site = rounds(*steps)
    assert (site.phase, site.reason) == (SitePhase.FAILED, "NewFaults")
    assert "not steady 60 s after it was told" in site.detail


def test_measures_survive_the_way_through_a_report() -> None:
    said = InstanceStatus(name="a", state=State.RUNNING, reason="Ok", since_ns=0, measures=GOOD)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=InstanceStatus).measures == GOOD
