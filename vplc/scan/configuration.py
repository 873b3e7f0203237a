"""The scan configuration: which program, on which core, with which channels. Checked against the layout, all mistakes
at once, into frozen types. Pure apart from `load`.

    {"library": "tank.so", "core": 1, "priority": 80,
     "tasks": {"Fast": {"watchdog_ms": 5}},
     "retain": {"folder": "retain", "interval_ms": 1000},
     "drivers": {"remote_io": {"kind": "external",
         "inputs":  [{"name": "level", "address": "%IW2", "max_age_ms": 200, "stale": "substitute", "substitute": 0}],
         "outputs": [{"name": "pump", "variable": "P1.pump", "safe": false}]}}}

A driver of another kind than "external" is one of ours: its own keys and the "device" of its channels are checked by
`vplc.drivers.check`.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vplc.scan import values
from vplc.scan.errors import Problem, Refused
from vplc.scan.layout import Layout, Variable, parse_address
from vplc.scan.layout import load as load_layout

MAX_TASKS = 64  # one bit each in the fault mask
MAX_DRIVERS = 64
MAX_CHANNELS = 100_000
KEYS = (
    "name",
    "library",
    "layout",
    "core",
    "priority",
    "interval_ms",
    "tasks",
    "retain",
    "renamed",
    "drivers",
    "standby",
)
POLICIES = ("hold", "zero", "substitute")
KINDS = ("external", "modbus", "opcua", "simulated")
DEFAULT_PRIORITY = 80  # above ordinary work, below the kernel's own threads at 99
DEFAULT_INTERVAL_NS = 10_000_000
DEFAULT_MISSED = 2  # outputs are back within three scans; the README says what a soak found
DEFAULT_MISSED_REMOTE = 3  # and a lost datagram is no reason either
MAX_STREAMED = 64 * 1024  # what the usual socket buffer takes in one go
_TYPES = {"X": "BOOL", "": "BOOL", "B": "BYTE", "W": "WORD", "D": "DWORD", "L": "LWORD"}


@dataclass(frozen=True, slots=True)
class Channel:
    """One value between a driver and the program. `offset` and `quality_at` are bytes of the state; `fallback` is the
    substitute of an input and the safe value of an output; `tasks` are the names whose fault makes an output safe."""

    name: str
    type: str
    offset: int
    bit: int
    size: int
    fallback: bytes
    policy: str = "hold"
    max_age_ns: int = 0
    quality_at: int = -1
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Driver:
    """`settings` is the driver's object as written, its channels included: not looked into here."""

    name: str
    inputs: tuple[Channel, ...]
    outputs: tuple[Channel, ...]
    kind: str = "external"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """Programs in the order they run; watchdog 0: none."""

    name: str
    priority: int
    interval_ns: int
    watchdog_ns: int
    programs: tuple[tuple[str, str], ...]  # name and entry point


@dataclass(frozen=True, slots=True)
class Standby:
    """Two hosts, one drives. Either `channel`, a folder that both share on one machine, or the addresses of a link
    between two machines; `witness` then decides who may drive when they do not hear each other, and without one the
    leader stops driving (the answer `partition`: "stop")."""

    role: str
    channel: Path | None
    listen: str
    peer: str
    witness: str
    missed_scans: int
    lease_ns: int


@dataclass(frozen=True, slots=True)
class Configuration:
    name: str
    library: Path
    layout: Layout
    core: int | None
    priority: int
    tasks: tuple[Task, ...]
    drivers: tuple[Driver, ...]
    retain_folder: Path | None
    retain_interval_ms: int
    renamed: dict[str, str]
    standby: Standby | None = None


class Reader:
    """Reads dictionaries and collects what is wrong with them."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[Problem] = []

    def add(self, path: str, what: str, hint: str = "") -> None:
        self.problems.append(Problem(f"{self.where} {path}".rstrip(), what, hint))

    def table(self, value: object, path: str, known: Iterable[str] | None = None) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.add(path, "must be an object")
            return {}
        if known is not None:
            names = list(known)
            for key in value:
                if key not in names:
                    close = difflib.get_close_matches(str(key), names, 1)
                    hint = f'did you mean "{close[0]}"?' if close else f"known here: {', '.join(names)}"
                    self.add(path, f'unknown key "{key}"', hint)
        return value

    def number(self, table: dict[str, Any], key: str, path: str, default: float, low: float, high: float) -> float:
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            self.add(f"{path}.{key}".lstrip("."), f"must be a number from {low:g} to {high:g}, is {value!r}")
            return default
        return value

    def text(self, table: dict[str, Any], key: str, path: str, default: str = "") -> str:
        value = table.get(key, default)
        if not isinstance(value, str):
            self.add(f"{path}.{key}".lstrip("."), f"must be a text, is {value!r}")
            return default
        return value


def load(path: Path, open_layout: Callable[[Path], Layout] = load_layout) -> Configuration:
    """Reads configuration and layout. Raises Refused with all mistakes; relative paths start at the file's folder."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Refused([Problem(str(path), f"cannot read the configuration: {error.strerror}")]) from error
    except ValueError as error:
        raise Refused([Problem(str(path), f"the configuration is no JSON: {error}")]) from error
    reader = Reader(str(path))
    top = reader.table(data, "")
    library = path.parent / reader.text(top, "library", "")
    layout_path = path.parent / top["layout"] if isinstance(top.get("layout"), str) else library.with_suffix(".json")
    if not top.get("library"):
        reader.add("library", "is missing: the shared library made by vplc build")
        raise Refused(reader.problems)
    try:
        layout = open_layout(layout_path)
    except Refused as error:
        raise Refused([*reader.problems, *error.problems]) from error
    return check(data, layout, library, str(path), path.parent)


