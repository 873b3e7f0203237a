"""Which requests a device gets, and what its bytes mean: coalesced reads, contiguous writes, numbers. Pure.

Called by `driver`. Modbus is big-endian; `order` says how devices deviate in numbers of several registers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vplc.drivers.modbus.settings import TYPES, Point, Settings
from vplc.scan.values import Json

READ = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
MAX_WRITE_REGISTERS = 123
MAX_WRITE_BITS = 1968
MAX_COMBINED_WRITE = 121
_LIMITS = {
    "SINT": (-128, 127), "USINT": (0, 255), "BYTE": (0, 255), "INT": (-32768, 32767), "UINT": (0, 65535),
    "WORD": (0, 65535), "DINT": (-(1 << 31), (1 << 31) - 1), "UDINT": (0, (1 << 32) - 1), "DWORD": (0, (1 << 32) - 1),
    "ULINT": (0, (1 << 64) - 1), "LWORD": (0, (1 << 64) - 1),
}  # fmt: skip
_RAW = {"h": (-32768, 32767), "H": (0, 65535), "i": (-(1 << 31), (1 << 31) - 1), "I": (0, (1 << 32) - 1)}
_RAW |= {"q": (-(1 << 63), (1 << 63) - 1), "Q": (0, (1 << 64) - 1)}
_LARGEST_FLOAT32 = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


class Malformed(Exception):  # noqa: N818 - an answer
    """An answer that is not what the request asked for."""


def reorder(data: bytes, order: str) -> bytes:
    """Between the device's order of bytes and big-endian; its own inverse."""
    if order == "ABCD" or (len(data) == 2 and order == "CDAB"):
        return data
    if order == "DCBA":
        return data[::-1]
    words = [data[i : i + 2] for i in range(0, len(data), 2)]
    if order == "CDAB":
        return b"".join(reversed(words))
    return b"".join(word[::-1] for word in words)


def number_in(point: Point, raw: float) -> Json:
    """The program's value of a number of the device. ValueError when it does not fit the program's type."""
    value: float = raw * point.scale + point.offset if point.scale != 1.0 or point.offset != 0.0 else raw
    if point.kind in ("REAL", "LREAL", ""):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} does not fit {point.kind}")
        value = round(value)
    low, high = _LIMITS.get(point.kind, (-(1 << 63), (1 << 63) - 1))
    if not low <= value <= high:
        raise ValueError(f"{value} does not fit {point.kind}")
    return value


def number_out(point: Point, value: Json) -> bytes:
    """The device's bytes of a value of the program. What does not fit stops at the limit of the device's type, as an
    output module does; ValueError for what is no number."""
    if not isinstance(value, (bool, int, float)):
        raise ValueError(f"{value!r} is no number")
    code = TYPES[point.type][1]
    raw: float = (value - point.offset) / point.scale if point.scale != 1.0 or point.offset != 0.0 else value
    if not math.isfinite(raw):
        raise ValueError(f"{raw} is no number")
    if code == "f":
        raw = min(max(float(raw), -_LARGEST_FLOAT32), _LARGEST_FLOAT32)
    elif code != "d":
        low, high = _RAW[code]
        raw = min(max(round(raw), low), high)
    return reorder(struct.pack(">" + code, raw), point.order)


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """One read request and what its answer holds."""

    unit: int
    area: str
    address: int
    count: int
    points: tuple[Point, ...]
    plain: struct.Struct  # all registers in big-endian order, for `straight`
    straight: tuple[Point, ...]  # those that `plain` unpacks
    others: tuple[Point, ...]

    def __str__(self) -> str:
        return f"{self.area} {self.address}..{self.address + self.count - 1} of unit {self.unit}"

    @property
    def pdu(self) -> bytes:
        return struct.pack(">BHH", READ[self.area], self.address, self.count)

    @property
    def size(self) -> int:
        """Bytes of data in the answer."""
        return (self.count + 7) // 8 if self.area in ("coil", "discrete") else self.count * 2

    def values(self, data: bytes) -> tuple[dict[str, Json], dict[str, str]]:
        """Values by channel, and those that do not fit their type with the reason."""
        if len(data) != self.size:
            raise Malformed(f"{self}: {len(data)} bytes came, {self.size} were expected")
        out: dict[str, Json] = {}
        bad: dict[str, str] = {}
        if self.area in ("coil", "discrete"):
            for p in self.points:
                i = p.address - self.address
                out[p.name] = bool(data[i >> 3] >> (i & 7) & 1)
            return out, bad
        for p, raw in zip(self.straight, self.plain.unpack_from(data), strict=True):
            try:
                out[p.name] = number_in(p, raw)
            except ValueError as error:
                bad[p.name] = str(error)
        for p in self.others:
            at = 2 * (p.address - self.address)
            if p.type == "bool":
                word = reorder(data[at : at + 2], p.order)
                out[p.name] = bool(int.from_bytes(word, "big") >> p.bit & 1)
                continue
            piece = reorder(data[at : at + 2 * p.count], p.order)
            try:
                out[p.name] = number_in(p, struct.unpack(">" + TYPES[p.type][1], piece)[0])
            except ValueError as error:
                bad[p.name] = str(error)
        return out, bad


def _group(points: Sequence[Point]) -> ReadGroup:
    first = points[0].address
    end = max(p.address + p.count for p in points)
    straight: list[Point] = []
    code, at = ">", first
    for p in points:
        # A word may hold several bits, and two channels may share a register: only what follows goes into the struct.
        if p.type == "bool" or p.order != "ABCD" or p.address < at:
            continue
        code += "2x" * (p.address - at) + TYPES[p.type][1]
        at = p.address + p.count
        straight.append(p)
    others = tuple(p for p in points if p not in straight)
    return ReadGroup(
        points[0].unit, points[0].area, first, end - first, tuple(points), struct.Struct(code), tuple(straight), others
    )


