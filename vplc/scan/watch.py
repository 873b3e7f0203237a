"""Live variables of a running host, by path. The host answers at the end of a scan, so one answer is one scan's."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vplc.scan import values
from vplc.scan.errors import NotRunning, Problem, Refused

RANGES = 64
BYTES = 4096
_HEAD = struct.Struct("<IIIIq")
_RANGE = struct.Struct("<II")
SIZES = {"watch": _HEAD.size + RANGES * _RANGE.size + BYTES}


@dataclass(frozen=True, slots=True)
class Answer:
    """Values by path, as they were at scan time `time_ns`."""

    time_ns: int
    values: dict[str, values.Json]


class Watcher:
    """Asks a host for up to 64 variables or 4 KiB at a time. Several watchers take turns."""

    def __init__(self, folder: Path, paths: Sequence[str]) -> None:
        """Raises NotRunning without a host, Refused with every path that does not exist or does not fit."""
        try:
            rows = json.loads((folder / "variables.json").read_bytes())
            fd = os.open(folder / "watch", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise NotRunning(f"{folder}: there is no scan host") from error
        self._fd = fd
        self._memory = mmap.mmap(fd, SIZES["watch"])
        known = {row[0].upper(): row for row in rows}
        problems: list[Problem] = []
        self.rows: list[tuple[str, str, int, int, int]] = []
        for path in paths:
            found = [known[path.upper()]] if path.upper() in known else []
            if not found:
                begin = path.upper()
                found = [r for r in rows if r[0].upper().startswith((begin + ".", begin + "["))]
            if not found:
                import difflib

                close = difflib.get_close_matches(path, [r[0] for r in rows], 1)
                problems.append(
                    Problem(path, "there is no such variable", f'did you mean "{close[0]}"?' if close else "")
                )
            self.rows.extend((r[0], r[2], r[3], r[4], r[5]) for r in found)
        if len(self.rows) > RANGES or sum(r[3] for r in self.rows) > BYTES:
            problems.append(Problem("watch", f"more than {RANGES} variables or {BYTES} bytes at once", "ask for fewer"))
        if problems:
            os.close(fd)
            raise Refused(problems)

    def close(self) -> None:
        self._memory.close()
        os.close(self._fd)

    def ask(self, timeout_s: float = 5.0) -> Answer:
        """One answer; raises NotRunning when no scan answers in time."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            memory = self._memory
            request, _, _, _, _ = _HEAD.unpack_from(memory)
            struct.pack_into("<I", memory, 8, len(self.rows))
            for i, (_, _, offset, size, _) in enumerate(self.rows):
                _RANGE.pack_into(memory, _HEAD.size + i * _RANGE.size, offset, size)
            request = (request + 1) & 0xFFFFFFFF
            struct.pack_into("<I", memory, 0, request)
            end = time.monotonic() + timeout_s
            while _HEAD.unpack_from(memory)[1] != request:
                if time.monotonic() > end:
                    raise NotRunning("no scan answered: the host has stopped")
                time.sleep(0.0005)
            at = _HEAD.size + RANGES * _RANGE.size
            out: dict[str, values.Json] = {}
            for path, base, _, size, bit in self.rows:
                out[path] = values.decode(base, bytes(memory[at : at + size]), bit)
                at += size
            return Answer(_HEAD.unpack_from(memory)[4], out)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
