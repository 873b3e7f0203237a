"""The site's "not now": what keeps new generations out, said by a person, a schedule, or a signal of the plant. Pure.

While anything holds, a node adopts no new generation, and stops or replaces nothing that runs; it goes on verifying
and fetching, so that nothing is missing when it may. What runs is looked after as ever: restarts of it, and the live
parameters of the generation in force, which an operator turns like a knob within the signed range. No time-out ends a
hold. It ends by itself (its time, its window, its signal), by people at the site, or for one generation by one
signature of OT and one of IT.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal, TypeGuard

import msgspec
from msgspec import Meta

from manifests.configuration import without_live
from manifests.messages import Hold
from manifests.model import DesiredState, Name, PlacedInstance

Weekday = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
WEEK: tuple[Weekday, ...] = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
Clock = Annotated[str, Meta(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$", description="HH:MM")]
_FAR_DAYS = 8  # a week, and the window that may reach into it


# ---------------------------------------------------------------- as written in agent.yaml


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of the parts of ``changes``."""


class Window(_Part, frozen=True):
    """When changes are allowed, in the site's time. ``to`` at or before ``from`` reaches into the next day."""

    from_: Clock = msgspec.field(name="from", default="00:00")
    to: Clock = "24:00"
    days: tuple[Weekday, ...] = WEEK


class Interlock(_Part, frozen=True):
    """A signal of the plant: a measure that an instance tells of itself, or the text of a file such as a GPIO value.

    An instance that the generation in force does not place on this node has no say.
    """

    instance: Name | None = None
    measure: Annotated[str, Meta(max_length=100)] | None = None
    hold_above: float | None = None
    hold_below: float | None = None
    file: Annotated[str, Meta(min_length=1)] | None = None
    hold_when: str | None = None
    on_silence: Literal["hold", "free"] = "hold"
    why: Annotated[str, Meta(max_length=200)] = ""

    def __post_init__(self) -> None:
        told = self.instance is not None and self.measure is not None
        if told == (self.file is not None):
            raise ValueError("an interlock names either an instance and its measure, or a file")
        if told and self.hold_above is None and self.hold_below is None:
            raise ValueError("an interlock on a measure needs holdAbove or holdBelow")
        if not told and self.hold_when is None:
            raise ValueError("an interlock on a file needs holdWhen, the text that holds")

    @property
    def source(self) -> str:
        return self.file if self.file is not None else f"{self.instance} {self.measure}"

    @property
    def id(self) -> str:
        """The same for the same source, and fit for a path."""
        name = f"interlock-{re.sub(r'[^a-z0-9]+', '-', self.source.lower()).strip('-')}"
        if len(name) <= 50:
            return name
        return f"{name[:50]}-{hashlib.sha256(self.source.encode()).hexdigest()[:8]}"


class Changes(_Part, frozen=True):
    """When new generations may go in. ``allowed`` empty: always. ``time_zone``: instead of the site's signed one."""

    allowed: tuple[Window, ...] = ()
    interlocks: tuple[Interlock, ...] = ()
    time_zone: str = ""


# ---------------------------------------------------------------- what people say


