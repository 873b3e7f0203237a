"""A harder population than ``bearing_population``: what real records do to a diagnosis, drawn from a seed.

Called by the calibration, the tests and the benchmark. On top of the ordinary machines: speeds given wrong by up to
2 %, bearings out of a catalogue (orders beside whole numbers, neighbours with nearly the same orders on the same
shaft), spalls struck twice, balls that show their spall now and then, sharp resonances, converters whose ripple is no
whole order, another shaft's impacts, slow load, coarse converters, resampled records, odd rates, short records.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.simulators.bearing_population import PARTS, Case
from tests.simulators.bearing_signal import Fault, Machine, Part
from workloads.vibration.bearing import LIBRARY, Geometry, Orders, orders_of

RATES_HZ = (12_000.0, 12_800.0, 20_000.0, 25_600.0, 48_000.0, 48_828.0, 51_200.0, 64_000.0, 97_656.0)
MORE = (Geometry(8, 0.235, 1.245), Geometry(16, 0.331, 2.815, 15.17), Geometry(13, 8.4, 71.5), Geometry(12, 17.0, 92.0))
CATALOGUE = (*LIBRARY.values(), *MORE)
NULLS = ("healthy", "shaft", "loose", "gears", "electric", "shocks", "train", "supply", "vane", "neighbour")
APART = 0.035  # nearer than this to an order asked about, with slip and a wrong speed, nobody could tell


def hard_case(seed: int) -> Case:
    """Odd seeds are faults, even seeds nulls; a third of the nulls is a neighbour's fault."""
    rng = np.random.default_rng([seed, 13373])
    machine = _base(rng)
    asked = orders_of(machine.geometry)
    level = float(10 ** rng.uniform(-1.0, 0.8))
    part: Part = PARTS[int(rng.integers(3))]
    if seed % 2:
        extra = _noisy(machine, str(rng.choice(NULLS[:-1])), asked, rng)
        faults = (_fault(part, level, rng),)
        return Case(kind=part, machine=replace(extra, faults=faults), asked=asked, truth=part, level=level)
    kind = str(rng.choice(NULLS)) if rng.uniform() < 0.75 else "neighbour"
    if kind != "neighbour":
        return Case(kind=kind, machine=_noisy(machine, kind, asked, rng), asked=asked, truth="N", level=0.0)
    other = _neighbour(asked, part, rng)
    extra = _noisy(machine, str(rng.choice(NULLS[:3])), asked, rng)
    machine = replace(extra, others=((other, _fault(part, 2 * level, rng)),))
    return Case(kind=f"neighbour {part}", machine=machine, asked=asked, truth="N", level=2 * level)


def _base(rng: np.random.Generator) -> Machine:
    rate = float(rng.choice(RATES_HZ))
    resonances = tuple(
        (
            float(min(rng.uniform(0.05, 0.45) * rate, rng.uniform(1500, 15000))),
            float(10 ** rng.uniform(-2.4, -1.1)),
            float(rng.uniform(0.2, 1.0)),
        )
        for _ in range(int(rng.integers(1, 5)))
    )
    off = float(rng.uniform(-0.02, 0.02)) if rng.uniform() < 0.3 else float(rng.normal(0, 0.003))
    return Machine(
        rate_hz=rate,
        seconds=float(rng.choice([1.0, 1.5, 2.0, 4.0, 10.0] if rate < 30_000 else [1.0, 1.5, 2.0, 4.0, 6.0])),
        rpm=float(rng.uniform(800, 3600)),
        geometry=CATALOGUE[int(rng.integers(len(CATALOGUE)))],
        colour=float(rng.uniform(0, 1)),
        resonances=resonances,
        background_resonance=float(rng.uniform(0, 3)),
        shaft=tuple(float(a) for a in 0.1 * rng.exponential(0.5, 8) / np.arange(1, 9)),
        shaft_modulation=float(rng.choice([0.0, rng.uniform(0, 0.3)])),
        mains_hz=float(rng.choice([50.0, 60.0])),
        mains=float(rng.choice([0.0, rng.uniform(0, 0.05)])),
        mains_modulation=float(rng.choice([0.0, rng.uniform(0, 0.1)])),
        wander=float(rng.choice([0.0005, rng.uniform(0.0, 0.004)])),
        rpm_error=off,
        load_hz=float(rng.uniform(0.1, 3.0)),
        load_depth=float(rng.choice([0.0, 0.0, rng.uniform(0, 0.5)])),
        offset=float(rng.choice([0.0, rng.normal(0, 1.0)])),
        bits=int(rng.choice([0, 10, 12, 16])),
        made_at=int(rng.choice([1, 1, 1, 2])),
    )


