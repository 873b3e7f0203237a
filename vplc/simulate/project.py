"""The project file: program, plant, how they are wired, what happens to them, and what is expected. Pure.

Called by `simulate` and `commission`. Whether variables exist is seen later, when the program is compiled; every part
keeps its place in the file for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vplc.compiler.model import PROFILES
from vplc.scan.errors import Problem, Refused
from vplc.simulate.document import Document, Scalar, Table

FAULTS = ("stuck", "value", "bad", "drift")
POLICIES = ("hold", "zero", "substitute")
EXPECTATIONS = ("within", "never", "settles", "eventually")
TARGETS = ("x86-64", "aarch64", "armv7", "riscv64")
MAX_SCANS = 1_000_000_000
DEFAULT_PERIOD_NS = 10_000_000


@dataclass(frozen=True, slots=True)
class Plant:
    """Either Structured Text (`sources`, `program`) or a Python class (`python`, as FILE.py:Class or module:Class).
    `dt` names a variable of an ST plant that gets the period in seconds."""

    sources: tuple[str, ...]
    program: str
    python: str
    period_ns: int
    dt: str
    where: str


@dataclass(frozen=True, slots=True)
class Wire:
    """A value carried between program and plant: `to := from * scale + offset`. `quality` and `stale` as in a scan
    configuration, for inputs only."""

    source: str
    to: str
    scale: float
    offset: float
    quality: str
    stale: str
    substitute: float
    where: str


@dataclass(frozen=True, slots=True)
class Set:
    at_ns: int
    variable: str
    value: Scalar
    where: str


@dataclass(frozen=True, slots=True)
class Ramp:
    at_ns: int
    over_ns: int
    variable: str
    start: float | None
    value: float
    where: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A sensor that is `stuck`, shows a fixed `value`, is marked `bad`, or drifts by `rate` per second."""

    at_ns: int
    for_ns: int  # 0: to the end
    input: str
    kind: str
    value: float
    rate: float
    where: str


