"""The typed tree: every name resolved, every conversion explicit, constants folded.

Made by `check`, read by `codegen`. A `Place` is something that can be written; `Expr.span` is a byte
offset into the POU's source, for fault sites.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import BlockType, Type


@dataclass(slots=True, eq=False)
class Expr:
    type: Type
    start: int


@dataclass(slots=True, eq=False)
class Const(Expr):
    """value: int, float, or str"""

    value: int | float | str


@dataclass(slots=True, eq=False)
class Place(Expr):
    pass


@dataclass(slots=True, eq=False)
class VariablePlace(Place):
    variable: Variable


@dataclass(slots=True, eq=False)
class SelfPlace(Place):
    """The running instance (THIS^)."""


@dataclass(slots=True, eq=False)
class MemberPlace(Place):
    """A field of a structure or a variable of an instance, `offset` bytes into `base`."""

    base: Expr
    offset: int
    tag: str
    variable: Variable | None = None
    path: str = ""


@dataclass(slots=True, eq=False)
class IndexPlace(Place):
    base: Expr
    indices: list[Expr]
    star: Variable | None = None


@dataclass(slots=True, eq=False)
class DerefPlace(Place):
    """What a pointer points at; `index` elements further for `p[i]`."""

    pointer: Expr
    index: Expr | None = None


@dataclass(slots=True, eq=False)
class BitPlace(Place):
    """`width` bits from `bit` of an integer place (1 for x.7; 8, 16, 32 for x.%B1)."""

    base: Expr
    bit: int
    width: int = 1


@dataclass(slots=True, eq=False)
class CharPlace(Place):
    """s[i]: a code unit of a string (CODESYS counts from 0)."""

    base: Expr
    index: Expr
    origin: int


@dataclass(slots=True, eq=False)
class ValuePlace(Place):
    """A temporary that holds an aggregate result."""

    value: Expr


@dataclass(slots=True, eq=False)
class PropertyPlace(Place):
    """A property: read and written through its accessors."""

    base: Expr | None
    getter: PouSymbol | None
    setter: PouSymbol | None
    virtual: bool
    block: PouSymbol


@dataclass(slots=True, eq=False)
class Unary(Expr):
    """op: NEG NOT"""

    op: str
    operand: Expr


@dataclass(slots=True, eq=False)
class Binary(Expr):
    """op: + - * / MOD AND OR XOR, both operands of the result's type."""

    op: str
    left: Expr
    right: Expr


@dataclass(slots=True, eq=False)
class Compare(Expr):
    op: str
    left: Expr
    right: Expr


@dataclass(slots=True, eq=False)
class Logic(Expr):
    """AND or OR of which the right side is evaluated only when needed."""

    op: str
    left: Expr
    right: Expr


@dataclass(slots=True, eq=False)
class Convert(Expr):
    """mode: `wrap` keeps the low bits, `check` faults out of range, `trunc` rounds toward zero first."""

    operand: Expr
    mode: str


@dataclass(slots=True, eq=False)
class AddressOf(Expr):
    place: Expr


@dataclass(slots=True, eq=False)
class PointerAdd(Expr):
    """Pointer plus a number of bytes."""

    pointer: Expr
    offset: Expr


@dataclass(slots=True, eq=False)
class ToInterface(Expr):
    """An instance as an interface value: its address."""

    place: Expr


@dataclass(slots=True, eq=False)
class Intrinsic(Expr):
    """A function the code generator knows: see codegen.intrinsics."""

    name: str
    args: list[Expr]


@dataclass(slots=True, eq=False)
class Call(Expr):
    """A FUNCTION or METHOD call; `args` is parallel to the callee's parameters, None where left out."""

    callee: PouSymbol
    args: list[Expr | None]
    outputs: list[tuple[Variable, Expr]]
    instance: Expr | None = None
    virtual: bool = False
    enable: Expr | None = None
    enabled_out: Expr | None = None
    extra: list[Expr] = field(default_factory=list)
    own_enable: bool = False


@dataclass(slots=True, eq=False)
class Guarded(Expr):
    """A standard function with EN or ENO: `value` is computed only when `enable` holds."""

    enable: Expr | None
    enabled_out: Expr | None
    value: Expr
    own_enable: bool = False


@dataclass(slots=True, eq=False)
class TypeTest(Expr):
    """`target ?= operand`: the operand, or null when its instance is no `block` (or does not implement it)."""

    operand: Expr
    block: PouSymbol


@dataclass(slots=True, eq=False)
class Attempt(Expr):
    """Stores `value`, a reference, to `place`; TRUE when it is not null."""

    place: Expr
    value: Expr


@dataclass(slots=True, eq=False)
class StringCall(Expr):
    """A library function that writes a string: called with destination and capacity before `args`."""

    callee: PouSymbol
    args: list[Expr]


@dataclass(slots=True, eq=False)
class StringPointer(Expr):
    """The address of a string's first code unit, for the library."""

    value: Expr


@dataclass(slots=True, eq=False)
class FunctionCalls(Expr):
    """How often a mocked function was called (tests only)."""

    function: PouSymbol


@dataclass(slots=True, eq=False)
class Choice(Expr):
    """SEL / MUX: all alternatives are evaluated, one is taken."""

    selector: Expr
    values: list[Expr]


# -- statements ----------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Stmt:
    start: int


@dataclass(slots=True, eq=False)
class Assign(Stmt):
    place: Expr
    value: Expr
    initial: bool = False


@dataclass(slots=True, eq=False)
class Evaluate(Stmt):
    value: Expr


@dataclass(slots=True, eq=False)
class CallBlock(Stmt):
    """A call of a function block instance: inputs stored, body run, outputs copied."""

    place: Expr
    block: BlockType
    inputs: list[tuple[Variable, Expr]]
    inouts: list[tuple[Variable, Expr]]
    outputs: list[tuple[Variable, Expr]]
    enable: Expr | None = None
    enabled_out: Expr | None = None
    virtual: bool = False
    action: PouSymbol | None = None
    own_enable: bool = False


@dataclass(slots=True, eq=False)
class CallAction(Stmt):
    action: PouSymbol
    instance: Expr | None
    base: bool = False


@dataclass(slots=True, eq=False)
class If(Stmt):
    branches: list[tuple[Expr, list[Stmt]]]
    otherwise: list[Stmt]


@dataclass(slots=True, eq=False)
class Case(Stmt):
    selector: Expr
    branches: list[tuple[list[tuple[int, int]], list[Stmt]]]
    otherwise: list[Stmt]


@dataclass(slots=True, eq=False)
class For(Stmt):
    place: Expr
    first: Expr
    last: Expr
    step: Expr
    body: list[Stmt]
    modified: bool = False


@dataclass(slots=True, eq=False)
class While(Stmt):
    condition: Expr
    body: list[Stmt]


@dataclass(slots=True, eq=False)
class Repeat(Stmt):
    body: list[Stmt]
    until: Expr


@dataclass(slots=True, eq=False)
class Jump(Stmt):
    kind: str


@dataclass(slots=True, eq=False)
class Goto(Stmt):
    label: str


@dataclass(slots=True, eq=False)
class Label(Stmt):
    name: str


@dataclass(slots=True, eq=False)
class Assert(Stmt):
    """A test's claim: `condition` must hold; `values` are shown when it does not."""

    condition: Expr
    text: str
    values: list[Expr]
    message: Expr | None


@dataclass(slots=True, eq=False)
class MockBlock(Stmt):
    place: Expr
    block: BlockType


@dataclass(slots=True, eq=False)
class MockFunction(Stmt):
    function: PouSymbol
    value: Expr
