"""The drivers' side of the process image: write inputs, read outputs, never hold up a scan.

A driver process attaches by name, is the only one to do so, and stays attached when the host restarts. Values it does
not write again grow old by themselves; there is nothing to clean up when it dies.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from vplc.scan import values
from vplc.scan.build import LIBRARY, find
from vplc.scan.configuration import Configuration
from vplc.scan.errors import NotRunning, Problem, Refused

_RECORD = struct.Struct("<QqII")
MAGIC = b"VPLCIMG2"


class Quality(IntEnum):
    """NEVER to BAD come from the writer of a value, STALE and SAFE from the host."""

    NEVER = 0
    GOOD = 1
    UNCERTAIN = 2
    BAD = 3
    STALE = 4
    SAFE = 5


@dataclass(frozen=True, slots=True)
class Value:
    """A value as its type says, its quality, when it was made (CLOCK_MONOTONIC, ns), and the epoch of the host that
    made it: it goes up whenever another one of a pair takes over, 0 without a pair."""

    value: values.Json
    quality: Quality
    stamp_ns: int
    epoch: int = 0


def describe(configuration: Configuration) -> dict[str, object]:
    """What a driver needs to attach: names and types of the channels, in the order of the image."""
    return {
        "drivers": [
            {
                "name": d.name,
                "inputs": [{"name": c.name, "type": c.type} for c in d.inputs],
                "outputs": [{"name": c.name, "type": c.type} for c in d.outputs],
            }
            for d in configuration.drivers
        ]
    }


def _library(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    image, u32 = ctypes.c_void_p, ctypes.c_uint32
    for name, result, arguments in (
        ("image_back", ctypes.c_void_p, [image, u32, u32]),
        ("image_take", ctypes.c_void_p, [image, u32, u32]),
        ("image_publish", ctypes.c_int, [image, u32, u32]),
        ("image_published", ctypes.c_uint64, [image, u32, u32]),
        ("image_stamp", ctypes.c_int64, [image, u32, u32]),
        ("image_may_drive", ctypes.c_int, [image]),
        ("image_epoch", u32, [image]),
        ("image_effective", u32, [image, u32, u32]),
        ("image_now", ctypes.c_int64, []),
        ("image_format", ctypes.c_uint64, [image, ctypes.c_uint64, u32, ctypes.POINTER(u32)]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class DriverImage:
    """One driver's channels. Not for several threads at once."""

    def __init__(self, folder: Path, name: str, library: Path | None = None) -> None:
        """Attaches; raises NotRunning when there is no image yet, Refused when another process is this driver."""
        self.folder, self.name = folder, name
        self._native = _library(library or find(LIBRARY))
        if not folder.is_dir():
            raise NotRunning(f"{folder}: there is no scan host")
        self._lock = os.open(folder / f"driver.{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise Refused([Problem(str(folder), f'another process is the driver "{name}"')]) from None
        self._map: mmap.mmap | None = None
        self._inode = -1
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Lets the name go. What was published stays and grows old."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _attach(self) -> None:
        """Maps the image the host has now; a restart with other channels makes a new one."""
        try:
            description = json.loads((self.folder / "image.json").read_bytes())
            fd = os.open(self.folder / "image", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotRunning(f"{error.filename} is not there: the scan host is not running yet") from error
        try:
            inode = os.fstat(fd).st_ino
            memory = mmap.mmap(fd, 0)
        except ValueError as error:
            raise NotRunning(f"{self.folder}: the image is still empty") from error
        finally:
            os.close(fd)
        if memory[:8] != MAGIC:
            raise NotRunning(f"{self.folder}: the image is not ready")
        names = [d["name"] for d in description["drivers"]]
        if self.name not in names:
            raise Refused(
                [Problem(str(self.folder), f'the program has no driver "{self.name}"', f"it has: {', '.join(names)}")]
            )
        self._driver = names.index(self.name)
        mine = description["drivers"][self._driver]
        self.inputs: dict[str, str] = {c["name"]: c["type"] for c in mine["inputs"]}
        self.outputs: dict[str, str] = {c["name"]: c["type"] for c in mine["outputs"]}
        self._records = [_RECORD.pack(0, 0, Quality.NEVER, 0)] * len(self.inputs)
        self._number = {n: i for i, n in enumerate(self.inputs)}
        self._map, self._inode = memory, inode
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def follow(self) -> bool:
        """Attaches again when the host made a new image; whether it did. Written values begin anew then."""
        try:
            inode = (self.folder / "image").stat().st_ino
        except FileNotFoundError:
            return False
        if inode == self._inode:
            return False
        self._attach()
        return True

    def write(
        self, changes: Mapping[str, object], quality: Quality = Quality.GOOD, stamp_ns: int | None = None
    ) -> None:
        """Publishes new values; the others stay as they were, with their old stamps. Raises KeyError or ValueError
        (and changes nothing) for names and values that do not exist here."""
        self.follow()
        stamp = self._native.image_now() if stamp_ns is None else stamp_ns
        new = {}
        for name, value in changes.items():
            data = values.encode(self.inputs[name], value)
            new[self._number[name]] = _RECORD.pack(int.from_bytes(data, "little"), stamp, quality, 0)
        for number, record in new.items():
            self._records[number] = record
        self._publish(0, self._records)

    def spoil(self, names: Mapping[str, object] | None = None, quality: Quality = Quality.BAD) -> None:
        """Marks channels (default: all) as not usable, values unchanged: the device does not answer."""
        self.follow()
        for name in names if names is not None else self.inputs:
            value, stamp, _, spare = _RECORD.unpack(self._records[self._number[name]])
            self._records[self._number[name]] = _RECORD.pack(value, stamp, quality, spare)
        self._publish(0, self._records)

    def _publish(self, direction: int, records: list[bytes]) -> None:
        back = self._native.image_back(self._address, self._driver, direction)
        ctypes.memmove(back, b"".join(records), len(records) * _RECORD.size)
        self._native.image_publish(self._address, self._driver, direction)

    def read(self) -> dict[str, Value]:
        """The newest complete set of outputs, all of one scan. A driver must look at `output_age_ns` too."""
        self.follow()
        front = self._native.image_take(self._address, self._driver, 1)
        data = ctypes.string_at(front, len(self.outputs) * _RECORD.size)
        out = {}
        for (name, kind), (value, stamp, quality, epoch) in zip(
            self.outputs.items(), _RECORD.iter_unpack(data), strict=True
        ):
            raw = value.to_bytes(8, "little")[: values.SIZES[kind]]
            out[name] = Value(values.decode(kind, raw), Quality(quality), stamp, epoch)
        return out

    def output_age_ns(self, values: Mapping[str, Value] | None = None) -> int | None:
        """Time since the host last published; None when it never did, when another machine's host drives, or when
        `values`, just read, are of an epoch that is over. Old means: the host is dead, go safe. None means: leave the
        device alone."""
        if not self.may_drive():
            return None
        # After the permission: a host that leads again may be allowed to drive before it has published anything.
        epoch = int(self._native.image_epoch(self._address))
        if values and any(v.epoch != epoch for v in values.values()):
            return None
        stamp = self._native.image_stamp(self._address, self._driver, 1)
        return int(self._native.image_now()) - int(stamp) if stamp else None

    def may_drive(self) -> bool:
        """Whether to write to the device at all. False: another machine's host leads, or may soon, and its driver
        writes there; then not even safe values are written. Always true without a standby on another machine."""
        return bool(self._native.image_may_drive(self._address))

    def published(self) -> int:
        """How many sets of outputs the host published."""
        return int(self._native.image_published(self._address, self._driver, 1))

    def effective(self) -> dict[str, Quality]:
        """What the inputs were worth at the last scan, after the host looked at their age."""
        return {
            n: Quality(self._native.image_effective(self._address, self._driver, i)) for n, i in self._number.items()
        }


__all__ = ["DriverImage", "Quality", "Value", "describe"]
