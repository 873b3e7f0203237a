"""Where everything lies: one contiguous state for the whole build, RETAIN part first.

    [ retained variables ][ header ][ %I ][ %Q ][ %M ][ globals ][ program instances ][ statics ]

The header holds what the host and the code exchange (scan time, fault record, loop budget). Offsets are
the same on every target. The initial image is made here, so `init` is one copy.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from vplc.compiler import typed
from vplc.compiler.model import Program
from vplc.compiler.source import UnsupportedError
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import (
    ArrayType,
    BlockType,
    Elementary,
    EnumType,
    InterfaceType,
    PointerType,
    StringType,
    StructType,
    SubrangeType,
    Type,
    align_up,
)

# Header fields, bytes from the header's start.
TIME_NS = 0
FAULT_SITE = 8
FAULT_A = 16
FAULT_B = 24
BUDGET = 32
BUDGET_LIMIT = 40
DEPTH = 48
TEXT_A = 64
TEXT_B = 320
HEADER_SIZE = 64
TEST_HEADER_SIZE = 576
LOOP_BUDGET = 50_000_000
# References are offsets into the state plus this: they survive a move of the state, fit 32 bits, keep
# their alignment, and 0 stays the null reference.
POINTER_BIAS = 4096
CHUNK_LIMIT = 160
BIG_LOCAL = 1024
MAX_STATE = 1 << 30  # beyond any controller's memory; keeps a typing error from taking the machine down


@dataclass(slots=True)
class Layout:
    """Sizes in bytes; `image` is the state after a cold start."""

    size: int = 0
    retain_size: int = 0
    header: int = 0
    inputs: tuple[int, int] = (0, 0)
    outputs: tuple[int, int] = (0, 0)
    memory: tuple[int, int] = (0, 0)
    image: bytes = b""
    roots: list[Variable] = field(default_factory=list)


_KEPT = frozenset({"input", "output", "local"})
_ADDRESS = re.compile(r"%([IQM])([XBWDL]?)(\d+(?:\.\d+)*)$")
_UNIT = {"X": 1, "": 1, "B": 1, "W": 2, "D": 4, "L": 8}


def parse_address(text: str) -> tuple[str, int, int] | None:
    """Area, byte and bit (-1: none) of %IX0.3, %QW4, ...; None for incomplete or hierarchical ones."""
    m = _ADDRESS.match(text)
    if m is None:
        return None
    parts = [int(p) for p in m.group(3).split(".")]
    size = m.group(2)
    if size in ("X", ""):
        if len(parts) == 2 and parts[1] < 8:
            return m.group(1), parts[0], parts[1]
        if len(parts) == 1:
            return m.group(1), parts[0] // 8, parts[0] % 8
        return None
    if len(parts) != 1 or parts[0] > 1 << 20:
        return None
    return m.group(1), parts[0] * _UNIT[size], -1


class Planner:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.layout = Layout()
        self.defaults: dict[int, bytes] = {}
        self.retains: dict[int, bool] = {}

    # -- types ---------------------------------------------------------------------------------------

    def lay(self, t: Type) -> None:
        """Fixes sizes and offsets of a type and all it contains."""
        if isinstance(t, ArrayType):
            self.lay(t.element)
            t.update()
        elif isinstance(t, StructType):
            self._struct(t)
        elif isinstance(t, BlockType):
            self._block(t)

    def _struct(self, t: StructType) -> None:
        if t.laid_out:
            return
        t.laid_out = True
        at, align = 0, 1
        for f in t.fields.values():
            self.lay(f.type)
            align = max(align, f.type.align)
            if t.union:
                f.offset = 0
                at = max(at, f.type.size)
            else:
                f.offset = align_up(at, f.type.align)
                at = f.offset + f.type.size
        t.align = align
        t.size = max(1, align_up(at, align))

    def _block(self, t: BlockType) -> None:
        if t.laid_out:
            return
        t.laid_out = True
        symbol = t.symbol
        at, align = 0, 8
        if symbol.extends and symbol.extends[0].type is not None:
            base = symbol.extends[0].type
            self._block(base)
            at = base.size
            t.members.extend(base.members)
        elif symbol.dispatched:
            at = 8
        if symbol.mocked:
            symbol.mock_offset = align_up(at, 4)
            at = symbol.mock_offset + 8
        for v in symbol.variables.values():
            if v.owner is not symbol or v.kind not in ("input", "output", "inout", "local") or v.storage == "static":
                continue
            v.storage = "instance"
            self.lay(v.type)
            size, alignment = v.type.size, v.type.align
            if v.kind == "inout":
                size, alignment = 8, 8
                if isinstance(v.type, ArrayType) and not v.type.dims:
                    size += 16 * v.type.stars
            v.offset = align_up(at, alignment)
            at = v.offset + size
            align = max(align, alignment)
            t.members.append(v)
        t.align = align
        t.size = max(align_up(at, align), align)

    def has_retain(self, t: Type) -> bool:
        if isinstance(t, ArrayType):
            return self.has_retain(t.element)
        if isinstance(t, BlockType):
            known = self.retains.get(id(t))
            if known is None:
                self.retains[id(t)] = False
                inside = [v for base in t.symbol.bases() for v in base.variables.values() if v.owner is base]
                inside = [v for v in inside if v.storage != "static"]
                known = any(v.retain or self.has_retain(v.type) for v in inside if v.kind in _KEPT)
                self.retains[id(t)] = known
            return known
        return False

    # -- the state -----------------------------------------------------------------------------------

    def plan(self) -> Layout:
        program = self.program
        self.dispatch()
        for symbol in program.pous:
            if symbol.type is not None:
                self.retained_program(symbol)
        for symbol in program.pous:
            if symbol.type is not None:
                self.lay(symbol.type)
        statics = list(program.statics)
        for symbol in [*program.pous, *program.tests]:
            statics.extend(self.local_storage(symbol))
            for inner in [*symbol.methods.values(), *symbol.actions.values()]:
                statics.extend(self.local_storage(inner))
        roots = [v for v in program.globals if not (v.constant and isinstance(v.value, (int, float)))]
        folded = [v for v in program.globals if v.constant and isinstance(v.value, (int, float))]
        instances: list[Variable] = []
        for one in program.instances:
            if isinstance(one.init, Variable):
                instances.append(one.init)
        others = [
            s.result_variable
            for s in program.pous
            if s.kind == "PROGRAM" and s.result_variable is not None and s.result_variable not in instances
        ]
        instances.extend(others)
        for v in [*roots, *folded, *instances, *statics]:
            self.lay(v.type)
        located = [v for v in [*roots, *statics] if v.address and self.locate(v)]
        located_ids = {id(v) for v in located}
        plain = [v for v in [*roots, *folded] if id(v) not in located_ids]
        statics = [v for v in statics if id(v) not in located_ids]
        layout = self.layout
        at = 0
        retained = [v for v in [*plain, *instances, *statics] if v.retain or self.has_retain(v.type)]
        retained_ids = {id(v) for v in retained}
        for v in retained:
            at = self.put(v, at)
        layout.retain_size = at
        layout.header = at = align_up(at, 16)
        at += TEST_HEADER_SIZE if program.testing else HEADER_SIZE
        at = self.areas(located, at)
        for group in (plain, instances, statics):
            for v in group:
                if id(v) not in retained_ids:
                    at = self.put(v, at)
        for symbol in program.pous:
            if symbol.mocked and symbol.kind == "FUNCTION":
                at = align_up(at, 8)
                symbol.mock_offset = at
                at += 16 + (symbol.result.size if symbol.result is not None else 0)
        layout.size = align_up(at + 8, 16)
        layout.roots = [*plain, *located, *instances, *statics]
        for one in program.instances:
            if isinstance(one.init, Variable):
                one.offset = one.init.offset
        if layout.size > MAX_STATE:
            raise UnsupportedError(
                f"the variables need {layout.size} bytes; at most {MAX_STATE >> 20} MB are supported"
            )
        layout.image = self.image()
        return layout

    def put(self, v: Variable, at: int) -> int:
        v.offset = align_up(at, max(v.type.align, 1))
        v.storage = "static"
        return v.offset + v.type.size

    def retained_program(self, symbol: PouSymbol) -> None:
        """RETAIN variables of a program with one instance go to the retained part; located variables to
        their area, which all instances share."""
        count = sum(1 for i in self.program.instances if i.program is symbol)
        for v in symbol.variables.values():
            if v.owner is not symbol or v.kind not in ("local", "output", "input") or v.storage == "static":
                continue
            single = symbol.kind == "PROGRAM" and count <= 1
            if ((v.retain or self.has_retain(v.type)) and single) or (
                v.address and parse_address(v.address) is not None
            ):
                v.storage = "static"
                self.program.statics.append(v)

    def dispatch(self) -> None:
        """Blocks whose instances must know their type at run time: those with methods or heirs."""
        numbers = 1
        for symbol in self.program.pous:
            if symbol.kind not in ("FUNCTION_BLOCK", "CLASS"):
                continue
            if symbol.methods or symbol.extends or symbol.implements:
                for base in symbol.bases():
                    base.dispatched = True
        for symbol in self.program.pous:
            if symbol.dispatched:
                symbol.type_id = numbers
                numbers += 1

    def local_storage(self, symbol: PouSymbol) -> list[Variable]:
        """Locals that need a fixed place: pointed at, big, or used by outlined parts of a body."""
        out: list[Variable] = []
        block = symbol.kind in ("FUNCTION_BLOCK", "PROGRAM", "CLASS")
        symbol.chunked = symbol.kind in ("FUNCTION_BLOCK", "PROGRAM", "ACTION") and weight(symbol.body) > CHUNK_LIMIT
        for v in symbol.variables.values():
            if v.owner is not symbol or v.storage != "stack":
                continue
            if block and v.kind != "temp":
                continue
            if v.kind == "inout":
                v.storage = "param"
                continue
            self.lay(v.type)
            if v.kind in ("result", "output", "input") and symbol.kind in ("FUNCTION", "METHOD"):
                if v.taken and not symbol.unchecked and v.kind != "output":
                    v.storage = "static"
                    v.hidden = True
                    out.append(v)
                continue
            if symbol.kind == "TEST" or (v.taken and not symbol.unchecked) or v.type.size > BIG_LOCAL or symbol.chunked:
                v.storage = "static"
                v.hidden = symbol.kind != "TEST"
                out.append(v)
        return out

    def locate(self, v: Variable) -> bool:
        where = parse_address(v.address)
        if where is None:
            return False
        base = v.type.base
        return where[2] < 0 or (isinstance(base, Elementary) and base.group == "bool")

    def areas(self, located: list[Variable], at: int) -> int:
        spans = {"I": 0, "Q": 0, "M": 0}
        for v in located:
            where = parse_address(v.address)
            assert where is not None
            spans[where[0]] = max(spans[where[0]], where[1] + (1 if where[2] >= 0 else v.type.size))
        starts: dict[str, int] = {}
        for area in "IQM":
            at = align_up(at, 8)
            starts[area] = at
            at += align_up(spans[area], 8)
        layout = self.layout
        layout.inputs = (starts["I"], spans["I"])
        layout.outputs = (starts["Q"], spans["Q"])
        layout.memory = (starts["M"], spans["M"])
        for v in located:
            where = parse_address(v.address)
            assert where is not None
            v.storage = "static"
            v.offset = starts[where[0]] + where[1]
            v.bit = where[2]
        return at

    # -- the initial image ---------------------------------------------------------------------------

    def image(self) -> bytes:
        buffer = bytearray(self.layout.size)
        struct.pack_into("<q", buffer, self.layout.header + BUDGET_LIMIT, LOOP_BUDGET)
        for v in self.layout.roots:
            if v.bit >= 0:
                if v.init:
                    buffer[v.offset] |= 1 << v.bit
                continue
            self.write(buffer, v.offset, v.type, v.init)
        return bytes(buffer)

    def default(self, t: Type) -> bytes:
        """The bytes of a variable without its own initial value."""
        known = self.defaults.get(id(t))
        if known is not None:
            return known
        buffer = bytearray(t.size)
        if isinstance(t, ArrayType):
            one = self.default(t.element)
            if any(one):
                buffer[:] = one * t.count
        elif isinstance(t, StructType):
            for f in t.fields.values():
                if t.union and f.init is None:
                    continue
                self.write(buffer, f.offset, f.type, f.init)
        elif isinstance(t, BlockType):
            for v in t.members:
                if v.kind != "inout":
                    self.write(buffer, v.offset, v.type, v.init)
            if t.symbol.dispatched:
                struct.pack_into("<I", buffer, 0, t.symbol.type_id)
        elif isinstance(t, EnumType):
            buffer[:] = scalar_bytes(t, t.default)
        elif isinstance(t, SubrangeType) and not t.low <= 0 <= t.high:
            buffer[:] = scalar_bytes(t, t.low)
        result = bytes(buffer)
        self.defaults[id(t)] = result
        return result

    def write(self, buffer: bytearray, at: int, t: Type, value: object) -> None:
        """The initial value of one variable into the image."""
        if isinstance(t, ArrayType):
            if isinstance(value, dict):
                buffer[at : at + t.size] = self.default(t)
                step = t.element.size
                for index, item in value.items():
                    self.write(buffer, at + index * step, t.element, item)
                return
        elif isinstance(t, StructType):
            if isinstance(value, dict):
                if not t.union:
                    buffer[at : at + t.size] = self.default(t)
                for name, item in value.items():
                    f = t.fields[name]
                    self.write(buffer, at + f.offset, f.type, item)
                return
        elif isinstance(t, BlockType):
            if isinstance(value, dict):
                buffer[at : at + t.size] = self.default(t)
                for name, item in value.items():
                    v = t.symbol.find_member(name)
                    if v is not None and v.storage == "instance":
                        self.write(buffer, at + v.offset, v.type, item)
                return
        elif isinstance(t, StringType):
            if isinstance(value, str):
                data = string_bytes(value, t)
                buffer[at : at + len(data)] = data
                return
        elif isinstance(value, (typed.AddressOf, typed.Convert)):
            data = scalar_bytes(t, self.reference(value))
            buffer[at : at + len(data)] = data
            return
        elif isinstance(value, (int, float)):
            data = scalar_bytes(t, value)
            buffer[at : at + len(data)] = data
            return
        if t.size:
            buffer[at : at + t.size] = self.default(t)

    def reference(self, value: typed.Expr) -> int:
        """A reference to a global as the number that stands for it."""
        while isinstance(value, typed.Convert):
            value = value.operand
        assert isinstance(value, typed.AddressOf)
        return self.offset_of(value.place) + POINTER_BIAS

    def offset_of(self, place: typed.Expr) -> int:
        if isinstance(place, typed.VariablePlace):
            return place.variable.offset
        if isinstance(place, typed.MemberPlace):
            base = place.base.type
            inside = place.variable.offset if place.variable is not None else 0
            if isinstance(base, StructType):
                inside = base.fields[place.path].offset
            elif place.variable is not None and place.variable.storage == "static":
                return inside
            return self.offset_of(place.base) + inside
        assert isinstance(place, typed.IndexPlace)
        t = place.base.type
        assert isinstance(t, ArrayType)
        flat = 0
        for (low, high), index in zip(t.dims, place.indices, strict=True):
            assert isinstance(index, typed.Const)
            flat = flat * (high - low + 1) + int(index.value) - low
        return self.offset_of(place.base) + flat * t.element.size


def string_bytes(value: str, t: StringType) -> bytes:
    """The code units of a string with its ending zero, cut at the declared length."""
    value = value[: t.length].split("\0")[0]
    if t.wide:
        units = [min(ord(c), 0xFFFF) for c in value]
        return struct.pack(f"<{len(units) + 1}H", *units, 0)
    return bytes(min(ord(c), 255) for c in value) + b"\0"


_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}


def scalar_bytes(t: Type, value: int | float) -> bytes:
    base = t.base
    if isinstance(base, Elementary) and base.group == "real":
        if base.size == 4:
            try:
                return struct.pack("<f", value)
            except OverflowError:
                return struct.pack("<f", float("inf") if value > 0 else float("-inf"))
        return struct.pack("<d", value)
    size = base.size if isinstance(base, (Elementary, PointerType, InterfaceType)) else 8
    return struct.pack("<" + _FORMATS[size], int(value) & ((1 << size * 8) - 1))


def weight(body: list[object]) -> int:
    """About how many statements a body has."""
    total = 0
    for s in body:
        total += 1
        if isinstance(s, (typed.If, typed.Case)):
            for _, inner in s.branches:
                total += weight(list(inner))
            total += weight(list(s.otherwise))
        elif isinstance(s, (typed.For, typed.While, typed.Repeat)):
            total += weight(list(s.body))
    return total


def plan(program: Program) -> Layout:
    """Fixes all offsets. Call once, after checking and before code generation."""
    return Planner(program).plan()
