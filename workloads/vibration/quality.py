"""Is this record fit to be judged? Runs before any feature or diagnosis; every finding becomes a reason in the report.

Called by the command line and the workload. A finding either refuses the whole record, refuses the diagnosis or the
ISO figure only, or warns. It repairs nothing and never turns "cannot judge" into "no fault".
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workloads.vibration.bearing import Orders
from workloads.vibration.record import Array, Record

# Below this many shaft turns the lines of neighbouring orders cannot be told apart.
MIN_TURNS = 12
MIN_SAMPLES = 256
# Fewer different values than this is a signal near the step of its converter: dead, or a status word.
MIN_VALUES = 12
# Impacts are short: with fewer of their tops cut off, their repetition is still all there.
CLIPPED_SHARE = 0.005
# A flat top holds its value over neighbouring samples at least so many times.
FLAT = 2
RATES_HZ = (10.0, 2_000_000.0)
RPM = (1.0, 600_000.0)
MAX_SAMPLES = 1 << 27


class Effect(enum.Enum):
    """What a finding takes away."""

    REFUSED = "refused"  # nothing is computed
    NO_DIAGNOSIS = "no diagnosis"
    NO_ISO = "no ISO figure"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind`` is a stable word; ``what`` names the place; ``remedy`` says what to do."""

    kind: str
    effect: Effect
    what: str
    remedy: str = ""


def refusals(findings: Sequence[Finding], effect: Effect) -> list[Finding]:
    """Those that take ``effect`` away (a refused record is refused for everything)."""
    return [one for one in findings if one.effect in (effect, Effect.REFUSED)]


def check(record: Record, orders: Orders | None = None) -> list[Finding]:
    """Every finding on one record, gravest first; ``orders`` adds what their diagnosis needs."""
    found = _numbers(record)
    if found:
        return found
    x = record.samples
    still = int(np.count_nonzero(x[1:] == x[:-1]))
    found += _overload(record, x, still)
    found += _dropouts(x, record.rate_hz, still)
    found += _offset(x)
    found += _unit(record)
    found += _speed(record, orders)
    rank = list(Effect)
    return sorted(found, key=lambda one: rank.index(one.effect))


def duplicates(channels: Sequence[Array], names: Sequence[str]) -> list[Finding]:
    """Pairs of channels that are one signal, also as a scaled copy; channels of unequal length are not compared."""
    found = []
    for i, first in enumerate(channels):
        for j in range(i + 1, len(channels)):
            second = channels[j]
            if len(first) != len(second) or len(first) < 2:
                continue
            a, b = first - np.mean(first), second - np.mean(second)
            scale = math.sqrt(float(np.dot(a, a)) * float(np.dot(b, b)))
            if scale > 0 and abs(float(np.dot(a, b))) / scale > 0.9999:
                what = f"{names[i]} and {names[j]} carry the same signal"
                found.append(Finding("duplicate", Effect.WARNING, what, "count them once; check the cabling"))
    return found


def _numbers(record: Record) -> list[Finding]:
    """What makes every further look pointless."""
    found = []
    x = record.samples

    def refuse(kind: str, what: str, remedy: str) -> None:
        found.append(Finding(kind, Effect.REFUSED, what, remedy))

    if not math.isfinite(record.rate_hz) or not RATES_HZ[0] <= record.rate_hz <= RATES_HZ[1]:
        what = f"a sampling rate of {record.rate_hz:g} Hz; {RATES_HZ[0]:g} to {RATES_HZ[1]:g} Hz are possible"
        refuse("rate", what, "give the rate the record was sampled with")
    if x.ndim != 1:
        refuse("shape", f"samples of shape {x.shape}; one channel is one-dimensional", "choose a channel")
        return found
    if len(x) == 0:
        refuse("empty", "no samples at all", "check the acquisition")
        return found
    if len(x) > MAX_SAMPLES:
        refuse("too-long", f"{len(x)} samples; at most {MAX_SAMPLES} are taken at once", "cut it into records")
        return found
    # The sum of squares tells whether any sample is no number; only then is it worth looking which.
    finite = np.isfinite(x) if not math.isfinite(float(np.dot(x, x))) else np.True_
    if not finite.all():
        first = int(np.argmin(finite))
        what = f"{int(len(x) - finite.sum())} of {len(x)} samples are no numbers, the first is sample {first}"
        refuse("not-a-number", what, "samples that were lost must be cut out, not filled")
        return found
    if len(x) < MIN_SAMPLES:
        refuse("too-short", f"{len(x)} samples; at least {MIN_SAMPLES} are needed", "record for longer")
        return found
    low, high = float(x.min()), float(x.max())
    if low == high:
        refuse("constant", f"all {len(x)} samples are {float(x[0]):g}", "check sensor, supply and cable")
    elif len(set(x[:64].tolist())) < MIN_VALUES and len(np.unique(x)) < MIN_VALUES:
        what = f"only {len(np.unique(x))} different values: near the step of the converter"
        refuse("dead", what, "check the sensor and its range")
    elif max(high, -low) > 1e18:
        refuse("range", f"values up to {max(high, -low):g}", "check the scale")
    return found


