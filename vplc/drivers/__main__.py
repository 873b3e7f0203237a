"""`python -m vplc.drivers {modbus|opcua|simulated} RUNFOLDER NAME DRIVER.json`: one driver, until it is told to stop.

With `--standby FOLDER` it is one of two drivers of the same name on one machine, each of a host of a pair: RUNFOLDER is
the folder the two hosts share, and while the other driver has the device this one waits. Its own status goes to FOLDER.

Exit codes: 0 stopped, 1 refused (everything that is wrong on stderr), 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vplc.drivers import turn
from vplc.drivers.modbus.settings import Settings as ModbusSettings
from vplc.drivers.opcua.settings import Settings as OpcuaSettings
from vplc.drivers.place import Place, Stop
from vplc.drivers.status import State, Status
from vplc.scan.errors import Refused, ScanError

if TYPE_CHECKING:
    from vplc.drivers.modbus.driver import ModbusDriver
    from vplc.drivers.opcua.driver import OpcuaDriver
    from vplc.drivers.simulated.driver import SimulatedDriver


def device_of(place: Place) -> str:
    settings = place.settings
    if isinstance(settings, ModbusSettings):
        return f"{settings.host}:{settings.port}"
    return settings.url if isinstance(settings, OpcuaSettings) else settings.plant


def run(place: Place, stop: Stop, status: Status, paired: bool = False) -> None:
    driver = _driver(place.kind)  # loaded before the wait: nothing is left to do when the turn comes
    if not (turn.attach if paired else Place.attach)(place, stop, status):
        return
    status.show(State.CONNECTING)
    driver(place, stop, status).run()


def _driver(kind: str) -> Callable[[Place, Stop, Status], ModbusDriver | OpcuaDriver | SimulatedDriver]:
    """Only the one that is asked for: each has libraries of its own."""
    if kind == "modbus":
        from vplc.drivers.modbus.driver import ModbusDriver

        return ModbusDriver
    if kind == "opcua":
        from vplc.drivers.opcua.driver import OpcuaDriver

        return OpcuaDriver
    from vplc.drivers.simulated.driver import SimulatedDriver

    return SimulatedDriver


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="vplc.drivers", description="A field device into a scan host's image and back."
    )
    parser.add_argument("kind", choices=("modbus", "opcua", "simulated"))
    parser.add_argument("folder", metavar="RUNFOLDER", type=Path)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "settings", metavar="DRIVER.json", type=Path, help="or a scan configuration that has the driver"
    )
    parser.add_argument(
        "--standby", metavar="FOLDER", type=Path, help="wait while another process is this driver; FOLDER: own status"
    )
    options = parser.parse_args(argv)
    stop = Stop()
    try:
        place = Place(options.kind, options.folder, options.name, options.settings)
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        return 1
    own = options.standby or options.folder
    status = Status(own, options.name, options.kind, device_of(place), place.settings.writing.granted)
    try:
        run(place, stop, status, paired=options.standby is not None)
    except ScanError as error:
        sys.stderr.write(f"{error}\n")
        status.show(State.STOPPED, str(error))
        status.publish(time.monotonic(), force=True)
        return 1
    status.show(State.STOPPED, "told to stop")
    status.publish(time.monotonic(), force=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
