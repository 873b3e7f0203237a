"""String functions: which library function does the work, and how long its result can be."""

from __future__ import annotations

from collections.abc import Callable

from vplc.compiler import tree, typed
from vplc.compiler.check.arguments import NAMES, Arguments
from vplc.compiler.check.base import elementary, type_name
from vplc.compiler.symbols import PouSymbol
from vplc.compiler.types import (
    INT,
    LINT,
    LWORD,
    StringType,
    Type,
)

MAX_TEMP = 2048


class StringFunctions(Arguments):
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
        got = self.string_args(node, name, NAMES[name], strings)
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
        got = self.string_args(node, "FIND", NAMES["FIND"], 2)
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
