"""Acceleration of a machine with a rolling bearing, from physics: what an accelerometer on its housing would give.

Called by the tests, the calibration and the demo. A bearing fault is a train of impacts at shaft *angles* (so speed
wander moves it as in life), each exciting the housing's resonances: the model of McFadden and Smith (1984), with the
random slip of Antoni and Randall (2003). Around it: shaft harmonics, looseness, gears, mains and converter noise,
stray shocks, coloured noise, another bearing's fault. Every signal comes from its seed alone; no recorded data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from workloads.vibration.bearing import Geometry, Orders, orders_of

Floats = npt.NDArray[np.float64]
GEOMETRY = Geometry(9, 7.938, 38.5)
Part = Literal["N", "OR", "IR", "B", "FTF"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """``level`` is the RMS of the impacts' response over the RMS of the broadband noise, 1.0 = 0 dB.

    ``slip`` the cage's mean slip, ``jitter`` the random part of each interval between impacts (both fractions),
    ``load`` how strongly the load zone modulates (0 to 1), ``scatter`` of the impacts' heights.
    ``second``: height of a second strike when the element leaves the spall, ``width`` of the way between two impacts
    later. ``shown``: share of the time the fault is struck at all, in stretches of about a second (a ball turns its
    spall away). ``rough``: share (0 to 1) of bursts of noise, as long as ``burst`` of the way between two impacts, in
    place of impacts: a worn, smeared spall has no edge to strike. ``rotating``: how deep a load that turns with the
    shaft (unbalance) modulates a race that stands still. ``sway``: how far the shaft's angle shifts an impact (share
    of the way between two): phase modulation, whose sidebands may exceed their carrier. ``far_race``: how strongly an
    element strikes the farther race (0: only one race answers, and the line is at the spin itself).
    """

    part: Part
    level: float
    slip: float = 0.005
    jitter: float = 0.005
    load: float = 0.8
    scatter: float = 0.2
    second: float = 0.0
    width: float = 0.15
    shown: float = 1.0
    rough: float = 0.0
    burst: float = 0.3
    rotating: float = 0.0
    sway: float = 0.0
    far_race: float = 0.75


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is heard beside a fault; amplitudes in g. ``lines_hz`` are (Hz, amplitude) of anything stationary."""

    rate_hz: float = 12_000.0
    seconds: float = 4.0
    rpm: float = 1750.0
    geometry: Geometry = GEOMETRY
    noise: float = 0.05  # RMS of the broadband noise
    colour: float = 0.5  # 0 white, 1 as 1/f in amplitude
    resonances: tuple[tuple[float, float, float], ...] = ((3200.0, 0.03, 1.0),)  # Hz, damping, gain
    background_resonance: float = 1.0  # how much the broadband noise excites the same resonances
    shaft: tuple[float, ...] = (0.02, 0.01, 0.005)  # amplitude of 1x, 2x, 3x ...
    looseness: float = 0.0  # half orders and many harmonics
    shaft_modulation: float = 0.0  # depth with which the turning shaft modulates the broadband noise
    gear_teeth: int = 0
    gear: float = 0.0
    gear_modulation: float = 0.3
    mains_hz: float = 50.0
    mains: float = 0.0
    mains_modulation: float = 0.0  # twice the mains frequency modulating the noise
    pwm_hz: float = 0.0  # converter's carrier
    pwm: float = 0.0
    shocks_per_s: float = 0.0
    shock: float = 0.0  # peak over the noise's RMS
    discharge: float = 0.0  # electrical impulses at the converter's rate, peak over the noise's RMS
    vane_order: float = 0.0  # a modulation of the noise at an order that is no bearing's: belt, vanes, a coupling
    vane_modulation: float = 0.0
    wander: float = 0.001  # RMS of slow speed variation, fraction
    rpm_error: float = 0.0  # what the speed given is wrong by, fraction (true = given * (1 + error))
    lines_hz: tuple[tuple[float, float], ...] = ()
    faults: tuple[Fault, ...] = ()
    others: tuple[tuple[Orders, Fault], ...] = field(default=())  # faults of other bearings on the same shaft
    train_order: float = 0.0  # impacts of something else that turns: a damaged tooth of another shaft, a belt's joint
    train_level: float = 0.0  # as the level of a fault
    supply_order: float = 0.0  # a converter's output frequency over the shaft's: hum and torque ripple at 2 and 6 times
    supply_modulation: float = 0.0
    load_hz: float = 0.0  # slow load changes modulate everything
    load_depth: float = 0.0
    ball_pass: float = 0.0  # depth of the sine with which a sound bearing under load modulates at its ball pass
    drift: float = 0.0  # g, slow wander of the mean: temperature at a charge amplifier
    offset: float = 0.0  # g
    bits: int = 0  # of the converter; its range is 8 times the highest peak's third, 0: not quantised
    made_at: int = 1  # sampled so many times faster first, then low-passed and thinned


