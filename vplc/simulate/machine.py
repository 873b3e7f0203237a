"""Program, plant and harness compiled and bound together: what a simulation runs on.

Called by `simulation`. Raises CompileError for programs that are wrong, Refused for everything in the project that does
not fit them. Needs llvmlite.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vplc.compiler.build import Build, compile_sources
from vplc.compiler.codegen.backend import load
from vplc.compiler.front import read_source
from vplc.compiler.model import ProgramInstance
from vplc.compiler.source import Diagnostics, Source, UnsupportedError
from vplc.compiler.types import Elementary
from vplc.drivers import plant as plants
from vplc.runtime.host import Host
from vplc.runtime.run import choose
from vplc.runtime.values import PathError, Spot, find, raw_scalar, write
from vplc.scan.errors import Problem, Refused
from vplc.simulate import harness
from vplc.simulate.document import Scalar
from vplc.simulate.harness import Cell, Harness, Link, TaskCalls
from vplc.simulate.project import Fault, Project, Set, Wire

MAX_RECORD_BYTES = 1 << 30
PLANT = "plant."
GOOD = 1


class StepError(Exception):
    """The plant's Python code failed; the message says how."""


@dataclass(frozen=True, slots=True)
class Column:
    """A recorded variable. kind: real, integer or boolean."""

    path: str
    kind: str


class Model:
    """One compiled Structured Text side: the program or the plant."""

    def __init__(self, build: Build, name: str) -> None:
        self.build = build
        self.instance: ProgramInstance = choose(build.program, name)
        self.host = Host(build, 2)

    def spot(self, path: str) -> Spot:
        return find(self.build.program, self.instance, path, self.build.layout)

    def address(self, instance: ProgramInstance) -> int:
        return self.host.code.address(self.build.code.runs[instance.name])

    def number(self, path: str) -> float:
        spot = self.spot(path)
        if spot.bit >= 0:
            return float(self.host.memory[spot.offset] >> spot.bit & 1)
        return float(raw_scalar(self.host.memory, spot.type, spot.offset))

    def set(self, path: str, value: Scalar) -> None:
        text = ("TRUE" if value else "FALSE") if isinstance(value, bool) else str(value)
        spot = self.spot(path)
        if isinstance(value, float) and value.is_integer() and _kind(spot)[:1] in ("i", "u"):
            text = str(int(value))
        write(self.host.memory, spot, text)


class PythonSide:
    """A Python plant and the doubles it exchanges with the harness: first what it gets, then what it gives."""

    def __init__(self, made: plants.Plant, inputs: Sequence[str], bools: Sequence[bool], dt_s: float) -> None:
        self.plant: Any = made  # any class with `step`
        self.inputs, self.bools, self.dt_s = tuple(inputs), tuple(bools), dt_s
        self.outputs: tuple[str, ...] = ()
        self.attributes: dict[str, int] = {}  # recorded attributes and their places
        self.values = (ctypes.c_double * 1)()
        self.ramps: dict[str, tuple[float, float]] = {}  # attribute: value, change per step

    def allot(self, outputs: Sequence[str], attributes: Sequence[str]) -> None:
        at = len(self.inputs) + len(outputs)
        self.outputs = tuple(outputs)
        self.attributes = {name: at + i for i, name in enumerate(attributes)}
        self.values = (ctypes.c_double * (at + len(attributes) + 1))()

    def slot(self, name: str) -> int | None:
        if name in self.attributes:
            return self.attributes[name]
        if name in self.outputs:
            return len(self.inputs) + self.outputs.index(name)
        return self.inputs.index(name) if name in self.inputs else None

    def step(self, dt_s: float) -> None:
        """Raises StepError."""
        values, n = self.values, len(self.inputs)
        for name, (value, change) in self.ramps.items():
            setattr(self.plant, name, value)
            self.ramps[name] = (value + change, change)
        asked = {name: values[i] != 0.0 if self.bools[i] else values[i] for i, name in enumerate(self.inputs)}
        try:
            said = self.plant.step(asked, dt_s)
            for i, name in enumerate(self.outputs):
                values[n + i] = said[name]
            for name, at in self.attributes.items():
                values[at] = getattr(self.plant, name)
        except Exception as error:  # somebody else's code: whatever it raises ends the simulation
            raise StepError(f"{type(error).__name__}: {error}") from error