def check(data: object, layout: Layout, library: Path, where: str, folder: Path) -> Configuration:
    """The document as types; raises Refused with every mistake in it."""
    reader = Reader(where)
    top = reader.table(
        data,
        "",
        KEYS,
    )
    core = top.get("core")
    if core is not None and (isinstance(core, bool) or not isinstance(core, int) or not 0 <= core < 1024):
        reader.add("core", f"must be the number of a processor core or null, is {core!r}")
        core = None
    retain = reader.table(top.get("retain", {}), "retain", ("folder", "interval_ms"))
    retain_folder = reader.text(retain, "folder", "retain")
    renamed = reader.table(top.get("renamed", {}), "renamed")
    for old, new in renamed.items():
        if not isinstance(new, str):
            reader.add(f"renamed.{old}", "must be the new path as text")
    tasks = _tasks(reader, top, layout)
    drivers = _drivers(reader, top, layout, tasks)
    standby = _standby(reader, top, folder, tasks, layout)
    if reader.problems:
        raise Refused(reader.problems)
    return Configuration(
        name=reader.text(top, "name", "", library.stem),
        library=library,
        layout=layout,
        core=core,
        priority=int(reader.number(top, "priority", "", DEFAULT_PRIORITY, 0, 98)),
        tasks=tasks,
        drivers=drivers,
        retain_folder=folder / retain_folder if retain_folder else None,
        retain_interval_ms=int(reader.number(retain, "interval_ms", "retain", 1000, 50, 3_600_000)),
        renamed=renamed,
        standby=standby,
    )


STANDBY_KEYS = ("role", "channel", "listen", "peer", "witness", "partition", "missed_scans", "lease_ms")


def _standby(
    reader: Reader, top: dict[str, Any], folder: Path, tasks: tuple[Task, ...], layout: Layout
) -> Standby | None:
    if "standby" not in top:
        return None
    table = reader.table(top["standby"], "standby", STANDBY_KEYS)
    role = reader.text(table, "role", "standby")
    if role not in ("primary", "standby"):
        reader.add("standby.role", f'must be "primary" or "standby", is {role!r}')
    channel = reader.text(table, "channel", "standby")
    listen, peer = reader.text(table, "listen", "standby"), reader.text(table, "peer", "standby")
    witness, partition = reader.text(table, "witness", "standby"), reader.text(table, "partition", "standby")
    remote = bool(listen or peer or witness or partition)
    if bool(channel) == remote:
        hint = 'one machine: "channel", a folder on tmpfs; two machines: "listen" and "peer"'
        reader.add("standby", "needs either a channel or the addresses of a link", hint)
    elif remote:
        for key, value in (("listen", listen), ("peer", peer), *([("witness", witness)] if witness else [])):
            if not is_address(value):
                reader.add(f"standby.{key}", f"must be an IP address and a port like 10.0.0.2:7400, is {value!r}")
        if (partition == "stop") == bool(witness) or partition not in ("", "stop"):
            what = 'needs either "witness" or "partition": "stop"'
            hint = "two hosts that do not hear each other cannot both be right: a witness decides, or the leader stops"
            reader.add("standby", what, hint)
        if layout.state_size > MAX_STREAMED:
            reader.add("standby", f"a state of {layout.state_size} bytes is too large to stream (limit {MAX_STREAMED})")
    interval_ns = min((t.interval_ns for t in tasks), default=DEFAULT_INTERVAL_NS)
    usual = DEFAULT_MISSED_REMOTE if remote else DEFAULT_MISSED
    missed = int(reader.number(table, "missed_scans", "standby", usual, 1, 1000))
    lease_ms = reader.number(table, "lease_ms", "standby", missed * interval_ns / 1e6, 0.1, 600_000)
    if remote and lease_ms * 1e6 < 2 * interval_ns:
        reader.add("standby.lease_ms", f"must be at least two intervals ({2 * interval_ns / 1e6:g} ms)")
    return Standby(
        role, folder / channel if channel else None, listen, peer, witness, missed, int(lease_ms * 1_000_000)
    )


