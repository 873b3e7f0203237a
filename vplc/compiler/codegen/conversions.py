"""Conversions between scalars: wrapping, checked, rounding half to even, truncating."""

from __future__ import annotations

from vplc.compiler import typed
from vplc.compiler.codegen.emitter import constant_text, ir_type, signed
from vplc.compiler.codegen.places import Places
from vplc.compiler.codegen.ranges import range_of
from vplc.compiler.types import Elementary, EnumType, InterfaceType, PointerType, SubrangeType


def _bits(ir: str) -> int:
    return int(ir[1:])


class ConversionEmitter(Places):
    def convert(self, e: typed.Convert) -> str:
        source, target = e.operand.type, e.type
        a, b = source.base, target.base
        if isinstance(a, (PointerType, InterfaceType)) or isinstance(b, (PointerType, InterfaceType)):
            value = self.value(e.operand)
            return self.resize(value, ir_type(a), ir_type(b), False)
        assert isinstance(a, Elementary)
        assert isinstance(b, Elementary)
        value = self.value(e.operand)
        from_ir, to_ir = ir_type(a), ir_type(b)
        if a.group in ("real", "any_real"):
            if b.group in ("real", "any_real"):
                if from_ir == to_ir:
                    return value
                return self.op(f"{'fpext' if to_ir == 'double' else 'fptrunc'} {from_ir} {value} to {to_ir}")
            return self.real_to_integer(e, value, from_ir, b)
        if b.group in ("real", "any_real"):
            return self.op(f"{'sitofp' if a.signed else 'uitofp'} {from_ir} {value} to {to_ir}")
        if b.group == "bool" and a.group != "bool":
            hit = self.op(f"icmp ne {from_ir} {value}, 0")
            return self.op(f"zext i1 {hit} to i8")
        if isinstance(target, SubrangeType):
            if e.mode == "check":
                self.check_subrange(e, value, target)
            return self.resize(value, from_ir, to_ir, a.signed)
        if e.mode == "check":
            self.check_range(e, value, a, b)
        return self.resize(value, from_ir, to_ir, a.signed)

    def resize(self, value: str, from_ir: str, to_ir: str, sign: bool) -> str:
        if from_ir == to_ir:
            return value
        if _bits(from_ir) > _bits(to_ir):
            return self.op(f"trunc {from_ir} {value} to {to_ir}")
        return self.op(f"{'sext' if sign else 'zext'} {from_ir} {value} to {to_ir}")

    def check_subrange(self, e: typed.Convert, value: str, target: SubrangeType) -> None:
        if not self.checked:
            return
        known = range_of(e.operand, self.ranges)
        if known is not None and target.low <= known[0] and known[1] <= target.high:
            return
        ir = ir_type(e.operand.type)
        sign = "s" if signed(e.operand.type) else "u"
        below = self.op(f"icmp {sign}lt {ir} {value}, {target.low}")
        above = self.op(f"icmp {sign}gt {ir} {value}, {target.high}")
        bad = self.op(f"or i1 {below}, {above}")
        self.fault_if(bad, f"subrange:{target.low}..{target.high}", e.start, self.to_i64(value, e.operand.type))

    def check_range(self, e: typed.Convert, value: str, a: Elementary, b: Elementary) -> None:
        known = range_of(e.operand, self.ranges) or (a.low, a.high)
        tests = []
        ir = ir_type(a)
        sign = "s" if a.signed else "u"
        if known[0] < b.low:
            tests.append(self.op(f"icmp {sign}lt {ir} {value}, {b.low}"))
        if known[1] > b.high:
            tests.append(self.op(f"icmp {sign}gt {ir} {value}, {b.high}"))
        if tests and self.checked:
            bad = tests[0] if len(tests) == 1 else self.op(f"or i1 {tests[0]}, {tests[1]}")
            self.fault_if(bad, f"range:{b.name}", e.start, self.to_i64(value, a))

    def real_to_integer(self, e: typed.Convert, value: str, ir: str, b: Elementary) -> str:
        """Rounds half to even (or truncates) and faults when the result does not fit; NaN faults too."""
        if e.mode == "trunc":
            rounded = self.op(f"call {ir} @llvm.trunc.{'f32' if ir == 'float' else 'f64'}({ir} {value})")
        else:
            rounded = self.op(f"call {ir} @llvm.rint.{'f32' if ir == 'float' else 'f64'}({ir} {value})")
        bits = 1 if b.group == "bool" else b.size * 8
        if b.signed:
            low, high = float(-(1 << (bits - 1))), float(1 << (bits - 1))
        else:
            low, high = 0.0, float(1 << bits)
        real = e.operand.type
        above = self.op(f"fcmp oge {ir} {rounded}, {constant_text(low, real)}")
        below = self.op(f"fcmp olt {ir} {rounded}, {constant_text(high, real)}")
        good = self.op(f"and i1 {above}, {below}")
        to_ir = ir_type(b)
        word = "fptosi" if b.signed else "fptoui"
        if self.checked:
            bad = self.op(f"xor i1 {good}, true")
            self.fault_if(bad, f"range:{b.name}", e.start, self.to_i64(value, real), "1")
            return self.op(f"{word} {ir} {rounded} to {to_ir}")
        safe = self.op(f"select i1 {good}, {ir} {rounded}, {ir} {constant_text(0.0, real)}")
        return self.op(f"{word} {ir} {safe} to {to_ir}")


__all__ = ["ConversionEmitter", "EnumType"]
