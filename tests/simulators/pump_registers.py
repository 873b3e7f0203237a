"""The register map of the pump skid: which value stands where, in which type and word order.

`TABLE` is the one description: the server builds its memory from it, `pump_skid.md` is printed from it, and the
tests read it. Called by `pump_skid` and the tests. It opens no socket and reads no clock.

Addresses are zero-based, as they travel in the frame. Word order is `ABCD` (most significant word first) or
`CDAB` (least significant word first, also for four words); bytes inside a word are always big-endian (Modbus
Application Protocol V1.1b3, 4.2). Addresses not in the table do not exist: reading one gives exception 2, also
in the middle of a longer read. Both register areas have such a hole on purpose.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import Literal

from tests.simulators.pump_physics import (
    RATED_CURRENT_A,
    RATED_FLOW_M3_H,
    RATED_HEAD_M,
    RATED_SPEED_RPM,
    TANK_VOLUME_M3,
    Commands,
    PumpSkid,
    PumpState,
)

Area = Literal["coil", "discrete", "input", "holding"]
AREAS: tuple[Area, ...] = ("coil", "discrete", "input", "holding")
Number = int | float
Value = int | float | bool | str

_NUMBER_FORMATS = {
    "uint16": ">H", "int16": ">h", "uint32": ">I", "int32": ">i", "int64": ">q", "float32": ">f", "float64": ">d",
}  # fmt: skip
_INTEGER_LIMITS = {
    "uint16": (0, 2**16 - 1), "int16": (-(2**15), 2**15 - 1), "uint32": (0, 2**32 - 1),
    "int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Register:
    """One documented value. Engineering value = raw value x scale; `bit` counts from the least significant."""

    name: str
    area: Area
    address: int
    type: str
    order: str = "ABCD"
    scale: float = 1.0
    unit: str = ""
    text: str = ""
    bit: int | None = None
    words: int = 1
    writable: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def size(self) -> int:
        """Addresses taken."""
        if self.type in _NUMBER_FORMATS:
            return struct.calcsize(_NUMBER_FORMATS[self.type]) // 2
        return self.words


def encode(register: Register, value: Value) -> list[int]:
    """The 16-bit words that carry an engineering value; integers are rounded and held at the type's limits."""
    if register.type == "string":
        raw = str(value).encode("ascii").ljust(2 * register.words, b"\0")[: 2 * register.words]
    else:
        assert not isinstance(value, str)
        number: Number = value if register.scale == 1.0 else value / register.scale
        if register.type in _INTEGER_LIMITS:
            low, high = _INTEGER_LIMITS[register.type]
            number = min(high, max(low, round(number)))
        raw = struct.pack(_NUMBER_FORMATS[register.type], number)
    words = list(struct.unpack(f">{len(raw) // 2}H", raw))
    return words[::-1] if register.order == "CDAB" else words


def decode(register: Register, words: list[int]) -> Value:
    """The engineering value in these words; the inverse of `encode` up to rounding."""
    ordered = words[::-1] if register.order == "CDAB" else words
    raw = struct.pack(f">{len(ordered)}H", *ordered)
    if register.type == "string":
        return raw.rstrip(b"\0").decode("ascii")
    number: Number = struct.unpack(_NUMBER_FORMATS[register.type], raw)[0]
    return number if register.scale == 1.0 else number * register.scale


# What never changes: the name plate.
NAME_PLATE: dict[str, Value] = {
    "map_version": 1,
    "rated_speed_rpm": RATED_SPEED_RPM,
    "rated_current_a": RATED_CURRENT_A,
    "rated_flow_m3_h": RATED_FLOW_M3_H,
    "rated_head_m": RATED_HEAD_M,
    "tank_capacity_m3": TANK_VOLUME_M3,
    "commissioned": 20240617,
    "asset_number": 4_700_000_000_042,
    "serial": "PS-2024-000042",
    "model": "End-suction pump skid 65-200",
}