def is_address(text: str) -> bool:
    """A numeric IP address and a port: a name server must not decide about a take-over."""
    host, colon, port = text.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return bool(colon) and port.isdigit() and 0 < int(port) < 65536


def _tasks(reader: Reader, top: dict[str, Any], layout: Layout) -> tuple[Task, ...]:
    reader.number(top, "priority", "", DEFAULT_PRIORITY, 0, 98)
    settings = reader.table(top.get("tasks", {}), "tasks", [*(t.name for t in layout.tasks), "Main"])
    default_ns = int(reader.number(top, "interval_ms", "", DEFAULT_INTERVAL_NS / 1e6, 0.05, 3_600_000) * 1e6)
    rows = [(t.name, t.priority, t.interval_ns) for t in layout.tasks]
    if any(not p.task for p in layout.programs):
        rows.append(("Main", 0, default_ns))
    out = []
    for name, priority, interval_ns in rows:
        own = "" if name == "Main" else name
        programs = tuple((p.name, p.run) for p in layout.programs if (p.task or "").upper() == own.upper())
        table = reader.table(settings.get(name, {}), f"tasks.{name}", ("watchdog_ms",))
        if not programs:
            continue
        if not interval_ns or interval_ns < 50_000:
            reader.add(
                f"tasks.{name}", "the program gives this task no INTERVAL of at least 50 us", "only cyclic tasks run"
            )
            continue
        # Wall time, so it must bear being preempted: ten intervals and at least 100 ms unless told.
        usual = max(10 * interval_ns, 100_000_000) / 1e6
        watchdog_ns = int(reader.number(table, "watchdog_ms", f"tasks.{name}", usual, 0, 3_600_000) * 1e6)
        out.append(Task(name, priority, interval_ns, watchdog_ns, programs))
    if not layout.programs:
        reader.add("library", "the library holds no PROGRAM to scan", "add a PROGRAM, or a CONFIGURATION with one")
    if len(out) > MAX_TASKS:
        reader.add("tasks", f"{len(out)} tasks are more than {MAX_TASKS}")
    return tuple(sorted(out, key=lambda t: t.priority))


def _drivers(reader: Reader, top: dict[str, Any], layout: Layout, tasks: tuple[Task, ...]) -> tuple[Driver, ...]:
    table = reader.table(top.get("drivers", {}), "drivers")
    if len(table) > MAX_DRIVERS:
        reader.add("drivers", f"{len(table)} drivers are more than {MAX_DRIVERS}")
    out = []
    spans: list[tuple[int, int, str]] = []  # first and last bit of the state, and who
    for name, value in table.items():
        one = reader.table(value, f"drivers.{name}")
        kind = reader.text(one, "kind", f"drivers.{name}", "external")
        if kind not in KINDS:
            reader.add(f"drivers.{name}.kind", f"must be one of {', '.join(KINDS)}, is {kind!r}")
        elif kind == "external":
            reader.table(value, f"drivers.{name}", ("kind", "inputs", "outputs"))
        sides: list[tuple[Channel, ...]] = []
        for side in ("inputs", "outputs"):
            rows = one.get(side, [])
            path = f"drivers.{name}.{side}"
            if not isinstance(rows, list) or len(rows) > MAX_CHANNELS:
                reader.add(path, f"must be a list of at most {MAX_CHANNELS} channels")
                rows = []
            channels = []
            names: dict[str, int] = {}
            for i, row in enumerate(rows):
                channel = _channel(reader, row, f"{path}[{i}]", side == "inputs", layout, tasks)
                if channel is None:
                    continue
                if channel.name in names:
                    reader.add(f"{path}[{i}]", f'the name "{channel.name}" is taken by {path}[{names[channel.name]}]')
                names[channel.name] = i
                channels.append(channel)
                first = channel.offset * 8 + max(channel.bit, 0)
                last = first if channel.bit >= 0 else first + channel.size * 8 - 1
                spans.append((first, last, f"{path}[{i}] ({channel.name})"))
                if channel.quality_at >= 0:
                    spans.append((channel.quality_at * 8, channel.quality_at * 8 + 7, f"{path}[{i}].quality_address"))
            sides.append(tuple(channels))
        out.append(Driver(name, sides[0], sides[1], kind, one))
    spans.sort()
    furthest = (-1, "")
    for first, last, who in spans:
        if first <= furthest[0]:
            reader.add(
                who, f"is mapped twice: the same memory belongs to {furthest[1]}", "give each channel its own address"
            )
        furthest = max(furthest, (last, who))
    return tuple(out)


