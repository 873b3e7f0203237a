"""When a site counts as healthy at a generation."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from manifests.messages import BufferStatus, InstanceStatus, State, StatusReport, StreamStatus, TrustStatus
from manifests.model import (
    DataStream,
    DesiredInstance,
    DesiredState,
    PlacedInstance,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)
from orchestrator.rollouts.evidence import Delivery, Evidence, NodeReport
from orchestrator.rollouts.gate import judge

S = 10**9
NOW = 1_000 * S
DIGEST = "sha256:" + "ab" * 32
RELEASE = WorkloadRelease(
    name="modbus",
    version="1.0.0",
    workload_class=WorkloadClass.TRANSLATOR,
    artifacts=(),
    streams=(DataStream(name="data", max_silence_s=10, min_good_percent=75),),
)


def desired(generation: int, rate: int = 1) -> DesiredState:
    instance = DesiredInstance(name="pump", node="edge1", config={"rate": rate})
    return DesiredState(
        facts=SiteFacts(site="hamburg", enterprise="acme", generation=generation),
        instances=(PlacedInstance(instance=instance, release=RELEASE, release_digest=DIGEST),),
    )


INSTANCE = InstanceStatus(
    name="pump", state=State.RUNNING, reason="Ok", since_ns=0, release_digest=DIGEST, generation=2,
    streams=(StreamStatus(name="data", incarnation="i2"),),
)  # fmt: skip
TRUST = TrustStatus(adopted_generation=4)
DELIVERY = Delivery("i2", NOW - S, NOW, 4, 3)
HISTORY = {1: desired(1), 2: desired(2), 3: desired(3), 4: desired(4, rate=9)}


def judged(
    state: DesiredState = HISTORY[2],
    instance: InstanceStatus | None = INSTANCE,
    trust: TrustStatus = TRUST,
    delivery: Delivery | None = DELIVERY,
    heard_ns: int = NOW,
    enrolled: frozenset[str] = frozenset({"edge1"}),
) -> Any:
    report = StatusReport(
        node="edge1", agent_version="1", incarnation="a", at_ns=0, started_ns=0, platform="", runtime="",
        trust=trust, instances=(instance,) if instance else (), buffer=BufferStatus(),
    )  # fmt: skip
    evidence = Evidence(
        enrolled=enrolled,
        heard_ns={"edge1": heard_ns},
        reports={"edge1": NodeReport("hamburg", "edge1", report, NOW, 0)},
        deliveries={("pump/data", delivery.incarnation): delivery} if delivery else {},
    )
    return judge(state, evidence, HISTORY.get, now_ns=NOW, offline_after_ns=30 * S)


def test_running_with_the_right_release_and_good_fresh_data_is_healthy() -> None:
    assert judged().healthy


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trust": TrustStatus(adopted_generation=1)}, "NotAdopted"),
        ({"trust": TrustStatus(adopted_generation=1, refusal="rollback")}, "Refused"),
        ({"instance": None}, "InstanceMissing"),
        ({"instance": msgspec.structs.replace(INSTANCE, reason="Degraded")}, "InstanceNotOk"),
        ({"instance": msgspec.structs.replace(INSTANCE, state=State.FAILED)}, "InstanceNotOk"),
        ({"instance": msgspec.structs.replace(INSTANCE, release_digest="sha256:00")}, "OtherRelease"),
        ({"state": HISTORY[4]}, "OtherConfiguration"),
        ({"delivery": None}, "StreamSilent"),
        ({"delivery": Delivery("i2", NOW - 11 * S, NOW, 4, 4)}, "StreamSilent"),
        ({"delivery": Delivery("i1", NOW, NOW, 4, 4)}, "StreamSilent"),  # an earlier life of the producer
        ({"delivery": Delivery("i2", NOW, NOW, 4, 2)}, "BadTags"),
        ({"delivery": Delivery("i2", NOW, NOW, 0, 0)}, "BadTags"),
    ],
)
def test_anything_less_is_not_healthy_and_says_why(changes: dict[str, Any], reason: str) -> None:
    found = judged(**changes)
    assert found.online
    assert not found.healthy
    assert found.reason == reason


def test_an_instance_that_did_not_change_may_carry_an_older_generation() -> None:
    assert judged(state=HISTORY[3]).healthy


def test_silence_and_missing_enrolment_are_offline_not_sick() -> None:
    assert judged(heard_ns=NOW - 31 * S).why_offline == "LinkLost"
    assert judged(enrolled=frozenset()).why_offline == "NotEnrolled"