_R = Register
TABLE: tuple[Register, ...] = (
    # Measured values. The counter comes first and is repeated at the end of the block: two reads of one
    # sample agree, so a torn read shows.
    _R("sample_counter", "input", 0, "uint32", "ABCD", text="goes up by one every tick, wraps at 2^32"),
    _R("suction_pressure_bar", "input", 2, "float32", "CDAB", unit="bar", text="gauge"),
    _R("discharge_pressure_bar", "input", 4, "float32", "CDAB", unit="bar", text="gauge"),
    _R("flow_m3_h", "input", 6, "float32", "CDAB", unit="m3/h"),
    _R("tank_level_m", "input", 8, "float32", "ABCD", unit="m"),
    _R("tank_level_percent", "input", 10, "uint16", scale=0.01, unit="%"),
    _R("motor_temperature_c", "input", 11, "int16", scale=0.1, unit="°C"),
    _R("bearing_temperature_c", "input", 12, "int16", scale=0.1, unit="°C"),
    _R("ambient_temperature_c", "input", 13, "int16", scale=0.1, unit="°C"),
    _R("current_a", "input", 14, "uint16", scale=0.01, unit="A"),
    _R("speed_rpm", "input", 15, "uint16", unit="rpm"),
    _R("valve_position_percent", "input", 16, "uint16", scale=0.01, unit="%"),
    _R("vibration_mm_s", "input", 17, "uint16", scale=0.001, unit="mm/s", text="bearing, rms"),
    _R("power_w", "input", 18, "int32", "ABCD", unit="W"),
    _R("net_flow_m3_h", "input", 20, "int32", "CDAB", scale=0.001, unit="m3/h", text="into the tank, signed"),
    _R("pumped_total_m3", "input", 22, "float64", "ABCD", unit="m3"),
    _R("energy_wh", "input", 26, "int64", "CDAB", unit="Wh"),
    # 30 to 39: the hole.
    _R("run_seconds", "input", 40, "uint32", "CDAB", unit="s"),
    _R("starts", "input", 42, "uint32", "ABCD"),
    _R("phase", "input", 44, "uint16", text="0 stopped, 1 starting, 2 running, 3 stopping, 4 faulted"),
    _R("running", "input", 45, "bit", bit=0, text="status word"),
    _R("ready", "input", 45, "bit", bit=1, text="status word"),
    _R("make_up_open", "input", 45, "bit", bit=2, text="status word"),
    _R("fault", "input", 45, "bit", bit=15, text="status word"),
    _R("alarm_low_level", "input", 46, "bit", bit=0, text="alarm word"),
    _R("alarm_high_level", "input", 46, "bit", bit=1, text="alarm word"),
    _R("alarm_dry_run", "input", 46, "bit", bit=2, text="alarm word; latched, trips the pump"),
    _R("alarm_over_temperature", "input", 46, "bit", bit=3, text="alarm word"),
    _R("alarm_vibration", "input", 46, "bit", bit=4, text="alarm word"),
    _R("alarm_overload", "input", 46, "bit", bit=5, text="alarm word"),
    _R("efficiency_percent", "input", 47, "uint16", scale=0.01, unit="%"),
    _R("frequency_hz", "input", 48, "uint16", scale=0.01, unit="Hz"),
    _R("voltage_v", "input", 49, "uint16", scale=0.1, unit="V"),
    _R("head_m", "input", 50, "float32", "CDAB", unit="m"),
    _R("npsh_available_m", "input", 52, "float32", "ABCD", unit="m"),
    _R("run_hours", "input", 54, "float32", "CDAB", unit="h"),
    _R("inflow_total_m3", "input", 56, "float64", "CDAB", unit="m3"),
    _R("simulated_ms", "input", 60, "int64", "ABCD", unit="ms", text="counter x tick x speed"),
    _R("sample_counter_copy", "input", 64, "uint32", "CDAB", text="always equal to sample_counter"),
    # Settings and name plate.
    _R("speed_setpoint_rpm", "holding", 0, "uint16", unit="rpm", writable=True, low=0, high=3000),
    _R("valve_setpoint_percent", "holding", 1, "uint16", scale=0.01, unit="%", writable=True, low=0, high=100,
       text="obeyed while valve_auto is off"),
    _R("motor_temperature_limit_c", "holding", 2, "int16", scale=0.1, unit="°C", writable=True, low=40, high=155),
    _R("vibration_limit_mm_s", "holding", 3, "uint16", scale=0.001, unit="mm/s", writable=True, low=1, high=30),
    _R("level_low_limit_m", "holding", 4, "float32", "CDAB", unit="m", writable=True, low=0, high=2.5),
    _R("level_high_limit_m", "holding", 6, "float32", "ABCD", unit="m", writable=True, low=0, high=2.5),
    _R("map_version", "holding", 8, "uint16"),
    _R("rated_speed_rpm", "holding", 9, "uint16", unit="rpm"),
    _R("rated_current_a", "holding", 10, "uint16", scale=0.1, unit="A"),
    _R("serial", "holding", 11, "string", words=8, text="ASCII, padded with NUL"),
    # 19 to 29: the hole.
    _R("model", "holding", 30, "string", words=16, text="ASCII, padded with NUL"),
    _R("rated_flow_m3_h", "holding", 46, "float32", "ABCD", unit="m3/h"),
    _R("rated_head_m", "holding", 48, "float32", "CDAB", unit="m"),
    _R("commissioned", "holding", 50, "int32", "CDAB", text="date as YYYYMMDD"),
    _R("tank_capacity_m3", "holding", 52, "float64", "ABCD", unit="m3"),
    _R("asset_number", "holding", 56, "int64", "ABCD"),
    # Commands and contacts.
    _R("run", "coil", 0, "bool", writable=True, text="pump run command"),
    _R("valve_auto", "coil", 1, "bool", writable=True, text="valve follows the simulated demand"),
    _R("reset_alarms", "coil", 2, "bool", writable=True, text="clears itself"),
    _R("running", "discrete", 0, "bool"),
    _R("ready", "discrete", 1, "bool"),
    _R("make_up_open", "discrete", 2, "bool"),
    _R("alarm_low_level", "discrete", 3, "bool"),
    _R("alarm_high_level", "discrete", 4, "bool"),
    _R("alarm_dry_run", "discrete", 5, "bool"),
    _R("alarm_over_temperature", "discrete", 6, "bool"),
    _R("fault", "discrete", 7, "bool"),
)  # fmt: skip


