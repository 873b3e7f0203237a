"""A centrifugal pump that empties a tank into a process: what the pump skid simulator pretends to be.

Kept apart from the Modbus server so that the physics can be checked without a socket. Called by
`pump_registers` (which turns a state into registers) and by the unit tests. It knows nothing of registers, reads
no clock and draws noise only from the seeded generator it was given: the same seed and the same commands give
the same states, on every machine.

Sources: affinity laws and quadratic pump and system curves as in any pump text book (Gülich, "Centrifugal
Pumps", 3rd ed., ch. 3 and 11); first-order thermal model of a motor (IEC 60034-1, duty S1). The figures are
those of a common 11 kW end-suction pump, 60 m3/h at 38 m.
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass

GRAVITY = 9.81
WATER_DENSITY = 998.0
BAR_PER_METRE = WATER_DENSITY * GRAVITY / 1e5

RATED_SPEED_RPM = 2960.0
RATED_FLOW_M3_H = 60.0
RATED_HEAD_M = 38.0
RATED_CURRENT_A = 20.5
SHUT_OFF_HEAD_M = 48.0
# Chosen so that the pump curve passes through the rated point.
PUMP_CURVE = (SHUT_OFF_HEAD_M - RATED_HEAD_M) / RATED_FLOW_M3_H**2
MAX_SPEED_RPM = 3000.0
RAMP_UP_RPM_S = 400.0
RAMP_DOWN_RPM_S = 600.0

STATIC_HEAD_M = 8.0
PIPE_LOSS = 0.0025  # m per (m3/h)^2
VALVE_LOSS = 0.0035  # m per (m3/h)^2, valve fully open; grows with 1/opening^2
SUCTION_LOSS_BAR = 0.05 / RATED_FLOW_M3_H**2
VALVE_TRAVEL_PERCENT_S = 5.0
FLOW_LAG_S = 0.8

TANK_AREA_M2 = 3.0
TANK_HEIGHT_M = 2.5
TANK_VOLUME_M3 = TANK_AREA_M2 * TANK_HEIGHT_M
MAKE_UP_FLOW_M3_H = 90.0
MAKE_UP_OPENS_M = 1.0
MAKE_UP_CLOSES_M = 2.0
DRY_RUN_LEVEL_M = 0.10

MAINS_V = 400.0
POWER_FACTOR = 0.86
MOTOR_EFFICIENCY = 0.90
MOTOR_K_PER_W = 0.045
MOTOR_LAG_S = 600.0
BEARING_LAG_S = 300.0
# An over-temperature trip this far above the operator's alarm limit.
TRIP_MARGIN_K = 15.0

MAX_STEP_S = 0.25  # longer steps are cut up: the level control hunts otherwise


class Phase(enum.IntEnum):
    """What the drive is doing; sent as a number in a register."""

    STOPPED = 0
    STARTING = 1
    RUNNING = 2
    STOPPING = 3
    FAULTED = 4


@dataclass
class Commands:
    """What the operator (or a PLC) has asked for; the only part of the skid that may be written."""

    run: bool = True
    speed_setpoint_rpm: float = 2900.0
    valve_auto: bool = True
    valve_setpoint_percent: float = 70.0
    motor_temperature_limit_c: float = 105.0
    vibration_limit_mm_s: float = 7.1  # ISO 10816-7, boundary to zone D for category II pumps is near this
    level_low_limit_m: float = 0.5
    level_high_limit_m: float = 2.2


@dataclass(frozen=True, slots=True)
class PumpState:
    """One instant of the skid. Sensor values carry noise; levels, totals and counters are exact."""

    time_s: float
    phase: Phase
    tank_level_m: float
    tank_level_percent: float
    tank_volume_m3: float
    inflow_m3_h: float
    inflow_total_m3: float
    pumped_total_m3: float
    overflow_total_m3: float
    net_flow_m3_h: float
    suction_pressure_bar: float
    discharge_pressure_bar: float
    head_m: float
    flow_m3_h: float
    npsh_available_m: float
    speed_rpm: float
    frequency_hz: float
    current_a: float
    power_w: float
    efficiency_percent: float
    energy_wh: float
    voltage_v: float
    motor_temperature_c: float
    bearing_temperature_c: float
    ambient_temperature_c: float
    vibration_mm_s: float
    valve_position_percent: float
    run_hours: float
    run_seconds: float
    starts: int
    running: bool
    ready: bool
    make_up_open: bool
    alarm_low_level: bool
    alarm_high_level: bool
    alarm_dry_run: bool
    alarm_over_temperature: bool
    alarm_vibration: bool
    alarm_overload: bool
    fault: bool


def operating_point(speed_fraction: float, opening: float, level_m: float) -> float:
    """Flow in m3/h where the pump curve meets the system curve; 0 when the pump cannot lift the column.

    `speed_fraction` is speed over rated speed, `opening` the valve opening from 0 to 1.
    """
    if opening < 0.01:
        return 0.0
    driving_head = SHUT_OFF_HEAD_M * speed_fraction**2 + level_m - STATIC_HEAD_M
    if driving_head <= 0:
        return 0.0
    return math.sqrt(driving_head / (PUMP_CURVE + PIPE_LOSS + VALVE_LOSS / opening**2))


def pump_head(flow_m3_h: float, speed_fraction: float) -> float:
    """Head in metres at that flow and speed (affinity laws applied to the rated curve)."""
    return max(0.0, SHUT_OFF_HEAD_M * speed_fraction**2 - PUMP_CURVE * flow_m3_h**2)


def _lag(value: float, towards: float, dt_s: float, lag_s: float) -> float:
    # The exact solution of a first-order lag: stable however long the step.
    return towards + (value - towards) * math.exp(-dt_s / lag_s)


def _approach(value: float, towards: float, most: float) -> float:
    return value + max(-most, min(most, towards - value))


class PumpSkid:
    """The skid itself. `step` moves time on; `commands` may be changed between steps."""

    def __init__(self, seed: int = 1, commands: Commands | None = None) -> None:
        self.commands = commands or Commands()
        self._noise = random.Random(seed)
        self._time_s = 0.0
        self._volume_m3 = 0.6 * TANK_VOLUME_M3
        self._inflow_total_m3 = 0.0
        self._pumped_total_m3 = 0.0
        self._overflow_total_m3 = 0.0
        self._flow_m3_h = 0.0
        self._inflow_m3_h = 0.0
        self._speed_rpm = 0.0
        self._valve_percent = 70.0
        self._make_up_open = False
        self._ambient_c = 22.0
        self._motor_c = 35.0
        self._bearing_c = 30.0
        self._vibration_mm_s = 0.0
        self._energy_wh = 0.0
        self._power_w = 0.0
        self._shaft_w = 0.0
        self._current_a = 0.0
        self._run_s = 0.0
        self._starts = 0
        self._was_running = False
        self._dry_run_trip = False
        self._temperature_trip = False
        # What the plant has drifted to: two slow periods unlike for every seed.
        self._demand_phase = self._noise.uniform(0.0, 2 * math.pi)

    def reset_alarms(self) -> None:
        """Clear latched trips; a trip whose cause persists comes back at the next step."""
        self._dry_run_trip = False
        self._temperature_trip = False

    def step(self, dt_s: float) -> PumpState:
        """Advance by `dt_s` seconds (> 0) and return the new state."""
        if not dt_s > 0:
            raise ValueError(f"a step takes a positive time, not {dt_s} s")
        pieces = math.ceil(dt_s / MAX_STEP_S)
        for _ in range(pieces):
            self._advance(dt_s / pieces)
        return self._state()

    def _level_m(self) -> float:
        return self._volume_m3 / TANK_AREA_M2

    def _advance(self, dt_s: float) -> None:
        self._time_s += dt_s
        self._drive(dt_s)
        self._move_valve(dt_s)
        self._move_water(dt_s)
        self._load_motor(dt_s)
        self._warm_up(dt_s)
        self._watch()

    def _drive(self, dt_s: float) -> None:
        run = self.commands.run and not self._fault()
        wanted = min(MAX_SPEED_RPM, max(0.0, self.commands.speed_setpoint_rpm)) if run else 0.0
        rate = RAMP_UP_RPM_S if wanted > self._speed_rpm else RAMP_DOWN_RPM_S
        self._speed_rpm = _approach(self._speed_rpm, wanted, rate * dt_s)
        if run and not self._was_running:
            self._starts += 1
        self._was_running = run
        if self._speed_rpm > 0:
            self._run_s += dt_s

    def _move_valve(self, dt_s: float) -> None:
        wanted = self.commands.valve_setpoint_percent
        if self.commands.valve_auto:
            swing = 2 * math.pi * self._time_s
            wanted = 72 + 15 * math.sin(swing / 420 + self._demand_phase) + 4 * math.sin(swing / 97)
        wanted = min(100.0, max(0.0, wanted))
        self._valve_percent = _approach(self._valve_percent, wanted, VALVE_TRAVEL_PERCENT_S * dt_s)

    def _move_water(self, dt_s: float) -> None:
        level = self._level_m()
        if level <= MAKE_UP_OPENS_M:
            self._make_up_open = True
        elif level >= MAKE_UP_CLOSES_M:
            self._make_up_open = False
        self._inflow_m3_h = _lag(self._inflow_m3_h, MAKE_UP_FLOW_M3_H if self._make_up_open else 0.0, dt_s, lag_s=2.0)
        possible = operating_point(self._speed_rpm / RATED_SPEED_RPM, self._valve_percent / 100, level)
        # Below the dry-run level the suction draws air.
        possible *= min(1.0, level / DRY_RUN_LEVEL_M)
        self._flow_m3_h = _lag(self._flow_m3_h, possible, dt_s, FLOW_LAG_S)
        if self._flow_m3_h < 1e-3 and possible == 0.0:
            self._flow_m3_h = 0.0

        came_in = self._inflow_m3_h / 3600 * dt_s
        went_out = min(self._flow_m3_h / 3600 * dt_s, self._volume_m3 + came_in)
        volume = self._volume_m3 + came_in - went_out
        spilled = max(0.0, volume - TANK_VOLUME_M3)
        self._volume_m3 = volume - spilled
        self._inflow_total_m3 += came_in
        self._pumped_total_m3 += went_out
        self._overflow_total_m3 += spilled

    def _efficiency(self) -> float:
        fraction = self._speed_rpm / RATED_SPEED_RPM
        if fraction <= 0 or self._flow_m3_h <= 0:
            return 0.0
        # Flow outlives speed for a moment; below a fiftieth of the rated speed the ratio means nothing.
        relative_flow = self._flow_m3_h / (RATED_FLOW_M3_H * max(fraction, 0.02))
        return max(0.05, 0.74 * (1 - 0.9 * (relative_flow - 1) ** 2))

    def _load_motor(self, dt_s: float) -> None:
        fraction = self._speed_rpm / RATED_SPEED_RPM
        head = pump_head(self._flow_m3_h, fraction)
        hydraulic_w = WATER_DENSITY * GRAVITY * self._flow_m3_h / 3600 * head
        efficiency = self._efficiency()
        self._shaft_w = (hydraulic_w / efficiency if efficiency else 0.0) + 300.0 * fraction**3
        standby_w = 25.0  # the drive's electronics
        magnetising_w = 150.0 if self._speed_rpm > 0 else 0.0
        self._power_w = self._shaft_w / MOTOR_EFFICIENCY + magnetising_w + standby_w
        active_a = self._power_w / (math.sqrt(3) * MAINS_V * POWER_FACTOR)
        self._current_a = math.hypot(active_a, 4.0 if self._speed_rpm > 0 else 0.0)
        self._energy_wh += self._power_w * dt_s / 3600

    def _warm_up(self, dt_s: float) -> None:
        self._ambient_c = 22 + 6 * math.sin(2 * math.pi * self._time_s / 86_400)
        losses_w = self._power_w - self._shaft_w
        fraction = self._speed_rpm / RATED_SPEED_RPM
        self._motor_c = _lag(self._motor_c, self._ambient_c + MOTOR_K_PER_W * losses_w, dt_s, MOTOR_LAG_S)
        self._bearing_c = _lag(self._bearing_c, self._ambient_c + 28 * fraction**1.5, dt_s, BEARING_LAG_S)
        off_best = self._flow_m3_h / (RATED_FLOW_M3_H * fraction) - 1 if fraction > 0.05 else 0.0
        resonance = 3.0 * math.exp(-(((fraction - 0.62) / 0.03) ** 2))
        shaking = (0.9 + 2.5 * off_best**2) * fraction**2 + resonance
        self._vibration_mm_s = _lag(self._vibration_mm_s, shaking, dt_s, lag_s=1.5)

    def _watch(self) -> None:
        if self._speed_rpm > 0 and self._level_m() < DRY_RUN_LEVEL_M:
            self._dry_run_trip = True
        if self._motor_c > self.commands.motor_temperature_limit_c + TRIP_MARGIN_K:
            self._temperature_trip = True

    def _fault(self) -> bool:
        return self._dry_run_trip or self._temperature_trip

    def _phase(self) -> Phase:
        if self._fault():
            return Phase.FAULTED
        if not self.commands.run:
            return Phase.STOPPING if self._speed_rpm > 0 else Phase.STOPPED
        wanted = min(MAX_SPEED_RPM, self.commands.speed_setpoint_rpm)
        return Phase.RUNNING if abs(self._speed_rpm - wanted) < 1.0 else Phase.STARTING

    def _state(self) -> PumpState:
        noise = self._noise.gauss
        commands = self.commands
        level = self._level_m()
        fraction = self._speed_rpm / RATED_SPEED_RPM
        head = pump_head(self._flow_m3_h, fraction)
        suction = level * BAR_PER_METRE - SUCTION_LOSS_BAR * self._flow_m3_h**2
        # With no flow the check valve holds the header's pressure.
        discharge = max(suction + head * BAR_PER_METRE, STATIC_HEAD_M * BAR_PER_METRE)
        turning = self._speed_rpm > 0
        vibration = self._vibration_mm_s * math.exp(noise(0.0, 0.04)) + abs(noise(0.0, 0.01))
        return PumpState(
            time_s=self._time_s,
            phase=self._phase(),
            tank_level_m=level,
            tank_level_percent=100 * self._volume_m3 / TANK_VOLUME_M3,
            tank_volume_m3=self._volume_m3,
            inflow_m3_h=self._inflow_m3_h,
            inflow_total_m3=self._inflow_total_m3,
            pumped_total_m3=self._pumped_total_m3,
            overflow_total_m3=self._overflow_total_m3,
            net_flow_m3_h=self._inflow_m3_h - self._flow_m3_h,
            suction_pressure_bar=suction + noise(0.0, 0.002),
            discharge_pressure_bar=discharge + noise(0.0, 0.006),
            head_m=head,
            flow_m3_h=max(0.0, self._flow_m3_h + (noise(0.0, 0.08) if self._flow_m3_h > 0 else 0.0)),
            npsh_available_m=10.1 + suction / BAR_PER_METRE,
            speed_rpm=max(0.0, self._speed_rpm + (noise(0.0, 0.7) if turning else 0.0)),
            frequency_hz=self._speed_rpm / 60 * 1.0135,  # two poles, 1.35 % slip
            current_a=max(0.0, self._current_a + (noise(0.0, 0.03) if turning else 0.0)),
            power_w=self._power_w,
            efficiency_percent=100 * self._efficiency(),
            energy_wh=self._energy_wh,
            voltage_v=MAINS_V + noise(0.0, 0.6),
            motor_temperature_c=self._motor_c + noise(0.0, 0.03),
            bearing_temperature_c=self._bearing_c + noise(0.0, 0.03),
            ambient_temperature_c=self._ambient_c + noise(0.0, 0.02),
            vibration_mm_s=vibration,
            valve_position_percent=self._valve_percent,
            run_hours=self._run_s / 3600,
            run_seconds=self._run_s,
            starts=self._starts,
            running=turning,
            ready=not self._fault(),
            make_up_open=self._make_up_open,
            alarm_low_level=level < commands.level_low_limit_m,
            alarm_high_level=level > commands.level_high_limit_m,
            alarm_dry_run=self._dry_run_trip,
            alarm_over_temperature=self._motor_c > commands.motor_temperature_limit_c,
            alarm_vibration=self._vibration_mm_s > commands.vibration_limit_mm_s,
            alarm_overload=self._current_a > 1.1 * RATED_CURRENT_A,
            fault=self._fault(),
        )
