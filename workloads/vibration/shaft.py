"""The speed that a record itself shows: the shaft's own lines, in the sound and in its envelope.

Called by ``diagnose``. A name plate tells a motor's speed within 2 to 4 %, too wrong to lay a bearing's orders on. It
refuses to move the speed given without lines that plainly stand at multiples of another one: a wrong correction would
hide a fault, or make a neighbour's out of it.
"""

from __future__ import annotations

import numpy as np

from workloads.vibration.comb import widened
from workloads.vibration.envelope import EnvelopeSpectrum

# How far a speed given may be off, either way.
REACH = 0.032
# Trials are so many bins apart at the highest line, and no less than this share of the speed.
TRIAL_BINS, FINEST = 0.5, 0.0002
SOUND_LINES, ENVELOPE_LINES = 10, 8
# A line above e^6 (sound) or e^4 (envelope) of the floor says no more than "a line".
SOUND_CAP, ENVELOPE_CAP = 6.0, 4.0
# The best trial must stand so many robust deviations over the others, and so far over the speed given.
PLAIN, BETTER, LEAST = 2.5, 0.3, 1.5
FARTHER = 50.0


def measured_shaft(spectrum: EnvelopeSpectrum, shaft_hz: float) -> float:
    """Turning frequency in Hz within REACH of the one given; that one where the shaft does not plainly say another."""
    apart = max(FINEST, TRIAL_BINS * spectrum.step_hz / (SOUND_LINES * shaft_hz))
    half = max(1, round(REACH / apart))
    trials = shaft_hz * (1 + np.linspace(-REACH, REACH, 2 * half + 1))
    top = int((SOUND_LINES + 2) * shaft_hz / spectrum.step_hz)
    sound = np.minimum(np.maximum(spectrum.sound[:top], 0.0), SOUND_CAP)
    _without_mains(sound, spectrum.step_hz)
    scores = np.zeros(len(trials))
    envelope = np.minimum(np.maximum(spectrum.level[:top], 0.0), ENVELOPE_CAP)
    place = np.multiply.outer(np.arange(1, SOUND_LINES + 1), trials / spectrum.step_hz)
    index = (place + 0.5).astype(np.intp)
    for level, lines in ((sound, SOUND_LINES), (envelope, ENVELOPE_LINES)):
        scores += widened(level, 1).take(index[:lines], mode="clip").sum(axis=0) / lines
    best = int(np.argmax(scores))
    middle = _median(scores)
    spread = 1.4826 * _median(np.abs(scores - middle)) + 0.05
    over = float(scores[best])
    plain = over - middle > PLAIN * spread and over > LEAST and 0 < best < len(trials) - 1
    better = BETTER + FARTHER * abs(float(trials[best]) / shaft_hz - 1)
    return float(trials[best]) if plain and over - scores[half] > better else shaft_hz


def _median(values: np.ndarray) -> float:
    """Of an odd number; numpy's own is ten times as slow for so few."""
    return float(np.sort(values)[len(values) // 2])


def _without_mains(level: np.ndarray, step_hz: float) -> None:
    """Multiples of 50 and 60 Hz lie beside those of many motors' shafts."""
    for base_hz in (50.0, 60.0):
        centres = np.arange(1, int(len(level) * step_hz / base_hz) + 1) * (base_hz / step_hz)
        index = (np.floor(centres).astype(np.intp)[:, None] + np.arange(-1, 3)).ravel()
        level[index[(index >= 0) & (index < len(level))]] = 0