class LocalHold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``since``, ``until`` and ``released``: seconds since the Unix epoch; ``released`` 0: it stands."""

    id: str
    who: str
    why: Annotated[str, Meta(min_length=1, max_length=500)]
    since: int
    until: int
    released: int = 0
    released_by: str = ""


@dataclass(frozen=True, slots=True)
class Signals:
    """What the plant says now. ``measures``: instance to what it tells, None while it is silent; instances that are
    not placed here are missing. ``files``: path to text, None when it cannot be read."""

    measures: Mapping[str, Mapping[str, float] | None] = field(default_factory=dict)
    files: Mapping[str, str | None] = field(default_factory=dict)


# ---------------------------------------------------------------- the decision


def held(
    local: Sequence[LocalHold],
    schedule: Sequence[Window],
    interlocks: Sequence[Interlock],
    signals: Signals,
    now: datetime,
    before: Sequence[Hold] = (),
) -> tuple[Hold, ...]:
    """Everything that says "not now". ``now`` in the site's own time zone; ``before`` keeps what stood at the last
    look, for since when an interlock holds."""
    found = [_said(one) for one in local if not one.released and now.timestamp() < one.until]
    closed = _closed(schedule, now)
    if closed is not None:
        found.append(closed)
    since = {hold.id: hold.since_ns for hold in before}
    for one in interlocks:
        why = _locked(one, signals)
        if why:
            found.append(
                Hold(id=one.id, kind="interlock", who=one.source, why=why, since_ns=since.get(one.id, _ns(now)))
            )
    return tuple({hold.id: hold for hold in found}.values())


def ended(hold: Hold, local: Sequence[LocalHold]) -> str:
    """Why a hold that stood no longer does."""
    said = next((one for one in local if one.id == hold.id), None)
    if said is not None and said.released:
        return f"released by {said.released_by}"
    return {"local": "its time is over", "schedule": "changes are allowed again"}.get(hold.kind, "its signal let go")


def goes_on(current: DesiredState | None, candidate: DesiredState) -> bool:
    """Whether ``candidate`` is the generation in force, live parameters aside: that is no change to hold back.

    A new revision must prove it by its content: the number alone is the centre's word.
    """
    if current is None or current.facts.generation != candidate.facts.generation:
        return False
    return _fixed(current) == _fixed(candidate)


def in_the_way(holds: Sequence[Hold], generation: int) -> tuple[Hold, ...]:
    """The holds that nobody broke for this generation."""
    return tuple(hold for hold in holds if generation not in hold.broken)


def words(hold: Hold) -> str:
    until = f" until {_moment(hold.until_ns)}" if hold.until_ns else ""
    return f"{hold.who}{until}: {hold.why} ({hold.id})"


# ---------------------------------------------------------------- parts of it


def _fixed(state: DesiredState) -> tuple[object, ...]:
    facts = state.facts
    return (facts.site, facts.enterprise, facts.time_zone, *(_fixed_part(placed) for placed in state.instances))


def _fixed_part(placed: PlacedInstance) -> tuple[object, ...]:
    instance = placed.instance
    config = without_live(instance.config, placed.release.config_schema)
    return (instance.name, instance.node, placed.release_digest, msgspec.json.encode(config, order="sorted"))


def _said(one: LocalHold) -> Hold:
    return Hold(
        id=one.id, kind="local", who=one.who, why=one.why, since_ns=one.since * 10**9, until_ns=one.until * 10**9
    )


def _closed(schedule: Sequence[Window], now: datetime) -> Hold | None:
    if not schedule:
        return None
    open_at = sorted(
        span
        for window in schedule
        for number in range(-_FAR_DAYS, _FAR_DAYS + 1)
        if (span := _span(window, (now + timedelta(days=number)).date(), now)) is not None
    )
    if any(begin <= now < end for begin, end in open_at):
        return None
    since = max((end for _, end in open_at if end <= now), default=now)
    until = min((begin for begin, _ in open_at if begin > now), default=None)
    why = "outside the times in which agent.yaml allows changes"
    return Hold(
        id="schedule",
        kind="schedule",
        who="schedule",
        why=why,
        since_ns=_ns(since),
        until_ns=_ns(until) if until else 0,
    )


def _span(window: Window, day: date, now: datetime) -> tuple[datetime, datetime] | None:
    """The window that opens on ``day``, on the site's clock: daylight saving moves it with the people."""
    if WEEK[day.weekday()] not in window.days:
        return None
    begin = _at(day, window.from_, now)
    end = _at(day, window.to, now)
    return begin, end if end > begin else _at(day + timedelta(days=1), window.to, now)


def _at(day: date, text: str, now: datetime) -> datetime:
    hours, _, minutes = text.partition(":")
    whole, hour = divmod(int(hours), 24)
    return datetime.combine(day + timedelta(days=whole), time(hour, int(minutes)), now.tzinfo)


def _locked(one: Interlock, signals: Signals) -> str:
    """Why this interlock holds; empty when it does not."""
    silent = "silent, and silence holds" if one.on_silence == "hold" else ""
    if one.file is not None:
        text = signals.files.get(one.file)
        if text is None:
            return _why(one, silent)
        return _why(one, f"it reads {text}") if text == one.hold_when else ""
    instance, measure = one.instance or "", one.measure or ""
    if instance not in signals.measures:
        return ""
    value = (signals.measures[instance] or {}).get(measure)
    if not _number(value):
        return _why(one, silent)
    over = one.hold_above is not None and value > one.hold_above
    under = one.hold_below is not None and value < one.hold_below
    return _why(one, f"it is {value:g}") if over or under else ""


def _number(value: float | None) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)


def _why(one: Interlock, what: str) -> str:
    return f"{one.why}: {what}" if one.why and what else what


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9


def _moment(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%d %H:%M} UTC"
