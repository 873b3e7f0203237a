"""Numbers that must be right: amplitudes, powers and velocity against signals whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.vibration.record import STANDARD_GRAVITY, Unit
from workloads.vibration.spectrum import amplitude_spectrum, band_rms, power_density, power_lines, velocity_rms

RATE = 25_600.0
T = np.arange(int(RATE)) / RATE


def _lines(x: np.ndarray, rate: float = RATE):
    return power_lines((x - x.mean()).astype(np.float32), rate)


@settings(max_examples=60, deadline=None)
@given(st.floats(12, 12_000), st.floats(0, 6.28), st.floats(1e-4, 1e4))
def test_the_flat_top_reads_a_tone_within_half_a_per_cent_wherever_it_lies(hz: float, phase: float, a: float) -> None:
    spectrum = amplitude_spectrum(a * np.sin(2 * np.pi * hz * T + phase), RATE)
    assert spectrum.values.max() == pytest.approx(a, rel=0.005)


@settings(max_examples=80, deadline=None)
@given(st.floats(10, 1000), st.floats(0, 6.28))
def test_velocity_of_a_tone_is_right_within_one_per_cent_from_10_to_1000_hz(hz: float, phase: float) -> None:
    x = 9.81 * np.sin(2 * np.pi * hz * T + phase)
    expected = 9.81 / (2 * np.pi * hz) / np.sqrt(2) * 1000
    assert velocity_rms(_lines(x), Unit.METRE_PER_S2) == pytest.approx(expected, rel=0.01)


def test_velocity_takes_nothing_from_outside_its_band() -> None:
    low, high = 40 * np.sin(2 * np.pi * 4 * T), 500 * np.sin(2 * np.pi * 3000 * T)
    inside = np.sin(2 * np.pi * 100 * T)
    alone = velocity_rms(_lines(inside), Unit.METRE_PER_S2)
    assert velocity_rms(_lines(inside + low + high), Unit.METRE_PER_S2) == pytest.approx(alone, rel=0.01)


def test_units_agree_with_each_other() -> None:
    x = np.sin(2 * np.pi * 80 * T)
    in_g, in_si = velocity_rms(_lines(x), Unit.G), velocity_rms(_lines(x), Unit.METRE_PER_S2)
    assert in_g == pytest.approx(in_si * STANDARD_GRAVITY)
    assert velocity_rms(_lines(x), Unit.MM_PER_S) == pytest.approx(1 / np.sqrt(2), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_power_over_all_lines_is_the_mean_square_of_noise(seed: int, size: float) -> None:
    x = size * np.random.default_rng(seed).standard_normal(20_480)
    whole = power_density(x, RATE, segment=2048)
    assert whole.values.sum() * whole.step_hz == pytest.approx(x.var(), rel=0.05)
    assert band_rms(_lines(x), 0, RATE / 2) == pytest.approx(x.std(), rel=0.05)


def test_the_rectangular_spectrum_keeps_parseval_exactly() -> None:
    x = np.random.default_rng(3).standard_normal(4096)
    amplitude = amplitude_spectrum(x, RATE, "rectangular").values
    squares = np.square(amplitude) / 2
    squares[-1] *= 2  # the line at Nyquist is its own mirror
    squares[0] *= 2
    assert squares.sum() == pytest.approx(x.var(), rel=1e-9)


def test_density_of_white_noise_is_flat_at_its_variance_over_the_band() -> None:
    x = np.random.default_rng(5).standard_normal(400_000)
    values = power_density(x, RATE).values[10:-10]
    assert values.mean() == pytest.approx(2 / RATE, rel=0.02)
    assert values.std() / values.mean() < 0.15


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-6, 1e6))
def test_spectra_scale_with_the_signal(factor: float) -> None:
    x = np.random.default_rng(1).standard_normal(4096)
    assert amplitude_spectrum(factor * x, RATE).values == pytest.approx(factor * amplitude_spectrum(x, RATE).values)
    assert power_density(factor * x, RATE, segment=512).values == pytest.approx(
        factor**2 * power_density(x, RATE, segment=512).values
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4095))
def test_a_circular_shift_changes_no_amplitude(shift: int) -> None:
    x = np.random.default_rng(2).standard_normal(4096)
    moved = amplitude_spectrum(np.roll(x, shift), RATE, "rectangular").values
    assert moved == pytest.approx(amplitude_spectrum(x, RATE, "rectangular").values, abs=1e-12)
