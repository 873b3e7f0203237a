"""Calls of functions, methods, function blocks and actions; dispatch on the instance's type."""

from __future__ import annotations

from dataclasses import dataclass

from vplc.compiler import typed
from vplc.compiler.codegen.emitter import constant_text, ir_type
from vplc.compiler.codegen.intrinsics import IntrinsicEmitter
from vplc.compiler.codegen.places import Address
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import (
    ArrayType,
    BlockType,
    InterfaceType,
    PointerType,
    StringType,
    Type,
    is_aggregate,
    same,
)


class CallEmitter(IntrinsicEmitter):
    # -- parameters ------------------------------------------------------------------------------------

    def initial_text(self, t: Type, init: object) -> str:
        """A scalar's initial value as an IR constant."""
        if isinstance(init, (int, float)):
            return constant_text(init, t)
        data = self.module.planner.default(t)
        value = int.from_bytes(data, "little")
        if ir_type(t) in ("float", "double"):
            return constant_text(0.0, t)
        return str(value)

    def assign_into(self, pointer: str, t: Type, e: typed.Expr, tag: str = "") -> None:
        """Stores an expression of a compatible type to memory of type `t`."""
        if isinstance(t, StringType):
            self.string_into(pointer, t.length, t.wide, e)
        elif is_aggregate(t):
            if isinstance(e, typed.Call) and same(e.type, t):
                temp = self.alloca(t.size, 8)
                self.aggregate_call(e, temp)
                self.copy(pointer, temp, t.size)
            else:
                self.copy(pointer, self.temporary(e), min(t.size, e.type.size))
        else:
            self.store(t, self.value(e), pointer, tag)

    def inout_argument(
        self, param: Variable, place: typed.Expr, after: list[tuple[str, str, Type, typed.Expr]]
    ) -> list[str]:
        """The pointer (and the bounds of an ARRAY[*]) for a VAR_IN_OUT; copies where memory differs."""
        t = param.type
        source = place.type
        direct = isinstance(place, typed.Place) and not isinstance(place, (typed.BitPlace, typed.PropertyPlace))
        if direct and self.bit_of(place) >= 0:
            direct = False
        if isinstance(t, StringType) and isinstance(source, StringType) and source.length != t.length:
            direct = False
        if isinstance(place, typed.ValuePlace):
            direct = True
        if direct:
            pointer = self.string(place) if isinstance(t, StringType) else self.reach(self.address(place))
        else:
            pointer = self.alloca(max(t.size, 8), 8)
            self.assign_into(pointer, t, place)
            if isinstance(place, typed.Place) and not isinstance(place, typed.ValuePlace):
                after.append((pointer, "", t, place))
        out = [f"ptr {pointer}"]
        if isinstance(t, ArrayType) and not t.dims:
            for low, high in self.bounds_of(place):
                out.extend((f"i64 {low}", f"i64 {high}"))
        return out

    def copy_back(self, after: list[tuple[str, str, Type, typed.Expr]]) -> None:
        for pointer, _, t, place in after:
            self.move_out(pointer, t, place)

    def move_out(self, pointer: str, t: Type, place: typed.Expr, negate: bool = False) -> None:
        """Copies memory of type `t` to a place, converting as an assignment would."""
        target = place.type
        if isinstance(target, StringType) and isinstance(t, StringType):
            destination = self.reach(self.address(place))
            if t.length <= target.length and t.size <= 512:
                self.copy(destination, pointer, t.size)
                return
            function = self.module.library("__WASSIGN" if target.wide else "__ASSIGN")
            d = self.op(f"ptrtoint ptr {destination} to i64")
            s = self.op(f"ptrtoint ptr {pointer} to i64")
            self.call_function(function, [f"i64 {d}", f"i64 {target.length}", f"i64 {s}"], t)
            return
        if is_aggregate(target):
            self.copy(self.reach(self.address(place)), pointer, min(t.size, target.size))
            return
        value = self.load(t, pointer)
        holder = typed.Const(t, place.start, 0)
        if negate:
            value = self.op(f"xor i8 {value}, 1")
        if t.base is not target.base or target is not t:
            value = self.convert_value(holder, value, target)
        self.assign_scalar(place, value)

    def convert_value(self, holder: typed.Expr, value: str, target: Type) -> str:
        """Converts an operand that has already been computed."""
        return self.convert(typed.Convert(target, holder.start, Held(holder.type, holder.start, value), "check"))

    def value(self, e: typed.Expr) -> str:
        return e.operand if isinstance(e, Held) else super().value(e)

    def string(self, e: typed.Expr) -> str:
        if isinstance(e, typed.Guarded):
            return self.guarded_memory(e)
        return e.operand if isinstance(e, Held) else super().string(e)

    def temporary(self, e: typed.Expr) -> str:
        return self.guarded_memory(e) if isinstance(e, typed.Guarded) else super().temporary(e)

    def assign_scalar(self, place: typed.Expr, value: str) -> None:
        if isinstance(place, typed.PropertyPlace):
            self.property_set(place, value)
        else:
            self.write(place, value)

    # -- functions and methods -------------------------------------------------------------------------

    def call_function(self, callee: PouSymbol, args: list[str], result: Type) -> str:
        """A plain call of a library function with ready operands."""
        info = self.module.function(callee)
        assert callee.result is not None
        slot = self.alloca_type(ir_type(callee.result))
        status = self.op(f"call i32 @{info.name}(ptr %ctx, ptr {slot}, {', '.join(args)})")
        self.status(status, info.may_fault)
        return self.op(f"load {ir_type(callee.result)}, ptr {slot}")

    def call_value(self, e: typed.Call) -> str:
        t = e.type
        if t.size == 0:
            self.emit_call(e, "null")
            return "0"
        slot = self.alloca_type(ir_type(t))
        if e.enable is not None:
            self.store(t, self.initial_text(t, None), slot)
        self.emit_call(e, slot)
        return self.load(t, slot)

    def aggregate_call(self, e: typed.Call, target: str) -> None:
        if e.enable is not None:
            self.initialise(target, e.type, None)
        self.emit_call(e, target)

    def initialise(self, pointer: str, t: Type, init: object) -> None:
        """Writes a variable's initial value to fresh memory."""
        if not is_aggregate(t):
            self.store(t, self.initial_text(t, init), pointer)
            return
        buffer = bytearray(t.size)
        self.module.planner.write(buffer, 0, t, init)
        if not any(buffer):
            self.put(f"call void @llvm.memset.p0.i64(ptr {pointer}, i8 0, i64 {t.size}, i1 false)")
        elif isinstance(t, StringType):
            data = bytes(buffer).rstrip(b"\0") + b"\0" * t.unit
            self.copy(pointer, self.module.text_constant(data[: t.size], t.align), min(len(data), t.size))
        else:
            self.copy(pointer, self.module.text_constant(bytes(buffer), 8), t.size)

    def emit_call(self, e: typed.Call, target: str) -> None:
        if e.enable is not None or e.enabled_out is not None:
            self.with_enable(e.enable, e.enabled_out, lambda: self.plain_call(e, target), e.own_enable)
        else:
            self.plain_call(e, target)

    def with_enable(
        self, enable: typed.Expr | None, enabled: typed.Expr | None, body: object, own: bool = False
    ) -> None:
        """`own`: the body sets ENO; it comes back as an output like others."""
        assert callable(body)
        if enable is None:
            body()
            if enabled is not None and not own:
                self.assign_scalar(enabled, "1")
            return
        yes, no, done = self.label("en"), self.label("off"), self.label("eno")
        self.branch(self.condition(enable), yes, no)
        self.begin(yes)
        body()
        if enabled is not None and not own:
            self.assign_scalar(enabled, "1")
        self.jump(done)
        self.begin(no)
        if enabled is not None:
            self.assign_scalar(enabled, "0")
        self.jump(done)
        self.begin(done)

    def guarded(self, e: typed.Guarded) -> str:
        """Inside an expression EN = FALSE gives the type's default."""
        slot = self.alloca_type(ir_type(e.type))
        self.store(e.type, self.initial_text(e.type, None), slot)
        self.with_enable(e.enable, e.enabled_out, lambda: self.store(e.type, self.value(e.value), slot), e.own_enable)
        return self.load(e.type, slot)

    def guarded_memory(self, e: typed.Guarded) -> str:
        slot = self.alloca(e.type.size, 8)
        self.initialise(slot, e.type, None)
        self.with_enable(e.enable, e.enabled_out, lambda: self.assign_into(slot, e.type, e.value), e.own_enable)
        return slot

    def plain_call(self, e: typed.Call, target: str) -> None:
        callee = e.callee
        args = ["ptr %ctx"]
        instance = ""
        if e.instance is not None:
            instance = self.instance_pointer(e.instance)
            args.append(f"ptr {instance}")
        args.append(f"ptr {target}")
        after: list[tuple[str, str, Type, typed.Expr]] = []
        given = {id(v): place for v, place in e.outputs}
        results: list[tuple[str, Variable, typed.Expr]] = []
        for param, arg in zip(callee.params, e.args, strict=True):
            t = param.type
            if param.kind == "output":
                slot = self.alloca(max(t.size, 8), 8)
                args.append(f"ptr {slot}")
                place = given.get(id(param))
                if place is not None:
                    results.append((slot, param, place))
            elif param.kind == "inout":
                if arg is None:
                    args.append("ptr null")
                else:
                    args.extend(self.inout_argument(param, arg, after))
            elif is_aggregate(t):
                if arg is None:
                    pointer = self.alloca(t.size, 8)
                    self.initialise(pointer, t, param.init)
                elif isinstance(t, ArrayType) and not t.dims:
                    args.extend(self.inout_argument(param, arg, after))
                    continue
                elif isinstance(t, StringType):
                    pointer = self.string_argument(arg, t)
                else:
                    pointer = self.temporary(arg)
                args.append(f"ptr {pointer}")
            else:
                value = self.value(arg) if arg is not None else self.initial_text(t, param.init)
                args.append(f"{ir_type(t)} {value}")
        if e.virtual and e.instance is not None:
            name, may_fault = self.module.method_target(callee, e.instance, self.exact(e.instance))
        else:
            info = self.module.function(callee)
            name, may_fault = info.name, info.may_fault
        status = self.op(f"call i32 @{name}({', '.join(args)})")
        self.status(status, may_fault)
        self.copy_back(after)
        for slot, param, place in results:
            negate = isinstance(place, typed.Unary)
            inner = place.operand if isinstance(place, typed.Unary) else place
            self.move_out(slot, param.type, inner, negate)

    def string_argument(self, arg: typed.Expr, t: StringType) -> str:
        """A string for a by-value parameter: the callee copies it, so length only has to fit."""
        assert isinstance(arg.type, StringType)
        if arg.type.length <= t.length or isinstance(arg, typed.Const):
            pointer = self.string(arg)
            if isinstance(arg, typed.Const) and len(str(arg.value)) > t.length:
                pointer = self.module.text_constant(self.module.string_data(str(arg.value), t), t.align)
            return pointer
        pointer = self.alloca(t.size, t.align)
        self.string_into(pointer, t.length, t.wide, arg)
        return pointer

    def exact(self, instance: typed.Expr) -> bool:
        """Whether the instance's type is known at compile time."""
        at = instance
        if isinstance(at, typed.VariablePlace):
            return at.variable.kind != "inout" and not isinstance(at.type, InterfaceType)
        if isinstance(at, typed.MemberPlace):
            return at.variable is None or at.variable.kind != "inout"
        return isinstance(at, typed.IndexPlace) and not isinstance(at.type, InterfaceType)

    def instance_pointer(self, instance: typed.Expr) -> str:
        t = instance.type
        if isinstance(instance, typed.SelfPlace):
            return self.self_pointer
        if isinstance(t, InterfaceType):
            return self.follow(self.value(instance), 8, instance.start)
        return self.reach(self.address(instance))

    def property_call(self, e: typed.PropertyPlace, accessor: PouSymbol, args: list[str]) -> None:
        instance = e.base if e.base is not None else typed.SelfPlace(e.type, e.start)
        pointer = self.instance_pointer(instance)
        if e.virtual:
            name, may_fault = self.module.method_target(accessor, instance, self.exact(instance), e.block)
        else:
            info = self.module.function(accessor)
            name, may_fault = info.name, info.may_fault
        status = self.op(f"call i32 @{name}(ptr %ctx, ptr {pointer}, {', '.join(args)})")
        self.status(status, may_fault)

    def property_value(self, e: typed.PropertyPlace) -> str:
        if e.getter is None:
            self.fault_now("property", e.start)
            return self.initial_text(e.type, None)
        slot = self.alloca_type(ir_type(e.type))
        self.property_call(e, e.getter, [f"ptr {slot}"])
        return self.load(e.type, slot)

    def property_into(self, e: typed.PropertyPlace, target: str) -> None:
        if e.getter is None:
            self.fault_now("property", e.start)
            return
        self.property_call(e, e.getter, [f"ptr {target}"])

    def property_set(self, e: typed.PropertyPlace, value: str) -> None:
        assert e.setter is not None
        ir = "ptr" if is_aggregate(e.type) else ir_type(e.type)
        self.property_call(e, e.setter, ["ptr null", f"{ir} {value}"])

    # -- assignment attempts ---------------------------------------------------------------------------

    def type_test(self, e: typed.TypeTest) -> str:
        """The reference when the instance behind it is one of `block`, else null."""
        raw = self.value(e.operand)
        t = e.operand.type
        static = t.target if isinstance(t, PointerType) else t
        assert isinstance(static, (BlockType, InterfaceType))
        fitting = [heir for heir in self.module.heirs(static.symbol) if heir.is_a(e.block) and heir.dispatched]
        look, done = self.label("look"), self.label("tested")
        first = self.block
        self.branch(self.op(f"icmp ne i64 {raw}, 0"), look, done)
        self.begin(look)
        which = self.op(f"load i32, ptr {self.follow(raw, 8, e.start)}")
        found = "false"
        for heir in fitting:
            found = self.op(f"or i1 {found}, {self.op(f'icmp eq i32 {which}, {heir.type_id}')}")
        result = self.op(f"select i1 {found}, i64 {raw}, i64 0")
        second = self.block
        self.jump(done)
        self.begin(done)
        return self.op(f"phi i64 [ 0, %{first} ], [ {result}, %{second} ]")

    def attempt(self, e: typed.Attempt) -> str:
        value = self.value(e.value)
        self.assign_scalar(e.place, value)
        return self.op(f"zext i1 {self.op(f'icmp ne i64 {value}, 0')} to i8")

    # -- function blocks -------------------------------------------------------------------------------

    def call_block(self, s: typed.CallBlock) -> None:
        if s.enable is not None or s.enabled_out is not None:
            self.with_enable(s.enable, s.enabled_out, lambda: self.plain_block(s), s.own_enable)
        else:
            self.plain_block(s)

    def member(self, base: Address, variable: Variable, through: bool) -> Address:
        if variable.storage == "static":
            return self.variable_address(variable, 0)
        tag = "" if through else f"{id(variable.owner)}.{variable.name.upper()}"
        return Address(base.base, base.offset + variable.offset, tag)

    def plain_block(self, s: typed.CallBlock) -> None:
        place = s.place
        base = Address(self.self_pointer, 0, "") if isinstance(place, typed.SelfPlace) else self.address(place)
        through = self._through_pointer(place) or isinstance(place, typed.DerefPlace)
        values: list[tuple[Variable, str]] = []
        for variable, e in s.inputs:
            if is_aggregate(variable.type):
                slot = self.member(base, variable, through)
                self.assign_into(self.reach(slot), variable.type, e)
            else:
                values.append((variable, self.value(e)))
        for variable, value in values:
            slot = self.member(base, variable, through)
            if variable.bit >= 0:
                self.write(typed.VariablePlace(variable.type, s.start, variable), value)
            else:
                self.store(variable.type, value, self.reach(slot), slot.tag)
        after: list[tuple[str, str, Type, typed.Expr]] = []
        stale: list[Variable] = []
        for variable, target in s.inouts:
            before = len(after)
            parts = self.inout_argument(variable, target, after)
            if len(after) > before or not isinstance(target, typed.Place):
                stale.append(variable)
            slot = Address(base.base, base.offset + variable.offset, "")
            raw = self.op(f"ptrtoint {parts[0]} to i64")
            self.put(f"store i64 {raw}, ptr {self.reach(slot)}")
            for i, part in enumerate(parts[1:]):
                self.put(f"store {part}, ptr {self.pointer(slot.base, slot.offset + 8 + 8 * i)}")
        pointer = self.reach(base)
        if s.virtual and not self.exact(place) and not isinstance(place, typed.SelfPlace):
            name, may_fault = self.module.body_target(s.block.symbol)
        else:
            name, may_fault = self.module.body(s.action or s.block.symbol)
        if name:
            status = self.op(f"call i32 @{name}(ptr %ctx, ptr {pointer})")
            self.status(status, may_fault)
        self.copy_back(after)
        for variable in stale:
            # The binding was to a temporary copy: a later call must bind again.
            self.put(f"store i64 0, ptr {self.pointer(base.base, base.offset + variable.offset)}")
        for variable, target in s.outputs:
            negate = isinstance(target, typed.Unary)
            inner = target.operand if isinstance(target, typed.Unary) else target
            slot = self.member(base, variable, through)
            if variable.bit >= 0:
                self.assign_scalar(inner, self.read(typed.VariablePlace(variable.type, s.start, variable)))
            else:
                self.move_out(self.reach(slot), variable.type, inner, negate)


@dataclass(slots=True, eq=False)
class Held(typed.Expr):
    """A value that is already in a register, or a string that is already in memory."""

    operand: str


__all__ = ["BlockType", "CallEmitter", "Held", "PointerType"]
