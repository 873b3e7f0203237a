"""Reading and writing variables of a state by path, and how values look as text and JSON."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass

from vplc.compiler.build import find_instance
from vplc.compiler.layout import Layout, parse_address, scalar_bytes, string_bytes
from vplc.compiler.lexer import clock_ns, date_ns, decode_string, duration_ns, stamp_ns
from vplc.compiler.model import Program, ProgramInstance
from vplc.compiler.source import nearest
from vplc.compiler.symbols import Variable
from vplc.compiler.types import (
    ELEMENTARY,
    ArrayType,
    BlockType,
    Elementary,
    EnumType,
    StringType,
    StructType,
    SubrangeType,
    Type,
)

Json = bool | int | float | str | None | list["Json"] | dict[str, "Json"]


class PathError(Exception):
    """A path or value that does not exist in this program; the message says what would."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a variable lies in the state. Offsets in bytes; bit is -1 for whole bytes."""

    type: Type
    offset: int
    bit: int = -1


_STEP = re.compile(r"\s*(?:\.?([A-Za-z_][A-Za-z_0-9]*)|\[([^\]]*)\]|\.(\d+)|(%[A-Za-z]+[\d.]+))")


def _direct(program: Program, areas: Layout, address: str, path: str) -> Spot:
    """A direct address such as %IW4."""
    where = parse_address(address)
    spans = {"I": areas.inputs, "Q": areas.outputs, "M": areas.memory}
    if where is None:
        raise PathError(f"{path}: {address} is not an address")
    area, byte, bit = where
    start, size = spans[area]
    kind = address[2] if address[2].isalpha() else "X"
    t = ELEMENTARY[{"X": "BOOL", "B": "BYTE", "W": "WORD", "D": "DWORD", "L": "LWORD"}[kind]]
    if byte + t.size > size:
        raise PathError(f"{path}: the program uses {size} bytes of %{area}")
    return Spot(t, start + byte, bit)


def find(program: Program, instance: ProgramInstance, path: str, areas: Layout) -> Spot:
    """The place of `path`: inside the program first, then among the globals. Raises PathError."""
    at = 0
    spot: Spot | None = None
    text = path.strip()
    while at < len(text):
        m = _STEP.match(text, at)
        if m is None:
            raise PathError(f"{path}: cannot read {text[at:]!r}")
        at = m.end()
        name, index, bit, address = m.groups()
        if spot is None:
            if address:
                spot = _direct(program, areas, address.upper(), path)
                continue
            if not name:
                raise PathError(f"{path}: a path begins with a name")
            spot, text, at = _root(program, instance, name, path, text, at)
        elif name:
            spot = _member(spot, name, path)
        elif bit is not None:
            spot = _bit(spot, int(bit), path)
        else:
            spot = _element(spot, index or "", path)
    if spot is None:
        raise PathError(f"{path!r} is empty")
    return spot


def _variable(v: Variable, base: int) -> Spot:
    if v.storage == "instance":
        return Spot(v.type, base + v.offset, v.bit)
    return Spot(v.type, v.offset, v.bit)


def _root(
    program: Program, instance: ProgramInstance, name: str, path: str, text: str, at: int
) -> tuple[Spot, str, int]:
    upper = name.upper()
    v = instance.program.find_member(upper)
    if v is not None and v.kind not in ("temp", "inout") and (v.offset >= 0 or v.storage == "static"):
        return _variable(v, instance.offset), text, at
    found = program.scope.find(upper)
    if isinstance(found, Variable) and found.offset >= 0:
        return _variable(found, 0), text, at
    m = re.match(r"\.([A-Za-z_]\w*)", text[at:])
    if m is not None:
        inner = program.scope.find(f"{upper}.{m.group(1).upper()}")
        if isinstance(inner, Variable) and inner.offset >= 0:
            return _variable(inner, 0), text, at + m.end()
    other = find_instance(program, name)
    if other is not None and other.program.type is not None:
        return Spot(other.program.type, other.offset), text, at
    known = [x.name for x in instance.program.variables.values()] + [g.name for g in program.globals]
    hint = nearest(name, known)
    raise PathError(
        f'{path}: no variable "{name}" in {instance.name} or among the globals' + (f" - {hint}" if hint else "")
    )


