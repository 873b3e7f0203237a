"""Retained values: what a saved set holds, which set counts, and what of it fits the program that starts. Pure.

The host writes two files in turn (`native/retain.c`); each holds the names and types of its values, so that another
version of the program finds them by path. Nothing is guessed: a value returns only to a variable of the same type.
"""

from __future__ import annotations

import bisect
import difflib
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vplc.scan.layout import Layout, Variable

MAGIC = b"VPLCRET1"
_HEAD = struct.Struct("<8sQqIIII")
FILES = ("retain.a", "retain.b")


@dataclass(frozen=True, slots=True)
class SavedValue:
    type: str
    data: bytes
    bit: int


@dataclass(frozen=True, slots=True)
class Saved:
    """One whole set; `scan_time_ns` is the scan time at which it was taken."""

    sequence: int
    scan_time_ns: int
    values: Mapping[str, SavedValue]


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes for the state; `bit` -1 means whole bytes."""

    offset: int
    data: bytes
    bit: int


@dataclass(frozen=True, slots=True)
class Restoration:
    """What a warm start does: values to write, and sentences about those that do not return."""

    patches: tuple[Patch, ...]
    report: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retained:
    """What the host saves: runs of bytes of the state, and the directory that names them."""

    runs: tuple[tuple[int, int], ...]
    directory: bytes


def retained(layout: Layout) -> Retained:
    """All RETAIN and PERSISTENT variables of a program but references, neighbours joined."""
    wanted = [v for v in layout.variables if v.retain and not v.constant and not v.refers and v.size]
    runs: list[tuple[int, int]] = []
    for v in sorted(wanted, key=lambda v: v.offset):
        if runs and v.offset <= sum(runs[-1]):
            start, size = runs[-1]
            runs[-1] = (start, max(size, v.offset + v.size - start))
        else:
            runs.append((v.offset, v.size))
    begin: dict[int, int] = {}
    at = 0
    for start, size in runs:
        begin[start] = at
        at += size
    starts = sorted(begin)
    entries = []
    for v in wanted:
        start = starts[bisect.bisect_right(starts, v.offset) - 1]
        entries.append([v.path, v.type, begin[start] + v.offset - start, v.size, v.bit])
    return Retained(tuple(runs), json.dumps(entries, separators=(",", ":")).encode())


def read_set(data: bytes) -> Saved | None:
    """The set of one file; None when it is cut, changed or not ours."""
    if len(data) < _HEAD.size:
        return None
    magic, sequence, time_ns, directory_size, values_size, crc, spare = _HEAD.unpack_from(data)
    if magic != MAGIC or len(data) != _HEAD.size + directory_size + values_size:
        return None
    head = _HEAD.pack(magic, sequence, time_ns, directory_size, values_size, 0, spare)
    if zlib.crc32(data[_HEAD.size :], zlib.crc32(head)) != crc:
        return None
    body = data[_HEAD.size :]
    values = body[directory_size:]
    entries = json.loads(body[:directory_size])
    return Saved(
        sequence,
        time_ns,
        {path: SavedValue(kind, values[at : at + size], bit) for path, kind, at, size, bit in entries},
    )


def newest(files: Iterable[bytes]) -> Saved | None:
    """The newest whole set."""
    sets = [s for s in map(read_set, files) if s is not None]
    return max(sets, key=lambda s: s.sequence, default=None)


def next_sequence(a: bytes, b: bytes) -> int:
    """The number of the next set, chosen so that the file with the newest whole set is not written first."""
    sets = [(s.sequence, n) for n, s in enumerate(map(read_set, (a, b))) if s is not None]
    if not sets:
        return 2
    sequence, file = max(sets)
    return sequence + 1 if (sequence + 1) % 2 != file else sequence + 2


def restore(layout: Layout, saved: Saved, renamed: Mapping[str, str]) -> Restoration:
    """Matches by path (case does not count), after `renamed` (old path or its begin: new one)."""
    free = {v.path.upper(): v for v in layout.variables if v.retain and not v.constant and not v.refers}
    patches: list[Patch] = []
    report: list[str] = []
    left: list[tuple[str, SavedValue]] = []
    for path, value in saved.values.items():
        v = free.get(rename(path, renamed).upper())
        if v is None:
            left.append((path, value))
        elif v.type.upper() != value.type.upper() or v.size != len(value.data):
            del free[v.path.upper()]
            report.append(f"{v.path} was {value.type} and is {v.type} now: it starts with its initial value")
        else:
            del free[v.path.upper()]
            patches.append(_patch(v, value))
    for path, value in left:
        names = [v.path for v in free.values() if v.type.upper() == value.type.upper()]
        close = difflib.get_close_matches(path, names, 1, 0.5)
        hint = f'; if it is {close[0]} now, say "renamed": {{"{path}": "{close[0]}"}}' if close else ""
        report.append(f"{path} is gone: its value is dropped at the next save{hint}")
    report.extend(f"{v.path} is new: it starts with its initial value" for v in free.values())
    return Restoration(tuple(patches), tuple(report))


def rename(path: str, renamed: Mapping[str, str]) -> str:
    """The new path of a variable, when it or what it is part of was renamed."""
    for old, new in renamed.items():
        upper, begin = path.upper(), old.upper()
        if upper == begin:
            return new
        if upper.startswith(begin) and upper[len(begin)] in ".[":
            return new + path[len(old) :]
    return path


def _patch(v: Variable, value: SavedValue) -> Patch:
    if v.bit < 0:
        return Patch(v.offset, value.data, -1)
    bit = value.data[0] >> max(value.bit, 0) & 1
    return Patch(v.offset, bytes([bit << v.bit]), v.bit)
