"""The records that raised alerts, kept on the node in a ring until somebody asks for them.

Called by ``monitor``: ``keep`` with each alert, ``pieces`` and ``listed`` when the centre inquires. Each record is one
binary block (``sources.block``) with its findings as JSON beside it. Bounded by number and by bytes; the oldest go.
Records of hundreds of kilobytes leave the node only on demand, in pieces, as 16-bit counts unless asked otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manifests.errors import DocumentError, Problem
from workloads.vibration.asset import Told
from workloads.vibration.record import Record
from workloads.vibration.report import diagnosis_json, plain
from workloads.vibration.sources.block import pack, unpack

SUFFIX = ".svb1"
PIECE_BYTES = 900_000  # of the 1 MB an answer may have
FULL_COUNTS = 32_000
MEDIA = "application/vnd.sluice.vibration-record"


@dataclass(frozen=True, slots=True)
class Ring:
    """``keep`` records in at most ``keep_bytes``."""

    folder: Path
    keep: int
    keep_bytes: int

    def put(self, machine: str, name: str, record: Record, told: Told) -> str:
        """Keep a record; its id. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known = f"{_safe(machine)}-{record.start_ns or 0}"
        summary = {
            "id": known,
            "machine": machine,
            "record": name,
            "rate_hz": record.rate_hz,
            "rpm": record.rpm,
            "unit": record.unit.value if record.unit is not None else None,
            "start_ns": record.start_ns,
            "samples": len(record.samples),
            "alerts": list(told.raised),
            "diagnoses": {bearing: diagnosis_json(found) for bearing, found in told.diagnoses.items()},
        }
        path = self.folder / f"{known}{SUFFIX}"
        path.write_bytes(_packed(record, "float32"))
        path.with_suffix(".json").write_text(json.dumps(plain(summary)))
        self._forget()
        return known

    def _forget(self) -> None:
        kept = sorted(self.folder.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime_ns, reverse=True)
        room = self.keep_bytes
        for place, path in enumerate(kept):
            room -= path.stat().st_size
            if place >= self.keep or room < 0:
                path.unlink(missing_ok=True)
                path.with_suffix(".json").unlink(missing_ok=True)

    def listed(self, machine: str | None = None) -> list[dict[str, Any]]:
        """Summaries, newest first."""
        found = []
        for path in sorted(self.folder.glob("*.json"), key=lambda one: one.stat().st_mtime_ns, reverse=True):
            try:
                summary = json.loads(path.read_text())
            except (OSError, ValueError):
                continue  # being replaced, or damaged: the others are still evidence
            if machine is None or summary.get("machine") == machine:
                found.append(summary)
        return found

    def pieces(self, known: str, layout: str) -> Iterator[bytes]:
        """One record in pieces that fit an answer; joined they are one binary block. Raises DocumentError."""
        path = self.folder / f"{known}{SUFFIX}"
        if _safe(known) != known or not path.is_file():
            raise DocumentError([Problem("evidence", "id", f'no record "{known[:100]}" is kept', "ask for the list")])
        whole = path.read_bytes()
        if layout == "int16":
            heard = unpack(whole, path.name)
            whole = _packed(
                Record(
                    samples=heard.channels[:, 0],
                    rate_hz=heard.rate_hz or 0.0,
                    unit=heard.unit,
                    rpm=heard.rpm,
                    start_ns=heard.start_ns,
                    overload=heard.overload,
                ),
                layout,
            )
        for begin in range(0, len(whole), PIECE_BYTES):
            yield whole[begin : begin + PIECE_BYTES]


def _packed(record: Record, layout: str) -> bytes:
    peak = float(np.max(np.abs(record.samples), initial=0.0))
    return pack(
        np.asarray(record.samples),
        record.rate_hz,
        unit=record.unit,
        rpm=record.rpm,
        start_ns=record.start_ns or 0,
        overload=record.overload,
        counts_per_unit=FULL_COUNTS / peak if layout == "int16" and peak > 0 else None,
    )


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)[:120].lstrip(".")
