"""Implicit conversion: whether a value may go where another type is wanted, and how it gets there."""

from __future__ import annotations

import math

from vplc.compiler import tree, typed
from vplc.compiler.check import constants
from vplc.compiler.check.base import conversion_hint, elementary, type_name
from vplc.compiler.check.resolve import Resolver, fits_any_int
from vplc.compiler.types import (
    ANY_INT,
    ANY_REAL,
    BOOL,
    CHAR,
    DINT,
    ERROR,
    LINT,
    LREAL,
    NULL,
    REAL,
    ArrayType,
    BlockType,
    Elementary,
    EnumType,
    InterfaceType,
    PointerType,
    StringType,
    StructType,
    SubrangeType,
    Type,
    common,
    same,
    widens,
)

_TIMES = frozenset({"time", "date", "tod", "dt"})


class Coercion(Resolver):
    def time_conversion(self, e: typed.Expr, source: Elementary, target: Elementary, node: tree.Expr) -> typed.Expr:
        raise NotImplementedError

    def coerce(self, e: typed.Expr, target: Type, node: tree.Expr, what: str = "") -> typed.Expr:
        """`e` as a value of `target`; reports E040 or E042 when the language has no implicit way."""
        source = e.type
        if source is target or source is ERROR or target is ERROR:
            return e
        if isinstance(e, typed.Const):
            folded = self.constant_to(e, target, node)
            if folded is not None:
                return folded
        result = self.implicit(e, target)
        if result is not None:
            return self.folded(result)
        place = f" for {what}" if what else ""
        self.error("E040", f"cannot use {type_name(e)} as {target.name}{place}", node, conversion_hint(source, target))
        return typed.Const(ERROR, node.start, 0)

    def folded(self, e: typed.Expr) -> typed.Expr:
        """A conversion of a constant as a constant."""
        if not isinstance(e, typed.Convert) or not isinstance(e.operand, typed.Const) or e.mode != "wrap":
            return e
        source, target = elementary(e.operand.type), elementary(e.type)
        value = e.operand.value
        if source is None or target is None or isinstance(value, str):
            return e
        numbers = ("int", "uint", "bits", "bool", "real", "any_int", "any_real")
        if source.group not in numbers or target.group not in numbers:
            return e
        if source.group in ("real", "any_real") and target.group not in ("real", "any_real"):
            return e
        return typed.Const(e.type, e.start, constants.normal(value, target))

    def known(self, e: typed.Expr) -> typed.Expr:
        """`e`, or the constant that it always is: conversions and choices of constants."""
        if isinstance(e, typed.Convert):
            operand, target = self.known(e.operand), e.type.base
            if not isinstance(operand, typed.Const) or isinstance(operand.value, str):
                return e
            source = elementary(operand.type)
            if not isinstance(target, Elementary) or source is None or {source.group, target.group} & _TIMES:
                return e
            value = operand.value
            if isinstance(value, float) and target.is_discrete:
                if not math.isfinite(value):
                    return e
                value = int(value) if e.mode == "trunc" else constants.round_half_even(value)
            if target.is_discrete and e.mode != "wrap" and not target.low <= value <= target.high:
                return e
            return typed.Const(e.type, e.start, constants.normal(value, target))
        if isinstance(e, typed.Intrinsic) and e.name in ("MIN", "MAX", "SHL", "SHR") and len(e.args) == 2:
            a, b = (self.known(x) for x in e.args)
            t = e.type.base
            if not isinstance(a, typed.Const) or not isinstance(b, typed.Const) or not isinstance(t, Elementary):
                return e
            if isinstance(a.value, str) or isinstance(b.value, str):
                return e
            if e.name in ("MIN", "MAX"):
                return typed.Const(e.type, e.start, (min if e.name == "MIN" else max)(a.value, b.value))
            if isinstance(a.value, int) and isinstance(b.value, int) and 0 <= b.value <= 64:
                bits = a.value & ((1 << t.bits) - 1)
                shifted = bits << b.value if e.name == "SHL" else bits >> b.value
                return typed.Const(e.type, e.start, constants.wrap(shifted, t))
        if isinstance(e, typed.Binary) and isinstance(e.type.base, Elementary):
            a, b = self.known(e.left), self.known(e.right)
            if not (isinstance(a, typed.Const) and isinstance(b, typed.Const)):
                return e
            if not isinstance(a.value, str) and not isinstance(b.value, str):
                folded = constants.fold(e.op, a.value, b.value, e.type.base)
                if folded is not None:
                    return typed.Const(e.type, e.start, folded)
        return e

    def constant_to(self, e: typed.Const, target: Type, node: tree.Expr) -> typed.Expr | None:
        """A constant in the type its context wants; None when the general rules must decide."""
        base = target.base
        value = e.value
        source = e.type
        literal = source is ANY_INT or source is ANY_REAL
        if isinstance(value, str):
            if isinstance(target, StringType) and isinstance(source, StringType):
                if source.wide == target.wide or self.lenient:
                    return typed.Const(StringType(min(len(value), 65535), target.wide), e.start, value)
                return None
            if isinstance(base, Elementary) and base.group == "char" and len(value) == 1:
                return typed.Const(base, e.start, ord(value))
            return None
        if isinstance(target, EnumType):
            if source is target:
                return e
            if literal and self.lenient and isinstance(value, int):
                return typed.Const(target, e.start, value)
            return None
        if isinstance(base, (PointerType, InterfaceType)):
            if source is NULL or (value == 0 and literal):
                return typed.Const(base, e.start, 0)
            return None
        if not isinstance(base, Elementary):
            return None
        if not literal:
            se = elementary(source)
            if (
                isinstance(target, SubrangeType)
                and se is not None
                and se.is_integer
                and isinstance(value, int)
                and widens(se, base)
                and not target.low <= value <= target.high
            ):
                self.error("E072", f"{value} lies outside {target.low}..{target.high} of {target.name}", node)
                return typed.Const(target, e.start, target.low)
            return None
        if base.group in ("real", "any_real"):
            number = constants.normal(value, base)
            if base is REAL and math.isinf(float(number)) and math.isfinite(value):
                self.error("E042", "this number does not fit REAL: its largest is about 3.4E38", node, "use LREAL")
            return typed.Const(base, e.start, number)
        if isinstance(value, float):
            return None
        if base.group == "bool":
            if value in (0, 1):
                return typed.Const(base, e.start, value)
            self.error("E042", f"{value} is not a BOOL", node, "write TRUE or FALSE")
            return typed.Const(base, e.start, 0)
        if base.group in ("int", "uint", "bits"):
            low, high = getattr(target, "low", base.low), getattr(target, "high", base.high)
            if not low <= value <= high:
                if isinstance(target, SubrangeType):
                    self.error("E072", f"{value} lies outside {low}..{high} of {target.name}", node)
                    return typed.Const(target, e.start, low)
                width = 1 << base.bits
                # 16#FFFF for an INT, -1 for a WORD: the bit pattern is meant.
                pattern = self.lenient and -(width >> 1) <= value < width
                if not pattern and not (self._based(node) and 0 <= value < width):
                    self.error("E042", f"{value} does not fit {target.name} ({low}..{high})", node)
                    return typed.Const(target, e.start, 0)
                value = constants.wrap(value, base)
            return typed.Const(target, e.start, value)
        if base.group in _TIMES and (value == 0 or self.lenient):
            scale = 1 if base.long else (1_000_000_000 if base.group in ("date", "dt") else 1_000_000)
            return typed.Const(base, e.start, value * scale)
        if base.group == "char" and self.lenient and 0 <= value <= base.high:
            return typed.Const(base, e.start, value)
        return None

    def _based(self, node: tree.Expr) -> bool:
        return isinstance(node, tree.Literal) and node.kind == "INT" and "#" in node.text

    def implicit(self, e: typed.Expr, target: Type) -> typed.Expr | None:
        """`e` converted without being told to, or None."""
        source = e.type
        if same(source, target):
            return e
        start = e.start
        if isinstance(source, PointerType) and source.kind == "REFERENCE" and not isinstance(target, PointerType):
            return self.implicit(typed.DerefPlace(source.target, start, e), target)
        if isinstance(target, EnumType):
            if isinstance(source, EnumType):
                return typed.Convert(target, start, e, "wrap") if self.lenient else None
            ok = self.lenient and isinstance(source.base, Elementary) and source.base.is_discrete
            return typed.Convert(target, start, e, "wrap") if ok else None
        if isinstance(target, StringType):
            if isinstance(source, StringType):
                return e if source.wide == target.wide or self.lenient else None
            if isinstance(source, Elementary) and source.group == "char" and (source is CHAR) != target.wide:
                return typed.Intrinsic(StringType(1, target.wide), start, "CHAR_TO_STRING", [e])
            return None
        if isinstance(target, PointerType):
            return self._to_pointer(e, source, target)
        if isinstance(target, InterfaceType):
            return self._to_interface(e, source, target)
        if isinstance(target, (StructType, BlockType)):
            if isinstance(source, BlockType) and isinstance(target, BlockType) and source.symbol.is_a(target.symbol):
                return e
            return None
        if isinstance(target, ArrayType):
            if isinstance(source, ArrayType) and same(source.element, target.element):
                if not target.dims and len(source.dims) == target.stars:
                    return e
                if self.lenient and source.count == target.count:
                    return e
            return None
        a, b = elementary(source), elementary(target)
        if a is None or b is None:
            if self.lenient and isinstance(source, PointerType) and b is not None and (b.is_bits or b.is_integer):
                return typed.Convert(target, start, e, "wrap")
            return None
        if isinstance(source, EnumType) and not self.lenient and not isinstance(target, EnumType):
            if not (b.is_integer and widens(a, b)):
                return None
            return e if a is b else typed.Convert(b, start, e, "wrap")
        if isinstance(target, SubrangeType):
            inner = self.implicit(e, b)
            return None if inner is None else typed.Convert(target, start, inner, "check")
        if a is b:
            return e
        if a is ANY_INT or a is ANY_REAL:
            if a is ANY_REAL and b.group == "real":
                return typed.Convert(target, start, e, "wrap")
            if a is ANY_INT and b.group in ("int", "uint", "real"):
                return typed.Convert(target, start, e, "wrap")
            return None
        if widens(a, b):
            return typed.Convert(target, start, e, "wrap")
        if self.lenient and self._brownfield(a, b):
            if (a.group in _TIMES) != (b.group in _TIMES):
                return self.time_conversion(e, a, b, tree.Name(start, start, ""))
            return typed.Convert(target, start, e, "wrap")
        return None

    def _brownfield(self, a: Elementary, b: Elementary) -> bool:
        """What CODESYS converts with a warning at most."""
        whole = ("int", "uint", "bits", "bool", "char")
        if a.group in whole and b.group in whole:
            return b.group != "bool" or a.group == "bool" or True
        if a.group in ("int", "uint", "bits", "bool") and b.group == "real":
            return True
        if a.group == "real" and b.group == "real":
            return True
        if a.group == b.group and a.group in _TIMES:
            return True
        if a.group in _TIMES and b.group in ("uint", "bits", "int") and b.size >= 4:
            return True
        return a.group in ("uint", "bits", "int") and a.size >= 4 and b.group in _TIMES

    def _to_pointer(self, e: typed.Expr, source: Type, target: PointerType) -> typed.Expr | None:
        if target.kind == "REFERENCE" and not isinstance(source, PointerType):
            return None
        if source is NULL:
            return typed.Const(target, e.start, 0)
        if isinstance(source, PointerType):
            if same(source.target, target.target) or self.lenient:
                return typed.Convert(target, e.start, e, "wrap")
            a, b = source.target, target.target
            if isinstance(a, BlockType) and isinstance(b, BlockType) and a.symbol.is_a(b.symbol):
                return typed.Convert(target, e.start, e, "wrap")
            return None
        base = source.base
        if self.lenient and isinstance(base, Elementary) and (base.is_integer or base.is_bits):
            return typed.Convert(target, e.start, e, "wrap")
        return None

    def _to_interface(self, e: typed.Expr, source: Type, target: InterfaceType) -> typed.Expr | None:
        if source is NULL:
            return typed.Const(target, e.start, 0)
        if isinstance(source, InterfaceType):
            if source.symbol.is_a(target.symbol):
                return typed.Convert(target, e.start, e, "wrap")
            return None
        if isinstance(source, BlockType) and source.symbol.is_a(target.symbol):
            if isinstance(e, typed.Place):
                self.take_address(e)
                return typed.ToInterface(target, e.start, e)
            return None
        if isinstance(source, PointerType) and isinstance(source.target, BlockType):
            return self._to_interface(typed.DerefPlace(source.target, e.start, e), source.target, target)
        return None

    def take_address(self, place: typed.Expr) -> None:
        """Marks the variable under `place` as reachable through a pointer."""
        at: typed.Expr = place
        while True:
            if isinstance(at, typed.VariablePlace):
                at.variable.taken = True
                at.variable.written = True
                return
            if isinstance(at, (typed.MemberPlace, typed.IndexPlace, typed.BitPlace, typed.CharPlace)):
                if isinstance(at, typed.MemberPlace) and at.variable is not None:
                    at.variable.taken = True
                at = at.base
                continue
            return

    # -- operands of binary operators ----------------------------------------------------------------

    def settle(self, e: typed.Expr) -> typed.Expr:
        """A literal in the type it has without context."""
        if isinstance(e, typed.Const):
            if e.type is ANY_INT and isinstance(e.value, int):
                t = fits_any_int(e.value)
                if t.size < 4 and self.lenient:
                    t = DINT
                return typed.Const(t, e.start, e.value)
            if e.type is ANY_REAL:
                return typed.Const(LREAL, e.start, e.value)
        return e

    def unify(self, a: typed.Expr, b: typed.Expr, promote: bool = False) -> tuple[typed.Expr, typed.Expr, Type] | None:
        """Both operands in their smallest common type; None when there is none. `promote` applies
        CODESYS' computation in at least 32 bits."""
        ea, eb = elementary(a.type), elementary(b.type)
        if ea is None or eb is None:
            return None
        if ea in (ANY_INT, ANY_REAL) and eb in (ANY_INT, ANY_REAL):
            t: Elementary = ANY_REAL if ANY_REAL in (ea, eb) else ANY_INT
            return self._as(a, t), self._as(b, t), t
        if ea in (ANY_INT, ANY_REAL):
            swapped = self.unify(b, a, promote)
            return None if swapped is None else (swapped[1], swapped[0], swapped[2])
        if eb in (ANY_INT, ANY_REAL):
            assert isinstance(b, typed.Const)
            t = ea
            if ea.group == "real":
                pass
            elif eb is ANY_REAL:
                t = REAL if ea.group in ("int", "uint") and ea.size <= 2 else LREAL
            elif isinstance(b.value, int) and not ea.low <= b.value <= ea.high:
                own = fits_any_int(b.value)
                assert isinstance(own, Elementary)
                if ea.is_bits and self.lenient and -(1 << 63) <= b.value < (1 << 64):
                    t = next((w for w in self._widths(ea) if w.low <= b.value <= w.high), ea)
                else:
                    joined = common(ea, own) if ea.is_integer else None
                    if joined is None:
                        joined = own if self.lenient else None
                    if joined is None:
                        return None
                    t = joined
            if promote and self.lenient:
                t = self._promoted(t)
            return self._as(a, t), self._as(b, t), t
        joined = ea if ea is eb else common(ea, eb)
        if self.lenient:
            joined = self._lenient_common(ea, eb)
        if joined is None:
            return None
        if promote and self.lenient:
            joined = self._promoted(joined)
        return self._as(a, joined), self._as(b, joined), joined

    def _widths(self, e: Elementary) -> tuple[Elementary, ...]:
        from vplc.compiler.types import BY_WIDTH

        return BY_WIDTH.get("bits" if e.is_bits else e.group, (e,))

    def _promoted(self, t: Elementary) -> Elementary:
        if t.group in ("int", "uint", "bits", "bool") and t.size < 4:
            return DINT
        if t.group == "bits":
            from vplc.compiler.types import UDINT, ULINT

            return UDINT if t.size == 4 else ULINT
        return t

    def _lenient_common(self, a: Elementary, b: Elementary) -> Elementary | None:
        from vplc.compiler.types import BY_WIDTH, LINT, ULINT

        if a is b:
            return a
        whole = ("int", "uint", "bits", "bool", "char")
        if a.group == "real" or b.group == "real":
            if a.group == "real" and b.group == "real":
                return LREAL
            other = b if a.group == "real" else a
            real = a if a.group == "real" else b
            return real if other.group in whole else None
        if a.group in whole and b.group in whole:
            if a.is_bits and b.is_bits:
                return a if a.size > b.size or (a.size == b.size and a is not BOOL) else b
            if a.size != b.size and a.group == b.group:
                return a if a.size > b.size else b
            if a.group in ("int", "uint") and b.group in ("int", "uint"):
                joined = common(a, b)
                return joined if joined is not None else (ULINT if ULINT in (a, b) else LINT)
            # bits against integers: the integer's view, wide enough for both
            group = "int" if "int" in (a.group, b.group) else "uint"
            size = max(a.size, b.size)
            signed, other = (a, b) if a.group == "int" else (b, a)
            if group == "int" and other.size >= signed.size and size < 8:
                size *= 2
            return next(t for t in BY_WIDTH[group] if t.size == max(size, 1))
        if a.group in _TIMES and b.group in _TIMES:
            return a if a.group == b.group else None
        if a.group in _TIMES and b.group in whole:
            return a if b.size >= 4 else None
        if b.group in _TIMES and a.group in whole:
            return b if a.size >= 4 else None
        return None

    def _as(self, e: typed.Expr, t: Elementary) -> typed.Expr:
        if e.type is t:
            return e
        if isinstance(e, typed.Const) and not isinstance(e.value, str):
            source = elementary(e.type)
            if source is not None and source.group in _TIMES and t.group not in _TIMES:
                return self.time_conversion(e, source, t, tree.Name(e.start, e.start, ""))
            if source is not None and t.group in ("time", "date", "tod", "dt") and source.group != t.group:
                scale = 1 if t.long else (1_000_000_000 if t.group in ("date", "dt") else 1_000_000)
                return typed.Const(t, e.start, int(e.value) * scale)
            return typed.Const(t, e.start, constants.normal(e.value, t))
        if e.type.base is t:
            return e
        own = elementary(e.type)
        if own is not None and (own.group in _TIMES) != (t.group in _TIMES) and not (own.long or t is LINT):
            return self.time_conversion(e, own, t, tree.Name(e.start, e.start, ""))
        return typed.Convert(t, e.start, e, "wrap")
