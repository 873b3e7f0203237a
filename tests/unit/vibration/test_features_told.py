"""Features against signals whose answer is known, indicators with their evidence, zones, and payloads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import DocumentError
from tests.simulators.bearing_signal import Fault, Machine, record
from workloads.vibration.features import angular, cepstrum, screen, spectral_kurtosis
from workloads.vibration.indicators import harmonics, indicators, sidebands
from workloads.vibration.quality import check
from workloads.vibration.record import Record, Unit, unit_of
from workloads.vibration.sources.payload import decode_binary, decode_registers
from workloads.vibration.spectrum import amplitude_spectrum
from workloads.vibration.zones import LIMITS, Limits, group_of, zone

RATE = 25_600.0
T = np.arange(51_200) / RATE


def _screen(samples: np.ndarray, unit: Unit | None = Unit.G):
    one = Record(samples=samples, rate_hz=RATE, unit=unit, rpm=1500.0)
    return screen(one, check(one))


def test_a_sine_has_the_features_of_a_sine() -> None:
    found = _screen(2 * np.sin(2 * np.pi * 200 * T) + 0.5)
    assert (found.mean, found.rms, found.peak) == pytest.approx((0.5, np.sqrt(2), 2.0), rel=1e-3)
    assert (found.crest, found.kurtosis) == pytest.approx((np.sqrt(2), 1.5), rel=1e-3)
    assert found.skewness == pytest.approx(0, abs=1e-3)


def test_noise_has_kurtosis_three_and_impacts_have_more() -> None:
    quiet = _screen(record(Machine(rate_hz=RATE, seconds=2.0, shaft=()), 1))
    loud = _screen(record(Machine(rate_hz=RATE, seconds=2.0, shaft=(), faults=(Fault(part="OR", level=2.0),)), 1))
    assert quiet.kurtosis == pytest.approx(3, abs=0.2)
    assert loud.kurtosis > 4
    assert loud.impulsiveness > quiet.impulsiveness


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-5, 1e5))
def test_amplitudes_scale_and_shapes_do_not(factor: float) -> None:
    wave = record(Machine(rate_hz=RATE, seconds=1.0), 4)
    one, other = _screen(wave), _screen(factor * wave)
    assert (other.rms, other.peak) == pytest.approx((factor * one.rms, factor * one.peak), rel=1e-3)
    assert (other.crest, other.kurtosis) == pytest.approx((one.crest, one.kurtosis), rel=1e-3)


def test_the_bands_hold_the_whole_power_and_the_right_one_the_tone() -> None:
    found = _screen(np.sin(2 * np.pi * 5100 * T))
    assert sum(band.rms**2 for band in found.bands) == pytest.approx(0.5, rel=0.01)
    loudest = max(found.bands, key=lambda band: band.rms)
    assert loudest.low_hz <= 5100 <= loudest.high_hz
    assert found.high_rms == pytest.approx(np.sqrt(0.5), rel=0.01)


def test_velocity_is_missing_with_a_reason_when_the_unit_is() -> None:
    found = _screen(np.sin(2 * np.pi * 50 * T), unit=None)
    assert found.velocity_mm_s is None
    assert "unit" in found.velocity_missing


def test_spectral_kurtosis_points_at_the_band_of_the_impacts() -> None:
    machine = Machine(rate_hz=RATE, seconds=4.0, resonances=((6000.0, 0.03, 1.0),), background_resonance=0.0)
    wave = record(machine, 3) + 0.0
    impacts = np.zeros_like(wave)
    impacts[::2560] = 5.0
    tau = np.arange(200) / RATE
    wave += np.convolve(impacts, np.exp(-1200 * tau) * np.sin(2 * np.pi * 6000 * tau))[: len(wave)]
    hz, value = spectral_kurtosis(wave, RATE)
    assert hz[int(np.argmax(value))] == pytest.approx(6000, abs=600)
    noise = spectral_kurtosis(np.random.default_rng(0).standard_normal(200_000), RATE)[1]
    assert np.abs(noise[2:-2]).max() < 0.3


def test_the_cepstrum_gathers_a_family_of_lines_at_its_spacing() -> None:
    wave = sum(np.cos(2 * np.pi * k * 100 * T) for k in range(1, 60))
    wave = wave + 0.1 * np.random.default_rng(0).standard_normal(len(T))
    seconds, value = cepstrum(wave, RATE)
    late = seconds > 0.005
    assert seconds[late][int(np.argmax(value[late]))] % 0.01 == pytest.approx(0, abs=1e-4)


def test_order_tracking_gathers_what_a_changing_speed_smears() -> None:
    """From 20 to 30 turns per second; a line at order 7.3 becomes one line again."""
    turns = 20 * T + 2.5 * T**2
    wave = np.cos(2 * np.pi * 7.3 * turns)
    pulses = np.interp(np.arange(int(turns[-1])), turns, T)
    tracked = angular(wave, RATE, pulses, per_turn=64)
    found = amplitude_spectrum(tracked[: 64 * 40], 64.0)
    order, height = found.highest(7.3, 1.0)
    assert order == pytest.approx(7.3, abs=0.03)
    assert height == pytest.approx(1.0, abs=0.03)
    assert amplitude_spectrum(wave, RATE).values.max() < 0.4


@pytest.mark.parametrize("pulses", [[0.0, 0.1], [0.0, 0.2, 0.1], [0.0, 1.0, 99.0]])
def test_order_tracking_refuses_pulses_that_are_none(pulses: list[float]) -> None:
    with pytest.raises(ValueError, match="pulses"):
        angular(np.zeros(25_600), RATE, np.array(pulses))


def test_harmonics_and_sidebands_are_read_off_at_their_height() -> None:
    wave = np.cos(2 * np.pi * 1000 * T) * (1 + 0.4 * np.cos(2 * np.pi * 25 * T)) + 0.3 * np.cos(2 * np.pi * 2000 * T)
    wave = wave + 0.001 * np.random.default_rng(0).standard_normal(len(T))
    spectrum = amplitude_spectrum(wave, RATE)
    heights = [line.amplitude for line in harmonics(spectrum, 1000.0, (1, 2, 3))]
    assert heights == pytest.approx([1.0, 0.3, 0.0], abs=0.01)
    assert sidebands(spectrum, 1000.0, 25.0, 1)[0] == pytest.approx((0.2, 0.2), abs=0.01)


def _signs(machine: Machine, **other: float) -> dict[str, float]:
    one = Record(samples=record(machine, 2), rate_hz=machine.rate_hz, rpm=machine.rpm)
    return {sign.name: sign.strength for sign in indicators(one, **other)}


def test_each_trouble_of_the_shaft_shows_its_own_indicator() -> None:
    steady = {"rpm": 1480.0, "wander": 0.0, "noise": 0.01}
    assert set(_signs(Machine(shaft=(0.3,), **steady))) == {"unbalance"}
    assert set(_signs(Machine(shaft=(0.05, 0.3, 0.1), **steady))) == {"misalignment"}
    assert "looseness" in _signs(Machine(shaft=(), looseness=0.1, **steady))
    assert set(_signs(Machine(shaft=(), mains=0.1, **steady))) == {"electrical"}
    geared = Machine(shaft=(), gear=0.2, gear_teeth=23, gear_modulation=0.6, **steady)
    assert "gear mesh" in _signs(geared, teeth=23)


def test_a_machine_without_trouble_shows_none() -> None:
    assert _signs(Machine(shaft=(), wander=0.0)) == {}


# ---------------------------------------------------------------- zones


def test_zones_begin_above_their_limits() -> None:
    limits = LIMITS["group2-rigid"]
    assert [zone(v, limits).name for v in (0.0, 1.4, 1.41, 2.8, 2.81, 4.5, 4.51, 99)] == list("AABBCCDD")


def test_every_table_says_its_edition_and_rises() -> None:
    for limits in LIMITS.values():
        assert limits.edition.startswith("ISO 10816")
        assert 0 < limits.a_b < limits.b_c < limits.c_d


def test_small_machines_strange_speeds_and_falling_limits_are_refused() -> None:
    with pytest.raises(DocumentError, match="class1"):
        group_of(7.5)
    assert (group_of(100), group_of(400, flexible=True)) == ("group2-rigid", "group1-flexible")
    with pytest.raises(DocumentError, match="20000 rpm"):
        zone(1.0, LIMITS["class1"], 20_000)
    with pytest.raises(DocumentError, match="rise"):
        Limits("own", "press", 3.0, 2.0, 5.0)


# ---------------------------------------------------------------- payloads


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50), st.booleans())
def test_integers_come_back_whatever_their_byte_order(values: list[int], big: bool) -> None:
    layout = "int16-big" if big else "int16"
    data = np.array(values, dtype=">i2" if big else "<i2").tobytes()
    assert decode_binary(data, layout, 0.5, 1.0).tolist() == [v * 0.5 + 1 for v in values]
    registers = np.array(values, dtype=np.int16).view(np.uint16).tolist()
    assert decode_registers(registers, layout, 0.5, 1.0).tolist() == [v * 0.5 + 1 for v in values]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50))
def test_floats_in_two_registers_come_back(values: list[float]) -> None:
    words = np.array(values, dtype=">f4").view(">u2").tolist()
    assert decode_registers(words, "float32-big").tolist() == values


def test_half_a_value_and_no_register_are_refused() -> None:
    with pytest.raises(DocumentError, match="no whole number"):
        decode_binary(b"123", "int16")
    with pytest.raises(DocumentError, match="16-bit"):
        decode_registers([1, 70_000], "int16")


def test_units_are_read_as_people_spell_them() -> None:
    assert [unit_of(text) for text in ("g", "m/s²", "M/S^2", "mm/s", "", None)] == [
        Unit.G, Unit.METRE_PER_S2, Unit.METRE_PER_S2, Unit.MM_PER_S, None, None,
    ]  # fmt: skip
    with pytest.raises(DocumentError, match="no unit of vibration"):
        unit_of("furlong")