def _fault(part: Part, level: float, rng: np.random.Generator) -> Fault:
    return Fault(
        part=part,
        level=level,
        slip=float(rng.uniform(-0.002, 0.018)),
        jitter=float(rng.uniform(0.0, 0.015)),
        load=float(rng.uniform(0.0, 1.0)),
        scatter=float(rng.uniform(0.0, 0.5)),
        second=float(rng.choice([0.0, 0.0, rng.uniform(0.3, 1.2)])),
        width=float(rng.uniform(0.05, 0.45)),
        shown=float(rng.choice([1.0, rng.uniform(0.3, 1.0)])) if part == "B" else 1.0,
    )


def _near(asked: Orders, heard: tuple[float, ...]) -> bool:
    ours = (asked.bpfo, asked.bpfi, 2 * asked.bsf)
    return any(abs(mine / one - 1) < APART for mine in ours for one in heard)


def _neighbour(asked: Orders, part: Part, rng: np.random.Generator) -> Orders:
    """Another bearing whose fault of this part has an order of its own; its multiples may fall where they will."""
    while True:
        other = orders_of(CATALOGUE[int(rng.integers(len(CATALOGUE)))])
        heard = {"OR": other.bpfo, "IR": other.bpfi, "B": 2 * other.bsf}[part]
        if not _near(asked, (heard,)):
            return other


def _noisy(machine: Machine, kind: str, asked: Orders, rng: np.random.Generator) -> Machine:
    if kind == "shaft":
        strong = tuple(float(a) for a in 0.4 * rng.exponential(1.0, 16) / np.arange(1, 17))
        return replace(machine, shaft=strong, shaft_modulation=float(rng.uniform(0.1, 0.7)))
    if kind == "loose":
        return replace(machine, looseness=float(rng.uniform(0.005, 0.1)), train_order=1.0,
                       train_level=float(10 ** rng.uniform(-1, 0.3)), shaft_modulation=0.3)  # fmt: skip
    if kind == "gears":
        return replace(machine, gear_teeth=int(rng.integers(13, 60)), gear=float(rng.uniform(0.02, 0.6)))
    if kind == "electric":
        return replace(
            machine,
            mains=float(rng.uniform(0.01, 0.2)),
            mains_modulation=float(rng.uniform(0.05, 0.6)),
            pwm_hz=float(rng.uniform(2000, 0.45 * machine.rate_hz)),
            pwm=float(rng.uniform(0.01, 0.1)),
            discharge=float(rng.uniform(0, 12)),
        )
    if kind == "shocks":
        return replace(machine, shocks_per_s=float(rng.uniform(0.2, 12)), shock=float(rng.uniform(5, 100)))
    if kind == "train":
        while True:
            order = float(rng.uniform(0.2, 6.0))
            if not _near(asked, (order, 2 * order, 3 * order)):
                return replace(machine, train_order=order, train_level=float(10 ** rng.uniform(-1, 0.4)))
    if kind == "supply":
        order = float(rng.integers(1, 4)) * (1 + float(rng.uniform(0.002, 0.04)))
        if not _near(asked, (2 * order, 6 * order)):
            return replace(machine, supply_order=order, supply_modulation=float(10 ** rng.uniform(-1.5, -0.4)))
    if kind == "vane":
        order = float(rng.uniform(0.2, 9))
        if not _near(asked, (order, 2 * order)):
            return replace(machine, vane_order=order, vane_modulation=float(10 ** rng.uniform(-1.5, -0.1)))
    return machine
