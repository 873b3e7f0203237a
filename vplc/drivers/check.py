"""A driver's settings as types, or everything that is wrong with them. Pure.

Called by the drivers, and by the scan host's start so that a program with a wrong driver never replaces a running one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vplc.drivers.modbus import settings as modbus
from vplc.drivers.opcua import settings as opcua
from vplc.drivers.rows import NAME, Types
from vplc.drivers.simulated import settings as simulated
from vplc.scan.configuration import Configuration, Reader
from vplc.scan.errors import Problem, Refused

Settings = modbus.Settings | opcua.Settings | simulated.Settings
_PARSERS: dict[str, Callable[[Reader, dict[str, Any], Types, Types], Settings]] = {
    "modbus": modbus.parse,
    "opcua": opcua.parse,
    "simulated": simulated.parse,
}


def parse(
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    where: str,
    inputs: Types | None = None,
    outputs: Types | None = None,
) -> Settings:
    """`inputs` and `outputs` are the program's types by channel, when they are known. Raises Refused."""
    reader = Reader(where)
    if not NAME.match(name):
        reader.add("", f"the driver's name {name!r} must be letters, digits, _ . - (at most 64)")
    if settings.get("kind", kind) != kind:
        reader.add("kind", f"is {settings.get('kind')!r}, but this is the driver {kind}")
    made = _PARSERS[kind](reader, dict(settings), inputs or {}, outputs or {})
    if reader.problems:
        raise Refused(reader.problems)
    return made


def problems(configuration: Configuration) -> list[Problem]:
    """Of all drivers of a scan configuration that are ours."""
    out: list[Problem] = []
    for driver in configuration.drivers:
        if driver.kind not in _PARSERS:
            continue
        inputs = {c.name: c.type for c in driver.inputs}
        outputs = {c.name: c.type for c in driver.outputs}
        try:
            parse(driver.kind, driver.name, driver.settings, f"drivers.{driver.name}", inputs, outputs)
        except Refused as error:
            out.extend(error.problems)
    return out
