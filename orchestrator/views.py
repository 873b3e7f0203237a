"""Turns what is stored into the shapes of the operator API. Reads only; for the routes and the live line."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from manifests.messages import BufferStatus, Hold, InstanceStatus, StatusReport, StreamStatus
from manifests.model import DesiredState
from orchestrator.api import schemas
from orchestrator.api.schemas import LinkState, StateView
from orchestrator.health import Below, Health, worst
from orchestrator.rollouts import approvals
from orchestrator.rollouts.evidence import Evidence, NodeReport
from orchestrator.rollouts.states import RolloutState, SitePhase, SiteState, WaveState, WaveStatus
from orchestrator.store import events, fleets, history, ingest, sites
from orchestrator.store.sites import StoredSite

SECOND_NS = 1_000_000_000
LOST_WINDOW_NS = 3600 * SECOND_NS
_LAST_NS = 253_402_300_799 * SECOND_NS  # the year 9999: clocks of sites may say anything

Heard = Callable[[str, str], int]  # (site, node) -> when it was last heard of, 0 = not since the start


def at(ns: int) -> datetime:
    return datetime.fromtimestamp(min(max(ns, 0), _LAST_NS) / SECOND_NS, UTC)


def at_or_none(ns: int | None) -> datetime | None:
    return None if not ns else at(ns)


class SiteReader:
    """Views of sites over one connection."""

    def __init__(self, conn: Connection, heard: Heard, now_ns: int, offline_after_ns: int) -> None:
        self._conn = conn
        self._heard = heard
        self._now_ns = now_ns
        self._offline_after_ns = offline_after_ns

    def evidence(self, chosen: Collection[str], delivering: Collection[str]) -> dict[str, Evidence]:
        """What the rollout gate weighs, for the chosen sites; what arrived only for those in ``delivering``."""
        reports: dict[str, dict[str, NodeReport]] = {name: {} for name in chosen}
        for report in sites.reports(self._conn, chosen) if chosen else ():
            if report.site in reports:
                reports[report.site][report.node] = report
        enrolled: dict[str, set[str]] = {name: set() for name in chosen}
        for site, node in sites.enrolled_nodes(self._conn, chosen) if chosen else ():
            if site in enrolled:
                enrolled[site].add(node)
        arrived = ingest.deliveries(self._conn, delivering)
        found: dict[str, Evidence] = {}
        for name in chosen:
            mine = reports[name]
            heard = {n: max(self._heard(name, n), mine[n].received_ns if n in mine else 0) for n in enrolled[name]}
            found[name] = Evidence(frozenset(enrolled[name]), heard, mine, arrived.get(name, {}))
        return found

    def link(self, site: str, node: str, report: NodeReport | None, enrolled: bool) -> schemas.LinkView:
        seen = max(self._heard(site, node), report.received_ns if report else 0)
        if not enrolled:
            return schemas.LinkView(state=LinkState.NEVER, last_seen=at_or_none(seen))
        if self._now_ns - seen <= self._offline_after_ns:
            since = report.online_since_ns if report else seen
            return schemas.LinkView(state=LinkState.ONLINE, last_seen=at(seen), since=at(since))
        return schemas.LinkView(state=LinkState.OFFLINE, last_seen=at_or_none(seen), since=at_or_none(seen))

    def summary(self, stored: StoredSite) -> schemas.SiteSummary:
        return self.summaries([stored])[0]

    def summaries(self, chosen: Sequence[StoredSite]) -> list[schemas.SiteSummary]:
        """One query per table, however many sites: a fleet of thousands is looked at every few seconds."""
        if not chosen:
            return []
        conn, names = self._conn, {stored.site.name for stored in chosen}
        reports: dict[str, dict[str, NodeReport]] = {}
        for report in sites.reports(conn, names):
            reports.setdefault(report.site, {})[report.node] = report
        enrolled: dict[str, set[str]] = {}
        for site, node in sites.enrolled_nodes(conn, names):
            enrolled.setdefault(site, set()).add(node)
        counts = history.tag_counts(conn, names)
        states = fleets.assigned_states(conn, names)
        lost = ingest.lost_since(conn, self._now_ns - LOST_WINDOW_NS)
        return [
            self._summary(
                stored,
                reports.get(stored.site.name, {}),
                enrolled.get(stored.site.name, set()),
                counts,
                states.get(stored.site.name),
                lost.get(stored.site.name, 0),
            )
            for stored in chosen
        ]

    def _summary(
        self,
        stored: StoredSite,
        reports: Mapping[str, NodeReport],
        enrolled: Collection[str],
        counts: Mapping[tuple[str, str], tuple[int, int]],
        state: DesiredState | None,
        lost: int,
    ) -> schemas.SiteSummary:
        name = stored.site.name
        links = [self.link(name, n.name, reports.get(n.name), n.name in enrolled) for n in stored.site.nodes]
        link = _worst_link(links)
        said = [r.report for n, r in reports.items() if n in enrolled]
        instances = [i for report in said for i in report.instances]
        known = [counts.get((name, instance), (0, 0)) for instance in {i.name for i in instances}]
        tags, good = sum(count for count, _ in known), sum(count for _, count in known)
        health = worst(
            Below(
                link=link.state,
                link_since_ns=int(link.since.timestamp() * SECOND_NS) if link.since else 0,
                reports=said,
                assigned=state,
                tags=tags,
                good_tags=good,
                lost_samples=lost,
            )
        )
        refused = next((r.trust for r in said if r.trust.refusal), None)
        return schemas.SiteSummary(
            name=name,
            labels=dict(stored.site.labels),
            time_zone=stored.site.time_zone,
            description=stored.site.description,
            health=_health(health, stored),
            link=link,
            buffer=_sum_buffers([r.buffer for r in said]),
            generation=min((r.trust.adopted_generation for r in said), default=None),
            assigned_generation=stored.assigned_generation,
            nodes=len(stored.site.nodes),
            instances=len(instances),
            instances_ok=sum(1 for i in instances if i.state.value == "Running" and i.reason == "Ok"),
            tags=tags,
            good_tags=good,
            refusal=None
            if refused is None
            else schemas.RefusalView(kind=refused.refusal, detail=refused.refusal_detail, at=at(refused.refusal_ns)),
            holds=[_hold(hold, report.node) for report in said for hold in report.holds],
        )

    def site(self, stored: StoredSite) -> schemas.SiteView:
        name = stored.site.name
        reports = {r.node: r for r in sites.reports(self._conn, [name])}
        enrolled = sites.enrolled_nodes(self._conn, [name])
        nodes = [self._node(name, n.name, reports.get(n.name), enrolled) for n in stored.site.nodes]
        streams = self.streams(name)
        return schemas.SiteView(
            summary=self.summary(stored),
            enterprise=stored.enterprise,
            nodes=nodes,
            instances=[
                _instance(instance, report.node, self._class_of(stored, instance.name), streams)
                for report in reports.values()
                for instance in report.report.instances
            ],
        )

    def _class_of(self, stored: StoredSite, instance: str) -> str:
        if stored.assigned_generation is None:
            return ""
        state = fleets.desired_state(self._conn, stored.assigned_generation, stored.site.name)
        found = next((p for p in state.instances if p.instance.name == instance), None) if state else None
        return found.release.workload_class.value if found else ""

    def _node(
        self, site: str, node: str, stored: NodeReport | None, enrolled: Mapping[tuple[str, str], int]
    ) -> schemas.NodeView:
        report = stored.report if stored else None
        trust = report.trust if report else None
        return schemas.NodeView(
            name=node,
            enrolled=(site, node) in enrolled,
            agent_version=report.agent_version if report else None,
            platform=report.platform if report else None,
            runtime=report.runtime if report else None,
            link=self.link(site, node, stored, (site, node) in enrolled),
            buffer=_buffer(report.buffer) if report else None,
            waiting=list(report.waiting) if report else [],
            refusal=schemas.RefusalView(kind=trust.refusal, detail=trust.refusal_detail, at=at(trust.refusal_ns))
            if trust and trust.refusal
            else None,
            certificate_not_after=at_or_none(enrolled.get((site, node))),
        )

    def streams(self, site: str) -> list[schemas.StreamView]:
        stored = ingest.streams(self._conn, site)
        newest = {s.stream: s.incarnation for s in stored}
        said: dict[str, StreamStatus] = {}
        for report in sites.reports(self._conn, [site]):
            for instance in report.report.instances:
                for status in instance.streams:
                    said[f"{instance.name}/{status.name.rpartition('/')[2]}"] = status
        return [_stream(s, newest, said.get(s.stream)) for s in stored]


def _worst_link(links: Sequence[schemas.LinkView]) -> schemas.LinkView:
    """Of the nodes that enrolled; NEVER when none did."""
    enrolled = [link for link in links if link.state is not LinkState.NEVER]
    if not enrolled:
        return schemas.LinkView(state=LinkState.NEVER)
    offline = [link for link in enrolled if link.state is LinkState.OFFLINE]
    return (offline or enrolled)[0]


def _health(health: Health, stored: StoredSite) -> StateView:
    since_ns = health.since_ns or stored.assigned_ns or 0
    return StateView(state=health.state, reason=health.reason, since=at(since_ns), detail=health.detail)


def _hold(hold: Hold, node: str) -> schemas.HoldView:
    return schemas.HoldView(
        id=hold.id,
        node=node,
        kind=hold.kind,
        who=hold.who,
        why=hold.why,
        since=at(hold.since_ns),
        until=at_or_none(hold.until_ns),
        broken=list(hold.broken),
    )


def _buffer(status: BufferStatus) -> schemas.BufferView:
    return schemas.BufferView(
        bytes=status.bytes,
        cap_bytes=status.cap_bytes,
        samples=status.samples,
        oldest=at_or_none(status.oldest_ns),
        dropped_samples=status.dropped_samples,
    )


def _sum_buffers(buffers: Sequence[BufferStatus]) -> schemas.BufferView | None:
    if not buffers:
        return None
    return schemas.BufferView(
        bytes=sum(b.bytes for b in buffers),
        cap_bytes=sum(b.cap_bytes for b in buffers),
        samples=sum(b.samples for b in buffers),
        oldest=at_or_none(min((b.oldest_ns for b in buffers if b.oldest_ns), default=None)),
        dropped_samples=sum(b.dropped_samples for b in buffers),
    )


def _stream(stored: ingest.StoredStream, newest: Mapping[str, str], said: StreamStatus | None) -> schemas.StreamView:
    live = said.incarnation if said and said.incarnation else newest[stored.stream]
    mine = said if said and said.incarnation == stored.incarnation else None
    return schemas.StreamView(
        stream=stored.stream,
        incarnation=stored.incarnation,
        mark=stored.mark,
        samples=stored.samples,
        chain=stored.chain,
        gaps=stored.gaps,
        lost_samples=stored.lost_samples,
        first_at=at_or_none(stored.first_ns),
        last_at=at_or_none(stored.last_ns),
        live=stored.incarnation == live,
        acked_seq=mine.acked_seq if mine else None,
        acked_samples=mine.acked_samples if mine else None,
        acked_chain=mine.acked_chain if mine else None,
    )


def _instance(
    status: InstanceStatus, node: str, workload_class: str, streams: Sequence[schemas.StreamView]
) -> schemas.InstanceView:
    def state(s: str, reason: str, since_ns: int, detail: str) -> StateView:
        return StateView(state=s, reason=reason, since=at(since_ns), detail=detail)

    return schemas.InstanceView(
        name=status.name,
        node=node,
        workload=status.workload,
        workload_class=workload_class,
        version=status.version,
        release_digest=status.release_digest,
        generation=status.generation,
        status=state(status.state.value, status.reason, status.since_ns, status.detail),
        runtime_id=status.runtime_id,
        started_at=at_or_none(status.started_ns),
        restarts=status.restarts,
        devices=[
            schemas.DeviceView(name=d.name, status=state(d.state.value, d.reason, d.since_ns, d.detail))
            for d in status.devices
        ],
        streams=[s for s in streams if s.live and s.stream.split("/", 1)[0] == status.name],
        measures=dict(status.measures),
    )


def quality_word(code: int) -> str:
    return "good" if code >= 192 else "uncertain" if code >= 64 else "bad"


def value(item: history.LastValue) -> schemas.ValueView:
    tag = item.tag
    return schemas.ValueView(
        topic=tag.topic,
        name=tag.topic.rpartition("/")[2],
        value=item.value if item.quality >= 64 else None,
        text=item.text,
        type=tag.type,
        unit=tag.unit,
        quality=quality_word(item.quality),
        quality_code=item.quality,
        at=at(item.ts_ns),
        received_at=at(item.received_ns),
        instance=tag.instance,
        description=tag.description,
        low=tag.low,
        high=tag.high,
    )


def event(item: events.StoredEvent) -> schemas.EventView:
    return schemas.EventView(
        id=item.id,
        at=at(item.at_ns),
        site=item.site,
        node=item.node,
        severity=item.severity,
        kind=item.kind,
        subject=item.subject,
        text=item.text,
        actor=item.actor,
    )


def rollout(state: RolloutState) -> schemas.RolloutView:
    gate = state.gate
    timeout_ns = int(gate.timeout_s * SECOND_NS)

    def progress(site: SiteState) -> schemas.SiteProgress:
        status = StateView(state=site.phase, reason=site.reason, since=at(site.since_ns), detail=site.detail)
        return schemas.SiteProgress(site=site.site, status=status)

    def wave(item: WaveState) -> schemas.WaveView:
        moving = [s.moving_ns for s in item.sites if s.phase is SitePhase.MOVING]
        return schemas.WaveView(
            name=item.name,
            status=StateView(state=item.status, reason=item.reason, since=at(item.since_ns), detail=item.detail),
            sites=[progress(s) for s in item.sites],
            passed=item.count(SitePhase.PASSED),
            failed=item.count(SitePhase.FAILED),
            offline=item.count(SitePhase.OFFLINE),
            held=item.count(SitePhase.WAITING),
            soak_s=gate.soak_s,
            deadline=at(max(moving) + timeout_ns) if moving and item.status is WaveStatus.RUNNING else None,
        )

    return schemas.RolloutView(
        id=state.id,
        generation=state.generation,
        status=StateView(state=state.status, reason=state.reason, since=at(state.since_ns), detail=state.detail),
        started_at=at(state.started_ns),
        started_by=state.started_by,
        ended_at=at_or_none(state.ended_ns),
        reason=state.why,
        waves=[wave(w) for w in state.waves],
        sites_total=sum(len(w.sites) for w in state.waves),
        sites_passed=sum(w.count(SitePhase.PASSED) for w in state.waves),
        changes=[schemas.ChangeView.model_validate(c) for c in json.loads(state.changes)],
        approvals=[
            schemas.RolloutApprovalView(
                side=schemas.Side(one.side.value), who=one.who, at=at(one.at_ns), reason=one.why, content=one.content
            )
            for one in approvals.given(state)
        ],
        lacking=[schemas.Side(side.value) for side in approvals.lacking(state)],
    )


def runs_release(report: StatusReport, digest: str) -> bool:
    return any(i.release_digest == digest for i in report.instances)
