"""What a server must know of its host besides values: whether it runs, which program, what is in fault, and what the
inputs are worth. Read from the run folder a few times a second; nothing here asks the host for anything.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vplc.scan import status
from vplc.scan.build import LIBRARY, find
from vplc.scan.errors import NotRunning, ScanError
from vplc.scan.image import MAGIC, Quality


@dataclass(frozen=True, slots=True)
class Host:
    """`reason` says in a sentence why there are no values, or none that move; empty when all is well."""

    running: bool
    version: int
    started_unix_ns: int
    longest_interval_ns: int
    reason: str
    faulted_tasks: frozenset[str] = frozenset()
    state: str = "dead"

    @property
    def identity(self) -> tuple[int, int]:
        """Changes with every start of the host and every change of its program."""
        return self.started_unix_ns, self.version


def look(folder: Path) -> Host:
    """Never raises: a host that is not there is an answer."""
    try:
        found = status.read(folder)
    except NotRunning as error:
        return Host(False, 0, 0, 0, str(error))
    longest = max((t.interval_ns for t in found.tasks), default=0)
    faulted = frozenset(t.name for t in found.tasks if t.fault is not None)
    running = found.alive and found.phase == "running"
    reason = "" if running else f"the scan host is {found.phase}"
    if running:
        faults = [f"task {t.name} is in fault: {t.fault.message}" for t in found.tasks if t.fault is not None]
        reason = "; ".join(faults)
    return Host(running, found.version, found.started_unix_ns, longest, reason, faulted, found.phase)


class Qualities:
    """What each input channel is worth, as the host judged it at the last scan.

    Asks the image through the host's own library (native/image.h), which knows how the image lies in memory. The
    mapping is private: whatever went wrong here, nothing could reach the host.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._map: mmap.mmap | None = None
        self._address = 0
        self._inode = -1
        self._channels: list[tuple[tuple[str, str], int, int]] = []
        self._effective: Callable[[int, int, int], int] | None = None

    def read(self) -> Mapping[tuple[str, str], Quality]:
        """By driver and channel name; empty without an image."""
        if not self._attach() or self._effective is None:
            return {}
        return {key: _quality(self._effective(self._address, d, c)) for key, d, c in self._channels}

    def close(self) -> None:
        self._map = None  # unmapped when the last address into it is gone
        self._inode = -1

    def _attach(self) -> bool:
        path = self._folder / "image"
        try:
            inode = path.stat().st_ino
            if self._map is not None and inode == self._inode:
                return True
            self.close()
            if self._effective is None:
                self._effective = _native()
            drivers = json.loads((self._folder / "image.json").read_bytes())["drivers"]
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                memory = mmap.mmap(fd, 0, access=mmap.ACCESS_COPY)
            finally:
                os.close(fd)
        except (OSError, ValueError, KeyError, ScanError):
            return False
        if memory[:8] != MAGIC:
            return False
        rows = ((d["name"], c["name"], i, j) for i, d in enumerate(drivers) for j, c in enumerate(d["inputs"]))
        self._channels = [((driver, channel), i, j) for driver, channel, i, j in rows]
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._map, self._inode = memory, inode
        return True


def _quality(number: int) -> Quality:
    return Quality(number) if number in Quality._value2member_map_ else Quality.BAD


def _native() -> Callable[[int, int, int], int]:
    function = ctypes.CDLL(str(find(LIBRARY))).image_effective
    function.restype, function.argtypes = ctypes.c_uint32, [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32]
    return function


class ScanClock:
    """Scan time as UTC. The host's scan time advances in whole intervals; when an answer comes says what that is in
    UTC, late by a little. The smallest lateness is nearest the truth, and old estimates fade so that corrections of
    the system's clock are followed. All values of one scan get one stamp."""

    STEP_NS = 50_000_000  # more than that is another start of the host, or a clock that was set
    FADE = 256

    def __init__(self) -> None:
        self._offset_ns: int | None = None

    def utc_ns(self, scan_time_ns: int, now_unix_ns: int) -> int:
        offset = now_unix_ns - scan_time_ns
        known = self._offset_ns
        if known is None or offset < known or offset - known > self.STEP_NS:
            self._offset_ns = offset
        else:
            self._offset_ns = known + (offset - known) // self.FADE
        return scan_time_ns + self._offset_ns
