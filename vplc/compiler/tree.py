"""The syntax tree: what was written, before anything is known about names or types.

Made by the parser only, read by the checker only. Offsets are into the POU's source.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vplc.compiler.source import Source


@dataclass(slots=True)
class Expr:
    start: int
    end: int


@dataclass(slots=True)
class Name(Expr):
    name: str


@dataclass(slots=True)
class Literal(Expr):
    """kind: INT REAL BOOL STR WSTR TIME DATE TOD DT; `prefix` is the type before `#`, in capitals."""

    kind: str
    text: str
    prefix: str = ""


@dataclass(slots=True)
class EnumLiteral(Expr):
    """`Colour#Red`"""

    type_name: str
    member: str


@dataclass(slots=True)
class Address(Expr):
    text: str


@dataclass(slots=True)
class Member(Expr):
    """`base.name`; a bit selection has digits or `%X7` as its name."""

    base: Expr
    name: str


@dataclass(slots=True)
class Index(Expr):
    base: Expr
    indices: list[Expr]


@dataclass(slots=True)
class Deref(Expr):
    base: Expr


@dataclass(slots=True)
class Argument:
    start: int
    name: str
    value: Expr | None
    output: bool = False
    negated: bool = False


@dataclass(slots=True)
class Call(Expr):
    callee: Expr
    args: list[Argument]


@dataclass(slots=True)
class Unary(Expr):
    op: str
    operand: Expr


@dataclass(slots=True)
class Binary(Expr):
    op: str
    left: Expr
    right: Expr


@dataclass(slots=True)
class ListInit(Expr):
    """`[1, 2, 3(0)]`: values with repetition counts (None: once)."""

    items: list[tuple[Expr | None, Expr | None]]


@dataclass(slots=True)
class StructInit(Expr):
    fields: list[tuple[str, Expr]]


@dataclass(slots=True)
class Construct(Expr):
    """`FB(1, b := 2) := (x := 3)`: arguments of FB_Init, one list per instance, then initial values."""

    args: list[list[Argument]]
    init: Expr | None


# -- types ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class TypeRef:
    start: int
    end: int


@dataclass(slots=True)
class NamedRef(TypeRef):
    name: str
    args: list[Argument] | None = None


@dataclass(slots=True)
class StringRef(TypeRef):
    wide: bool
    length: Expr | None


@dataclass(slots=True)
class ArrayRef(TypeRef):
    dims: list[tuple[Expr, Expr] | None]
    element: TypeRef


@dataclass(slots=True)
class PointerRef(TypeRef):
    kind: str
    target: TypeRef


@dataclass(slots=True)
class SubrangeRef(TypeRef):
    base: TypeRef
    low: Expr
    high: Expr


@dataclass(slots=True)
class EnumRef(TypeRef):
    members: list[tuple[str, Expr | None, int]]
    base: TypeRef | None


@dataclass(slots=True)
class StructRef(TypeRef):
    fields: list[VarDecl]
    union: bool
    base: str = ""


@dataclass(slots=True)
class VariadicRef(TypeRef):
    element: TypeRef | None


@dataclass(slots=True)
class VarDecl:
    start: int
    end: int
    name: str
    type: TypeRef
    init: Expr | None
    address: str = ""
    edge: str = ""
    pragmas: tuple[str, ...] = ()


@dataclass(slots=True)
class VarBlock:
    kind: str
    qualifiers: frozenset[str]
    decls: list[VarDecl]
    start: int
    by_ref: bool = False


# -- statements ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Stmt:
    start: int
    end: int


@dataclass(slots=True)
class Assign(Stmt):
    """op: `:=`, `?=`, `REF=`, `S=`, `R=`"""

    target: Expr
    op: str
    value: Expr


@dataclass(slots=True)
class CallStmt(Stmt):
    call: Expr


@dataclass(slots=True)
class If(Stmt):
    branches: list[tuple[Expr, list[Stmt]]]
    otherwise: list[Stmt]


@dataclass(slots=True)
class Case(Stmt):
    selector: Expr
    branches: list[tuple[list[tuple[Expr, Expr | None]], list[Stmt]]]
    otherwise: list[Stmt] | None


@dataclass(slots=True)
class For(Stmt):
    target: Expr
    first: Expr
    last: Expr
    step: Expr | None
    body: list[Stmt]


@dataclass(slots=True)
class While(Stmt):
    condition: Expr
    body: list[Stmt]


@dataclass(slots=True)
class Repeat(Stmt):
    body: list[Stmt]
    until: Expr


@dataclass(slots=True)
class Jump(Stmt):
    """EXIT, CONTINUE or RETURN."""

    kind: str


@dataclass(slots=True)
class Goto(Stmt):
    label: str


@dataclass(slots=True)
class Label(Stmt):
    name: str


@dataclass(slots=True)
class Mock(Stmt):
    """`MOCK path;` or `MOCK_FUNCTION name RETURNS value;` (tests only)."""

    target: Expr
    returns: Expr | None
    function: bool


# -- declarations --------------------------------------------------------------------------------


@dataclass(slots=True)
class Property:
    start: int
    end: int
    name: str
    type: TypeRef
    modifiers: frozenset[str]
    getter: Pou | None
    setter: Pou | None


@dataclass(slots=True)
class Pou:
    """kind: FUNCTION FUNCTION_BLOCK PROGRAM CLASS METHOD ACTION INTERFACE TEST"""

    start: int
    end: int
    kind: str
    name: str
    source: Source
    result: TypeRef | None = None
    blocks: list[VarBlock] = field(default_factory=list)
    body: list[Stmt] = field(default_factory=list)
    methods: list[Pou] = field(default_factory=list)
    actions: list[Pou] = field(default_factory=list)
    properties: list[Property] = field(default_factory=list)
    extends: list[str] = field(default_factory=list)
    implements: list[str] = field(default_factory=list)
    modifiers: frozenset[str] = frozenset()
    pragmas: tuple[str, ...] = ()
    namespace: str = ""
    usings: tuple[str, ...] = ()
    extra: dict[str, list[Stmt]] = field(default_factory=dict)
    generics: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class TypeDecl:
    start: int
    end: int
    name: str
    type: TypeRef
    init: Expr | None
    source: Source
    namespace: str = ""
    usings: tuple[str, ...] = ()
    pragmas: tuple[str, ...] = ()


@dataclass(slots=True)
class Globals:
    block: VarBlock
    source: Source
    namespace: str = ""
    usings: tuple[str, ...] = ()
    list_name: str = ""


@dataclass(slots=True)
class Access:
    """`name : path : type READ_WRITE;` of VAR_ACCESS; `program` names the PROGRAM it stands in."""

    start: int
    end: int
    name: str
    path: Expr
    type: TypeRef
    writable: bool
    source: Source
    program: str = ""


@dataclass(slots=True)
class Task:
    start: int
    name: str
    options: dict[str, Expr]


@dataclass(slots=True)
class Instance:
    start: int
    name: str
    task: str
    type_name: str
    args: list[Argument]


@dataclass(slots=True)
class Configuration:
    name: str
    source: Source
    resource: str = ""
    tasks: list[Task] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)


@dataclass(slots=True)
class Unit:
    """Everything declared in one file."""

    source: Source
    pous: list[Pou] = field(default_factory=list)
    types: list[TypeDecl] = field(default_factory=list)
    globals: list[Globals] = field(default_factory=list)
    configurations: list[Configuration] = field(default_factory=list)
    accesses: list[Access] = field(default_factory=list)
    tests: list[Pou] = field(default_factory=list)
    setup: Pou | None = None
    teardown: Pou | None = None
