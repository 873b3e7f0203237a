"""What came over the wire, what the configuration declares of it, and the record the two make. Pure.

Called by every source. What a payload says of itself counts; where it contradicts the declaration, it is refused:
a wrong rate or unit moves every line and every limit, and nobody would see it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from manifests.errors import DocumentError, Problem
from workloads.vibration.record import Array, Record, Unit
from workloads.vibration.sources import tacho

Floats = npt.NDArray[np.floating]
RATE_TOLERANCE = 1e-3
# A converter's full range is reached with one step to spare.
OVERLOAD_SHARE = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What the configuration says of every record. ``scale`` and ``offset`` turn what arrives into ``unit``."""

    rate_hz: float | None = None
    unit: Unit | None = None
    scale: float = 1.0
    offset: float = 0.0
    full_scale: float | None = None
    channel: int = 0
    tacho_channel: int | None = None
    pulses_per_turn: int = 1
    rpm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a payload carries; None where it does not say. ``channels``: samples x channels, scaled by the payload."""

    channels: Floats
    rate_hz: float | None = None
    unit: Unit | None = None
    full_scale: float | None = None
    start_ns: int | None = None
    rpm: float | None = None
    load: float | None = None
    overload: bool = False
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A record with the load it was taken at."""

    record: Record
    load: float | None


def settle(heard: Heard, declared: Declared, *, arrived_ns: int, source: str) -> Taken:
    """The record. Raises DocumentError with every contradiction and omission."""
    problems = []
    count = heard.channels.shape[1]
    for key, channel in (("channel", declared.channel), ("tachoChannel", declared.tacho_channel)):
        if channel is not None and not 0 <= channel < count:
            what = f"channel {channel} does not exist: the record has {count}, counted from 0"
            problems.append(Problem(source, key, what))
    rate = heard.rate_hz if heard.rate_hz is not None else declared.rate_hz
    if rate is None:
        problems.append(Problem(source, "rateHz", "neither the payload nor the configuration tells the sampling rate"))
    elif not (math.isfinite(rate) and rate > 0):
        problems.append(Problem(source, "rateHz", f"{rate} is no sampling rate"))
    elif declared.rate_hz is not None and abs(rate / declared.rate_hz - 1) > RATE_TOLERANCE:
        what = f"declared rate {declared.rate_hz:g} Hz, but the payload says {rate:g} Hz"
        problems.append(Problem(source, "rateHz", what, "correct the one that is wrong: every frequency hangs on it"))
    if heard.unit is not None and declared.unit is not None and heard.unit is not declared.unit:
        what = f"declared unit {declared.unit.value}, but the payload says {heard.unit.value}"
        problems.append(Problem(source, "unit", what))
    if problems or rate is None:
        raise DocumentError(problems)
    samples: Array = np.ascontiguousarray(heard.channels[:, declared.channel])
    if declared.scale != 1.0 or declared.offset:
        samples = samples * np.float32(declared.scale) + np.float32(declared.offset)
    full_scale = heard.full_scale if heard.full_scale is not None else declared.full_scale
    rpm = heard.rpm if heard.rpm is not None else declared.rpm
    record = Record(
        samples=samples,
        rate_hz=rate,
        unit=heard.unit or declared.unit,
        rpm=rpm,
        start_ns=heard.start_ns or arrived_ns - int(len(samples) / rate * 1e9),
        overload=heard.overload,
        full_scale=None if full_scale is None else full_scale * OVERLOAD_SHARE,
        sequence=heard.sequence,
        source=source,
    )
    if declared.tacho_channel is not None:
        record = with_tacho(record, heard.channels[:, declared.tacho_channel], declared.pulses_per_turn)
    load = heard.load if heard.load is not None and math.isfinite(heard.load) else None
    return Taken(record, load)


def with_tacho(record: Record, signal: Array, pulses_per_turn: int) -> Record:
    """The speed out of the tacho's own channel; a varying one is tracked. Raises DocumentError without clear pulses."""
    try:
        pulses = tacho.pulses(signal, record.rate_hz)
        turning = tacho.speed(pulses, pulses_per_turn)
    except ValueError as error:
        raise DocumentError([Problem(record.source, "tachoChannel", str(error))]) from error
    record = replace(record, rpm=turning.rpm)
    return tacho.steady(record, pulses[::pulses_per_turn]) if turning.spread > tacho.STEADY else record
