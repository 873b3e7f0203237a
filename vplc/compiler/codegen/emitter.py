"""One LLVM function being written as text: values, blocks, faults.

IR text is written directly because building it through objects costs ten times the CPU time for the same
result. Nothing here may produce poison or undefined behaviour: every operation that could is guarded.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vplc.compiler import layout as lay
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import Elementary, EnumType, InterfaceType, PointerType, SubrangeType, Type

if TYPE_CHECKING:
    from vplc.compiler.codegen.module import ModuleWriter

UNLIKELY = ", !prof !1"


def ir_type(t: Type) -> str:
    """The machine type of a scalar; BOOL is a byte that holds 0 or 1."""
    base = t.base
    if isinstance(base, Elementary):
        if base.group == "real":
            return "float" if base.size == 4 else "double"
        if base.group == "any_real":
            return "double"
        return f"i{max(1, base.size) * 8}"
    if isinstance(base, (PointerType, InterfaceType)):
        return "i64"
    return "ptr"


def constant_text(value: int | float, t: Type) -> str:
    base = t.base
    if isinstance(base, Elementary) and base.group in ("real", "any_real"):
        number = float(value)
        if base.size == 4:
            number = float(struct.unpack("<f", lay.scalar_bytes(base, number))[0])
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    return str(int(value))


def signed(t: Type) -> bool:
    base = t.base
    return isinstance(base, Elementary) and base.signed


class Emitter:
    """State of the function under construction. `may_fault` tells callers whether to look at its status."""

    def __init__(self, module: ModuleWriter, symbol: PouSymbol | None, name: str) -> None:
        self.module = module
        self.symbol = symbol
        self.name = name
        self.lines: list[str] = []
        self.entry: list[str] = []
        self.counter = 0
        self.block = "entry"
        self.faults: list[tuple[str, int, str, str]] = []
        self.may_fault = False
        self.propagates: list[str] = []
        self.checked = symbol is None or not symbol.unchecked
        self.slots: dict[Variable, str] = {}
        self.registers: dict[Variable, str] = {}
        self.ranges: dict[Variable, tuple[int, int]] = {}
        self.dope: dict[Variable, list[tuple[str, str]]] = {}
        self.loops: list[tuple[str, str]] = []
        self.tagging = False
        self.self_pointer = "%self"
        self.return_label = "exit"
        self.returns = False
        self.charged = False

    # -- text ----------------------------------------------------------------------------------------

    def temp(self) -> str:
        self.counter += 1
        return f"%t{self.counter}"

    def label(self, hint: str) -> str:
        self.counter += 1
        return f"{hint}{self.counter}"

    def put(self, text: str) -> None:
        self.lines.append("  " + text)

    def op(self, text: str) -> str:
        """Emits an instruction with a result and gives its name."""
        self.counter += 1
        name = f"%t{self.counter}"
        self.lines.append(f"  {name} = {text}")
        return name

    def begin(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def jump(self, label: str) -> None:
        self.lines.append(f"  br label %{label}")

    def branch(self, condition: str, yes: str, no: str, profile: str = "") -> None:
        self.lines.append(f"  br i1 {condition}, label %{yes}, label %{no}{profile}")

    def alloca(self, size: int, align: int = 8) -> str:
        self.counter += 1
        name = f"%a{self.counter}"
        self.entry.append(f"  {name} = alloca [{max(1, size)} x i8], align {max(1, align)}")
        return name

    def alloca_type(self, ir: str) -> str:
        self.counter += 1
        name = f"%a{self.counter}"
        self.entry.append(f"  {name} = alloca {ir}")
        return name

    def pointer(self, base: str, offset: int) -> str:
        if offset == 0:
            return base
        return self.op(f"getelementptr inbounds i8, ptr {base}, i64 {offset}")

    def header(self, field: int) -> str:
        return self.pointer("%ctx", self.module.layout.header + field)

    # -- faults --------------------------------------------------------------------------------------

    def fault_if(self, condition: str, kind: str, start: int, a: str = "0", b: str = "0") -> None:
        """Leaves the scan with a fault record when `condition` (i1) holds; a and b are i64 operands."""
        site = self.module.site(kind, self.symbol, start)
        ok = self.label("ok")
        self.faults.append((self.block, site, a, b))
        self.lines.append(f"  br i1 {condition}, label %fault, label %{ok}{UNLIKELY}")
        self.begin(ok)
        self.may_fault = True

    def fault_now(self, kind: str, start: int, a: str = "0", b: str = "0") -> None:
        site = self.module.site(kind, self.symbol, start)
        self.faults.append((self.block, site, a, b))
        self.jump("fault")
        self.begin(self.label("dead"))
        self.may_fault = True

    def status(self, result: str, may_fault: bool) -> None:
        """Continues only when the called function reported no fault."""
        if not may_fault:
            return
        bad = self.op(f"icmp ne i32 {result}, 0")
        ok = self.label("ok")
        self.propagates.append(self.block)
        self.lines.append(f"  br i1 {bad}, label %propagate, label %{ok}{UNLIKELY}")
        self.begin(ok)
        self.may_fault = True

    def finish(self, signature: str, exits: list[str], attributes: str = "") -> str:
        """The whole function. `exits` are the lines before the normal return."""
        out = [f"define {signature} {attributes}{{", "entry:"]
        out.extend(self.entry)
        out.extend(self.lines)
        out.append("  br label %exit")
        out.append("exit:")
        out.extend(exits)
        out.append("  ret i32 0")
        if self.return_label == "leave":
            out.append("leave:")
            out.append("  ret i32 2")
        if self.faults:
            out.append("fault:")
            first = ", ".join(f"[ {s}, %{b} ]" for b, s, _, _ in self.faults)
            second = ", ".join(f"[ {a}, %{b} ]" for b, _, a, _ in self.faults)
            third = ", ".join(f"[ {v}, %{b} ]" for b, _, _, v in self.faults)
            header = self.module.layout.header
            out.append(f"  %fsite = phi i32 {first}")
            out.append(f"  %fa = phi i64 {second}")
            out.append(f"  %fb = phi i64 {third}")
            for name, field, ir in (
                ("fsite", lay.FAULT_SITE, "i32"),
                ("fa", lay.FAULT_A, "i64"),
                ("fb", lay.FAULT_B, "i64"),
            ):
                out.append(f"  %p{name} = getelementptr inbounds i8, ptr %ctx, i64 {header + field}")
                out.append(f"  store {ir} %{name}, ptr %p{name}")
            out.append("  ret i32 1")
        if self.propagates:
            out.append("propagate:")
            out.append("  ret i32 1")
        out.append("}")
        return "\n".join(out)

    def tag(self, name: str) -> str:
        if not self.tagging or not name:
            return ""
        return self.module.tag(name)

    def load(self, t: Type, pointer: str, tag: str = "") -> str:
        align = 1 if tag == "?" else min(8, max(1, t.base.size))
        text = self.tag(tag) if tag and tag != "?" else ""
        return self.op(f"load {ir_type(t)}, ptr {pointer}, align {align}{text}")

    def store(self, t: Type, value: str, pointer: str, tag: str = "") -> None:
        align = 1 if tag == "?" else min(8, max(1, t.base.size))
        text = self.tag(tag) if tag and tag != "?" else ""
        self.put(f"store {ir_type(t)} {value}, ptr {pointer}, align {align}{text}")

    def copy(self, target: str, source: str, size: int) -> None:
        if size > 0:
            self.put(f"call void @llvm.memmove.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)")

    def to_i64(self, value: str, t: Type) -> str:
        """Any scalar as 64 bits for the fault record: reals as their LREAL bits."""
        ir = ir_type(t)
        if ir == "i64":
            return value
        if ir == "float":
            value, ir = self.op(f"fpext float {value} to double"), "double"
        if ir == "double":
            return self.op(f"bitcast double {value} to i64")
        if value.lstrip("-").isdigit():
            return value
        return self.op(f"{'sext' if signed(t) else 'zext'} {ir} {value} to i64")


__all__ = ["UNLIKELY", "Emitter", "EnumType", "SubrangeType", "constant_text", "ir_type", "signed"]
