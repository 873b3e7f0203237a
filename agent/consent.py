"""What people at a site consent to: that instances of class control may be stopped on the centre's word.

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

from agent.folders import disk_errors, write_file
from manifests.errors import MachineError

NAME = "consent.json"
MAX_BYTES = 256 << 10
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
    said = LocalConsent(
        instance=instance,
        who=who,
        why=why.strip()[:500],
        given=int(now.timestamp()),
        until=int((now + lasts).timestamp()),
    )
    kept = [one for one in read(state) if one.instance != instance and one.until > now.timestamp()]
    _write(state, [*kept, said])
    return said


def withdraw(state: Path, instance: str) -> bool:
    """False when there was none."""
    before = read(state)
    kept = [one for one in before if one.instance != instance]
    if len(kept) != len(before):
        _write(state, kept)
    return len(kept) != len(before)


def read(state: Path) -> tuple[LocalConsent, ...]:
    """Raises MachineError for a damaged file: then nothing is consented, and an operator is told why."""
    path = state / NAME
    with disk_errors("cannot read the consents", path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return ()
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        return msgspec.json.decode(data, type=tuple[LocalConsent, ...])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MachineError(f"cannot be read: {error}", where=str(path), remedy="remove it and consent again") from error


def consented(state: Path, now: datetime | None = None) -> frozenset[str]:
    """The instances that may stop now; none when the file cannot be read, because silence is no consent."""
    at = (now or datetime.now(UTC)).timestamp()
    try:
        return frozenset(one.instance for one in read(state) if one.given - 600 <= at < one.until)
    except MachineError:
        return frozenset()


def _write(state: Path, consents: list[LocalConsent]) -> None:
    with disk_errors("cannot keep the consent", state / NAME):
        write_file(state / NAME, msgspec.json.format(msgspec.json.encode(consents), indent=1))
