"""Where a node reads what holds it: the file that ``sluice agent hold`` writes, and files such as a GPIO's value.

Whoever can run commands as the agent's user on the node owns the node; a hold says who was logged in, which proves
presence, not identity. ``cli`` writes, ``holding`` reads every round. What cannot be read holds: a damaged file must
not open what somebody closed.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from agent import said
from agent.holds import Changes, LocalHold, Signals, ended, held
from manifests.errors import MachineError
from manifests.messages import Hold

NAME = "holds.json"
MAX_SIGNAL_BYTES = 4096
LONGEST = timedelta(days=31)
KEPT_RELEASED = 20  # so that the running agent can say by whom
DAMAGED = "unreadable"


def place(state: Path, *, who: str, why: str, now: datetime, until: datetime) -> LocalHold:
    """Raises MachineError."""
    if not now < until <= now + LONGEST:
        what = f"a hold ends in the future, within {LONGEST.days} days"
        raise MachineError(what, where="--for or --until", remedy="hold again when it is over")
    if not why.strip():
        raise MachineError("a hold needs its reason", where="--why", remedy="say why nothing may change")
    placed = LocalHold(
        id=f"local-{secrets.token_hex(4)}",
        who=who,
        why=why.strip()[:500],
        since=int(now.timestamp()),
        until=int(until.timestamp()),
    )
    said.write(state / NAME, [*_kept(read(state), now), placed], noun="hold")
    return placed


def release(state: Path, hold: str | None, *, who: str, now: datetime) -> tuple[LocalHold, ...]:
    """Ends one hold, or all that people placed here; gives those ended. Raises MachineError."""
    before = read(state)
    at = int(now.timestamp())
    gone = tuple(one for one in before if not one.released and one.until > at and hold in (None, one.id))
    after = [
        msgspec.structs.replace(one, released=max(at, 1), released_by=who) if one in gone else one for one in before
    ]
    if gone:
        said.write(state / NAME, _kept(after, now), noun="hold")
    return gone


def read(state: Path) -> tuple[LocalHold, ...]:
    """Raises MachineError for a file that cannot be read."""
    return said.read(state / NAME, LocalHold, noun="hold", remedy="remove it and hold again")


class HoldBook:
    """Reads all sources of one node; blocking."""

    def __init__(self, state: Path, changes: Changes) -> None:
        self._state = state
        self._changes = changes
        self._local: tuple[LocalHold, ...] = ()

    def look(
        self, measures: Mapping[str, Mapping[str, float] | None], before: Sequence[Hold], now: datetime, time_zone: str
    ) -> tuple[Hold, ...]:
        """What holds now; ``time_zone`` is the site's."""
        changes = self._changes
        found: list[Hold] = []
        try:
            self._local = read(self._state)
        except MachineError as error:
            self._local = ()
            found.append(_unreadable(DAMAGED, str(error), before, now))
        files = {one.file: _text(Path(one.file)) for one in changes.interlocks if one.file is not None}
        schedule = changes.allowed
        try:
            here = now.astimezone(ZoneInfo(changes.time_zone or time_zone))
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            here = now
            if schedule:
                schedule = ()
                found.append(_unreadable("schedule", f"the site's time is not known: {error}", before, now))
        signals = Signals(measures, files)
        return (*found, *held(self._local, schedule, changes.interlocks, signals, here, before))

    def ended(self, hold: Hold) -> str:
        """Why a hold of an earlier look is gone, as of the last one."""
        return ended(hold, self._local)


def _unreadable(name: str, why: str, before: Sequence[Hold], now: datetime) -> Hold:
    since = next((hold.since_ns for hold in before if hold.id == name), int(now.timestamp()) * 10**9)
    return Hold(id=name, kind="local", who="agent", why=why[:500], since_ns=since)


def _text(path: Path) -> str | None:
    """None when it cannot be read at once: a pipe would hold up the round for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return os.read(descriptor, MAX_SIGNAL_BYTES).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    finally:
        os.close(descriptor)


def _kept(holds: Sequence[LocalHold], now: datetime) -> list[LocalHold]:
    """Those that stand, and the last ones that ended."""
    at = now.timestamp()
    stand = [one for one in holds if not one.released and one.until > at]
    over = [one for one in holds if one.released or one.until <= at]
    return [*over[-KEPT_RELEASED:], *stand]


def until(text: str) -> datetime:
    """A moment as people type it, on this machine's clock unless it says its offset. Raises MachineError."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        remedy = 'write it as "2026-11-23 06:00"'
        raise MachineError(f"{text!r} is no time", where="--until", remedy=remedy) from error
