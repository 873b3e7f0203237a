"""What runs inside one virtual PLC, and with which files: from the signed program and the site's configuration. Pure.

`start` writes the result and becomes the keeper; the telemetry arranges the same again to know what should be there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manifests.errors import Problem
from manifests.model import RunContext
from vplc.scan.layout import Layout
from workloads.kit import context as contexts
from workloads.vplc import pair as pairs
from workloads.vplc.config import WHERE, Address, VplcConfig
from workloads.vplc.program import LAYOUT_NAME, LIBRARY_NAME, Control

SCAN_NAME = "scan.json"
TABLE_NAME = "processes"
STATE_NAME = "processes.state"
NATIVE_NAME = "native"  # beside the program of a process archive
HOST, TELEMETRY = "host", "telemetry"
DRIVER, SERVER = "driver-", "server-"


@dataclass(frozen=True, slots=True)
class Process:
    """One child of the keeper. ``late``: stopped after the others, so that it sees the host end. ``sole``: the keeper
    ends with it."""

    name: str
    command: tuple[str, ...]
    realtime: bool = False
    late: bool = False
    sole: bool = False

    def line(self) -> str:
        flags = [word for word, on in (("realtime", self.realtime), ("late", self.late), ("sole", self.sole)) if on]
        return "\t".join((self.name, ",".join(flags) or "-", *self.command))


@dataclass(frozen=True, slots=True)
class Arrangement:
    """``files`` go into the run folder, by name; ``named`` are the drivers' settings before names became addresses;
    ``problems`` leave only the telemetry, which tells them."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    named: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    problems: tuple[Problem, ...] = ()


def arrange(
    control: Control, config: VplcConfig, context: RunContext, layout: Layout, program: Path, run: Path, python: str
) -> Arrangement:
    """``program`` and ``run`` are folders; ``python`` is the interpreter of the children."""
    problems: list[Problem] = []
    scan = dict(control.scan)
    scan |= {"name": control.name, "library": str(program / LIBRARY_NAME), "layout": str(program / LAYOUT_NAME)}
    scan["core"] = context.core
    if context.kept:
        retain = dict(scan.get("retain", {}))
        scan["retain"] = retain | {"folder": str(Path(context.kept) / "retain")}
    else:
        scan.pop("retain", None)
    if context.control is not None:
        scan["priority"] = context.control.priority
        scan["tasks"] = _watchdogs(scan, layout, context.control.watchdog_ms)
        problems.extend(_period(layout, context.control.period_ms))
    if config.pair is not None:
        scan["standby"], found = pairs.standby(config.pair, context)
        problems.extend(found)
    # With a standby on this node the image is that of both hosts, and the drivers of both take turns.
    channel = pairs.channel(config.pair, context)
    image, turns = (str(channel), ("--standby", str(run))) if channel else (str(run), ())
    named = {name: _placed(one, config.drivers.get(name)) for name, one in dict(scan.get("drivers", {})).items()}
    scan["drivers"] = {name: _addressed(settings, context) for name, settings in named.items()}
    scan_path = run / SCAN_NAME
    files = {SCAN_NAME: _document(scan)}
    module = (python, "-m")
    processes = [
        Process(HOST, (*module, "vplc.scan", "run", str(scan_path), "--folder", str(run)), realtime=True),
        Process(TELEMETRY, (*module, "workloads.vplc", "telemetry", str(program))),
    ]
    for name, settings in scan["drivers"].items():
        kind = str(settings.get("kind", "external"))
        if kind == "external":
            continue
        command = (*module, "vplc.drivers", kind, image, name, str(scan_path), *turns)
        processes.append(Process(DRIVER + name, command, late=True))
    for name, settings in control.servers.items():
        file = f"server.{name}.json"
        files[file] = _document(_server(settings, context))
        kind = str(settings.get("kind", ""))
        processes.append(Process(SERVER + name, (*module, "vplc.servers", kind, str(run), str(run / file))))
    return Arrangement(files, named, tuple(processes), tuple(problems))


def only_telemetry(program: Path, python: str) -> tuple[Process, ...]:
    """When the program or its configuration is refused: somebody must say so, and end when it was corrected."""
    return (Process(TELEMETRY, (python, "-m", "workloads.vplc", "telemetry", str(program)), sole=True),)


def table(processes: tuple[Process, ...]) -> str:
    """The keeper's table."""
    return "".join(process.line() + "\n" for process in processes)


def _document(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _placed(settings: Mapping[str, Any], address: Address | None) -> dict[str, Any]:
    """A driver's settings with what the site says of its device."""
    given = {} if address is None else {"url": address.url, "host": address.host, "port": address.port}
    return {**settings, **{key: value for key, value in given.items() if value is not None}}


def _addressed(settings: Mapping[str, Any], context: RunContext) -> dict[str, Any]:
    """With the address in place of the device's name, where the runtime has no name service of its own."""
    host = settings.get("host")
    return {**settings, "host": contexts.address(context, host)} if isinstance(host, str) else dict(settings)


def _server(settings: Mapping[str, Any], context: RunContext) -> dict[str, Any]:
    """A server's own document; its certificates lie where they outlive a release, or clients would trust anew."""
    own = {key: value for key, value in settings.items() if key != "kind"}
    if settings.get("kind") == "opcua" and context.kept:
        own["certificates"] = str(Path(context.kept) / "pki")
    return own


def _watchdogs(scan: Mapping[str, Any], layout: Layout, longest_ms: float) -> dict[str, Any]:
    """The signed limit of the release holds for every task; a program may be stricter with itself."""
    given = scan.get("tasks", {})
    names = [task.name for task in layout.tasks] + (["Main"] if any(not p.task for p in layout.programs) else [])
    out = {}
    for name in names:
        own = dict(given.get(name, {}))
        own["watchdog_ms"] = min(float(own.get("watchdog_ms") or longest_ms), longest_ms)
        out[name] = own
    return {**given, **out}


def _period(layout: Layout, period_ms: float) -> list[Problem]:
    fastest = min((task.interval_ns for task in layout.tasks if task.interval_ns), default=None)
    if fastest is None or abs(fastest / 1e6 - period_ms) < 1e-6:
        return []
    what = (
        f"the release was signed for {period_ms:g} ms, the fastest task of the program runs every {fastest / 1e6:g} ms"
    )
    return [Problem(WHERE, "control.periodMs", what, "correct spec.control of the workload document")]