def _member(spot: Spot, name: str, path: str) -> Spot:
    t = spot.type
    if isinstance(t, StructType):
        f = t.fields.get(name.upper())
        if f is not None:
            return Spot(f.type, spot.offset + f.offset)
        raise PathError(f"{path}: {t.name} has no field {name} - {nearest(name, (x.name for x in t.fields.values()))}")
    if isinstance(t, BlockType):
        v = t.symbol.find_member(name.upper())
        if v is not None and v.kind not in ("temp", "inout") and v.offset >= 0:
            return _variable(v, spot.offset)
        raise PathError(
            f"{path}: {t.name} has no variable {name} - " + nearest(name, (x.name for x in t.symbol.variables.values()))
        )
    raise PathError(f"{path}: {t.name} has no members")


def _element(spot: Spot, index: str, path: str) -> Spot:
    t = spot.type
    if not isinstance(t, ArrayType):
        raise PathError(f"{path}: {t.name} is not an array")
    try:
        parts = [int(p) for p in index.split(",")]
    except ValueError:
        raise PathError(f"{path}: {index!r} is not an index") from None
    if len(parts) != len(t.dims):
        raise PathError(f"{path}: {t.name} has {len(t.dims)} dimensions")
    flat = 0
    for value, (low, high) in zip(parts, t.dims, strict=True):
        if not low <= value <= high:
            raise PathError(f"{path}: index {value} lies outside {low}..{high}")
        flat = flat * (high - low + 1) + value - low
    return Spot(t.element, spot.offset + flat * t.element.size)


