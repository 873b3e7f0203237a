"""What is written once for many types: functions with type parameters, and CODESYS' description of an argument (ANY).

`FUNCTION f<T : ANY_NUM> : T` and a FUNCTION with parameters of ANY, ANY_NUM, ... are compiled once for each combination
of types that calls need, as f__TYPE; a function of that name in the program is taken instead. Function blocks, methods,
and functions that ask for `.pValue`, `.diSize` or `.TypeClass` get a structure that describes the argument.
"""

from __future__ import annotations

import re

from vplc.compiler import tree, typed
from vplc.compiler.check.base import elementary
from vplc.compiler.check.expressions import Expressions
from vplc.compiler.check.resolve import GENERIC_TYPES
from vplc.compiler.symbols import PouSymbol, Scope, Variable
from vplc.compiler.types import (
    ANY_INT,
    ANY_REAL,
    DEFAULT_STRING,
    DINT,
    ERROR,
    LINT,
    LREAL,
    REAL,
    VOID,
    ArrayType,
    BlockType,
    Elementary,
    EnumType,
    InterfaceType,
    PointerType,
    StringType,
    StructType,
    Type,
    common,
    same,
)

MAX_INSTANCES = 2_000  # a function that calls itself with ever new types would never end
_DESCRIBED = re.compile(r"\.\s*(?:pvalue|disize|typeclass)\b|\bEND_FUNCTION\b", re.IGNORECASE)
_GROUPS: dict[str, tuple[str, ...]] = {
    "ANY_MAGNITUDE": ("int", "uint", "real", "time"),
    "ANY_NUM": ("int", "uint", "real"),
    "ANY_REAL": ("real",),
    "ANY_INT": ("int", "uint"),
    "ANY_UNSIGNED": ("uint",),
    "ANY_SIGNED": ("int",),
    "ANY_DURATION": ("time",),
    "ANY_BIT": ("bool", "bits"),
    "ANY_CHARS": ("char",),
    "ANY_CHAR": ("char",),
    "ANY_STRING": (),
    "ANY_DATE": ("date", "tod", "dt"),
}


def belongs(t: Type, generic: str, lenient: bool) -> bool:
    """Whether `t` is one of ANY, ANY_NUM, ... (figure 5 of the third edition)."""
    if generic not in GENERIC_TYPES or generic == "ANY":
        return True
    if isinstance(t, StringType):
        return generic in ("ANY_ELEMENTARY", "ANY_CHARS", "ANY_STRING")
    plain = isinstance(t.base, Elementary) and not isinstance(t, EnumType)
    if generic in ("ANY_ELEMENTARY", "ANY_DERIVED"):
        return plain == (generic == "ANY_ELEMENTARY")
    base = t.base
    if not plain or not isinstance(base, Elementary):
        return False
    groups = _GROUPS[generic]
    return base.group in groups or (lenient and base.group == "bits" and "uint" in groups)


def mangled(t: Type) -> str:
    if isinstance(t, StringType):
        return "WSTRING" if t.wide else "STRING"
    return t.name