Stimulus = Set | Ramp | Fault


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation, from `from_ns` to `to_ns` (0: the end).

    within      the variable stays in low..high
    never       it is never above, below or equal to a value
    settles     it comes into target +/- band no later than `within_ns` after `from_ns`, and stays there
    eventually  it is above, below or equal to a value at least once
    """

    name: str
    expect: str
    variable: str
    from_ns: int
    to_ns: int
    low: float
    high: float
    above: float | None
    below: float | None
    equals: float | None
    target: float | str
    band: float
    within_ns: int
    where: str


@dataclass(frozen=True, slots=True)
class Plot:
    title: str
    unit: str
    variables: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Project:
    name: str
    profile: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    targets: tuple[str, ...]
    program: str
    period_ns: int
    duration_ns: int
    sample_ns: int
    plant: Plant
    inputs: tuple[Wire, ...]
    outputs: tuple[Wire, ...]
    stimuli: tuple[Stimulus, ...]
    checks: tuple[Check, ...]
    plots: tuple[Plot, ...]


def parse(text: str, name: str) -> Project:
    """The project as types. Raises Refused with every mistake."""
    document = Document(text, name)
    top = document.root
    sources = top.texts("sources", required=True)
    duration = top.duration("duration", required=True)
    period = top.duration("period", DEFAULT_PERIOD_NS)
    plant = _plant(top)
    wiring = top.table("wiring", required=True)
    inputs: tuple[Wire, ...] = ()
    outputs: tuple[Wire, ...] = ()
    if wiring is not None:
        inputs = tuple(_wire(t, True) for t in wiring.tables("inputs"))
        outputs = tuple(_wire(t, False) for t in wiring.tables("outputs"))
        wiring.finish()
    made = Project(
        name=top.text("name", required=True),
        profile=top.choice("profile", PROFILES, "iec"),
        sources=sources,
        tests=top.texts("tests"),
        targets=top.texts("targets") or ("x86-64",),
        program=top.text("program"),
        period_ns=period,
        duration_ns=duration,
        sample_ns=top.duration("sample"),
        plant=plant,
        inputs=inputs,
        outputs=outputs,
        stimuli=tuple(s for t in top.tables("stimuli") for s in [_stimulus(t, duration, inputs)] if s is not None),
        checks=tuple(_check(t, duration) for t in top.tables("checks")),
        plots=tuple(_plot(t) for t in top.tables("plots")),
    )
    top.finish()
    _whole(made, top)
    if document.problems:
        raise Refused(document.problems)
    return made


def _whole(project: Project, top: Table) -> None:
    """What only shows when all parts are seen together."""
    for target in project.targets:
        if target not in TARGETS:
            top.add("targets", f"{target!r} is none of {', '.join(TARGETS)}")
    if top.has("duration") and not project.duration_ns:
        top.add("duration", "must be longer than nothing")
    if project.period_ns < 50_000:
        top.add("period", "must be at least 50us")
    elif project.duration_ns // project.period_ns > MAX_SCANS:
        top.add("duration", f"more than {MAX_SCANS} scans")
    if not project.checks:
        top.add("checks", "is missing: a simulation without expectations shows nothing")
    for rows, kind in ((project.inputs, "inputs"), (project.outputs, "outputs")):
        seen: dict[str, str] = {}
        for wire in rows:
            key = wire.to.upper()
            if key and key in seen:
                top.document.problems.append(
                    Problem(wire.where, f"{wire.to} already gets its value from {seen[key]} (wiring.{kind})")
                )
            seen[key] = wire.source
    names: dict[str, str] = {}
    for check in project.checks:
        if check.name in names:
            top.document.problems.append(
                Problem(check.where, f"the name {check.name!r} is taken by {names[check.name]}")
            )
        names[check.name] = check.where


def _plant(top: Table) -> Plant:
    table = top.table("plant", required=True)
    if table is None:
        return Plant((), "", "", 0, "", top.where)
    python = table.text("python")
    made = Plant(
        sources=table.texts("source"),
        program=table.text("program"),
        python=python,
        period_ns=table.duration("period"),
        dt=table.text("dt"),
        where=table.where,
    )
    if bool(made.sources) == bool(python):
        table.document.problems.append(
            Problem(table.where, 'needs either "source" (Structured Text) or "python" (FILE.py:Class)')
        )
    if python and ":" not in python:
        table.add("python", f"{python!r} names no class", "write FILE.py:Class or module:Class")
    for key in ("program", "dt"):
        if python and table.has(key):
            table.add(key, "is for plants in Structured Text")
    table.finish()
    return made


def _wire(table: Table, is_input: bool) -> Wire:
    made = Wire(
        source=table.text("from", required=True),
        to=table.text("to", required=True),
        scale=table.number("scale", 1.0),
        offset=table.number("offset"),
        quality=table.text("quality") if is_input else "",
        stale=table.choice("stale", POLICIES, "hold") if is_input else "hold",
        substitute=table.number("substitute") if is_input else 0.0,
        where=table.where,
    )
    table.finish()
    return made


def _stimulus(table: Table, duration: int, inputs: tuple[Wire, ...]) -> Stimulus | None:
    kinds = [k for k in ("set", "ramp", "fault") if table.has(k)]
    at = table.duration("at", required=True)
    if at > duration:
        table.add("at", "comes after the end of the simulation")
    made: Stimulus | None = None
    if len(kinds) != 1:
        table.document.problems.append(Problem(table.where, 'needs one of "set", "ramp" and "fault": a variable'))
    elif kinds[0] == "set":
        value = table.scalar("to", required=True)
        made = Set(at, table.text("set"), 0 if value is None else value, table.where)
    elif kinds[0] == "ramp":
        start = table.number("from") if table.has("from") else None
        over = table.duration("over", required=True)
        made = Ramp(at, over, table.text("ramp"), start, table.number("to", required=True), table.where)
    else:
        kind = table.choice("kind", FAULTS)
        made = Fault(
            at,
            table.duration("for"),
            table.text("fault"),
            kind,
            table.number("value", required=kind == "value"),
            table.number("rate", required=kind == "drift"),
            table.where,
        )
        if made.input.upper() not in {w.to.upper() for w in inputs}:
            names = ", ".join(w.to for w in inputs)
            table.add("fault", f"{made.input} is no wired input of the program", f"wired are: {names}")
    table.finish()
    return made


def _check(table: Table, duration: int) -> Check:
    expect = table.choice("expect", EXPECTATIONS)
    variable = table.text("variable", required=True)
    start = table.duration("from")
    end = table.duration("to", duration)
    low, high = -math.inf, math.inf
    above: float | None = None
    below: float | None = None
    equals: float | None = None
    target: float | str = 0.0
    band, within = 0.0, 0
    if expect == "within":
        low, high = table.number("low", required=True), table.number("high", required=True)
        if low > high:
            table.add("low", f"{low:g} lies above high, {high:g}")
    elif expect in ("never", "eventually"):
        above = table.number("above") if table.has("above") else None
        below = table.number("below") if table.has("below") else None
        if table.has("equals"):
            value = table.scalar("equals")
            if isinstance(value, str):
                table.add("equals", f"must be a number, true or false, is {value!r}")
            equals = None if value is None or isinstance(value, str) else float(value)
        if sum(table.has(k) for k in ("above", "below", "equals")) != 1:
            table.document.problems.append(Problem(table.where, 'needs one of "above", "below" and "equals"'))
    else:
        goal = table.scalar("target", required=True)
        target = goal if isinstance(goal, str) else float(goal or 0)
        band = table.number("band", required=True)
        within = table.duration("within", required=True)
        if start + within > end:
            table.add("within", "reaches beyond the end of the check")
    if start > end or end > duration:
        table.add("from" if start > end else "to", "from..to must lie within the simulation")
    made = Check(
        table.text("name", f"{expect} {variable}"),
        expect, variable, start, end, low, high, above, below, equals, target, band, within, table.where,
    )  # fmt: skip
    table.finish()
    return made


def _plot(table: Table) -> Plot:
    made = Plot(
        table.text("title", required=True), table.text("unit"), table.texts("variables", required=True), table.where
    )
    table.finish()
    return made
