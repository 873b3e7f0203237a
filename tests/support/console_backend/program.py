"""The invented level loop: what a virtual PLC answers to inquiries, in the shapes of ``workloads.vplc``.

Source and variables are those of the real example (``vplc/examples/tank``), compiled here; values come from a formula
of time, so that whoever looks twice sees the same plant.
"""

from __future__ import annotations

import asyncio
import functools
import math
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.console_backend.scene import Scene

EXAMPLE = Path(__file__).resolve().parents[3] / "vplc" / "examples" / "tank" / "tank.st"
PARAMETERS = {"Tank.setpoint": 1000.0, "Tank.gain": 0.5}
STEP_S = 300.0  # the plan of set-points before anybody touched them: a step every five minutes
SECONDS = 1_000_000_000
LINE_OF_FAULT = 43


class RefusedError(Exception):
    """What the workload would not answer."""


@functools.cache
def rows() -> tuple[dict[str, Any], ...]:
    """The example's variables, as its compiled layout lists them."""
    from vplc.compiler.build import compile_sources, layout_document
    from vplc.compiler.source import Source

    built = compile_sources([Source(EXAMPLE.name, EXAMPLE.read_text())])
    found = layout_document(built, "x86-64")["variables"]
    assert isinstance(found, list)
    keys = ("path", "program", "type", "base", "address", "retain", "constant")
    return tuple(
        {key: row.get(key) for key in keys}
        | {"settable": row["path"] in PARAMETERS, "forcible": row["path"] == "Tank.pump_speed"}
        for row in found
    )


