"""Addresses of variables, members, elements and what pointers point at, with their checks."""

from __future__ import annotations

from dataclasses import dataclass

from vplc.compiler import typed
from vplc.compiler.codegen.emitter import Emitter, ir_type
from vplc.compiler.codegen.ranges import range_of
from vplc.compiler.layout import POINTER_BIAS
from vplc.compiler.symbols import Variable
from vplc.compiler.types import ArrayType, BlockType, PointerType, StringType, StructType, Type


@dataclass(slots=True)
class Address:
    """`base` plus a constant number of bytes; `tag` names the variable for alias analysis ("" unknown,
    "?" perhaps not aligned)."""

    base: str
    offset: int
    tag: str


class Places(Emitter):
    def value(self, e: typed.Expr) -> str:
        raise NotImplementedError

    def temporary(self, e: typed.Expr) -> str:
        """A pointer to the aggregate an expression gives."""
        raise NotImplementedError

    def reach(self, a: Address) -> str:
        return self.pointer(a.base, a.offset)

    def address(self, place: typed.Expr) -> Address:
        if isinstance(place, typed.VariablePlace):
            return self.variable_address(place.variable, place.start)
        if isinstance(place, typed.MemberPlace):
            return self.member_address(place)
        if isinstance(place, typed.IndexPlace):
            return self.element_address(place)
        if isinstance(place, typed.DerefPlace):
            return self.deref_address(place)
        if isinstance(place, typed.SelfPlace):
            return Address(self.self_pointer, 0, "")
        if isinstance(place, typed.CharPlace):
            return self.char_address(place)
        return Address(self.temporary(place), 0, "")

    def variable_address(self, variable: Variable, start: int) -> Address:
        slot = self.slots.get(variable)
        if slot is not None:
            if variable.kind == "inout" and variable.storage != "instance":
                return Address(slot, 0, "")
            return Address(slot, 0, f"s{id(variable)}")
        if variable.storage == "static":
            if variable.address:
                return Address("%ctx", variable.offset, "")
            tag = f"{id(variable.owner)}.{variable.name.upper()}" if variable.owner is not None else f"g{id(variable)}"
            return Address("%ctx", variable.offset, tag)
        if variable.storage == "instance":
            if variable.kind == "inout":
                return self.bound(variable, Address(self.self_pointer, variable.offset, ""), start)
            return Address(self.self_pointer, variable.offset, f"{id(variable.owner)}.{variable.name.upper()}")
        raise AssertionError(f"{variable.name} has no storage ({variable.storage})")

    def bound(self, variable: Variable, slot: Address, start: int) -> Address:
        """The variable a VAR_IN_OUT of a block was last bound to."""
        raw = self.op(f"load i64, ptr {self.reach(slot)}")
        bad = self.op(f"icmp eq i64 {raw}, 0")
        self.fault_if(bad, "unbound", start)
        return Address(self.op(f"inttoptr i64 {raw} to ptr"), 0, "")

    def member_address(self, place: typed.MemberPlace) -> Address:
        v = place.variable
        if v is not None:
            if v.storage == "static":
                return self.variable_address(v, place.start)
            base = self.address(place.base)
            slot = Address(base.base, base.offset + v.offset, place.tag)
            if v.kind == "inout":
                return self.bound(v, slot, place.start)
            if self._through_pointer(place.base):
                slot.tag = ""
            return slot
        base = self.address(place.base)
        t = place.base.type
        assert isinstance(t, StructType)
        tag = "" if self._through_pointer(place.base) or t.union or base.tag == "?" else place.tag
        if self._union_inside(place.base):
            tag = ""
        return Address(base.base, base.offset + t.fields[place.path].offset, base.tag if base.tag == "?" else tag)

    def _through_pointer(self, place: typed.Expr) -> bool:
        while isinstance(place, (typed.MemberPlace, typed.IndexPlace)):
            place = place.base
        return isinstance(place, (typed.DerefPlace, typed.ValuePlace)) or (
            isinstance(place, typed.VariablePlace) and bool(place.variable.address)
        )

    def _union_inside(self, place: typed.Expr) -> bool:
        while isinstance(place, (typed.MemberPlace, typed.IndexPlace)):
            if (
                isinstance(place, typed.MemberPlace)
                and isinstance(place.base.type, StructType)
                and place.base.type.union
            ):
                return True
            place = place.base
        return False

    def element_address(self, place: typed.IndexPlace) -> Address:
        t = place.base.type
        assert isinstance(t, ArrayType)
        if isinstance(place.base, typed.DerefPlace) and place.base.index is None and t.dims and self.checked:
            return self.pointed_element(place, place.base, t)
        base = self.address(place.base)
        size = t.element.size
        tag = base.tag
        if not t.dims:
            return self.open_element(place, base, t)
        strides: list[int] = []
        stride = size
        for low, high in reversed(t.dims):
            strides.append(stride)
            stride *= high - low + 1
        strides.reverse()
        constant = base.offset
        terms: list[tuple[str, int]] = []
        for index, (low, high), step in zip(place.indices, t.dims, strides, strict=True):
            if isinstance(index, typed.Const) and isinstance(index.value, int):
                constant += (index.value - low) * step
                continue
            value = self.wide(index)
            self.check_index(index, value, low, high, place.start)
            terms.append((value if low == 0 else self.op(f"sub i64 {value}, {low}"), step))
        if not terms:
            return Address(base.base, constant, tag)
        # Every index is known to be inside its dimension by now, so the whole address is.
        pointer = self.pointer(base.base, constant)
        for value, step in terms:
            if step in (1, 2, 4, 8):
                element = "i8" if step == 1 else f"[{step} x i8]"
                pointer = self.op(f"getelementptr inbounds {element}, ptr {pointer}, i64 {value}")
            else:
                scaled = self.op(f"mul i64 {value}, {step}")
                pointer = self.op(f"getelementptr inbounds i8, ptr {pointer}, i64 {scaled}")
        return Address(pointer, 0, tag)

    def pointed_element(self, place: typed.IndexPlace, base: typed.DerefPlace, t: ArrayType) -> Address:
        """`p^[i]`: only the element must lie in the state, because libraries declare such arrays too long."""
        raw = self.value(base.pointer)
        self.fault_if(self.op(f"icmp eq i64 {raw}, 0"), "null", place.start, raw)
        stride = t.element.size
        for index, (low, high) in reversed(list(zip(place.indices, t.dims, strict=True))):
            if isinstance(index, typed.Const):
                raw = self.op(f"add i64 {raw}, {(int(index.value) - low) * stride}")
            else:
                value = self.wide(index)
                self.check_index(index, value, low, high, place.start)
                shifted = value if low == 0 else self.op(f"sub i64 {value}, {low}")
                scaled = shifted if stride == 1 else self.op(f"mul i64 {shifted}, {stride}")
                raw = self.op(f"add i64 {raw}, {scaled}")
            stride *= high - low + 1
        pointer = self.follow(raw, max(1, t.element.size), place.start)
        return Address(
            pointer,
            0,
            "?"
            if isinstance(base.pointer.type, PointerType) and base.pointer.type.kind == "POINTER" and t.element.size > 1
            else "",
        )

    def wide(self, index: typed.Expr) -> str:
        """An integer as i64."""
        return self.to_i64(self.value(index), index.type)

    def check_index(self, index: typed.Expr, value: str, low: int, high: int, start: int) -> None:
        if not self.checked:
            return
        known = range_of(index, self.ranges)
        if known is not None and low <= known[0] and known[1] <= high:
            return
        shifted = value if low == 0 else self.op(f"sub i64 {value}, {low}")
        bad = self.op(f"icmp ugt i64 {shifted}, {high - low}")
        self.fault_if(bad, f"bounds:{low}..{high}", start, value)

    def bounds_of(self, place: typed.Expr) -> list[tuple[str, str]]:
        """Lower and upper bounds of an array as i64 operands."""
        t = place.type
        assert isinstance(t, ArrayType)
        if t.dims:
            return [(str(a), str(b)) for a, b in t.dims]
        variable: Variable | None = None
        if isinstance(place, typed.VariablePlace):
            variable = place.variable
            known = self.dope.get(variable)
            if known is not None:
                return known
            slot = Address(self.self_pointer, variable.offset, "")
        elif isinstance(place, typed.MemberPlace) and place.variable is not None:
            base = self.address(place.base)
            slot = Address(base.base, base.offset + place.variable.offset, "")
        else:
            raise AssertionError("bounds of an open array expression")
        out = []
        for rank in range(t.stars):
            low = self.op(f"load i64, ptr {self.pointer(slot.base, slot.offset + 8 + 16 * rank)}")
            high = self.op(f"load i64, ptr {self.pointer(slot.base, slot.offset + 16 + 16 * rank)}")
            out.append((low, high))
        return out

    def open_element(self, place: typed.IndexPlace, base: Address, t: ArrayType) -> Address:
        """An element of an ARRAY[*] parameter."""
        bounds = self.bounds_of(place.base)
        flat = ""
        for index, (low, high) in zip(place.indices, bounds, strict=True):
            value = self.wide(index)
            shifted = self.op(f"sub i64 {value}, {low}")
            span = self.op(f"sub i64 {high}, {low}")
            bad = self.op(f"icmp ugt i64 {shifted}, {span}")
            self.fault_if(bad, "bounds", place.start, value, high)
            if flat:
                count = self.op(f"add i64 {span}, 1")
                flat = self.op(f"mul i64 {flat}, {count}")
                flat = self.op(f"add i64 {flat}, {shifted}")
            else:
                flat = shifted
        scaled = self.op(f"mul i64 {flat}, {t.element.size}")
        pointer = self.op(f"getelementptr i8, ptr {self.reach(base)}, i64 {scaled}")
        return Address(pointer, 0, base.tag)

    def deref_address(self, place: typed.DerefPlace) -> Address:
        t = place.type
        raw = self.value(place.pointer)
        size = max(1, t.size)
        start = place.start
        if place.index is not None and isinstance(t, ArrayType):
            size = max(1, t.element.size)
        if place.index is not None:
            index = self.wide(place.index)
            if self.checked:
                bad = self.op(f"icmp eq i64 {raw}, 0")
                self.fault_if(bad, "null", start)
            offset = index if size == 1 else self.op(f"mul i64 {index}, {size}")
            raw = self.op(f"add i64 {raw}, {offset}")
        pointer = self.follow(raw, size, start)
        kind = place.pointer.type.kind if isinstance(place.pointer.type, PointerType) else "POINTER"
        aligned = kind != "POINTER" or t.base.size <= 1
        return Address(pointer, 0, "" if aligned else "?")

    def follow(self, raw: str, size: int, start: int) -> str:
        """The memory a reference names. Faults unless `size` bytes there lie inside the state; covers null.

        The unchecked library works on machine addresses instead, also of temporaries.
        """
        if not self.checked:
            return self.op(f"inttoptr i64 {raw} to ptr")
        offset = self.op(f"sub i64 {raw}, {POINTER_BIAS}")
        bad = self.op(f"icmp ugt i64 {offset}, {max(0, self.module.layout.size - size)}")
        self.fault_if(bad, "null", start, raw)
        return self.op(f"getelementptr i8, ptr %ctx, i64 {offset}")

    def reference(self, place: typed.Expr) -> str:
        """The reference to a place, as a 64-bit number."""
        a = self.address(place)
        if not self.checked:
            return self.op(f"ptrtoint ptr {self.reach(a)} to i64")
        if a.base == "%ctx":
            return str(a.offset + POINTER_BIAS)
        here = self.op(f"ptrtoint ptr {a.base} to i64")
        base = self.op("ptrtoint ptr %ctx to i64")
        distance = self.op(f"sub i64 {here}, {base}")
        return self.op(f"add i64 {distance}, {a.offset + POINTER_BIAS}")

    def char_address(self, place: typed.CharPlace) -> Address:
        t = place.base.type
        assert isinstance(t, StringType)
        pointer = self.string(place.base)
        value = self.wide(place.index)
        last = t.length + place.origin if place.origin == 0 else t.length
        self.check_index(place.index, value, place.origin, last, place.start)
        shifted = value if place.origin == 0 else self.op(f"sub i64 {value}, {place.origin}")
        scaled = shifted if not t.wide else self.op(f"mul i64 {shifted}, 2")
        return Address(self.op(f"getelementptr i8, ptr {pointer}, i64 {scaled}"), 0, "")

    def string(self, e: typed.Expr) -> str:
        raise NotImplementedError

    # -- reading and writing ---------------------------------------------------------------------------

    def bit_of(self, place: typed.Expr) -> int:
        if isinstance(place, typed.VariablePlace):
            return place.variable.bit
        if isinstance(place, typed.MemberPlace) and place.variable is not None:
            return place.variable.bit
        return -1

    def read(self, place: typed.Expr) -> str:
        """The value of a scalar place."""
        if isinstance(place, typed.VariablePlace):
            register = self.registers.get(place.variable)
            if register is not None:
                return register
        if isinstance(place, typed.BitPlace):
            return self.read_bits(place)
        bit = self.bit_of(place)
        a = self.address(place)
        pointer = self.reach(a)
        if bit >= 0:
            byte = self.op(f"load i8, ptr {pointer}")
            shifted = byte if bit == 0 else self.op(f"lshr i8 {byte}, {bit}")
            return self.op(f"and i8 {shifted}, 1")
        return self.load(place.type, pointer, a.tag)

    def read_bits(self, place: typed.BitPlace) -> str:
        value = self.value(place.base)
        ir = ir_type(place.base.type)
        shifted = value if place.bit == 0 else self.op(f"lshr {ir} {value}, {place.bit}")
        if place.width == 1:
            one = self.op(f"and {ir} {shifted}, 1")
            return one if ir == "i8" else self.op(f"trunc {ir} {one} to i8")
        target = f"i{place.width}"
        return shifted if ir == target else self.op(f"trunc {ir} {shifted} to {target}")

    def write(self, place: typed.Expr, value: str) -> None:
        """Stores a scalar that already has the place's type."""
        if isinstance(place, typed.BitPlace):
            self.write_bits(place, value)
            return
        bit = self.bit_of(place)
        a = self.address(place)
        pointer = self.reach(a)
        if bit >= 0:
            byte = self.op(f"load i8, ptr {pointer}")
            cleared = self.op(f"and i8 {byte}, {255 ^ (1 << bit)}")
            one = self.op(f"and i8 {value}, 1")
            shifted = one if bit == 0 else self.op(f"shl i8 {one}, {bit}")
            self.put(f"store i8 {self.op(f'or i8 {cleared}, {shifted}')}, ptr {pointer}")
            return
        self.store(place.type, value, pointer, a.tag)

    def write_bits(self, place: typed.BitPlace, value: str) -> None:
        base = place.base
        ir = ir_type(base.type)
        width = int(ir[1:])
        old = self.value(base)
        mask = ((1 << place.width) - 1) << place.bit
        keep = ((1 << width) - 1) ^ mask
        source = f"i{8 if place.width == 1 else place.width}"
        wide = (
            value
            if source == ir
            else self.op(f"{'zext' if int(source[1:]) < width else 'trunc'} {source} {value} to {ir}")
        )
        if place.width == 1:
            wide = self.op(f"and {ir} {wide}, 1")
        shifted = wide if place.bit == 0 else self.op(f"shl {ir} {wide}, {place.bit}")
        cleared = self.op(f"and {ir} {old}, {keep}")
        self.write(base, self.op(f"or {ir} {cleared}, {shifted}"))


__all__ = ["Address", "BlockType", "Places", "Type"]
