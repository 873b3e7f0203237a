"""The standard functions that Structured Text itself cannot say: generic over their arguments' types.

Each `fn_NAME` checks its arguments and gives a typed expression. Functions that ST can say live in
`vplc/library`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from vplc.compiler import tree, typed
from vplc.compiler.check import constants
from vplc.compiler.check.arguments import NAMES
from vplc.compiler.check.base import elementary, is_literal, is_numeric, type_name
from vplc.compiler.check.conversions import ConversionName
from vplc.compiler.check.memory import MemoryFunctions
from vplc.compiler.types import (
    ANY_INT,
    ANY_REAL,
    BOOL,
    BYTE,
    DINT,
    ERROR,
    LINT,
    LREAL,
    LTIME,
    LWORD,
    REAL,
    TIME,
    BlockType,
    Elementary,
    StructType,
    Type,
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


class Builtins(MemoryFunctions):
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

    # -- numbers -------------------------------------------------------------------------------------

    def operator_call(self, name: str, node: tree.Call) -> typed.Expr:
        op = _OPERATORS[name]
        if name in _NARY or name in _CHAIN:
            nodes = self.take_all(node, name, 2)
        else:
            nodes = self.take(node, name, NAMES[name])
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
        args = self.take(node, "LIMIT", NAMES["LIMIT"])
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
        args = self.take(node, "SEL", NAMES["SEL"])
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
