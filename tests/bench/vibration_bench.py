"""Speed of the vibration analysis against one raw float32 transform per channel (scipy), measured in the same run.

Answers are counted over three populations of simulated machines: ordinary ones, hard ones, and rigs of very different
character (with the whole table on stderr). Speed: 64 channels of 1 s at 51.2 kHz on one core. Raw and ours alternate,
and of each channel the best of all rounds counts: what else the machine does then falls on neither. Payload decoding
is bytes to float32 samples in the sensor's unit.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import scipy.fft

from tests.bench.figure import Figure
from tests.simulators.bearing_plant import hard_case
from tests.simulators.bearing_population import Case, case
from tests.simulators.bearing_rigs import RIGS, rig_case
from tests.simulators.bearing_signal import Fault, Machine, record
from workloads.vibration.bearing import orders_of
from workloads.vibration.diagnose import diagnose
from workloads.vibration.features import screen
from workloads.vibration.memory import keep_freed_memory
from workloads.vibration.record import Record, Unit
from workloads.vibration.sources.block import pack, read_json, unpack
from workloads.vibration.sources.payload import decode_binary, decode_registers
from workloads.vibration.spectrum import amplitude_spectrum

PREFIXES = ("vib_",)
CHANNELS = 64
RATE_HZ = 51_200.0
ROUNDS = 20
MACHINES = 300
PER_RIG = 100
PLAIN = 0.4  # level of a fault: RMS of its impacts over that of the noise


def figures() -> Iterator[Figure]:
    keep_freed_memory()
    machine = Machine(rate_hz=RATE_HZ, seconds=1.0, mains=0.01, gear=0.02, gear_teeth=31)
    orders = orders_of(machine.geometry)
    faulty = Machine(rate_hz=RATE_HZ, seconds=1.0, faults=(Fault(part="OR", level=0.5),))
    records = [
        Record(
            samples=record(faulty if seed % 2 else machine, seed).astype(np.float32),
            rate_hz=RATE_HZ,
            rpm=machine.rpm,
            unit=Unit.G,
        )
        for seed in range(CHANNELS)
    ]
    counts = [np.round(one.samples * 4096).astype("<i2").tobytes() for one in records]
    blocks = [pack(one.samples, RATE_HZ, unit=Unit.G, counts_per_unit=4096.0) for one in records]
    texts = [
        b'{"rateHz":51200,"samples":[' + b",".join(b"%.5g" % value for value in one.samples.tolist()) + b"]}"
        for one in records
    ]
    words = [base64.b64encode(one) for one in counts]
    registers = [np.frombuffer(one, dtype="<u2").tolist() for one in counts]

    jobs: dict[str, tuple[Sequence[Callable[[], object]], float | None]] = {
        "vib_screening_ms": ([partial(screen, one) for one in records], 3.0),
        "vib_diagnosis_ms": ([partial(diagnose, one, orders) for one in records], 8.0),
        "vib_decode_int16_ms": ([partial(decode_binary, one, "int16", 1 / 4096) for one in counts], 0.5),
        "vib_decode_base64_ms": ([partial(_base64, one) for one in words], None),
        "vib_decode_block_ms": ([partial(unpack, one) for one in blocks], 0.5),
        "vib_decode_json_ms": ([partial(read_json, one) for one in texts], None),
        "vib_decode_registers_ms": ([partial(decode_registers, one, "int16", 1 / 4096) for one in registers], None),
    }
    raw: Sequence[Callable[[], object]] = [partial(scipy.fft.rfft, one.samples, workers=1) for one in records]
    quickest = {key: np.full(CHANNELS, np.inf) for key in jobs}
    quickest_raw = np.full(CHANNELS, np.inf)
    for _ in range(ROUNDS):
        np.minimum(quickest_raw, _each(raw), out=quickest_raw)
        for key, (calls, _limit) in jobs.items():
            np.minimum(quickest[key], _each(calls), out=quickest[key])
    best = {key: float(one.sum()) for key, one in quickest.items()}
    best_raw = float(quickest_raw.sum())
    per_channel = 1000 / CHANNELS
    yield Figure(key="vib_raw_fft_ms", value=best_raw * per_channel, unit="ms per channel")
    for key, (_calls, limit) in jobs.items():
        yield Figure(
            key=key,
            value=best[key] * per_channel,
            unit="ms per channel",
            goal=None if limit is None else f"<= {limit:g} x raw",
            compared_to="scipy.fft.rfft float32, one channel at a time",
            ratio=round(best[key] / best_raw, 3),
        )
    yield Figure(key="vib_channels_per_core", value=1 / (best["vib_screening_ms"] / CHANNELS), unit="channels")
    tone = 3.0 * np.sin(2 * np.pi * 1234.5 * np.arange(51_200) / RATE_HZ)
    error = abs(float(amplitude_spectrum(tone, RATE_HZ).values.max()) / 3.0 - 1) * 100
    yield Figure(key="vib_flat_top_error", value=error, unit="%", goal="< 0.5")
    yield from _answers("vib_", case, "")
    yield from _answers("vib_hard_", hard_case, "hard: ")
    yield from _population()
    yield Figure(key="vib_peak_rss", value=_peak_mb(), unit="MB", goal="< 200")


def _answers(prefix: str, population: Callable[[int], Case], kind: str) -> Iterator[Figure]:
    """Right and wrong answers over simulated machines whose seeds no threshold was set on."""
    alarms = nulls = named = plain = wrong = 0
    for seed in range(70_000, 70_000 + MACHINES):
        one = population(seed)
        wave = Record(samples=record(one.machine, seed), rate_hz=one.machine.rate_hz, rpm=one.machine.rpm)
        answer = diagnose(wave, one.asked).part.value
        if one.truth == "N":
            nulls += 1
            alarms += answer != "N"
        elif one.level > PLAIN:
            plain += 1
            named += answer == one.truth
            wrong += answer not in ("N", one.truth)
    easy = prefix == "vib_"
    yield Figure(
        key=f"{prefix}false_alarms",
        value=100 * alarms / nulls,
        unit=f"% of {kind}healthy and wrong-bearing records",
        goal="< 2",
    )
    faults = f"% of {kind}faults above -8 dB"
    yield Figure(
        key=f"{prefix}plain_faults_named", value=100 * named / plain, unit=faults, goal="> 85" if easy else None
    )
    yield Figure(key=f"{prefix}wrong_part", value=100 * wrong / plain, unit=faults, goal="< 2")


def _population() -> Iterator[Figure]:
    """Right answers over all rigs, on seeds no threshold was set on; what is confused with what goes to stderr."""
    total: Counter[tuple[str, str]] = Counter()
    plain = named = 0
    for rig in RIGS:
        seen: Counter[tuple[str, str]] = Counter()
        for seed in range(90_000, 90_000 + PER_RIG):
            one = rig_case(rig, seed)
            wave = Record(samples=record(one.machine, seed), rate_hz=one.machine.rate_hz, rpm=one.machine.rpm)
            answer = diagnose(wave, one.asked).part.value
            seen[one.truth, answer] += 1
            if one.truth != "N" and one.level > PLAIN:
                plain += 1
                named += answer == one.truth
        table = "  ".join(f"{truth}>{answer} {count}" for (truth, answer), count in sorted(seen.items()))
        sys.stderr.write(f"{rig:10} {table}\n")
        total += seen
    count = sum(total.values())
    nulls = sum(number for (truth, _), number in total.items() if truth == "N")
    right = sum(number for (truth, answer), number in total.items() if truth == answer)
    wrong = sum(number for (truth, answer), number in total.items() if truth != answer and "N" not in (truth, answer))
    yield Figure(key="vib_diagnosis_population", value=100 * right / count, unit=f"% right of {count} records")
    yield Figure(
        key="vib_diagnosis_population_false_alarms",
        value=100 * (nulls - total["N", "N"]) / nulls,
        unit="% of sound machines and other bearings",
        goal="< 2",
    )
    yield Figure(key="vib_diagnosis_population_named", value=100 * named / plain, unit="% of faults above -8 dB")
    yield Figure(key="vib_diagnosis_population_wrong_part", value=100 * wrong / (count - nulls), unit="% of faults")


def _peak_mb() -> float:
    """Highest memory of a process of its own that screens and diagnoses 64 channels; its own account."""
    code = (
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from workloads.vibration.bearing import by_name\n"
        "from workloads.vibration.diagnose import diagnose\n"
        "from workloads.vibration.features import screen\n"
        "from workloads.vibration.memory import keep_freed_memory\n"
        "from workloads.vibration.record import Record\n"
        "keep_freed_memory()\n"
        "noise = np.random.default_rng(0).standard_normal((64, 51200), dtype=np.float32)\n"
        "for x in noise:\n"
        "    one = Record(samples=x, rate_hz=51200.0, rpm=1750.0)\n"
        "    screen(one), diagnose(one, by_name('6205'))\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return int(out.stdout) * 1024 / 1e6


def _base64(text: bytes) -> object:
    return decode_binary(base64.b64decode(text), "int16", 1 / 4096)


def _each(calls: Sequence[Callable[[], object]]) -> npt.NDArray[np.float64]:
    """Seconds of each call."""
    taken = np.empty(len(calls))
    for number, call in enumerate(calls):
        start = time.perf_counter()
        call()
        taken[number] = time.perf_counter() - start
    return taken
