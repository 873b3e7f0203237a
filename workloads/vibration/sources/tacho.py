"""Shaft speed out of a tacho's pulses, and a record of varying speed made steady. Pure.

Called by ``arrival``. A pulse is a rise through the middle between the signal's low and high; the instant is drawn
straight between samples. Refuses signals without clear pulses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from workloads.vibration.features import angular
from workloads.vibration.record import Array, Record

# Speeds that stray less than this (fraction, peak to peak over turns) blur no line that is looked for.
STEADY = 0.005
MIN_PULSES = 4


@dataclass(frozen=True, slots=True)
class Speed:
    """Mean ``rpm`` over whole turns; ``spread``: fastest turn over slowest, less one."""

    rpm: float
    spread: float


def pulses(signal: Array, rate_hz: float) -> npt.NDArray[np.float64]:
    """Times of the pulses in s. Raises ValueError when there are none to speak of."""
    x = np.asarray(signal, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("the tacho's channel holds values that are no numbers")
    low, high = np.percentile(x, [1, 99]) if len(x) else (0.0, 0.0)
    if high - low < 0.5 * (x.max(initial=0.0) - x.min(initial=0.0)):
        low, high = (
            float(x.min(initial=0.0)),
            float(x.max(initial=0.0)),
        )  # needle pulses are rarer than one in a hundred
    middle, reach = (low + high) / 2, (high - low) / 5
    if reach <= 0:
        raise ValueError("the tacho's channel does not move")
    # Armed below the lower threshold, fired at the upper: noise at the middle makes no pulses.
    state = np.where(x > middle + reach, 1, np.where(x < middle - reach, -1, 0))
    known = np.flatnonzero(state)
    rises = known[1:][(state[known[1:]] == 1) & (state[known[:-1]] == -1)]
    if len(rises) < MIN_PULSES:
        raise ValueError(f"{len(rises)} pulses in the tacho's channel; at least {MIN_PULSES} are needed")
    before, after = x[rises - 1], x[rises]
    part = np.clip((middle + reach - before) / np.where(after == before, 1.0, after - before), 0.0, 1.0)
    return np.asarray((rises - 1 + part) / rate_hz)


def speed(times: npt.NDArray[np.float64], per_turn: int) -> Speed:
    """Raises ValueError for fewer than two whole turns."""
    turns = times[::per_turn]
    if len(turns) < 3:
        raise ValueError(f"{len(times)} pulses of {per_turn} per turn are less than two turns")
    steps = np.diff(turns)
    return Speed(60 / float(steps.mean()), float(steps.max() / steps.min()) - 1)


def steady(record: Record, once_per_turn: npt.NDArray[np.float64]) -> Record:
    """The same vibration at equal angles of the shaft, as if it had turned at its mean speed all the time."""
    mean_hz = (len(once_per_turn) - 1) / float(once_per_turn[-1] - once_per_turn[0])
    per_turn = 2 * math.ceil(record.rate_hz / mean_hz / 2)
    samples = angular(record.samples, record.rate_hz, once_per_turn, per_turn).astype(np.float32)
    return replace(record, samples=samples, rate_hz=per_turn * mean_hz, rpm=60 * mean_hz)
