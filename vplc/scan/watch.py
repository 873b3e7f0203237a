"""Live variables of a running host, by path. The host answers at the end of a scan, so one answer is one scan's."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vplc.scan import status, values, variables
from vplc.scan.errors import NotRunning, Problem, Refused, ScanError
from vplc.scan.layout import Variable

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


def groups(wanted: Sequence[Variable]) -> Iterator[list[str]]:
    """Paths in portions that one answer holds."""
    part: list[str] = []
    size = 0
    for v in wanted:
        if part and (len(part) == RANGES or size + v.size > BYTES):
            yield part
            part, size = [], 0
        part.append(v.path)
        size += v.size
    if part:
        yield part


class Watcher:
    """Asks a host for up to 64 variables or 4 KiB at a time. Several watchers take turns."""

    def __init__(self, folder: Path, paths: Sequence[str]) -> None:
        """Raises NotRunning without a host, Refused with every path that does not exist or does not fit."""
        self.folder, self.paths = folder, tuple(paths)
        try:
            fd = os.open(folder / "watch", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise NotRunning(f"{folder}: there is no scan host") from error
        self._fd = fd
        self._memory = mmap.mmap(fd, SIZES["watch"])
        try:
            self._find(status.read(folder).version)
        except ScanError:
            self.close()
            raise

    def _find(self, version: int) -> None:
        """The places of the paths in one version of the program."""
        known = variables.read(self.folder, version)
        problems: list[Problem] = []
        self.variables: list[Variable] = []
        for path in self.paths:
            found = known.find(path)
            if not found:
                problems.append(known.unknown(path))
            self.variables.extend(found)
        if len(self.variables) > RANGES or sum(v.size for v in self.variables) > BYTES:
            problems.append(Problem("watch", f"more than {RANGES} variables or {BYTES} bytes at once", "ask for fewer"))
        if problems:
            raise Refused(problems)
        self.version = version

    def close(self) -> None:
        self._memory.close()
        os.close(self._fd)

    def ask(self, timeout_s: float = 5.0) -> Answer:
        """One answer; raises NotRunning when no scan answers in time."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            end = time.monotonic() + timeout_s
            while True:
                version = self._request(end)
                if version == self.version:
                    break
                self._find(version)  # another program took over: its variables lie elsewhere
            at = _HEAD.size + RANGES * _RANGE.size
            out: dict[str, values.Json] = {}
            for v in self.variables:
                out[v.path] = values.decode(v.base, bytes(self._memory[at : at + v.size]), v.bit)
                at += v.size
            return Answer(_HEAD.unpack_from(self._memory)[4], out)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _request(self, end: float) -> int:
        """Waits for one answer; the version of the program that gave it."""
        memory = self._memory
        request = (_HEAD.unpack_from(memory)[0] + 1) & 0xFFFFFFFF
        struct.pack_into("<I", memory, 8, len(self.variables))
        for i, v in enumerate(self.variables):
            _RANGE.pack_into(memory, _HEAD.size + i * _RANGE.size, v.offset, v.size)
        struct.pack_into("<I", memory, 0, request)
        while _HEAD.unpack_from(memory)[1] != request:
            if time.monotonic() > end:
                raise NotRunning("no scan answered: the host has stopped")
            time.sleep(0.0005)
        return int(_HEAD.unpack_from(memory)[3])
