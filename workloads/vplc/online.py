"""Online change as the platform asks for it: a newer release's program takes over from the one that runs.

The agent lays the signed program beside the run context and asks; `monitor` calls `take_over`. What the running
instance cannot become without a new start is refused with all of it, before the host is touched: other drivers, other
servers, variables of other types. Which program is in force in this life of the instance stands in its run folder,
which is empty at each start; which one it starts with, the run context says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from manifests.errors import DocumentError, MachineError, Problem
from manifests.messages import Change, Changed
from manifests.model import RunContext
from vplc.scan import change as changes
from vplc.scan import journal, prepare, status, variables
from vplc.scan.errors import NotRunning, Refused, ScanError
from vplc.scan.status import Status
from workloads.kit.config import parse
from workloads.vplc import start
from workloads.vplc.arrange import SCAN_NAME, Arrangement
from workloads.vplc.config import VplcConfig
from workloads.vplc.program import LAYOUT_NAME

CHANGED_NAME = "changed.json"  # the run context of the release that took over
FAILED_NAME = "failed.json"  # release -> why its first scans failed: not tried again in this life
TRYING_NAME = "trying.json"  # release, and the host's version and rollbacks before: a slow task's trial takes its time
NEXT_NAME = "scan.next.json"
CENTRE = "centre"
# What a change brings along; tasks are compared by the host.
_CARRIED = {"library", "layout", "renamed", "tasks"}
_REMEDY = "it needs a new start: release it without control.onlineChange"


def in_force(context: RunContext, run: Path) -> RunContext:
    """The context of what runs now: between a take-over and the agent's next word they differ."""
    try:
        changed = msgspec.json.decode((run / CHANGED_NAME).read_bytes(), type=RunContext)
    except (OSError, ValueError):
        return context
    if changed.program == context.program:
        return context
    return msgspec.structs.replace(
        context,
        program=changed.program,
        release=changed.release,
        version=changed.version,
        writes=changed.writes,
        control=changed.control,
    )


def take_over(asked: Change, run_folder: Path, run: Path) -> Changed:
    """Blocks until the first scans of the new program have passed or failed. Raises DocumentError with everything that
    forbids the change, MachineError while it cannot be tried; the program before goes on then."""
    try:
        context = msgspec.json.decode(asked.context, type=RunContext)
    except ValueError as error:
        raise MachineError(f"the run context is not one: {error}", where=asked.release) from error
    found = _scanning(run)
    if found is None:
        return Changed(release=asked.release, taken=False, idle=True, reason="no program is scanned")
    failed = _read(run / FAILED_NAME)
    tried = _read(run / TRYING_NAME)
    mine = tried.get("release") == asked.release
    if mine and found.rollbacks > tried["rollbacks"]:
        return _failed(run, asked.release, context, _why(found))
    if asked.release in failed:
        return Changed(release=asked.release, taken=False, reason=failed[asked.release])
    config = parse(context.config, VplcConfig)
    program = start.program_folder(context, Path(), run_folder)
    _, arrangement = start.arranged(context, config, program, run)
    problems = _needs_new_start(arrangement, run)
    if problems:
        raise DocumentError(problems)
    report: tuple[str, ...] = ()
    swap_ns = found.swap_ns
    if not (mine and found.version > tried["version"] and _runs(run, found, program)):
        (run / NEXT_NAME).write_bytes(arrangement.files[SCAN_NAME])
        trying = {"release": asked.release, "version": found.version, "rollbacks": found.rollbacks}
        prepare.replace(run / TRYING_NAME, json.dumps(trying).encode())
        try:
            verdict = changes.change(run, run / NEXT_NAME)
        except Refused as error:
            raise start.refused(error) from error
        except ScanError as error:
            raise MachineError(str(error), where=context.instance) from error
        if not verdict.taken_over:
            return _failed(run, asked.release, context, verdict.reason)
        report, swap_ns = verdict.report, verdict.swap_ns
    # First what the keeper starts the host with: whatever ends in between, the same is asked again.
    prepare.replace(run / SCAN_NAME, arrangement.files[SCAN_NAME])
    if _read(run / CHANGED_NAME).get("release") != asked.release:
        journal.note(run, CENTRE, "online change", {"version": context.version})
    prepare.replace(run / CHANGED_NAME, asked.context)
    (run / TRYING_NAME).unlink(missing_ok=True)
    return Changed(release=asked.release, taken=True, report=report, swap_us=swap_ns / 1000)


def _scanning(run: Path) -> Status | None:
    try:
        found = status.read(run)
    except NotRunning:
        return None
    return found if found.alive and found.phase == "running" else None


def _runs(run: Path, found: Status, program: Path) -> bool:
    """Raises MachineError while the program is on trial: an earlier question did not wait for the end of it."""
    try:
        same = variables.layout_file(run, found.version).read_bytes() == (program / LAYOUT_NAME).read_bytes()
    except OSError:
        return False
    if same and found.on_trial:
        raise MachineError(f"the program is on trial, {found.on_trial} scans to go", where="online change")
    return same


def _failed(run: Path, release: str, context: RunContext, why: str) -> Changed:
    """Remembered: only a trial disturbs the plant, so it is not repeated with the same program."""
    reason = f"{why}; {_REMEDY}, or correct it"
    prepare.replace(run / FAILED_NAME, json.dumps(_read(run / FAILED_NAME) | {release: reason}).encode())
    (run / TRYING_NAME).unlink(missing_ok=True)
    journal.note(run, CENTRE, "online change failed", {"version": context.version, "reason": why})
    return Changed(release=release, taken=False, reason=reason)


def _why(found: Status) -> str:
    return next((alarm for alarm in reversed(found.alarms) if "rolled back" in alarm), "a scan faulted")


def _needs_new_start(arrangement: Arrangement, run: Path) -> list[Problem]:
    """Everything in which what runs beside the program, or how it is run, would have to become another one."""
    problems = []
    for name in sorted(arrangement.files.keys() | {path.name for path in run.glob("server.*.json")}):
        before, after = _read(run / name), json.loads(arrangement.files.get(name, b"{}"))
        for path, old, new in _differences(before, after, ""):
            if name != SCAN_NAME or path.split(".")[0] not in _CARRIED:
                what = f"is {_word(old)} and would become {_word(new)}"
                problems.append(Problem(name.removesuffix(".json"), path, what, _REMEDY))
    return problems


def _differences(before: Any, after: Any, at: str) -> list[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = sorted(before.keys() | after.keys())
        return [d for key in keys for d in _differences(before.get(key), after.get(key), f"{at}.{key}".lstrip("."))]
    return [] if before == after else [(at, before, after)]


def _word(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
