"""`python -m vplc.drivers {modbus|opcua|simulated} RUNFOLDER NAME DRIVER.json`: one driver, until it is told to stop.

Exit codes: 0 stopped, 1 refused (everything that is wrong on stderr), 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from vplc.drivers.modbus.settings import Settings as ModbusSettings
from vplc.drivers.opcua.settings import Settings as OpcuaSettings
from vplc.drivers.place import Place, Stop
from vplc.drivers.status import State, Status
from vplc.scan.errors import Refused, ScanError


def device_of(place: Place) -> str:
    settings = place.settings
    if isinstance(settings, ModbusSettings):
        return f"{settings.host}:{settings.port}"
    return settings.url if isinstance(settings, OpcuaSettings) else settings.plant


def run(place: Place, stop: Stop, status: Status) -> None:
    if not place.attach(stop, status):
        return
    status.show(State.CONNECTING)
    if place.kind == "modbus":
        from vplc.drivers.modbus.driver import ModbusDriver

        ModbusDriver(place, stop, status).run()
    elif place.kind == "opcua":
        from vplc.drivers.opcua.driver import OpcuaDriver

        OpcuaDriver(place, stop, status).run()
    else:
        from vplc.drivers.simulated.driver import SimulatedDriver

        SimulatedDriver(place, stop, status).run()


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
    options = parser.parse_args(argv)
    stop = Stop()
    try:
        place = Place(options.kind, options.folder, options.name, options.settings)
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        return 1
    status = Status(options.folder, options.name, options.kind, device_of(place), place.settings.writing.granted)
    try:
        run(place, stop, status)
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