def addresses(area: Area, *, writable: bool | None = None) -> list[int]:
    """Every address that exists in an area, ascending; optionally only the (un)writable ones."""
    found: set[int] = set()
    for register in TABLE:
        if register.area == area and writable in (None, register.writable):
            found.update(range(register.address, register.address + register.size))
    return sorted(found)


def find(name: str, area: Area | None = None) -> Register:
    """The register of that name; the first one where an area repeats a name in another."""
    for register in TABLE:
        if register.name == name and area in (None, register.area):
            return register
    raise KeyError(f"no register named {name!r} in {area or 'any area'}")


class WriteRefusedError(ValueError):
    """A written value is outside the range the table allows; nothing was changed."""


_SETTABLE = {field.name for field in fields(Commands)}


class RegisterImage:
    """The skid's memory as Modbus sees it: one consistent picture per tick.

    `tick` moves the machine on; reads between two ticks see the same picture; writes reach the machine's
    commands at once and show in the picture at once.
    """

    def __init__(self, skid: PumpSkid, tick_ms: int, speed: float) -> None:
        self.counter = 0
        self._skid = skid
        self._step_s = tick_ms * speed / 1000
        self._areas: dict[Area, list[int]] = {area: [0] * (addresses(area)[-1] + 1) for area in AREAS}
        self._state: PumpState | None = None
        for register in TABLE:
            if register.name in NAME_PLATE:
                self._put(register, NAME_PLATE[register.name])
        self._show_commands()
        self.tick()

    def tick(self) -> None:
        """Advance the machine by one tick and take a new picture: the counter goes up by exactly one."""
        self._state = self._skid.step(self._step_s)
        self.counter = (self.counter + 1) % 2**32
        counted: dict[str, Value] = {
            "sample_counter": self.counter,
            "sample_counter_copy": self.counter,
            "simulated_ms": self.counter * self._step_s * 1000,
        }
        bits: dict[tuple[Area, int], int] = {}
        for register in _CHANGING:
            value = counted.get(register.name)
            if value is None:
                value = getattr(self._state, register.name)
            if register.bit is not None:
                key = (register.area, register.address)
                bits[key] = bits.get(key, 0) | (int(bool(value)) << register.bit)
            else:
                self._put(register, value)
        for (area, address), word in bits.items():
            self._areas[area][address] = word

    def addresses(self, area: Area, *, writable: bool | None = None) -> list[int]:
        """As the function: what the server asks."""
        return addresses(area, writable=writable)

    def read(self, area: Area, address: int, count: int) -> list[int]:
        """Raw words (bits for coils and discrete inputs); zero where no register is: the server refuses those."""
        known = self._areas[area]
        return (known + [0] * (address + count))[address : address + count]

    def write(self, area: Area, address: int, values: list[int]) -> None:
        """Apply one write request whole.

        Raises `WriteRefusedError` when a touched register would leave its range; then nothing has changed.
        """
        proposed = list(self._areas[area])
        proposed[address : address + len(values)] = [int(value) for value in values]
        accepted: list[tuple[Register, Value]] = []
        for register in TABLE:
            touched = range(
                max(address, register.address), min(address + len(values), register.address + register.size)
            )
            if register.area != area or not register.writable or not touched:
                continue
            words = proposed[register.address : register.address + register.size]
            value = bool(words[0]) if register.type == "bool" else decode(register, words)
            if register.low is not None and register.high is not None:
                assert not isinstance(value, str)
                # Written so that NaN, which compares false with everything, is refused too.
                if not register.low <= value <= register.high:
                    raise WriteRefusedError(
                        f"{register.name}: {value} is outside {register.low} to {register.high} {register.unit}"
                    )
            accepted.append((register, value))
        for register, value in accepted:
            if register.name == "reset_alarms":
                if value:
                    self._skid.reset_alarms()
            else:
                assert register.name in _SETTABLE
                setattr(self._skid.commands, register.name, value)
        self._show_commands()

    def _show_commands(self) -> None:
        for register in TABLE:
            if register.name in _SETTABLE:
                self._put(register, getattr(self._skid.commands, register.name))

    def _put(self, register: Register, value: Value) -> None:
        area = self._areas[register.area]
        if register.type == "bool":
            area[register.address] = int(bool(value))
        else:
            area[register.address : register.address + register.size] = encode(register, value)


_CHANGING = tuple(
    register for register in TABLE if register.name not in NAME_PLATE and register.area in ("input", "discrete")
)


def markdown() -> str:
    """The table as Markdown, the text of `pump_skid.md` below its introduction."""
    lines = [
        "| Area | Address | Name | Type | Word order | Scale | Unit | Access | Remark |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for area in ("input", "holding", "coil", "discrete"):
        for register in (r for r in TABLE if r.area == area):
            where = f"{register.address}" + (f".{register.bit}" if register.bit is not None else "")
            kind = f"string({2 * register.words})" if register.type == "string" else register.type
            order = register.order if register.size > 1 and register.type != "string" else ""
            access = f"rw {register.low:g} to {register.high:g}" if register.low is not None else (
                "rw" if register.writable else "r")  # fmt: skip
            scale = f"{register.scale:g}" if register.type in _NUMBER_FORMATS else ""
            cells = [area, where, register.name, kind, order, scale, register.unit, access, register.text]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
