"""What people at a site consent to: that an instance may be stopped (class control), or set back to a version older
than what it may return to by itself, on the centre's word.

Whoever can run commands as the agent's user on the node owns the node; what is written here proves presence at the
site, not identity. ``cli`` writes, the trust store asks. A consent ends by itself, so that one given for today's work
does not open the door next year.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from agent import said
from manifests.errors import MachineError

NAME = "consent.json"
LONGEST = timedelta(days=7)


class LocalConsent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``given`` and ``until``: seconds since the Unix epoch."""

    instance: str
    who: str
    why: Annotated[str, Meta(min_length=1, max_length=500)]
    given: int
    until: int


def give(state: Path, instance: str, *, who: str, why: str, now: datetime, lasts: timedelta) -> LocalConsent:
    """Replaces an earlier consent for the same instance. Raises MachineError."""
    if not timedelta() < lasts <= LONGEST:
        raise MachineError(f"a consent lasts up to {LONGEST.days} days", where="--for", remedy="give a shorter time")
    if not why.strip():
        raise MachineError("a consent needs its reason", where="--why", remedy="say why the instance may stop")
    given = LocalConsent(
        instance=instance,
        who=who,
        why=why.strip()[:500],
        given=int(now.timestamp()),
        until=int((now + lasts).timestamp()),
    )
    kept = [one for one in read(state) if one.instance != instance and one.until > now.timestamp()]
    said.write(state / NAME, [*kept, given], noun="consent")
    return given


def withdraw(state: Path, instance: str) -> bool:
    """False when there was none."""
    before = read(state)
    kept = [one for one in before if one.instance != instance]
    if len(kept) != len(before):
        said.write(state / NAME, kept, noun="consent")
    return len(kept) != len(before)


def read(state: Path) -> tuple[LocalConsent, ...]:
    """Raises MachineError for a damaged file: then nothing is consented, and an operator is told why."""
    return said.read(state / NAME, LocalConsent, noun="consent", remedy="remove it and consent again")


def consented(state: Path, now: datetime | None = None) -> frozenset[str]:
    """The instances that may stop now; none when the file cannot be read, because silence is no consent."""
    at = (now or datetime.now(UTC)).timestamp()
    try:
        return frozenset(one.instance for one in read(state) if one.given - 600 <= at < one.until)
    except MachineError:
        return frozenset()
