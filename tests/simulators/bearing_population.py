"""A population of machines to calibrate and to test against: what a plant could hold, drawn from a seed.

Called by the tests and by whoever changes a threshold. Each case is a machine, the orders it is asked about and the
true answer. Half of the cases are nulls, because silence is what is hard: healthy machines of every noisy kind, and
faults of *another* bearing than the one asked about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tests.simulators.bearing_signal import Fault, Machine, Part
from workloads.vibration.bearing import Geometry, Orders, orders_of

RATES_HZ = (12_000.0, 16_000.0, 20_000.0, 25_600.0, 42_000.0, 48_000.0, 51_200.0, 64_000.0)
NULLS = ("quiet", "shaft", "loose", "gears", "electric", "shocks", "vane", "wrong")
PARTS: tuple[Part, ...] = ("OR", "IR", "B")


@dataclass(frozen=True, kw_only=True)
class Case:
    """``truth`` is N, OR, IR or B; ``kind`` says what sort of machine it is."""

    kind: str
    machine: Machine
    asked: Orders
    truth: Part
    level: float


def _geometry(rng: np.random.Generator) -> Geometry:
    elements = int(rng.integers(7, 14))
    # The elements must fit on the pitch circle.
    ratio = float(rng.uniform(0.14, min(0.3, 0.92 * np.sin(np.pi / elements))))
    return Geometry(elements, ratio, 1.0, float(rng.choice([0.0, 0.0, 12.0])))


def _apart(asked: Orders, *others: float) -> bool:
    """No other order, its double or its half is near an order asked about, so that the question has one answer."""
    ours = (asked.bpfo, asked.bpfi, 2 * asked.bsf)
    return all(abs(x / (y * k) - 1) > 0.04 for x in ours for y in others for k in (0.5, 1, 2))


def _base(rng: np.random.Generator) -> Machine:
    rate = float(rng.choice(RATES_HZ))
    top = 0.45 * rate
    resonances = tuple(
        (float(rng.uniform(0.06, 0.42) * rate), float(rng.uniform(0.01, 0.06)), float(rng.uniform(0.3, 1.0)))
        for _ in range(int(rng.integers(1, 4)))
    )
    mains = float(rng.choice([50.0, 60.0]))
    return Machine(
        rate_hz=rate,
        seconds=float(rng.choice([1.0, 2.0, 4.0, 10.0])) if rate < 30_000 else float(rng.choice([1.0, 2.0, 4.0])),
        rpm=float(rng.uniform(880, 3000)),
        geometry=_geometry(rng),
        colour=float(rng.uniform(0, 1)),
        resonances=resonances,
        background_resonance=float(rng.uniform(0, 1.5)),
        shaft=tuple(float(a) for a in 0.05 * rng.exponential(0.5, 6) / np.arange(1, 7)),
        shaft_modulation=float(rng.choice([0.0, rng.uniform(0, 0.15)])),
        mains_hz=mains,
        mains=float(rng.choice([0.0, rng.uniform(0, 0.02)])),
        mains_modulation=float(rng.choice([0.0, rng.uniform(0, 0.08)])),
        pwm_hz=float(min(rng.uniform(2000, 16000), top)),
        pwm=float(rng.choice([0.0, 0.0, rng.uniform(0, 0.03)])),
        wander=float(rng.uniform(0.0, 0.002)),
        rpm_error=float(rng.normal(0, 0.003)),
    )


def _fault(part: Part, level: float, rng: np.random.Generator) -> Fault:
    return Fault(
        part=part,
        level=level,
        slip=float(rng.uniform(-0.002, 0.015)),
        jitter=float(rng.uniform(0.0, 0.012)),
        load=float(rng.uniform(0.3, 1.0)),
        scatter=float(rng.uniform(0.05, 0.4)),
    )


def case(seed: int) -> Case:
    """Odd seeds are faults, even seeds nulls."""
    rng = np.random.default_rng([seed, 20816])
    machine = _base(rng)
    asked = orders_of(machine.geometry)
    level = float(10 ** rng.uniform(-1.3, 0.5))
    if seed % 2:
        part = PARTS[int(rng.integers(3))]
        extra = _noisy(machine, NULLS[int(rng.integers(len(NULLS) - 1))], rng)
        return Case(
            kind=part, machine=replace(extra, faults=(_fault(part, level, rng),)), asked=asked, truth=part, level=level
        )
    kind = NULLS[int(rng.integers(len(NULLS)))] if rng.uniform() < 0.6 else "wrong"
    if kind != "wrong":
        return Case(kind=kind, machine=_noisy(machine, kind, rng), asked=asked, truth="N", level=0.0)
    while True:
        other = orders_of(_geometry(rng))
        if _apart(asked, other.bpfo, other.bpfi, 2 * other.bsf):
            break
    part = PARTS[int(rng.integers(3))]
    extra = _noisy(machine, NULLS[int(rng.integers(3))], rng)
    machine = replace(extra, others=((other, _fault(part, level * 2, rng)),))
    return Case(kind="wrong", machine=machine, asked=asked, truth="N", level=level * 2)


def _noisy(machine: Machine, kind: str, rng: np.random.Generator) -> Machine:
    if kind == "shaft":
        strong = tuple(float(a) for a in 0.3 * rng.exponential(1.0, 12) / np.arange(1, 13))
        return replace(machine, shaft=strong, shaft_modulation=float(rng.uniform(0.1, 0.5)))
    if kind == "loose":
        return replace(machine, looseness=float(rng.uniform(0.005, 0.1)), shaft_modulation=0.3)
    if kind == "gears":
        return replace(machine, gear_teeth=int(rng.integers(13, 60)), gear=float(rng.uniform(0.02, 0.4)))
    if kind == "electric":
        return replace(
            machine,
            mains=float(rng.uniform(0.01, 0.1)),
            mains_modulation=float(rng.uniform(0.05, 0.5)),
            pwm=float(rng.uniform(0.01, 0.1)),
            discharge=float(rng.uniform(0, 8)),
        )
    if kind == "shocks":
        return replace(machine, shocks_per_s=float(rng.uniform(0.2, 8)), shock=float(rng.uniform(5, 60)))
    if kind == "vane":
        order = float(rng.uniform(0.2, 9))
        while not _apart(orders_of(machine.geometry), order, 3 * order):
            order = float(rng.uniform(0.2, 9))
        return replace(machine, vane_order=order, vane_modulation=float(10 ** rng.uniform(-1.5, -0.1)))
    return machine
