"""Runs a machine through the stimuli of its project, in virtual time: nothing here reads a clock.

Called by `simulate` and `commission`. The same project gives the same samples, bit for bit, on the same processor
architecture.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vplc.scan.values import Json
from vplc.simulate import harness
from vplc.simulate.machine import GOOD, PLANT, Column, Machine, StepError
from vplc.simulate.project import Fault, Ramp, Set, Wire

BAD = 3
_INPUT = struct.Struct("<qdddq")
_RAMP = struct.Struct("<qdd")


@dataclass(frozen=True, slots=True)
class Samples:
    """Every column at the same instants, `step_ns` apart, from 0; all as doubles."""

    step_ns: int
    count: int
    columns: tuple[Column, ...]
    values: dict[str, memoryview[float]]

    def kind(self, path: str) -> str:
        return next(c.kind for c in self.columns if c.path == path)

    def sha256(self) -> str:
        """Of all samples: two runs that agree in it were the same."""
        total = hashlib.sha256()
        for column in self.columns:
            total.update(column.path.encode() + b"\0")
            total.update(self.values[column.path].cast("B"))
        return total.hexdigest()


@dataclass(frozen=True, slots=True)
class Run:
    """What happened; `fault` says why it ended early."""

    samples: Samples
    ticks: int
    tick_ns: int
    fault: dict[str, Json] | None


@dataclass(frozen=True, slots=True)
class _Event:
    tick: int
    order: int
    act: Callable[[], None]


class _Stage:
    """Makes events of stimuli. An input or a ramp has one owner at a time: the end of an older one changes nothing."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.events: list[_Event] = []
        self.owner: dict[str, int] = {}
        self.wires = {w.to.upper(): (i, w) for i, w in enumerate(machine.project.inputs)}
        for i in range(len(machine.project.inputs)):
            self.input(i, harness.PASS, 0.0, 0.0, GOOD)
        for number, stimulus in enumerate(machine.project.stimuli):
            start = -(-stimulus.at_ns // machine.tick_ns)
            if isinstance(stimulus, Set):
                self.at(start, lambda s=stimulus: self.set(s.variable, s.value))  # type: ignore[misc]  # bound early
            elif isinstance(stimulus, Ramp):
                ticks = max(1, -(-stimulus.over_ns // machine.tick_ns))
                self.at(start, lambda s=stimulus, n=ticks, me=number: self.begin_ramp(s, n, me))  # type: ignore[misc]
                self.at(start + ticks, lambda s=stimulus, me=number: self.end_ramp(s, me))  # type: ignore[misc]
            else:
                self.at(start, lambda s=stimulus, me=number: self.begin_fault(s, me))  # type: ignore[misc]
                if stimulus.for_ns:
                    end = -(-(stimulus.at_ns + stimulus.for_ns) // machine.tick_ns)
                    self.at(end, lambda s=stimulus, me=number: self.end_fault(s, me))  # type: ignore[misc]
        self.events.sort(key=lambda e: (e.tick, e.order))

    def at(self, tick: int, act: Callable[[], None]) -> None:
        self.events.append(_Event(tick, len(self.events), act))

    def input(self, index: int, mode: int, value: float, slope: float, quality: int) -> None:
        _INPUT.pack_into(self.machine.control, harness.INPUT_BYTES * index, mode, value, 0.0, slope, quality)

    def set(self, variable: str, value: bool | int | float | str) -> None:
        name = variable.removeprefix(PLANT)
        if not variable.startswith(PLANT):
            self.machine.program.set(variable, value)
        elif self.machine.plant is not None:
            self.machine.plant.set(name, value)
        elif self.machine.python is not None:
            setattr(self.machine.python.plant, name, value)

    def now(self, variable: str) -> float:
        name = variable.removeprefix(PLANT)
        if not variable.startswith(PLANT):
            return self.machine.program.number(variable)
        if self.machine.plant is not None:
            return self.machine.plant.number(name)
        assert self.machine.python is not None
        return float(getattr(self.machine.python.plant, name))

    def begin_ramp(self, ramp: Ramp, ticks: int, me: int) -> None:
        self.owner[ramp.variable] = me
        start = self.now(ramp.variable) if ramp.start is None else ramp.start
        python = self.machine.python
        if ramp.variable.startswith(PLANT) and python is not None:
            steps = max(1, ticks // self.machine.plant_every)
            python.ramps[ramp.variable.removeprefix(PLANT)] = (start, (ramp.value - start) / steps)
            return
        at = self.machine.ramps_at + harness.RAMP_BYTES * self.machine.ramp_slot[ramp.variable]
        _RAMP.pack_into(self.machine.control, at, 1, start, (ramp.value - start) / ticks)

    def end_ramp(self, ramp: Ramp, me: int) -> None:
        if self.owner.get(ramp.variable) != me:
            return
        if ramp.variable.startswith(PLANT) and self.machine.python is not None:
            del self.machine.python.ramps[ramp.variable.removeprefix(PLANT)]
        else:
            at = self.machine.ramps_at + harness.RAMP_BYTES * self.machine.ramp_slot[ramp.variable]
            _RAMP.pack_into(self.machine.control, at, 0, 0.0, 0.0)
        self.set(ramp.variable, ramp.value)

    def begin_fault(self, fault: Fault, me: int) -> None:
        index, wire = self.wires[fault.input.upper()]
        self.owner[f"input {index}"] = me
        if fault.kind == "stuck":
            self.input(index, harness.HOLD, 0.0, 0.0, GOOD)
        elif fault.kind == "value":
            self.input(index, harness.VALUE, fault.value, 0.0, GOOD)
        elif fault.kind == "drift":
            self.input(index, harness.PASS, 0.0, fault.rate * self.machine.tick_ns / 1e9, GOOD)
        else:
            self._bad(index, wire)

    def _bad(self, index: int, wire: Wire) -> None:
        """What the scan host gives the program for a bad input: by the channel's stale policy."""
        mode = harness.HOLD if wire.stale == "hold" else harness.VALUE
        self.input(index, mode, wire.substitute if wire.stale == "substitute" else 0.0, 0.0, BAD)

    def end_fault(self, fault: Fault, me: int) -> None:
        index, _ = self.wires[fault.input.upper()]
        if self.owner.get(f"input {index}") == me:
            self.input(index, harness.PASS, 0.0, 0.0, GOOD)


def run(machine: Machine) -> Run:
    """From a cold start to the end, or to the first fault."""
    failed = machine.start()
    fault: dict[str, Json] | None = {"where": "start", "time_s": 0.0, "message": failed} if failed else None
    tick = 0
    if fault is None:
        tick, fault = _scenes(machine, _Stage(machine).events)
    samples = _samples(machine, tick)
    return Run(samples, tick, machine.tick_ns, fault)


def _scenes(machine: Machine, events: Sequence[_Event]) -> tuple[int, dict[str, Json] | None]:
    tick, following = 0, 0
    while tick < machine.ticks:
        while following < len(events) and events[following].tick <= tick:
            events[following].act()
            following += 1
        end = min(machine.ticks, events[following].tick if following < len(events) else machine.ticks)
        try:
            tick, code = machine.run(tick, end)
        except StepError as error:
            return tick, {"where": "plant", "time_s": tick * machine.tick_ns / 1e9, "message": str(error)}
        if code:
            model = machine.program if code == 1 else machine.plant
            assert model is not None
            found = model.host.fault().as_json()
            where = "program" if code == 1 else "plant"
            return tick, {"where": where, "time_s": tick * machine.tick_ns / 1e9, **found}
    return tick, None


def _samples(machine: Machine, ticks: int) -> Samples:
    every = machine.sample_ns // machine.tick_ns
    count = (ticks + every - 1) // every
    rows = memoryview(machine.rows).cast("B").cast("d")
    values = {c.path: rows[i * machine.capacity : i * machine.capacity + count] for i, c in enumerate(machine.columns)}
    return Samples(machine.sample_ns, count, machine.columns, values)
