"""The types of the language, their sizes, and which converts to which without being told.

Sizes and offsets are the same on every target: addresses are stored as 64-bit numbers, integers
little-endian, strings as zero-ended arrays of code units (CODESYS' layout, which pointer code relies on).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vplc.compiler.symbols import PouSymbol, Variable

DEFAULT_STRING = 80
MAX_STRING = 65_535


class Type:
    """Base of all types; `size` and `align` in bytes."""

    name: str
    size: int
    align: int

    def __str__(self) -> str:
        return self.name

    @property
    def base(self) -> Type:
        """The type without subrange or enumeration around it."""
        return self


@dataclass(eq=False)
class Elementary(Type):
    """group: bool bits int uint real time date tod dt char null void any_int any_real"""

    name: str
    group: str
    size: int
    long: bool = False

    def __post_init__(self) -> None:
        self.align = max(1, self.size)

    @property
    def bits(self) -> int:
        return 1 if self.group == "bool" else self.size * 8

    @property
    def signed(self) -> bool:
        return self.group in ("int", "time", "date", "tod", "dt", "any_int")

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def is_integer(self) -> bool:
        return self.group in ("int", "uint", "any_int")

    @property
    def is_bits(self) -> bool:
        return self.group in ("bool", "bits")

    @property
    def is_discrete(self) -> bool:
        """Held as an integer in the machine."""
        return self.group not in ("real", "any_real", "void")


def _elementary() -> dict[str, Elementary]:
    table: dict[str, Elementary] = {}
    rows = [
        ("BOOL", "bool", 1),
        ("BYTE", "bits", 1),
        ("WORD", "bits", 2),
        ("DWORD", "bits", 4),
        ("LWORD", "bits", 8),
        ("SINT", "int", 1),
        ("INT", "int", 2),
        ("DINT", "int", 4),
        ("LINT", "int", 8),
        ("USINT", "uint", 1),
        ("UINT", "uint", 2),
        ("UDINT", "uint", 4),
        ("ULINT", "uint", 8),
        ("REAL", "real", 4),
        ("LREAL", "real", 8),
        ("CHAR", "char", 1),
        ("WCHAR", "char", 2),
        ("TIME", "time", 8),
        ("DATE", "date", 8),
        ("TIME_OF_DAY", "tod", 8),
        ("DATE_AND_TIME", "dt", 8),
    ]
    for name, group, size in rows:
        table[name] = Elementary(name, group, size)
    for name, group in (("LTIME", "time"), ("LDATE", "date"), ("LTIME_OF_DAY", "tod"), ("LDATE_AND_TIME", "dt")):
        table[name] = Elementary(name, group, 8, long=True)
    table["TOD"] = table["TIME_OF_DAY"]
    table["DT"] = table["DATE_AND_TIME"]
    table["LTOD"] = table["LTIME_OF_DAY"]
    table["LDT"] = table["LDATE_AND_TIME"]
    table["LD"] = table["LDATE"]
    table["TIME_OF_DAY"].name = "TOD"
    table["DATE_AND_TIME"].name = "DT"
    table["LTIME_OF_DAY"].name = "LTOD"
    table["LDATE_AND_TIME"].name = "LDT"
    return table


ELEMENTARY = _elementary()
BOOL, BYTE, WORD, DWORD, LWORD = (ELEMENTARY[n] for n in ("BOOL", "BYTE", "WORD", "DWORD", "LWORD"))
SINT, INT, DINT, LINT = (ELEMENTARY[n] for n in ("SINT", "INT", "DINT", "LINT"))
USINT, UINT, UDINT, ULINT = (ELEMENTARY[n] for n in ("USINT", "UINT", "UDINT", "ULINT"))
REAL, LREAL, CHAR, WCHAR = (ELEMENTARY[n] for n in ("REAL", "LREAL", "CHAR", "WCHAR"))
TIME, LTIME, DATE, TOD, DT = (ELEMENTARY[n] for n in ("TIME", "LTIME", "DATE", "TOD", "DT"))
LDATE, LTOD, LDT = (ELEMENTARY[n] for n in ("LDATE", "LTOD", "LDT"))
VOID = Elementary("no value", "void", 0)
ANY_INT = Elementary("integer literal", "any_int", 8)
ANY_REAL = Elementary("real literal", "any_real", 8)
NULL = Elementary("NULL", "null", 8)
BY_WIDTH = {
    "int": (SINT, INT, DINT, LINT),
    "uint": (USINT, UINT, UDINT, ULINT),
    "bits": (BYTE, WORD, DWORD, LWORD),
}


@dataclass(eq=False)
class StringType(Type):
    length: int
    wide: bool = False

    def __post_init__(self) -> None:
        self.unit = 2 if self.wide else 1
        self.size = (self.length + 1) * self.unit
        self.align = self.unit
        self.name = f"{'W' if self.wide else ''}STRING[{self.length}]"


@dataclass(eq=False)
class ErrorType(Type):
    """Stands for what could not be understood; converts to anything silently."""

    name: str = "unknown"
    size: int = 8
    align: int = 8


ERROR = ErrorType()


@dataclass(eq=False)
class EnumType(Type):
    name: str
    underlying: Elementary = INT
    members: dict[str, int] = field(default_factory=dict)
    display: dict[str, str] = field(default_factory=dict)
    default: int = 0

    @property
    def size(self) -> int:  # type: ignore[override]  # follows the underlying type
        return self.underlying.size

    @property
    def align(self) -> int:  # type: ignore[override]  # follows the underlying type
        return self.underlying.align

    @property
    def base(self) -> Type:
        return self.underlying


@dataclass(eq=False)
class SubrangeType(Type):
    name: str
    of: Elementary
    low: int
    high: int

    def __post_init__(self) -> None:
        self.size, self.align = self.of.size, self.of.align

    @property
    def base(self) -> Type:
        return self.of


@dataclass(eq=False)
class ArrayType(Type):
    """`dims` is empty for ARRAY[*]: `stars` then says how many dimensions."""

    element: Type
    dims: tuple[tuple[int, int], ...]
    stars: int = 0

    def __post_init__(self) -> None:
        self.update()

    def update(self) -> None:
        count = 1
        for low, high in self.dims:
            count *= max(0, high - low + 1)
        self.count = count
        self.size = count * self.element.size
        self.align = self.element.align
        inner = ",".join(f"{a}..{b}" for a, b in self.dims) or ",".join("*" * self.stars)
        self.name = f"ARRAY[{inner}] OF {self.element.name}"


@dataclass(eq=False)
class Field:
    name: str
    type: Type
    offset: int = 0
    init: object = None


@dataclass(eq=False)
class StructType(Type):
    name: str
    fields: dict[str, Field] = field(default_factory=dict)
    union: bool = False
    laid_out: bool = False

    def __post_init__(self) -> None:
        self.size, self.align = 0, 1


@dataclass(eq=False)
class PointerType(Type):
    """kind: POINTER (arithmetic allowed), REF_TO (dereferenced with ^), REFERENCE (dereferenced silently)."""

    kind: str
    target: Type

    def __post_init__(self) -> None:
        self.size = self.align = 8

    @property
    def name(self) -> str:  # type: ignore[override]  # made from the target, which may be named later
        word = {"POINTER": "POINTER TO", "REF_TO": "REF_TO", "REFERENCE": "REFERENCE TO"}[self.kind]
        return f"{word} {self.target.name}"


@dataclass(eq=False)
class InterfaceType(Type):
    name: str
    symbol: PouSymbol

    def __post_init__(self) -> None:
        self.size = self.align = 8


@dataclass(eq=False)
class BlockType(Type):
    """A function block, class or program as the type of an instance."""

    name: str
    symbol: PouSymbol
    members: list[Variable] = field(default_factory=list)
    laid_out: bool = False

    def __post_init__(self) -> None:
        self.size, self.align = 0, 1


def align_up(offset: int, align: int) -> int:
    return (offset + align - 1) & -align


def strip(t: Type) -> Type:
    """Without subrange and enumeration."""
    return t.base


def is_scalar(t: Type) -> bool:
    return isinstance(t.base, (Elementary, PointerType, InterfaceType)) and t.base is not VOID


def is_aggregate(t: Type) -> bool:
    return isinstance(t, (StringType, ArrayType, StructType, BlockType))


_IMPLICIT: dict[str, tuple[str, ...]] = {
    "SINT": ("INT", "DINT", "LINT", "REAL", "LREAL"),
    "INT": ("DINT", "LINT", "REAL", "LREAL"),
    "DINT": ("LINT", "LREAL"),
    "LINT": (),
    "USINT": ("UINT", "UDINT", "ULINT", "INT", "DINT", "LINT", "REAL", "LREAL"),
    "UINT": ("UDINT", "ULINT", "DINT", "LINT", "REAL", "LREAL"),
    "UDINT": ("ULINT", "LINT", "LREAL"),
    "REAL": ("LREAL",),
    "BOOL": ("BYTE", "WORD", "DWORD", "LWORD"),
    "BYTE": ("WORD", "DWORD", "LWORD"),
    "WORD": ("DWORD", "LWORD"),
    "DWORD": ("LWORD",),
    "TIME": ("LTIME",),
    "DATE": ("LDATE",),
    "TOD": ("LTOD",),
    "DT": ("LDT",),
}


def widens(source: Elementary, target: Elementary) -> bool:
    """Whether the standard converts `source` to `target` implicitly (figure 11 of the third edition)."""
    return source is target or target.name in _IMPLICIT.get(source.name, ())


_ORDER = (
    "SINT",
    "USINT",
    "INT",
    "UINT",
    "DINT",
    "UDINT",
    "LINT",
    "ULINT",
    "REAL",
    "LREAL",
    "BOOL",
    "BYTE",
    "WORD",
    "DWORD",
    "LWORD",
    "TIME",
    "LTIME",
    "DATE",
    "LDATE",
    "TOD",
    "LTOD",
    "DT",
    "LDT",
)


def common(a: Elementary, b: Elementary) -> Elementary | None:
    """The smallest type both widen to, or None."""
    if widens(a, b):
        return b
    if widens(b, a):
        return a
    for name in _ORDER:
        candidate = ELEMENTARY[name]
        if widens(a, candidate) and widens(b, candidate):
            return candidate
    return None


def same(a: Type, b: Type) -> bool:
    """Structural identity, as far as the language knows it."""
    if a is b or a is ERROR or b is ERROR:
        return True
    if isinstance(a, ArrayType) and isinstance(b, ArrayType):
        return a.dims == b.dims and a.stars == b.stars and same(a.element, b.element)
    if isinstance(a, PointerType) and isinstance(b, PointerType):
        return same(a.target, b.target)
    if isinstance(a, StringType) and isinstance(b, StringType):
        return a.wide == b.wide and a.length == b.length
    if isinstance(a, SubrangeType) and isinstance(b, SubrangeType):
        return a.of is b.of and a.low == b.low and a.high == b.high
    return False