def record(machine: Machine, seed: int) -> Floats:
    """Samples in g, shape (rate x seconds,)."""
    signal = _record(replace(machine, rate_hz=machine.rate_hz * machine.made_at), seed)
    if machine.made_at > 1:
        lines = np.fft.rfft(signal)
        lines = lines[: len(signal) // machine.made_at // 2 + 1]
        lines[int(0.92 * len(lines)) :] = 0  # what an anti-aliasing filter leaves
        signal = np.fft.irfft(lines, len(signal) // machine.made_at) / machine.made_at
    if machine.bits:
        step = float(np.max(np.abs(signal))) * 8 / 3 / 2 ** (machine.bits - 1)
        signal = np.round(signal / step) * step
    return signal + machine.offset


def _record(machine: Machine, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    count = int(machine.rate_hz * machine.seconds)
    t = np.arange(count) / machine.rate_hz
    turns = _turns(machine, t, rng)
    noise = _coloured(count, machine.colour, rng)
    if machine.background_resonance:
        rung = _ring(rng.standard_normal(count), machine)
        noise = noise + machine.background_resonance * rung / max(float(np.std(rung)), 1e-12)
    noise *= machine.noise / float(np.std(noise))
    noise *= 1 + machine.shaft_modulation * np.cos(2 * np.pi * turns + rng.uniform(0, 6.28))
    noise *= 1 + machine.mains_modulation * np.cos(4 * np.pi * machine.mains_hz * t + rng.uniform(0, 6.28))
    if machine.vane_modulation:
        shape = np.cos(2 * np.pi * machine.vane_order * turns) + 0.5 * np.cos(4 * np.pi * machine.vane_order * turns)
        noise *= np.maximum(0.0, 1 + machine.vane_modulation * shape)
    if machine.supply_modulation:
        supply = 2 * np.pi * machine.supply_order * turns
        noise *= np.maximum(0.0, 1 + machine.supply_modulation * (np.cos(2 * supply) + 0.5 * np.cos(6 * supply)))
    if machine.ball_pass:
        bpfo = 0.995 * orders_of(machine.geometry).bpfo
        noise *= 1 + machine.ball_pass * np.cos(2 * np.pi * bpfo * turns + rng.uniform(0, 6.28))
    signal = noise
    for k, amplitude in enumerate(machine.shaft, start=1):
        signal += amplitude * np.cos(2 * np.pi * k * turns + rng.uniform(0, 6.28))
    if machine.looseness:
        for k in range(1, 25):
            signal += machine.looseness / (1 + 0.15 * k) * np.cos(np.pi * k * turns + rng.uniform(0, 6.28))
    if machine.gear:
        wobble = 1 + machine.gear_modulation * np.cos(2 * np.pi * turns)
        for k in range(1, 4):
            mesh = 2 * np.pi * k * machine.gear_teeth * turns
            signal += machine.gear / k * wobble * np.cos(mesh + 0.2 * np.sin(2 * np.pi * turns))
    if machine.mains:
        for k in (1, 2, 3, 4, 6):
            signal += machine.mains / k * np.cos(2 * np.pi * k * machine.mains_hz * t + rng.uniform(0, 6.28))
    if machine.pwm:
        for k in range(1, 4):
            if k * machine.pwm_hz < machine.rate_hz / 2:
                for side in (-2, 0, 2):
                    f = k * machine.pwm_hz + side * machine.mains_hz
                    signal += machine.pwm / k * np.cos(2 * np.pi * f * t + rng.uniform(0, 6.28))
    for hz, amplitude in machine.lines_hz:
        signal += amplitude * np.cos(2 * np.pi * hz * t + rng.uniform(0, 6.28))
    if machine.shocks_per_s:
        at = rng.uniform(0, machine.seconds, rng.poisson(machine.shocks_per_s * machine.seconds))
        heights = machine.shock * machine.noise * rng.exponential(1.0, len(at))
        signal += _peaked(_ring(_train(at, heights, machine), machine), machine.shock * machine.noise)
    if machine.discharge:
        at = np.arange(0, machine.seconds, 1 / (6 * machine.mains_hz))
        at = at[rng.uniform(size=len(at)) < 0.3]
        signal += _train(at, machine.discharge * machine.noise * rng.exponential(1.0, len(at)), machine)
    if machine.train_level:
        rung = _ring(_train(*_strikes(machine, t, turns, rng), machine), machine)
        signal += rung * (machine.train_level * machine.noise / max(float(np.std(rung)), 1e-12))
    bearing = orders_of(machine.geometry)
    for orders, fault in [*((bearing, f) for f in machine.faults), *machine.others]:
        at, heights = _impacts(orders, fault, t, turns, rng)
        rung = _sized(_ring(_train(at, heights, machine), machine)) * np.sqrt(1 - fault.rough)
        if fault.rough and len(at) > 1:
            bursts = _bursts(at, heights, fault.burst, t) * rng.standard_normal(count)
            rung = rung + _sized(_ring(bursts, machine)) * np.sqrt(fault.rough)
        signal += rung * (fault.level * machine.noise)
    if machine.load_depth:
        signal *= 1 + machine.load_depth * np.cos(2 * np.pi * machine.load_hz * t + rng.uniform(0, 6.28))
    if machine.drift:
        signal += machine.drift * np.cos(0.3 * t / t[-1] * 2 * np.pi + rng.uniform(0, 6.28))
    return signal


def _sized(x: Floats) -> Floats:
    """With an RMS of 1; silence stays silent."""
    size = float(np.std(x))
    return x / size if size > 0 else x


def _bursts(at: Floats, heights: Floats, share: float, t: Floats) -> Floats:
    """How loud a rough spall is at each moment: half a sine from each impact on, ``share`` of the way to the next."""
    rising = np.argsort(at)
    at, heights = at[rising], heights[rising]
    last = np.clip(np.searchsorted(at, t, side="right") - 1, 0, len(at) - 1)
    since = (t - at[last]) / (share * float(np.median(np.diff(at))))
    return np.where((since >= 0) & (since < 1), heights[last] * np.sin(np.pi * np.clip(since, 0, 1)), 0.0)


def _strikes(machine: Machine, t: Floats, turns: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Strictly periodic impacts, at the angle of something geared to the shaft."""
    angle = np.arange(turns[0] + rng.uniform() / machine.train_order, turns[-1], 1 / machine.train_order)
    return np.interp(angle, turns, t), np.maximum(0.05, 1 + 0.15 * rng.standard_normal(len(angle)))


def _turns(machine: Machine, t: Floats, rng: np.random.Generator) -> Floats:
    """Shaft angle in turns; the speed wanders slowly (a few sines below 1 Hz)."""
    true_hz = machine.rpm / 60 * (1 + machine.rpm_error)
    angle = true_hz * t
    for f in rng.uniform(0.05, 1.0, 4):
        depth = machine.wander * rng.standard_normal() / np.sqrt(2)
        angle = angle + true_hz * depth / (2 * np.pi * f) * np.sin(2 * np.pi * f * t + rng.uniform(0, 6.28))
    return angle - angle[0] + rng.uniform(0, 1)


def _coloured(count: int, colour: float, rng: np.random.Generator) -> Floats:
    spectrum = np.fft.rfft(rng.standard_normal(count))
    f = np.linspace(0.002, 1, len(spectrum))
    out = np.fft.irfft(spectrum * np.maximum(f, 0.01) ** -colour, count)
    return out / float(np.std(out))


def _ring(train: Floats, machine: Machine) -> Floats:
    """The housing's answer: a sum of damped oscillators, as acceleration."""
    span = min(len(train), int(0.05 * machine.rate_hz))
    tau = np.arange(span) / machine.rate_hz
    answer = np.zeros(span)
    for hz, damping, gain in machine.resonances:
        if hz < 0.48 * machine.rate_hz:
            w = 2 * np.pi * hz
            answer += gain * np.exp(-damping * w * tau) * np.sin(w * np.sqrt(1 - damping**2) * tau)
    size = 1 << int(np.ceil(np.log2(len(train) + span)))
    return np.fft.irfft(np.fft.rfft(train, size) * np.fft.rfft(answer, size), size)[: len(train)]


def _train(at: Floats, heights: Floats, machine: Machine) -> Floats:
    """Impulses at times ``at`` (s) between samples: shared by the two neighbours."""
    count = int(machine.rate_hz * machine.seconds)
    out = np.zeros(count + 1)
    place = at * machine.rate_hz
    inside = (place >= 0) & (place < count - 1)
    low = place[inside].astype(int)
    part = place[inside] - low
    np.add.at(out, low, heights[inside] * (1 - part))
    np.add.at(out, low + 1, heights[inside] * part)
    return out[:count]


def _peaked(x: Floats, peak: float) -> Floats:
    top = float(np.max(np.abs(x), initial=0.0))
    return x * (peak / top) if top > 0 else x


def _impacts(orders: Orders, fault: Fault, t: Floats, turns: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Times (s) and heights of the impacts. Cage slip slows cage, outer race and element, and quickens the inner."""
    ftf = orders.ftf * (1 - fault.slip)
    elements = orders.bpfo / orders.ftf
    rate = {
        "OR": elements * ftf,
        "IR": elements * (1 - ftf),
        "B": 2 * orders.bsf * (1 - fault.slip),
        "FTF": ftf,
        "N": 1.0,
    }[fault.part]
    total = turns[-1] - turns[0]
    steps = 1 / rate * (1 + fault.jitter * rng.standard_normal(int(total * rate * 1.2) + 5))
    angle = turns[0] + np.cumsum(np.maximum(steps, 0.1 / rate)) - rng.uniform() / rate
    angle = angle[(angle > turns[0]) & (angle < turns[-1])]
    heights = np.maximum(0.05, 1 + fault.scatter * rng.standard_normal(len(angle)))

    def zone(at: Floats) -> Floats:
        """Load zone of a radially loaded bearing: largest at the load, smaller (not zero) opposite."""
        return 1 - fault.load + fault.load * np.maximum(0.0, np.cos(np.pi * ((at + 0.5) % 1.0 - 0.5))) ** 2.5

    shapes: dict[str, Callable[[], Floats]] = {
        # A fixed place; unbalance changes the load there.
        "OR": lambda: np.maximum(0.05, 1 + (0.15 * fault.load + fault.rotating) * np.cos(2 * np.pi * angle)),
        "IR": lambda: zone(angle),  # enters and leaves the load zone once per turn
        # Once per cage turn through the load zone; the two races are struck alternately and answer differently.
        "B": lambda: zone(angle * ftf) * np.where(np.arange(len(angle)) % 2 == 0, 1.0, fault.far_race),
        "FTF": lambda: np.ones(len(angle)),
        "N": lambda: np.zeros(len(angle)),
    }
    heights = heights * shapes[fault.part]()
    if fault.sway:
        angle = angle + fault.sway / rate * np.cos(2 * np.pi * angle)
    if fault.shown < 1:
        stretch = np.maximum(1.0, t[-1] / 8)
        on = rng.uniform(size=10) < fault.shown
        on[int(rng.integers(10))] = True
        heights = heights * np.where(on[np.minimum(9, (np.interp(angle, turns, t) / stretch).astype(int))], 1.0, 0.04)
    if fault.second:
        angle = np.concatenate([angle, angle + fault.width / rate])
        heights = np.concatenate([heights, fault.second * heights])
        inside = angle < turns[-1]
        angle, heights = angle[inside], heights[inside]
    return np.interp(angle, turns, t), heights
