"""Bad records are recognised, named and located; good ones pass."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulators.bearing_signal import Machine, record
from workloads.vibration.bearing import by_name
from workloads.vibration.quality import Effect, check, duplicates, refusals
from workloads.vibration.record import Record, Unit

GOOD = record(Machine(seconds=2.0), 1)


def _kinds(samples: np.ndarray, **other: object) -> dict[str, Effect]:
    given = {"rate_hz": 12_000.0, "rpm": 1750.0, "unit": Unit.G, **other}
    return {one.kind: one.effect for one in check(Record(samples=samples, **given), by_name("6205"))}


def test_a_good_record_has_no_finding() -> None:
    assert _kinds(GOOD) == {}


def test_the_first_sample_that_is_no_number_is_located() -> None:
    bad = GOOD.copy()
    bad[4711:4720] = np.nan
    (found,) = check(Record(samples=bad, rate_hz=12_000.0))
    assert (found.kind, found.effect) == ("not-a-number", Effect.REFUSED)
    assert "4711" in found.what
    assert "9 of" in found.what


@pytest.mark.parametrize("rate", [0.0, -5.0, float("nan"), float("inf"), 1e9])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    assert _kinds(GOOD, rate_hz=rate)["rate"] is Effect.REFUSED


@pytest.mark.parametrize("rpm", [0.0, -100.0, float("nan"), 1e9])
def test_an_impossible_speed_refuses_the_diagnosis_only(rpm: float) -> None:
    assert _kinds(GOOD, rpm=rpm)["speed"] is Effect.NO_DIAGNOSIS


def test_flat_tops_are_an_overload() -> None:
    limit = 2 * GOOD.std()
    assert _kinds(np.clip(GOOD, -limit, limit))["clipped"] is Effect.NO_DIAGNOSIS


def test_a_handful_of_clipped_samples_only_warns() -> None:
    wave = np.tile(GOOD, 10)
    limit = np.sort(np.abs(wave))[-12]
    assert _kinds(np.clip(wave, -limit, limit)).get("clipped", Effect.WARNING) is Effect.WARNING


def test_a_coarse_converter_is_no_overload() -> None:
    step = GOOD.std() / 8
    assert "clipped" not in _kinds(np.round(GOOD / step) * step)


def test_the_instruments_own_overload_flag_counts() -> None:
    assert _kinds(GOOD, overload=True)["overload"] is Effect.NO_DIAGNOSIS


def test_dropouts_are_found_where_they_are() -> None:
    bad = GOOD.copy()
    bad[5000:6000] = bad[5000]
    found = {one.kind: one for one in check(Record(samples=bad, rate_hz=12_000.0, rpm=1750.0, unit=Unit.G))}
    assert found["drop-out"].effect is Effect.NO_DIAGNOSIS
    assert "5000" in found["drop-out"].what


def test_without_a_unit_only_the_iso_figure_is_refused() -> None:
    findings = check(Record(samples=GOOD, rate_hz=12_000.0, rpm=1750.0), by_name("6205"))
    assert [one.kind for one in refusals(findings, Effect.NO_ISO)] == ["unit"]
    assert not refusals(findings, Effect.NO_DIAGNOSIS)


def test_a_large_offset_is_mentioned() -> None:
    assert _kinds(GOOD + 100 * GOOD.std())["offset"] is Effect.WARNING


def test_a_dead_sensor_is_not_a_healthy_machine() -> None:
    assert _kinds(np.resize([0.0, 0.001, 0.0], 24_000))["dead"] is Effect.REFUSED


def test_a_rate_too_low_for_the_impacts_is_named() -> None:
    assert _kinds(GOOD[::12].copy(), rate_hz=1000.0)["rate-too-low"] is Effect.NO_DIAGNOSIS


def test_one_signal_on_two_channels_is_noticed_even_scaled_and_turned() -> None:
    other = record(Machine(seconds=2.0), 2)
    (found,) = duplicates([GOOD, other, -3 * GOOD + 1], ["a", "b", "c"])
    assert found.kind == "duplicate"
    assert "a and c" in found.what
