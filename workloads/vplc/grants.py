"""The writes that a program's drivers will make, held against the grants that are signed with its release. Pure.

The program says ``write: true`` of a driver and which points its outputs go to; the release's ``writes`` say which
device may be written at which points. Both are signed, by whoever wrote the program and by whoever let it into the
plant; what the second did not grant is refused before anything starts. Devices are named as the configuration names
them, before the runtime makes an address of the name: a site cannot move a grant to another machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from manifests.errors import Problem
from manifests.grants import Write, ungranted
from manifests.model import WriteGrant
from vplc.drivers.modbus import settings as modbus
from vplc.scan.configuration import Configuration
from vplc.scan.errors import Refused


def problems(
    configuration: Configuration, named: Mapping[str, Mapping[str, Any]], grants: Sequence[WriteGrant]
) -> list[Problem]:
    """``named``: the drivers' settings with the names of their devices."""
    from vplc.drivers.check import parse

    wanted: list[Write] = []
    for driver in configuration.drivers:
        if driver.settings.get("write") is not True:
            continue
        types = [{channel.name: channel.type for channel in side} for side in (driver.inputs, driver.outputs)]
        try:
            settings = parse(driver.kind, driver.name, driver.settings, f"drivers.{driver.name}", *types)
        except Refused:
            continue  # told where drivers are checked
        target = str(named[driver.name].get("url") or named[driver.name].get("host") or "")
        place = f"drivers.{driver.name}.outputs"
        wanted += [Write(driver.kind, target, point, place) for point in _points(settings)]
    return ungranted(wanted, grants, where="program")


def _points(settings: Any) -> Iterator[str]:
    """As grants name them: ``holding 4`` of a Modbus device, the node of an OPC UA server; a simulation needs none."""
    for point in getattr(settings, "outputs", ()):
        if isinstance(point, modbus.Point):
            yield from (f"{point.area} {address}" for address in range(point.address, point.address + point.count))
        elif hasattr(point, "node"):
            yield str(point.node)
