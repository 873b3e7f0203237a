"""Virtual time against real time: the example tank, its plant in Structured Text and in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import vplc
from tests.bench.figure import Figure
from vplc.simulate.simulate import open_project, simulate

PREFIXES = ("simulate_",)
TANK = Path(vplc.__file__).parent / "examples" / "tank"
RUNS = 5
LEAST = 1000


def figures() -> Iterator[Figure]:
    for language, name, goal in (("st", "project.yaml", LEAST), ("python", "project_python.yaml", None)):
        opened = open_project(TANK / name)
        done = [simulate(opened) for _ in range(RUNS)]
        middle = sorted(done, key=lambda d: d.ratio)[RUNS // 2]
        yield Figure(
            key=f"simulate_tank_{language}",
            value=middle.ratio,
            unit="times real time, tank loop at 10 ms, running and checking",
            goal=f">= {goal}" if goal else None,
            compared_to="real time",
            ratio=middle.ratio,
        )
        simulated_s = middle.run.ticks * middle.run.tick_ns / 1e9
        yield Figure(
            key=f"simulate_tank_{language}_with_compiling",
            value=simulated_s / (middle.run_s + middle.compile_s),
            unit="times real time, 10 minutes simulated, compiling included",
        )
