"""The health of a site: the worst state below it, with its reason. Pure.

Words are those of ``manifests.messages.State``: ``Failed`` needs somebody now (link, refusal, instance), ``Running``
with a reason other than Ok is degraded, ``Waiting`` and ``Pending`` are on their way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from manifests.messages import State, StatusReport
from manifests.model import DesiredState
from orchestrator.api.schemas import LinkState


@dataclass(frozen=True, slots=True)
class Health:
    state: str
    reason: str
    since_ns: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Below:
    """What lies below a site. ``lost_samples``: dropped in the last hour."""

    link: LinkState
    link_since_ns: int
    reports: Sequence[StatusReport]
    assigned: DesiredState | None
    tags: int = 0
    good_tags: int = 0
    lost_samples: int = 0


def worst(below: Below) -> Health:
    """The first of these that holds, worst first."""
    if below.link is LinkState.NEVER:
        return Health(State.PENDING.value, "NotEnrolled", below.link_since_ns, "no node of this site has enrolled yet")
    if below.link is LinkState.OFFLINE:
        return Health(
            State.FAILED.value, "LinkOffline", below.link_since_ns, "nothing heard; workloads go on by themselves"
        )
    for health in _troubles(below):
        return health
    return Health(State.RUNNING.value, "Ok", below.link_since_ns)


def _troubles(below: Below) -> Iterator[Health]:
    for report in below.reports:
        if report.trust.refusal:
            text = f"{report.trust.refusal}: {report.trust.refusal_detail}"
            yield Health(State.FAILED.value, "Refused", report.trust.refusal_ns, text)
    instances = [instance for report in below.reports for instance in report.instances]
    for instance in instances:
        if instance.state is State.FAILED:
            text = f"{instance.name}: {instance.reason} {instance.detail}".strip()
            yield Health(State.FAILED.value, "InstanceFailed", instance.since_ns, text)
    for instance in instances:
        for device in instance.devices:
            if device.state is State.FAILED:
                text = f"{device.name} of {instance.name}: {device.reason} {device.detail}".strip()
                yield Health(State.RUNNING.value, "DeviceFailed", device.since_ns, text)
    for instance in instances:
        if instance.state is State.RUNNING and instance.reason != "Ok":
            text = f"{instance.name}: {instance.reason} {instance.detail}".strip()
            yield Health(State.RUNNING.value, "Degraded", instance.since_ns, text)
    if below.good_tags < below.tags:
        bad = below.tags - below.good_tags
        text = f"{bad} of {below.tags} tags are not good"
        yield Health(State.RUNNING.value, "BadTags", below.link_since_ns, text)
    if below.lost_samples:
        text = f"{below.lost_samples} samples were lost in the last hour"
        yield Health(State.RUNNING.value, "SamplesDropped", below.link_since_ns, text)
    running = {instance.name for instance in instances if instance.state is State.RUNNING}
    wanted = {placed.instance.name for placed in below.assigned.instances} if below.assigned else set()
    for missing in sorted(wanted - running):
        found = next((i for i in instances if i.name == missing), None)
        text = f"{missing}: {found.state.value} ({found.reason})" if found else f"{missing} is not there yet"
        since_ns = found.since_ns if found else below.link_since_ns
        yield Health(State.WAITING.value, "InstanceWaiting", since_ns, text)