class Tank:
    """``set_`` and ``forced`` are what the centre wants; both may change while pages look on."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.started = time.time() - 3 * 3600
        self.steps: list[tuple[float, float]] = []  # (when, set-point) by the centre
        self.gain = PARAMETERS["Tank.gain"]
        self.forced: dict[str, Any] = {}
        self.journal: list[dict[str, Any]] = []

    def note(self, what: str, path: str, value: Any, who: str = "centre") -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        number = len(self.journal) + 1
        self.journal.append({"n": number, "at": stamp, "who": who, "what": what, "path": path, "value": value})

    # ---- the plant

    def setpoint(self, at: float) -> tuple[float, float, float]:
        """(now, before, since)."""
        number = int((at - 1) // STEP_S)
        plan = [1000.0, 1150.0, 1000.0, 900.0]
        now, before, since = plan[number % 4], plan[(number - 1) % 4], number * STEP_S + 1
        first = self.steps[0][0] if self.steps else math.inf
        if at >= first:
            done = [one for one in self.steps if one[0] <= at]
            since, now = done[-1]
            before = done[-2][1] if len(done) > 1 else plan[int((first - 1) // STEP_S) % 4]
        return now, before, since

    def level(self, at: float) -> float:
        now, before, since = self.setpoint(at)
        passed = at - since
        settling = (before - now) * math.exp(-passed / 11) * math.cos(passed / 13)
        return now + settling + 3 * math.sin(at / 3.1) + random.Random(int(at * 2)).uniform(-1.5, 1.5)

    def pump(self, at: float) -> float:
        if "Tank.pump_speed" in self.forced:
            return float(self.forced["Tank.pump_speed"])
        now, _, since = self.setpoint(at)
        error = now - self.level(at)
        wanted = 380 + (now - 1000) * 0.25 + error * 1.4 + 40 * math.sin(at / 40)
        return max(0.0, min(1000.0, wanted)) if at - since > 0.3 else 380.0

    def value(self, path: str, at: float) -> Any:
        level, pump, now = self.level(at), self.pump(at), self.setpoint(at)[0]
        known: dict[str, Any] = {
            "Tank.setpoint": now, "Tank.target": now, "Tank.controller.setpoint": now,
            "Tank.level": round(level), "Tank.actual": round(level), "Tank.controller.actual": round(level),
            "Tank.flow": round(pump * 0.61), "Tank.pump_speed": round(pump), "Tank.level_quality": 1,
            "Tank.level_good": True, "Tank.gain": self.gain, "Tank.controller.gain": self.gain,
            "Tank.controller.error": round(now - level, 3), "Tank.controller.out": round(pump / 10, 4),
            "Tank.controller.wanted": round(pump / 10 + 0.1, 4), "Tank.controller.integral": 38.2,
            "Tank.pump.in": round(pump / 10, 4), "Tank.pump.out": round(pump / 10, 4), "Tank.pump.rate": 25.0,
            "Tank.scans": int((at - self.started) * 100), "Tank.reset_time": 25 * SECONDS,
            "Tank.controller.reset_time": 25 * SECONDS, "Tank.controller.cycle": SECONDS // 100,
            "Tank.high_level.delay": SECONDS, "Tank.high_limit": 1700.0, "Tank.low_limit": 300.0,
            "Tank.hysteresis": 50.0, "Tank.ramp_rate": 25.0, "Tank.controller.high": 100.0, "Tank.hold.PT": 5 * SECONDS,
            "Tank.hold.ET": 5 * SECONDS,
        }  # fmt: skip
        found = known.get(path)
        if path in self.forced:
            return self.forced[path]
        if found is not None:
            return found
        base = next(row["base"] for row in rows() if row["path"] == path)
        return False if base == "BOOL" else 0

    # ---- inquiries

    def status(self) -> dict[str, Any]:
        scans = int((time.time() - self.started) * 100)
        fault = self.scene.task_fault
        buckets = [
            [
                int(20_000 * 1.09**i),
                int(20_000 * 1.09 ** (i + 1)),
                int(1 + scans * math.exp(-(((i - 11) / 6) ** 2)) / 11),
            ]
            for i in range(48)
        ]
        execution = [[4000 + 250 * i, 4250 + 250 * i, max(1, scans // 4 >> i)] for i in range(12)]
        task = {
            "name": "Fast", "state": "fault" if fault else "run", "priority": 1, "interval_ns": 10_000_000,
            "watchdog_ns": 50_000_000, "scans": scans, "missed": 2, "overruns": 0, "execution_last_ns": 4968,
            "latency": {"count": scans, "p50_ns": 54_698, "p99_ns": 119_562, "p999_ns": 646_152, "max_ns": 1_152_103,
                        "buckets": buckets},
            "execution": {"count": scans, "p50_ns": 4571, "p99_ns": 6416, "p999_ns": 8816, "max_ns": 8907,
                          "buckets": execution},
            "fault": {"kind": "program", "program": "Tank", "pou": "PI", "line": LINE_OF_FAULT,
                      "message": "division by zero", "at_ns": 1, "values": [0, 0]} if fault else None,
        }  # fmt: skip
        driver = {
            "name": "remote_io", "kind": "modbus", "device": "tank-io:502", "write": True, "state": "running",
            "reason": "", "since_unix_ns": int(self.started * 1e9), "updated_unix_ns": time.time_ns(), "alive": True,
            "outputs": "from the host", "counters": {"cycles": scans // 2, "cycles_missed": 6, "requests": scans},
            "round_trip_us": {"p50": 337.8, "p99": 1212.6, "max": 19_138.9},
            "groups": [{"what": "read input 0..1 of unit 1", "good": True, "why": ""},
                       {"what": "write holding 0..0 of unit 1", "good": True, "why": ""}],
        }  # fmt: skip
        return {
            "pid": 7, "alive": True, "phase": "running", "core": 1, "fifo_priority": 60, "memory_locked": True,
            "started_unix_ns": int(self.started * 1e9), "heartbeat_age_ns": 1_383_938, "unpublished": 0,
            "retain_saves": 1200, "retain_failures": 0, "restored": 1, "version": 1, "on_trial": 0, "rollbacks": 0,
            "refusals": 0, "swap_ns": 0, "forces": len(self.forced), "healthy": not fault, "pair": None, "alarms": [],
            "tasks": [task], "program": "tank", "now_ns": time.monotonic_ns(), "drivers": [driver],
            "forced": self.forced, "journal": self.journal,
        }  # fmt: skip

    def answer(self, kind: str, arguments: dict[str, Any]) -> Any:
        """One answer. Raises RefusedError."""
        if kind == "status":
            return self.status()
        if kind == "source":
            return {"program": "tank", "files": [{"name": EXAMPLE.name, "text": EXAMPLE.read_text()}]}
        if kind == "report":
            test = {"name": "the interlock stops the pump", "passed": True, "text": ""}
            check = {"name": "first fill", "passed": True, "text": "after 22.97 s; error -407.553 to -0.471475",
                     "wanted": "1000 +/- 20 within 60 s"}  # fmt: skip
            return {"passed": True, "project": "tank", "tests": [test] * 8, "simulation": {"checks": [check] * 5}}
        if kind == "variables":
            offset, limit = int(arguments.get("offset", 0)), int(arguments.get("limit", 500))
            return {"total": len(rows()), "offset": offset, "variables": list(rows()[offset : offset + limit])}
        if kind == "watch":
            return self._values(arguments["paths"])
        raise RefusedError(f'no inquiry "{kind}"')

    def _values(self, paths: list[str]) -> dict[str, Any]:
        if len(paths) > 64:
            raise RefusedError("must be a list of 1 to 64 paths of variables")
        known = {row["path"] for row in rows()}
        if unknown := [path for path in paths if path not in known]:
            raise RefusedError(f"there is no such variable: {', '.join(unknown)}")
        at = time.time()
        return {"time_ns": time.monotonic_ns(), "values": {path: self.value(path, at) for path in paths}}

    async def watch(self, arguments: dict[str, Any]) -> AsyncIterator[Any]:
        end = time.monotonic() + float(arguments.get("seconds", 0))
        while True:
            while self.scene.stalled:
                await asyncio.sleep(0.1)
            yield self._values(arguments["paths"])
            await asyncio.sleep(float(arguments.get("every_ms", 500)) / 1000)
            if time.monotonic() > end:
                return
