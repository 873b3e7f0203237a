"""Arguments of the built-in functions: in formal order, counted, named, brought to one type."""

from __future__ import annotations

from vplc.compiler import tree, typed
from vplc.compiler.check.base import elementary, is_numeric, type_name
from vplc.compiler.check.calls import Calls
from vplc.compiler.check.conversions import Conversions
from vplc.compiler.types import (
    ANY_INT,
    ANY_REAL,
    ERROR,
    LREAL,
    REAL,
    Elementary,
    StringType,
    Type,
    same,
)

NAMES: dict[str, tuple[str, ...]] = {
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
# CODESYS' names for the parameters of string functions.
_ALIASES = {"STR": "IN", "STR1": "IN1", "STR2": "IN2", "SIZE": "L", "LEN": "L", "POS": "P"}


class Arguments(Conversions, Calls):
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
