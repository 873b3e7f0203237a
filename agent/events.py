"""What happened at the node, numbered and kept on disk until the centre has seen it.

The loop adds and reports. Numbers belong to an incarnation: the life of the file, not of the process, so a restarted
agent goes on where it stopped. Only events that are on disk are reported, so a number is never given twice. It
refuses to grow without bound: the oldest go first, counted by one event that says so.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from agent.ledger import write_atomic
from manifests.messages import Event, Severity

FILE_NAME = "events.json"
KEPT = 500
TEXT_LIMIT = 500  # characters: an error may quote a whole log


class _Page(msgspec.Struct, kw_only=True):
    incarnation: str
    last: int = 0
    lost: int = 0
    events: list[Event] = []


class EventLog:
    """Events of one node. ``add`` only remembers; ``save`` makes them durable and thereby reportable."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        try:
            self._page = msgspec.json.decode(self._path.read_bytes(), type=_Page)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            self._page = _Page(incarnation=secrets.token_hex(8))
        self._saved = self._page.last
        self._dirty = False

    @property
    def incarnation(self) -> str:
        return self._page.incarnation

    @property
    def dirty(self) -> bool:
        return self._dirty

    def add(self, at_ns: int, severity: Severity, kind: str, subject: str, text: str) -> None:
        page = self._page
        page.last += 1
        page.events.append(
            Event(seq=page.last, at_ns=at_ns, severity=severity, kind=kind, subject=subject, text=text[:TEXT_LIMIT])
        )
        self._dirty = True
        if len(page.events) > KEPT:
            page.lost += len(page.events) - KEPT + 1
            del page.events[: len(page.events) - KEPT + 1]
            page.last += 1
            said = f"{page.lost} older events were dropped before anyone could see them"
            page.events = [found for found in page.events if found.kind != "events-dropped"]
            page.events.append(
                Event(
                    seq=page.last,
                    at_ns=at_ns,
                    severity=Severity.WARNING,
                    kind="events-dropped",
                    subject="agent",
                    text=said,
                )
            )

    def save(self) -> None:
        """Raises MachineError when the disk refuses; the events stay and the next call tries again."""
        if self._dirty:
            write_atomic(self._path, msgspec.json.encode(self._page))
            self._dirty = False
            self._saved = self._page.last

    def unseen(self, limit: int = 200) -> tuple[Event, ...]:
        """The oldest events that are on disk and not seen by the centre."""
        return tuple(event for event in self._page.events if event.seq <= self._saved)[:limit]

    def seen(self, up_to: int) -> None:
        """The centre has stored every event up to this number.

        A number this log never gave means that an old copy of it was put back: its next numbers would be taken for
        events seen already. What is here goes out once more under a new incarnation.
        """
        if up_to > self._page.last:
            self._page = _Page(
                incarnation=secrets.token_hex(8), last=self._page.last, lost=self._page.lost, events=self._page.events
            )
            self._dirty = True
            return
        kept = [event for event in self._page.events if event.seq > up_to]
        if len(kept) != len(self._page.events):
            self._page.events = kept
            self._page.lost = 0
            self._dirty = True
