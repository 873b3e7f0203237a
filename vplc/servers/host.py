"""What a server must know of its host besides values: whether it runs, which program, what is in fault, and what the
inputs are worth. Read from the run folder a few times a second; nothing here asks the host for anything.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vplc.scan import status
from vplc.scan.errors import NotRunning
from vplc.scan.image import Quality

_IMAGE_HEAD = 24  # of struct image in native/image.h: magic, size, drivers, spare
_DRIVER = 72  # of struct driver_image: two triple buffers of 32 bytes, then where the effective qualities are
_EFFECTIVE = 64


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
    """What each input channel is worth, as the host judged it at the last scan. Only reads the image."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._map: mmap.mmap | None = None
        self._inode = -1
        self._places: dict[tuple[str, str], int] = {}

    def read(self) -> Mapping[tuple[str, str], Quality]:
        """By driver and channel name; empty without an image."""
        memory = self._attach()
        if memory is None:
            return {}
        out = {}
        for key, at in self._places.items():
            number = struct.unpack_from("<I", memory, at)[0]
            out[key] = Quality(number) if number in Quality._value2member_map_ else Quality.BAD
        return out

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None

    def _attach(self) -> mmap.mmap | None:
        path = self._folder / "image"
        try:
            inode = path.stat().st_ino
            if self._map is not None and inode == self._inode:
                return self._map
            self.close()
            drivers = json.loads((self._folder / "image.json").read_bytes())["drivers"]
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
            finally:
                os.close(fd)
        except (OSError, ValueError, KeyError):
            return None
        if memory[:8] != b"VPLCIMG1":
            memory.close()
            return None
        self._places = {}
        for i, driver in enumerate(drivers):
            (begin,) = struct.unpack_from("<Q", memory, _IMAGE_HEAD + i * _DRIVER + _EFFECTIVE)
            for j, channel in enumerate(driver["inputs"]):
                if begin + 4 * (j + 1) <= len(memory):
                    self._places[driver["name"], channel["name"]] = begin + 4 * j
        self._map, self._inode = memory, inode
        return memory


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
