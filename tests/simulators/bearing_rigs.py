"""Test rigs and field machines of very different character, to score a diagnosis as a stranger would: rig by rig.

Called by the benchmark, the tests and whoever changes the method. Beside ``bearing_plant`` it adds what single rigs
are known to do: seeded edges against smeared, rough spalls; other load paths, whose sidebands exceed their carrier;
races whose load turns with the shaft; elements that strike one race only; slow mills, fast spindles, gearboxes, name
plates wrong by 3 %, sound bearings that hum at their ball pass, drifting charge amplifiers, a dozen bits. Each rig is
asked about faults, sound machines and faults of other bearings alike. All parameters are physics and guesses of what
is common; no recording was looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tests.simulators.bearing_plant import CATALOGUE
from tests.simulators.bearing_population import PARTS, Case
from tests.simulators.bearing_signal import Fault, Machine, Part
from workloads.vibration.bearing import Geometry, Orders, orders_of

# Nearer than this to an order asked about nobody could tell another bearing's fault from this one's.
APART = 0.03


@dataclass(frozen=True, kw_only=True)
class Rig:
    """``machine`` draws one of this rig's machines, ``fault`` a fault of a part, ``levels_db`` how loud it is."""

    machine: Callable[[np.random.Generator], Machine]
    fault: Callable[[Part, float, np.random.Generator], Fault]
    levels_db: tuple[float, float]
    nuisances: tuple[str, ...]


def rig_case(rig: str, seed: int) -> Case:
    """One question to one machine of ``rig``: half faults, a quarter sound machines, a quarter other bearings'."""
    rng = np.random.default_rng([seed, 281, len(rig), sum(rig.encode())])
    made = RIGS[rig]
    machine = made.machine(rng)
    asked = orders_of(machine.geometry)
    machine = _nuisance(machine, str(rng.choice(made.nuisances)), asked, rng)
    level = float(10 ** (rng.uniform(*made.levels_db) / 20))
    part: Part = PARTS[int(rng.choice(3, p=[0.4, 0.35, 0.25]))]
    if seed % 2:
        fault = made.fault(part, level, rng)
        return Case(kind=part, machine=replace(machine, faults=(fault,)), asked=asked, truth=part, level=level)
    if seed % 4:
        machine = replace(machine, ball_pass=float(rng.choice([0.0, 0.0, rng.uniform(0, 0.1)])))
        return Case(kind="sound", machine=machine, asked=asked, truth="N", level=0.0)
    other = _other(asked, part, rng)
    machine = replace(machine, others=((other, made.fault(part, level, rng)),))
    return Case(kind=f"other {part}", machine=machine, asked=asked, truth="N", level=level)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Evenly in the logarithm."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _one(rng: np.random.Generator, *choices: float) -> float:
    return float(choices[int(rng.integers(len(choices)))])


def _heard(orders: Orders, part: Part) -> tuple[float, ...]:
    """What a fault of this part may draw: an element at its spin and at twice that, a race at its multiples."""
    first = {"OR": orders.bpfo, "IR": orders.bpfi, "B": 2 * orders.bsf}[part]
    return (first / 2, first, 2 * first) if part == "B" else (first, 2 * first)


def _near(asked: Orders, heard: tuple[float, ...]) -> bool:
    ours = (asked.bpfo, asked.bpfi, 2 * asked.bsf)
    return any(abs(mine / one - 1) < APART for mine in ours for one in heard)


def _other(asked: Orders, part: Part, rng: np.random.Generator) -> Orders:
    while True:
        other = orders_of(CATALOGUE[int(rng.integers(len(CATALOGUE)))])
        if not _near(asked, _heard(other, part)):
            return other


def _resonances(
    rng: np.random.Generator, rate_hz: float, low_hz: float, high_hz: float, sharp: float
) -> tuple[tuple[float, float, float], ...]:
    """(Hz, damping, gain) of one to five of them; ``sharp`` the smallest damping."""
    top = 0.46 * rate_hz
    return tuple(
        (min(_between(rng, low_hz, high_hz), top), _between(rng, sharp, 0.08), float(rng.uniform(0.2, 1.0)))
        for _ in range(int(rng.integers(1, 6)))
    )


def _shaft(rng: np.random.Generator, size: float, count: int = 8) -> tuple[float, ...]:
    return tuple(float(a) for a in size * rng.exponential(1.0, count) / np.arange(1, count + 1))


# ---------------------------------------------------------------- the rigs


