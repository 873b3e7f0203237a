"""Arithmetic on constants, as the compiled program would do it."""

from __future__ import annotations

import math
import struct

from vplc.compiler.types import ANY_INT, REAL, Elementary, EnumType, Type


def wrap(value: int, t: Elementary) -> int:
    """The low bits of `value` read as `t`."""
    if t is ANY_INT:
        return value
    if t.group == "bool":
        return value & 1
    bits = t.size * 8
    value &= (1 << bits) - 1
    if t.signed and value >> (bits - 1):
        value -= 1 << bits
    return value


def single(value: float) -> float:
    """Rounded to REAL."""
    if math.isnan(value) or math.isinf(value):
        return value
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def normal(value: int | float | str, t: Type) -> int | float | str:
    base = t.base
    if isinstance(base, Elementary):
        if base is REAL:
            return single(float(value))
        if base.group in ("real", "any_real"):
            return float(value)
        if base.is_discrete and not isinstance(value, str):
            return wrap(int(value), base)
    return value


def fold(op: str, a: int | float, b: int | float, t: Elementary) -> int | float | None:
    """The value of `a op b` in type `t`; None when it cannot be known (division by zero)."""
    if t.group in ("real", "any_real"):
        x, y = float(a), float(b)
        try:
            if op == "+":
                r = x + y
            elif op == "-":
                r = x - y
            elif op == "*":
                r = x * y
            elif op == "/":
                if y == 0.0:
                    return None
                r = x / y
            else:
                return None
        except OverflowError:
            return None
        return single(r) if t is REAL else r
    i, j = int(a), int(b)
    if op == "+":
        return wrap(i + j, t)
    if op == "-":
        return wrap(i - j, t)
    if op == "*":
        return wrap(i * j, t)
    if op == "/" or op == "MOD":
        if j == 0:
            return None if op == "/" else 0
        q = abs(i) // abs(j)
        if (i < 0) != (j < 0):
            q = -q
        if op == "MOD":
            return wrap(i - q * j, t)
        if t is not ANY_INT and not t.low <= q <= t.high:
            return None
        return q
    if op == "AND":
        return wrap(i & j, t)
    if op == "OR":
        return wrap(i | j, t)
    if op == "XOR":
        return wrap(i ^ j, t)
    return None


def compare(op: str, a: int | float | str, b: int | float | str) -> int:
    if isinstance(a, str) or isinstance(b, str):
        x, y = str(a), str(b)
        result = {"=": x == y, "<>": x != y, "<": x < y, ">": x > y, "<=": x <= y, ">=": x >= y}[op]
    else:
        result = {"=": a == b, "<>": a != b, "<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[op]
    return int(result)


def power(a: float, b: float) -> float | None:
    try:
        r = math.pow(a, b)
    except (OverflowError, ValueError):
        return None
    return r


def round_half_even(value: float) -> int:
    return round(value)


def fits(value: int, t: Type) -> bool:
    base = t.base
    if not isinstance(base, Elementary):
        return False
    if isinstance(t, EnumType):
        return value in t.members.values()
    low, high = getattr(t, "low", base.low), getattr(t, "high", base.high)
    return bool(low <= value <= high)
