"""What the workload answers when the centre inquires: spectra, waterfall, evidence, the asset. It only reads.

Registered by ``monitor``. Kinds and arguments (``machine`` may be left out where there is one):

    asset      {machine}                             the data product VibrationAsset
    spectrum   {machine, of, fromHz, toHz, lines}    of the last record; ``of``: amplitude, envelope or velocity
    waveform   {machine, fromS, toS, points}         of the last record, lowest and highest value per point
    waterfall  {machine}                             the last spectra, one row per record
    trend      {machine}                             log level over the baseline against time, alarm bands
    evidence   {machine} or {id, layout}             the list, or one record in binary pieces
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from manifests.errors import DocumentError, Problem
from workloads.kit.inquiries import Reply
from workloads.vibration.comb import TOP_ORDER
from workloads.vibration.envelope import envelope_spectrum
from workloads.vibration.evidence import MEDIA, Ring
from workloads.vibration.product import product
from workloads.vibration.record import Record
from workloads.vibration.report import diagnosis_json, plain
from workloads.vibration.spectrum import amplitude_spectrum
from workloads.vibration.trend import Trend
from workloads.vibration.watch import Judged, Watch

MAX_LINES = 120_000
DEFAULT_LINES = 4000
WATERFALL_ROWS, WATERFALL_LINES = 60, 512
MIN_HZ = 2.0  # below, integration to velocity only shows the sensor's drift


class _Asked(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    machine: str | None = None


class _Spectrum(_Asked, frozen=True):
    of: str = "amplitude"
    from_hz: float = 0.0
    to_hz: float | None = None
    lines: int = DEFAULT_LINES


class _Waveform(_Asked, frozen=True):
    from_s: float = 0.0
    to_s: float | None = None
    points: int = 2000


class _Evidence(_Asked, frozen=True):
    id: str | None = None
    layout: str = "int16"


@dataclass(frozen=True, slots=True)
class Row:
    """One record of the waterfall: thinned amplitude spectrum."""

    start_ns: int
    rpm: float | None
    top_hz: float
    values: npt.NDArray[np.float32]


def row(record: Record) -> Row:
    spectrum = amplitude_spectrum(record.samples, record.rate_hz, "hann")
    values = thinned(spectrum.values, WATERFALL_LINES)
    return Row(record.start_ns or 0, record.rpm, record.rate_hz / 2, values.astype(np.float32))


class Waterfall:
    """The last rows of every machine."""

    def __init__(self) -> None:
        self._rows: dict[str, deque[Row]] = {}

    def add(self, machine: str, one: Row) -> None:
        self._rows.setdefault(machine, deque(maxlen=WATERFALL_ROWS)).append(one)

    def rows(self, machine: str) -> list[Row]:
        return list(self._rows.get(machine, ()))


class Answers:
    """``watches`` by machine name; ``ring`` None: no evidence is kept."""

    def __init__(self, watches: Mapping[str, Watch], waterfall: Waterfall, ring: Ring | None) -> None:
        self._watches = watches
        self._waterfall = waterfall
        self._ring = ring

    @property
    def handlers(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        return {
            "asset": self.asset,
            "spectrum": self.spectrum,
            "waveform": self.waveform,
            "waterfall": self.waterfall,
            "trend": self.trend,
            "evidence": self.evidence,
        }

    def _watch(self, machine: str | None) -> Watch:
        if machine is None and len(self._watches) == 1:
            return next(iter(self._watches.values()))
        watch = self._watches.get(machine or "")
        if watch is None:
            what = f'no machine "{machine}"' if machine else "which machine?"
            raise _refusal("machine", what, f"known: {', '.join(self._watches)}")
        return watch

    def _last(self, machine: str | None) -> tuple[Watch, Judged]:
        watch = self._watch(machine)
        if watch.last is None:
            raise _refusal("machine", f"{watch.machine.name} has had no record yet")
        return watch, watch.last

    async def asset(self, given: Mapping[str, Any]) -> Any:
        watch, last = self._last(_asked(given, _Asked).machine)
        return product(watch.topic, watch.machine.name, last.name, last.record, last.told)

    async def spectrum(self, given: Mapping[str, Any]) -> Any:
        asked = _asked(given, _Spectrum)
        watch, last = self._last(asked.machine)
        if last.told.refused:
            raise _refusal("machine", f"the last record was refused: {last.told.refused}")
        return await asyncio.to_thread(_spectrum_json, asked, watch, last)

    async def waveform(self, given: Mapping[str, Any]) -> Any:
        asked = _asked(given, _Waveform)
        _, last = self._last(asked.machine)
        return _waveform_json(asked, last)

    async def waterfall(self, given: Mapping[str, Any]) -> Any:
        watch = self._watch(_asked(given, _Asked).machine)
        rows = self._waterfall.rows(watch.machine.name)
        return {
            "machine": watch.machine.name,
            "rows": [
                {"startNs": one.start_ns, "rpm": one.rpm, "topHz": one.top_hz, "values": _short(one.values)}
                for one in rows
            ],
        }

    async def trend(self, given: Mapping[str, Any]) -> Any:
        watch = self._watch(_asked(given, _Asked).machine)
        return {
            "machine": watch.machine.name,
            "rms": _trend_json(watch.asset.rms),
            "highRms": _trend_json(watch.asset.high),
            "warningSigmas": watch.plan.rule.warning_sigmas,
            "alarmSigmas": watch.plan.rule.sigmas,
        }

    async def evidence(self, given: Mapping[str, Any]) -> AsyncIterator[Any]:
        asked = _asked(given, _Evidence)
        if self._ring is None:
            raise _refusal("evidence", "no folder is kept for this workload", "give evidence.folder")
        if asked.id is None:
            yield await asyncio.to_thread(self._ring.listed, asked.machine)
            return
        if asked.layout not in ("int16", "float32"):
            raise _refusal("layout", f'unknown layout "{asked.layout}"', "int16 or float32")
        for piece in await asyncio.to_thread(lambda: list(self._ring.pieces(asked.id or "", asked.layout))):  # type: ignore[union-attr]  # looked above
            yield Reply(MEDIA, piece)


def thinned(values: npt.NDArray[np.floating], most: int) -> npt.NDArray[np.floating]:
    """At most so many values: the highest of each group, so that no line vanishes."""
    by = max(1, math.ceil(len(values) / most))
    whole = len(values) // by * by
    out = values[:whole].reshape(-1, by).max(axis=1)
    return np.append(out, values[whole:].max()) if whole < len(values) else out


def packed(values: npt.NDArray[np.floating]) -> str:
    """Little-endian float32 in base64: 100,000 lines in 0.5 MB, and drawn without parsing numbers."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def _spectrum_json(asked: _Spectrum, watch: Watch, last: Judged) -> dict[str, Any]:
    record = last.record
    unit = record.unit.value if record.unit is not None else None
    values: npt.NDArray[np.floating]
    if asked.of == "envelope":
        shaft_hz = record.shaft_hz
        if shaft_hz is None:
            raise _refusal("of", "an envelope spectrum needs the speed, which the record does not have")
        found = envelope_spectrum(
            record.samples, record.rate_hz, shaft_hz, min(record.rate_hz / 4, TOP_ORDER * shaft_hz)
        )
        values, step_hz, unit = np.maximum(found.level, 0.0) * 10 / math.log(10), found.step_hz, "dB over floor"
    elif asked.of in ("amplitude", "velocity"):
        spectrum = amplitude_spectrum(record.samples, record.rate_hz, "hann")
        values, step_hz = spectrum.values, spectrum.step_hz
        if asked.of == "velocity":
            if record.unit is None:
                raise _refusal("of", "without a declared unit there is no velocity")
            if record.unit.is_acceleration:
                hz = np.maximum(spectrum.hz, MIN_HZ)
                values = np.where(spectrum.hz < MIN_HZ, 0.0, values * record.unit.to_m_s2 * 1000 / (2 * np.pi * hz))
            unit = "mm/s"
    else:
        raise _refusal("of", f'unknown spectrum "{asked.of}"', "amplitude, envelope or velocity")
    first = max(0, int(asked.from_hz / step_hz))
    end = len(values) if asked.to_hz is None else min(len(values), int(asked.to_hz / step_hz) + 1)
    shown = thinned(values[first:end], min(max(1, asked.lines), MAX_LINES)) if end > first else values[:0]
    by = max(1, math.ceil((end - first) / min(max(1, asked.lines), MAX_LINES)))
    bearings = {name: diagnosis_json(one) for name, one in last.told.diagnoses.items()}
    return {
        "machine": watch.machine.name,
        "record": last.name,
        "startNs": record.start_ns,
        "of": asked.of,
        "unit": unit,
        "rpm": record.rpm,
        "firstHz": first * step_hz,
        "stepHz": by * step_hz,
        "count": len(shown),
        "values": packed(shown),
        "encoding": "base64 float32 little-endian",
        "orders": {
            name: {"ftf": one.ftf, "bsf": one.element / 2, "bpfo": one.bpfo, "bpfi": one.bpfi}
            for name, one in watch.plan.bearings.items()
        },
        "diagnoses": plain(bearings),
    }