def _bench(rng: np.random.Generator) -> Machine:
    """A small motor with a brake on a base plate; clean, stiff, short to medium records."""
    rate = _one(rng, 10_000, 12_000, 20_480, 24_000, 40_000, 48_000)
    return Machine(
        rate_hz=rate,
        seconds=_one(rng, 0.6, 1.0, 2.0, 5.0, 10.0) if rate < 30_000 else _one(rng, 0.5, 1.0, 2.0, 5.0),
        rpm=float(rng.uniform(1200, 3000)),
        geometry=CATALOGUE[int(rng.integers(len(CATALOGUE)))],
        colour=float(rng.uniform(0, 0.6)),
        resonances=_resonances(rng, rate, 1200, 9000, 0.01),
        background_resonance=float(rng.uniform(0, 2)),
        shaft=_shaft(rng, 0.05),
        shaft_modulation=float(rng.uniform(0, 0.3)),
        mains=_one(rng, 0, 0.01, 0.03),
        mains_modulation=_one(rng, 0, 0.05),
        mains_hz=_one(rng, 50, 60),
        wander=0.0005,
        rpm_error=float(rng.normal(0, 0.004)),
        bits=int(_one(rng, 0, 12, 16)),
    )


def _worn(rng: np.random.Generator) -> Machine:
    """A rig that wears bearings out under load, driven by a converter; medium records."""
    rate = _one(rng, 25_600, 50_000, 64_000)
    return Machine(
        rate_hz=rate,
        seconds=_one(rng, 1.28, 2.0, 4.0),
        rpm=float(rng.uniform(850, 2500)),
        geometry=CATALOGUE[int(rng.integers(len(CATALOGUE)))],
        colour=float(rng.uniform(0.2, 1.0)),
        resonances=_resonances(rng, rate, 900, 15_000, 0.006),
        background_resonance=float(rng.uniform(0.5, 3)),
        shaft=_shaft(rng, 0.05),
        shaft_modulation=_one(rng, 0, 0.1, 0.3),
        mains_modulation=_one(rng, 0, 0.05, 0.1),
        pwm_hz=_between(rng, 2000, 16_000),
        pwm=_one(rng, 0, 0.02, 0.1),
        wander=float(rng.uniform(0, 0.002)),
        rpm_error=float(rng.normal(0, 0.003)),
        ball_pass=_one(rng, 0, 0.02, 0.05),
    )


def _gearbox(rng: np.random.Generator) -> Machine:
    """One shaft of a gearbox: mesh lines over everything, other shafts' teeth between."""
    rate = _one(rng, 12_800, 25_600, 51_200)
    return Machine(
        rate_hz=rate,
        seconds=_one(rng, 1.0, 2.0, 4.0, 8.0) if rate < 50_000 else _one(rng, 1.0, 2.0, 4.0),
        rpm=float(rng.uniform(600, 2400)),
        geometry=CATALOGUE[int(rng.integers(len(CATALOGUE)))],
        colour=float(rng.uniform(0.2, 1.0)),
        resonances=_resonances(rng, rate, 700, 8000, 0.01),
        background_resonance=float(rng.uniform(0.5, 2)),
        shaft=_shaft(rng, 0.05, 16),
        shaft_modulation=float(rng.uniform(0, 0.4)),
        gear_teeth=int(rng.integers(15, 70)),
        gear=_between(rng, 0.05, 0.6),
        gear_modulation=float(rng.uniform(0.1, 0.6)),
        wander=float(rng.uniform(0, 0.003)),
        rpm_error=float(rng.normal(0, 0.004)),
    )


def _field(rng: np.random.Generator) -> Machine:
    """A pump or fan on its foundation: the name plate's speed, vanes, flow noise, mains, loose feet."""
    rate = _one(rng, 12_800, 25_600)
    return Machine(
        rate_hz=rate,
        seconds=_one(rng, 2.0, 5.0, 10.0),
        rpm=_one(rng, 740, 985, 1480, 1770, 2960, 3560),
        geometry=CATALOGUE[int(rng.integers(len(CATALOGUE)))],
        colour=float(rng.uniform(0.3, 1.0)),
        resonances=_resonances(rng, rate, 500, 6000, 0.01),
        background_resonance=float(rng.uniform(0.5, 3)),
        shaft=_shaft(rng, 0.2, 10),
        shaft_modulation=float(rng.uniform(0, 0.3)),
        mains=_one(rng, 0.005, 0.02, 0.1),
        mains_modulation=float(rng.uniform(0, 0.15)),
        mains_hz=_one(rng, 50, 60),
        wander=float(rng.uniform(0, 0.002)),
        rpm_error=float(rng.uniform(-0.03, 0.01)),
        drift=_one(rng, 0, 0.5),
        offset=_one(rng, 0, 2.0),
        bits=int(_one(rng, 0, 12, 14)),
    )


