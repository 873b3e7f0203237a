"""A site's health is the worst below it, with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from manifests.messages import BufferStatus, DeviceStatus, InstanceStatus, State, StatusReport, TrustStatus
from orchestrator.api.schemas import LinkState
from orchestrator.health import Below, worst

ACCEPTED = TrustStatus()


def instance(state: State = State.RUNNING, reason: str = "Ok", device: State = State.RUNNING) -> InstanceStatus:
    devices = (DeviceStatus(name="plc", state=device, reason="Unreachable", since_ns=5),)
    return InstanceStatus(name="pump", state=state, reason=reason, since_ns=3, devices=devices)


def report(*instances: InstanceStatus, trust: TrustStatus = ACCEPTED) -> StatusReport:
    return StatusReport(
        node="edge1", agent_version="1", incarnation="a", at_ns=0, started_ns=0, platform="", runtime="",
        trust=trust, instances=instances, buffer=BufferStatus(),
    )  # fmt: skip


def health(**fields: Any) -> tuple[str, str]:
    below = Below(
        **{"link": LinkState.ONLINE, "link_since_ns": 1, "reports": [report(instance())], "assigned": None, **fields}
    )
    found = worst(below)
    return found.state, found.reason


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("Running", "Ok")),
        ({"link": LinkState.NEVER}, ("Pending", "NotEnrolled")),
        ({"link": LinkState.OFFLINE}, ("Failed", "LinkOffline")),
        ({"reports": [report(trust=TrustStatus(refusal="rollback"))]}, ("Failed", "Refused")),
        ({"reports": [report(instance(State.FAILED, "ImagePull"))]}, ("Failed", "InstanceFailed")),
        ({"reports": [report(instance(device=State.FAILED))]}, ("Running", "DeviceFailed")),
        ({"reports": [report(instance(reason="Degraded"))]}, ("Running", "Degraded")),
        ({"tags": 4, "good_tags": 3}, ("Running", "BadTags")),
        ({"lost_samples": 9}, ("Running", "SamplesDropped")),
        ({"link": LinkState.OFFLINE, "lost_samples": 9}, ("Failed", "LinkOffline")),
    ],
)
def test_the_worst_state_is_named(fields: dict[str, Any], expected: tuple[str, str]) -> None:
    assert health(**fields) == expected
