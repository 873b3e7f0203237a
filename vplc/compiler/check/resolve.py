"""Type references to types, variables to their types, constant variables to their values."""

from __future__ import annotations

from vplc.compiler import tree, typed
from vplc.compiler.check.base import CheckerBase
from vplc.compiler.source import Source, nearest
from vplc.compiler.symbols import EnumValue, PouSymbol, Scope, Symbol, Variable
from vplc.compiler.types import (
    ANY_INT,
    DEFAULT_STRING,
    ELEMENTARY,
    ERROR,
    INT,
    LINT,
    LWORD,
    MAX_STRING,
    SINT,
    ArrayType,
    BlockType,
    Elementary,
    EnumType,
    ErrorType,
    Field,
    InterfaceType,
    PointerType,
    StringType,
    StructType,
    SubrangeType,
    Type,
)

GENERIC_TYPES = frozenset(
    [
        "ANY",
        "ANY_ELEMENTARY",
        "ANY_MAGNITUDE",
        "ANY_NUM",
        "ANY_REAL",
        "ANY_INT",
        "ANY_UNSIGNED",
        "ANY_SIGNED",
        "ANY_DURATION",
        "ANY_BIT",
        "ANY_CHARS",
        "ANY_STRING",
        "ANY_CHAR",
        "ANY_DATE",
        "ANY_DERIVED",
    ]
)
_NATIVE = {
    "__UXINT": "ULINT",
    "__XINT": "LINT",
    "__XWORD": "LWORD",
    "UXINT": "ULINT",
    "XINT": "LINT",
    "XWORD": "LWORD",
    "BIT": "BOOL",
    "VOID": "BYTE",
    "__VOID": "BYTE",
}


class NamedType:
    """A declared type before and after its definition is looked at."""

    __slots__ = ("busy", "decl", "init", "name", "scope", "type")

    def __init__(self, decl: tree.TypeDecl, scope: Scope) -> None:
        self.decl = decl
        self.name = decl.name
        self.scope = scope
        self.type: Type | None = None
        self.init: tree.Expr | None = decl.init
        self.busy = False


