"""What the centre may read of a running program, on demand: status, variables, source, and live values.

Each answer is JSON. Nothing here changes anything; writing goes through live parameters, within signed ranges.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from manifests.errors import DocumentError, Problem
from vplc.drivers import status as driver_status
from vplc.scan import journal, status, variables, watch
from vplc.scan.access import Access
from vplc.scan.errors import NotRunning, Refused, ScanError
from workloads.vplc.program import LAYOUT_NAME, REPORT_NAME, SOURCE_FOLDER, Control
from workloads.vplc.start import refused

MAX_PATHS = 64
MAX_ROWS = 2000
MAX_ENTRIES = 200
MAX_SOURCE_BYTES = 900_000  # an answer holds 1 MB
SHORTEST_MS = 50
LONGEST_S = 3600.0
_WAIT_S = 2.0
JOURNAL = 100  # entries told


class Reader:
    """Answers inquiries about the host in ``run`` and the program folder."""

    def __init__(self, run: Path, folder: Path, control: Control) -> None:
        self._run, self._folder, self._control = run, folder, control

    async def status(self, arguments: Mapping[str, Any]) -> Any:
        """The host's status block: tasks with histograms, alarms, faults; the drivers' own words; what is forced, and
        who forced or released what lately."""
        only(arguments)
        return await asyncio.to_thread(self._status)

    def _status(self) -> dict[str, Any]:
        try:
            found = status.read(self._run)
        except NotRunning as error:
            raise wrong("status", str(error)) from error
        forced: dict[str, Any] = {}
        if found.forces:
            with contextlib.suppress(ScanError), Access(self._run) as access:
                forced = access.forced()
        return found.as_json() | {
            "program": self._control.name,
            "now_ns": time.monotonic_ns(),
            "drivers": driver_status.read(self._run),
            "forced": forced,
            "journal": journal.since(self._run, 0)[-JOURNAL:],
        }

    async def source(self, arguments: Mapping[str, Any]) -> Any:
        """The signed source text: all files, or the one named ``file``. ``pous`` says where each begins."""
        only(arguments, "file")
        wanted = arguments.get("file")
        names = list(self._control.sources)
        if wanted is not None:
            if wanted not in names:
                raise wrong("file", f"the program has no source {wanted!r}", f"it has: {', '.join(names)}")
            names = [wanted]
        files, left = [], MAX_SOURCE_BYTES
        for name in names:
            text = (self._folder / SOURCE_FOLDER / name).read_text("utf-8", "replace")
            left -= len(text.encode())
            files.append({"name": name, "text": text} if left >= 0 else {"name": name, "text": None})
        return {"program": self._control.name, "files": files}

    async def report(self, arguments: Mapping[str, Any]) -> Any:
        """What commissioning found: unit tests, simulation checks, digests. Signed with the program."""
        only(arguments)
        return json.loads((self._folder / REPORT_NAME).read_bytes())

    async def journal(self, arguments: Mapping[str, Any]) -> Any:
        """Who forced, unforced or switched what by hand, above entry ``since``; the newest 200."""
        only(arguments, "since")
        after = int(number(arguments, "since", 0, 0, 2**53))
        entries = await asyncio.to_thread(journal.since, self._run, after)
        return {"entries": entries[-MAX_ENTRIES:]}

    async def variables(self, arguments: Mapping[str, Any]) -> Any:
        """Rows of variables below ``prefix``, from ``offset``; with what may be set or forced from the centre."""
        only(arguments, "prefix", "offset", "limit")
        prefix = str(arguments.get("prefix", "")).upper()
        offset = number(arguments, "offset", 0, 0, 10_000_000)
        limit = int(number(arguments, "limit", 500, 1, MAX_ROWS))
        known = await asyncio.to_thread(self._known)
        rows = [row for row in known if row["path"].upper().startswith(prefix)]
        return {"total": len(rows), "offset": int(offset), "variables": rows[int(offset) : int(offset) + limit]}

    def _known(self) -> list[dict[str, Any]]:
        layout = json.loads((self._folder / LAYOUT_NAME).read_bytes())
        set_, forced = self._control.parameters, self._control.forces
        keys = ("path", "program", "type", "base", "address", "retain", "constant")
        return [
            {key: row.get(key) for key in keys} | {"settable": row["path"] in set_, "forcible": row["path"] in forced}
            for row in layout["variables"]
        ]

    async def watch(self, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Values of ``paths`` every ``every_ms`` for ``seconds`` (0: once); a structure or instance gives all its
        parts. ``time_ns`` is the scan they belong to."""
        only(arguments, "paths", "every_ms", "seconds")
        paths = arguments.get("paths")
        if isinstance(paths, str):
            paths = [part for part in paths.split(",") if part]
        if not isinstance(paths, list) or not paths or len(paths) > MAX_PATHS or not all(map(_text, paths)):
            raise wrong("paths", f"must be a list of 1 to {MAX_PATHS} paths of variables")
        every_s = number(arguments, "every_ms", 500, SHORTEST_MS, 60_000) / 1000
        seconds = number(arguments, "seconds", 0, 0, LONGEST_S)
        end = time.monotonic() + seconds
        groups = await asyncio.to_thread(self._groups, paths)
        while True:
            begun = time.monotonic()
            yield await asyncio.to_thread(self._ask, groups)
            if begun + every_s > end:
                return
            await asyncio.sleep(max(0.0, begun + every_s - time.monotonic()))

    def _groups(self, paths: list[str]) -> list[list[str]]:
        """The paths with all their parts, in portions that one answer of the host holds. Raises DocumentError."""
        try:
            known = variables.read(self._run, status.read(self._run).version)
        except NotRunning as error:
            raise wrong("watch", str(error)) from error
        found, problems = [], []
        for path in paths:
            rows = known.find(path)
            problems.extend([] if rows else [known.unknown(path)])
            found.extend(rows)
        if problems:
            raise refused(Refused(problems))
        return list(watch.groups(found[:MAX_ROWS]))

    def _ask(self, groups: list[list[str]]) -> Any:
        out: dict[str, Any] = {}
        time_ns = 0
        try:
            for paths in groups:
                watcher = watch.Watcher(self._run, paths)
                try:
                    answer = watcher.ask(_WAIT_S)
                finally:
                    watcher.close()
                time_ns = answer.time_ns
                out |= answer.values
        except NotRunning as error:
            return {"error": str(error)}
        except Refused as error:
            raise refused(error) from error
        return {"time_ns": time_ns, "values": out}


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 1000


def number(arguments: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    """A number of the arguments, also when it came as text. Raises DocumentError."""
    value = arguments.get(key, default)
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = low - 1
    if isinstance(value, bool) or not low <= found <= high:
        raise wrong(key, f"must be a number from {low:g} to {high:g}, is {value!r}")
    return found


def only(arguments: Mapping[str, Any], *known: str) -> None:
    for key in arguments:
        if key not in known:
            raise wrong(key, "is no argument of this inquiry", f"known: {', '.join(known) or 'none'}")


def wrong(path: str, what: str, hint: str = "") -> DocumentError:
    return DocumentError([Problem("inquiry", path, what, hint)])
