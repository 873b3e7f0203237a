"""What a name stands for at a place of the program: the checker's scopes, asked from outside.

An `Entity` is one thing that a person would rename as one: a function and its result, a method and what overrides
it, a variable wherever it is declared external. Reads the checked program and changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from vplc.compiler.check.arguments import NAMES
from vplc.compiler.check.program import Checker
from vplc.compiler.check.resolve import NamedType
from vplc.compiler.model import Program
from vplc.compiler.symbols import EnumValue, PouSymbol, Scope, Variable
from vplc.compiler.types import (
    ELEMENTARY,
    ArrayType,
    BlockType,
    EnumType,
    Field,
    InterfaceType,
    PointerType,
    StructType,
    Type,
)

TYPE_NAMES = (*ELEMENTARY, "STRING", "WSTRING")
# dir() of the class: the table of built-in functions needs no instance.
BUILTINS = sorted({*Checker.intrinsic_names(cast(Checker, Checker)), *NAMES})


@dataclass(frozen=True, slots=True)
class Entity:
    """kind: variable field enum_value type pou method action property builtin elementary namespace self"""

    key: tuple[object, ...]
    kind: str
    name: str
    symbol: object = field(compare=False, default=None)
    type: Type | None = field(compare=False, default=None)
    owner: object = field(compare=False, default=None)

    @property
    def library(self) -> bool:
        """Delivered with the compiler: it cannot be renamed."""
        source = getattr(self.symbol, "source", None)
        if self.kind in ("builtin", "elementary", "self", "namespace"):
            return True
        owner = self.owner
        if source is None and isinstance(owner, PouSymbol):
            source = owner.source
        return bool(getattr(source, "library", False))


@dataclass(slots=True)
class Place:
    """Where a name stands: the body's POU, the member of it, and the scope of the file there."""

    pou: PouSymbol | None = None
    member: PouSymbol | None = None
    scope: Scope | None = None


