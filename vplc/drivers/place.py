"""The driver's place beside the scan host: the image, when there is one, and the wish to stop.

Called by all drivers. Waiting for a host is ordinary: drivers and host start in any order.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from pathlib import Path
from typing import Any

from vplc.drivers import check
from vplc.drivers.check import Settings
from vplc.drivers.outputs import Due, Outputs
from vplc.drivers.status import State, Status
from vplc.scan import status as host_status
from vplc.scan.errors import NotRunning, Problem, Refused
from vplc.scan.image import DriverImage

RETRY_S = 0.2
MAX_BYTES = 64 << 20


class Stop:
    """SIGTERM and SIGINT, and sleeping until one of them comes."""

    def __init__(self) -> None:
        self.wanted = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        self.wanted = True
        os.write(self._write, b"x")

    def wait(self, seconds: float) -> bool:
        """Whether to stop; returns early then."""
        if not self.wanted and seconds > 0:
            select.select([self._read], [], [], seconds)
        return self.wanted

    @property
    def fd(self) -> int:
        """Readable once a stop is wanted, for event loops."""
        return self._read


def load(path: Path, name: str) -> dict[str, Any]:
    """The driver's own object: the file itself, or its entry in a scan configuration. Raises Refused."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Refused([Problem(str(path), f"is larger than {MAX_BYTES >> 20} MiB")])
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise Refused([Problem(str(path), f"cannot read the driver's settings: {error.strerror}")]) from error
    except ValueError as error:
        raise Refused([Problem(str(path), f"the driver's settings are no JSON: {error}")]) from error
    if isinstance(data, dict) and isinstance(data.get("drivers"), dict):
        if name not in data["drivers"]:
            known = ", ".join(data["drivers"])
            raise Refused([Problem(str(path), f'there is no driver "{name}"', f"there are: {known}")])
        data = data["drivers"][name]
    if not isinstance(data, dict):
        raise Refused([Problem(str(path), "must be an object")])
    return data


class Place:
    """The image, once attached, with the settings checked against the program's channels."""

    def __init__(self, kind: str, folder: Path, name: str, path: Path) -> None:
        """Raises Refused with everything that is wrong, as far as it can be known without a host."""
        self.kind, self.folder, self.name, self.path = kind, folder, name, path
        self.raw = load(path, name)
        self.settings: Settings = check.parse(kind, name, self.raw, str(path))
        self.image: DriverImage
        self._inputs: dict[str, str] = {}

    def attach(self, stop: Stop, status: Status) -> bool:
        """Waits for the host; False when a stop came first. Raises Refused when the settings do not fit its program."""
        while True:
            try:
                self.image = DriverImage(self.folder, self.name)
                break
            except NotRunning as error:
                status.show(State.WAITING, str(error))
                status.publish(time.monotonic())
                if stop.wait(RETRY_S):
                    return False
        self._fit()
        return True

    def _fit(self) -> None:
        inputs, outputs = dict(self.image.inputs), dict(self.image.outputs)
        self.settings = check.parse(self.kind, self.name, self.raw, str(self.path), inputs, outputs)
        self._inputs = self.image.inputs

    def due(self, outputs: Outputs, now_ns: int) -> Due:
        """What the device is owed now."""
        values = self.image.read()
        age_ns = self.image.output_age_ns(values)
        paired = False
        if outputs.overdue(age_ns):
            try:
                paired = host_status.read(self.folder).pair is not None
            except NotRunning:
                paired = False
        return outputs.due(values, age_ns, now_ns, paired)

    def look(self) -> bool:
        """Whether the host made a new image since; raises Refused when its program has other channels."""
        self.image.follow()
        if self.image.inputs is self._inputs:
            return False
        self._fit()
        return True
