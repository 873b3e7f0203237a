"""Findings as tables for other systems: CSV, Parquet, and the names of MIMOSA OSA-CBM.

Called by the command line (``export``). One row per bearing and file, after the data product; ``mimosa`` is a CSV of
data events whose columns and codes follow MIMOSA OSA-EAI / OSA-CBM 3.3.1 (names only: no XML, no database keys).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from workloads.vibration.product import VibrationAsset, flat

Row = Mapping[str, str | float | int | None]
# Data product -> (measurement location type, engineering unit) as MIMOSA calls them.
MEASURES = {
    "rms": ("Vibration, overall RMS", None),
    "peak": ("Vibration, true peak", None),
    "crest": ("Vibration, crest factor", "1"),
    "kurtosis": ("Vibration, kurtosis", "1"),
    "high_rms": ("Vibration, high frequency band RMS", None),
    "velocity_mm_s": ("Vibration velocity, overall RMS 10-1000 Hz", "mm/s"),
}
# ISO 13374-2 / OSA-CBM health grades by severity zone.
GRADES = {"A": 1.0, "B": 0.75, "C": 0.4, "D": 0.1}
# Proposed events (OSA-CBM "amb_item_event"): what is damaged, in words.
EVENTS = {
    "OR": "Rolling element bearing, outer ring damage",
    "IR": "Rolling element bearing, inner ring damage",
    "B": "Rolling element bearing, rolling element damage",
    "FTF": "Rolling element bearing, cage damage",
}


def rows(documents: Sequence[VibrationAsset]) -> list[Row]:
    return [row for document in documents for row in flat(document)]


def csv_text(table: Sequence[Row]) -> str:
    """Columns of the first row; None is an empty field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(table[0]) if table else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


def mimosa(documents: Sequence[VibrationAsset]) -> list[Row]:
    """Per document: numeric measurements (DA/DM), the health of the asset (HA), proposed events (state, diagnosis)."""
    found: list[Row] = []
    for document in documents:
        base = {"asset_id": document.asset or document.machine, "gmt_event": _time(document.start_ns)}

        def event(block: str, name: str, value: float | None = None, unit: str | None = None, **more: object) -> None:
            row: dict[str, str | float | int | None] = {
                **base,  # noqa: B023  # used up within this turn
                "osacbm_block": block,
                "meas_loc_type": name,
                "data_value": value,
                "eng_unit_type": unit,
                "item_id": "",
                "hlth_grade": None,
                "confidence": None,
                "remark": "",
            }
            row.update(more)  # type: ignore[arg-type]  # keys and kinds as above
            found.append(row)

        for row in flat(document)[:1]:
            for key, (name, unit) in MEASURES.items():
                value = row[key]
                if isinstance(value, float):
                    event("DMReal", name, value, unit or document.unit)
        if document.severity.zone is not None:
            event("HAItem", "Vibration severity", hlth_grade=GRADES[document.severity.zone],
                  remark=f"zone {document.severity.zone}")  # fmt: skip
        for one in document.bearings:
            if one.fault in EVENTS:
                event("AmbiguitySet", EVENTS[one.fault], item_id=one.bearing, confidence=one.confidence,
                      remark=one.why)  # fmt: skip
    return found


def _time(start_ns: int | None) -> str:
    return "" if start_ns is None else datetime.fromtimestamp(start_ns / 1e9, UTC).isoformat(timespec="milliseconds")
