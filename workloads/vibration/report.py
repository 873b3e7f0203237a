"""Findings as JSON: the shapes of the command line and of the evidence that is kept.

Called by ``cli`` and ``monitor``. The keys are a promise to whoever reads them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from workloads.vibration.diagnose import Diagnosis
from workloads.vibration.features import Features
from workloads.vibration.quality import Finding
from workloads.vibration.zones import Zone


def features_json(features: Features) -> dict[str, Any]:
    return dataclasses.asdict(features)


def finding_json(one: Finding) -> dict[str, Any]:
    return {"kind": one.kind, "effect": one.effect.value, "what": one.what, "remedy": one.remedy}


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """``fault`` and ``confidence``, and all that speaks for them."""
    return {
        "fault": found.part.value,
        "confidence": round(found.confidence, 4),
        "verdict": found.verdict.value,
        "why": found.why,
        "severity": found.severity or None,
        "nearest": found.nearest.value,
        "shaft_hz": round(found.shaft_hz, 4),
        "measured_shaft_hz": round(found.measured_shaft_hz, 4),
        "lines": [dataclasses.asdict(line) for line in found.lines],
        "parts": {
            part.value: {
                "margin": round(fit.margin, 3),
                "score": round(fit.score, 3),
                "best_decoy": round(fit.decoy, 3),
                "over_relatives": round(fit.relative, 3),
                "order": round(fit.order, 4),
            }
            for part, fit in found.fits.items()
        },
        "quality": [finding_json(one) for one in found.findings],
    }


def zone_json(found: Zone) -> dict[str, Any]:
    return {
        "zone": found.name,
        "velocity_mm_s": found.velocity_mm_s,
        "edition": found.limits.edition,
        "machine": found.limits.machine,
        "limits_mm_s": [found.limits.a_b, found.limits.b_c, found.limits.c_d],
    }


def plain(value: Any) -> Any:
    """JSON has no word for NaN and infinity: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
