"""The simulated pump behaves like a pump: water is conserved, curves meet, heat lags, trips latch."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.pump_physics import (
    MAX_SPEED_RPM,
    RATED_FLOW_M3_H,
    RATED_SPEED_RPM,
    TANK_VOLUME_M3,
    Commands,
    Phase,
    PumpSkid,
    PumpState,
    operating_point,
    pump_head,
)


def run(skid: PumpSkid, seconds: float, dt_s: float = 0.1) -> PumpState:
    state = skid.step(dt_s)
    for _ in range(round(seconds / dt_s) - 1):
        state = skid.step(dt_s)
    return state


commands = st.builds(
    Commands,
    run=st.booleans(),
    speed_setpoint_rpm=st.floats(0, MAX_SPEED_RPM),
    valve_auto=st.booleans(),
    valve_setpoint_percent=st.floats(0, 100),
)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(commands, st.floats(0.01, 40)), min_size=1, max_size=12), st.integers(0, 99))
def test_water_is_conserved_whatever_is_commanded(story: list[tuple[Commands, float]], seed: int) -> None:
    skid = PumpSkid(seed)
    start = 0.6 * TANK_VOLUME_M3
    for command, dt_s in story:
        skid.commands = command
        state = skid.step(dt_s)
        balance = start + state.inflow_total_m3 - state.pumped_total_m3 - state.overflow_total_m3
        assert state.tank_volume_m3 == pytest.approx(balance, abs=1e-9)
        assert 0 <= state.tank_volume_m3 <= TANK_VOLUME_M3


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(commands, st.floats(0.01, 40)), min_size=1, max_size=12), st.integers(0, 99))
def test_values_stay_plausible_whatever_is_commanded(story: list[tuple[Commands, float]], seed: int) -> None:
    skid = PumpSkid(seed)
    for command, dt_s in story:
        skid.commands = command
        state = skid.step(dt_s)
        assert 0 <= state.speed_rpm <= MAX_SPEED_RPM + 10
        assert 0 <= state.flow_m3_h < 120
        assert -1 < state.suction_pressure_bar < 0.3
        assert state.discharge_pressure_bar > 0.7
        assert 10 < state.motor_temperature_c < 150
        assert 0 <= state.current_a < 40
        assert 0 <= state.valve_position_percent <= 100
        assert 0 <= state.vibration_mm_s < 20
        assert state.efficiency_percent <= 74


def test_the_same_seed_and_commands_give_the_same_states() -> None:
    assert run(PumpSkid(7), 60) == run(PumpSkid(7), 60)


def test_another_seed_gives_other_noise() -> None:
    assert run(PumpSkid(7), 60) != run(PumpSkid(8), 60)


@given(st.floats(0.1, 1.05), st.floats(0.05, 1), st.floats(0, 2.5))
def test_at_the_operating_point_the_pump_gives_the_head_the_system_takes(
    fraction: float, opening: float, level: float
) -> None:
    flow = operating_point(fraction, opening, level)
    if flow > 0:
        needed = 8.0 - level + (0.0025 + 0.0035 / opening**2) * flow**2
        assert pump_head(flow, fraction) == pytest.approx(needed, rel=1e-9)


@given(st.floats(0.3, 1.0), st.floats(0.1, 0.9))
def test_flow_grows_with_speed_and_with_valve_opening(fraction: float, opening: float) -> None:
    here = operating_point(fraction, opening, 1.5)
    assert operating_point(fraction + 0.05, opening, 1.5) >= here
    assert operating_point(fraction, opening + 0.05, 1.5) >= here


def test_the_rated_point_is_near_the_name_plate() -> None:
    assert operating_point(1.0, 0.75, 1.5) == pytest.approx(RATED_FLOW_M3_H, rel=0.05)
    assert pump_head(RATED_FLOW_M3_H, 1.0) == pytest.approx(38.0)


def test_a_running_pump_raises_pressure_and_a_stopped_one_moves_no_water() -> None:
    skid = PumpSkid(1)
    running = run(skid, 30)
    assert running.phase is Phase.RUNNING
    assert running.discharge_pressure_bar > running.suction_pressure_bar + 2
    assert running.flow_m3_h > 40
    skid.commands.run = False
    stopped = run(skid, 60)
    assert stopped.phase is Phase.STOPPED
    assert stopped.flow_m3_h == 0
    assert stopped.speed_rpm == 0
    assert run(skid, 60).pumped_total_m3 == stopped.pumped_total_m3


def test_the_drive_ramps_and_does_not_jump() -> None:
    skid = PumpSkid(1)
    early = skid.step(1.0)
    assert early.phase is Phase.STARTING
    assert 380 < early.speed_rpm < 420


def test_the_motor_warms_slowly_towards_a_limit() -> None:
    skid = PumpSkid(1)
    after = [run(skid, 600, dt_s=1.0).motor_temperature_c for _ in range(6)]
    rises = [later - earlier for earlier, later in pairwise(after)]
    assert rises[0] > 3
    assert all(later < earlier + 0.5 for earlier, later in pairwise(rises))
    assert rises[-1] < 2


def test_level_moves_between_the_make_up_levels() -> None:
    skid = PumpSkid(1)
    levels = [skid.step(1.0).tank_level_m for _ in range(3600)]
    assert 0.9 < min(levels) < 1.1
    assert 1.9 < max(levels) < 2.1


def test_a_vanishing_set_point_is_a_slow_pump_and_not_an_overflow() -> None:
    skid = PumpSkid(1)
    run(skid, 20)
    skid.commands.speed_setpoint_rpm = 6e-177
    state = run(skid, 20)
    assert state.speed_rpm < 5
    assert state.current_a < 6


def test_passing_the_resonance_shakes_the_bearing() -> None:
    skid = PumpSkid(1)
    skid.commands.speed_setpoint_rpm = 0.62 * RATED_SPEED_RPM
    at_resonance = run(skid, 30).vibration_mm_s
    skid.commands.speed_setpoint_rpm = 0.8 * RATED_SPEED_RPM
    assert run(skid, 30).vibration_mm_s < at_resonance / 1.5


def test_over_temperature_trips_and_stays_tripped_until_reset() -> None:
    skid = PumpSkid(1)
    skid.commands.motor_temperature_limit_c = 20.0
    tripped = run(skid, 600, dt_s=1.0)
    assert tripped.alarm_over_temperature
    assert tripped.phase is Phase.FAULTED
    assert tripped.speed_rpm == 0
    skid.commands.motor_temperature_limit_c = 105.0
    assert run(skid, 10).phase is Phase.FAULTED
    skid.reset_alarms()
    assert run(skid, 30).phase is Phase.RUNNING


def test_run_time_and_starts_count_up() -> None:
    skid = PumpSkid(1)
    for _ in range(3):
        skid.commands.run = True
        run(skid, 20)
        skid.commands.run = False
        state = run(skid, 20)
    assert state.starts == 3
    assert 60 < state.run_seconds < 90
    assert state.run_hours == pytest.approx(state.run_seconds / 3600)


@pytest.mark.parametrize("dt_s", [0.0, -1.0, math.nan])
def test_time_does_not_stand_still_or_run_backwards(dt_s: float) -> None:
    with pytest.raises(ValueError, match="positive time"):
        PumpSkid(1).step(dt_s)
