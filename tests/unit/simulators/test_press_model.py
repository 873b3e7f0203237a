"""The simulated press behaves like a press: one stroke per cycle, force only on the sheet, energy adds up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.press_model import CYCLE_S, OPEN_MM, TOUCH_MM, Phase, PressModel, ram_at
from tests.simulators.press_signals import SIGNALS, read_all


def test_there_are_two_hundred_signals_of_many_types() -> None:
    assert len(SIGNALS) == 200
    assert len({signal.path for signal in SIGNALS}) == 200
    kinds = Counter(signal.kind for signal in SIGNALS)
    assert set(kinds) == {"bool", "uint16", "int32", "uint32", "int64", "float", "double", "string", "phase"}
    sections = {signal.path.split("/")[0] for signal in SIGNALS}
    assert {"Hydraulics", "Ram", "Die", "Motors", "Temperatures", "Energy"} <= sections


def test_every_signal_changes_within_a_few_minutes() -> None:
    model = PressModel(1)
    first = read_all(model)
    changed: set[str] = set()
    for _ in range(400):
        model.step(0.5)
        for signal, before, now in zip(SIGNALS, first, read_all(model), strict=True):
            if now != before:
                changed.add(signal.path)
    assert {signal.path for signal in SIGNALS} - changed == set()


def test_values_have_the_type_they_announce_and_stay_in_range() -> None:
    python = {"bool": bool, "float": float, "double": float, "string": str}
    model = PressModel(3)
    for _ in range(300):
        model.step(0.37)
        for signal, value in zip(SIGNALS, read_all(model), strict=True):
            assert type(value) is python.get(signal.kind, int), signal.path
            if signal.low is not None and signal.high is not None:
                assert not isinstance(value, str)
                assert signal.low <= value <= signal.high, signal.path


def test_analogue_values_have_room_inside_their_range() -> None:
    # A value that sits on its upper end was clipped: the model and the range disagree.
    model = PressModel(1)
    for _ in range(600):
        model.step(0.31)
        for signal, value in zip(SIGNALS, read_all(model), strict=True):
            if signal.high is not None:
                assert not isinstance(value, str)
                assert value < signal.high, signal.path


def test_the_same_seed_gives_the_same_values() -> None:
    def story(seed: int) -> list[object]:
        model = PressModel(seed)
        values: list[object] = []
        for _ in range(50):
            model.step(0.5)
            values.append(read_all(model))
        return values

    assert story(5) == story(5)
    assert story(5) != story(6)


def test_a_cycle_is_one_stroke_and_one_part() -> None:
    model = PressModel(1)
    for _ in range(1000):
        model.step(0.1)
        assert model.strokes * CYCLE_S <= model.time_s < (model.strokes + 1) * CYCLE_S
        assert model.parts_good + model.parts_scrap == model.strokes


def test_phases_follow_each_other_in_order() -> None:
    model = PressModel(1)
    seen = [model.phase]
    for _ in range(400):
        model.step(0.05)
        if model.phase is not seen[-1]:
            seen.append(model.phase)
    assert len(seen) > 12
    assert seen == [list(Phase)[i % len(Phase)] for i in range(len(seen))]


@given(st.floats(0, 3 * CYCLE_S))
def test_the_ram_stays_between_its_ends(second: float) -> None:
    _, position, velocity = ram_at(second)
    assert -1e-9 <= position <= OPEN_MM + 1e-9
    assert abs(velocity) < 900


@given(st.floats(0, CYCLE_S - 0.002))
def test_velocity_is_the_slope_of_position(second: float) -> None:
    (phase, before, velocity), (later, after, _) = ram_at(second), ram_at(second + 0.001)
    if phase is later:
        assert (after - before) / 0.001 == pytest.approx(velocity, abs=3)


def test_force_builds_only_while_the_ram_is_on_the_sheet() -> None:
    model = PressModel(1)
    peak = 0.0
    for _ in range(1200):
        model.step(0.02)
        peak = max(peak, model.force.value)
        if model.position_mm > TOUCH_MM + 250:
            assert model.force.value < 1.0
    assert 4000 < peak < 6300
    assert peak == pytest.approx(5418, rel=0.03)  # 86 % of the nominal force


def test_energy_is_the_integral_of_power() -> None:
    model = PressModel(1)
    summed = 0.0
    for _ in range(2000):
        model.step(0.05)
        summed += model.power_w.value * 0.05 / 3600
    assert model.energy_wh == pytest.approx(summed, rel=1e-9)


def test_pressure_follows_force_with_a_lag() -> None:
    model = PressModel(1)
    while model.phase is not Phase.HOLDING:
        model.step(0.01)
    early = model.pressure.value
    for _ in range(80):
        model.step(0.01)
    assert early < model.pressure.value < 350


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=10))
def test_temperatures_stay_plausible_for_any_step_length(steps: list[float]) -> None:
    model = PressModel(2)
    for dt_s in steps:
        model.step(dt_s)
        for lag in (model.oil, model.cabinet, *model.motors, *model.bearings, *model.die_zones, *model.frame_zones):
            assert 15 < lag.value < 160


def test_the_program_changes_after_an_order() -> None:
    model = PressModel(1)
    names = set()
    for _ in range(300):
        model.step(CYCLE_S / 4)
        names.add(model.program_name)
    assert len(names) == 5
