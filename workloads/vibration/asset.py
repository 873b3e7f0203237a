"""What is told of one machine: the vibration asset, built record by record. Decisions only, no clock and no I/O.

Called by ``monitor``. A record in, values to tell out, and whether it raised an alert. A single diagnosis is told as
it is; an *alert* needs the same part in three of the last four records, and ends when four say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from manifests.errors import DocumentError
from manifests.messages import TagType
from workloads.vibration.bearing import Orders
from workloads.vibration.diagnose import Diagnosis, Part, Verdict, diagnose
from workloads.vibration.features import Features, screen
from workloads.vibration.indicators import MIN_TURNS, Indicator, indicators
from workloads.vibration.quality import Effect, Finding, check, refusals
from workloads.vibration.record import Record
from workloads.vibration.trend import Alarm, Judgement, Outlook, Trend, TrendRule, acknowledge, observe, outlook
from workloads.vibration.zones import LIMITS, Limits, Zone, zone

LAST, AGREE = 4, 3
NS_PER_DAY = 86_400e9
DEFAULT_RULE = TrendRule()


@dataclass(frozen=True, slots=True)
class TagPlan:
    """A tag of every machine, or of every bearing; ``unit`` "=" means the record's own."""

    name: str
    type: TagType
    unit: str
    description: str


MACHINE_TAGS = (
    TagPlan("rms", TagType.FLOAT, "=", "RMS over the whole band, mean removed"),
    TagPlan("peak", TagType.FLOAT, "=", "Highest absolute sample"),
    TagPlan("high_rms", TagType.FLOAT, "=", "RMS above 5 kHz"),
    TagPlan("crest", TagType.FLOAT, "", "Peak over RMS"),
    TagPlan("kurtosis", TagType.FLOAT, "", "3 for noise, more for impacts"),
    TagPlan("impulsiveness", TagType.FLOAT, "", "Kurtosis of the whitened envelope"),
    TagPlan("velocity_rms", TagType.FLOAT, "mm/s", "10 to 1000 Hz"),
    TagPlan("iso_zone", TagType.STRING, "", "A to D, or why there is none"),
    TagPlan("alarm", TagType.STRING, "", "Trend against this machine's own baseline"),
    TagPlan("alarm_distance", TagType.FLOAT, "", "Robust standard deviations over the baseline"),
    TagPlan("alert", TagType.STRING, "", "What is confirmed by several records; empty when nothing is"),
    TagPlan("alert_state", TagType.STRING, "", "normal, unacknowledged, acknowledged, or returned unacknowledged"),
    TagPlan("speed", TagType.FLOAT, "rpm", "Speed the last record was judged with"),
    TagPlan("quality", TagType.STRING, "", "What is wrong with the last record; empty when nothing is"),
    TagPlan("records", TagType.INT, "", "Records judged since the start"),
    TagPlan("refused", TagType.INT, "", "Records refused since the start: malformed, or not fit for any figure"),
    TagPlan("lost", TagType.INT, "", "Records that never came or found no room, as far as their numbers tell"),
)
COUNTERS = ("records", "refused", "lost")  # told by whoever takes the records
BEARING_TAGS = (
    TagPlan("fault", TagType.STRING, "", "N, OR, IR, B or FTF"),
    TagPlan("confidence", TagType.FLOAT, "", "In the answer given, 0 to 1"),
    TagPlan("verdict", TagType.STRING, "", "fault, no fault of this bearing, or cannot judge"),
    TagPlan("why", TagType.STRING, "", "The evidence in words"),
)

Value = float | str | None  # None: there is no value now


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetPlan:
    """The fixed part of a machine: its bearings' orders by name, severity limits, rule of its trend, and the level
    (times its baseline) it may reach. ``zone`` is a group or class of ``zones.LIMITS``; ``limits`` of this
    installation come before it. ``teeth`` of a gear on the shaft."""

    bearings: Mapping[str, Orders]
    zone: str | None = None
    limits: Limits | None = None
    rule: TrendRule = DEFAULT_RULE
    may_reach: float | None = None
    mains_hz: float = 50.0
    teeth: int | None = None

    @property
    def severity_limits(self) -> Limits | None:
        return self.limits or (LIMITS[self.zone] if self.zone is not None else None)


