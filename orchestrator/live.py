"""The live line: what changes at the centre, to every console that listens, at a pace that people can read.

Threads say what became dirty; twice a second one ticker reads it from the store once and sends the same bytes to
everybody. A listener that does not keep up is cut off (its browser connects again and starts from the current state):
one slow screen must cost neither memory nor the others' time.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass, field

import structlog
from anyio import to_thread
from pydantic import BaseModel
from sqlalchemy import Connection

from orchestrator import narrow, views
from orchestrator.api import schemas
from orchestrator.rollouts.states import RolloutState
from orchestrator.store import Store, events, history, rollouts, sites

TICK_S = 0.5
SWEEP_S = 5.0  # links go offline without anything arriving
PING_S = 15.0
MAX_QUEUED = 200  # messages per listener
MAX_LISTENERS = 500
_log = structlog.get_logger(__name__)


def message(event: str, body: BaseModel) -> bytes:
    return f"event: {event}\ndata: {body.model_dump_json(by_alias=True)}\n\n".encode()


@dataclass(eq=False)
class Listener:
    sites: frozenset[str]  # whose values it wants
    seen: narrow.Seen = None  # the sites it may see
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(MAX_QUEUED))
    dropped: bool = False


@dataclass(frozen=True)
class Part:
    """Something to send. ``site``: whose it is, None for what is not of one site; ``asked``: only to those who asked
    for the values of that site; ``rollout``: to be narrowed for those who see some sites only."""

    content: bytes
    site: str | None = None
    asked: bool = False
    rollout: schemas.RolloutView | None = None

    def for_listener(self, listener: Listener) -> bytes | None:
        """Its bytes; None when they are not for this listener."""
        if self.asked and self.site not in listener.sites:
            return None
        if listener.seen is None:
            return self.content
        if self.rollout is not None:
            shown = narrow.rollout(self.rollout, listener.seen)
            return message("rollout", shown) if shown else None
        return self.content if self.site in listener.seen else None


class TooManyListenersError(Exception):
    """The live line is full."""


class LiveHub:
    def __init__(self, store: Store, reader: Callable[[object], views.SiteReader]) -> None:
        self._store = store
        self._reader = reader
        self._listeners: set[Listener] = set()
        self._lock = threading.Lock()
        self._dirty_sites: set[str] = set()
        self._dirty_tags: dict[str, set[int]] = {}
        self._dirty_rollouts: set[int] = set()
        self._last_event: int | None = None  # newest event sent
        self._last: dict[str, str] = {}  # site -> its summary as last sent
        self._closed = False

    # ------------------------------------------------------------ from any thread

    def site_changed(self, site: str) -> None:
        with self._lock:
            self._dirty_sites.add(site)

    def values_changed(self, site: str, tags: Iterable[int]) -> None:
        with self._lock:
            self._dirty_sites.add(site)
            self._dirty_tags.setdefault(site, set()).update(tags)

    def rollout_changed(self, number: int) -> None:
        with self._lock:
            self._dirty_rollouts.add(number)

    # ------------------------------------------------------------ on the event loop

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    async def follow(
        self, chosen: Collection[str], still_allowed: Callable[[], bool], seen: narrow.Seen = None
    ) -> AsyncIterator[bytes]:
        """The bytes of one listener's stream: the current state, then changes. Raises TooManyListenersError."""
        if len(self._listeners) >= MAX_LISTENERS:
            raise TooManyListenersError
        listener = Listener(frozenset(chosen), seen)
        self._listeners.add(listener)  # before the state is read: nothing between the two is lost
        return self._stream(listener, still_allowed)

    async def _stream(self, listener: Listener, still_allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
        try:
            yield b"retry: 2000\n\n"
            for part in await to_thread.run_sync(self._snapshot, listener.sites):
                content = part.for_listener(listener)
                if content is not None:
                    yield content
            loop = asyncio.get_running_loop()
            checked = loop.time()
            while not self._closed:
                try:
                    part_or_end = await asyncio.wait_for(listener.queue.get(), PING_S)
                except TimeoutError:
                    part_or_end = b": ping\n\n"
                if part_or_end is None:
                    return
                if loop.time() - checked >= PING_S:  # a session that ended meanwhile must not go on watching
                    checked = loop.time()
                    if not await to_thread.run_sync(still_allowed):
                        return
                yield part_or_end
        finally:
            self._listeners.discard(listener)

    async def run(self) -> None:
        """The ticker; ends when the hub is closed."""
        loop = asyncio.get_running_loop()
        swept = loop.time()
        while not self._closed:
            await asyncio.sleep(TICK_S)
            sweep = loop.time() - swept >= SWEEP_S
            if sweep:
                swept = loop.time()
            if not self._listeners:
                self._forget()
                continue
            chosen = frozenset(s for listener in self._listeners for s in listener.sites)
            try:
                parts = await to_thread.run_sync(self._collect, chosen, sweep)
            except Exception:  # noqa: BLE001 - top of the loop: one bad round must not end the live line
                _log.exception("live update failed")
                continue
            for part in parts:
                self._send(part)

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        for listener in list(self._listeners):
            self._cut(listener)

    def _send(self, part: Part) -> None:
        for listener in list(self._listeners):
            content = part.for_listener(listener)
            if content is not None:
                try:
                    listener.queue.put_nowait(content)
                except asyncio.QueueFull:
                    self._cut(listener)

    def _cut(self, listener: Listener) -> None:
        listener.dropped = True
        self._listeners.discard(listener)
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                listener.queue.get_nowait()
        listener.queue.put_nowait(None)

    # ------------------------------------------------------------ in a worker thread

    def _forget(self) -> None:
        with self._lock:
            self._dirty_sites.clear()
            self._dirty_tags.clear()
            self._dirty_rollouts.clear()
        self._last.clear()
        self._last_event = None

    def _collect(self, chosen: frozenset[str], sweep: bool) -> list[Part]:
        with self._lock:
            dirty_sites, self._dirty_sites = self._dirty_sites, set()
            dirty_tags, self._dirty_tags = self._dirty_tags, {}
            dirty_rollouts, self._dirty_rollouts = self._dirty_rollouts, set()
        parts: list[Part] = []
        with self._store.read() as conn:
            reader = self._reader(conn)
            looked_at = [s for s in sites.listed(conn) if sweep or s.site.name in dirty_sites]
            for summary in reader.summaries(looked_at):
                text = summary.model_dump_json()
                if self._last.get(summary.name) != text:
                    self._last[summary.name] = text
                    parts.append(Part(message("site", summary), summary.name))
            for name in sorted(chosen & dirty_tags.keys()):
                found = history.last_values(conn, name, only=dirty_tags[name])
                if found:
                    body = schemas.LiveValues(site=name, values=[views.value(v) for v in found])
                    parts.append(Part(message("values", body), name, asked=True))
            for number in sorted(dirty_rollouts):
                state = rollouts.get(conn, number)
                if state is not None:
                    parts.append(_rollout(state))
            for item in events.after(conn, self._note_last_event(conn)):
                self._last_event = item.id
                parts.append(Part(message("event", views.event(item)), item.site))
        return parts

    def _note_last_event(self, conn: Connection) -> int:
        """Where live events begin: with the first listener's own start, not with the first tick after it."""
        with self._lock:
            if self._last_event is None:
                self._last_event = max((e.id for e in events.newest(conn, limit=1)), default=0)
            return self._last_event

    def _snapshot(self, chosen: frozenset[str]) -> list[Part]:
        parts: list[Part] = []
        with self._store.read() as conn:
            self._note_last_event(conn)
            reader = self._reader(conn)
            listed = reader.summaries(sites.listed(conn))
            parts.extend(Part(message("site", summary), summary.name) for summary in listed)
            for name in sorted(chosen):
                found = history.last_values(conn, name)
                body = schemas.LiveValues(site=name, values=[views.value(v) for v in found])
                parts.append(Part(message("values", body), name, asked=True))
            for number in rollouts.unfinished(conn):
                state = rollouts.get(conn, number)
                if state is not None:
                    parts.append(_rollout(state))
        return parts


def _rollout(state: RolloutState) -> Part:
    view = views.rollout(state)
    return Part(message("rollout", view), rollout=view)