CHANNEL_KEYS = {
    True: ("name", "address", "variable", "type", "max_age_ms", "stale", "substitute", "quality_address", "device"),
    False: ("name", "address", "variable", "type", "safe", "device"),
}


def _channel(
    reader: Reader, row: object, path: str, is_input: bool, layout: Layout, tasks: tuple[Task, ...]
) -> Channel | None:
    before = len(reader.problems)
    table = reader.table(row, path, CHANNEL_KEYS[is_input])
    if not table:
        return None
    area = "I" if is_input else "Q"
    place = _place(reader, table, path, area, layout)
    if place is None:
        return None
    offset, bit, size, kind, address = place
    name = reader.text(table, "name", path, reader.text(table, "variable", path) or address)
    key = "substitute" if is_input else "safe"
    try:
        fallback = values.encode(kind, table.get(key, 0))
    except ValueError as error:
        reader.add(f"{path}.{key}", str(error))
        fallback = b""
    policy = reader.text(table, "stale", path, "substitute" if "substitute" in table else "hold")
    if policy not in POLICIES:
        reader.add(f"{path}.stale", f"must be one of {', '.join(POLICIES)}, is {policy!r}")
    if is_input and policy == "substitute" and "substitute" not in table:
        reader.add(f"{path}.substitute", "is missing: the value to take when the input is stale")
    max_age_ns = int(reader.number(table, "max_age_ms", path, 0, 0, 86_400_000) * 1e6) if is_input else 0
    quality_at = -1
    if is_input and "quality_address" in table:
        found = parse_address(reader.text(table, "quality_address", path))
        if found is None or found[0] != "I" or found[2] >= 0 or found[3] != 1 or found[1] >= layout.areas["I"][1]:
            reader.add(f"{path}.quality_address", "must be a byte of the program's inputs, like %IB7")
        else:
            quality_at = layout.areas["I"][0] + found[1]
    if len(reader.problems) > before:
        return None
    owners = () if is_input else _owners(layout, tasks, offset, bit, size)
    return Channel(name, kind, offset, bit, size, fallback, policy, max_age_ns, quality_at, owners)


def _place(
    reader: Reader, table: dict[str, Any], path: str, area: str, layout: Layout
) -> tuple[int, int, int, str, str] | None:
    """Offset, bit, size, type and address of a channel given by address or by variable."""
    if ("address" in table) == ("variable" in table):
        reader.add(path, 'needs either "address" or "variable"')
        return None
    variable: Variable | None = None
    address = reader.text(table, "address", path)
    if "variable" in table:
        wanted = reader.text(table, "variable", path)
        variable = next((v for v in layout.variables if v.path.upper() == wanted.upper()), None)
        if variable is None or not (variable.address or "").upper().startswith("%" + area):
            located = [v.path for v in layout.variables if (v.address or "").upper().startswith("%" + area)]
            close = difflib.get_close_matches(wanted, located, 1)
            what = "there is no such variable" if variable is None else f"the variable is not located AT %{area}..."
            reader.add(f"{path}.variable", f"{wanted}: {what}", f'did you mean "{close[0]}"?' if close else "")
            return None
        address = variable.address or ""
    found = parse_address(address)
    if found is None or found[0] != area:
        reader.add(f"{path}.address", f"{address!r} is no address of the form %{area}X0.3, %{area}B1, %{area}W4")
        return None
    start, length = layout.areas[area]
    _, byte, bit, size = found
    if byte + size > length:
        reader.add(f"{path}.address", f"the program has no {address}: its %{area} area has {length} bytes")
        return None
    offset = start + byte
    if variable is None:
        same = (v for v in layout.variables if v.offset == offset and v.bit == bit and v.size == size)
        variable = next(same, None)
    kind = reader.text(table, "type", path) or (
        variable.base if variable else _TYPES[address[2].upper().strip("0123456789")]
    )
    if values.SIZES.get(kind) != size:
        reader.add(f"{path}.type", f"{kind} does not fit {address}", f"{address} has {size} byte(s)")
        return None
    return offset, bit, size, kind, address


def _owners(layout: Layout, tasks: tuple[Task, ...], offset: int, bit: int, size: int) -> tuple[str, ...]:
    """The tasks whose programs declare the output; a global output belongs to all tasks."""
    owners: set[str] = set()
    for v in layout.variables:
        if v.offset >= offset + size or v.offset + v.size <= offset or (bit >= 0 and v.bit >= 0 and v.bit != bit):
            continue
        mine = [t.name for t in tasks if any(p == v.program for p, _ in t.programs)]
        if not mine:
            return tuple(t.name for t in tasks)
        owners.update(mine)
    return tuple(t.name for t in tasks if t.name in owners or not owners)
