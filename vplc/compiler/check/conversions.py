"""X_TO_Y, TO_Y, TRUNC and BCD: every explicit conversion, and what it does to the value.

Units: TIME and TOD convert to numbers as milliseconds, DATE and DT as seconds since 1970, the long
forms (LTIME, LTOD, LDATE, LDT) as nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from vplc.compiler import tree, typed
from vplc.compiler.check import constants
from vplc.compiler.check.base import elementary, type_name
from vplc.compiler.check.expressions import Expressions
from vplc.compiler.symbols import Scope
from vplc.compiler.types import (
    ANY_INT,
    ANY_REAL,
    BOOL,
    DEFAULT_STRING,
    ELEMENTARY,
    ERROR,
    LINT,
    LREAL,
    LWORD,
    REAL,
    ULINT,
    Elementary,
    EnumType,
    PointerType,
    StringType,
    Type,
    is_aggregate,
    widens,
)

_TIMES = frozenset({"time", "date", "tod", "dt"})
_NAMES = frozenset(ELEMENTARY) | {"STRING", "WSTRING", "DATE_AND_TIME", "TIME_OF_DAY", "__UXINT", "__XINT", "__XWORD"}
_ALIAS = {"__UXINT": "ULINT", "__XINT": "LINT", "__XWORD": "LWORD"}


@dataclass(frozen=True, slots=True)
class ConversionName:
    """The parts of a conversion function's name; mode: to trunc bcd_to to_bcd"""

    source: str
    target: str
    mode: str

    @staticmethod
    def parse(upper: str) -> ConversionName | None:
        return _parse(upper)


_PARSED: dict[str, ConversionName | None] = {}


def _parse(upper: str) -> ConversionName | None:
    if upper in _PARSED:
        return _PARSED[upper]
    found: ConversionName | None = None
    if upper.startswith("TO_") and upper[3:] in _NAMES:
        found = ConversionName("", upper[3:], "to")
    elif upper.startswith("TRUNC_") and upper[6:] in _NAMES:
        found = ConversionName("", upper[6:], "trunc")
    elif upper.startswith("BCD_TO_") and upper[7:] in _NAMES:
        found = ConversionName("", upper[7:], "bcd_to")
    elif "_TO_BCD_" in upper:
        a, b = upper.split("_TO_BCD_", 1)
        if a in _NAMES and b in _NAMES:
            found = ConversionName(a, b, "to_bcd")
    elif upper.endswith("_TO_BCD"):
        if upper[:-7] in _NAMES:
            found = ConversionName(upper[:-7], "", "to_bcd")
    elif "_BCD_TO_" in upper:
        a, b = upper.split("_BCD_TO_", 1)
        if a in _NAMES and b in _NAMES:
            found = ConversionName(a, b, "bcd_to")
    elif "_TRUNC_" in upper:
        a, b = upper.split("_TRUNC_", 1)
        if a in _NAMES and b in _NAMES:
            found = ConversionName(a, b, "trunc")
    elif "_TO_" in upper:
        a, b = upper.split("_TO_", 1)
        if (a in _NAMES or a in ("ANY", "ANY_NUM", "POINTER")) and b in _NAMES:
            found = ConversionName(a if a in _NAMES else "", b, "to")
    _PARSED[upper] = found
    return found


