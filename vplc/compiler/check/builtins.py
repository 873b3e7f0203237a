"""The standard functions that Structured Text itself cannot say: generic over their arguments' types.

Each `fn_NAME` checks its arguments and gives a typed expression. Functions that ST can say live in
`vplc/library`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from vplc.compiler import tree, typed
from vplc.compiler.check import constants
from vplc.compiler.check.base import elementary, is_literal, is_numeric, type_name
from vplc.compiler.check.calls import Calls
from vplc.compiler.check.conversions import ConversionName, Conversions
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import (
    ANY_INT,
    ANY_REAL,
    BOOL,
    BYTE,
    DINT,
    ERROR,
    INT,
    LINT,
    LREAL,
    LTIME,
    LWORD,
    REAL,
    TIME,
    UDINT,
    VOID,
    ArrayType,
    BlockType,
    Elementary,
    PointerType,
    StringType,
    StructType,
    Type,
    same,
)

_MATH = ("SQRT", "LN", "LOG", "EXP", "SIN", "COS", "TAN", "ASIN", "ACOS", "ATAN")
_OPERATORS = {
    "ADD": "+",
    "SUB": "-",
    "MUL": "*",
    "DIV": "/",
    "MOD": "MOD",
    "AND": "AND",
    "OR": "OR",
    "XOR": "XOR",
    "GT": ">",
    "GE": ">=",
    "EQ": "=",
    "LE": "<=",
    "LT": "<",
    "NE": "<>",
    "EXPT": "**",
}
_NARY = frozenset({"ADD", "MUL", "AND", "OR", "XOR"})
_CHAIN = frozenset({"GT", "GE", "EQ", "LE", "LT"})
_NAMES: dict[str, tuple[str, ...]] = {
    "SHL": ("IN", "N"),
    "SHR": ("IN", "N"),
    "ROL": ("IN", "N"),
    "ROR": ("IN", "N"),
    "LIMIT": ("MN", "IN", "MX"),
    "SEL": ("G", "IN0", "IN1"),
    "LEN": ("IN",),
    "LEFT": ("IN", "L"),
    "RIGHT": ("IN", "L"),
    "MID": ("IN", "L", "P"),
    "INSERT": ("IN1", "IN2", "P"),
    "DELETE": ("IN", "L", "P"),
    "REPLACE": ("IN1", "IN2", "L", "P"),
    "FIND": ("IN1", "IN2"),
    "ATAN2": ("Y", "X"),
    "EXPT": ("IN1", "IN2"),
    "MOVE": ("IN",),
    "NOT": ("IN",),
    "ABS": ("IN",),
    "TRUNC": ("IN",),
    "SUB": ("IN1", "IN2"),
    "DIV": ("IN1", "IN2"),
    "MOD": ("IN1", "IN2"),
    "NE": ("IN1", "IN2"),
}
_TIME_FUNCTIONS: dict[str, tuple[str, str, str]] = {}
for _p in ("", "L"):
    _TIME_FUNCTIONS[f"ADD_{_p}TIME"] = (f"{_p}TIME", "+", f"{_p}TIME")
    _TIME_FUNCTIONS[f"SUB_{_p}TIME"] = (f"{_p}TIME", "-", f"{_p}TIME")
    _TIME_FUNCTIONS[f"ADD_{_p}TOD_{_p}TIME"] = (f"{_p}TOD", "+", f"{_p}TIME")
    _TIME_FUNCTIONS[f"ADD_{_p}DT_{_p}TIME"] = (f"{_p}DT", "+", f"{_p}TIME")
    _TIME_FUNCTIONS[f"SUB_{_p}DATE_{_p}DATE"] = (f"{_p}DATE", "-", f"{_p}DATE")
    _TIME_FUNCTIONS[f"SUB_{_p}TOD_{_p}TIME"] = (f"{_p}TOD", "-", f"{_p}TIME")
    _TIME_FUNCTIONS[f"SUB_{_p}TOD_{_p}TOD"] = (f"{_p}TOD", "-", f"{_p}TOD")
    _TIME_FUNCTIONS[f"SUB_{_p}DT_{_p}TIME"] = (f"{_p}DT", "-", f"{_p}TIME")
    _TIME_FUNCTIONS[f"SUB_{_p}DT_{_p}DT"] = (f"{_p}DT", "-", f"{_p}DT")
    _TIME_FUNCTIONS[f"MUL_{_p}TIME"] = (f"{_p}TIME", "*", "")
    _TIME_FUNCTIONS[f"DIV_{_p}TIME"] = (f"{_p}TIME", "/", "")
_TIME_FUNCTIONS |= {"MULTIME": ("TIME", "*", ""), "DIVTIME": ("TIME", "/", "")}
_STRING_UNITS = {
    "LEN": "LEN",
    "LEFT": "LEFT",
    "RIGHT": "RIGHT",
    "MID": "MID",
    "CONCAT": "CONCAT",
    "INSERT": "INSERT",
    "DELETE": "DELETE",
    "REPLACE": "REPLACE",
    "FIND": "FIND",
}
MAX_TEMP = 2048
# CODESYS' names for the parameters of string functions.
_ALIASES = {"STR": "IN", "STR1": "IN1", "STR2": "IN2", "SIZE": "L", "LEN": "L", "POS": "P"}


class Builtins(Conversions, Calls):
    _table: dict[str, Callable[[tree.Call, Type | None], typed.Expr]]

    def intrinsic_names(self) -> list[str]:
        names = [n[3:] for n in dir(self) if n.startswith("fn_")]
        return [*names, *_MATH, *_OPERATORS, *_STRING_UNITS]

    def is_intrinsic(self, upper: str) -> bool:
        if upper.startswith(("ASSERT_", "MOCK_VERIFY")) or upper == "ADVANCE_TIME":
            return True
        if upper.startswith("__C_"):
            return self.pou is not None and self.pou.unchecked
        if hasattr(self, f"fn_{upper}") or upper in _MATH or upper in _OPERATORS or upper in _TIME_FUNCTIONS:
            return True
        if upper[0] == "W" and upper[1:] in _STRING_UNITS:
            return True
        return ConversionName.parse(upper) is not None

    def intrinsic(self, name: str, node: tree.Call, want: Type | None) -> typed.Expr:
        if name[0] == "W" and name[1:] in _STRING_UNITS and self.codesys:
            name = name[1:]
        handler = getattr(self, f"fn_{name}", None)
        if handler is not None:
            result: typed.Expr = handler(node, want)
            return result
        if name in _OPERATORS:
            return self.operator_call(name, node)
        if name in _MATH:
            return self.math_call(name, node)
        if name in _TIME_FUNCTIONS:
            return self.time_call(name, node)
        conversion = ConversionName.parse(name)
        if conversion is None:
            self.error("E090", f"{name} is a statement of a TEST", node)
            return self.bad(node)
        args = self.take(node, name, ("IN",))
        if args is None:
            return self.bad(node)
        return self.convert_call(conversion, args[0], node, want)

    # -- arguments -----------------------------------------------------------------------------------

    def take(self, node: tree.Call, name: str, names: tuple[str, ...], least: int = -1) -> list[tree.Expr] | None:
        """The argument expressions in formal order; wrong counts and names are reported."""
        found: dict[str, tree.Expr] = {}
        position = 0
        for arg in node.args:
            if arg.value is None:
                continue
            if arg.name:
                upper = arg.name.upper()
                if upper in ("EN", "ENO"):
                    continue
                if upper not in names and self.codesys:
                    upper = _ALIASES.get(upper, upper)
                if upper not in names or arg.output:
                    self.error(
                        "E050", f"{name} has no parameter {arg.name}", arg.value, "its parameters: " + ", ".join(names)
                    )
                    return None
                found[upper] = arg.value
            else:
                if position >= len(names):
                    self.error("E051", f"{name} takes {len(names)} arguments, {len(node.args)} given", node)
                    return None
                found[names[position]] = arg.value
                position += 1
        needed = names if least < 0 else names[:least]
        missing = [n for n in needed if n not in found]
        if missing:
            self.error("E051", f"{name} lacks its argument {missing[0]}", node, "its parameters: " + ", ".join(names))
            return None
        return [found[n] for n in names if n in found]

    def take_all(self, node: tree.Call, name: str, least: int, first: str = "") -> list[tree.Expr] | None:
        """The arguments of an extensible function: IN1, IN2, ... or IN0, IN1, ... in order."""
        out = [a.value for a in node.args if a.value is not None and a.name.upper() not in ("EN", "ENO")]
        if len(out) < least:
            self.error("E051", f"{name} takes at least {least} arguments, {len(out)} given", node)
            return None
        for a in node.args:
            upper = a.name.upper()
            if (
                a.name
                and upper not in ("EN", "ENO", first, "STR1" if self.codesys else "", "STR2" if self.codesys else "")
                and not (upper.startswith("IN") and (upper[2:].isdigit() or upper == "IN"))
            ):
                self.error("E050", f"{name} has no parameter {a.name}", node, "its parameters: IN1, IN2, ...")
                return None
        return out

    def values(self, nodes: list[tree.Expr], want: Type | None = None) -> list[typed.Expr] | None:
        out = [self.expr(n, want) for n in nodes]
        return None if any(e.type is ERROR for e in out) else out

    def join(self, values: list[typed.Expr], node: tree.Call, name: str) -> tuple[list[typed.Expr], Type] | None:
        """All values in one common type."""
        first = values[0]
        if all(isinstance(v.type, StringType) for v in values):
            wide = any(isinstance(v.type, StringType) and v.type.wide for v in values if not isinstance(v, typed.Const))
            length = max(v.type.length for v in values if isinstance(v.type, StringType))
            return values, StringType(length, wide)
        joined = first
        for value in values[1:]:
            if same(joined.type, value.type):
                continue
            both = self.unify(joined, value)
            if both is None:
                self.error("E041", f"{name} does not work on {type_name(joined)} and {type_name(value)} together", node)
                return None
            joined = both[0] if not isinstance(joined, typed.Const) or isinstance(both[0], typed.Const) else both[1]
        joined = self.settle(joined)
        out: list[typed.Expr] = []
        for value in values:
            if same(joined.type, value.type):
                out.append(value)
                continue
            both = self.unify(value, joined)
            assert both is not None
            out.append(self._as(value, both[2]) if isinstance(both[2], Elementary) else value)
        return out, joined.type

    # -- numbers -------------------------------------------------------------------------------------

    def operator_call(self, name: str, node: tree.Call) -> typed.Expr:
        op = _OPERATORS[name]
        if name in _NARY or name in _CHAIN:
            nodes = self.take_all(node, name, 2)
        else:
            nodes = self.take(node, name, _NAMES[name])
        values = self.values(nodes) if nodes is not None else None
        if values is None or nodes is None:
            return self.bad(node)
        if name in _CHAIN:
            result: typed.Expr | None = None
            for a, b in itertools.pairwise(values):
                step = self.binary(op, a, b, node)
                result = step if result is None else self.binary("AND", result, step, node)
            assert result is not None
            return result
        result = values[0]
        for value in values[1:]:
            result = self.binary(op, result, value, node)
        return result

    def fn_NOT(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802  # named as in ST
        args = self.take(node, "NOT", ("IN",))
        return self.bad(node) if args is None else self.complement(self.expr(args[0], want), node)

    def fn_MOVE(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "MOVE", ("IN",))
        return self.bad(node) if args is None else self.expr(args[0], want)

    def fn_ABS(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "ABS", ("IN",))
        if args is None:
            return self.bad(node)
        e = self.expr(args[0], want)
        t = elementary(e.type)
        if e.type is ERROR:
            return e
        if isinstance(e, typed.Const) and t is not None and not isinstance(e.value, str) and is_numeric(t):
            return typed.Const(t, node.start, constants.normal(abs(e.value), t))
        if t is None or not (is_numeric(t) or t.group == "time" or (self.lenient and t.is_bits)):
            self.error("E041", f"ABS does not work on {type_name(e)}", node)
            return self.bad(node)
        if self.lenient and t.group == "int" and t.size < 4:
            return typed.Intrinsic(DINT, node.start, "ABS", [self._as(e, DINT)])
        return typed.Intrinsic(t, node.start, "ABS", [e])

    def real_argument(self, e: typed.Expr, name: str, node: tree.Expr) -> typed.Expr | None:
        t = elementary(e.type)
        if t is None or not is_numeric(t):
            if t is not None and self.lenient and t.is_bits:
                return self._as(e, LREAL if t.size >= 4 else REAL)
            self.error("E041", f"{name} does not work on {type_name(e)}", node)
            return None
        if t.group == "real":
            return e
        if t is ANY_REAL:
            return self._as(e, LREAL)
        if t is ANY_INT or t.size >= 4:
            return self._as(e, LREAL)
        return self._as(e, REAL)

    def math_call(self, name: str, node: tree.Call) -> typed.Expr:
        args = self.take(node, name, ("IN",))
        if args is None:
            return self.bad(node)
        e = self.expr(args[0])
        if e.type is ERROR:
            return e
        literal = is_literal(e)
        x = self.real_argument(e, name, node)
        if x is None:
            return self.bad(node)
        result = typed.Intrinsic(x.type, node.start, name, [x])
        if literal and isinstance(x, typed.Const):
            value = _evaluate(name, float(x.value))
            if value is not None:
                return typed.Const(ANY_REAL, node.start, value)
        return result

    def fn_ATAN2(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "ATAN2", ("Y", "X"))
        values = self.values(args) if args else None
        if values is None:
            return self.bad(node)
        y, x = (self.real_argument(v, "ATAN2", node) for v in values)
        if x is None or y is None:
            return self.bad(node)
        t = LREAL if LREAL in (x.type, y.type) else REAL
        return typed.Intrinsic(t, node.start, "ATAN2", [self._as(y, t), self._as(x, t)])

    def _rounding(self, name: str, node: tree.Call, want: Type | None) -> typed.Expr:
        args = self.take(node, name, ("IN",))
        if args is None:
            return self.bad(node)
        x = self.real_argument(self.settle(self.expr(args[0])), name, node)
        return self.bad(node) if x is None else typed.Intrinsic(x.type, node.start, name, [x])

    def fn_FLOOR(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._rounding("FLOOR", node, want)

    def fn_CEIL(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._rounding("CEIL", node, want)

    def fn_TRUNC(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "TRUNC", ("IN",))
        if args is None:
            return self.bad(node)
        e = self.settle(self.expr(args[0]))
        target = want.base if want is not None else None
        if not isinstance(target, Elementary) or not target.is_integer or self.codesys:
            target = DINT
        return self.real_to(e, target, "trunc", node)

    # -- selection -----------------------------------------------------------------------------------

    def _extreme(self, name: str, node: tree.Call, want: Type | None) -> typed.Expr:
        nodes = self.take_all(node, name, 1)
        values = self.values(nodes, want) if nodes else None
        if values is None:
            return self.bad(node)
        joined = self.join(values, node, name)
        if joined is None:
            return self.bad(node)
        values, t = joined
        result = values[0]
        for value in values[1:]:
            result = typed.Intrinsic(t, node.start, name, [result, value])
        return result

    def fn_MAX(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._extreme("MAX", node, want)

    def fn_MIN(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._extreme("MIN", node, want)

    def fn_LIMIT(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "LIMIT", _NAMES["LIMIT"])
        values = self.values(args, want) if args else None
        if values is None:
            return self.bad(node)
        joined = self.join(values, node, "LIMIT")
        if joined is None:
            return self.bad(node)
        (low, x, high), t = joined
        # MIN(MAX(IN, MN), MX), as the standard defines it.
        inner = typed.Intrinsic(t, node.start, "MAX", [x, low])
        return typed.Intrinsic(t, node.start, "MIN", [inner, high])

    def fn_SEL(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "SEL", _NAMES["SEL"])
        if args is None:
            return self.bad(node)
        selector = self.coerce(self.expr(args[0]), BOOL, args[0])
        values = self.values(args[1:], want)
        return self._choice("SEL", selector, values, node)

    def fn_MUX(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        nodes = self.take_all(node, "MUX", 2, "K")
        if nodes is None:
            return self.bad(node)
        selector = self.settle(self.expr(nodes[0]))
        e = elementary(selector.type)
        if e is None or not (e.is_integer or (self.lenient and e.is_bits)):
            self.error("E041", f"MUX selects by an integer, not {type_name(selector)}", node)
            return self.bad(node)
        return self._choice("MUX", selector, self.values(nodes[1:], want), node)

    def _choice(self, name: str, selector: typed.Expr, values: list[typed.Expr] | None, node: tree.Call) -> typed.Expr:
        if values is None or selector.type is ERROR:
            return self.bad(node)
        joined = self.join(values, node, name)
        if joined is None:
            return self.bad(node)
        return typed.Choice(joined[1], node.start, selector, joined[0])

    # -- bits ----------------------------------------------------------------------------------------

    def _shift(self, name: str, node: tree.Call, want: Type | None) -> typed.Expr:
        args = self.take(node, name, ("IN", "N"))
        values = self.values(args) if args else None
        if values is None:
            return self.bad(node)
        x, n = values
        t, tn = elementary(x.type), elementary(n.type)
        if t is ANY_INT and isinstance(x, typed.Const):
            target = want.base if want is not None else None
            wide = target if isinstance(target, Elementary) and target.is_bits else None
            wide = wide or next(
                (w for w in (BYTE, DWORD_, LWORD) if isinstance(x.value, int) and w.low <= x.value <= w.high), LWORD
            )
            x = typed.Const(wide, x.start, x.value)
            t = wide
        ok = t is not None and (t.is_bits or (self.lenient and t.is_integer))
        counts = tn is not None and (tn.is_integer or (self.lenient and tn.is_bits))
        if not ok or not counts or t is None:
            hint = (
                "shifts take bit strings: convert with INT_TO_WORD(...) or the like"
                if t is not None and t.is_integer
                else ""
            )
            self.error("E041", f"{name} does not work on {type_name(x)} and {type_name(n)}", node, hint)
            return self.bad(node)
        if isinstance(n, typed.Const):
            if isinstance(n.value, int) and n.value < 0:
                self.error("E042", f"{name} by {n.value}: the count is never negative", node)
                return self.bad(node)
            n = typed.Const(LINT, n.start, n.value)
        return typed.Intrinsic(t, node.start, name, [x, n])

    def fn_SHL(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._shift("SHL", node, want)

    def fn_SHR(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._shift("SHR", node, want)

    def fn_ROL(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._shift("ROL", node, want)

    def fn_ROR(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._shift("ROR", node, want)

    # -- strings -------------------------------------------------------------------------------------

    def library(self, name: str) -> PouSymbol:
        found = self.library_scope.names[name]
        assert isinstance(found, PouSymbol)
        if self.pou is not None:
            self.pou.calls.add(found)
        return found

    def string_args(
        self, node: tree.Call, name: str, names: tuple[str, ...], strings: int
    ) -> tuple[list[typed.Expr], bool] | None:
        args = self.take(node, name, names)
        values = self.values(args) if args else None
        if values is None or args is None:
            return None
        wide = any(isinstance(v.type, StringType) and v.type.wide for v in values)
        for i, value in enumerate(values):
            if i < strings:
                e = elementary(value.type)
                if e is not None and e.group == "char":
                    value = typed.Intrinsic(StringType(1, e.size == 2), value.start, "CHAR_TO_STRING", [value])
                    values[i] = value
                if not isinstance(value.type, StringType):
                    self.error("E041", f"{name} takes a string, not {type_name(value)}", args[i])
                    return None
                if value.type.wide != wide:
                    if isinstance(value, typed.Const):
                        values[i] = typed.Const(StringType(value.type.length, wide), value.start, value.value)
                    else:
                        self.error("E041", f"{name} does not mix STRING and WSTRING", args[i], "STRING_TO_WSTRING(...)")
                        return None
            else:
                e = elementary(value.type)
                if e is None or not (e.is_integer or (self.lenient and e.is_bits)):
                    self.error("E041", f"{name} counts with integers, not {type_name(value)}", args[i])
                    return None
                values[i] = self._as(value, LINT)
        return values, wide

    def _string_function(
        self, name: str, node: tree.Call, strings: int, length: Callable[[list[int]], int]
    ) -> typed.Expr:
        got = self.string_args(node, name, _NAMES[name], strings)
        if got is None:
            return self.bad(node)
        values, wide = got
        sizes = [v.type.length for v in values if isinstance(v.type, StringType)]
        t = StringType(min(length(sizes), MAX_TEMP), wide)
        return self.string_call(name, values, t, node)

    def string_call(self, name: str, values: list[typed.Expr], t: StringType, node: tree.Expr) -> typed.Expr:
        function = self.library(f"__{'W' if t.wide else ''}{name}")
        args = [typed.StringPointer(LWORD, v.start, v) if isinstance(v.type, StringType) else v for v in values]
        return typed.StringCall(t, node.start, function, args)

    def string_number(self, name: str, values: list[typed.Expr], wide: bool, node: tree.Expr) -> typed.Expr:
        function = self.library(f"__{'W' if wide else ''}{name}")
        args: list[typed.Expr | None] = [
            typed.StringPointer(LWORD, v.start, v) if isinstance(v.type, StringType) else v for v in values
        ]
        assert function.result is not None
        return typed.Call(function.result, node.start, function, args, [])

    def fn_LEN(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        got = self.string_args(node, "LEN", ("IN",), 1)
        if got is None:
            return self.bad(node)
        value = got[0][0]
        if isinstance(value, typed.Const):
            return typed.Const(INT, node.start, len(str(value.value)))
        return typed.Convert(INT, node.start, self.string_number("LEN", got[0], got[1], node), "wrap")

    def fn_FIND(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        got = self.string_args(node, "FIND", _NAMES["FIND"], 2)
        if got is None:
            return self.bad(node)
        return typed.Convert(INT, node.start, self.string_number("FIND", got[0], got[1], node), "wrap")

    def fn_LEFT(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._string_function("LEFT", node, 1, lambda s: s[0])

    def fn_RIGHT(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._string_function("RIGHT", node, 1, lambda s: s[0])

    def fn_MID(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._string_function("MID", node, 1, lambda s: s[0])

    def fn_DELETE(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._string_function("DELETE", node, 1, lambda s: s[0])

    def fn_INSERT(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._string_function("INSERT", node, 2, sum)

    def fn_REPLACE(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return self._string_function("REPLACE", node, 2, sum)

    def fn_CONCAT(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        nodes = self.take_all(node, "CONCAT", 1, "STR1" if self.codesys else "")
        values = self.values(nodes) if nodes else None
        if values is None or nodes is None:
            return self.bad(node)
        result: typed.Expr | None = None
        wide = any(isinstance(v.type, StringType) and v.type.wide for v in values if not isinstance(v, typed.Const))
        for value, one in zip(values, nodes, strict=True):
            e = elementary(value.type)
            if e is not None and e.group == "char":
                value = typed.Intrinsic(StringType(1, e.size == 2), value.start, "CHAR_TO_STRING", [value])
                wide = wide or e.size == 2
            if not isinstance(value.type, StringType):
                self.error("E041", f"CONCAT takes strings, not {type_name(value)}", one)
                return self.bad(node)
            if isinstance(value, typed.Const):
                value = typed.Const(StringType(len(str(value.value)), wide), value.start, value.value)
            elif isinstance(value.type, StringType) and value.type.wide != wide:
                self.error("E041", "CONCAT does not mix STRING and WSTRING", one, "STRING_TO_WSTRING(...)")
                return self.bad(node)
            if result is None:
                result = value
            else:
                assert isinstance(result.type, StringType)
                assert isinstance(value.type, StringType)
                t = StringType(min(result.type.length + value.type.length, MAX_TEMP), wide)
                result = self.string_call("CONCAT", [result, value], t, node)
        assert result is not None
        return result

    def _case_function(self, name: str, node: tree.Call) -> typed.Expr:
        got = self.string_args(node, name, ("IN",), 1)
        if got is None:
            return self.bad(node)
        t = got[0][0].type
        assert isinstance(t, StringType)
        return self.string_call(name, got[0], StringType(t.length, t.wide), node)

    # -- time ----------------------------------------------------------------------------------------

    def time_call(self, name: str, node: tree.Call) -> typed.Expr:
        left, op, right = _TIME_FUNCTIONS[name]
        args = self.take(node, name, ("IN1", "IN2"))
        values = self.values(args) if args else None
        if values is None or args is None:
            return self.bad(node)
        from vplc.compiler.types import ELEMENTARY

        a = self.coerce(values[0], ELEMENTARY[left], args[0])
        b = self.coerce(values[1], ELEMENTARY[right], args[1]) if right else values[1]
        return self.binary(op, a, b, node)

    def fn_TIME(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return typed.Intrinsic(TIME, node.start, "SCAN_TIME", [])

    def fn_LTIME(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return typed.Intrinsic(LTIME, node.start, "SCAN_TIME", [])

    def fn_SCAN_TIME(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        return typed.Intrinsic(LTIME, node.start, "SCAN_TIME", [])

    # -- memory --------------------------------------------------------------------------------------

    def fn_SIZEOF(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        args = self.take(node, "SIZEOF", ("IN",))
        if args is None:
            return self.bad(node)
        if isinstance(args[0], tree.Name) and self.own_member(args[0].name.upper()) is None:
            found = self.lookup(args[0].name)
            from vplc.compiler.check.resolve import NamedType
            from vplc.compiler.types import ELEMENTARY

            t: Type | None = None
            if isinstance(found, NamedType):
                t = self.define(found)
            elif isinstance(found, PouSymbol) and found.type is not None:
                t = found.type
            elif found is None:
                t = ELEMENTARY.get(args[0].name.upper())
            if t is not None:
                return typed.Intrinsic(UDINT, node.start, "SIZEOF", [typed.Const(t, node.start, 0)])
        e = self.settle(self.expr(args[0]))
        if e.type is ERROR:
            return e
        return typed.Intrinsic(UDINT, node.start, "SIZEOF", [typed.Const(e.type, node.start, 0)])

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
        from vplc.compiler.types import ULINT

        value = typed.Convert(ULINT, node.start, e, "same")
        return typed.Compare(BOOL, node.start, "<>", value, typed.Const(ULINT, node.start, 0))

    def fn___QUERYINTERFACE(self, node: tree.Call, want: Type | None) -> typed.Expr:  # noqa: N802
        self.error("E014", "__QUERYINTERFACE is not supported", node)
        return self.bad(node)

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
        dim = self.constant_int(args[1])
        t = array.type
        if dim is None or t is ERROR:
            return self.bad(node)
        ranks = len(t.dims) or t.stars if isinstance(t, ArrayType) else 0
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


def _evaluate(name: str, x: float) -> float | None:
    import math

    functions = {
        "SQRT": math.sqrt,
        "LN": math.log,
        "LOG": math.log10,
        "EXP": math.exp,
        "SIN": math.sin,
        "COS": math.cos,
        "TAN": math.tan,
        "ASIN": math.asin,
        "ACOS": math.acos,
        "ATAN": math.atan,
    }
    try:
        return functions[name](x)
    except (ValueError, OverflowError):
        return None


from vplc.compiler.types import DWORD as DWORD_  # noqa: E402

__all__ = ["BlockType", "Builtins", "StructType"]
