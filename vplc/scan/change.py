"""Online change: a new program takes over between two scans, its values carried by path.

`compare` decides what is carried and what forbids the change (pure); `change` hands the new plan to a running host and
waits for the verdict. A program whose first scans fault is taken back by the host itself, in the same scan.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vplc.drivers import check
from vplc.scan import access, journal, plan, status, variables
from vplc.scan.configuration import Configuration, load
from vplc.scan.errors import NotRunning, Problem, Refused
from vplc.scan.image import describe
from vplc.scan.layout import Layout, Variable
from vplc.scan.prepare import library_problems, replace, write_variables
from vplc.scan.retain import rename
from vplc.scan.values import Json
from vplc.scan.variables import Variables

TRIAL_SCANS = 100
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Move:
    """Bytes carried from one place of the state to another; bits -1 for whole bytes."""

    start: int
    to: int
    size: int
    from_bit: int = -1
    to_bit: int = -1


@dataclass(frozen=True, slots=True)
class Comparison:
    """`unsafe` forbids the change; `report` says which variables begin anew or end."""

    moves: tuple[Move, ...]
    report: tuple[str, ...]
    unsafe: tuple[str, ...]


def compare(old: Sequence[Variable], new: Layout, renamed: Mapping[str, str]) -> Comparison:
    """What carrying `old` variables into the new program means."""
    targets = {v.path.upper(): v for v in new.variables if not v.constant}
    moves: list[Move] = []
    report: list[str] = []
    unsafe: list[str] = []
    found: set[str] = set()
    still = {(v.path.upper(), v.offset) for v in old} == {(v.path.upper(), v.offset) for v in new.variables}
    for v in old:
        if v.constant:
            continue
        target = targets.get(rename(v.path, renamed).upper())
        if target is None:
            report.append(f"{v.path} ends")
            continue
        found.add(target.path.upper())
        if target.type.upper() != v.type.upper() or target.size != v.size:
            unsafe.append(f"{target.path} is {v.type} and would become {target.type}")
        elif v.refers and not still:
            report.append(f"{target.path} refers to a place that may have moved: it begins with its initial value")
        elif v.bit >= 0 or target.bit >= 0:
            moves.append(Move(v.offset, target.offset, 1, max(v.bit, 0), max(target.bit, 0)))
        else:
            moves.append(Move(v.offset, target.offset, v.size))
    report.extend(f"{v.path} is new: it begins with its initial value" for k, v in targets.items() if k not in found)
    return Comparison(tuple(_joined(moves)), tuple(report), tuple(unsafe))


def _joined(moves: list[Move]) -> list[Move]:
    """Neighbours that stay neighbours are carried at once."""
    out: list[Move] = []
    for m in sorted(moves, key=lambda m: m.to):
        last = out[-1] if out else None
        if (
            last
            and m.to_bit < 0
            and last.to_bit < 0
            and (last.start + last.size, last.to + last.size) == (m.start, m.to)
        ):
            out[-1] = Move(last.start, last.to, last.size + m.size)
        else:
            out.append(m)
    return out


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a change ended. `swap_ns` is what it took from the scan in which it happened."""

    taken_over: bool
    version: int
    swap_ns: int
    reason: str
    report: tuple[str, ...]


def change(folder: Path, config_path: Path, trial_scans: int = TRIAL_SCANS) -> Verdict:
    """Gives the program of a configuration to the host in `folder`. Forces go along by path, in the same gap; nobody
    can write or force until the verdict. Raises Refused, with everything that forbids it, or NotRunning; the running
    program goes on then."""
    configuration = load(config_path)
    with access.turn(folder, time.monotonic() + _TIMEOUT_S):
        found = status.read(folder)
        if found.phase != "running":
            raise NotRunning(f"{folder}: the scan host does not run")
        problems = [
            *library_problems(configuration),
            *check.problems(configuration),
            *_shape_problems(folder, found, configuration),
        ]
        if found.on_trial:
            problems.append(Problem(str(folder), "the last change is still on trial", "try again in a moment"))
        comparison = compare(variables.read(folder, found.version).rows, configuration.layout, configuration.renamed)
        problems.extend(
            Problem(str(config_path), text, "rename one of them, or restart the host") for text in comparison.unsafe
        )
        if problems:
            raise Refused(problems)
        version = max(variables.versions(folder)) + 1
        variables.forget(folder, keep=found.version)
        number = access.active_set(folder)
        held = access.forced(folder, number)
        kept, ended = carry_forces(held, variables.of(configuration, version), configuration.renamed)
        write_variables(folder, version, configuration)
        access.write_forced(folder, number + 1, {c.variable.path: c.value for c in kept})
        data = plan.write(
            configuration,
            moves=comparison.moves,
            version=version,
            trial_scans=trial_scans,
            forces=[c.patch for c in kept],
            force_set=number + 1,
        )
        replace(folder / "plan.next", data)
        os.kill(found.pid, signal.SIGUSR1)
        report = (*comparison.report, *(f"{p} was forced and ends: so does the force" for p in ended))
        verdict = _wait(folder, found, version, report)
        access.forces_file(folder, number if verdict.taken_over else number + 1).unlink(missing_ok=True)
        if verdict.taken_over:
            for path in ended:
                detail: dict[str, Json] = {"path": path, "value": None, "before": held[path]}
                journal.note(folder, "online change", "unforce", detail)
        return verdict


def carry_forces(
    held: Mapping[str, Json], new: Variables, renamed: Mapping[str, str]
) -> tuple[list[access.Change], list[str]]:
    """The forces in the new program, and the paths whose forces end because the variable does."""
    kept: list[access.Change] = []
    ended: list[str] = []
    for path, value in held.items():
        rows, problems = access.resolve(new, {rename(path, renamed): value})
        if problems:
            ended.append(path)
        kept.extend(rows)
    return kept, ended


def _wait(folder: Path, before: status.Status, version: int, report: tuple[str, ...]) -> Verdict:
    end = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < end:
        now = status.read(folder)
        if not now.alive:
            raise NotRunning(f"{folder}: the scan host ended during the change")
        if now.refusals > before.refusals:
            raise Refused([Problem(str(folder), "the host refused the program", "its own output says why")])
        if now.rollbacks > before.rollbacks:
            reason = next((a for a in reversed(now.alarms) if "rolled back" in a), "a scan faulted")
            return Verdict(False, now.version, now.swap_ns, reason, report)
        if now.version == version and not now.on_trial:
            return Verdict(True, version, now.swap_ns, "", report)
        time.sleep(0.01)
    raise NotRunning(f"{folder}: the change got no verdict; look at the status")


def _shape_problems(folder: Path, found: status.Status, configuration: Configuration) -> list[Problem]:
    out = []
    mine = {t.name: (t.interval_ns, t.priority) for t in configuration.tasks}
    theirs = {t.name: (t.interval_ns, t.priority) for t in found.tasks}
    if list(mine.items()) != list(theirs.items()):
        out.append(
            Problem(str(folder), "tasks, intervals or priorities differ from those that run", "restart the host")
        )
    if describe(configuration) != json.loads((folder / "image.json").read_bytes()):
        out.append(Problem(str(folder), "drivers or channels differ from those that run", "restart the host"))
    return out
