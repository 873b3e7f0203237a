"""Functions that become instructions: arithmetic helpers, shifts, time, string plumbing."""

from __future__ import annotations

from vplc.compiler import layout as lay
from vplc.compiler import typed
from vplc.compiler.codegen.emitter import constant_text, ir_type, signed
from vplc.compiler.codegen.expressions import ExpressionEmitter, is_real
from vplc.compiler.codegen.ranges import plain, range_of, root_variable
from vplc.compiler.symbols import PouSymbol
from vplc.compiler.types import (
    LREAL,
    ArrayType,
    Elementary,
    StringType,
    Type,
    is_aggregate,
)

_LIBM = {
    "SQRT": "llvm.sqrt",
    "LN": "llvm.log",
    "LOG": "llvm.log10",
    "EXP": "llvm.exp",
    "SIN": "llvm.sin",
    "COS": "llvm.cos",
    "POW": "llvm.pow",
    "FLOOR": "llvm.floor",
    "CEIL": "llvm.ceil",
}
_C_MATH = {"TAN": "tan", "ASIN": "asin", "ACOS": "acos", "ATAN": "atan", "ATAN2": "atan2"}
_DAY = 86_400_000_000_000


class IntrinsicEmitter(ExpressionEmitter):
    def call_function(self, callee: PouSymbol, args: list[str], result: Type) -> str:
        raise NotImplementedError

    def aggregate_call(self, e: typed.Call, target: str) -> None:
        raise NotImplementedError

    def intrinsic(self, e: typed.Intrinsic) -> str:
        name = e.name
        t = e.type
        ir = ir_type(t)
        if name in _LIBM or name in _C_MATH:
            return self.math(name, [self.value(a) for a in e.args], ir)
        if name in ("SHL", "SHR", "ROL", "ROR"):
            return self.shift(e, ir)
        if name in ("MIN", "MAX"):
            return self.extreme(e, ir)
        if name == "ABS":
            value = self.value(e.args[0])
            if is_real(t):
                return self.op(f"call {ir} @llvm.fabs.{'f32' if ir == 'float' else 'f64'}({ir} {value})")
            if not signed(t):
                return value
            return self.op(f"call {ir} @llvm.abs.{ir}({ir} {value}, i1 false)")
        if name == "SCAN_TIME":
            return self.op(f"load i64, ptr {self.header(lay.TIME_NS)}, align 8{self.tag('header.time')}")
        if name == "ADVANCE_TIME":
            pointer = self.header(lay.TIME_NS)
            now = self.op(f"load i64, ptr {pointer}")
            later = self.op(f"add i64 {now}, {self.value(e.args[0])}")
            self.put(f"store i64 {later}, ptr {pointer}")
            return later
        if name == "SIZEOF":
            return str(e.args[0].type.size)
        if name == "BITCAST":
            return self.op(f"bitcast {ir_type(e.args[0].type)} {self.value(e.args[0])} to {ir}")
        if name == "BSWAP":
            value = self.value(e.args[0])
            whole = f"i{t.size * 8}"
            if is_real(t):
                value = self.op(f"bitcast {ir} {value} to {whole}")
            value = self.op(f"call {whole} @llvm.bswap.{whole}({whole} {value})")
            return self.op(f"bitcast {whole} {value} to {ir}") if is_real(t) else value
        if name == "IS_VALID":
            value = self.value(e.args[0])
            real = ir_type(e.args[0].type)
            gap = self.op(f"fsub {real} {value}, {value}")
            good = self.op(f"fcmp oeq {real} {gap}, {constant_text(0.0, e.args[0].type)}")
            return self.op(f"zext i1 {good} to i8")
        if name in ("DAY_FLOOR", "DAY_WRAP"):
            value = self.value(e.args[0])
            rest = self.op(f"srem i64 {value}, {_DAY}")
            negative = self.op(f"icmp slt i64 {rest}, 0")
            more = self.op(f"add i64 {rest}, {_DAY}")
            inside = self.op(f"select i1 {negative}, i64 {more}, i64 {rest}")
            return inside if name == "DAY_WRAP" else self.op(f"sub i64 {value}, {inside}")
        if name == "FLOOR_DIV":
            # Durations convert to whole units toward zero.
            return self.op(f"sdiv i64 {self.value(e.args[0])}, {self.value(e.args[1])}")
        if name == "POWI":
            return self.power(e, ir)
        if name in ("LOWER_BOUND", "UPPER_BOUND"):
            rank = e.args[1]
            side = 0 if name == "LOWER_BOUND" else 1
            bounds = [pair[side] for pair in self.bounds_of(e.args[0])]
            if isinstance(rank, typed.Const):
                return self.op(f"trunc i64 {bounds[int(rank.value)]} to i32")
            chosen = self.value(rank)
            wide = bounds[0]
            for number, bound in enumerate(bounds[1:], 2):
                hit = self.op(f"icmp eq i32 {chosen}, {number}")
                wide = self.op(f"select i1 {hit}, i64 {bound}, i64 {wide}")
            return self.op(f"trunc i64 {wide} to i32")
        if name == "MOCK_CALLS":
            return self.op(f"load i32, ptr {self.mock_field(e.args[0], 4)}")
        if name == "C_FORMAT":
            return self.c_format(e)
        if name == "C_PARSE":
            self.module.declare("declare double @strtod(ptr, ptr)")
            pointer = self.op(f"inttoptr i64 {self.value(e.args[0])} to ptr")
            return self.op(f"call double @strtod(ptr {pointer}, ptr null)")
        raise AssertionError(name)

    def mock_field(self, place: typed.Expr, offset: int) -> str:
        from vplc.compiler.types import BlockType

        assert isinstance(place.type, BlockType)
        a = self.address(place)
        return self.pointer(a.base, a.offset + place.type.symbol.mock_offset + offset)

    def math(self, name: str, args: list[str], ir: str) -> str:
        typed_args = ", ".join(f"{ir} {a}" for a in args)
        suffix = "f32" if ir == "float" else "f64"
        if name in _LIBM:
            return self.op(f"call {ir} @{_LIBM[name]}.{suffix}({typed_args})")
        symbol = _C_MATH[name] + ("f" if ir == "float" else "")
        self.module.declare(f"declare {ir} @{symbol}({', '.join([ir] * len(args))})")
        return self.op(f"call {ir} @{symbol}({typed_args})")

    def c_format(self, e: typed.Intrinsic) -> str:
        # Not snprintf: its size argument has another width on 32-bit targets. 17 digits fit the buffer.
        self.module.declare("declare i32 @sprintf(ptr, ptr, ...)")
        form = self.module.text_constant(b"%.*E\0")
        buffer = self.op(f"inttoptr i64 {self.value(e.args[0])} to ptr")
        digits, number = (self.value(a) for a in e.args[2:])
        digits = digits if digits.isdigit() else self.op(f"trunc i64 {digits} to i32")
        return self.op(f"call i32 (ptr, ptr, ...) @sprintf(ptr {buffer}, ptr {form}, i32 {digits}, double {number})")

    def shift(self, e: typed.Intrinsic, ir: str) -> str:
        """Shifts by the width or more give 0, rotations turn modulo the width, negative counts fault."""
        width = (
            1
            if e.type.base.size == 1 and isinstance(e.type.base, Elementary) and e.type.base.group == "bool"
            else e.type.size * 8
        )
        value = self.value(e.args[0])
        count_node = e.args[1]
        if isinstance(count_node, typed.Const):
            n = int(count_node.value)
            if width == 1:
                return value if e.name in ("ROL", "ROR") or n == 0 else "0"
            if e.name in ("SHL", "SHR"):
                if n >= width:
                    return "0"
                return value if n == 0 else self.op(f"{'shl' if e.name == 'SHL' else 'lshr'} {ir} {value}, {n}")
            word = "fshl" if e.name == "ROL" else "fshr"
            return self.op(f"call {ir} @llvm.{word}.{ir}({ir} {value}, {ir} {value}, {ir} {n % width})")
        n64 = self.wide(count_node)
        known = range_of(count_node, self.ranges)
        if (known is None or known[0] < 0) and self.checked:
            self.fault_if(self.op(f"icmp slt i64 {n64}, 0"), "shift", e.start, n64)
        if e.name in ("ROL", "ROR"):
            if width == 1:
                return value
            turn = self.op(f"and i64 {n64}, {width - 1}")
            count = self.resize(turn, "i64", ir, False)
            word = "fshl" if e.name == "ROL" else "fshr"
            return self.op(f"call {ir} @llvm.{word}.{ir}({ir} {value}, {ir} {value}, {ir} {count})")
        small = self.op(f"and i64 {n64}, {max(width, 8) - 1}")
        count = self.resize(small, "i64", ir, False)
        moved = self.op(f"{'shl' if e.name == 'SHL' else 'lshr'} {ir} {value}, {count}")
        wide = self.op(f"icmp uge i64 {n64}, {width}")
        return self.op(f"select i1 {wide}, {ir} 0, {ir} {moved}")

    def extreme(self, e: typed.Intrinsic, ir: str) -> str:
        a, b = self.value(e.args[0]), self.value(e.args[1])
        if is_real(e.type):
            # A NaN operand gives the other one, as comparison with IF would.
            word = "olt" if e.name == "MIN" else "ogt"
            less = self.op(f"fcmp {word} {ir} {b}, {a}")
            return self.op(f"select i1 {less}, {ir} {b}, {ir} {a}")
        word = ("s" if signed(e.type) else "u") + ("min" if e.name == "MIN" else "max")
        return self.op(f"call {ir} @llvm.{word}.{ir}({ir} {a}, {ir} {b})")

    def power(self, e: typed.Intrinsic, ir: str) -> str:
        """Whole powers by repeated squaring, wrapping; a negative exponent gives 0 except for 1 and -1."""
        base, exponent = self.value(e.args[0]), self.value(e.args[1])
        self.module.need_power(ir)
        return self.op(f"call {ir} @vplc.pow.{ir}({ir} {base}, i64 {exponent})")

    # -- strings -------------------------------------------------------------------------------------

    def string(self, e: typed.Expr) -> str:
        """A pointer to a string's first code unit. It stays valid until the statement ends."""
        t = e.type
        assert isinstance(t, StringType)
        if isinstance(e, typed.Const):
            return self.module.text_constant(lay.string_bytes(str(e.value), StringType(65535, t.wide)), t.align)
        if isinstance(e, typed.ValuePlace):
            return self.string(e.value)
        if isinstance(e, typed.Convert):
            return self.string(e.operand)
        if isinstance(e, typed.Place) and not isinstance(e, typed.PropertyPlace):
            pointer = self.reach(self.address(e))
            if self.module.codesys and self.checked:
                # Pointer code may have overwritten the ending zero: put it back.
                last = self.pointer(pointer, t.length * t.unit)
                self.put(f"store i{t.unit * 8} 0, ptr {last}, align 1")
            return pointer
        return self.temporary(e)

    def temporary(self, e: typed.Expr) -> str:
        """Memory that holds the value of an aggregate expression."""
        t = e.type
        if isinstance(e, typed.ValuePlace):
            return self.temporary(e.value)
        if isinstance(t, StringType):
            if isinstance(e, typed.Const):
                return self.string(e)
            if isinstance(e, typed.Choice):
                return self.select(e, [self.string(v) for v in e.values], "ptr")
            if isinstance(e, typed.Intrinsic) and e.name in ("MIN", "MAX"):
                a, b = self.string(e.args[0]), self.string(e.args[1])
                order = self.compare_pointers(a, b, t.wide)
                hit = self.op(f"icmp {'slt' if e.name == 'MIN' else 'sgt'} i32 {order}, 0")
                return self.op(f"select i1 {hit}, ptr {a}, ptr {b}")
            target = self.alloca(t.size, t.align)
            self.string_into(target, t.length, t.wide, e)
            return target
        if isinstance(e, typed.Choice) and is_aggregate(t):
            return self.select(e, [self.reach(self.address(v)) for v in e.values], "ptr")
        if not is_aggregate(t):
            target = self.alloca(t.base.size, 8)
            self.store(t, self.value(e), target)
            return target
        if isinstance(e, typed.Place) and not isinstance(e, typed.PropertyPlace):
            return self.reach(self.address(e))
        target = self.alloca(t.size, 8)
        if isinstance(e, typed.Call):
            self.aggregate_call(e, target)
        elif isinstance(e, typed.PropertyPlace):
            self.property_into(e, target)
        elif isinstance(e, typed.Convert):
            return self.temporary(e.operand)
        else:
            raise AssertionError(type(e))
        return target

    def property_into(self, e: typed.PropertyPlace, target: str) -> None:
        raise NotImplementedError

    def string_into(self, target: str, capacity: int, wide: bool, e: typed.Expr) -> None:
        """Writes a string expression to `target`, cut at `capacity` code units."""
        unit = 2 if wide else 1
        assert isinstance(e.type, StringType)
        if isinstance(e, typed.Const):
            data = lay.string_bytes(str(e.value), StringType(capacity, wide))
            self.copy(target, self.module.text_constant(data, unit), len(data))
            return
        if isinstance(e, typed.StringCall):
            self.library_string(e, target, capacity)
            return
        if isinstance(e, typed.Call) and e.type.length <= capacity:
            self.aggregate_call(e, target)
            return
        if isinstance(e, typed.PropertyPlace) and e.type.length <= capacity:
            self.property_into(e, target)
            return
        if isinstance(e, typed.Intrinsic) and e.name == "CHAR_TO_STRING":
            value = self.value(e.args[0])
            self.put(f"store i{unit * 8} {value}, ptr {target}, align {unit}")
            self.put(f"store i{unit * 8} 0, ptr {self.pointer(target, unit)}, align {unit}")
            return
        source = self.string(e)
        if isinstance(e, typed.Place) and e.type.length <= capacity and e.type.size <= 512:
            self.copy(target, source, e.type.size)
            return
        function = self.module.library("__WASSIGN" if wide else "__ASSIGN")
        d = self.op(f"ptrtoint ptr {target} to i64")
        s = self.op(f"ptrtoint ptr {source} to i64")
        self.call_function(function, [f"i64 {d}", f"i64 {capacity}", f"i64 {s}"], LREAL)

    def library_string(self, e: typed.StringCall, target: str, capacity: int) -> None:
        args = [f"{ir_type(a.type)} {self.value(a)}" for a in e.args]
        d = self.op(f"ptrtoint ptr {target} to i64")
        self.call_function(e.callee, [f"i64 {d}", f"i64 {capacity}", *args], LREAL)

    def compare_pointers(self, a: str, b: str, wide: bool) -> str:
        function = self.module.library("__WCOMPARE" if wide else "__COMPARE")
        x, y = self.op(f"ptrtoint ptr {a} to i64"), self.op(f"ptrtoint ptr {b} to i64")
        assert function.result is not None
        return self.call_function(function, [f"i64 {x}", f"i64 {y}"], function.result)

    def compare_strings(self, e: typed.Compare) -> str:
        t = e.left.type
        assert isinstance(t, StringType)
        if e.op in ("=", "<>"):
            for side, other in ((e.left, e.right), (e.right, e.left)):
                if isinstance(side, typed.Const) and side.value == "":
                    pointer = self.string(other)
                    first = self.op(f"load i{t.unit * 8}, ptr {pointer}, align {t.unit}")
                    return self.op(f"icmp {'eq' if e.op == '=' else 'ne'} i{t.unit * 8} {first}, 0")
        order = self.compare_pointers(self.string(e.left), self.string(e.right), t.wide)
        word = {"=": "eq", "<>": "ne", "<": "slt", ">": "sgt", "<=": "sle", ">=": "sge"}[e.op]
        return self.op(f"icmp {word} i32 {order}, 0")

    def may_overlap(self, place: typed.Expr, e: typed.Expr) -> bool:
        """Whether a string expression may read what `place` is."""
        from vplc.compiler.codegen.ranges import walk

        target = root_variable(place)
        for node in walk(e):
            if isinstance(node, typed.StringPointer):
                inner = node.value
                if isinstance(inner, (typed.Const, typed.StringCall)):
                    continue
                source = root_variable(inner)
                if source is None or target is None or source is target:
                    return True
                if "inout" in (source.kind, target.kind):
                    return True
            elif isinstance(node, typed.Call) and not node.callee.unchecked:
                return True
        return target is None


__all__ = ["ArrayType", "IntrinsicEmitter", "plain"]
