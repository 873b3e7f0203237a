"""Who changed what by hand: the run folder's `journal`, JSON lines, bounded.

Written by whoever writes, forces or switches over; read by a supervisor that passes it on. Entries are numbered
without gaps, so a reader that was away knows whether it missed some.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vplc.scan.values import Json

FILES = ("journal.1", "journal")  # the older one first
MAX_BYTES = 256 * 1024  # of each file: they lie in memory
_MAX_LINE = 4096


def note(folder: Path, who: str, action: str, detail: Mapping[str, Json]) -> int:
    """Appends one entry and returns its number. The file before is given up when the present one is full."""
    with _alone(folder):
        path = folder / "journal"
        last = _last(folder)
        number = last + 1
        entry: dict[str, Json] = {"n": number, "at": _now(), "who": who, "what": action, **detail}
        line = json.dumps(entry)
        if len(line) > _MAX_LINE:
            entry = {"n": number, "at": entry["at"], "who": who[:200], "what": action[:200], "cut": True}
            entry |= {k: v if len(json.dumps(v)) < 500 else f"{json.dumps(v)[:500]}..." for k, v in detail.items()}
            line = json.dumps(entry)
        if path.exists() and path.stat().st_size + len(line) > MAX_BYTES:
            path.rename(folder / FILES[0])
        with path.open("a", encoding="utf-8") as out:
            out.write(line + "\n")
        return number


def since(folder: Path, number: int) -> list[dict[str, Json]]:
    """All kept entries above a number, the oldest first; the first one's `n` tells whether some are gone."""
    with _alone(folder):
        return [e for name in FILES for e in _entries(folder / name) if _number(e) > number]


def _last(folder: Path) -> int:
    for name in reversed(FILES):
        found = _entries(folder / name)
        if found:
            return _number(found[-1])
    return 0


def _entries(path: Path) -> list[dict[str, Json]]:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    out = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the last line of a writer that was killed
        if isinstance(entry, dict):
            out.append(entry)
    return out


def _number(entry: Mapping[str, Json]) -> int:
    number = entry.get("n")
    return number if isinstance(number, int) else 0


def _now() -> str:
    seconds, ns = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{ns // 1_000_000:03}Z"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = os.open(folder / "journal.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
