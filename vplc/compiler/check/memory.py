"""Functions about memory: addresses, sizes, bounds, byte order."""

from __future__ import annotations

from vplc.compiler import tree, typed
from vplc.compiler.check.base import elementary
from vplc.compiler.check.strings import StringFunctions
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import (
    BOOL,
    DINT,
    ERROR,
    LINT,
    LREAL,
    NULL,
    UDINT,
    VOID,
    ArrayType,
    BlockType,
    InterfaceType,
    PointerType,
    StringType,
    StructType,
    SubrangeType,
    Type,
    align_up,
)


class MemoryFunctions(StringFunctions):
    def fn_SIZEOF(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "SIZEOF", ("IN",))
        if args is None:
            return self.bad(node)
        name = self.qualified(args[0])
        if name and self.own_member(name.partition(".")[0].upper()) is None:
            found = self.lookup(name)
            from vplc.compiler.check.resolve import NamedType
            from vplc.compiler.types import ELEMENTARY

            t: Type | None = None
            if isinstance(found, NamedType):
                t = self.define(found)
            elif isinstance(found, PouSymbol) and found.type is not None:
                t = found.type
            elif found is None:
                t = ELEMENTARY.get(name.upper())
            elif isinstance(found, Type):
                t = found
            if t is not None:
                return self._size(t, node)
        e = self.settle(self.expr(args[0]))
        return e if e.type is ERROR else self._size(e.type, node)

    def _size(self, t: Type, node: tree.Call) -> typed.Expr:
        """A constant where the size is known already, so that array bounds may use it."""
        found = static_size(t)
        if found is None:
            return typed.Intrinsic(UDINT, node.start, "SIZEOF", [typed.Const(t, node.start, 0)])
        return typed.Const(UDINT, node.start, found[0])

    def fn_XSIZEOF(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self.fn_SIZEOF(node, want)

    def fn_ADR(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "ADR", ("IN",))
        if args is None:
            return self.bad(node)
        if not self.lenient and not (isinstance(want, PointerType) and want.kind == "POINTER"):
            self.warn("W004", "ADR belongs to the codesys profile", node, "REF(...) is the standard's way")
        place = self.expr(args[0])
        if place.type is ERROR:
            return place
        if isinstance(place.type, StringType) and isinstance(place, typed.Const):
            text = Variable(
                f"__text{len(self.program.statics)}",
                place.type,
                "local",
                None,
                self.pou,
                self.source,
                storage="static",
                init=place.value,
                init_done=True,
            )
            self.program.statics.append(text)
            value = typed.VariablePlace(place.type, node.start, text)
            return typed.AddressOf(PointerType("POINTER", place.type), node.start, value)
        if not isinstance(place, typed.Place) or isinstance(place, (typed.BitPlace, typed.PropertyPlace)):
            if isinstance(place, typed.BitPlace):
                place = place.base
            else:
                self.error("E053", "ADR takes a variable", node)
                return self.bad(node)
        self.take_address(place)
        return typed.AddressOf(PointerType("POINTER", place.type), node.start, place)

    def fn_ADRINST(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self.this(node, "THIS")

    def fn_REF(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "REF", ("IN",))
        if args is None:
            return self.bad(node)
        place = self.expr(args[0])
        if place.type is ERROR:
            return place
        if not isinstance(place, typed.Place) or isinstance(
            place, (typed.BitPlace, typed.PropertyPlace, typed.CharPlace)
        ):
            self.error("E053", "REF takes a variable", node)
            return self.bad(node)
        if (
            isinstance(place, typed.VariablePlace)
            and (
                place.variable.kind == "temp"
                or (
                    self.pou is not None
                    and self.pou.kind in ("FUNCTION", "METHOD")
                    and place.variable.owner is self.pou
                    and place.variable.kind != "inout"
                )
            )
            and not self.lenient
        ):
            self.error("E053", f"{place.variable.name} is gone after the call: no reference may outlive it", node)
        self.take_address(place)
        return typed.AddressOf(PointerType("REF_TO", place.type), node.start, place)

    def fn___ISVALIDREF(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "__ISVALIDREF", ("IN",))
        if args is None:
            return self.bad(node)
        e = self.raw(args[0])
        if e.type is ERROR:
            return e
        if not isinstance(e.type, (PointerType, InterfaceType)):
            self.error("E053", "__ISVALIDREF takes a REFERENCE", node)
            return self.bad(node)
        from vplc.compiler.types import ULINT

        value = typed.Convert(ULINT, node.start, e, "same")
        return typed.Compare(BOOL, node.start, "<>", value, typed.Const(ULINT, node.start, 0))

    def fn___QUERYINTERFACE(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._query("__QUERYINTERFACE", node)

    def fn___QUERYPOINTER(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._query("__QUERYPOINTER", node)

    def _query(self, name: str, node: tree.Call) -> typed.Expr:
        """`ok := __QUERYINTERFACE(from, to)`: the assignment attempt `to ?= from` as a value."""
        args = self.take(node, name, ("FROM", "TO"))
        if args is None:
            return self.bad(node)
        value, place = self.expr(args[0]), self.target(args[1])
        if ERROR in (value.type, place.type):
            return self.bad(node)
        if name == "__QUERYPOINTER":
            if not isinstance(place.type, PointerType) or not isinstance(value.type, InterfaceType):
                self.error("E040", f"{name} takes an interface and a pointer", node)
                return self.bad(node)
            return typed.Attempt(BOOL, node.start, place, typed.Convert(place.type, node.start, value, "same"))
        found = self.coerce(self.attempted(value, place.type, args[0]), place.type, args[0])
        return self.bad(node) if found.type is ERROR else typed.Attempt(BOOL, node.start, place, found)

    def attempted(self, value: typed.Expr, t: Type, node: tree.Expr) -> typed.Expr:
        """`value` where an assignment attempt may store it: as it is, or null when the instance is of another type."""
        symbol = t.symbol if isinstance(t, InterfaceType) else None
        if isinstance(t, PointerType) and isinstance(t.target, BlockType):
            symbol = t.target.symbol
        source = value.type
        if isinstance(source, PointerType):
            source = source.target
        if symbol is None or not isinstance(source, (InterfaceType, BlockType)):
            if source is not NULL:
                self.error("E040", f"?= works on interfaces and references to instances, not on {t.name}", node)
                return self.bad(node)
            return value
        if source.symbol.is_a(symbol):
            return value
        if isinstance(value.type, BlockType):
            self.take_address(value)
            value = typed.AddressOf(PointerType("REF_TO", value.type), value.start, value)
        return typed.TypeTest(t, value.start, value, symbol)

    def _dynamic(self, name: str, node: tree.Call) -> typed.Expr:
        hint = "declare the instances, or an array of them as a pool, and keep references to those in use"
        self.error("E014", f"{name} is not supported: memory is fixed before the first scan", node, hint)
        return self.bad(node)

    def fn___NEW(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._dynamic("__NEW", node)

    def fn___DELETE(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._dynamic("__DELETE", node)

    def fn___C_FORMAT(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        values = self.values([a.value for a in node.args if a.value is not None]) or []
        return typed.Intrinsic(
            DINT, node.start, "C_FORMAT", [values[0], *(self._as(v, LINT) for v in values[1:3]), values[3]]
        )

    def fn___C_PARSE(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        values = self.values([a.value for a in node.args if a.value is not None]) or []
        return typed.Intrinsic(LREAL, node.start, "C_PARSE", values)

    def fn_IS_VALID(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "IS_VALID", ("IN",))
        if args is None:
            return self.bad(node)
        x = self.real_argument(self.settle(self.expr(args[0])), "IS_VALID", node)
        return self.bad(node) if x is None else typed.Intrinsic(BOOL, node.start, "IS_VALID", [x])

    def _bound(self, name: str, node: tree.Call) -> typed.Expr:
        args = self.take(node, name, ("ARR", "DIM"))
        if args is None:
            return self.bad(node)
        array = self.expr(args[0])
        t = array.type
        ranks = len(t.dims) or t.stars if isinstance(t, ArrayType) else 0
        chosen = self.settle(self.expr(args[1], DINT))
        if t is ERROR or chosen.type is ERROR:
            return self.bad(node)
        if not isinstance(chosen, typed.Const) and ranks:
            known = SubrangeType(f"DINT(1..{ranks})", DINT, 1, ranks)
            rank = typed.Convert(known, node.start, self.coerce(chosen, DINT, args[1]), "check")
            return typed.Intrinsic(DINT, node.start, name, [array, rank])
        dim = self.constant_int(args[1])
        if dim is None:
            return self.bad(node)
        if not isinstance(t, ArrayType) or not 1 <= dim <= ranks:
            self.error("E046", f"{name} takes an array and one of its dimensions, counted from 1", node)
            return self.bad(node)
        if t.dims:
            return typed.Const(DINT, node.start, t.dims[dim - 1][0 if name == "LOWER_BOUND" else 1])
        return typed.Intrinsic(DINT, node.start, name, [array, typed.Const(DINT, node.start, dim - 1)])

    def fn_LOWER_BOUND(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._bound("LOWER_BOUND", node)

    def fn_UPPER_BOUND(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._bound("UPPER_BOUND", node)

    def _endian(self, name: str, node: tree.Call, swap: bool) -> typed.Expr:
        args = self.take(node, name, ("IN",))
        if args is None:
            return self.bad(node)
        e = self.settle(self.expr(args[0]))
        t = elementary(e.type)
        if t is None or t is VOID:
            self.error("E041", f"{name} takes an elementary value", node)
            return self.bad(node)
        return typed.Intrinsic(t, node.start, "BSWAP", [e]) if swap and t.size > 1 else e

    def fn_TO_BIG_ENDIAN(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._endian("TO_BIG_ENDIAN", node, True)

    def fn_TO_LITTLE_ENDIAN(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._endian("TO_LITTLE_ENDIAN", node, False)

    def fn_FROM_BIG_ENDIAN(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._endian("FROM_BIG_ENDIAN", node, True)

    def fn_FROM_LITTLE_ENDIAN(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._endian("FROM_LITTLE_ENDIAN", node, False)


def static_size(t: Type, depth: int = 0) -> tuple[int, int] | None:
    """Size and alignment of a type as the layout will fix them; None with function blocks or itself inside."""
    if depth > 50:
        return None
    if isinstance(t, ArrayType):
        inner = static_size(t.element, depth + 1)
        return None if inner is None or not t.dims else (t.count * inner[0], inner[1])
    if isinstance(t, StructType):
        at, align = 0, 1
        for f in t.fields.values():
            inner = static_size(f.type, depth + 1)
            if inner is None:
                return None
            size, one = inner
            align = max(align, one)
            at = max(at, size) if t.union else align_up(at, one) + size
        return max(1, align_up(at, align)), align
    return None if isinstance(t, BlockType) or t is ERROR else (t.size, t.align)