def _overload(record: Record, x: Array, still: int) -> list[Finding]:
    """``still``: samples that equal the one before; without any there is no flat top."""
    if record.overload:
        return [Finding("overload", Effect.NO_DIAGNOSIS, "the instrument reports an overload", "use a larger range")]
    share = 0.0
    ends = []
    for end, sign in (("top", 1), ("bottom", -1)) if still >= FLAT else ():
        extreme = x.max() if sign > 0 else x.min()
        at = int(np.count_nonzero(x == extreme))
        if at < 5:
            continue
        values, limit = sign * x, sign * extreme
        # Flat tops pile up at one value; a signal that merely is coarse has as many one step below.
        below = values[values < limit]
        next_value = below.max()
        beside = int(np.count_nonzero(values == next_value))
        runs = int(np.count_nonzero((values[1:] == limit) & (values[:-1] == limit)))
        if at > 3 * beside and runs >= FLAT:
            share += at / len(x)
            ends.append(f"{at} samples stand at the {end} value {float(extreme):g}")
    if record.full_scale is not None:
        over = int(np.count_nonzero(np.abs(x) >= record.full_scale))
        if over and not ends:
            share = over / len(x)
            ends.append(f"{over} samples reach the declared full scale {record.full_scale:g}")
    if not ends:
        return []
    effect = Effect.NO_DIAGNOSIS if share > CLIPPED_SHARE else Effect.WARNING
    return [Finding("clipped", effect, "clipped: " + "; ".join(ends), "use a larger range or a less sensitive sensor")]


def _dropouts(x: Array, rate_hz: float, still: int) -> list[Finding]:
    """Runs of one value, longer than any oscillation leaves standing."""
    least = max(16, int(0.002 * rate_hz))
    if still < least - 1:
        return []
    change = np.flatnonzero(np.diff(x))
    edges = np.concatenate([[-1], change, [len(x) - 1]])
    lengths = np.diff(edges)
    long = lengths >= least
    # A slow, coarse signal stands still often: only runs that stick out of it are drop-outs.
    if not long.any() or len(x) / len(lengths) > least / 8:
        return []
    lost = int(lengths[long].sum())
    first = int(edges[int(np.argmax(long))] + 1)
    what = f"{int(long.sum())} drop-outs, {lost} of {len(x)} samples stand still, the first at sample {first}"
    effect = Effect.NO_DIAGNOSIS if lost > 0.01 * len(x) else Effect.WARNING
    return [Finding("drop-out", effect, what, "check cable and transmission; samples must be gapless")]


def _offset(x: Array) -> list[Finding]:
    mean = float(x.sum()) / len(x)
    if mean * mean <= 0.95 * float(np.dot(x, x)) / len(x):  # cheap and safe: the mean is below 5 deviations
        return []
    deviation = float(np.std(x, dtype=np.float64))
    if abs(mean) <= 5 * deviation:
        return []
    what = f"the mean {mean:g} is {abs(mean) / max(deviation, 1e-300):.0f} times the vibration itself"
    return [Finding("offset", Effect.WARNING, what, "check the sensor's bias and the unit; the mean is taken out")]


def _unit(record: Record) -> list[Finding]:
    if record.unit is None:
        return [Finding("unit", Effect.NO_ISO, "the unit of the samples is not declared", "declare g, m/s2 or mm/s")]
    if record.rate_hz < 2560:
        what = f"{record.rate_hz:g} Hz does not reach 1000 Hz with a margin of 1.28"
        return [Finding("iso-rate", Effect.NO_ISO, what, "sample at 2560 Hz or more")]
    if record.seconds < 0.5:
        what = f"{record.seconds:.3g} s hold fewer than five periods of 10 Hz"
        return [Finding("iso-length", Effect.NO_ISO, what, "record at least 0.5 s, better 1 s")]
    return []


def _speed(record: Record, orders: Orders | None) -> list[Finding]:
    found = []

    def stop(kind: str, what: str, remedy: str) -> None:
        found.append(Finding(kind, Effect.NO_DIAGNOSIS, what, remedy))

    shaft_hz = record.shaft_hz
    if record.rpm is None:
        stop("no-speed", "the shaft's speed is not known", "give the rpm of this very record")
    elif shaft_hz is None:
        stop("speed", f"{record.rpm:g} rpm: the shaft does not turn", "judge records of a running machine")
    elif not RPM[0] <= record.rpm <= RPM[1]:
        stop("speed", f"{record.rpm:g} rpm; {RPM[0]:g} to {RPM[1]:g} are possible", "check the speed's unit")
    elif orders is not None:
        if orders.bsf_is_doubled:
            what = f"bsf {orders.bsf:g} is twice what rolling allows: taken for the element's defect order"
            found.append(Finding("orders", Effect.WARNING, what, "give the order of the element's own spin"))
        if record.turns < MIN_TURNS:
            needed = MIN_TURNS / shaft_hz
            what = f"{record.turns:.1f} turns of the shaft; at least {MIN_TURNS} are needed"
            stop("too-short", what, f"record for {needed:.2g} s or more")
        highest = max(orders.bpfi, orders.bpfo, orders.element) * shaft_hz
        if record.rate_hz < 8 * highest:
            what = f"impacts up to {highest:.0f} per second need a rate of {8 * highest:.0f} Hz or more"
            stop("rate-too-low", what, "sample faster")
    return found