class Conversions(Expressions):
    library_scope: Scope

    def string_call(self, name: str, values: list[typed.Expr], t: StringType, node: tree.Expr) -> typed.Expr:
        raise NotImplementedError

    def string_number(self, name: str, values: list[typed.Expr], wide: bool, node: tree.Expr) -> typed.Expr:
        raise NotImplementedError

    def _type(self, name: str) -> Type:
        if name in ("STRING", "WSTRING"):
            return StringType(DEFAULT_STRING, name == "WSTRING")
        return ELEMENTARY[_ALIAS.get(name, name)]

    def convert_call(self, name: ConversionName, arg: tree.Expr, node: tree.Call, want: Type | None) -> typed.Expr:
        source = self._type(name.source) if name.source else None
        e = self.expr(arg, source)
        if e.type is ERROR:
            return e
        e = self.plain(e)
        if source is not None:
            given = elementary(e.type)
            if isinstance(source, StringType):
                if not isinstance(e.type, StringType):
                    return self.coerce(e, source, arg)
            elif isinstance(e.type, EnumType) and given is not None:
                e = typed.Convert(source, e.start, typed.Convert(given, e.start, e, "wrap"), "wrap")
            elif isinstance(e, typed.Const) and e.type in (ANY_INT, ANY_REAL):
                e = self.coerce(e, source, arg)
            elif isinstance(source, Elementary) and given is not None and given is not source:
                same_group = given.group == source.group or (given.is_integer and source.is_integer)
                if not (
                    widens(given, source) or self.lenient or ((given.group == source.group == "real") and same_group)
                ):
                    self.error(
                        "E040",
                        f"{type_name(e)} is not the {source.name} that this conversion takes",
                        arg,
                        f"{given.name}_TO_{name.target or 'BCD'}(...)",
                    )
                    return self.bad(node)
                e = typed.Convert(source, e.start, e, "wrap")
            elif given is None:
                if isinstance(e.type, PointerType) and isinstance(source, Elementary) and source.is_discrete:
                    e = typed.Convert(source, e.start, e, "same")
                else:
                    return self.coerce(e, source, arg)
        if e.type is ERROR:
            return e
        e = self.settle(e)
        if name.mode in ("bcd_to", "to_bcd"):
            return self.bcd(name, e, node)
        target = self._type(name.target)
        if name.mode == "trunc":
            assert isinstance(target, Elementary)
            return self.real_to(e, target, "trunc", node)
        return self.convert(e, target, node)

    def real_to(self, e: typed.Expr, target: Elementary, mode: str, node: tree.Expr) -> typed.Expr:
        source = elementary(e.type)
        if source is None or source.group not in ("real", "int", "uint") or not target.is_discrete:
            self.error("E041", f"TRUNC does not work on {type_name(e)}", node)
            return self.bad(node)
        if source.group != "real":
            return self.convert(e, target, node)
        if isinstance(e, typed.Const) and isinstance(e.value, float) and abs(e.value) < 1e18:
            value = int(e.value)
            if target.low <= value <= target.high:
                return typed.Const(target, node.start, value)
        return typed.Convert(target, node.start, e, mode)

    def convert(self, e: typed.Expr, target: Type, node: tree.Expr) -> typed.Expr:
        """The explicit conversion of `e` to `target`."""
        start = node.start
        if isinstance(e.type, PointerType):
            e = typed.Convert(ULINT, start, e, "same")
        if isinstance(target, StringType):
            return self.to_string(e, target, node)
        assert isinstance(target, Elementary)
        if isinstance(e.type, StringType):
            return self.from_string(e, target, node)
        source = elementary(e.type)
        if source is None or is_aggregate(e.type):
            self.error("E040", f"cannot convert {type_name(e)} to {target.name}", node)
            return self.bad(node)
        if source is target:
            return e if e.type is target else typed.Convert(target, start, e, "wrap")
        if isinstance(e.type, EnumType):
            e = (
                typed.Const(source, start, e.value)
                if isinstance(e, typed.Const)
                else typed.Convert(source, start, e, "wrap")
            )
        a, b = source.group, target.group
        if a in _TIMES or b in _TIMES:
            return self.time_conversion(e, source, target, node)
        if a == "real" and b in ("bits", "bool") and not self.codesys and source.size == target.size and b == "bits":
            return typed.Intrinsic(target, start, "BITCAST", [e])
        if a == "bits" and b == "real" and not self.codesys and source.size == target.size:
            return typed.Intrinsic(target, start, "BITCAST", [e])
        if b == "bool":
            if isinstance(e, typed.Const):
                return typed.Const(BOOL, start, int(e.value != 0))
            zero = typed.Const(source, start, 0.0 if a == "real" else 0)
            return typed.Compare(BOOL, start, "<>", e, zero)
        if a == "real" and b != "real":
            if isinstance(e, typed.Const) and isinstance(e.value, float) and abs(e.value) < 1e18:
                value = constants.round_half_even(e.value)
                if target.low <= value <= target.high:
                    return typed.Const(target, start, value)
            return typed.Convert(target, start, e, "check")
        if b == "real":
            if isinstance(e, typed.Const):
                return typed.Const(target, start, constants.normal(e.value, target))
            return typed.Convert(target, start, e, "wrap")
        mode = "wrap"
        if not self.lenient and source.is_integer and target.is_integer and not widens(source, target):
            mode = "check"
        if isinstance(e, typed.Const) and isinstance(e.value, int):
            if mode == "wrap" or target.low <= e.value <= target.high:
                return typed.Const(target, start, constants.wrap(e.value, target))
            self.error("E042", f"{e.value} does not fit {target.name} ({target.low}..{target.high})", node)
            return self.bad(node)
        return typed.Convert(target, start, e, mode)

    # -- time ----------------------------------------------------------------------------------------

    def _scale(self, t: Elementary) -> int:
        if t.long:
            return 1
        return 1_000_000_000 if t.group in ("date", "dt") else 1_000_000

    def time_conversion(self, e: typed.Expr, source: Elementary, target: Elementary, node: tree.Expr) -> typed.Expr:
        start = node.start
        a, b = source.group, target.group
        day = 86_400_000_000_000
        if a in _TIMES and b in _TIMES:
            if a == "dt" and b == "date":
                if isinstance(e, typed.Const) and isinstance(e.value, int):
                    return typed.Const(target, start, e.value // day * day)
                return typed.Intrinsic(target, start, "DAY_FLOOR", [e])
            if (a == "dt" or a == "time") and b == "tod":
                if isinstance(e, typed.Const) and isinstance(e.value, int):
                    return typed.Const(target, start, e.value % day)
                return typed.Intrinsic(target, start, "DAY_WRAP", [e])
            legal = a == b or (a, b) in (("date", "dt"), ("tod", "time"))
            if not legal and not self.codesys:
                self.error("E040", f"there is no conversion from {source.name} to {target.name}", node)
                return self.bad(node)
            if isinstance(e, typed.Const):
                return typed.Const(target, start, e.value)
            return typed.Convert(target, start, e, "same")
        if a in _TIMES:
            scale = self._scale(source)
            raw: typed.Expr = typed.Convert(LINT, start, e, "same")
            if b == "real":
                number = typed.Convert(LREAL, start, raw, "wrap")
                real = typed.Binary(LREAL, start, "/", number, typed.Const(LREAL, start, float(scale)))
                return real if target is LREAL else typed.Convert(target, start, real, "wrap")
            if scale != 1:
                raw = typed.Intrinsic(LINT, start, "FLOOR_DIV", [raw, typed.Const(LINT, start, scale)])
            if b == "bool":
                return typed.Compare(BOOL, start, "<>", raw, typed.Const(LINT, start, 0))
            if target is LINT:
                return raw
            return typed.Convert(target, start, raw, "wrap" if self.lenient or target.is_bits else "check")
        scale = self._scale(target)
        if a == "real":
            wide = e if source is LREAL else typed.Convert(LREAL, start, e, "wrap")
            value = typed.Binary(LREAL, start, "*", wide, typed.Const(LREAL, start, float(scale)))
            return typed.Convert(target, start, typed.Convert(LINT, start, value, "check"), "same")
        if isinstance(e, typed.Const) and isinstance(e.value, int):
            return typed.Const(target, start, constants.wrap(e.value * scale, LINT))
        whole = e if source is LINT else typed.Convert(LINT, start, e, "wrap")
        product = typed.Binary(LINT, start, "*", whole, typed.Const(LINT, start, scale))
        result: typed.Expr = typed.Convert(target, start, product, "same")
        return typed.Intrinsic(target, start, "DAY_WRAP", [result]) if b == "tod" else result

    # -- strings -------------------------------------------------------------------------------------

    def to_string(self, e: typed.Expr, target: StringType, node: tree.Expr) -> typed.Expr:
        start = node.start
        if isinstance(e.type, StringType):
            if e.type.wide == target.wide:
                return e
            if isinstance(e, typed.Const):
                return typed.Const(StringType(e.type.length, target.wide), start, e.value)
            name = "WIDEN" if target.wide else "NARROW"
            out = StringType(e.type.length, target.wide)
            function = self.library_scope.names[f"__{name}"]
            assert not isinstance(function, Type)
            return self.string_any(name, [e], out, node)
        source = elementary(e.type)
        if source is None:
            self.error("E040", f"cannot convert {type_name(e)} to {target.name}", node)
            return self.bad(node)
        if isinstance(e.type, EnumType):
            e = typed.Convert(source, start, e, "wrap")
        narrow = StringType(64)
        g = source.group
        if g == "bool":
            made = self.string_any("BOOL_TEXT", [e], narrow, node)
        elif g == "char":
            one: typed.Expr = typed.Intrinsic(StringType(1, source.size == 2), start, "CHAR_TO_STRING", [e])
            return self.to_string(one, target, node)
        elif g in ("int", "uint", "bits"):
            if source.signed:
                made = self.string_any("INT_TEXT", [self._as(e, LINT)], narrow, node)
            else:
                made = self.string_any(
                    "UINT_TEXT",
                    [self._as(e, ULINT) if g == "uint" else typed.Convert(ULINT, start, e, "wrap")],
                    narrow,
                    node,
                )
        elif g == "real":
            digits = 9 if source is REAL else 17
            made = self.string_any("REAL_TEXT", [self._as(e, LREAL), typed.Const(LINT, start, digits)], narrow, node)
        else:
            name = {"time": "TIME_TEXT", "date": "DATE_TEXT", "tod": "TOD_TEXT", "dt": "DT_TEXT"}[g]
            raw = typed.Convert(LINT, start, e, "same")
            made = self.string_any(name, [raw, typed.Const(BOOL, start, int(source.long))], narrow, node)
        return self.to_string(made, target, node) if target.wide else made

    def string_any(self, name: str, values: list[typed.Expr], t: StringType, node: tree.Expr) -> typed.Expr:
        """Calls a library function whose name does not depend on the string's width."""
        from vplc.compiler.symbols import PouSymbol

        function = self.library_scope.names[f"__{name}"]
        assert isinstance(function, PouSymbol)
        if self.pou is not None:
            self.pou.calls.add(function)
        args = [typed.StringPointer(LWORD, v.start, v) if isinstance(v.type, StringType) else v for v in values]
        return typed.StringCall(t, node.start, function, args)

    def from_string(self, e: typed.Expr, target: Elementary, node: tree.Expr) -> typed.Expr:
        start = node.start
        assert isinstance(e.type, StringType)
        if target.group == "char":
            if e.type.wide == (target.size == 2):
                return typed.CharPlace(target, start, e, typed.Const(LINT, start, 0), 0)
            return typed.Convert(
                target,
                start,
                typed.CharPlace(
                    ELEMENTARY["WCHAR" if e.type.wide else "CHAR"], start, e, typed.Const(LINT, start, 0), 0
                ),
                "wrap",
            )
        if e.type.wide:
            e = self.to_string(e, StringType(e.type.length), node)
        if target.group == "real":
            value = self.string_number("PARSE_REAL", [e], False, node)
            return value if target is LREAL else typed.Convert(target, start, value, "wrap")
        if target.group == "bool":
            return self.string_number("PARSE_BOOL", [e], False, node)
        if target.group in _TIMES:
            name = {"time": "PARSE_TIME", "date": "PARSE_DATE", "tod": "PARSE_TOD", "dt": "PARSE_DT"}[target.group]
            return typed.Convert(target, start, self.string_number(name, [e], False, node), "same")
        value = self.string_number("PARSE_INT", [e], False, node)
        if target is LINT:
            return value
        return typed.Convert(
            target, start, value, "wrap" if self.lenient or target.is_bits or target is ULINT else "check"
        )

    # -- BCD -----------------------------------------------------------------------------------------

    def bcd(self, name: ConversionName, e: typed.Expr, node: tree.Expr) -> typed.Expr:
        source = elementary(e.type)
        start = node.start
        if source is None or source.group not in ("bits", "int", "uint"):
            self.error("E041", f"BCD conversion does not work on {type_name(e)}", node)
            return self.bad(node)
        widths = {1: "BYTE", 2: "WORD", 4: "DWORD", 8: "LWORD"}
        if name.mode == "bcd_to":
            raw = typed.Convert(ULINT, start, e, "wrap")
            value = self.string_number("FROM_BCD", [raw], False, node)
            target = self._type(name.target)
            assert isinstance(target, Elementary)
            return value if target is ULINT else typed.Convert(target, start, value, "check")
        target = self._type(name.target or widths[source.size])
        assert isinstance(target, Elementary)
        value = self.string_number("TO_BCD", [typed.Convert(ULINT, start, e, "check")], False, node)
        return typed.Convert(target, start, value, "wrap")


__all__ = ["ANY_INT", "ANY_REAL", "ConversionName", "Conversions"]