def _bit(spot: Spot, bit: int, path: str) -> Spot:
    base = spot.type.base
    if not isinstance(base, Elementary) or bit >= base.bits:
        raise PathError(f"{path}: there is no bit {bit}")
    from vplc.compiler.types import BOOL

    return Spot(BOOL, spot.offset + bit // 8, bit % 8)


# -- reading -----------------------------------------------------------------------------------------


def raw_scalar(memory: memoryview | bytes | bytearray, t: Type, offset: int) -> int | float:
    base = t.base
    if isinstance(base, Elementary) and base.group == "real":
        number = struct.unpack_from("<f" if base.size == 4 else "<d", memory, offset)[0]
        return float(number)
    size = base.size
    sign = isinstance(base, Elementary) and base.signed
    return int.from_bytes(bytes(memory[offset : offset + size]), "little", signed=sign)


def read(memory: memoryview | bytes | bytearray, spot: Spot) -> Json:
    """The value as JSON: TIME and dates as their literals, enumerations by name."""
    t = spot.type
    if spot.bit >= 0:
        return bool(memory[spot.offset] >> spot.bit & 1)
    if isinstance(t, ArrayType):
        step = t.element.size
        flat: list[Json] = [read(memory, Spot(t.element, spot.offset + i * step)) for i in range(t.count)]
        for low, high in reversed(t.dims[1:]):
            span = high - low + 1
            flat = [flat[i : i + span] for i in range(0, len(flat), span)]
        return flat
    if isinstance(t, StructType):
        return {f.name: read(memory, Spot(f.type, spot.offset + f.offset)) for f in t.fields.values()}
    if isinstance(t, BlockType):
        return {
            v.name: read(memory, _variable(v, spot.offset))
            for v in t.members
            if not v.name.startswith("__") and v.kind != "inout"
        }
    if isinstance(t, StringType):
        data = bytes(memory[spot.offset : spot.offset + t.size])
        if t.wide:
            units = struct.unpack(f"<{len(data) // 2}H", data)
            text = "".join(chr(u) for u in units)
        else:
            text = data.decode("latin-1")
        return text.split("\0", 1)[0]
    return show(t, raw_scalar(memory, t, spot.offset))


def show(t: Type, value: int | float) -> Json:
    """One scalar as JSON."""
    if isinstance(t, EnumType):
        for upper, number in t.members.items():
            if number == value:
                return t.display[upper]
        return int(value)
    base = t.base
    if not isinstance(base, Elementary):
        return int(value)
    if base.group == "bool":
        return bool(value)
    if base.group == "real":
        real = float(value)
        if math.isnan(real) or math.isinf(real):
            return str(real)
        if base.size == 4:
            for digits in range(6, 10):
                shorter = float(f"{real:.{digits}g}")
                if struct.pack("<f", shorter) == struct.pack("<f", real):
                    return shorter
        return real
    if base.group == "char":
        return chr(int(value))
    long = "L" if base.long else ""
    if base.group == "time":
        return duration_text(int(value), long)
    if base.group == "date":
        return f"{'LDATE' if long else 'D'}#{date_text(int(value))}"
    if base.group == "tod":
        return f"{long}TOD#{clock_text(int(value))}"
    if base.group == "dt":
        day = int(value) // _DAY * _DAY
        return f"{long}DT#{date_text(day)}-{clock_text(int(value) - day)}"
    return int(value)


_DAY = 86_400_000_000_000


def duration_text(ns: int, long: str = "") -> str:
    """`T#1s500ms`, as TIME_TO_STRING writes it."""
    word = "LTIME" if long else "T"
    if ns == 0:
        return f"{word}#0ms"
    sign, rest, out = "-" if ns < 0 else "", abs(ns), ""
    for unit, size in (
        ("d", _DAY),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ):
        if rest >= size:
            out += f"{rest // size}{unit}"
            rest %= size
    return f"{word}#{sign}{out}"


def date_text(ns: int) -> str:
    z = ns // _DAY + 719_468
    era = z // 146_097
    doe = z - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    return f"{yoe + era * 400 + (month <= 2):04d}-{month:02d}-{doy - (153 * mp + 2) // 5 + 1:02d}"


def clock_text(ns: int) -> str:
    text = f"{ns // 3_600_000_000_000:02d}:{ns // 60_000_000_000 % 60:02d}:{ns // 1_000_000_000 % 60:02d}"
    rest = ns % 1_000_000_000
    if rest:
        text += "." + (
            f"{rest // 1_000_000:03d}"
            if rest % 1_000_000 == 0
            else f"{rest // 1000:06d}"
            if rest % 1000 == 0
            else f"{rest:09d}"
        )
    return text


# -- writing -----------------------------------------------------------------------------------------


def write(memory: bytearray | memoryview, spot: Spot, text: str) -> None:
    """Stores the value written as `text`. Raises PathError when it is none of the type."""
    t = spot.type
    if isinstance(t, StringType):
        body = text
        if len(body) >= 2 and body[0] == body[-1] and body[0] in "'\"":
            body = decode_string(body[1:-1], t.wide) or ""
        data = string_bytes(body, t)
        memory[spot.offset : spot.offset + len(data)] = data
        return
    value = parse_scalar(t, text.strip())
    if spot.bit >= 0:
        memory[spot.offset] = memory[spot.offset] & ~(1 << spot.bit) & 255 | (int(bool(value)) << spot.bit)
        return
    data = scalar_bytes(t, value)
    memory[spot.offset : spot.offset + len(data)] = data


def parse_scalar(t: Type, text: str) -> int | float:
    """A scalar of type `t` from its literal; raises PathError."""
    base = t.base
    if not isinstance(base, Elementary):
        raise PathError(f"a {t.name} cannot be set from text")
    body = text
    if isinstance(t, EnumType):
        name = text.rpartition("#")[2].rpartition(".")[2].upper()
        if name in t.members:
            return t.members[name]
    elif (
        "#" in text and text.partition("#")[0].upper() == base.name and base.group not in ("time", "date", "tod", "dt")
    ):
        body = text.partition("#")[2]
    try:
        if base.group == "bool":
            if body.upper() in ("TRUE", "FALSE", "1", "0"):
                return int(body.upper() in ("TRUE", "1"))
            raise ValueError
        if base.group == "real":
            return float(body.replace("_", ""))
        if base.group == "char":
            return ord(body.strip("'\""))
        if base.group in ("time", "date", "tod", "dt"):
            inner = body.partition("#")[2] if "#" in body else body
            parser = {"time": duration_ns, "date": date_ns, "tod": clock_ns, "dt": stamp_ns}[base.group]
            got = parser(inner)
            if got is None:
                raise ValueError
            return got
        sign = -1 if body.startswith("-") else 1
        digits = body.lstrip("+-").replace("_", "")
        radix, sep, rest = digits.partition("#")
        value = sign * (int(rest, int(radix)) if sep else int(digits))
    except (ValueError, TypeError, KeyError):
        raise PathError(f"{text!r} is not a value of {t.name}") from None
    low, high = getattr(t, "low", base.low), getattr(t, "high", base.high)
    if isinstance(t, SubrangeType):
        low, high = t.low, t.high
    if not low <= value <= high:
        raise PathError(f"{text} does not fit {t.name} ({low}..{high})")
    return value


__all__ = ["Json", "PathError", "Spot", "find", "read", "write"]
