"""Configuration and layout as the one binary file that the native host reads (structs of native/scan.h). Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

from vplc.scan.configuration import POLICIES, Channel, Configuration
from vplc.scan.retain import Patch, retained

MAGIC = b"VPLCPLN1"
HEAD = struct.Struct("<8sQQ2I5I2i7I20I10IQ")
TASK = struct.Struct("<QQIIII")
PROGRAM = struct.Struct("<II")
CHANNEL = struct.Struct("<QQQIIIIiiII")
RUN = struct.Struct("<II")
PATCH = struct.Struct("<IIII")
SITE = struct.Struct("<IIII")
MOVE = struct.Struct("<IIII")
SIZES = {
    "plan": HEAD.size,
    "plan_task": TASK.size,
    "plan_program": PROGRAM.size,
    "plan_channel": CHANNEL.size,
    "plan_run": RUN.size,
    "plan_patch": PATCH.size,
    "plan_site": SITE.size,
    "plan_move": MOVE.size,
}


class Carried(Protocol):
    """A value carried from the program before; bits -1 for whole bytes."""

    @property
    def start(self) -> int: ...
    @property
    def to(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def from_bit(self) -> int: ...
    @property
    def to_bit(self) -> int: ...


class Writer:
    """Appends sections, each aligned to 8 bytes, and remembers where texts are."""

    def __init__(self) -> None:
        self.body = bytearray(HEAD.size)
        self.texts: dict[str, int] = {}

    def data(self, data: bytes) -> int:
        self.body.extend(bytes(-len(self.body) % 8))
        at = len(self.body)
        self.body.extend(data)
        return at

    def text(self, text: str) -> int:
        if text not in self.texts:
            self.texts[text] = len(self.body)
            self.body.extend(text.encode("utf-8", "replace") + b"\0")
        return self.texts[text]


def write(
    configuration: Configuration,
    *,
    patches: Sequence[Patch] = (),
    moves: Sequence[Carried] = (),
    forces: Sequence[Patch] = (),
    force_set: int = 0,
    alarms: Sequence[str] = (),
    time_base_ns: int = 0,
    retain_sequence: int = 2,
    version: int = 1,
    trial_scans: int = 0,
) -> bytes:
    """The whole plan. `patches` are restored values, `moves` those carried by an online change, `forces` those
    held from its first scan; `alarms` go into the status as they are."""
    w = Writer()
    layout = configuration.layout
    kept = retained(layout)
    programs: list[bytes] = []
    tasks = []
    for t in configuration.tasks:
        tasks.append(
            TASK.pack(t.interval_ns, t.watchdog_ns, w.text(t.name), t.priority, len(programs), len(t.programs))
        )
        programs.extend(PROGRAM.pack(w.text(name), w.text(run)) for name, run in t.programs)
    bits = {t.name: 1 << n for n, t in enumerate(configuration.tasks)}
    inputs, outputs = [
        [
            _channel(c, driver, index, bits)
            for driver, d in enumerate(configuration.drivers)
            for index, c in enumerate(d.inputs if side == 0 else d.outputs)
        ]
        for side in (0, 1)
    ]
    count = max(layout.sites, default=0) + 1
    sites = [SITE.pack(w.text(""), w.text(""), 0, 0)] * count
    for number, site in layout.sites.items():
        sites[number] = SITE.pack(w.text(site.pou), w.text(site.message), site.line, 0)
    restored, held = [
        [PATCH.pack(p.offset, len(p.data), w.data(p.data), 1 << p.bit if p.bit >= 0 else 0) for p in rows]
        for rows in (patches, forces)
    ]
    runs = [RUN.pack(*run) for run in kept.runs] if configuration.retain_folder else []
    warnings = [struct.pack("<I", w.text(a)) for a in alarms]
    carried = [
        MOVE.pack(m.start, m.to, m.size, 0x100 | m.from_bit | m.to_bit << 4 if m.to_bit >= 0 else 0) for m in moves
    ]
    sections = (tasks, programs, inputs, outputs, runs, restored, sites, warnings, carried, held)
    library = w.text(str(configuration.library.resolve()))
    abi = w.text(layout.abi)
    folder = w.text(str(configuration.retain_folder.resolve()) if configuration.retain_folder else "")
    directory = w.data(kept.directory)
    places = [n for rows in sections for n in (w.data(b"".join(rows)), len(rows))]
    pair = _pair(configuration, w)
    HEAD.pack_into(
        w.body, 0, MAGIC, time_base_ns, retain_sequence, version, trial_scans, len(w.body), layout.state_size,
        layout.fault_site, layout.fault_a, layout.fault_b,
        -1 if configuration.core is None else configuration.core, configuration.priority,
        configuration.retain_interval_ms, library, abi, folder, directory, len(kept.directory),
        len(configuration.drivers), *places, force_set, *pair,
    )  # fmt: skip
    return bytes(w.body)


def _pair(configuration: Configuration, w: Writer) -> tuple[int, ...]:
    s = configuration.standby
    if s is None:
        return (0, 0, 0, *([w.text("")] * 5), 0, 0)
    places = (str(s.channel.resolve()) if s.channel else "", s.listen, s.peer, s.witness, configuration.name)
    side = 0 if s.role == "primary" else 1
    return (1, side, s.missed_scans, *(w.text(p) for p in places), 0, s.lease_ns)


def _channel(c: Channel, driver: int, index: int, bits: dict[str, int]) -> bytes:
    mask = 0
    for name in c.tasks:
        mask |= bits[name]
    fallback = int.from_bytes(c.fallback, "little")
    return CHANNEL.pack(
        fallback, c.max_age_ns, mask, driver, index, c.offset, c.size, c.bit, c.quality_at, POLICIES.index(c.policy), 0
    )