class Names:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.root = program.scope
        self.structs: dict[int, NamedType] = {}
        self.at: dict[tuple[str, int], PouSymbol] = {}
        self.enums: dict[int, NamedType] = {}
        for symbol in self.everything():
            if isinstance(symbol, NamedType):
                if isinstance(symbol.type, StructType):
                    self.structs.setdefault(id(symbol.type), symbol)
                elif isinstance(symbol.type, EnumType):
                    self.enums.setdefault(id(symbol.type), symbol)
        for pou in [*program.pous, *program.tests]:
            self.at[pou.source.name, pou.tree.start] = pou
            for one in [*pou.methods.values(), *pou.actions.values()]:
                self.at[one.source.name, one.tree.start] = one

    def everything(self) -> Iterator[object]:
        scope: Scope | None = self.root
        while scope is not None:
            yield from cast("dict[str, object]", scope.names).values()
            scope = scope.outer

    # -- symbols to entities ---------------------------------------------------------------------------

    def entity(self, symbol: object) -> Entity | None:
        if isinstance(symbol, Variable):
            return self.variable(symbol)
        if isinstance(symbol, PouSymbol):
            return self.pou(symbol)
        if isinstance(symbol, NamedType):
            return Entity(("t", id(symbol)), "type", symbol.name, symbol.decl, symbol.type, symbol)
        if isinstance(symbol, EnumValue) and isinstance(symbol.type, EnumType):
            upper = next((u for u, v in symbol.type.members.items() if v == symbol.value), "")
            return self.enum_value(symbol.type, upper)
        return None

    def variable(self, variable: Variable) -> Entity:
        owner = variable.owner
        if owner is not None and (variable.kind == "result" or owner.name == f"__SET_{variable.name}"):
            if owner.name.startswith(("__GET_", "__SET_")) and owner.owner is not None:
                found = self.property(owner.owner, variable.name.upper())
                if found is not None:
                    return found
            if variable.kind == "result":
                return self.pou(owner)
        if variable.kind == "program":
            for one in self.program.pous:
                if one.result_variable is variable and one.name == variable.name:
                    return self.pou(one)
        if variable.decl is not None and variable.source is not None:
            key: tuple[object, ...] = ("v", variable.source.name, variable.decl.start)
        else:
            key = ("v", id(variable))
        return Entity(key, "variable", variable.name, variable, variable.type, owner)

    def pou(self, symbol: PouSymbol) -> Entity:
        if symbol.kind == "METHOD" and symbol.owner is not None:
            upper = symbol.name.upper()
            if symbol.name.startswith(("__GET_", "__SET_")):
                found = self.property(symbol.owner, upper[6:])
                if found is not None:
                    return found
            root = self._root(symbol.owner, lambda pou: upper in pou.methods)
            return Entity(("m", id(root), upper), "method", symbol.name, symbol, symbol.result, symbol.owner)
        if symbol.kind == "ACTION":
            return Entity(("a", id(symbol)), "action", symbol.name, symbol, None, symbol.owner)
        t: Type | None = symbol.type or symbol.interface or symbol.result
        return Entity(("p", id(symbol)), "pou", symbol.name, symbol, t, symbol)

    def _root(self, owner: PouSymbol, has: object) -> PouSymbol:
        """The interface or the farthest base that has the member: all that override it are one."""
        test = cast("type[object]", has)
        for interface in sorted(owner.all_interfaces(), key=lambda s: s.full_name):
            if test(interface):  # type: ignore[call-arg]  # a predicate of one argument
                return self._root(interface, has) if interface is not owner else interface
        found = owner
        for base in owner.bases():
            if test(base):  # type: ignore[call-arg]  # a predicate of one argument
                found = base
        if found is not owner:
            return self._root(found, has)
        return found

    def property(self, owner: PouSymbol, upper: str) -> Entity | None:
        found = owner.find_property(upper)
        if found is None:
            return None
        name = next((p.name for b in owner.bases() for p in b.tree.properties if p.name.upper() == upper), upper)
        root = self._root(owner, lambda pou: upper in pou.properties)
        return Entity(("m", id(root), upper), "property", name, found[1] or found[2], found[0], owner)

    def enum_value(self, enum: EnumType, upper: str) -> Entity | None:
        if upper not in enum.members:
            return None
        return Entity(("e", id(enum), upper), "enum_value", enum.display[upper], self.enums.get(id(enum)), enum, enum)

    def field(self, struct: StructType, upper: str) -> Entity | None:
        found = struct.fields.get(upper)
        if found is None:
            return None
        owner: Type = struct
        named = self.structs.get(id(struct))
        for _ in range(50):
            if named is None:
                break
            ref = named.decl.type
            names = [d.name.upper() for d in getattr(ref, "fields", [])]
            if upper in names or not getattr(ref, "base", ""):
                break
            base = self.lookup(cast(str, getattr(ref, "base", "")).upper(), named.scope)
            if not isinstance(base, NamedType) or not isinstance(base.type, StructType):
                break
            named, owner = base, base.type
        return Entity(("f", id(owner), upper), "field", found.name, named, found.type, owner)

    # -- lookup ----------------------------------------------------------------------------------------

    def lookup(self, upper: str, scope: Scope | None = None) -> object:
        """A name of the file's scopes: used namespaces and the global names."""
        at: Scope | None = scope or self.root
        root = self.root
        while at is not None:
            if "." not in upper:
                found = at.names.get(upper)
                if found is not None:
                    return found
            for prefix in _prefixes(at):
                found = root.find(f"{prefix}.{upper}")
                if found is not None:
                    return found
            at = at.outer
        return root.find(upper)

    def type_named(self, upper: str, place: Place) -> Entity | None:
        found = self.lookup(upper, place.scope)
        if isinstance(found, (NamedType, PouSymbol)):
            return self.entity(found)
        if upper in TYPE_NAMES:
            return Entity(("b", upper), "elementary", upper, None, ELEMENTARY.get(upper))
        return self.namespace(upper)

    def namespace(self, upper: str) -> Entity | None:
        if any(str(key).startswith(upper + ".") for key in self.root.names):
            return Entity(("n", upper), "namespace", upper)
        return None

    def find(self, upper: str, place: Place) -> Entity | None:
        """What the name means at the place, as the checker looks it up."""
        if place.member is not None and upper in place.member.variables:
            return self.variable(place.member.variables[upper])
        pou = place.pou
        if pou is not None:
            variable = pou.find_member(upper)
            if variable is not None:
                return self.variable(variable)
            for symbol in (pou.find_method(upper), pou.find_action(upper)):
                if symbol is not None:
                    return self.pou(symbol)
            found = self.property(pou, upper)
            if found is not None:
                return found
            if upper in ("THIS", "SUPER"):
                target = pou if upper == "THIS" or not pou.extends else pou.extends[0]
                return Entity(("s", upper), "self", upper, target, target.type)
        known = self.entity(self.lookup(upper, place.scope))
        if known is not None:
            return known
        if upper in BUILTINS or _conversion(upper):
            return Entity(("b", upper), "builtin", upper)
        return self.type_named(upper, place)

    def value_type(self, entity: Entity | None) -> Type | None:
        """The type of what the name stands for, as the base of a selection."""
        if entity is None or entity.kind in ("builtin", "elementary", "namespace", "action"):
            return None
        if entity.kind == "pou" and isinstance(entity.symbol, PouSymbol):
            return entity.symbol.type if entity.symbol.kind == "PROGRAM" else None
        if entity.kind in ("method", "type"):
            return None
        return entity.type

    def result_type(self, entity: Entity | None) -> Type | None:
        if entity is None or not isinstance(entity.symbol, PouSymbol):
            return None
        return entity.symbol.result if entity.symbol.kind in ("FUNCTION", "METHOD") else None

    def member(self, entity: Entity | None, t: Type | None, upper: str) -> Entity | None:
        """`base.name`, where `base` is known by its entity, its type, or both."""
        if entity is not None and t is None:
            if entity.kind == "namespace":
                full = f"{entity.name}.{upper}"
                return self.entity(self.root.find(full)) or self.namespace(full)
            if entity.kind == "type" and isinstance(entity.type, EnumType):
                return self.enum_value(entity.type, upper)
        t = through(t)
        if isinstance(t, StructType):
            return self.field(t, upper)
        if isinstance(t, (BlockType, InterfaceType)):
            variable = t.symbol.find_member(upper)
            if variable is not None:
                return self.variable(variable)
            for symbol in (t.symbol.find_method(upper), t.symbol.find_action(upper)):
                if symbol is not None:
                    return self.pou(symbol)
            return self.property(t.symbol, upper)
        if entity is None and t is None:
            # A global variable list or a library: text files do not carry their names.
            return self.entity(self.root.find(upper))
        return None

    def members(self, entity: Entity | None, t: Type | None, inside: PouSymbol | None = None) -> list[Entity]:
        """All that may follow a dot. `inside`: the block whose own body asks, which sees its internals."""
        out: dict[str, Entity | None] = {}
        if entity is not None and t is None:
            if entity.kind == "namespace":
                prefix = entity.name + "."
                for key in self.root.names:
                    if str(key).startswith(prefix):
                        rest = str(key)[len(prefix) :].partition(".")[0]
                        out[rest] = self.member(entity, None, rest)
            elif isinstance(entity.type, EnumType):
                out = {upper: self.enum_value(entity.type, upper) for upper in entity.type.members}
        t = through(t)
        if isinstance(t, StructType):
            out = {upper: self.field(t, upper) for upper in t.fields}
        elif isinstance(t, (BlockType, InterfaceType)):
            for base in t.symbol.bases():
                for variable in base.variables.values():
                    own = inside is not None and inside.is_a(base)
                    if not variable.name.startswith("__") and (own or variable.kind in ("input", "output", "local")):
                        out.setdefault(variable.name.upper(), self.variable(variable))
                for symbol in [*base.methods.values(), *base.actions.values()]:
                    if not symbol.name.startswith("__"):
                        out.setdefault(symbol.name.upper(), self.pou(symbol))
                for upper in base.properties:
                    out.setdefault(upper, self.property(base, upper))
        return [found for found in out.values() if found is not None]

    def visible(self, place: Place) -> Iterator[Entity]:
        """Every name that may stand alone at the place, the nearest first."""
        seen: set[str] = set()
        groups: list[list[object]] = []
        if place.member is not None:
            groups.append(list(place.member.variables.values()))
        if place.pou is not None:
            for base in place.pou.bases():
                groups.append([*base.variables.values(), *base.methods.values(), *base.actions.values()])
                groups.append([self.property(base, upper) for upper in base.properties])
        groups.append(list(self.everything()))
        for group in groups:
            for symbol in group:
                found = symbol if isinstance(symbol, Entity) else self.entity(symbol)
                if found is None or found.name.startswith("__") or found.name.upper() in seen:
                    continue
                seen.add(found.name.upper())
                yield found

    def parameters(self, entity: Entity | None) -> list[Variable]:
        """The parameters of what is called: a function, method or instance."""
        if entity is None:
            return []
        if isinstance(entity.symbol, PouSymbol) and entity.kind in ("pou", "method"):
            return entity.symbol.params
        t = through(entity.type)
        if isinstance(t, BlockType):
            return [p for base in reversed(list(t.symbol.bases())) for p in base.params]
        return []


def through(t: Type | None) -> Type | None:
    """What a pointer or reference leads to: blocks and references are followed without `^`."""
    while isinstance(t, PointerType):
        t = t.target
    return t


def element(t: Type | None) -> Type | None:
    t = through(t) if isinstance(t, PointerType) and t.kind == "REFERENCE" else t
    if isinstance(t, ArrayType):
        return t.element
    return t.target if isinstance(t, PointerType) else None


def _prefixes(scope: Scope) -> Iterator[str]:
    space = scope.namespace.upper()
    while space:
        yield space
        space = space.rpartition(".")[0]
    yield from scope.usings


def _conversion(upper: str) -> bool:
    from vplc.compiler.check.conversions import ConversionName

    return ConversionName.parse(upper) is not None or upper.startswith(("ASSERT_", "MOCK_VERIFY"))


__all__ = ["BUILTINS", "TYPE_NAMES", "Entity", "Field", "Names", "Place", "element", "through"]
