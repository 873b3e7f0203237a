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
TRIALS = 321
SOUND_LINES, ENVELOPE_LINES = 10, 8
# A line above e^6 (sound) or e^4 (envelope) of the floor says no more than "a line".
SOUND_CAP, ENVELOPE_CAP = 6.0, 4.0
# The best trial must stand so many robust deviations over the others, and so far over the speed given.
PLAIN, BETTER, LEAST = 2.5, 0.3, 1.5
FARTHER = 50.0


def measured_shaft(spectrum: EnvelopeSpectrum, shaft_hz: float) -> float:
    """Turning frequency in Hz within REACH of the one given; that one where the shaft does not plainly say another."""
    trials = shaft_hz * (1 + np.linspace(-REACH, REACH, TRIALS))
    sound = np.clip(spectrum.sound, 0.0, SOUND_CAP)
    _without_mains(sound, spectrum.step_hz)
    scores = np.zeros(TRIALS)
    for level, lines in ((sound, SOUND_LINES), (np.clip(spectrum.level, 0.0, ENVELOPE_CAP), ENVELOPE_LINES)):
        place = np.arange(1, lines + 1)[:, None] * trials / spectrum.step_hz
        wide = widened(level, 1)
        scores += wide[np.minimum((place + 0.5).astype(np.intp), len(wide) - 1)].mean(axis=0)
    best = int(np.argmax(scores))
    middle = float(np.median(scores))
    spread = 1.4826 * float(np.median(np.abs(scores - middle))) + 0.05
    over = float(scores[best])
    plain = over - middle > PLAIN * spread and over > LEAST and 0 < best < TRIALS - 1
    better = BETTER + FARTHER * abs(float(trials[best]) / shaft_hz - 1)
    return float(trials[best]) if plain and over - scores[TRIALS // 2] > better else shaft_hz


def _without_mains(level: np.ndarray, step_hz: float) -> None:
    """Multiples of 50 and 60 Hz lie beside those of many motors' shafts."""
    for base_hz in (50.0, 60.0):
        centres = np.arange(1, int(len(level) * step_hz / base_hz) + 1) * (base_hz / step_hz)
        for offset in (-1, 0, 1, 2):
            index = np.floor(centres).astype(np.intp) + offset
            level[index[(index >= 0) & (index < len(level))]] = 0
