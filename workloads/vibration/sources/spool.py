"""Records out of a folder that an acquisition program fills: each complete file once, oldest first.

Built by ``monitor``, one per machine. It reads and never deletes: whose files they are, that program decides.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from manifests.errors import DocumentError, Problem
from workloads.vibration import files
from workloads.vibration.sources import Report
from workloads.vibration.sources.arrival import Declared, Heard, Taken, settle
from workloads.vibration.sources.config import Spool

MAX_BESIDE_BYTES = 65_536
MAX_REMEMBERED = 100_000


class Beside(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What may lie beside a record as ``<file>.json``; keys it does not know are someone else's."""

    rpm: float | None = None
    load: float | None = None
    start_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A complete file that was not there before."""

    path: Path
    written_ns: int


class Folder:
    """``look`` says what is new. Remembers names with size and time, so that a file written anew counts again."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._folder = Path(spool.folder)
        self._taken: dict[str, tuple[int, int]] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._first = True

    def look(self) -> list[Found]:
        """Complete new files, oldest first. Raises OSError when the folder cannot be read."""
        now: dict[str, tuple[int, int]] = {}
        for entry in self._folder.iterdir():
            if entry.suffix.lower() in files.SUFFIXES and not entry.name.startswith("."):
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # gone between the two looks
                now[entry.name] = (status.st_size, status.st_mtime_ns)
        if self._first and self._spool.existing == "skip":
            self._taken = dict(now)
        self._first = False
        still = [name for name, mark in now.items() if self._seen.get(name) == mark and self._taken.get(name) != mark]
        self._seen = now
        # Names that are gone need not be remembered: should one come back, it is a new record.
        self._taken = {name: mark for name, mark in self._taken.items() if name in now}
        found = sorted((now[name][1], name) for name in still)[:MAX_REMEMBERED]
        for _, name in found:
            self._taken[name] = now[name]
        return [Found(self._folder / name, written) for written, name in found]

    def read(self, found: Found, declared: Declared) -> Taken:
        """The record and the load it was taken at. Raises DocumentError."""
        beside = _beside(found.path)
        every = files.channels(found.path)
        mine = files.pick(found.path, every, declared.channel, self._spool.variable)
        columns = [mine.samples]
        if declared.tacho_channel is not None:
            columns.append(files.pick(found.path, every, declared.tacho_channel).samples)
        if len({len(column) for column in columns}) > 1:
            what = "the tacho's channel is not as long as the vibration's"
            raise DocumentError([Problem(found.path.name, "tachoChannel", what)])
        heard = Heard(
            channels=np.column_stack(columns),
            rate_hz=mine.rate_hz,
            unit=mine.unit,
            rpm=beside.rpm if beside.rpm is not None else mine.rpm,
            load=beside.load,
            start_ns=beside.start_ns or mine.start_ns or found.written_ns,
            overload=mine.overload,
        )
        declared = replace(declared, channel=0, tacho_channel=1 if len(columns) > 1 else None)
        return settle(heard, declared, arrived_ns=found.written_ns, source=found.path.name)


class SpoolSource:
    """Looks every ``intervalMs``; files wait on the disk, so none is lost while others are judged."""

    def __init__(self, spool: Spool, declared: Declared) -> None:
        self._spool = spool
        self._declared = declared
        self._folder = Folder(spool)

    async def run(self, report: Report) -> None:
        while True:
            try:
                news = await asyncio.to_thread(self._folder.look)
            except OSError as error:
                news = []
                report.unreachable(f"{self._spool.folder}: {error.strerror or error}")
            else:
                report.reached()
            for found in news:
                await report.offer(found.path.name, lambda found=found: self._folder.read(found, self._declared))  # type: ignore[misc]  # bound now
            await asyncio.sleep(self._spool.interval_ms / 1000)


def _beside(path: Path) -> Beside:
    note = path.with_name(path.name + ".json")
    try:
        data = note.read_bytes()
    except FileNotFoundError:
        return Beside()
    except OSError as error:
        raise DocumentError([Problem(str(note), "", f"cannot be read: {error.strerror}")]) from error
    if len(data) > MAX_BESIDE_BYTES:
        raise DocumentError([Problem(str(note), "", f"{len(data)} bytes; at most {MAX_BESIDE_BYTES} are read")])
    try:
        return msgspec.json.decode(data, type=Beside)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DocumentError([Problem(str(note), "", str(error))]) from error
