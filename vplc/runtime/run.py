"""`vplc run`: scans on a virtual clock, inputs at chosen scans, values after each.

Deterministic: the clock starts at 0 and moves by the period; nothing reads the real one.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from vplc.compiler.build import Build, compile_sources, find_instance, global_entries, instance_entries
from vplc.compiler.lexer import duration_ns
from vplc.compiler.model import Program, ProgramInstance
from vplc.compiler.source import Diagnostics, Source, UnsupportedError, nearest
from vplc.runtime.host import Fault, Host
from vplc.runtime.values import Json, PathError, Spot, find, read, write


@dataclass(frozen=True, slots=True)
class Setting:
    scan: int
    path: str
    spot: Spot
    value: str


def parse_period(text: str) -> int:
    """Nanoseconds of `10ms`, `T#1s`, ...; raises UnsupportedError."""
    body = text.partition("#")[2] or text
    value = duration_ns(body)
    if value is None or value < 0:
        raise UnsupportedError(f"{text!r} is not a period: write it like 10ms or 1s500ms")
    return value


def choose(program: Program, name: str) -> ProgramInstance:
    """The program to run; raises UnsupportedError when the choice is not clear."""
    names = [one.name for one in program.instances]
    if not names:
        raise UnsupportedError("there is no PROGRAM to run in these files")
    if not name:
        if len(names) == 1:
            return program.instances[0]
        raise UnsupportedError(f"several programs: choose one with --program ({', '.join(names)})")
    found = find_instance(program, name)
    if found is None:
        hint = nearest(name, names)
        raise UnsupportedError(
            f'there is no PROGRAM "{name}"' + (f" - {hint}" if hint else f"; there are: {', '.join(names)}")
        )
    return found


_SETTING = re.compile(r"^(?P<path>[^=]+)=(?P<value>.*)@(?P<scan>\d+)$", re.S)


def parse_setting(build: Build, instance: ProgramInstance, text: str) -> Setting:
    m = _SETTING.match(text)
    if m is None:
        raise UnsupportedError(f"--set {text!r}: write PATH=VALUE@SCAN, for example x=5@0")
    path = m.group("path").strip()
    spot = find(build.program, instance, path, build.layout)
    probe = bytearray(build.layout.size)
    write(probe, spot, m.group("value"))
    return Setting(int(m.group("scan")), path, spot, m.group("value"))


def default_watch(build: Build, instance: ProgramInstance) -> list[str]:
    names = [e.path for e in instance_entries(instance)]
    names.extend(e.path for e in global_entries(build.program))
    return names


def split_paths(texts: list[str]) -> list[str]:
    """Comma-separated paths; a comma inside [..] belongs to an index."""
    out: list[str] = []
    for text in texts:
        out.extend(p.strip() for p in re.split(r",(?![^\[]*\])", text) if p.strip())
    return out


def run_command(sources: Sequence[Source], diagnostics: Diagnostics, options: argparse.Namespace) -> int:
    build = compile_sources(sources, options.profile, diagnostics)
    instance = choose(build.program, options.program)
    if options.scans < 0:
        raise UnsupportedError("--scans counts from 0")
    period = parse_period(options.period)
    try:
        settings = [parse_setting(build, instance, text) for text in options.sets]
        paths = split_paths(options.watch) or default_watch(build, instance)
        spots = [(path, find(build.program, instance, path, build.layout)) for path in paths]
    except PathError as error:
        raise UnsupportedError(str(error)) from None
    if not options.json:
        for item in diagnostics.sorted():
            sys.stderr.write(item.render() + "\n")
    host = Host(build, options.level)
    writer = csv.writer(sys.stdout, lineterminator="\n") if options.csv else None
    if writer is not None:
        writer.writerow([path for path, _ in spots])
    fault, done = _scans(host, instance, settings, options.scans, period, writer, spots)
    values: dict[str, Json] = {path: read(host.memory, spot) for path, spot in spots}
    result: dict[str, Json] = {"values": values, "scans": done}
    if fault is not None:
        result["fault"] = {**fault.as_json(), "scan": done}
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
    elif options.csv:
        if fault is not None:
            sys.stderr.write(json.dumps({"fault": result["fault"]}) + "\n")
    else:
        for path, value in values.items():
            sys.stdout.write(f"{path} = {text_of(value)}\n")
        if fault is not None:
            sys.stdout.write(json.dumps({"fault": result["fault"]}) + "\n")
    return 1 if fault is not None else 0


def _scans(
    host: Host,
    instance: ProgramInstance,
    settings: list[Setting],
    scans: int,
    period: int,
    writer: object,
    spots: list[tuple[str, Spot]],
) -> tuple[Fault | None, int]:
    fault = host.init()
    if fault is not None:
        return fault, 0
    run = host.runner(instance)
    loop = host.looper(instance)
    by_scan: dict[int, list[Setting]] = {}
    for setting in settings:
        by_scan.setdefault(setting.scan, []).append(setting)
    stops = sorted(s for s in by_scan if s < scans)
    scan = 0
    while scan < scans:
        for setting in by_scan.get(scan, ()):
            write(host.memory, setting.spot, setting.value)
        if writer is None:
            # Without rows to print, run to the next setting in machine code.
            following = next((s for s in stops if s > scan), scans)
            if loop(host.address, following - scan, scan * period, period):
                header = host.build.layout.header
                now = int.from_bytes(bytes(host.memory[header : header + 8]), "little", signed=True)
                return host.fault(), (now // period if period else scan)
            scan = following
            continue
        if run(host.address, scan * period):
            return host.fault(), scan
        scan += 1
        writer.writerow([text_of(read(host.memory, spot)) for _, spot in spots])  # type: ignore[attr-defined]  # a csv writer
    return None, scan


def text_of(value: Json) -> str:
    """A value as a CSV cell: BOOL as TRUE/FALSE, lists and structures as JSON."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return str(value)