def _slow(rng: np.random.Generator) -> Machine:
    """A roll or a mixer at 100 to 300 turns a minute, with many rollers; long records at a modest rate."""
    elements = int(rng.integers(14, 24))
    ratio = float(rng.uniform(0.08, min(0.2, 0.9 * math.sin(math.pi / elements))))
    rate = _one(rng, 8192, 12_800, 20_000)
    return Machine(
        rate_hz=rate,
        seconds=_one(rng, 15.0, 30.0, 40.0),
        rpm=float(rng.uniform(100, 300)),
        geometry=Geometry(elements, ratio, 1.0, _one(rng, 0, 10)),
        colour=float(rng.uniform(0.2, 1.0)),
        resonances=_resonances(rng, rate, 400, 3500, 0.01),
        background_resonance=float(rng.uniform(0.5, 2)),
        shaft=_shaft(rng, 0.02),
        shaft_modulation=float(rng.uniform(0, 0.2)),
        mains=_one(rng, 0, 0.02),
        mains_modulation=_one(rng, 0, 0.1),
        wander=float(rng.uniform(0, 0.003)),
        rpm_error=float(rng.normal(0, 0.004)),
    )


def _spindle(rng: np.random.Generator) -> Machine:
    """A fast spindle: few harmonics fit below the end of the band, the ringing lasts as long as an interval."""
    rate = _one(rng, 51_200, 65_536, 97_656, 102_400)
    return Machine(
        rate_hz=rate,
        seconds=_one(rng, 0.2, 0.5, 1.0, 2.0),
        rpm=float(rng.uniform(5000, 24_000)),
        geometry=CATALOGUE[int(rng.integers(len(CATALOGUE)))],
        colour=float(rng.uniform(0.0, 0.8)),
        resonances=_resonances(rng, rate, 4000, 25_000, 0.02),
        background_resonance=float(rng.uniform(0.5, 2)),
        shaft=_shaft(rng, 0.2, 12),
        shaft_modulation=float(rng.uniform(0, 0.3)),
        pwm_hz=_between(rng, 4000, 20_000),
        pwm=_one(rng, 0, 0.05),
        wander=float(rng.uniform(0, 0.0005)),
        rpm_error=float(rng.normal(0, 0.002)),
        bits=int(_one(rng, 0, 16)),
    )


def _endurance(rng: np.random.Generator) -> Machine:
    """Bearings run to their end under overload: early life sounds healthy, several bearings share the shaft."""
    rate = _one(rng, 20_000, 25_600)
    return Machine(
        rate_hz=rate,
        seconds=_one(rng, 0.1, 0.5, 1.0, 1.28),
        rpm=float(rng.uniform(1500, 2500)),
        geometry=CATALOGUE[int(rng.integers(len(CATALOGUE)))],
        colour=float(rng.uniform(0.0, 0.8)),
        resonances=_resonances(rng, rate, 900, 8000, 0.008),
        background_resonance=float(rng.uniform(0.5, 3)),
        shaft=_shaft(rng, 0.1),
        shaft_modulation=float(rng.uniform(0, 0.3)),
        mains_modulation=_one(rng, 0, 0.08),
        ball_pass=_one(rng, 0, 0.03, 0.08),
        wander=float(rng.uniform(0, 0.001)),
        rpm_error=float(rng.normal(0, 0.003)),
        bits=int(_one(rng, 0, 10)),
    )


def _loaded(rng: np.random.Generator) -> Machine:
    """A machine whose speed gives way under a load that changes, coarse converters, a ringing sensor."""
    rate = _one(rng, 16_384, 32_768, 44_100, 51_200)
    machine = _bench(rng)
    return replace(
        machine,
        rate_hz=rate,
        seconds=_one(rng, 1.0, 2.0, 5.0),
        resonances=(*_resonances(rng, rate, 900, 9000, 0.01), (0.44 * rate, 0.004, 1.5)),
        wander=float(rng.uniform(0.001, 0.006)),
        rpm_error=float(rng.uniform(-0.02, 0.02)),
        load_hz=float(rng.uniform(0.2, 4)),
        load_depth=float(rng.uniform(0, 0.5)),
        bits=int(_one(rng, 8, 10, 12)),
        drift=_one(rng, 0, 0.3),
        shaft=_shaft(rng, 0.15),
    )


# ---------------------------------------------------------------- faults


