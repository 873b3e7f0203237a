"""Writing and forcing variables of a running host, by path.

A request lies in shared memory; the scan thread carries it out whole between two scans and never waits for anybody.
Several processes take turns by a lock among themselves. Who may do this is the caller's business: this module only
refuses what cannot be right, and notes every force in the journal.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import mmap
import os
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vplc.scan import journal, status, values, variables
from vplc.scan.errors import NotRunning, Problem, Refused
from vplc.scan.layout import Variable
from vplc.scan.plan import PATCH
from vplc.scan.retain import Patch
from vplc.scan.values import Json
from vplc.scan.variables import Variables
from vplc.scan.watch import Watcher, groups

ENTRIES = 1024
BYTES = 32768
_HEAD = struct.Struct("<10I")
SIZES = {"access": _HEAD.size + 2 * (ENTRIES * PATCH.size + BYTES)}
_WRITE, _FORCE = 1, 2
_DONE, _OTHER_VERSION, _INVALID, _ON_TRIAL, _FOLLOWING = 0, 1, 2, 3, 4
_SUBRANGE = re.compile(r"\((-?\d+)\.\.(-?\d+)\)")


@dataclass(frozen=True, slots=True)
class Change:
    """A checked value for a variable."""

    variable: Variable
    value: Json
    data: bytes

    @property
    def patch(self) -> Patch:
        bit = self.variable.bit
        return Patch(self.variable.offset, self.data if bit < 0 else bytes([self.data[0] << bit]), bit)


class Access:
    """One per process and thread. Not for the scan itself: a request takes up to a scan to be answered."""

    def __init__(self, folder: Path, who: str = "") -> None:
        """`who` goes into the journal unless a call names another. Raises NotRunning without a host."""
        self.folder = folder
        self.who = who or f"{user()} (process {os.getpid()})"
        self._map: mmap.mmap | None = None
        self._inode = -1
        self._variables: Variables | None = None
        self._attach()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forces stay: they belong to the host."""
        if self._map is not None:
            self._map.close()
            self._map, self._inode = None, -1

    def write(self, changes: Mapping[str, Json], timeout_s: float = 5.0) -> None:
        """Writes once, all in the same gap between two scans; the program may overwrite them in the next scan.

        Raises Refused with every mistake (nothing is written then), or NotRunning when no scan answers in time."""
        end = time.monotonic() + timeout_s
        with turn(self.folder, end):
            while True:
                known = self._known()
                rows, problems = resolve(known, changes)
                held = self._held(known)
                for row in rows:
                    problems.extend(_not_writable(known, row, held))
                if problems:
                    raise Refused(problems)
                _too_much(rows)
                if self._request(_WRITE, known.version, rows, 0, end):
                    return

    def force(self, changes: Mapping[str, Json], timeout_s: float = 5.0, who: str = "") -> None:
        """Holds values: after the inputs are read, and again before the outputs are given to the drivers. They last
        until `unforce` or until the host ends; a forced output in fault still gets its safe value.

        Raises Refused with every mistake (nothing changes then), or NotRunning."""
        end = time.monotonic() + timeout_s
        with turn(self.folder, end):
            while True:
                known = self._known()
                rows, problems = resolve(known, changes)
                if problems:
                    raise Refused(problems)
                before = self._values(known, rows, end)
                held = self._held(known)
                kept = [h for h in held if not any(h.variable.path == r.variable.path for r in rows)]
                for row in rows:
                    problems.extend(_held_twice(row, kept))
                if problems:
                    raise Refused(problems)
                if self._hold(known.version, [*kept, *rows], end):
                    break
            for row in rows:
                path = row.variable.path
                detail: dict[str, Json] = {"path": path, "value": row.value, "before": before.get(path)}
                journal.note(self.folder, who or self.who, "force", detail)

    def unforce(self, paths: Sequence[str] | None, timeout_s: float = 5.0, who: str = "") -> None:
        """Ends forces, None: all of them; the values stay until the program or a driver writes others. Raises Refused
        with every path that is not forced, or NotRunning."""
        end = time.monotonic() + timeout_s
        with turn(self.folder, end):
            while True:
                known = self._known()
                held = self._held(known)
                names_held = [h.variable.path for h in held]
                wanted = {p.upper() for p in (paths if paths is not None else names_held)}
                missing = [p for p in paths or () if p.upper() not in {n.upper() for n in names_held}]
                if missing:
                    names = ", ".join(names_held) or "nothing"
                    raise Refused([Problem(p, "is not forced", f"forced now: {names}") for p in missing])
                ended = [h for h in held if h.variable.path.upper() in wanted]
                if not ended or self._hold(known.version, [h for h in held if h not in ended], end):
                    break
            for row in ended:
                detail: dict[str, Json] = {"path": row.variable.path, "value": None, "before": row.value}
                journal.note(self.folder, who or self.who, "unforce", detail)

    def forced(self) -> dict[str, Json]:
        """What is held now. Raises NotRunning without a host."""
        self._attach()
        return self._forced()

    def _forced(self) -> dict[str, Json]:
        for _ in range(20):
            number = self._head()[8]
            try:
                return forced(self.folder, number)
            except NotRunning:
                time.sleep(0.001)  # another process replaced the set in between
        return self._held_by_place()

    def _held_by_place(self) -> dict[str, Json]:
        """The forces of a set that came from the host this one stood by for: its names stayed there."""
        known = self._known()
        memory = self._map
        assert memory is not None
        at = _HEAD.size + ENTRIES * PATCH.size + BYTES
        data = at + ENTRIES * PATCH.size
        out: dict[str, Json] = {}
        for i in range(min(self._head()[9], ENTRIES)):
            offset, size, start, mask = PATCH.unpack_from(memory, at + i * PATCH.size)
            bit = mask.bit_length() - 1
            v = known.at(offset, 1 if mask else size, bit)
            if v is not None:
                out[v.path] = values.decode(v.base, bytes(memory[data + start : data + start + v.size]), bit)
        return out

    # -- the shared block ----------------------------------------------------------------------------

    def _attach(self) -> None:
        """Maps the block of the host that runs now."""
        try:
            fd = os.open(self.folder / "access", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise NotRunning(f"{self.folder}: there is no scan host") from error
        try:
            inode = os.fstat(fd).st_ino
            if inode == self._inode:
                return
            memory = mmap.mmap(fd, SIZES["access"])
        except ValueError as error:
            raise NotRunning(f"{self.folder}: the host is of another version, or starting") from error
        finally:
            os.close(fd)
        self.close()
        self._map, self._inode, self._variables = memory, inode, None

    def _head(self) -> tuple[int, ...]:
        assert self._map is not None
        return _HEAD.unpack_from(self._map)

    def _known(self) -> Variables:
        """The variables of the version that runs now."""
        self._attach()
        found = status.read(self.folder)
        if not found.alive or found.phase != "running":
            raise NotRunning(f"{self.folder}: the scan host does not run")
        if self._variables is None or self._variables.version != found.version:
            self._variables = variables.read(self.folder, found.version)
        return self._variables

    def _held(self, known: Variables) -> list[Change]:
        rows, problems = resolve(known, self._forced())
        if problems:  # a change of the program is just coming or going
            raise NotRunning(f"{self.folder}: the program is being changed; try again in a moment")
        return rows

    def _values(self, known: Variables, rows: Sequence[Change], end: float) -> dict[str, Json]:
        out: dict[str, Json] = {}
        for paths in groups([r.variable for r in rows]):
            watcher = Watcher(self.folder, paths)
            try:
                out |= watcher.ask(max(end - time.monotonic(), 0.01)).values
            finally:
                watcher.close()
        return out

    def _hold(self, version: int, rows: Sequence[Change], end: float) -> bool:
        """Replaces all forces. The names are written before the request and count only when it is carried out."""
        _too_much(rows)
        number = self._head()[8]
        names = {r.variable.path: r.value for r in rows}
        write_forced(self.folder, number + 1, names)
        done = self._request(_FORCE, version, rows, number + 1, end)
        if done and number:
            forces_file(self.folder, number).unlink(missing_ok=True)
        return done

    def _request(self, kind: int, version: int, rows: Sequence[Change], number: int, end: float) -> bool:
        """Whether it was carried out; False: another version of the program runs now, look again."""
        memory = self._map
        assert memory is not None
        self._answered(self._head()[0], end)  # of one that was killed while it waited
        request = (self._head()[0] + 1) & 0xFFFFFFFF
        used = 0
        for i, row in enumerate(rows):
            p = row.patch
            PATCH.pack_into(
                memory, _HEAD.size + i * PATCH.size, p.offset, len(p.data), used, 1 << p.bit if p.bit >= 0 else 0
            )
            at = _HEAD.size + ENTRIES * PATCH.size + used
            memory[at : at + len(p.data)] = p.data
            used += len(p.data)
        struct.pack_into("<6I", memory, 8, kind, version, len(rows), used, number, _INVALID)
        struct.pack_into("<I", memory, 0, request)
        self._answered(request, end)
        verdict = self._head()[7]
        if verdict == _INVALID:
            raise Refused([Problem(str(self.folder), "the host refused the request: it does not fit its program")])
        if verdict == _ON_TRIAL:
            raise Refused([Problem(str(self.folder), "an online change is still on trial", "try again in a moment")])
        if verdict == _FOLLOWING:
            hint = "ask the one that leads"
            raise Refused(
                [Problem(str(self.folder), "this host is the standby: its values come from the leader", hint)]
            )
        return verdict == _DONE

    def _answered(self, request: int, end: float) -> None:
        while self._head()[1] != request:
            if time.monotonic() > end or not status.running_in(self.folder):
                raise NotRunning(f"{self.folder}: no scan answered: the host has stopped")
            time.sleep(0.0005)


@contextmanager
def turn(folder: Path, end: float) -> Iterator[None]:
    """One process at a time asks for changes. Raises NotRunning when the others take too long (CLOCK_MONOTONIC s)."""
    try:
        lock = os.open(folder / "access.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    except OSError as error:
        raise NotRunning(f"{folder}: there is no scan host") from error
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise NotRunning(f"{folder}: others are still changing this host") from None
                time.sleep(0.002)
        yield
    finally:
        os.close(lock)


def resolve(known: Variables, changes: Mapping[str, Json]) -> tuple[list[Change], list[Problem]]:
    """The changes as bytes and places, and all that is wrong with the others. Pure."""
    rows: list[Change] = []
    problems: list[Problem] = []
    for path, value in changes.items():
        v = known.one(path)
        if v is None:
            parts = known.find(path)
            if parts:
                what, hint = "has parts: they are given one by one", f"such as {parts[0].path}"
            problems.append(Problem(path, what, hint) if parts else known.unknown(path))
        elif v.constant:
            problems.append(Problem(v.path, "is a CONSTANT"))
        elif v.refers:
            problems.append(Problem(v.path, f"is a reference ({v.type}): it means a place, not a value"))
        else:
            try:
                rows.append(Change(v, value, _encode(v, value)))
            except ValueError as error:
                problems.append(Problem(v.path, f"{error} ({v.type})"))
    for i, row in enumerate(rows):
        problems.extend(_held_twice(row, rows[:i], "is given twice: {0} lies in the same memory"))
    return rows, problems


def _encode(v: Variable, value: Json) -> bytes:
    data = values.encode_variable(v.base, v.size, value)
    for low, high in _SUBRANGE.findall(v.type):
        for n in value if isinstance(value, list) else [value]:
            if isinstance(n, (int, float)) and not int(low) <= n <= int(high):
                raise ValueError(f"{n} is not from {low} to {high}")
    return data


def _not_writable(known: Variables, row: Change, held: Sequence[Change]) -> list[Problem]:
    fed = known.feeder(row.variable)
    if fed is not None:
        what = f"is written by driver {fed.driver} ({fed.channel}) before each scan"
        return [Problem(row.variable.path, what, "force it, or write what the driver reads")]
    return _held_twice(row, held, "is forced ({0}): the value would be overwritten at once", "unforce it first")


def _held_twice(
    row: Change, held: Sequence[Change], what: str = "shares its memory with {0}, which is forced", hint: str = ""
) -> list[Problem]:
    found = [h.variable.path for h in held if variables.overlap(h.variable, row.variable)]
    return [Problem(row.variable.path, what.format(found[0]), hint)] if found else []


def _too_much(rows: Sequence[Change]) -> None:
    size = sum(len(r.data) for r in rows)
    if len(rows) > ENTRIES or size > BYTES:
        what = f"{len(rows)} values with {size} bytes are more than {ENTRIES} or {BYTES} bytes at a time"
        raise Refused([Problem("access", what, "give fewer")])


def forces_file(folder: Path, number: int) -> Path:
    return folder / f"forces.{number}.json"


def write_forced(folder: Path, number: int, names: Mapping[str, Json]) -> None:
    fresh = folder / f".forces.{os.getpid()}"
    fresh.write_text(json.dumps(dict(names)), "utf-8")
    fresh.rename(forces_file(folder, number))


def forced(folder: Path, number: int) -> dict[str, Json]:
    """The forces of a set, by path; set 0 is empty."""
    if not number:
        return {}
    try:
        found = json.loads(forces_file(folder, number).read_bytes())
    except FileNotFoundError as error:
        raise NotRunning(f"{folder}: the forces are just changing; try again") from error
    return dict(found)


def active_set(folder: Path) -> int:
    """The number of the forces that the host holds now; 0: none yet. Raises NotRunning without a host."""
    try:
        return int(_HEAD.unpack_from((folder / "access").read_bytes())[8])
    except (OSError, struct.error) as error:
        raise NotRunning(f"{folder}: there is no scan host") from error


def user() -> str:
    """The name of the user that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