def _waveform_json(asked: _Waveform, last: Judged) -> dict[str, Any]:
    record = last.record
    first = max(0, int(asked.from_s * record.rate_hz))
    end = len(record.samples) if asked.to_s is None else min(len(record.samples), int(asked.to_s * record.rate_hz))
    part = np.asarray(record.samples[first:end], dtype=np.float32)
    points = min(max(1, asked.points), MAX_LINES // 2)
    return {
        "record": last.name,
        "unit": record.unit.value if record.unit is not None else None,
        "firstS": first / record.rate_hz,
        "stepS": max(1, math.ceil(len(part) / points)) / record.rate_hz,
        "low": packed(-thinned(-part, points)) if len(part) else "",
        "high": packed(thinned(part, points)) if len(part) else "",
        "encoding": "base64 float32 little-endian",
    }


def _trend_json(trend: Trend) -> dict[str, Any]:
    return {
        "alarm": trend.alarm.value,
        "points": [{"days": round(days, 6), "logLevel": round(level, 4)} for days, level in trend.history],
        "baselines": [
            {"speedBin": speed, "loadBin": load, "centre": one.baseline.centre, "width": one.baseline.width}
            for (speed, load), one in trend.states.items()
            if one.baseline is not None
        ],
    }


def _short(values: npt.NDArray[np.floating]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _asked(given: Mapping[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(dict(given), kind, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal("arguments", str(error)) from error


def _refusal(path: str, what: str, hint: str = "") -> DocumentError:
    return DocumentError([Problem("inquiry", path, what, hint)])
