"""Operators: which operands they take, what type results, and their value when both are known."""

from __future__ import annotations

from vplc.compiler import tree, typed
from vplc.compiler.check import constants
from vplc.compiler.check.base import elementary, is_numeric, type_name
from vplc.compiler.check.coerce import Coercion
from vplc.compiler.types import (
    ANY_INT,
    ANY_REAL,
    BOOL,
    DATE,
    DINT,
    DT,
    ERROR,
    LDATE,
    LDT,
    LINT,
    LREAL,
    LTIME,
    LTOD,
    NULL,
    REAL,
    TIME,
    TOD,
    ULINT,
    BlockType,
    Elementary,
    EnumType,
    InterfaceType,
    PointerType,
    StringType,
    Type,
)

_WORDS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "MOD": "MOD", "**": "raise"}


class Operators(Coercion):
    def binary(self, op: str, a: typed.Expr, b: typed.Expr, node: tree.Expr) -> typed.Expr:
        a, b = self.plain(a), self.plain(b)
        if a.type is ERROR or b.type is ERROR:
            return typed.Const(ERROR, node.start, 0)
        if op in ("=", "<>", "<", ">", "<=", ">="):
            return self.comparison(op, a, b, node)
        if op in ("AND", "OR", "XOR", "AND_THEN", "OR_ELSE"):
            return self.logical(op, a, b, node)
        if op == "**":
            return self.power(a, b, node)
        return self.arithmetic(op, a, b, node)

    def plain(self, e: typed.Expr) -> typed.Expr:
        """A REFERENCE as the variable it stands for."""
        if isinstance(e.type, PointerType) and e.type.kind == "REFERENCE":
            return typed.DerefPlace(e.type.target, e.start, e)
        return e

    def mismatch(self, op: str, a: typed.Expr, b: typed.Expr, node: tree.Expr, hint: str = "") -> typed.Expr:
        self.error("E041", f'"{op}" does not work on {type_name(a)} and {type_name(b)}', node, hint)
        return typed.Const(ERROR, node.start, 0)

    # -- arithmetic ----------------------------------------------------------------------------------

    def arithmetic(self, op: str, a: typed.Expr, b: typed.Expr, node: tree.Expr) -> typed.Expr:
        if isinstance(a.type, PointerType) or isinstance(b.type, PointerType):
            return self.pointer_arithmetic(op, a, b, node)
        ea, eb = elementary(a.type), elementary(b.type)
        if ea is None or eb is None:
            hint = ""
            if op == "+" and (isinstance(a.type, StringType) or isinstance(b.type, StringType)):
                hint = "join strings with CONCAT(a, b)"
            return self.mismatch(op, a, b, node, hint)
        times = ("time", "date", "tod", "dt")
        if ea.group in times or eb.group in times:
            result = self.time_arithmetic(op, a, b, ea, eb, node)
            if result is not None:
                return result
            if not self.lenient:
                return self.mismatch(op, a, b, node)
        elif not self.lenient and (ea.is_bits or eb.is_bits or "char" in (ea.group, eb.group)):
            return self.mismatch(op, a, b, node, "convert bit strings to integers first, e.g. WORD_TO_UINT(...)")
        if isinstance(a.type, EnumType) and isinstance(b.type, EnumType) and not self.lenient:
            return self.mismatch(op, a, b, node)
        both = self.unify(a, b, promote=True)
        if both is None:
            return self.mismatch(op, a, b, node, "convert one of them")
        x, y, t = both
        assert isinstance(t, Elementary)
        if op == "MOD" and t.group in ("real", "any_real"):
            return self.mismatch(op, a, b, node, "MOD takes integers")
        if isinstance(x, typed.Const) and isinstance(y, typed.Const):
            if t.group in times:
                return typed.Binary(t, node.start, op, x, y)
            value = constants.fold(op, x.value, y.value, t)  # type: ignore[arg-type]  # numbers by type
            if value is None:
                if t.group in ("real", "any_real"):
                    return typed.Binary(
                        REAL if t is REAL else LREAL,
                        node.start,
                        op,
                        self._as(x, LREAL) if t is ANY_REAL else x,
                        self._as(y, LREAL) if t is ANY_REAL else y,
                    )
                if y.value == 0:
                    self.error("E073", "division by the constant zero", node)
                else:
                    self.error("E042", "the result does not fit its type", node)
                return typed.Const(ERROR, node.start, 0)
            return typed.Const(t, node.start, value)
        if op in ("/", "MOD") and isinstance(y, typed.Const) and y.value == 0 and t.is_integer and op == "/":
            self.error("E073", "division by the constant zero", node)
            return typed.Const(ERROR, node.start, 0)
        return typed.Binary(t, node.start, op, x, y)

    def pointer_arithmetic(self, op: str, a: typed.Expr, b: typed.Expr, node: tree.Expr) -> typed.Expr:
        if not self.lenient and not any(isinstance(e.type, PointerType) and e.type.kind == "POINTER" for e in (a, b)):
            return self.mismatch(op, a, b, node)
        if isinstance(a.type, PointerType) and isinstance(b.type, PointerType):
            if op == "-":
                x, y = typed.Convert(LINT, a.start, a, "wrap"), typed.Convert(LINT, b.start, b, "wrap")
                return typed.Binary(LINT, node.start, "-", x, y)
            return self.mismatch(op, a, b, node)
        if isinstance(b.type, PointerType):
            if op != "+":
                return self.mismatch(op, a, b, node)
            a, b = b, a
        eb = elementary(b.type)
        if op not in ("+", "-") or eb is None or eb.group not in ("int", "uint", "bits", "any_int"):
            return self.mismatch(op, a, b, node)
        offset = self._as(b, LINT)
        if op == "-":
            offset = self.negate(offset, node)
        return typed.PointerAdd(a.type, node.start, a, offset)

    def time_arithmetic(
        self, op: str, a: typed.Expr, b: typed.Expr, ea: Elementary, eb: Elementary, node: tree.Expr
    ) -> typed.Expr | None:
        long = ea.long or eb.long
        ga, gb = ea.group, eb.group
        start = node.start
        duration = LTIME if long else TIME
        if op in ("+", "-"):
            result: Elementary | None = None
            if ga == "time" and gb == "time":
                result = duration
            elif ga in ("dt", "tod", "date") and gb == "time":
                result = {
                    "dt": LDT if long else DT,
                    "tod": LTOD if long else TOD,
                    "date": (LDATE if long else DATE) if self.lenient else None,
                }[ga]
            elif op == "-" and ga == gb:
                result = duration
            elif op == "+" and ga == "time" and gb in ("dt", "tod"):
                result = {"dt": LDT if long else DT, "tod": LTOD if long else TOD}[gb]
            elif op == "-" and ga == "dt" and gb == "date" and self.lenient:
                result = duration
            if result is None:
                return None
            x, y = typed.Convert(LINT, a.start, a, "same"), typed.Convert(LINT, b.start, b, "same")
            if isinstance(a, typed.Const) and isinstance(b, typed.Const):
                value = constants.fold(op, a.value, b.value, LINT)  # type: ignore[arg-type]  # both are ns
                assert value is not None
                return typed.Const(result, start, value % 86_400_000_000_000 if result.group == "tod" else value)
            raw = typed.Binary(LINT, start, op, x, y)
            if result.group == "tod":
                return typed.Intrinsic(result, start, "DAY_WRAP", [raw])
            return typed.Convert(result, start, raw, "same")
        if op in ("*", "/"):
            if ga == "time" and is_numeric(b.type):
                number, time = b, a
            elif gb == "time" and op == "*" and is_numeric(a.type):
                number, time = a, b
            elif ga == "time" and gb == "time" and op == "/" and self.lenient:
                x, y = typed.Convert(LINT, a.start, a, "same"), typed.Convert(LINT, b.start, b, "same")
                return typed.Binary(LINT, start, "/", x, y)
            elif self.lenient and ga == "time" and eb.group == "bits":
                number, time = self._as(b, ULINT), a
            else:
                return None
            result = ea if ga == "time" else eb
            en = elementary(number.type)
            assert en is not None
            raw_time = typed.Convert(LINT, start, time, "same")
            if en.group in ("real", "any_real"):
                x = typed.Convert(LREAL, start, raw_time, "wrap")
                value_expr = typed.Binary(LREAL, start, op, x, self._as(number, LREAL))
                whole = typed.Convert(LINT, start, value_expr, "check")
                return typed.Convert(result, start, whole, "same")
            if op == "/" and isinstance(number, typed.Const) and number.value == 0:
                self.error("E073", "division by the constant zero", node)
            if isinstance(time, typed.Const) and isinstance(number, typed.Const) and number.value:
                value = constants.fold(op, time.value, number.value, LINT)  # type: ignore[arg-type]  # ns, int
                if value is not None:
                    return typed.Const(result, start, value)
            raw = typed.Binary(LINT, start, op, raw_time, self._as(number, LINT))
            return typed.Convert(result, start, raw, "same")
        if op == "MOD" and ga == "time" and gb == "time":
            x, y = typed.Convert(LINT, a.start, a, "same"), typed.Convert(LINT, b.start, b, "same")
            return typed.Convert(duration, start, typed.Binary(LINT, start, "MOD", x, y), "same")
        return None

    def power(self, a: typed.Expr, b: typed.Expr, node: tree.Expr) -> typed.Expr:
        if not (is_numeric(a.type) and is_numeric(b.type)):
            return self.mismatch("**", a, b, node)
        ea, eb = elementary(a.type), elementary(b.type)
        assert ea is not None
        assert eb is not None
        if isinstance(a, typed.Const) and isinstance(b, typed.Const):
            if isinstance(a.value, int) and isinstance(b.value, int) and 0 <= b.value <= 64 and abs(a.value) < 1 << 32:
                whole = a.value**b.value
                if ea is ANY_INT and abs(whole) < 1 << 63:
                    return typed.Const(ANY_INT, node.start, whole)
            value = constants.power(float(a.value), float(b.value))
            if value is not None:
                t = ANY_REAL if ea in (ANY_INT, ANY_REAL) else LREAL if ea is not REAL else REAL
                return typed.Const(t, node.start, constants.normal(value, t))
        if ea.is_integer and eb.is_integer and ea is not ANY_INT:
            t = ea if not (self.lenient and ea.size < 4) else DINT
            return typed.Intrinsic(t, node.start, "POWI", [self._as(a, t), self._as(b, LINT)])
        t = REAL if ea is REAL and eb is not LREAL else LREAL
        if ea.group in ("int", "any_int", "uint") and eb is REAL and (ea.size <= 2 or self.lenient or ea is ANY_INT):
            t = REAL
        return typed.Intrinsic(t, node.start, "POW", [self._as(a, t), self._as(b, t)])

    def negate(self, e: typed.Expr, node: tree.Expr) -> typed.Expr:
        e = self.plain(e)
        if e.type is ERROR:
            return e
        t = elementary(e.type)
        if isinstance(e, typed.Const) and not isinstance(e.value, str) and t is not None:
            kind = ANY_INT if t.group == "uint" else t
            if kind.is_integer or kind.group in ("real", "any_real", "time"):
                return typed.Const(kind, node.start, constants.normal(-e.value, kind))
        if t is None or not (t.is_integer or t.group in ("real", "time") or (self.lenient and t.is_bits)):
            self.error("E041", f'"-" does not work on {type_name(e)}', node)
            return typed.Const(ERROR, node.start, 0)
        if self.lenient and t.group in ("int", "uint", "bits") and t.size < 4:
            e, t = self._as(e, DINT), DINT
        elif self.lenient and t.group in ("uint", "bits"):
            e, t = self._as(e, LINT), LINT
        elif t.group == "uint":
            self.error("E041", f'"-" does not work on the unsigned type {t.name}', node)
        return typed.Unary(t, node.start, "NEG", e)

    # -- logic ---------------------------------------------------------------------------------------

    def logical(self, op: str, a: typed.Expr, b: typed.Expr, node: tree.Expr) -> typed.Expr:
        a, b = self.enum_base(a), self.enum_base(b)
        ea, eb = elementary(a.type), elementary(b.type)
        ok = ("bool", "bits", "any_int") if not self.lenient else ("bool", "bits", "any_int", "int", "uint")
        if ea is None or eb is None or ea.group not in ok or eb.group not in ok:
            hint = ""
            if (ea is not None and ea.is_integer) or (eb is not None and eb.is_integer):
                hint = "AND, OR and XOR take bit strings: convert with INT_TO_WORD(...) or the like"
            return self.mismatch(op, a, b, node, hint)
        if ea is ANY_INT and eb is BOOL and isinstance(a, typed.Const) and a.value in (0, 1):
            a = self._as(a, BOOL)
        if eb is ANY_INT and ea is BOOL and isinstance(b, typed.Const) and b.value in (0, 1):
            b = self._as(b, BOOL)
        both = self.unify(a, b)
        if both is None:
            return self.mismatch(op, a, b, node)
        x, y, t = both
        assert isinstance(t, Elementary)
        if op in ("AND_THEN", "OR_ELSE"):
            if t is not BOOL:
                return self.mismatch(op, a, b, node, "both sides must be BOOL")
            return typed.Logic(BOOL, node.start, op[: op.index("_")], x, y)
        if isinstance(x, typed.Const) and isinstance(y, typed.Const):
            value = constants.fold(op, x.value, y.value, t)  # type: ignore[arg-type]  # integers by type
            assert value is not None
            return typed.Const(t, node.start, value)
        return typed.Binary(t, node.start, op, x, y)

    def enum_base(self, e: typed.Expr) -> typed.Expr:
        if isinstance(e.type, EnumType) and self.lenient:
            if isinstance(e, typed.Const):
                return typed.Const(e.type.underlying, e.start, e.value)
            return typed.Convert(e.type.underlying, e.start, e, "wrap")
        return e

    def complement(self, e: typed.Expr, node: tree.Expr) -> typed.Expr:
        e = self.plain(e)
        t = elementary(e.type)
        if e.type is ERROR:
            return e
        ok = ("bool", "bits") if not self.lenient else ("bool", "bits", "int", "uint")
        if isinstance(e, typed.Const) and t is ANY_INT:
            e = self.settle(e)
            if e.type.base.size and isinstance(e, typed.Const) and isinstance(e.value, int):
                return typed.Const(ANY_INT, node.start, ~e.value)
        if t is None or t.group not in ok:
            self.error(
                "E041",
                f"NOT does not work on {type_name(e)}",
                node,
                "NOT takes BOOL or a bit string" if t is not None and t.is_integer else "",
            )
            return typed.Const(ERROR, node.start, 0)
        if isinstance(e, typed.Const) and isinstance(e.value, int):
            return typed.Const(t, node.start, constants.wrap(~e.value, t))
        return typed.Unary(t, node.start, "NOT", e)

    # -- comparison ----------------------------------------------------------------------------------

    def comparison(self, op: str, a: typed.Expr, b: typed.Expr, node: tree.Expr) -> typed.Expr:
        x: typed.Expr
        y: typed.Expr
        if isinstance(a.type, StringType) or isinstance(b.type, StringType):
            return self._string_comparison(op, a, b, node)
        pointers = (PointerType, InterfaceType)
        if isinstance(a.type, pointers) or isinstance(b.type, pointers) or NULL in (a.type, b.type):
            t: Type = a.type if isinstance(a.type, pointers) else b.type
            if isinstance(a.type, InterfaceType) and isinstance(b.type, BlockType):
                b = self.implicit(b, a.type) or b
            ok = [self.implicit(e, t) or self.constant_to_pointer(e, t) for e in (a, b)]
            if ok[0] is None or ok[1] is None or (op not in ("=", "<>") and not self.lenient):
                return self.mismatch(op, a, b, node)
            x, y = (typed.Convert(ULINT, e.start, e, "same") for e in (ok[0], ok[1]))
            return typed.Compare(BOOL, node.start, op, x, y)
        if isinstance(a.type, EnumType) and isinstance(b.type, EnumType) and a.type is not b.type and not self.lenient:
            return self.mismatch(op, a, b, node, "the two enumerations are different types")
        both = self.unify(a, b)
        if both is None:
            return self.mismatch(op, a, b, node, "convert one of them")
        x, y, joined = both
        assert isinstance(joined, Elementary)
        if isinstance(x, typed.Const) and isinstance(y, typed.Const):
            return typed.Const(BOOL, node.start, constants.compare(op, x.value, y.value))
        return typed.Compare(BOOL, node.start, op, x, y)

    def constant_to_pointer(self, e: typed.Expr, t: Type) -> typed.Expr | None:
        if isinstance(e, typed.Const) and e.value == 0:
            return typed.Const(t, e.start, 0)
        return None

    def _string_comparison(self, op: str, a: typed.Expr, b: typed.Expr, node: tree.Expr) -> typed.Expr:
        if not isinstance(a.type, StringType):
            a, b, op = b, a, {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(op, op)
        assert isinstance(a.type, StringType)
        eb = elementary(b.type)
        if eb is not None and eb.group == "char" and isinstance(a, typed.Const) and len(str(a.value)) == 1:
            return self.comparison(op, typed.Const(eb, a.start, ord(str(a.value))), b, node)
        if isinstance(b.type, StringType) and isinstance(b, typed.Const) and b.type.wide != a.type.wide:
            b = typed.Const(StringType(b.type.length, a.type.wide), b.start, b.value)
        elif isinstance(b.type, StringType) and isinstance(a, typed.Const) and b.type.wide != a.type.wide:
            a = typed.Const(StringType(a.type.length, b.type.wide), a.start, a.value)
        other = self.implicit(b, a.type) if not isinstance(b.type, StringType) else b
        mine, theirs = a.type, other.type if other is not None else ERROR
        if not (isinstance(mine, StringType) and isinstance(theirs, StringType) and mine.wide == theirs.wide):
            return self.mismatch(op, a, b, node)
        if other is None:
            return self.mismatch(op, a, b, node)
        if isinstance(a, typed.Const) and isinstance(other, typed.Const):
            return typed.Const(BOOL, node.start, constants.compare(op, a.value, other.value))
        return typed.Compare(BOOL, node.start, op, a, other)
