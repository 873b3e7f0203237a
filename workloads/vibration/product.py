"""The data product ``VibrationAsset``: all that is known of one machine, as one JSON document.

Built by ``monitor`` after each record, told on ``<machine>/vibration_asset`` and answered to inquiries. Its JSON Schema
is a promise (``docs/vibration-asset.schema.json``): keys may be added, never change their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from workloads.vibration.asset import Told
from workloads.vibration.diagnose import Diagnosis, Verdict
from workloads.vibration.record import Record

SCHEMA = "sluice/vibration-asset/v1"


class Product(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class EvidenceLine(Product, frozen=True):
    """A line of the envelope spectrum: dB over its surroundings, depth 1 = full modulation."""

    name: str
    order: float
    hz: float
    above_db: float
    depth: float


class BearingFinding(Product, frozen=True):
    """``fault``: N, OR, IR, B, FTF; null when the verdict is "cannot judge"."""

    bearing: str
    verdict: str
    fault: str | None
    confidence: float | None
    severity: str | None
    why: str
    lines: tuple[EvidenceLine, ...] = ()


class Severity(Product, frozen=True):
    """``zone`` A to D; null with the reason in ``why``. ``limitsMmS``: upper ends of zones A, B and C of ``edition``
    for machines as in ``machineGroup``; null where the group is not declared."""

    velocity_mm_s: float | None
    zone: str | None
    why: str
    edition: str | None = None
    machine_group: str | None = None
    limits_mm_s: tuple[float, float, float] | None = None


class Indicator(Product, frozen=True):
    """A hint to look, never a diagnosis: ``strength`` 0 to 1, and what it rests on."""

    name: str
    strength: float
    evidence: str


class Remaining(Product, frozen=True):
    """Days until ``feature`` reaches ``factor`` times its baseline, with the 80 % range; 0 when it is there already.

    ``days`` null: ``why`` says what is missing for an honest answer."""

    feature: str
    factor: float | None
    days: float | None
    earliest_days: float | None
    latest_days: float | None
    why: str


class Level(Product, frozen=True):
    """In ``unit`` of the asset; ``highRms`` above 5 kHz."""

    rms: float
    peak: float
    crest: float
    kurtosis: float
    impulsiveness: float
    high_rms: float | None


class VibrationAsset(Product, frozen=True):
    """One machine after its last record. ``alarm`` against its own baseline, in robust deviations."""

    schema: str
    asset: str
    machine: str
    record: str
    start_ns: int | None
    rate_hz: float
    samples: int
    unit: str | None
    rpm: float | None
    quality: str
    level: Level | None
    severity: Severity
    alarm: str | None
    alarm_distance: float | None
    alert: str
    alert_state: str
    bearings: tuple[BearingFinding, ...]
    indicators: tuple[Indicator, ...] = ()
    indicators_missing: str = ""
    remaining: Remaining | None = None


def product(topic: str, machine: str, name: str, record: Record, told: Told) -> VibrationAsset:
    features, values = told.features, told.values
    zone, limits, signs = told.zone, told.limits, told.indicators
    distance = values.get("alarm_distance")
    return VibrationAsset(
        schema=SCHEMA,
        asset=topic,
        machine=machine,
        record=name,
        start_ns=record.start_ns,
        rate_hz=record.rate_hz,
        samples=len(record.samples),
        unit=record.unit.value if record.unit is not None else None,
        rpm=record.rpm,
        quality=str(values.get("quality") or ""),
        level=None
        if features is None
        else Level(
            rms=features.rms,
            peak=features.peak,
            crest=features.crest,
            kurtosis=features.kurtosis,
            impulsiveness=features.impulsiveness,
            high_rms=features.high_rms,
        ),
        severity=Severity(
            velocity_mm_s=features.velocity_mm_s if features is not None else None,
            zone=zone.name if zone is not None else None,
            why="" if zone is not None else str(values.get("iso_zone") or told.refused),
            edition=limits.edition if limits is not None else None,
            machine_group=limits.machine if limits is not None else None,
            limits_mm_s=(limits.a_b, limits.b_c, limits.c_d) if limits is not None else None,
        ),
        alarm=values["alarm"] if isinstance(values.get("alarm"), str) else None,  # type: ignore[arg-type]  # just looked
        alarm_distance=distance if isinstance(distance, float) else None,
        alert=str(values.get("alert") or ""),
        alert_state=str(values.get("alert_state") or ""),
        bearings=tuple(_bearing(bearing, found) for bearing, found in told.diagnoses.items()),
        indicators=tuple(
            Indicator(name=one.name, strength=one.strength, evidence=one.evidence)
            for one in (signs.found if signs is not None else ())
        ),
        indicators_missing=signs.missing if signs is not None else told.refused,
        remaining=_remaining(told),
    )


def _remaining(told: Told) -> Remaining | None:
    if told.remaining is None:
        return None
    found = told.remaining.outlook
    return Remaining(
        feature=told.remaining.feature,
        factor=told.remaining.factor,
        days=found.days,
        earliest_days=found.earliest,
        latest_days=found.latest,
        why=found.why,
    )


def _bearing(name: str, found: Diagnosis) -> BearingFinding:
    judged = found.verdict is not Verdict.CANNOT_JUDGE
    return BearingFinding(
        bearing=name,
        verdict=found.verdict.value,
        fault=found.part.value if judged else None,
        confidence=round(found.confidence, 4) if judged else None,
        severity=found.severity or None,
        why=found.why,
        lines=tuple(
            EvidenceLine(name=one.name, order=one.order, hz=one.hz, above_db=one.above, depth=one.depth)
            for one in found.lines
        ),
    )


def schema() -> dict[str, Any]:
    """JSON Schema of the document."""
    return msgspec.json.schema(VibrationAsset)


def flat(document: VibrationAsset) -> list[dict[str, str | float | int | None]]:
    """One row per bearing (one in all without bearings), for tables."""
    base: dict[str, Any] = {
        key: getattr(document, key)
        for key in ("asset", "machine", "record", "start_ns", "rate_hz", "samples", "unit", "rpm", "quality",
                    "alarm", "alarm_distance", "alert", "alert_state")
    }  # fmt: skip
    level = document.level
    for key in ("rms", "peak", "crest", "kurtosis", "impulsiveness", "high_rms"):
        base[key] = getattr(level, key) if level is not None else None
    severity = document.severity
    base |= {"velocity_mm_s": severity.velocity_mm_s, "zone": severity.zone, "zone_edition": severity.edition}
    none = {"bearing": None, "verdict": None, "fault": None, "confidence": None, "severity": None, "why": None}
    found: Sequence[dict[str, Any]] = [{key: getattr(one, key) for key in none} for one in document.bearings] or [none]
    return [base | one for one in found]
