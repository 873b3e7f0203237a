"""Baselines, alarms with hysteresis and memory, and an outlook only where it is honest."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.vibration.trend import (
    Alarm,
    Judgement,
    Trend,
    TrendRule,
    acknowledge,
    false_alarm_rate,
    observe,
    operating_state,
    outlook,
    relearn,
)

RULE = TrendRule()


def _run(levels: np.ndarray, trend: Trend | None = None, rpm: float = 1500.0, start: int = 0) -> list[Judgement]:
    trend = trend or Trend()
    out = []
    for i, level in enumerate(levels):
        out.append(observe(trend, RULE, float(level), (start + i) / 24, rpm=rpm))
        trend = out[-1].trend
    return out


def _noise(count: int, seed: int = 0, factor: float = 1.0) -> np.ndarray:
    return factor * np.exp(0.1 * np.random.default_rng(seed).standard_normal(count))


def test_a_steady_machine_never_alarms_over_ten_thousand_snapshots() -> None:
    alarms = {one.alarm for one in _run(_noise(10_000))}
    assert alarms == {Alarm.LEARNING, Alarm.NORMAL}


def test_one_loud_snapshot_is_no_alarm() -> None:
    levels = _noise(200)
    levels[100] = 50
    assert Alarm.ALARM not in {one.alarm for one in _run(levels)}


def test_a_lasting_rise_alarms_after_five_snapshots() -> None:
    levels = np.concatenate([_noise(100), _noise(20, 1, 3.0)])
    found = _run(levels)
    first = next(i for i, one in enumerate(found) if one.alarm is Alarm.ALARM)
    assert 100 + 4 <= first <= 100 + 6
    assert found[first].distance is not None
    assert found[first].distance > RULE.sigmas
    assert not found[first].trend.acknowledged


def test_nothing_alarms_while_learning_or_directly_afterwards() -> None:
    levels = np.concatenate([_noise(RULE.learn), _noise(RULE.settle, 1, 10.0)])
    assert Alarm.ALARM not in {one.alarm for one in _run(levels)}


def test_an_alarm_that_ends_stays_latched_until_it_is_acknowledged() -> None:
    found = _run(np.concatenate([_noise(100), _noise(10, 1, 3.0), _noise(30, 2)]))
    assert found[-1].alarm is Alarm.LATCHED
    after = _run(_noise(5, 3), acknowledge(found[-1].trend), start=140)
    assert after[-1].alarm is Alarm.NORMAL


def test_between_release_and_alarm_nothing_changes() -> None:
    """Hysteresis: about 4.5 sigmas neither raises an alarm nor ends one."""
    learnt = _run(_noise(100))[-1].trend
    (state,) = learnt.states.values()
    assert state.baseline is not None
    between = np.full(40, math.exp(state.baseline.centre + 4.5 * state.baseline.width))
    assert _run(between, learnt, start=100)[-1].alarm is Alarm.WARNING
    alarmed = _run(_noise(10, 1, 5.0), learnt, start=100)[-1].trend
    assert _run(between, alarmed, start=110)[-1].alarm is Alarm.ALARM


def test_each_operating_state_has_its_own_baseline() -> None:
    slow = _run(_noise(100), rpm=1500)
    fast = _run(_noise(200, 5, 4.0), slow[-1].trend, rpm=3000, start=100)
    assert {one.alarm for one in fast} == {Alarm.NORMAL}
    assert operating_state(RULE, 1500, 0.5) != operating_state(RULE, 3000, 0.5)
    assert operating_state(RULE, None, None) == (-1, -1)


@pytest.mark.parametrize("level", [0.0, -1.0, math.nan, math.inf])
def test_a_level_that_is_none_changes_nothing(level: float) -> None:
    trend = _run(_noise(60))[-1].trend
    found = observe(trend, RULE, level, 3.0, rpm=1500)
    assert (found.trend, found.distance) == (trend, None)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-6, 1e6))
def test_alarms_do_not_depend_on_the_unit(factor: float) -> None:
    levels = np.concatenate([_noise(80), _noise(20, 1, 2.5)])
    assert [one.alarm for one in _run(levels)] == [one.alarm for one in _run(levels * factor)]


def test_the_stated_false_alarm_rate_is_met_by_experiment() -> None:
    rule = TrendRule(sigmas=0.5, warning_sigmas=0.4, release=0.4, sustained=5, of_last=7)
    rng = np.random.default_rng(0)
    above = rng.standard_normal((40_000, 7)) > rule.sigmas
    assert false_alarm_rate(rule) == pytest.approx(np.mean(above.sum(axis=1) >= 5), rel=0.1)
    assert false_alarm_rate(RULE) < 1e-30


def test_a_repair_is_learnt_anew() -> None:
    assert relearn(_run(_noise(100))[-1].trend) == Trend()


def test_wear_that_shows_is_extrapolated_and_wear_that_does_not_is_not() -> None:
    calm = _run(_noise(150))[-1].trend
    assert outlook(calm, 10).days is None
    days = np.arange(100)
    rising = _run(_noise(100, 7) * np.exp(0.02 * days), calm, start=150)[-1].trend
    found = outlook(rising, 30.0)
    expected = (math.log(30.0) - 0.02 * 99) / 0.02 / 24
    assert found.days == pytest.approx(expected, rel=0.35)
    assert found.earliest is not None
    assert found.latest is not None
    assert found.earliest < found.days < found.latest


def test_what_is_remembered_is_bounded() -> None:
    trend = _run(_noise(3000))[-1].trend
    assert len(trend.history) <= 241
    many = Trend()
    for i in range(500):
        many = observe(many, RULE, 1.0, float(i), rpm=i * 1000.0).trend
    assert len(many.states) <= 64
