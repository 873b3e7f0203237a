"""Is this machine louder than it used to be? A baseline of its own, learnt per operating state, and alarms with memory.

Called by the workload for each feature of each machine. Pure: time is a value, states go in and come out. It refuses
to alarm while it learns and directly afterwards, and to foretell a remaining life that the data does not show.

Statistics are robust: levels are natural logarithms (vibration multiplies, it does not add), the centre is the median,
the width is 1.4826 MAD. With ``sigmas`` 6 and five of the last seven snapshots above it, Gaussian logs give a false
alarm in less than one of 10^30 snapshots; real machines have wider tails, which is why the width has a floor of 6 %
and the count of snapshots does the rest. ``false_alarm_rate`` states the figure of any setting.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

MAX_STATES = 64


class Alarm(enum.Enum):
    """``LATCHED``: it is quiet again, but nobody has acknowledged that it was not."""

    LEARNING = "learning"
    NORMAL = "normal"
    WARNING = "warning"
    ALARM = "alarm"
    LATCHED = "latched"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendRule:
    """``learn``: snapshots a state's baseline is made of. Alarm when ``of_last`` snapshots hold ``sustained`` above
    ``sigmas``; it falls back when the median of them is below ``release`` sigmas (hysteresis).

    ``settle`` snapshots after learning never alarm. Speed bins are ``speed_step`` rpm wide, loads ``load_step``.
    """

    learn: int = 40
    settle: int = 7
    warning_sigmas: float = 4.0
    sigmas: float = 6.0
    release: float = 3.0
    sustained: int = 5
    of_last: int = 7
    least_width: float = 0.06
    speed_step: float = 150.0
    load_step: float = 0.25


@dataclass(frozen=True, slots=True)
class Baseline:
    """Median and robust width of the log level in one operating state; ``count`` snapshots made it."""

    centre: float
    width: float
    count: int


@dataclass(frozen=True, slots=True)
class StateTrend:
    """One operating state of one feature: ``learnt`` while learning, ``recent`` distances in sigmas afterwards."""

    learnt: tuple[float, ...] = ()
    baseline: Baseline | None = None
    since: int = 0
    recent: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Trend:
    """All that is remembered of one feature of one machine; store it as it is."""

    states: dict[tuple[int, int], StateTrend] = field(default_factory=dict)
    alarm: Alarm = Alarm.LEARNING
    acknowledged: bool = True
    history: tuple[tuple[float, float], ...] = ()  # (days, log level over baseline), thinned


@dataclass(frozen=True, slots=True)
class Judgement:
    """``distance`` in robust sigmas over the baseline; None while learning or when the state has no baseline yet."""

    trend: Trend
    alarm: Alarm
    distance: float | None
    state: tuple[int, int]
    changed: bool


def operating_state(rule: TrendRule, rpm: float | None, load: float | None) -> tuple[int, int]:
    """The bin of speed and load; an unknown one has a bin of its own (-1)."""
    speed = -1 if rpm is None or not math.isfinite(rpm) else round(rpm / rule.speed_step)
    return speed, -1 if load is None or not math.isfinite(load) else round(load / rule.load_step)


def observe(
    trend: Trend, rule: TrendRule, level: float, days: float, *, rpm: float | None = None, load: float | None = None
) -> Judgement:
    """One snapshot: ``level`` > 0 in any unit, at ``days`` on any clock that does not go back.

    A level that is no positive number leaves everything as it is.
    """
    state = operating_state(rule, rpm, load)
    if not (math.isfinite(level) and level > 0):
        return Judgement(trend, trend.alarm, None, state, False)
    known = trend.states.get(state, StateTrend())
    logged = math.log(level)
    if known.baseline is None:
        if state not in trend.states and len(trend.states) >= MAX_STATES:
            return Judgement(trend, trend.alarm, None, state, False)
        learnt = (*known.learnt, logged)
        ready = len(learnt) >= rule.learn
        now = StateTrend((), learn(learnt, rule), 0, ()) if ready else StateTrend(learnt)
        alarm = Alarm.NORMAL if ready and trend.alarm is Alarm.LEARNING else trend.alarm
        after = replace(trend, states={**trend.states, state: now}, alarm=alarm)
        return Judgement(after, alarm, None, state, alarm is not trend.alarm)
    distance = (logged - known.baseline.centre) / known.baseline.width
    recent = (*known.recent, distance)[-rule.of_last :]
    now = replace(known, recent=recent, since=known.since + 1)
    alarm = trend.alarm if now.since <= rule.settle else _next(trend, rule, recent)
    raised = alarm is Alarm.ALARM and trend.alarm is not Alarm.ALARM
    after = Trend(
        {**trend.states, state: now},
        alarm,
        trend.acknowledged and not raised,
        _remember(trend.history, days, logged - known.baseline.centre),
    )
    return Judgement(after, alarm, distance, state, alarm is not trend.alarm)


def learn(learnt: Sequence[float], rule: TrendRule) -> Baseline:
    """The baseline of log levels; its width is never below ``least_width``."""
    centre = _median(learnt)
    width = 1.4826 * _median([abs(value - centre) for value in learnt])
    return Baseline(centre, max(width, rule.least_width), len(learnt))


def _next(trend: Trend, rule: TrendRule, recent: Sequence[float]) -> Alarm:
    above = sum(distance > rule.sigmas for distance in recent)
    warned = sum(distance > rule.warning_sigmas for distance in recent)
    if above >= rule.sustained:
        return Alarm.ALARM
    quiet = len(recent) >= rule.sustained and _median(recent) < rule.release
    if trend.alarm is Alarm.ALARM and not quiet:
        return Alarm.ALARM
    if trend.alarm in (Alarm.ALARM, Alarm.LATCHED) and not trend.acknowledged:
        return Alarm.LATCHED
    if warned >= rule.sustained or (trend.alarm is Alarm.WARNING and not quiet):
        return Alarm.WARNING
    return Alarm.NORMAL


def acknowledge(trend: Trend) -> Trend:
    """Somebody has seen it: a latched alarm ends, a standing one stands but will not latch."""
    alarm = Alarm.NORMAL if trend.alarm is Alarm.LATCHED else trend.alarm
    return replace(trend, alarm=alarm, acknowledged=True)


def relearn(trend: Trend) -> Trend:
    """After a repair: baselines and history are forgotten."""
    return Trend()


def false_alarm_rate(rule: TrendRule) -> float:
    """Chance per snapshot that Gaussian log levels, independent, stand in alarm: the figure to state with a rule."""
    single = 0.5 * math.erfc(rule.sigmas / math.sqrt(2))
    return sum(
        math.comb(rule.of_last, k) * single**k * (1 - single) ** (rule.of_last - k)
        for k in range(rule.sustained, rule.of_last + 1)
    )


@dataclass(frozen=True, slots=True)
class Outlook:
    """Days until ``limit`` is reached, with the 80 % range; None with the reason when it would be guessing."""

    days: float | None
    earliest: float | None
    latest: float | None
    why: str


def outlook(trend: Trend, limit_over_baseline: float) -> Outlook:
    """Remaining time until the level reaches ``limit_over_baseline`` times its baseline, by the exponential trend.

    Honest only while the machine is in alarm or warning, the rise is significant (slope above three standard errors,
    Theil-Sen), and the answer lies within three times the span it is drawn from.
    """
    if trend.alarm not in (Alarm.WARNING, Alarm.ALARM):
        return Outlook(None, None, None, "the level stands within its own band: there is no rise to extrapolate")
    points = trend.history[-120:]
    if len(points) < 20:
        return Outlook(None, None, None, f"{len(points)} snapshots are too few, 20 are needed")
    slopes = sorted(
        (b[1] - a[1]) / (b[0] - a[0]) for i, a in enumerate(points) for b in points[i + 1 :] if b[0] - a[0] > 1e-9
    )
    if not slopes:
        return Outlook(None, None, None, "all snapshots are of one moment")
    slope = _median(slopes)
    span = points[-1][0] - points[0][0]
    start = _median([y - slope * x for x, y in points])
    spread = 1.4826 * _median([abs(y - slope * x - start) for x, y in points])
    error = spread * math.sqrt(12 / len(points)) / span
    if slope < 3 * error or slope <= 0:
        return Outlook(None, None, None, "the level does not rise beyond its scatter")
    to_go = math.log(limit_over_baseline) - (start + slope * points[-1][0])
    if to_go <= 0:
        return Outlook(0.0, 0.0, 0.0, "the limit is reached")
    days, earliest, latest = (to_go / (slope + z * error) for z in (0.0, 1.28, -1.28))
    if days > 3 * span:
        return Outlook(None, None, None, f"further away than three times the {_span(span)} it is drawn from")
    return Outlook(days, earliest, latest, f"exponential trend over {_span(span)}")


def _span(days: float) -> str:
    """In the unit that leaves two or three digits."""
    if days >= 3:
        return f"{days:.3g} days"
    return f"{24 * days:.3g} hours" if days >= 0.125 else f"{1440 * days:.3g} minutes"


def _remember(history: tuple[tuple[float, float], ...], days: float, over: float) -> tuple[tuple[float, float], ...]:
    """At most 240 points: when full, every second of the older half is dropped."""
    if len(history) >= 240:
        history = history[:120:2] + history[120:]
    return (*history, (days, over))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])
