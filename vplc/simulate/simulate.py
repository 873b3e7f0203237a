"""A project file to a report: reads, hashes, compiles, runs, checks.

Called by the command line, `commission` and the benchmarks. Everything is read once: what is hashed is what runs.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from vplc.compiler.source import CompileError, Diagnostics, Source
from vplc.drivers import plant as plants
from vplc.scan.errors import Problem, Refused
from vplc.scan.values import Json
from vplc.simulate import checks, simulation
from vplc.simulate.machine import Machine, read_sources
from vplc.simulate.project import Project, parse
from vplc.simulate.report import SIMULATION

MAX_FILE = 64 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """A project with its files' contents; `hashes` are of the bytes as they were read."""

    project: Project
    folder: Path
    file: str
    sources: tuple[Source, ...]
    plant_sources: tuple[Source, ...]
    test_sources: tuple[Source, ...]
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Simulated:
    """The report, and what does not belong into it: samples and how long it took."""

    report: dict[str, Json]
    run: simulation.Run
    outcomes: tuple[checks.Outcome, ...]
    compile_s: float
    run_s: float

    @property
    def ratio(self) -> float:
        """Simulated over real time, running and checking, without compiling."""
        return self.run.ticks * self.run.tick_ns / 1e9 / max(self.run_s, 1e-9)


def open_project(path: Path) -> Opened:
    """Reads project and files. Raises Refused with every mistake in the file and every file that is not there;
    CompileError for sources that cannot be read."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise Refused([Problem(str(path), f"cannot read the project: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise Refused([Problem(str(path), "is no UTF-8 text")]) from error
    project = parse(text, path.name)
    folder = path.parent
    hashes = {path.name: hashlib.sha256(data).hexdigest()}
    problems: list[Problem] = []
    python = plants.file_of(project.plant.python, folder) if project.plant.python else None
    if project.plant.python and python is None:
        problems.append(Problem(project.plant.where, f"there is no module for {project.plant.python}"))
    names = [*project.sources, *project.plant.sources, *project.tests]
    files = {name: folder / name for name in names}
    if python is not None:
        files[project.plant.python.rpartition(":")[0]] = python
    for name, file in files.items():
        try:
            content = file.read_bytes()
        except OSError as error:
            problems.append(Problem(path.name, f"cannot read {name}: {error.strerror}", "paths begin at the project"))
            continue
        hashes[name] = hashlib.sha256(content).hexdigest()
    if problems:
        raise Refused(problems)
    diagnostics = Diagnostics()
    opened = Opened(
        project,
        folder,
        path.name,
        tuple(read_sources(project.sources, folder, diagnostics)),
        tuple(read_sources(project.plant.sources, folder, diagnostics)),
        tuple(read_sources(project.tests, folder, diagnostics)),
        hashes,
    )
    if diagnostics.errors:
        raise CompileError(diagnostics)
    return opened


def simulate(opened: Opened) -> Simulated:
    """Compiles and runs. Raises CompileError or Refused when it cannot begin; faults and failed checks are results."""
    project = opened.project
    begin = time.perf_counter()
    machine = Machine(project, opened.folder, opened.sources, opened.plant_sources)
    ready = time.perf_counter()
    run = simulation.run(machine)
    outcomes = tuple(checks.evaluate(check, run.samples) for check in project.checks)
    run_s = time.perf_counter() - ready
    report: dict[str, Json] = {
        "format": SIMULATION,
        "project": project.name,
        "passed": run.fault is None and all(o.passed for o in outcomes),
        "profile": project.profile,
        "source_sha256": machine.program.build.source_hash,
        "inputs": [{"path": name, "sha256": opened.hashes[name]} for name in sorted(_used(opened))],
        "plant": "python" if project.plant.python else "st",
        "tick_ns": run.tick_ns,
        "sample_ns": run.samples.step_ns,
        "duration_ns": project.duration_ns,
        "ticks": run.ticks,
        "stimuli": len(project.stimuli),
        "samples_sha256": run.samples.sha256(),
        "fault": run.fault,
        "checks": [o.as_json() for o in outcomes],
    }
    return Simulated(report, run, outcomes, ready - begin, run_s)


def _used(opened: Opened) -> set[str]:
    """The files that decide the simulation: all but the unit tests."""
    return set(opened.hashes) - (set(opened.project.tests) - set(opened.project.sources))