def read_groups(settings: Settings) -> tuple[ReadGroup, ...]:
    """As few requests as the limits allow; gaps up to `max_gap` are read over."""
    out: list[ReadGroup] = []
    keys = sorted({(p.unit, p.area) for p in settings.inputs})
    for unit, area in keys:
        most = settings.max_bits if area in ("coil", "discrete") else settings.max_registers
        mine = sorted((p for p in settings.inputs if (p.unit, p.area) == (unit, area)), key=lambda p: p.address)
        current: list[Point] = []
        end = 0
        for p in mine:
            fits = current and p.address <= end + settings.max_gap and p.address + p.count - current[0].address <= most
            if current and not fits:
                out.append(_group(current))
                current = []
            end = max(end if current else 0, p.address + p.count)
            current.append(p)
        if current:
            out.append(_group(current))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class WriteRun:
    """Outputs without a gap between them: any span of them may be written by one request."""

    unit: int
    area: str
    points: tuple[Point, ...]

    def __str__(self) -> str:
        last = self.points[-1]
        return f"{self.area} {self.points[0].address}..{last.address + last.count - 1} of unit {self.unit}"


def write_runs(settings: Settings) -> tuple[WriteRun, ...]:
    out: list[WriteRun] = []
    for unit, area in sorted({(p.unit, p.area) for p in settings.outputs}):
        mine = sorted((p for p in settings.outputs if (p.unit, p.area) == (unit, area)), key=lambda p: p.address)
        run = [mine[0]]
        for before, p in pairwise(mine):
            if p.address != before.address + before.count:
                out.append(WriteRun(unit, area, tuple(run)))
                run = []
            run.append(p)
        out.append(WriteRun(unit, area, tuple(run)))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Write:
    """One write request. `registers` are the data of a register write, for combining it with a read."""

    unit: int
    pdu: bytes
    points: tuple[Point, ...]
    address: int
    registers: bytes = b""


def writes(run: WriteRun, due: Mapping[str, Json], known: Mapping[str, Json], how: str) -> list[Write]:
    """The requests that bring `due` to the device. Between the first and the last of them everything is written, with
    the values in `known`: one request for a span is quicker than several. ValueError for a value that is no number."""
    out: list[Write] = []
    if how == "single":
        return [_one(run, p, due[p.name]) for p in run.points if p.name in due]
    most = MAX_WRITE_BITS if run.area == "coil" else MAX_WRITE_REGISTERS
    span: list[Point] = []
    for part in _parts(run.points, most):
        numbers = [i for i, p in enumerate(part) if p.name in due]
        if not numbers:
            continue
        span = list(part[numbers[0] : numbers[-1] + 1])
        if how == "auto" and len(span) == 1 and span[0].count == 1:
            out.append(_one(run, span[0], due[span[0].name]))
            continue
        out.append(_many(run, span, [due[p.name] if p.name in due else known[p.name] for p in span]))
    return out


def _parts(points: Sequence[Point], most: int) -> list[Sequence[Point]]:
    """Split so that no request is too long and no number is torn."""
    out: list[Sequence[Point]] = []
    begin, size = 0, 0
    for i, p in enumerate(points):
        if size + p.count > most:
            out.append(points[begin:i])
            begin, size = i, 0
        size += p.count
    out.append(points[begin:])
    return out


def _one(run: WriteRun, p: Point, value: Json) -> Write:
    if run.area == "coil":
        return Write(run.unit, struct.pack(">BHH", 5, p.address, 0xFF00 if value else 0), (p,), p.address)
    data = number_out(p, value)
    if len(data) > 2:
        return _many(run, [p], [value])
    return Write(run.unit, struct.pack(">BH", 6, p.address) + data, (p,), p.address, data)


def _many(run: WriteRun, span: Sequence[Point], given: Sequence[Json]) -> Write:
    first = span[0].address
    if run.area == "coil":
        packed = bytearray((len(span) + 7) // 8)
        for i, value in enumerate(given):
            if value:
                packed[i >> 3] |= 1 << (i & 7)
        head = struct.pack(">BHHB", 15, first, len(span), len(packed))
        return Write(run.unit, head + bytes(packed), tuple(span), first)
    data = b"".join(number_out(p, v) for p, v in zip(span, given, strict=True))
    head = struct.pack(">BHHB", 16, first, len(data) // 2, len(data))
    return Write(run.unit, head + data, tuple(span), first, data)


def combined(group: ReadGroup, write: Write) -> bytes | None:
    """Function 23: writes, then reads, in one request; None when the two do not go together."""
    words = len(write.registers) // 2
    if group.area != "holding" or group.unit != write.unit or not 0 < words <= MAX_COMBINED_WRITE:
        return None
    head = struct.pack(">BHHHHB", 23, group.address, group.count, write.address, words, len(write.registers))
    return head + write.registers


def data_of(pdu: bytes) -> bytes:
    """The data of an answer to a read."""
    if len(pdu) < 2 or pdu[1] != len(pdu) - 2:
        raise Malformed("the answer says another length than it has")
    return pdu[2:]


def confirm(request: bytes, answer: bytes) -> None:
    """Whether an answer confirms a write; raises Malformed."""
    wanted = request[:5]
    if answer[:5] != wanted:
        raise Malformed("the answer confirms another write")
