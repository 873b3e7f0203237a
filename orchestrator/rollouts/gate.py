"""Is a site healthy at a generation? Pure: compares what it should run with what its nodes said and what arrived.

Healthy: every node that has work accepted the generation; every instance is Running (Ok) with the right release and
configuration; every stream the release declares delivers samples to the centre, fresh and good enough. Running alone
proves nothing in a plant: a translator that talks to no device also runs. Of class control, besides, the measured
jitter keeps the signed budget; its counters of overruns and faults go along, for the soak to watch.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from manifests.messages import Hold, InstanceStatus, State
from manifests.model import DesiredState, PlacedInstance
from orchestrator.rollouts.evidence import Evidence
from orchestrator.rollouts.plan import SECOND_NS, SiteReport
from orchestrator.rollouts.states import HELD

# Names of measures that workloads of class control tell of themselves.
JITTER = "jitter_p999_us"
LEADS = "pair_leads"
COUNTERS = ("overruns", "faults")
# What a hold explains: the site has not begun, or what runs was not touched.
HELD_BACK = frozenset({"NotAdopted", "OtherRelease", "OtherConfiguration"})
_LAST_S = 253_402_300_799  # the year 9999: clocks of sites may say anything

# The state a site had been told in an earlier generation, to see whether an instance is unchanged since.
EarlierState = Callable[[int], DesiredState | None]


def judge(
    desired: DesiredState, evidence: Evidence, earlier: EarlierState, *, now_ns: int, offline_after_ns: int
) -> SiteReport:
    needed = {placed.instance.node for placed in desired.instances} or set(evidence.enrolled)
    if not needed or not needed <= evidence.enrolled:
        return SiteReport(online=False, why_offline="NotEnrolled")
    if any(now_ns - evidence.heard_ns.get(node, 0) > offline_after_ns for node in needed):
        return SiteReport(online=False, why_offline="LinkLost")
    trouble = _trouble(desired, needed, evidence, earlier, now_ns)
    if trouble is None:
        return SiteReport(online=True, healthy=True, counters=_counters(desired, evidence))
    holds = _holds(desired, needed, evidence)
    if holds and trouble[0] in HELD_BACK:
        return SiteReport(online=True, reason=HELD, detail=holds, held=True)
    return SiteReport(online=True, healthy=False, reason=trouble[0], detail=trouble[1])


def _holds(desired: DesiredState, needed: set[str], evidence: Evidence) -> str:
    """What the site's nodes say against this generation, in words; the same moment after moment."""
    generation = desired.facts.generation
    return "; ".join(
        hold_words(hold, node)
        for node in sorted(needed)
        for hold in (evidence.reports[node].report.holds if node in evidence.reports else ())
        if generation not in hold.broken
    )


def hold_words(hold: Hold, node: str) -> str:
    until = f" until {_minute(hold.until_ns)}" if hold.until_ns else ""
    return f"{node} held by {hold.who} since {_minute(hold.since_ns)}{until}: {hold.why} ({hold.id})"


def _minute(ns: int) -> str:
    return f"{datetime.fromtimestamp(min(max(ns, 0) // SECOND_NS, _LAST_S), UTC):%Y-%m-%d %H:%M} UTC"


def _trouble(
    desired: DesiredState, needed: set[str], evidence: Evidence, earlier: EarlierState, now_ns: int
) -> tuple[str, str] | None:
    generation = desired.facts.generation
    for node in sorted(needed):
        known = evidence.reports.get(node)
        if known is None:
            return "NoReport", f"node {node} has not reported yet"
        trust = known.report.trust
        if trust.refusal and trust.adopted_generation < generation:
            return "Refused", f"node {node} refused its instructions: {trust.refusal} {trust.refusal_detail}".strip()
        if trust.adopted_generation < generation:
            return "NotAdopted", f"node {node} still runs generation {trust.adopted_generation}"
    for placed in desired.instances:
        node_report = evidence.reports[placed.instance.node]
        found = {i.name: i for i in node_report.report.instances}.get(placed.instance.name)
        trouble = (
            _instance_trouble(placed, found, earlier)
            or _control_trouble(placed, found)
            or _stream_trouble(placed, found, evidence, now_ns)
        )
        if trouble is not None:
            return trouble
    return None


def _instance_trouble(
    placed: PlacedInstance, found: InstanceStatus | None, earlier: EarlierState
) -> tuple[str, str] | None:
    name = placed.instance.name
    if found is None:
        return "InstanceMissing", f"{name} is not there yet"
    if found.release_digest != placed.release_digest:
        return "OtherRelease", f"{name} still runs {found.workload} {found.version}"
    if found.state is not State.RUNNING or found.reason != "Ok":
        return "InstanceNotOk", f"{name} is {found.state.value} ({found.reason}) {found.detail}".strip()
    then = earlier(found.generation)
    same = then is not None and any(p.instance == placed.instance for p in then.instances)
    if not same:  # an instance that did not change is never restarted, so it may carry an older number
        return "OtherConfiguration", f"{name} still runs the configuration of generation {found.generation}"
    return None


def _control_trouble(placed: PlacedInstance, found: InstanceStatus | None) -> tuple[str, str] | None:
    assert found is not None
    control = placed.release.control
    if control is None:
        return None
    jitter = found.measures.get(JITTER)
    if jitter is None and found.measures.get(LEADS) == 0:
        return None  # the standby of a pair does not scan: there is nothing to be late with
    if jitter is None:
        return "NoMeasures", f"{placed.instance.name} has not measured its jitter yet"
    if jitter > control.jitter_p999_us:
        budget = f"{control.jitter_p999_us:g} us are signed for the 99.9th percentile"
        return "JitterOverBudget", f"{placed.instance.name} wakes up to {jitter:g} us late; {budget}"
    return None


def _counters(desired: DesiredState, evidence: Evidence) -> dict[str, float]:
    found: dict[str, float] = {}
    for placed in desired.instances:
        if placed.release.control is None:
            continue
        instances = evidence.reports[placed.instance.node].report.instances
        measures = next((one.measures for one in instances if one.name == placed.instance.name), {})
        found |= {f"{placed.instance.name} {name}": measures[name] for name in COUNTERS if name in measures}
    return found


def _stream_trouble(
    placed: PlacedInstance, found: InstanceStatus | None, evidence: Evidence, now_ns: int
) -> tuple[str, str] | None:
    assert found is not None
    live = {s.name.rpartition("/")[2]: s.incarnation for s in found.streams}
    for declared in placed.release.streams:
        stream = f"{placed.instance.name}/{declared.name}"
        incarnation = live.get(declared.name, "")
        candidates = [d for (name, inc), d in evidence.deliveries.items() if name == stream]
        delivery = next((d for d in candidates if not incarnation or d.incarnation == incarnation), None)
        if delivery is None or delivery.received_ns is None:
            return "StreamSilent", f"nothing arrived from {stream} yet"
        silence_s = (now_ns - delivery.received_ns) / SECOND_NS
        if silence_s > declared.max_silence_s:
            return "StreamSilent", f"nothing arrived from {stream} for more than {declared.max_silence_s:g} s"
        if delivery.tags == 0 or 100 * delivery.good_tags < declared.min_good_percent * delivery.tags:
            text = f"{delivery.good_tags} of {delivery.tags} tags of {stream} are good"
            return "BadTags", f"{text}; {declared.min_good_percent:g} % must be"
    return None