class Generics(Expressions):
    def declare(self, symbol: PouSymbol) -> None:
        raise NotImplementedError

    pending: list[typed.Stmt]

    # -- functions with type parameters --------------------------------------------------------------

    def is_generic(self, symbol: PouSymbol) -> bool:
        """Whether a function is only a pattern; one with ANY parameters becomes one."""
        pou = symbol.tree
        if symbol.kind != "FUNCTION":
            return False
        if not pou.generics and not symbol.external:
            found = {
                d.type.name.upper()
                for b in pou.blocks
                if b.kind in ("VAR_INPUT", "VAR_IN_OUT")
                for d in b.decls
                if isinstance(d.type, tree.NamedRef) and d.type.name.upper() in GENERIC_TYPES
            }
            if found:
                ask = _DESCRIBED.search(symbol.source.text, pou.start)
                if ask is None or not ask.group().startswith("."):
                    pou.generics = {name: name for name in sorted(found)}
        return bool(pou.generics)

    def generic_type(self, upper: str, ref: tree.NamedRef) -> Type:
        if self.pou is not None and self.pou.external:
            return PointerType("REFERENCE", VOID) if upper == "ANY" else LINT
        if self.lenient:
            return self.any_type
        self.error(
            "E014",
            f"{upper} is a parameter's type of functions only",
            ref,
            "the codesys profile describes the argument",
        )
        return ERROR

    def instantiate(self, symbol: PouSymbol, node: tree.Call, want: Type | None) -> PouSymbol | None:
        """The function for the types of this call's arguments, or None after an error."""
        bound = self._types_of(symbol, node, want)
        if bound is None:
            return None
        name = f"{symbol.name}__{'__'.join(mangled(t) for t in bound.values())}"
        special = self.lookup(f"{symbol.namespace}.{name}" if symbol.namespace else name)
        if isinstance(special, PouSymbol) and special.kind == "FUNCTION" and not special.tree.generics:
            return special
        key = (id(symbol), tuple(t.name for t in bound.values()))
        instance = self._instances.get(key)
        if instance is None:
            if len(self._instances) >= MAX_INSTANCES:
                self.error("E019", f"{symbol.name} is needed for more than {MAX_INSTANCES} types", node)
                return None
            instance = PouSymbol(name, "FUNCTION", symbol.source, symbol.tree, symbol.namespace)
            instance.external, instance.unchecked = symbol.external, symbol.unchecked
            outer = symbol.scope
            assert outer is not None
            instance.scope = Scope(outer)
            instance.scope.names.update(bound)
            self._instances[key] = instance
            self.declare(instance)
            self.program.pous.append(instance)
        return instance

    @property
    def _instances(self) -> dict[tuple[int, tuple[str, ...]], PouSymbol]:
        known: dict[tuple[int, tuple[str, ...]], PouSymbol] = self.__dict__.setdefault("_made", {})
        return known

    def _types_of(self, symbol: PouSymbol, node: tree.Call, want: Type | None) -> dict[str, Type] | None:
        """What the type parameters stand for in this call."""
        names = symbol.tree.generics
        decls = [d for b in symbol.tree.blocks if b.kind in _PARAMETERS for d in b.decls]
        given = {a.name.upper() for a in node.args if a.name}
        mixed = any(not a.name for a in node.args) and bool(given)
        order = iter([d for d in decls if not mixed or d.name.upper() not in given])
        by_name = {d.name.upper(): d for d in decls}
        found: dict[str, list[typed.Expr]] = {name: [] for name in names}
        saved, self.pending = self.pending, []
        wrong = False
        for arg in node.args:
            decl = by_name.get(arg.name.upper()) if arg.name else next(order, None)
            if decl is None or arg.value is None or isinstance(arg.value, (tree.ListInit, tree.StructInit)):
                continue
            value = self.expr(arg.value)
            wrong = wrong or value.type is ERROR
            self._match(decl.type, value, value.type, found)
        self.pending = saved
        if wrong:
            return None
        bound: dict[str, Type] = {}
        for name, values in found.items():
            result = symbol.tree.result
            wanted = want if isinstance(result, tree.NamedRef) and result.name.upper() == name else None
            t = self._joined(values, wanted)
            if t is None:
                kinds = " and ".join(dict.fromkeys(v.type.name for v in values)) or "nothing"
                self.error("E041", f"the arguments of {symbol.name} do not tell the type {name}: {kinds}", node)
                return None
            base = elementary(t)
            if names[name] == "ANY_REAL" and base is not None and base.is_integer:
                t = REAL if base.size <= 2 or self.lenient else LREAL
            if not belongs(t, names[name], self.lenient):
                self.error("E040", f"{symbol.name} takes {names[name]}, not {t.name}", node)
                return None
            bound[name] = t
        return bound

    def _match(self, ref: tree.TypeRef, value: typed.Expr, t: Type, found: dict[str, list[typed.Expr]]) -> None:
        if isinstance(ref, tree.NamedRef):
            values = found.get(ref.name.upper())
            if values is not None:
                values.append(value if value.type is t else typed.ValuePlace(t, value.start, value))
        elif isinstance(ref, tree.PointerRef) and isinstance(t, PointerType):
            self._match(ref.target, value, t.target, found)
        elif isinstance(ref, tree.ArrayRef) and isinstance(t, ArrayType):
            self._match(ref.element, value, t.element, found)

    def _joined(self, values: list[typed.Expr], want: Type | None) -> Type | None:
        """One type for all arguments; literals follow the others."""
        literals = [v for v in values if v.type in (ANY_INT, ANY_REAL)]
        t: Type | None = None
        for value in values:
            if value in literals:
                continue
            other = value.type
            if isinstance(other, StringType):
                other = StringType(max(other.length, DEFAULT_STRING), other.wide)
            if t is None or (isinstance(t, StringType) and isinstance(other, StringType) and other.length > t.length):
                t = other
            elif not same(t, other) and not (isinstance(t, StringType) and isinstance(other, StringType)):
                a, b = elementary(t), elementary(other)
                if a is None or b is None:
                    return None
                joined = common(a, b) or (self._lenient_common(a, b) if self.lenient else None)
                if joined is None:
                    return None
                t = joined
        real = any(v.type is ANY_REAL for v in literals)
        base = t.base if t is not None else want.base if want is not None else None
        if isinstance(base, Elementary) and base.group in (("real",) if real else ("real", "int", "uint", "bits")):
            return t if t is not None else want
        if t is not None:
            return t if not real else LREAL
        if not literals:
            return want
        if real:
            return LREAL
        small = all(isinstance(v, typed.Const) and DINT.low <= int(v.value) <= DINT.high for v in literals)
        return DINT if small else LINT

    # -- arguments that are described ----------------------------------------------------------------

    @property
    def any_type(self) -> Type:
        """The library's structure behind an ANY parameter."""
        return self.resolve(tree.NamedRef(0, 0, "AnyType"))

    def is_any(self, t: Type) -> bool:
        return isinstance(t, StructType) and t.name == "AnyType" and t is self.any_type

    def described(self, node: tree.Expr, t: Type) -> typed.Expr:
        """The description of an argument, made in a fixed place before the statement."""
        e = self.settle(self.expr(node))
        if e.type is ERROR or self.is_any(e.type):
            return e
        assert isinstance(t, StructType)
        place = e
        if not isinstance(e, typed.Place) or isinstance(e, (typed.BitPlace, typed.PropertyPlace, typed.ValuePlace)):
            place = self.fixed(e.type, "__value", node)
            self.pending.append(typed.Assign(node.start, place, e))
        self.take_address(place)
        result = self.fixed(t, "__any", node)
        bytes_there = PointerType("POINTER", self.resolve(tree.NamedRef(node.start, node.end, "BYTE")))
        size = typed.Intrinsic(LINT, node.start, "SIZEOF", [typed.Const(place.type, node.start, 0)])
        values: dict[str, typed.Expr] = {
            "TYPECLASS": typed.Const(t.fields["TYPECLASS"].type, node.start, self._type_class(t, place.type)),
            "PVALUE": typed.AddressOf(bytes_there, node.start, place),
            "DISIZE": typed.Convert(DINT, node.start, size, "wrap"),
        }
        for upper, value in values.items():
            inner = typed.MemberPlace(t.fields[upper].type, node.start, result, -1, f"{id(t)}.{upper}", None, upper)
            self.pending.append(typed.Assign(node.start, inner, value))
        return result

    def fixed(self, t: Type, stem: str, node: tree.Expr) -> typed.VariablePlace:
        """A hidden variable of the program."""
        name = f"{stem}{len(self.program.statics)}"
        variable = Variable(name, t, "local", None, self.pou, self.source, storage="static", init_done=True, taken=True)
        variable.scope = self.scope
        self.program.statics.append(variable)
        return typed.VariablePlace(t, node.start, variable)

    def _type_class(self, description: StructType, t: Type) -> int:
        classes = description.fields["TYPECLASS"].type
        assert isinstance(classes, EnumType)
        if isinstance(t, StringType):
            word = mangled(t)
        elif isinstance(t, PointerType):
            word = "REFERENCE" if t.kind == "REFERENCE" else "POINTER"
        elif isinstance(t, (EnumType, ArrayType, InterfaceType)):
            word = {EnumType: "ENUM", ArrayType: "ARRAY", InterfaceType: "INTERFACE"}[type(t)]
        elif isinstance(t, (StructType, BlockType)):
            word = "USERDEF"
        else:
            word = {"DT": "DATEANDTIME", "TOD": "TIMEOFDAY"}.get(t.base.name, t.base.name)
        return classes.members.get(f"TYPE_{word}", classes.members["TYPE_NONE"])


_PARAMETERS = ("VAR_INPUT", "VAR_OUTPUT", "VAR_IN_OUT")