@dataclass(frozen=True, slots=True)
class Asset:
    """What is remembered from record to record."""

    rms: Trend = field(default_factory=Trend)
    high: Trend = field(default_factory=Trend)
    recent: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    confirmed: Mapping[str, Part] = field(default_factory=dict)
    raised_ns: int = 0  # when the latest alert was raised, by its record's time
    seen_ns: int = 0  # alerts up to here were acknowledged


@dataclass(frozen=True, slots=True)
class Indicators:
    """Hints at unbalance and its relatives; ``missing`` says why none could be looked for."""

    found: tuple[Indicator, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Remaining:
    """How long until ``feature`` reaches ``factor`` times its baseline, or why that is not said."""

    feature: str
    factor: float | None
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class Told:
    """``values`` by tag name; of bearings ``<bearing>/<tag>``. ``raised`` says what became an alert just now.

    ``zone`` None: ``values["iso_zone"]`` says why. ``indicators`` and ``remaining`` None: the record was refused."""

    asset: Asset
    values: Mapping[str, Value]
    raised: tuple[str, ...]
    diagnoses: Mapping[str, Diagnosis]
    refused: str
    features: Features | None = None
    zone: Zone | None = None
    limits: Limits | None = None
    indicators: Indicators | None = None
    remaining: Remaining | None = None


def tell(plan: AssetPlan, asset: Asset, record: Record, *, days: float, load: float | None = None) -> Told:
    """One record. One that is refused changes nothing that is remembered, and every value says so."""
    findings = check(record)
    refused = refusals(findings, Effect.REFUSED)
    if refused:
        why = "; ".join(one.what for one in refused)
        values: dict[str, Value] = {tag.name: None for tag in MACHINE_TAGS if tag.name not in COUNTERS}
        for name in plan.bearings:
            values |= {f"{name}/{tag.name}": None for tag in BEARING_TAGS}
            values |= {f"{name}/verdict": Verdict.CANNOT_JUDGE.value, f"{name}/why": why}
        return Told(asset, values | {"quality": why}, (), {}, why, limits=plan.severity_limits)
    features = screen(record, findings)
    rms = observe(asset.rms, plan.rule, features.rms, days, rpm=record.rpm, load=load)
    high = observe(asset.high, plan.rule, features.high_rms or 0.0, days, rpm=record.rpm, load=load)
    worst = max((rms, high), key=_urgency)
    diagnoses = {name: diagnose(record, orders) for name, orders in plan.bearings.items()}
    recent, confirmed, raised = dict(asset.recent), dict(asset.confirmed), []
    for name, found in diagnoses.items():
        if found.verdict is Verdict.CANNOT_JUDGE:
            continue  # says nothing, so it neither confirms nor clears
        recent[name] = (*recent.get(name, ()), found.part)[-LAST:]
        before = confirmed.get(name, Part.NONE)
        confirmed[name] = _confirm(before, recent[name])
        if confirmed[name] not in (before, Part.NONE):
            raised.append(f"{name}: {found.why}")
    if worst.changed and worst.alarm is Alarm.ALARM:
        raised.append(f"vibration {worst.distance or 0:.1f} robust deviations over this machine's baseline")
    alert = [f"{name}: {part.value}" for name, part in confirmed.items() if part is not Part.NONE]
    alert += ["vibration level"] if worst.alarm is Alarm.ALARM else []
    severity = _severity(features, plan, record)
    values = {
        **_machine(features, findings),
        "iso_zone": severity.name if isinstance(severity, Zone) else severity,
        "alarm": worst.alarm.value,
        "alarm_distance": worst.distance,
        "alert": "; ".join(alert),
        "speed": record.rpm,
    }
    for name, found in diagnoses.items():
        judged = found.verdict is not Verdict.CANNOT_JUDGE
        values[f"{name}/fault"] = found.part.value if judged else None
        values[f"{name}/confidence"] = found.confidence if judged else None
        values[f"{name}/verdict"] = found.verdict.value
        values[f"{name}/why"] = found.why
    raised_ns = int(days * NS_PER_DAY) if raised else asset.raised_ns
    after = replace(asset, rms=rms.trend, high=high.trend, recent=recent, confirmed=confirmed, raised_ns=raised_ns)
    values["alert_state"] = alert_state(after, standing=bool(alert))
    return Told(
        after,
        values,
        tuple(raised),
        diagnoses,
        "",
        features,
        zone=severity if isinstance(severity, Zone) else None,
        limits=plan.severity_limits,
        indicators=_indicators(plan, record),
        remaining=_remaining(plan, "rms" if worst is rms else "high_rms", worst.trend),
    )


def alert_state(asset: Asset, *, standing: bool) -> str:
    """As alarm systems tell them (ISA-18.2): what nobody has seen stays, also when it has gone again."""
    seen = asset.raised_ns <= asset.seen_ns
    if standing:
        return "acknowledged" if seen else "unacknowledged"
    return "normal" if seen else "returned"


def acknowledged(asset: Asset, until_ns: int) -> Asset:
    """Somebody has seen what was raised up to ``until_ns``; later alerts stay unseen. Twice is harmless."""
    if until_ns <= asset.seen_ns:
        return asset
    if asset.raised_ns > until_ns:
        return replace(asset, seen_ns=until_ns)
    return replace(asset, seen_ns=until_ns, rms=acknowledge(asset.rms), high=acknowledge(asset.high))


_RANK = {Alarm.LEARNING: 0, Alarm.NORMAL: 1, Alarm.LATCHED: 2, Alarm.WARNING: 3, Alarm.ALARM: 4}


def _confirm(before: Part, recent: tuple[Part, ...]) -> Part:
    for part in Part:
        if part is not Part.NONE and recent.count(part) >= AGREE:
            return part
    return Part.NONE if len(recent) == LAST and before not in recent else before


def _urgency(one: Judgement) -> tuple[int, float]:
    return _RANK[one.alarm], one.distance or 0.0


def _severity(features: Features, plan: AssetPlan, record: Record) -> Zone | str:
    """The zone, or why there is none."""
    if features.velocity_mm_s is None:
        return features.velocity_missing
    limits = plan.severity_limits
    if limits is None:
        return "the machine's group or class is not declared"
    try:
        return zone(features.velocity_mm_s, limits, record.rpm)
    except DocumentError as error:
        return "; ".join(problem.what for problem in error.problems)


def _indicators(plan: AssetPlan, record: Record) -> Indicators:
    if record.shaft_hz is None:
        return Indicators((), "the shaft's speed is not known: its multiples cannot be told from other lines")
    if record.turns < MIN_TURNS:
        few = f"{record.turns:.3g} turns are too few to tell multiples of the speed apart: {MIN_TURNS} are needed"
        return Indicators((), few)
    return Indicators(tuple(indicators(record, teeth=plan.teeth, mains_hz=plan.mains_hz)))


def _remaining(plan: AssetPlan, feature: str, trend: Trend) -> Remaining:
    if plan.may_reach is None:
        nobody = "nobody has said how loud this machine may become (trend.mayReach)"
        return Remaining(feature, None, Outlook(None, None, None, nobody))
    return Remaining(feature, plan.may_reach, outlook(trend, plan.may_reach))


def _machine(features: Features, findings: list[Finding]) -> dict[str, Value]:
    return {
        "rms": features.rms,
        "peak": features.peak,
        "high_rms": features.high_rms,
        "crest": features.crest,
        "kurtosis": features.kurtosis,
        "impulsiveness": features.impulsiveness,
        "velocity_rms": features.velocity_mm_s,
        "quality": "; ".join(one.what for one in findings if one.kind not in ("unit", "no-speed")),
    }