def _seeded(part: Part, level: float, rng: np.random.Generator) -> Fault:
    """A slot with sharp edges."""
    return Fault(
        part=part,
        level=level,
        slip=float(rng.uniform(-0.002, 0.012)),
        jitter=_between(rng, 0.0005, 0.012),
        load=float(rng.uniform(0, 1)),
        scatter=float(rng.uniform(0.02, 0.4)),
        second=_one(rng, 0, 0, 0.4, 1.0),
        width=float(rng.uniform(0.05, 0.4)),
        shown=_one(rng, 1, 1, 0.6, 0.3) if part == "B" else 1.0,
        rotating=_one(rng, 0, 0, 0.3, 0.8),
        sway=_one(rng, 0, 0, 0.05, 0.12) if part == "IR" else 0.0,
        far_race=_one(rng, 0.9, 0.6, 0.3, 0.0),
    )


def _natural(part: Part, level: float, rng: np.random.Generator) -> Fault:
    """A spall grown by itself: rougher, longer, less regular."""
    fault = _seeded(part, level, rng)
    return replace(
        fault,
        jitter=_between(rng, 0.002, 0.02),
        scatter=float(rng.uniform(0.2, 0.6)),
        rough=float(rng.uniform(0.2, 1.0)),
        burst=float(rng.uniform(0.15, 0.7)),
    )


def _either(part: Part, level: float, rng: np.random.Generator) -> Fault:
    return (_seeded if rng.uniform() < 0.5 else _natural)(part, level, rng)


def _nuisance(machine: Machine, kind: str, asked: Orders, rng: np.random.Generator) -> Machine:
    """What else the machine does; of anything near an order asked about another is drawn."""
    if kind == "unbalance":
        return replace(machine, shaft=(float(rng.uniform(0.3, 2.0)), *machine.shaft[1:]), shaft_modulation=0.4)
    if kind == "loose":
        return replace(
            machine,
            looseness=_between(rng, 0.005, 0.2),
            shaft_modulation=float(rng.uniform(0, 0.4)),
            train_order=_one(rng, 0.5, 1.0, 2.0),
            train_level=_between(rng, 0.1, 2.0),
        )
    if kind == "electric":
        return replace(
            machine,
            mains=_between(rng, 0.01, 0.3),
            mains_modulation=float(rng.uniform(0.05, 0.6)),
            discharge=float(rng.uniform(0, 12)),
            pwm_hz=_between(rng, 2000, 0.45 * machine.rate_hz),
            pwm=_between(rng, 0.01, 0.3),
        )
    if kind == "shocks":
        return replace(machine, shocks_per_s=_between(rng, 0.2, 12), shock=_between(rng, 5, 100))
    while True:
        order = float(rng.uniform(0.2, 9)) if kind != "vanes" else float(rng.integers(2, 9))
        if not _near(asked, (order, 2 * order, 3 * order)):
            break
    if kind in ("vanes", "flow"):
        return replace(machine, vane_order=order, vane_modulation=_between(rng, 0.03, 0.8))
    if kind == "tooth":
        return replace(machine, train_order=min(order, 6.0), train_level=_between(rng, 0.1, 2.5))
    if kind == "supply":
        order = float(rng.integers(1, 4)) * (1 + float(rng.uniform(0.002, 0.04)))
        if not _near(asked, (2 * order, 6 * order)):
            return replace(machine, supply_order=order, supply_modulation=_between(rng, 0.03, 0.4))
    return machine


RIGS: Mapping[str, Rig] = {
    "bench": Rig(
        machine=_bench, fault=_seeded, levels_db=(-14, 12), nuisances=("none", "none", "loose", "unbalance", "electric")
    ),
    "worn": Rig(machine=_worn, fault=_natural, levels_db=(-12, 8), nuisances=("none", "none", "supply", "electric")),
    "gearbox": Rig(
        machine=_gearbox, fault=_either, levels_db=(-10, 10), nuisances=("none", "tooth", "tooth", "loose", "shocks")
    ),
    "field": Rig(
        machine=_field,
        fault=_natural,
        levels_db=(-10, 10),
        nuisances=("none", "vanes", "flow", "loose", "unbalance", "electric"),
    ),
    "slow": Rig(machine=_slow, fault=_either, levels_db=(-12, 8), nuisances=("none", "shocks", "tooth", "electric")),
    "spindle": Rig(machine=_spindle, fault=_either, levels_db=(-12, 10), nuisances=("none", "unbalance", "supply")),
    "endurance": Rig(
        machine=_endurance, fault=_natural, levels_db=(-10, 12), nuisances=("none", "none", "unbalance", "loose")
    ),
    "loaded": Rig(
        machine=_loaded, fault=_either, levels_db=(-10, 12), nuisances=("none", "loose", "supply", "flow", "shocks")
    ),
}
