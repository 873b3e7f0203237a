"""Records out of a folder that an acquisition program fills: each complete file once, oldest first.

Called by ``monitor``. It reads and never deletes: whose files they are, that program decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from manifests.errors import DocumentError, Problem
from workloads.vibration import files
from workloads.vibration.config import Spool
from workloads.vibration.record import Record, unit_of

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

    def read(self, found: Found, rpm: float | None) -> tuple[Record, float | None]:
        """The record and the load it was taken at. Raises DocumentError."""
        beside = _beside(found.path)
        record = files.read(
            found.path,
            rate_hz=self._spool.rate_hz,
            rpm=beside.rpm if beside.rpm is not None else rpm,
            unit=unit_of(self._spool.unit),
            channel=self._spool.channel,
        )
        load = beside.load if beside.load is not None and math.isfinite(beside.load) else None
        return replace(record, start_ns=beside.start_ns or found.written_ns), load


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
