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
from vplc.scan import journal, prepare, status
from vplc.scan.errors import NotRunning, Refused, ScanError
from workloads.kit.config import parse
from workloads.vplc import start
from workloads.vplc.arrange import SCAN_NAME, Arrangement
from workloads.vplc.config import VplcConfig

CHANGED_NAME = "changed.json"  # the run context of the release that took over
FAILED_NAME = "failed.json"  # release -> why its first scans failed: not tried again in this life
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
    if not _scans(run):
        return Changed(release=asked.release, taken=False, idle=True, reason="no program is scanned")
    failed = _failed(run)
    if asked.release in failed:
        return Changed(release=asked.release, taken=False, reason=failed[asked.release])
    config = parse(context.config, VplcConfig)
    program = start.program_folder(context, Path(), run_folder)
    _, arrangement = start.arranged(context, config, program, run)
    problems = _needs_new_start(arrangement, run)
    if problems:
        raise DocumentError(problems)
    (run / NEXT_NAME).write_bytes(arrangement.files[SCAN_NAME])
    try:
        verdict = changes.change(run, run / NEXT_NAME)
    except Refused as error:
        raise start.refused(error) from error
    except ScanError as error:
        raise MachineError(str(error), where=context.instance) from error
    if not verdict.taken_over:
        reason = f"{verdict.reason}; {_REMEDY}, or correct it"
        prepare.replace(run / FAILED_NAME, json.dumps(failed | {asked.release: reason}).encode())
        journal.note(run, CENTRE, "online change failed", {"version": context.version, "reason": verdict.reason})
        return Changed(release=asked.release, taken=False, reason=reason)
    (run / NEXT_NAME).rename(run / SCAN_NAME)  # what the keeper starts the host with
    prepare.replace(run / CHANGED_NAME, asked.context)
    journal.note(run, CENTRE, "online change", {"version": context.version})
    report, swap_us = verdict.report, verdict.swap_ns / 1000
    return Changed(release=asked.release, taken=True, report=report, swap_us=swap_us)


def _scans(run: Path) -> bool:
    try:
        found = status.read(run)
    except NotRunning:
        return False
    return found.alive and found.phase == "running"


def _failed(run: Path) -> dict[str, str]:
    try:
        found = json.loads((run / FAILED_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