def _kind(spot: Spot) -> str:
    """The harness' kind of a scalar, "" when it is none."""
    if spot.bit >= 0:
        return "bit"
    base = spot.type.base
    if not isinstance(base, Elementary) or base.group in ("char", "null", "void"):
        return ""
    if base.group == "bool":
        return "bool"
    if base.group == "real":
        return f"f{base.size * 8}"
    return f"{'i' if base.signed else 'u'}{base.size * 8}"


def _column(cell: Cell) -> str:
    return "real" if cell.kind[0] == "f" else "boolean" if cell.kind[0] == "b" else "integer"


class Machine:
    """Everything resolved; `run(first, end)` executes ticks."""

    def __init__(
        self, project: Project, folder: Path, sources: Sequence[Source], plant_sources: Sequence[Source]
    ) -> None:
        self.project = project
        self.problems: list[Problem] = []
        self.program = Model(compile_sources(sources, project.profile), project.program)
        self.plant: Model | None = None
        self.python: PythonSide | None = None
        tasks = self._tasks()
        self.tick_ns, self.plant_every = self._tick(tasks)
        plant_ns = self.tick_ns * self.plant_every
        if project.plant.python:
            self._python(folder, plant_ns)
        else:
            self.plant = Model(compile_sources(plant_sources, project.profile), project.plant.program)
        self.columns: tuple[Column, ...] = ()
        inputs = [self._wire(w, True) for w in project.inputs]
        outputs = [self._wire(w, False) for w in project.outputs]
        self.ramp_slot: dict[str, int] = {}
        ramps: list[Cell] = []
        self._stimuli(ramps)
        columns = self._columns()
        self.sample_ns, every = self._sampling(tasks)
        self.ticks = project.duration_ns // self.tick_ns + 1
        self.capacity = (self.ticks + every - 1) // every
        if len(columns) * self.capacity * 8 > MAX_RECORD_BYTES:
            what = f"{len(columns)} variables at {self.capacity} instants need more than {MAX_RECORD_BYTES >> 30} GiB"
            self.problems.append(Problem("sample", what, "give a longer `sample`, such as 100ms"))
        if self.problems:
            raise Refused(self.problems)
        made = Harness(
            tick_ns=self.tick_ns,
            tasks=tuple(
                TaskCalls(ns // self.tick_ns, tuple(self.program.address(i) for i in one)) for ns, one in tasks
            ),
            plant_run=self.plant.address(self.plant.instance) if self.plant else 0,
            plant_every=self.plant_every,
            inputs=tuple(w for w in inputs if w),
            outputs=tuple(w for w in outputs if w),
            ramps=tuple(ramps),
            columns=tuple(columns),
            record_every=every,
            capacity=self.capacity,
        )
        self.code = load(harness.write(made), 2)
        six = [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 2
        self.function = ctypes.CFUNCTYPE(ctypes.c_int64, *six)(self.code.address("simulate"))
        self.rows = (ctypes.c_double * max(1, len(columns) * self.capacity))()
        words = harness.INPUT_BYTES * len(inputs) + harness.RAMP_BYTES * len(ramps)
        self.control = bytearray(words + 8)
        self._control = (ctypes.c_char * len(self.control)).from_buffer(self.control)
        self.ramps_at = harness.INPUT_BYTES * len(inputs)

    # -- resolving ---------------------------------------------------------------------------------------

    def _tasks(self) -> list[tuple[int, list[ProgramInstance]]]:
        """Interval and programs of each task, the most urgent first."""
        program = self.program.build.program
        rows = [(t.priority, t.name, t.interval_ns) for t in program.tasks]
        if any(not i.task for i in program.instances):
            rows.append((0, "", self.project.period_ns))
        out = []
        for _, name, interval in sorted(rows, key=lambda r: r[0]):
            mine = [i for i in program.instances if i.task.upper() == name.upper()]
            if not mine:
                continue
            if not interval or interval < 50_000:
                self.problems.append(Problem(f"task {name}", "has no INTERVAL of at least 50 us"))
                continue
            out.append((interval, mine))
        if self.problems:
            raise Refused(self.problems)
        return out

    def _tick(self, tasks: list[tuple[int, list[ProgramInstance]]]) -> tuple[int, int]:
        intervals = [ns for ns, _ in tasks]
        plant_ns = self.project.plant.period_ns or min(intervals)
        tick = math.gcd(*intervals, plant_ns)
        if self.project.duration_ns // tick > 4_000_000_000:
            raise Refused([Problem("duration", f"the intervals have only {tick} ns in common: too many steps")])
        return tick, plant_ns // tick

    def _sampling(self, tasks: list[tuple[int, list[ProgramInstance]]]) -> tuple[int, int]:
        sample = self.project.sample_ns or min(ns for ns, _ in tasks)
        if sample % self.tick_ns:
            self.problems.append(Problem("sample", f"must be a multiple of {self.tick_ns} ns"))
        every = max(1, sample // self.tick_ns)
        return every * self.tick_ns, every

    def _python(self, folder: Path, plant_ns: int) -> None:
        wires = self.project.outputs
        bools = []
        for wire in wires:
            try:
                bools.append(_kind(self.program.spot(wire.source)) in ("bool", "bit"))
            except PathError:
                bools.append(False)
        made = plants.load(self.project.plant.python, folder, self.project.plant.where)
        names = [w.to.removeprefix(PLANT) for w in wires]
        self.python = PythonSide(made, names, bools, plant_ns / 1e9)
        # What it gives is seen on another object, so that the first step of this one is its first.
        other = plants.load(self.project.plant.python, folder, self.project.plant.where)
        try:
            said = other.step({n: False if b else 0.0 for n, b in zip(names, bools, strict=True)}, 0.0)
        except Exception as error:  # somebody else's code: whatever it raises is their mistake, told as one
            what = f"the plant's first step failed: {type(error).__name__}: {error}"
            raise Refused([Problem(self.project.plant.where, what)]) from error
        recorded = [p.removeprefix(PLANT) for p in self.recorded() if p.startswith(PLANT)]
        attributes = [n for n in dict.fromkeys(recorded) if n not in said and n not in names and hasattr(made, n)]
        self.python.allot([n for n in said if isinstance(said[n], (bool, int, float))], attributes)

    def recorded(self) -> list[str]:
        """Every variable that a check or a plot names, once."""
        paths: dict[str, None] = {}
        for check in self.project.checks:
            paths[check.variable] = None
            if isinstance(check.target, str):
                paths[check.target] = None
        for plot in self.project.plots:
            paths.update(dict.fromkeys(plot.variables))
        return list(paths)

    def cell(self, path: str, where: str, plant: bool) -> Cell | None:
        """The place of a scalar; None (and a problem) when there is none."""
        name = path.removeprefix(PLANT) if plant else path
        if plant and self.python is not None:
            slot = self.python.slot(name)
            if slot is None:
                known = ", ".join((*self.python.inputs, *self.python.outputs))
                self.problems.append(Problem(where, f"the plant has no {name}", f"it has: {known}"))
                return None
            return Cell(True, 8 * slot, "f64")
        model = self.plant if plant else self.program
        assert model is not None
        try:
            spot = model.spot(name)
        except (PathError, UnsupportedError) as error:
            self.problems.append(Problem(where, ("plant: " if plant else "") + str(error)))
            return None
        kind = _kind(spot)
        if not kind:
            self.problems.append(Problem(where, f"{path} is a {spot.type.name}: only numbers and BOOL can be used"))
            return None
        return Cell(plant, spot.offset, kind, spot.bit)

    def _wire(self, wire: Wire, is_input: bool) -> Link | None:
        source = self.cell(wire.source, wire.where, is_input)
        to = self.cell(wire.to, wire.where, not is_input)
        quality = -1
        if wire.quality:
            place = self.cell(wire.quality, wire.where, False)
            if place is not None and place.kind != "u8":
                self.problems.append(Problem(wire.where, f"{wire.quality} must be a BYTE or USINT"))
            elif place is not None:
                quality = place.offset
        if source is None or to is None:
            return None
        return Link(source, to, wire.scale, wire.offset, quality)

    def _stimuli(self, ramps: list[Cell]) -> None:
        wired = {w.to.upper(): w for w in self.project.inputs}
        asked = {w.to.removeprefix(PLANT).upper() for w in self.project.outputs}
        for s in self.project.stimuli:
            if isinstance(s, Fault):
                continue
            on_plant = s.variable.startswith(PLANT)
            name = s.variable.removeprefix(PLANT)
            if not on_plant and s.variable.upper() in wired:
                self.problems.append(
                    Problem(s.where, f"{s.variable} gets its value from the plant", f"use: fault: {s.variable}")
                )
            elif on_plant and name.upper() in asked:
                self.problems.append(Problem(s.where, f"{s.variable} gets its value from the program"))
            elif on_plant and self.python is not None:
                if not hasattr(self.python.plant, name):
                    self.problems.append(Problem(s.where, f"the plant has no attribute {name}"))
            elif isinstance(s, Set):
                self._try_set(s, on_plant)
            else:
                cell = self.cell(s.variable, s.where, on_plant)
                if cell is not None and s.variable not in self.ramp_slot:
                    self.ramp_slot[s.variable] = len(ramps)
                    ramps.append(cell)

    def _try_set(self, s: Set, on_plant: bool) -> None:
        model = self.plant if on_plant else self.program
        assert model is not None
        before = bytes(model.host.memory)
        try:
            model.set(s.variable.removeprefix(PLANT) if on_plant else s.variable, s.value)
        except (PathError, UnsupportedError) as error:
            self.problems.append(Problem(s.where, str(error)))
        model.host.memory[:] = before

    def _columns(self) -> list[Cell]:
        places: dict[str, str] = {}
        for check in self.project.checks:
            places.setdefault(check.variable, check.where)
            if isinstance(check.target, str):
                places.setdefault(check.target, check.where)
        for plot in self.project.plots:
            for path in plot.variables:
                places.setdefault(path, plot.where)
        cells: list[Cell] = []
        columns: list[Column] = []
        for path, where in places.items():
            cell = self.cell(path, where, path.startswith(PLANT))
            if cell is not None:
                cells.append(cell)
                columns.append(Column(path, _column(cell)))
        self.columns = tuple(columns)
        return cells

    # -- running -----------------------------------------------------------------------------------------

    def plant_state(self) -> int:
        if self.plant is not None:
            return self.plant.host.address
        assert self.python is not None
        return ctypes.addressof(self.python.values)

    def start(self) -> str:
        """Cold start of both sides; what failed, or nothing."""
        for model in (self.plant, self.program):
            fault = model.host.init() if model is not None else None
            if fault is not None:
                return f"{fault.pou}, line {fault.line}: {fault.message}"
        if self.plant is not None and self.project.plant.dt:
            self.plant.set(self.project.plant.dt, self.tick_ns * self.plant_every / 1e9)
        if self.python is not None:
            try:
                self.python.step(0.0)
            except StepError as error:
                return f"plant: {error}"
        return ""

    def run(self, first: int, end: int) -> tuple[int, int]:
        """Ticks first..end-1; how far it came, and 0, 1 (the program faulted) or 2 (the plant). Raises StepError."""
        state, plant = self.program.host.address, self.plant_state()
        control, rows = ctypes.addressof(self._control), ctypes.addressof(self.rows)
        if self.python is None:
            done = self.function(state, plant, control, rows, first, end)
            return done >> 2, done & 3
        step, every, dt_s, call = self.python.step, self.plant_every, self.python.dt_s, self.function
        k = first
        while k < end:
            following = min(end, k - k % every + every)
            done = call(state, plant, control, rows, k, following)
            if done & 3:
                return done >> 2, done & 3
            k = following
            if k % every == 0:
                step(dt_s)
        return k, 0


def read_sources(names: Sequence[str], folder: Path, diagnostics: Diagnostics) -> list[Source]:
    """The files of a project, named as the project names them, so that nothing depends on where it lies."""
    out = []
    for name in names:
        if name.lower().endswith(".xml"):
            from vplc.plcopen.read import read_project

            found = read_project(str(folder / name), diagnostics)
        else:
            found = read_source(str(folder / name), diagnostics)
        found.name = name
        out.append(found)
    return out


__all__ = ["Column", "Machine", "Model", "StepError", "read_sources"]
