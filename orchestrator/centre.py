"""The collaborators of one orchestrator process, built once and handed to both applications."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from manifests.messages import Severity
from orchestrator.api.schemas import SiteSummary
from orchestrator.blobs import BlobFiles
from orchestrator.ingest import Ingestor
from orchestrator.inquiries import Inquiries
from orchestrator.live import LiveHub
from orchestrator.metrics import Metrics
from orchestrator.people.access import Access
from orchestrator.people.accounts import Accounts
from orchestrator.people.oidc import Provider
from orchestrator.people.passwords import Passwords
from orchestrator.people.sealing import Sealer
from orchestrator.people.sealing import prepare as prepare_sealed
from orchestrator.publish import Publisher
from orchestrator.renewals import Renewals
from orchestrator.rollouts.loop import Rollouts
from orchestrator.rollouts.states import RolloutStatus
from orchestrator.settings import Settings
from orchestrator.store import Store, events, rollouts, sites
from orchestrator.store.ingest import Taken
from orchestrator.views import SiteReader


class Presence:
    """When each node was last heard of, in memory; reports keep it in the store as well."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], int] = {}

    def heard(self, site: str, node: str, now_ns: int) -> None:
        self._heard[site, node] = now_ns

    def last(self, site: str, node: str) -> int:
        return self._heard.get((site, node), 0)


class Wakeups:
    """Wakes agents that wait for news of their site."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def register(self, site: str) -> asyncio.Event:
        event = asyncio.Event()
        self._waiting.setdefault(site, set()).add(event)
        return event

    def forget(self, site: str, event: asyncio.Event) -> None:
        waiting = self._waiting.get(site, set())
        waiting.discard(event)
        if not waiting:
            self._waiting.pop(site, None)

    def wake(self, site: str) -> None:
        """From any thread; ``""`` wakes everybody."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, site)

    def _wake(self, site: str) -> None:
        chosen = self._waiting.values() if site == "" else [self._waiting.get(site, set())]
        for waiting in chosen:
            for event in waiting:
                event.set()


class Centre:
    """Raises MachineError or TrustError when the database or a key cannot be used."""

    def __init__(self, settings: Settings, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.settings = settings
        self.now_ns = now_ns
        self.started_ns = now_ns()
        self.metrics = Metrics()
        self.presence = Presence()
        self.wakeups = Wakeups()
        self.inquiries = Inquiries(time.monotonic)
        self.renewals = Renewals()
        self.store = Store(settings.database, observe=self.metrics.observe_db)
        self.blobs = BlobFiles(settings.data / "blobs")
        self.publisher = Publisher(self.store, self.blobs, settings.keys, now_ns, self.wakeups.wake)
        self.publisher.prepare()
        passwords = Passwords(settings.password_length)
        sealer = Sealer(settings.keys)
        prepare_sealed(self.store, sealer)
        self.access = Access(self.store, settings.data, now_ns, sealer, passwords, settings.second_factor)
        self.provider = Provider(settings.oidc, now_ns) if settings.oidc else None
        self.accounts = Accounts(self.store, self.access, passwords, sealer, now_ns)
        self.live = LiveHub(self.store, self._live_reader)
        self.rollouts = Rollouts(
            self.store,
            self.publisher,
            self.reader,
            self.live.rollout_changed,
            now_ns=now_ns,
            offline_after_ns=settings.offline_after_ns,
            round_s=settings.round_s,
            single_person=settings.single_person,
        )
        self.ingestor = Ingestor(self.store, now_ns, self._taken)
        self.site_ca_key = (settings.keys / "site-ca.pem").read_bytes()
        self.site_ca_chain = (settings.keys / "site-ca-chain.pem").read_bytes()
        self.server_ca_pem = (settings.keys / "server-ca.pem").read_text(encoding="ascii")
        self.agent_url = settings.public_agent_url
        self.stopping = False
        self._warned: dict[tuple[str, str], int] = {}
        self._warned_lock = threading.Lock()
        self.metrics.watch(self._fleet, self._measures)

    def reader(self, conn: Connection) -> SiteReader:
        return SiteReader(conn, self.presence.last, self.now_ns(), self.settings.offline_after_ns)

    def _live_reader(self, conn: Any) -> SiteReader:
        return self.reader(conn)

    def tell(self, severity: Severity, kind: str, text: str, **fields: Any) -> None:
        """An event of its own."""
        with self.store.write() as conn:
            events.add(conn, self.now_ns(), severity, kind, text, **fields)

    def close(self) -> None:
        """After both listeners are closed."""
        self.ingestor.close()
        if self.provider is not None:
            self.provider.close()
        self.store.close()

    def _taken(self, site: str, taken: Taken) -> None:
        metrics = self.metrics
        metrics.frames.labels(site).inc(taken.frames)
        metrics.duplicates.labels(site).inc(taken.duplicates)
        metrics.samples.labels(site).inc(taken.samples)
        metrics.lost.labels(site).inc(taken.lost_samples)
        metrics.quarantined.labels(site).inc(len(taken.quarantined))
        if taken.changed_tags:
            self.live.values_changed(site, taken.changed_tags)
        else:
            self.live.site_changed(site)
        if taken.quarantined and self._may_warn(site, "frame-quarantined"):
            stream, seq, reason = taken.quarantined[0]
            text = f"frame {seq} cannot be read: {reason} ({len(taken.quarantined)} in this request)"
            self.tell(Severity.ERROR, "frame-quarantined", text, subject=stream, site=site)
        if taken.gaps and self._may_warn(site, "samples-lost"):
            lost = sum(count for _, count, _ in taken.gaps)
            text = f"{lost} samples were dropped at the site: {taken.gaps[0][2]}"
            self.tell(Severity.WARNING, "samples-lost", text, subject=taken.gaps[0][0], site=site)

    def _may_warn(self, site: str, kind: str) -> bool:
        """The counters are exact; the event list need not hold one line per frame of a flood."""
        return self.may_note(site, kind, 10)

    def may_note(self, site: str, what: str, every_s: int = 60) -> bool:
        """False when the same was noted a moment ago."""
        now_ns = self.now_ns()
        with self._warned_lock:
            if now_ns - self._warned.get((site, what), 0) < every_s * 1_000_000_000:
                return False
            if len(self._warned) > 10_000:
                self._warned.clear()
            self._warned[site, what] = now_ns
        return True

    def summaries(self, seen: frozenset[str] | None = None) -> list[SiteSummary]:
        """Of the sites that are seen, or of all."""
        with self.store.read() as conn:
            chosen = [stored for stored in sites.listed(conn) if seen is None or stored.site.name in seen]
            return self.reader(conn).summaries(chosen)

    def _measures(self) -> list[tuple[str, str, Mapping[str, float]]]:
        with self.store.read() as conn:
            reports = sites.reports(conn)
        found = [(r.site, instance.name, instance.measures) for r in reports for instance in r.report.instances]
        return [one for one in found if one[2]]

    def _fleet(self) -> tuple[Sequence[SiteSummary], RolloutStatus | None, int]:
        with self.store.read() as conn:
            numbers = rollouts.numbers(conn, 1)
            newest = rollouts.get(conn, numbers[0]) if numbers else None
        return self.summaries(), newest.status if newest else None, self.live.listeners
