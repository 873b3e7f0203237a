"""What the loop knows of holds between two rounds: which stand, what they keep out, and what is told of them.

Looking and telling only; ``holds`` decides, ``holdbook`` reads. The loop asks ``in_the_way`` before it lets a new
generation in, and keeps here the one that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec.structs import replace

from agent import holds
from manifests.messages import Hold, InstanceStatus, Severity, State
from manifests.model import DesiredState
from manifests.policy import BrokenHold

Tell = Callable[[Severity, str, str, str], None]  # severity, kind, subject, text


class Book(Protocol):
    """``holdbook.HoldBook``; blocking."""

    def look(
        self, measures: Mapping[str, Mapping[str, float] | None], before: Sequence[Hold], now: datetime, time_zone: str
    ) -> tuple[Hold, ...]: ...

    def ended(self, hold: Hold) -> str: ...


class Holding:
    """``waiting`` is the newest verified generation that a hold keeps out, fetched and complete."""

    def __init__(self, book: Book | None = None) -> None:
        self._book = book
        self._broken: Sequence[BrokenHold] = ()
        self._told = False
        self.now: tuple[Hold, ...] = ()
        self.waiting: DesiredState | None = None

    def look(
        self,
        current: DesiredState | None,
        statuses: Mapping[str, InstanceStatus],
        node: str,
        broken: Sequence[BrokenHold],
        now: datetime,
    ) -> tuple[Hold, ...]:
        """What stands now; blocking. Gives what stood before."""
        before, self._broken = self.now, broken
        if self._book is None:
            return before
        placed = current.instances if current is not None else ()
        names = [one.instance.name for one in placed if one.instance.node == node]
        measures = {name: _measures(statuses.get(name)) for name in names}
        zone = current.facts.time_zone if current is not None else "UTC"
        found = self._book.look(measures, before, now, zone)
        self.now = tuple(replace(hold, broken=self._generations(hold)) for hold in found)
        return before

    def _generations(self, hold: Hold) -> tuple[int, ...]:
        return tuple(sorted({one.generation for one in self._broken if one.hold == hold.id}))

    def tell(self, before: Sequence[Hold], tell: Tell) -> bool:
        """Say what changed since; True when something did."""
        old, new = {hold.id: hold for hold in before}, {hold.id: hold for hold in self.now}
        first, self._told = not self._told, True
        for name in new.keys() - old.keys():
            # After a restart of the agent it stands as before: nobody set it just now.
            tell(Severity.INFO, "hold-stands" if first else "hold-set", name, holds.words(new[name]))
        for name in old.keys() - new.keys():
            ended = self._book.ended(old[name]) if self._book is not None else ""
            tell(Severity.INFO, "hold-released", name, f"{ended}; it was {holds.words(old[name])}")
        return {hold.id: hold.broken for hold in before} != {hold.id: hold.broken for hold in self.now}

    def in_the_way(self, candidate: DesiredState | None) -> tuple[Hold, ...]:
        """What keeps this generation out, or from going on with what it began."""
        return holds.in_the_way(self.now, candidate.facts.generation) if candidate is not None else ()

    def tell_broken(self, candidate: DesiredState, tell: Tell) -> None:
        """A generation goes in although something holds: by whose word."""
        generation = candidate.facts.generation
        for hold in self.now:
            for one in self._broken:
                if one.hold == hold.id and one.generation == generation:
                    text = f"broken for generation {generation} by {one}; it is {holds.words(hold)}"
                    tell(Severity.SECURITY, "hold-broken", hold.id, text)

    def words(self) -> tuple[str, ...]:
        """Why a generation waits, for people."""
        if self.waiting is None:
            return ()
        generation = self.waiting.facts.generation
        return tuple(f"generation {generation}: Held, {holds.words(hold)}" for hold in self.in_the_way(self.waiting))


def _measures(status: InstanceStatus | None) -> Mapping[str, float] | None:
    """None while it is silent: what an instance told before it fell silent says nothing about now."""
    return status.measures if status is not None and status.state is State.RUNNING else None
