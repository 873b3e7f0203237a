"""Literals: their values and types, and what can be wrong with them."""

from __future__ import annotations

import math

from vplc.compiler import tree, typed
from vplc.compiler.check.operators import Operators
from vplc.compiler.check.resolve import NamedType
from vplc.compiler.lexer import clock_ns, date_ns, decode_string, duration_ns, stamp_ns
from vplc.compiler.source import nearest
from vplc.compiler.types import (
    ANY_INT,
    ANY_REAL,
    BOOL,
    DATE,
    DT,
    ELEMENTARY,
    ERROR,
    LDATE,
    LDT,
    LTIME,
    LTOD,
    TIME,
    TOD,
    Elementary,
    EnumType,
    StringType,
    Type,
)


class Literals(Operators):
    def expr(self, node: tree.Expr, want: Type | None = None) -> typed.Expr:
        raise NotImplementedError

    def literal(self, node: tree.Literal, want: Type | None = None) -> typed.Expr:
        kind, prefix, start = node.kind, node.prefix, node.start
        if prefix:
            return self.prefixed(node)
        if kind == "INT":
            return typed.Const(ANY_INT, start, self.integer(node))
        if kind == "REAL":
            try:
                number = float(node.text.replace("_", ""))
                if math.isinf(number):
                    self.error("E042", "this number does not fit LREAL: its largest is about 1.8E308", node)
                    return self.bad(node)
                return typed.Const(ANY_REAL, start, number)
            except (ValueError, OverflowError):
                self.error("E004", f"{node.text} is not a number", node)
                return self.bad(node)
        if kind == "BOOL":
            return typed.Const(BOOL, start, int(node.text == "TRUE"))
        if kind in ("STR", "WSTR"):
            wide = kind == "WSTR"
            text = decode_string(node.text, wide)
            if text is None:
                self.error(
                    "E004", "wrong $ escape in the string", node, "$$ $' $L $N $P $R $T or $ and the hexadecimal code"
                )
                return self.bad(node)
            text = text.encode("utf-8").decode("latin-1") if not wide and any(ord(c) > 255 for c in text) else text
            return typed.Const(StringType(min(len(text), 65535), wide), start, text)
        prefix_text, _, body = node.text.partition("#")
        long = prefix_text.startswith("L")
        value: int | None
        if kind == "TIME":
            value, t = duration_ns(body), LTIME if long else TIME
            hint = "units run from large to small: T#1d2h3m4s5ms6us7ns"
        elif kind == "DATE":
            value, t = date_ns(body), LDATE if long else DATE
            hint = "D#2026-11-22, years 1678 to 2262"
        elif kind == "TOD":
            value, t = clock_ns(body), LTOD if long else TOD
            hint = "TOD#12:34:56.789"
        else:
            value, t = stamp_ns(body), LDT if long else DT
            hint = "DT#2026-11-22-12:34:56"
        if value is None:
            self.error("E004", f"{node.text} is not a valid {t.name} value", node, hint)
            return self.bad(node)
        return typed.Const(t, start, value)

    def integer(self, node: tree.Literal) -> int:
        text = node.text.replace("_", "")
        negative = text.startswith("-")
        text = text.lstrip("-")
        base, sep, digits = text.partition("#")
        try:
            if sep:
                if int(base) not in (2, 8, 16):
                    self.error("E004", f"a number has base 2, 8, 10 or 16, not {base}", node)
                    return 0
                value = int(digits, int(base))
            else:
                if len(text) > 40:
                    raise ValueError
                value = int(text)
        except ValueError:
            self.error("E004", f"{node.text[:40]} is not a number", node)
            return 0
        if value >= 1 << 64 or (negative and value > 1 << 63):
            self.error("E042", f"{node.text[:40]} does not fit 64 bits", node)
            return 0
        return -value if negative else value

    def prefixed(self, node: tree.Literal) -> typed.Expr:
        prefix = node.prefix
        plain = tree.Literal(node.start, node.end, node.kind, node.text)
        if prefix in ("STRING", "WSTRING"):
            if node.kind not in ("STR", "WSTR"):
                self.error("E004", f"{prefix}# needs a string in quotes", node)
                return self.bad(node)
            value = self.literal(plain)
            if isinstance(value, typed.Const) and isinstance(value.type, StringType):
                return typed.Const(StringType(value.type.length, prefix == "WSTRING"), node.start, value.value)
            return value
        t: Type | None = ELEMENTARY.get(prefix)
        if t is None:
            found = self.lookup(prefix)
            if isinstance(found, NamedType):
                t = self.define(found)
        base = t.base if t is not None else None
        if t is None or not isinstance(base, Elementary):
            self.error("E031", f'unknown type "{prefix}" before #', node, nearest(prefix, ELEMENTARY))
            return self.bad(node)
        if base.group == "char":
            value = self.literal(plain)
            if isinstance(value, typed.Const):
                if isinstance(value.value, str) and len(value.value) == 1:
                    return typed.Const(base, node.start, ord(value.value) & base.high)
                if isinstance(value.value, int):
                    return typed.Const(base, node.start, value.value & base.high)
            self.error("E004", f"{prefix}# needs one character in quotes", node)
            return self.bad(node)
        if base.group in ("time", "date", "tod", "dt"):
            inner = plain.text.partition("#")[2] if "#" in plain.text else plain.text
            return self.literal(tree.Literal(node.start, node.end, base.name, f"{base.name}#{inner}"))
        if base.group == "bool":
            text = node.text.replace("_", "")
            digits = text.partition("#")[2] or text
            if node.kind == "BOOL" or digits in ("0", "1"):
                return typed.Const(BOOL, node.start, int(node.text == "TRUE" or digits == "1"))
            self.error("E004", f"{node.text} is not a BOOL", node, "BOOL#TRUE, BOOL#0")
            return self.bad(node)
        if node.kind == "REAL" or base.group == "real":
            if base.group != "real" or node.kind not in ("REAL", "INT"):
                self.error("E004", f"{node.text} is not a value of {prefix}", node)
                return self.bad(node)
            number = self.literal(plain)
            assert isinstance(number, typed.Const)
            if number.type is ERROR:
                return number
            return self.coerce(typed.Const(ANY_REAL, node.start, number.value), base, plain)
        if node.kind != "INT":
            self.error("E004", f"{node.text} is not a value of {prefix}", node)
            return self.bad(node)
        value = typed.Const(ANY_INT, node.start, self.integer(plain))
        return self.coerce(value, t, plain)

    def enum_literal(self, node: tree.EnumLiteral) -> typed.Expr:
        found = self.lookup(node.type_name)
        t = self.define(found) if isinstance(found, NamedType) else None
        if not isinstance(t, EnumType):
            if ELEMENTARY.get(node.type_name.upper()) is not None:
                inner = self.expr(tree.Name(node.start, node.end, node.member))
                return self.coerce(inner, ELEMENTARY[node.type_name.upper()], node)
            self.error("E031", f'"{node.type_name}" is not an enumeration', node)
            return self.bad(node)
        value = t.members.get(node.member.upper())
        if value is None:
            self.error("E032", f"{t.name} has no value {node.member}", node, nearest(node.member, t.display.values()))
            return self.bad(node)
        return typed.Const(t, node.start, value)
