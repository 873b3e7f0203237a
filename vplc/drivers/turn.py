"""Waiting for the other driver of the same name, when two hosts on one machine drive one image.

Each host of such a pair comes with drivers of its own, and one of two has the device: whoever holds the driver's lock.
The other waits here. The kernel gives the lock up with the process, however that ends, so nothing has to be noticed and
nobody has to be asked; two never write.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import time
from pathlib import Path

from vplc.drivers.place import RETRY_S, Place, Stop
from vplc.drivers.status import State, Status
from vplc.scan.build import LIBRARY, find
from vplc.scan.errors import Refused

LOOK_S = 0.005  # a look costs some 10 us; half a scan of 10 ms is not noticed by a device
TRIES = 20  # the other one looks as well, and a look holds the lock for a moment
OTHERS = "the driver of the other host has the device"


def attach(place: Place, stop: Stop, status: Status) -> bool:
    """`Place.attach` once nobody else is this driver; False when a stop came first. Raises Refused."""
    ctypes.CDLL(str(find(LIBRARY)))  # what attaching needs is in memory when the turn comes
    for _ in range(TRIES - 1):
        if not _wait(place, stop, status):
            return False
        try:
            return place.attach(stop, status)
        except Refused:
            stop.wait(LOOK_S)
    return place.attach(stop, status)


def _wait(place: Place, stop: Stop, status: Status) -> bool:
    while (free := is_free(place.folder, place.name)) is not True:
        if free is False:
            status.show(State.WAITING, OTHERS)
        status.publish(time.monotonic())
        if stop.wait(RETRY_S if free is None else LOOK_S):
            return False
    return True


def is_free(folder: Path, name: str) -> bool | None:
    """None: the hosts' folder is not there yet."""
    try:
        lock = os.open(folder / f"driver.{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
