"""A hydraulic deep-drawing press that makes parts: what the press simulator pretends to be.

Kept apart from the OPC UA server so that the behaviour can be checked without a socket. Called by `press` and
the unit tests. It knows nothing of OPC UA, reads no clock and draws noise only from the seeded generator it was
given: the same seed and the same steps give the same values.

The ram runs through a cycle of phases (`CYCLE`); force rises as the ram meets the sheet; pressure follows force,
motor power follows pressure times flow, and every temperature is a first-order lag behind the power that heats
it. `press_signals` says which values are published.
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass


class Phase(enum.IntEnum):
    """Where in its cycle the press is."""

    LOADING = 0
    CLOSING = 1
    PRESSING = 2
    HOLDING = 3
    OPENING = 4
    EJECTING = 5


@dataclass(frozen=True, slots=True)
class _Stretch:
    phase: Phase
    seconds: float
    from_mm: float
    to_mm: float


OPEN_MM = 600.0
TOUCH_MM = 90.0  # the ram meets the sheet
CLOSED_MM = 0.0
CYCLE = (
    _Stretch(Phase.LOADING, 1.4, OPEN_MM, OPEN_MM),
    _Stretch(Phase.CLOSING, 1.0, OPEN_MM, TOUCH_MM),
    _Stretch(Phase.PRESSING, 0.8, TOUCH_MM, CLOSED_MM),
    _Stretch(Phase.HOLDING, 1.0, CLOSED_MM, CLOSED_MM),
    _Stretch(Phase.OPENING, 1.1, CLOSED_MM, OPEN_MM),
    _Stretch(Phase.EJECTING, 0.9, OPEN_MM, OPEN_MM),
)
CYCLE_S = sum(stretch.seconds for stretch in CYCLE)
NOMINAL_FORCE_KN = 6300.0
BED_AREA_M2 = 0.25  # the two main cylinders together
PARTS_PER_PROGRAM = 12
SCRAP_SHARE = 0.02
AMBIENT_C = 24.0
MAX_STEP_S = 0.05

# Name and share of the nominal force; the press changes over after every PARTS_PER_PROGRAM strokes.
PROGRAMS: tuple[tuple[str, float], ...] = (
    ("DOOR-INNER-L", 0.86),
    ("DOOR-INNER-R", 0.86),
    ("SILL-PLATE", 0.62),
    ("B-PILLAR", 0.97),
    ("WHEELHOUSE", 0.74),
)
MESSAGES = {
    Phase.LOADING: "waiting for blank",
    Phase.CLOSING: "closing",
    Phase.PRESSING: "drawing",
    Phase.HOLDING: "holding",
    Phase.OPENING: "opening",
    Phase.EJECTING: "part out",
}


def ram_at(second: float) -> tuple[Phase, float, float]:
    """Phase, ram position in mm above closed and velocity in mm/s (down is negative), `second` into a cycle.

    The ram moves on a cosine between the ends of a stretch, so it starts and stops without a jerk.
    """
    left = second % CYCLE_S
    for stretch in CYCLE:
        if left < stretch.seconds:
            share = left / stretch.seconds
            travel = stretch.to_mm - stretch.from_mm
            position = stretch.from_mm + travel * (1 - math.cos(math.pi * share)) / 2
            velocity = travel * math.pi / (2 * stretch.seconds) * math.sin(math.pi * share)
            return stretch.phase, position, velocity
        left -= stretch.seconds
    return CYCLE[0].phase, OPEN_MM, 0.0  # rounding at the very end of a cycle


class Lag:
    """A first-order lag; exact for any step length."""

    def __init__(self, value: float, seconds: float) -> None:
        self.value = value
        self.seconds = seconds

    def follow(self, towards: float, dt_s: float) -> None:
        """Move towards an input held for `dt_s`."""
        self.value = towards + (self.value - towards) * math.exp(-dt_s / self.seconds)


class PressModel:
    """The press itself. `step` moves time on; the attributes are the values `press_signals` publishes."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.time_s = 0.0
        self.phase = Phase.LOADING
        self.position_mm = OPEN_MM
        self.velocity_mm_s = 0.0
        self.acceleration_m_s2 = 0.0
        self.force = Lag(0.0, 0.06)
        self.peak_force_kn = 0.0
        self.last_peak_force_kn = 0.0
        self.last_bottom_mm = 0.0
        self._bottom_mm = OPEN_MM
        self.strokes = 0
        # Machines are not new when the simulation begins.
        self.strokes_before = 4_300_000_000 + 1000 * seed
        self.parts_good = 0
        self.parts_scrap = 0
        self.last_cycle_s = CYCLE_S
        self.program = 0
        self.tilt_x = self._random.uniform(-0.05, 0.05)
        self.tilt_y = self._random.uniform(-0.05, 0.05)
        self.pressure = Lag(60.0, 0.15)
        self.accumulator = Lag(180.0, 1.5)
        self.hydraulic_w = 0.0
        self.power_w = Lag(9000.0, 0.3)
        self.energy_wh = 0.0
        self._energy_at_stroke_wh = 0.0
        self.energy_of_part_wh = 0.0
        self.peak_power_w = 0.0
        self.oil = Lag(41.0, 900.0)
        self.motors = [Lag(52.0 + i, 500.0 + 35 * i) for i in range(6)]
        self.bearings = [Lag(40.0 + i, 350.0 + 25 * i) for i in range(6)]
        self.die_zones = [Lag(60.0 + i % 5, 40.0 + 3 * i) for i in range(16)]
        self.frame_zones = [Lag(27.0 + i % 4, 1500.0 + 90 * i) for i in range(20)]
        self.cabinet = Lag(31.0, 700.0)
        self.lube_pressure = Lag(3.0, 1.2)
        self.lube_pulses = 0
        self.grease_percent = 97.0

    @property
    def program_name(self) -> str:
        """Name of the part being made."""
        return PROGRAMS[self.program][0]

    @property
    def second_of_cycle(self) -> float:
        """Time since the cycle began."""
        return self.time_s - self.strokes * CYCLE_S

    @property
    def oil_flow_l_min(self) -> float:
        """What the cylinders take or return: area times velocity."""
        return abs(self.velocity_mm_s) / 1000 * BED_AREA_M2 * 60_000

    def noise(self, sigma: float) -> float:
        """A sensor's noise."""
        return self._random.gauss(0.0, sigma)

    def step(self, dt_s: float) -> None:
        """Advance by `dt_s` seconds (> 0)."""
        if not dt_s > 0:
            raise ValueError(f"a step takes a positive time, not {dt_s} s")
        pieces = math.ceil(dt_s / MAX_STEP_S)
        for _ in range(pieces):
            self._advance(dt_s / pieces)

    def _advance(self, dt_s: float) -> None:
        self.time_s += dt_s
        while self.time_s >= (self.strokes + 1) * CYCLE_S:
            self._finish_stroke()
        before = self.velocity_mm_s
        self.phase, self.position_mm, self.velocity_mm_s = ram_at(self.second_of_cycle)
        self.acceleration_m_s2 = (self.velocity_mm_s - before) / 1000 / dt_s
        self._press(dt_s)
        self._pump(dt_s)
        self._heat(dt_s)
        self._lubricate(dt_s)

    def _finish_stroke(self) -> None:
        self.strokes += 1
        if self._random.random() < SCRAP_SHARE:
            self.parts_scrap += 1
        else:
            self.parts_good += 1
        self.last_peak_force_kn, self.peak_force_kn = self.peak_force_kn, 0.0
        self.last_bottom_mm, self._bottom_mm = self._bottom_mm, OPEN_MM
        self.last_cycle_s = CYCLE_S + self._random.gauss(0.0, 0.01)
        self.energy_of_part_wh = self.energy_wh - self._energy_at_stroke_wh
        self._energy_at_stroke_wh = self.energy_wh
        self.program = self.strokes // PARTS_PER_PROGRAM % len(PROGRAMS)
        self.tilt_x = _stay(self.tilt_x + self._random.gauss(0.0, 0.004), 0.15)
        self.tilt_y = _stay(self.tilt_y + self._random.gauss(0.0, 0.004), 0.15)

    def _press(self, dt_s: float) -> None:
        share = PROGRAMS[self.program][1]
        if self.phase is Phase.PRESSING:
            depth = (TOUCH_MM - self.position_mm) / TOUCH_MM
            wanted = NOMINAL_FORCE_KN * share * (0.35 * depth + 0.65 * depth**3)
        elif self.phase is Phase.HOLDING:
            wanted = NOMINAL_FORCE_KN * share
        else:
            wanted = 0.0
        self.force.follow(wanted, dt_s)
        self.peak_force_kn = max(self.peak_force_kn, self.force.value)
        # The frame stretches a little under load.
        self._bottom_mm = min(self._bottom_mm, self.position_mm - self.force.value * 1e-5)

    def _pump(self, dt_s: float) -> None:
        moving = 35.0 if self.phase in (Phase.CLOSING, Phase.OPENING) else 0.0
        # kN over m2 is kPa; a hundred of them are a bar.
        self.pressure.follow(25.0 + moving + self.force.value / BED_AREA_M2 / 100, dt_s)
        self.accumulator.follow(200.0 - 0.9 * moving - 0.05 * self.pressure.value, dt_s)
        # bar x l/min / 600 is kW.
        self.hydraulic_w = self.pressure.value * self.oil_flow_l_min / 600 * 1000 * 0.06
        self.power_w.follow(9000.0 + self.hydraulic_w / 0.82 + 3.0 * self.force.value, dt_s)
        self.energy_wh += self.power_w.value * dt_s / 3600
        self.peak_power_w = max(self.peak_power_w * math.exp(-dt_s / 900), self.power_w.value)

    def _heat(self, dt_s: float) -> None:
        load = self.power_w.value / 30_000
        ambient = AMBIENT_C + 3 * math.sin(2 * math.pi * self.time_s / 86_400)
        self.oil.follow(ambient + 26 * load, dt_s)
        for index, motor in enumerate(self.motors):
            motor.follow(ambient + (38 + 2 * index) * load + 12, dt_s)
        for index, bearing in enumerate(self.bearings):
            bearing.follow(ambient + (16 + index) * load + 9, dt_s)
        contact = 1.0 if self.phase in (Phase.PRESSING, Phase.HOLDING) else 0.0
        for index, zone in enumerate(self.die_zones):
            zone.follow(ambient + 22 + (95 + 4 * (index % 8)) * contact, dt_s)
        for index, zone in enumerate(self.frame_zones):
            zone.follow(ambient + (5 + index % 6) * load + 2, dt_s)
        self.cabinet.follow(ambient + 10 * load + 3, dt_s)

    @property
    def lube_pumping(self) -> bool:
        """The lubrication pump runs for three of every eleven seconds."""
        return self.time_s % 11 < 3

    def _lubricate(self, dt_s: float) -> None:
        self.lube_pressure.follow(28.0 if self.lube_pumping else 3.0, dt_s)
        if self.lube_pumping:
            self.grease_percent -= dt_s * 2e-4
            if self.grease_percent < 10:
                self.grease_percent = 100.0  # somebody changes the cartridge
        self.lube_pulses = int(self.time_s // 11) * 24 + int(min(self.time_s % 11, 3) * 8)


def _stay(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))
