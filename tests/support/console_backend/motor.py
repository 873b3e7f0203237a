"""Invented machines under watch, answered by the real ``workloads.vibration``: signals from physics, judged here.

Three machines: a motor whose outer race is damaged and whose shaft is unbalanced, a healthy pump, and a fan whose
records tell neither speed nor unit, of which nothing can be said. Made once, when somebody first asks.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import math
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from manifests.errors import DocumentError
from tests.simulators.bearing_signal import Fault, Machine, record
from workloads.kit.inquiries import Reply
from workloads.vibration.answers import Answers, Waterfall, row
from workloads.vibration.asset import Asset, AssetPlan, tell
from workloads.vibration.bearing import LIBRARY, orders_of
from workloads.vibration.evidence import Ring
from workloads.vibration.features import screen
from workloads.vibration.record import Record, Unit
from workloads.vibration.trend import Alarm, Trend, TrendRule, observe
from workloads.vibration.watch import Judged, Watch

RATE_HZ, SECONDS = 51_200.0, 4.0  # 102,401 lines
MACHINES = ("motor-1", "pump-3", "fan-2")
HISTORY = 160  # records before the last
EVERY_DAYS = 30 / 86_400


@dataclass
class Named:
    name: str


@dataclass
class Standing:
    """As much of ``workloads.vibration.watch.Watch`` as answers need."""

    machine: Named
    plan: AssetPlan
    asset: Asset
    last: Judged
    topic: str


def signal(machine: Machine, seed: int, *, told: bool = True) -> Record:
    samples = record(machine, seed).astype(np.float32)
    start = time.time_ns() - int(machine.seconds * 1e9)
    rpm, unit = (machine.rpm, Unit.G) if told else (None, None)
    return Record(samples=samples, rate_hz=machine.rate_hz, unit=unit, rpm=rpm, start_ns=start)


def trend(rule: TrendRule, level: float, rise: float, seed: int) -> Trend:
    """Learnt, then ``rise`` in log level over the last third, to ``level``."""
    found, noise = Trend(), np.random.default_rng(seed)
    now = time.time() / 86_400
    for number in range(HISTORY):
        wear = rise * max(0.0, (number - HISTORY * 0.6) / (HISTORY * 0.4)) ** 2
        then = level * math.exp(wear - rise + float(noise.normal(0, 0.04)))
        found = observe(found, rule, then, now - (HISTORY - number) * EVERY_DAYS, rpm=1775.0).trend
    return found


def _standing(name: str, ring: Ring, waterfall: Waterfall) -> Standing:
    geometry = LIBRARY["6205"]
    machine = Machine(
        rate_hz=RATE_HZ, seconds=SECONDS, rpm=1775.0, geometry=geometry, shaft=(0.03, 0.01, 0.005), mains=0.004
    )
    plan = AssetPlan(bearings={"drive end": orders_of(geometry)}, zone="group2-rigid", may_reach=8.0)
    faulty = name == "motor-1"
    damaged = replace(machine, shaft=(0.06,), faults=(Fault(part="OR", level=0.8),)) if faulty else machine
    seed = MACHINES.index(name)
    found = signal(damaged, seed, told=name != "fan-2")
    rise = 1.1 if faulty else 0.0
    heard = screen(found, [])
    asset = Asset(
        rms=trend(plan.rule, heard.rms, rise * 0.6, seed),
        high=trend(plan.rule, heard.high_rms or 0.0, rise, seed + 10),
    )
    told = tell(plan, asset, found, days=time.time() / 86_400)
    for number in range(40):
        wear = number / 40
        short = replace(damaged, seconds=0.2, faults=(Fault(part="OR", level=0.8 * wear),) if faulty else ())
        one = replace(signal(short, number), start_ns=time.time_ns() - int((40 - number) * 30e9))
        waterfall.add(name, row(one))
    if faulty:
        for number in (1, 2):
            raised = replace(told, raised=(f"drive end: {told.values['drive end/why']}",))
            before = replace(found, start_ns=time.time_ns() - number * 3_600_000_000_000)
            ring.put(name, f"record {number}", before, raised)
        told = replace(told, values={**told.values, "alert": "drive end: OR", "alert_state": "unacknowledged",
                                     "alarm": Alarm.ALARM.value})  # fmt: skip
    topic = f"acme/hamburg/forming/line-2/{name}"
    return Standing(Named(name), plan, told.asset, Judged("000160", found, told), topic)


_alone = threading.Lock()


def analysed() -> Answers:
    """The machines judged, once for all pages and tests of this process."""
    with _alone:
        return _analysed()


@functools.cache
def _analysed() -> Answers:
    folder = Path(tempfile.mkdtemp(prefix="console-evidence-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    ring, waterfall = Ring(folder, 20, 100 << 20), Waterfall()
    watches = {name: _standing(name, ring, waterfall) for name in MACHINES}
    return Answers(cast("dict[str, Watch]", watches), waterfall, ring)


class Motor:
    """What the machines answer; ``acknowledged`` by machine, as the live parameter says."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, str] = {}

    async def answers(self, kind: str, arguments: dict[str, Any]) -> AsyncIterator[tuple[str, Any]]:
        """(media, JSON value or bytes) of each answer. Raises DocumentError."""
        made = await asyncio.to_thread(analysed)
        handler = made.handlers.get(kind)
        if handler is None:
            raise DocumentError([])
        found = handler(arguments)
        if hasattr(found, "__aiter__"):
            async for one in found:
                yield self._told(one)
        else:
            yield self._told(await found)

    def _told(self, answer: Any) -> tuple[str, Any]:
        if isinstance(answer, Reply):
            return answer.media, answer.payload
        value = msgspec.to_builtins(answer)
        if isinstance(value, dict) and value.get("machine") in self.acknowledged and value.get("alertState"):
            value["alertState"] = "acknowledged"
        return "application/json", value