class Resolver(CheckerBase):
    named: dict[int, NamedType]
    expected_types: dict[str, list[Type]]
    _filling: list[StructType]

    def lookup(self, name: str, scope: Scope | None = None) -> Symbol | NamedType | None:
        """The symbol a (perhaps qualified) name stands for; None when unknown."""
        scope = scope or self.scope
        upper = name.upper()
        if "." not in upper:
            return self._lookup_plain(upper, scope)
        found = self.program.scope.find(upper)
        if found is not None:
            return found
        at: Scope | None = scope
        while at is not None:
            for prefix in (at.namespace, *at.usings):
                if prefix:
                    hit = self.program.scope.find(f"{prefix.upper()}.{upper}")
                    if hit is not None:
                        return hit
            at = at.outer
        return None

    def _lookup_plain(self, upper: str, scope: Scope) -> Symbol | None:
        at: Scope | None = scope
        root = self.program.scope
        while at is not None:
            found = at.names.get(upper)
            if found is not None:
                return found
            if at.namespace:
                space = at.namespace.upper()
                while space:
                    found = root.names.get(f"{space}.{upper}")
                    if found is not None:
                        return found
                    space = space.rpartition(".")[0]
            for used in at.usings:
                found = root.names.get(f"{used}.{upper}")
                if found is not None:
                    return found
            at = at.outer
        return None

    def has_namespace(self, upper: str) -> bool:
        return upper in self.namespaces

    @property
    def namespaces(self) -> set[str]:
        cached: set[str] | None = getattr(self, "_namespaces", None)
        if cached is None:
            cached = set()
            for name in self.program.scope.names:
                space = name.rpartition(".")[0]
                while space:
                    cached.add(space)
                    space = space.rpartition(".")[0]
            self._namespaces = cached
        return cached

    # -- types -------------------------------------------------------------------------------------

    def resolve(self, ref: tree.TypeRef, name: str = "") -> Type:
        """The type a reference names. Errors are reported; the result is then ERROR."""
        if isinstance(ref, tree.NamedRef):
            return self._named(ref)
        if isinstance(ref, tree.StringRef):
            length = DEFAULT_STRING
            if ref.length is not None:
                value = self.constant_int(ref.length)
                if value is None:
                    return ERROR
                if not 0 <= value <= MAX_STRING:
                    self.error("E042", f"a string holds 0 to {MAX_STRING} characters, not {value}", ref.length)
                    return ERROR
                length = value
            return StringType(length, ref.wide)
        if isinstance(ref, tree.ArrayRef):
            return self._array(ref)
        if isinstance(ref, tree.PointerRef):
            target = self.resolve(ref.target)
            return PointerType(ref.kind, target)
        if isinstance(ref, tree.SubrangeRef):
            base = self.resolve(ref.base).base
            low, high = self.constant_int(ref.low), self.constant_int(ref.high)
            if not isinstance(base, Elementary) or not base.is_integer:
                if base is not ERROR:
                    self.error("E018", f"a subrange needs an integer type, not {base}", ref)
                return ERROR
            if low is None or high is None:
                return ERROR
            if low > high or low < base.low or high > base.high:
                self.error("E042", f"{low}..{high} is not a range of {base.name}", ref)
                return ERROR
            return SubrangeType(name or f"{base.name}({low}..{high})", base, low, high)
        if isinstance(ref, tree.EnumRef):
            return self._enum(ref, name)
        if isinstance(ref, tree.StructRef):
            struct = StructType(name or "STRUCT", union=ref.union)
            self.fill_struct(struct, ref)
            return struct
        return ERROR

    def _named(self, ref: tree.NamedRef) -> Type:
        upper = ref.name.upper()
        found: Symbol | NamedType | None = self.lookup(ref.name)
        if found is None and self.codesys and "." in upper:
            # A library's name before the type's: text files do not carry libraries.
            upper = upper.rpartition(".")[2]
            found = self.lookup(upper)
        if found is None:
            plain = ELEMENTARY.get(_NATIVE.get(upper, upper))
            if plain is not None:
                return plain
            if upper in GENERIC_TYPES:
                return self.generic_type(upper, ref)
            if upper == "PVOID":
                return PointerType("POINTER", ELEMENTARY["BYTE"])
        if isinstance(found, Type):
            return found
        if isinstance(found, NamedType):
            return self.define(found, ref)
        if isinstance(found, PouSymbol) and found.kind == "FUNCTION" and upper in ELEMENTARY:
            # A function may have the name of a type: OSCAT's TIME() has.
            return ELEMENTARY[upper]
        if isinstance(found, PouSymbol):
            if found.kind in ("FUNCTION_BLOCK", "CLASS"):
                assert found.type is not None
                return found.type
            if found.kind == "PROGRAM":
                assert found.type is not None
                if not (self.program.testing or self.codesys):
                    self.error(
                        "E018",
                        f"{found.name} is a PROGRAM and has no instances here",
                        ref,
                        "make it a FUNCTION_BLOCK, or instantiate it in a RESOURCE",
                    )
                return found.type
            if found.kind == "INTERFACE":
                assert found.interface is not None
                return found.interface
            self.error("E018", f"{found.name} is a {found.kind}, not a type", ref)
            return ERROR
        known = [
            k
            for k, v in self.program.scope.names.items()
            if isinstance(v, NamedType) or (isinstance(v, PouSymbol) and v.type)
        ]
        hint = nearest(ref.name, [*known, *ELEMENTARY])
        self.error("E031", f'unknown type "{ref.name}"', ref, hint)
        return ERROR

    def generic_type(self, upper: str, ref: tree.NamedRef) -> Type:
        """ANY and its kin where no call has decided them."""
        raise NotImplementedError

    def define(self, named: NamedType, ref: tree.TypeRef | None = None) -> Type:
        if named.type is not None:
            return named.type
        if named.busy:
            self.error(
                "E061",
                f"type {named.name} contains itself",
                ref or named.decl.type,
                "refer to it through REF_TO or POINTER TO",
            )
            return ERROR
        named.busy = True
        saved = (self.source, self.scope)
        self.source, self.scope = named.decl.source, named.scope
        decl = named.decl
        if isinstance(decl.type, tree.StructRef):
            struct = StructType(named.name, union=decl.type.union)
            named.type = struct
            self.fill_struct(struct, decl.type)
        else:
            result = self.resolve(decl.type, named.name)
            if decl.init is None and isinstance(decl.type, tree.NamedRef):
                inner = self.lookup(decl.type.name)
                if isinstance(inner, NamedType):
                    named.init = inner.init
            named.type = result
        self.source, self.scope = saved
        named.busy = False
        return named.type

    def fill_struct(self, struct: StructType, ref: tree.StructRef) -> None:
        if ref.base:
            self._filling.append(struct)
            base = self._named(tree.NamedRef(ref.start, ref.start + 6, ref.base))
            if isinstance(base, StructType) and base in self._filling:
                self.error("E061", f"{struct.name} extends itself", ref)
            elif isinstance(base, StructType):
                for upper, f in base.fields.items():
                    struct.fields[upper] = Field(f.name, f.type, 0, f.init)
            elif base is not ERROR:
                self.error("E062", f"{ref.base} is not a structure", ref)
            self._filling.pop()
        for decl in ref.fields:
            upper = decl.name.upper()
            if upper in struct.fields:
                self.error("E033", f"field {decl.name} is declared twice", decl)
                continue
            t = self.resolve(decl.type)
            if isinstance(t, ArrayType) and not t.dims:
                self.error("E018", "ARRAY[*] is a parameter type only", decl.type)
                t = ERROR
            struct.fields[upper] = Field(decl.name, t, 0, (decl, self.source, self.scope))

    def _array(self, ref: tree.ArrayRef) -> Type:
        element = self.resolve(ref.element)
        dims: list[tuple[int, int]] = []
        for dim in ref.dims:
            if dim is None:
                continue
            low, high = self.constant_int(dim[0]), self.constant_int(dim[1])
            if low is None or high is None:
                return ERROR
            if high < low - 1:
                self.error("E042", f"the array bounds {low}..{high} run backwards", dim[0])
                return ERROR
            dims.append((low, high))
        if len(dims) != len(ref.dims):
            return ArrayType(element, (), stars=len(ref.dims))
        count = 1
        for low, high in dims:
            count *= high - low + 1
        if count > 1 << 27:
            self.error("E042", f"an array of {count} elements does not fit", ref)
            return ERROR
        return ArrayType(element, tuple(dims))

    def _enum(self, ref: tree.EnumRef, name: str) -> Type:
        underlying: Elementary = INT
        if ref.base is not None:
            base = self.resolve(ref.base).base
            if isinstance(base, Elementary) and (base.is_integer or base.is_bits):
                underlying = base
            elif base is not ERROR:
                self.error("E018", f"an enumeration is based on an integer type, not {base}", ref.base)
        enum = EnumType(name or "enumeration", underlying)
        value = -1
        inner = Scope(self.scope)
        saved, self.scope = self.scope, inner
        first: int | None = None
        wide = False
        for member, init, start in ref.members:
            if init is not None:
                got = self.constant_int(init)
                value = value + 1 if got is None else got
            else:
                value += 1
            upper = member.upper()
            if upper in enum.members:
                self.error(
                    "E033", f"{member} occurs twice in the enumeration", tree.Name(start, start + len(member), member)
                )
                continue
            if not underlying.low <= value <= underlying.high:
                if ref.base is None and -(1 << 63) <= value < 1 << 63:
                    wide = True
                else:
                    self.error(
                        "E042",
                        f"{member} = {value} does not fit {underlying.name}",
                        tree.Name(start, start + len(member), member),
                    )
                    value = 0
            enum.members[upper] = value
            enum.display[upper] = member
            inner.names[upper] = EnumValue(enum, value)
            if first is None:
                first = value
        if wide:
            enum.underlying = next(
                t for t in (ELEMENTARY["DINT"], LINT) if all(t.low <= v <= t.high for v in enum.members.values())
            )
        enum.default = first or 0
        self.scope = saved
        self.register_enum(enum)
        return enum

    def register_enum(self, enum: EnumType) -> None:
        """Makes the values usable without the type's name."""
        names = self.program.scope.names
        space = self.scope.namespace.upper()
        if self.source.library:
            # The library's own stay behind their type's name.
            return
        for upper, value in enum.members.items():
            key = f"{space}.{upper}" if space else upper
            there = names.get(key)
            if there is None:
                names[key] = EnumValue(enum, value)
            elif isinstance(there, EnumValue) and there.type is not enum:
                there.clash = True
                self.clashes.setdefault(upper, []).append(enum)

    clashes: dict[str, list[EnumType]]

    # -- variables -----------------------------------------------------------------------------------

    def variable_type(self, variable: Variable) -> Type:
        """The variable's type, resolved at first use."""
        if isinstance(variable.type, ErrorType) and variable.cell == "pending":
            variable.cell = "busy"
            saved = (self.source, self.scope, self.pou)
            assert variable.decl is not None
            assert variable.source is not None
            assert variable.scope is not None
            self.source, self.scope, self.pou = variable.source, variable.scope, variable.owner
            t = self.resolve(variable.decl.type)
            if isinstance(t, ArrayType) and not t.dims and variable.kind not in ("input", "inout", "output"):
                self.error("E018", "ARRAY[*] is a parameter type only", variable.decl.type)
                t = ERROR
            variable.type = t
            variable.cell = ""
            self.source, self.scope, self.pou = saved
        elif variable.cell == "busy" and variable.decl is not None:
            self.error("E061", f"{variable.name} is needed to declare itself", variable.decl)
            variable.cell = ""
        return variable.type

    def constant_value(self, variable: Variable) -> int | float | str | None:
        """The value of a scalar constant, or None when it must be read from memory."""
        if not variable.init_done:
            self.evaluate_init(variable)
        value = variable.value
        return value if isinstance(value, (int, float, str)) else None

    def evaluate_init(self, variable: Variable) -> None:
        raise NotImplementedError

    def constant_int(self, expr: tree.Expr) -> int | None:
        """The value of a constant integer expression; reports E045 when it is none."""
        raise NotImplementedError

    def default_of(self, ref: tree.TypeRef, scope: Scope, source: Source) -> tuple[tree.Expr, Source, Scope] | None:
        """The initial value a declared type brings along."""
        if isinstance(ref, tree.NamedRef):
            named = self.lookup(ref.name, scope)
            if isinstance(named, NamedType):
                self.define(named)
                if named.init is not None:
                    return named.init, named.decl.source, named.scope
        return None


def fits_any_int(value: int) -> Type:
    """The type an untyped integer literal has of its own accord."""
    for t in (SINT, INT, ELEMENTARY["DINT"], LINT):
        if t.low <= value <= t.high:
            return t
    return LWORD if value >= 0 else ANY_INT


__all__ = ["BlockType", "InterfaceType", "NamedType", "Resolver", "typed"]
