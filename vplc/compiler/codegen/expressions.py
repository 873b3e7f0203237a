"""Scalar expressions. BOOL has two forms: `value` gives a byte 0 or 1, `condition` an i1."""

from __future__ import annotations

from vplc.compiler import typed
from vplc.compiler.codegen.conversions import ConversionEmitter
from vplc.compiler.codegen.emitter import constant_text, ir_type, signed
from vplc.compiler.codegen.ranges import has_call, plain, range_of
from vplc.compiler.types import (
    BOOL,
    Elementary,
    InterfaceType,
    PointerType,
    StringType,
    Type,
)

_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "AND": "and", "OR": "or", "XOR": "xor"}
_FLOAT = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
_INT_COMPARE = {"=": "eq", "<>": "ne", "<": "lt", ">": "gt", "<=": "le", ">=": "ge"}
_FLOAT_COMPARE = {"=": "oeq", "<>": "une", "<": "olt", ">": "ogt", "<=": "ole", ">=": "oge"}


def is_real(t: Type) -> bool:
    base = t.base
    return isinstance(base, Elementary) and base.group in ("real", "any_real")


def is_bool(t: Type) -> bool:
    return t.base is BOOL


class ExpressionEmitter(ConversionEmitter):
    def call_value(self, e: typed.Call) -> str:
        raise NotImplementedError

    def property_value(self, e: typed.PropertyPlace) -> str:
        raise NotImplementedError

    def guarded(self, e: typed.Guarded) -> str:
        raise NotImplementedError

    def type_test(self, e: typed.TypeTest) -> str:
        raise NotImplementedError

    def attempt(self, e: typed.Attempt) -> str:
        raise NotImplementedError

    def intrinsic(self, e: typed.Intrinsic) -> str:
        raise NotImplementedError

    def compare_strings(self, e: typed.Compare) -> str:
        raise NotImplementedError

    def value(self, e: typed.Expr) -> str:
        """The operand for a scalar expression, in its type's IR form."""
        if isinstance(e, typed.Const):
            assert not isinstance(e.value, str)
            return constant_text(e.value, e.type)
        if isinstance(e, typed.PropertyPlace):
            return self.property_value(e)
        if isinstance(e, typed.ValuePlace):
            return self.value(e.value)
        if isinstance(e, typed.Place):
            return self.read(e)
        if isinstance(e, typed.Binary):
            return self.binary(e)
        if isinstance(e, (typed.Compare, typed.Logic)):
            one = self.condition(e)
            return self.op(f"zext i1 {one} to i8")
        if isinstance(e, typed.Unary):
            return self.unary(e)
        if isinstance(e, typed.Convert):
            return self.convert(e)
        if isinstance(e, typed.Call):
            return self.call_value(e)
        if isinstance(e, typed.Intrinsic):
            return self.intrinsic(e)
        if isinstance(e, typed.Choice):
            return self.choice(e)
        if isinstance(e, (typed.AddressOf, typed.ToInterface)):
            return self.reference(e.place)
        if isinstance(e, typed.PointerAdd):
            a, b = self.value(e.pointer), self.wide(e.offset)
            return self.op(f"add i64 {a}, {b}")
        if isinstance(e, typed.StringPointer):
            return self.op(f"ptrtoint ptr {self.string(e.value)} to i64")
        if isinstance(e, typed.Guarded):
            return self.guarded(e)
        if isinstance(e, typed.TypeTest):
            return self.type_test(e)
        if isinstance(e, typed.Attempt):
            return self.attempt(e)
        if isinstance(e, typed.FunctionCalls):
            pointer = self.pointer("%ctx", e.function.mock_offset + 4)
            return self.op(f"load i32, ptr {pointer}")
        raise AssertionError(type(e))

    # -- BOOL ----------------------------------------------------------------------------------------

    def condition(self, e: typed.Expr) -> str:
        """A BOOL expression as i1."""
        if isinstance(e, typed.Const):
            return "true" if e.value else "false"
        if isinstance(e, typed.Compare):
            return self.compare(e)
        if isinstance(e, typed.Logic):
            return self.short(e.op, e.left, e.right)
        if isinstance(e, typed.Unary) and e.op == "NOT":
            return self.op(f"xor i1 {self.condition(e.operand)}, true")
        if isinstance(e, typed.Binary) and is_bool(e.type):
            if self.lazily(e):
                return self.short(e.op, e.left, e.right)
            a = self.condition(e.left)
            b = self.condition(e.right)
            return self.op(f"{_ARITHMETIC[e.op]} i1 {a}, {b}")
        return self.op(f"icmp ne i8 {self.value(e)}, 0")

    def lazily(self, e: typed.Binary) -> bool:
        """Whether AND/OR must not evaluate its right side when the left one decides.

        The iec profile never evaluates it then; bitwise code is used where that cannot be told. The
        codesys profile evaluates calls always and skips only what might fault.
        """
        if e.op not in ("AND", "OR") or plain(e.right, self.ranges):
            return False
        return not (self.module.codesys and has_call(e.right))

    def short(self, op: str, left: typed.Expr, right: typed.Expr) -> str:
        a = self.condition(left)
        first = self.block
        more, done = self.label("more"), self.label("done")
        if op == "AND":
            self.branch(a, more, done)
        else:
            self.branch(a, done, more)
        self.begin(more)
        b = self.condition(right)
        second = self.block
        self.jump(done)
        self.begin(done)
        return self.op(f"phi i1 [ {'false' if op == 'AND' else 'true'}, %{first} ], [ {b}, %{second} ]")

    # -- operators -----------------------------------------------------------------------------------

    def binary(self, e: typed.Binary) -> str:
        t = e.type
        ir = ir_type(t)
        if is_bool(t):
            if self.lazily(e):
                return self.op(f"zext i1 {self.short(e.op, e.left, e.right)} to i8")
            a = self.value(e.left)
            b = self.value(e.right)
            return self.op(f"{_ARITHMETIC[e.op]} i8 {a}, {b}")
        a = self.value(e.left)
        b = self.value(e.right)
        if is_real(t):
            return self.op(f"{_FLOAT[e.op]} {ir} {a}, {b}")
        if e.op in ("/", "MOD"):
            return self.divide(e, a, b, ir)
        return self.op(f"{_ARITHMETIC[e.op]} {ir} {a}, {b}")

    def divide(self, e: typed.Binary, a: str, b: str, ir: str) -> str:
        sign = signed(e.type)
        known = range_of(e.right, self.ranges)
        left = range_of(e.left, self.ranges)
        zero_possible = known is None or known[0] <= 0 <= known[1]
        base = e.type.base
        low = base.low if isinstance(base, Elementary) else -(1 << 63)
        minus_possible = sign and (known is None or known[0] <= -1 <= known[1]) and (left is None or left[0] <= low)
        if e.op == "MOD":
            # MOD by zero is zero (the standard's definition); MIN MOD -1 would trap in hardware.
            if zero_possible or minus_possible:
                bad = self.op(f"icmp eq {ir} {b}, 0") if zero_possible else "false"
                if minus_possible:
                    minus = self.op(f"icmp eq {ir} {b}, -1")
                    bad = self.op(f"or i1 {bad}, {minus}")
                safe = self.op(f"select i1 {bad}, {ir} 1, {ir} {b}")
                return self.op(f"{'srem' if sign else 'urem'} {ir} {a}, {safe}")
            return self.op(f"{'srem' if sign else 'urem'} {ir} {a}, {b}")
        if zero_possible:
            if self.checked:
                bad = self.op(f"icmp eq {ir} {b}, 0")
                self.fault_if(bad, "division", e.start, self.to_i64(a, e.type))
            else:
                bad = self.op(f"icmp eq {ir} {b}, 0")
                b = self.op(f"select i1 {bad}, {ir} 1, {ir} {b}")
        if minus_possible:
            one = self.op(f"icmp eq {ir} {b}, -1")
            two = self.op(f"icmp eq {ir} {a}, {low}")
            bad = self.op(f"and i1 {one}, {two}")
            if self.checked:
                self.fault_if(bad, "overflow", e.start, self.to_i64(a, e.type), "-1")
            else:
                b = self.op(f"select i1 {bad}, {ir} 1, {ir} {b}")
        return self.op(f"{'sdiv' if sign else 'udiv'} {ir} {a}, {b}")

    def unary(self, e: typed.Unary) -> str:
        value = self.value(e.operand)
        ir = ir_type(e.type)
        if e.op == "NOT":
            return self.op(f"xor {ir} {value}, {1 if is_bool(e.type) else -1}")
        if is_real(e.type):
            return self.op(f"fneg {ir} {value}")
        return self.op(f"sub {ir} 0, {value}")

    def compare(self, e: typed.Compare) -> str:
        if isinstance(e.left.type, StringType):
            return self.compare_strings(e)
        a = self.value(e.left)
        b = self.value(e.right)
        t = e.left.type
        ir = ir_type(t)
        if is_real(t):
            return self.op(f"fcmp {_FLOAT_COMPARE[e.op]} {ir} {a}, {b}")
        word = _INT_COMPARE[e.op]
        if word not in ("eq", "ne"):
            word = ("s" if signed(t) else "u") + word
        return self.op(f"icmp {word} {ir} {a}, {b}")

    # -- selection -----------------------------------------------------------------------------------

    def choice(self, e: typed.Choice) -> str:
        values = [self.value(v) for v in e.values]
        return self.select(e, values, ir_type(e.type))

    def select(self, e: typed.Choice, values: list[str], ir: str) -> str:
        if is_bool(e.selector.type):
            one = self.condition(e.selector)
            return self.op(f"select i1 {one}, {ir} {values[1]}, {ir} {values[0]}")
        selector = self.wide(e.selector)
        bad = self.op(f"icmp uge i64 {selector}, {len(values)}")
        self.fault_if(bad, f"mux:{len(values)}", e.start, selector)
        result = values[0]
        for i, value in enumerate(values[1:], 1):
            hit = self.op(f"icmp eq i64 {selector}, {i}")
            result = self.op(f"select i1 {hit}, {ir} {value}, {ir} {result}")
        return result


__all__ = ["ExpressionEmitter", "InterfaceType", "PointerType", "is_bool", "is_real"]
