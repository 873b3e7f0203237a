"""What names stand for: variables, POUs, and the scopes they live in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vplc.compiler import tree
from vplc.compiler.source import Source
from vplc.compiler.types import ERROR, BlockType, InterfaceType, Type


@dataclass(eq=False, slots=True)
class Variable:
    """kind: input output inout local temp global constant result external; storage is decided by `layout`.

    `offset` counts from the owner's instance, or from the state's start for `static` storage.
    """

    name: str
    type: Type
    kind: str
    decl: tree.VarDecl | None = None
    owner: PouSymbol | None = None
    source: Source | None = None
    retain: bool = False
    constant: bool = False
    by_ref: bool = False
    storage: str = "stack"
    offset: int = -1
    address: str = ""
    edge: str = ""
    init: object = None
    init_done: bool = False
    init_expr: tree.Expr | None = None
    has_default: bool = False
    value: object = None
    taken: bool = False
    written: bool = False
    scope: Scope | None = None
    namespace: str = ""
    variadic: bool = False
    external: str = ""
    dynamic: object = None
    cell: str = ""
    bit: int = -1
    hidden: bool = False


@dataclass(eq=False, slots=True)
class PouSymbol:
    """A FUNCTION, FUNCTION_BLOCK, PROGRAM, CLASS, METHOD, ACTION, INTERFACE or TEST."""

    name: str
    kind: str
    source: Source
    tree: tree.Pou
    namespace: str = ""
    owner: PouSymbol | None = None
    result: Type | None = None
    result_variable: Variable | None = None
    variables: dict[str, Variable] = field(default_factory=dict)
    params: list[Variable] = field(default_factory=list)
    methods: dict[str, PouSymbol] = field(default_factory=dict)
    actions: dict[str, PouSymbol] = field(default_factory=dict)
    properties: dict[str, tuple[Type, PouSymbol | None, PouSymbol | None]] = field(default_factory=dict)
    extends: list[PouSymbol] = field(default_factory=list)
    implements: list[PouSymbol] = field(default_factory=list)
    abstract: bool = False
    final: bool = False
    type: BlockType | None = None
    interface: InterfaceType | None = None
    scope: Scope | None = None
    body: list[object] = field(default_factory=list)
    checked: bool = False
    declared: bool = False
    external: bool = False
    variadic: bool = False
    unchecked: bool = False
    calls: set[PouSymbol] = field(default_factory=set)
    recursive: bool = False
    has_loops: bool = False
    dispatched: bool = False
    type_id: int = 0
    number: int = 0
    intrinsic: str = ""
    mocked: bool = False
    title: str = ""
    teardown: list[object] = field(default_factory=list)
    mock_offset: int = -1
    chunked: bool = False

    @property
    def full_name(self) -> str:
        if self.owner is not None:
            return f"{self.owner.full_name}.{self.name}"
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    def bases(self) -> Iterator[PouSymbol]:
        """This POU, then what it extends, nearest first."""
        seen: set[int] = set()
        todo = [self]
        while todo:
            one = todo.pop(0)
            if id(one) in seen:
                continue
            seen.add(id(one))
            yield one
            todo.extend(one.extends)

    def find_method(self, upper: str) -> PouSymbol | None:
        for base in self.bases():
            found = base.methods.get(upper)
            if found is not None:
                return found
        return None

    def find_property(self, upper: str) -> tuple[Type, PouSymbol | None, PouSymbol | None] | None:
        for base in self.bases():
            found = base.properties.get(upper)
            if found is not None:
                return found
        return None

    def find_action(self, upper: str) -> PouSymbol | None:
        for base in self.bases():
            found = base.actions.get(upper)
            if found is not None:
                return found
        return None

    def find_member(self, upper: str) -> Variable | None:
        for base in self.bases():
            found = base.variables.get(upper)
            if found is not None:
                return found
        return None

    def all_interfaces(self) -> set[PouSymbol]:
        found: set[PouSymbol] = set()
        for base in self.bases():
            for interface in base.implements:
                found.update(interface.bases())
        return found

    def is_a(self, other: PouSymbol) -> bool:
        return any(b is other for b in self.bases()) or other in self.all_interfaces()


@dataclass(eq=False, slots=True)
class EnumValue:
    """A name of an enumeration; `type` is None when two enumerations share the name."""

    type: Type
    value: int
    clash: bool = False


Symbol = Variable | PouSymbol | EnumValue | Type


class Scope:
    """Names of one level; a miss asks the level around it."""

    __slots__ = ("names", "namespace", "outer", "usings")

    def __init__(self, outer: Scope | None = None, namespace: str = "", usings: tuple[str, ...] = ()) -> None:
        self.outer = outer
        self.names: dict[str, Symbol] = {}
        self.namespace = namespace
        self.usings = usings

    def find(self, upper: str) -> Symbol | None:
        scope: Scope | None = self
        while scope is not None:
            found = scope.names.get(upper)
            if found is not None:
                return found
            scope = scope.outer
        return None

    def all_names(self) -> Iterator[str]:
        scope: Scope | None = self
        while scope is not None:
            for upper, symbol in scope.names.items():
                yield getattr(symbol, "name", upper) if not isinstance(symbol, EnumValue) else upper
            scope = scope.outer


def unknown_type() -> Type:
    return ERROR
