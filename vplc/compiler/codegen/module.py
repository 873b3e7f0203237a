"""The whole module: functions on demand, constants, fault sites, entry points."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from vplc.compiler import layout as lay
from vplc.compiler import typed
from vplc.compiler.codegen.emitter import ir_type
from vplc.compiler.codegen.statements import StatementEmitter
from vplc.compiler.layout import Layout, Planner
from vplc.compiler.model import Program
from vplc.compiler.source import Source
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import (
    ArrayType,
    BlockType,
    InterfaceType,
    StringType,
    Type,
    is_aggregate,
)

MAX_DEPTH = 100
_DECLARATIONS = [
    "declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)",
    "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
]
for _ir, _s in (("float", "f32"), ("double", "f64")):
    for _n in ("sqrt", "log", "log10", "exp", "sin", "cos", "floor", "ceil", "trunc", "rint", "fabs"):
        _DECLARATIONS.append(f"declare {_ir} @llvm.{_n}.{_s}({_ir})")
    _DECLARATIONS.append(f"declare {_ir} @llvm.pow.{_s}({_ir}, {_ir})")
for _w in (8, 16, 32, 64):
    for _n in ("smin", "smax", "umin", "umax"):
        _DECLARATIONS.append(f"declare i{_w} @llvm.{_n}.i{_w}(i{_w}, i{_w})")
    for _n in ("fshl", "fshr"):
        _DECLARATIONS.append(f"declare i{_w} @llvm.{_n}.i{_w}(i{_w}, i{_w}, i{_w})")
    _DECLARATIONS.append(f"declare i{_w} @llvm.abs.i{_w}(i{_w}, i1)")
    if _w > 8:
        _DECLARATIONS.append(f"declare i{_w} @llvm.bswap.i{_w}(i{_w})")
for _n in ("sadd", "uadd", "usub", "ssub"):
    _DECLARATIONS.append(f"declare {{ i64, i1 }} @llvm.{_n}.with.overflow.i64(i64, i64)")


@dataclass(slots=True)
class FunctionInfo:
    name: str
    may_fault: bool
    done: bool = False


@dataclass(slots=True)
class Site:
    """Where a fault can come from; `kind` may carry limits after a colon."""

    kind: str
    pou: str
    source: Source | None
    start: int


@dataclass(slots=True)
class Code:
    """What the code generator hands on: IR text and the tables that explain it."""

    ir: str
    sites: list[Site]
    runs: dict[str, str]
    tests: list[tuple[PouSymbol, str, str]] = field(default_factory=list)


def escape(data: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:02X}" for b in data)


# Runs many scans at a virtual period without leaving machine code; stops at the first fault.
_LOOP = """define i32 @{loop}(ptr %ctx, i64 %scans, i64 %now, i64 %period) nounwind {{
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i2, %next ]
  %t = phi i64 [ %now, %entry ], [ %t2, %next ]
  %more = icmp slt i64 %i, %scans
  br i1 %more, label %body, label %done
body:
  %s = call i32 @{run}(ptr %ctx, i64 %t)
  %bad = icmp ne i32 %s, 0
  br i1 %bad, label %fault, label %next
next:
  %i2 = add i64 %i, 1
  %t2 = add i64 %t, %period
  br label %head
fault:
  ret i32 1
done:
  ret i32 0
}}"""


class ModuleWriter:
    def __init__(self, program: Program, planner: Planner) -> None:
        self.program = program
        self.planner = planner
        self.layout: Layout = planner.layout
        self.codesys = program.profile == "codesys"
        self.sites: list[Site] = [Site("none", "", None, 0)]
        self.functions: dict[tuple[int, str], FunctionInfo] = {}
        self.texts: list[str] = []
        self.constants: dict[tuple[bytes, int], str] = {}
        self.globals: list[str] = []
        self.declared: dict[str, None] = {}
        self.tags: dict[str, int] = {}
        self.metadata: list[str] = ['!0 = !{!"vplc"}', '!1 = !{!"branch_weights", i32 1, i32 4000}']
        self.dispatchers: dict[str, FunctionInfo] = {}
        self.powers: set[str] = set()
        self.numbers = 0
        self.export_all = not program.instances and not program.testing
        scope = program.scope.outer
        assert scope is not None
        self.library_scope = scope

    # -- tables ----------------------------------------------------------------------------------------

    def site(self, kind: str, symbol: PouSymbol | None, start: int) -> int:
        self.sites.append(
            Site(kind, symbol.full_name if symbol is not None else "", symbol.source if symbol else None, start)
        )
        return len(self.sites) - 1

    def tag(self, name: str) -> str:
        number = self.tags.get(name)
        if number is None:
            at = len(self.metadata)
            self.metadata.append(f'!{at} = !{{!"{at}", !0, i64 0}}')
            self.metadata.append(f"!{at + 1} = !{{!{at}, !{at}, i64 0}}")
            number = self.tags[name] = at + 1
        return f", !tbaa !{number}"

    def text_constant(self, data: bytes, align: int = 1) -> str:
        key = (data, align)
        name = self.constants.get(key)
        if name is None:
            name = self.constants[key] = f"@c{len(self.constants)}"
            body = f'c"{escape(data)}"' if any(data) else "zeroinitializer"
            self.globals.append(
                f"{name} = private unnamed_addr constant [{len(data)} x i8] {body}, align {max(1, align)}"
            )
        return name

    def string_data(self, value: str, t: StringType) -> bytes:
        return lay.string_bytes(value, t)

    def declare(self, text: str) -> None:
        self.declared[text] = None

    def library(self, name: str) -> PouSymbol:
        found = self.library_scope.names[name]
        assert isinstance(found, PouSymbol)
        return found

    def fresh(self, symbol: PouSymbol, suffix: str = "") -> str:
        self.numbers += 1
        plain = re.sub(r"[^A-Za-z0-9_.]", "_", symbol.full_name)
        return f"{plain}{suffix}.{self.numbers}"

    def need_power(self, ir: str) -> None:
        if ir in self.powers:
            return
        self.powers.add(ir)
        self.texts.append(f"""define internal {ir} @vplc.pow.{ir}({ir} %b, i64 %e) nounwind {{
entry:
  %neg = icmp slt i64 %e, 0
  br i1 %neg, label %small, label %head
small:
  %one = icmp eq {ir} %b, 1
  %v1 = select i1 %one, {ir} 1, {ir} 0
  %minus = icmp eq {ir} %b, -1
  %odd = trunc i64 %e to i1
  %sign = select i1 %odd, {ir} -1, {ir} 1
  %v2 = select i1 %minus, {ir} %sign, {ir} %v1
  ret {ir} %v2
head:
  %r = phi {ir} [ 1, %entry ], [ %r2, %head ]
  %p = phi {ir} [ %b, %entry ], [ %p2, %head ]
  %n = phi i64 [ %e, %entry ], [ %n2, %head ]
  %bit = trunc i64 %n to i1
  %m = mul {ir} %r, %p
  %r2 = select i1 %bit, {ir} %m, {ir} %r
  %p2 = mul {ir} %p, %p
  %n2 = lshr i64 %n, 1
  %end = icmp eq i64 %n2, 0
  br i1 %end, label %out, label %head
out:
  ret {ir} %r2
}}""")

    # -- functions ---------------------------------------------------------------------------------------

    def parameters(self, symbol: PouSymbol) -> list[tuple[str, str, Variable, int]]:
        """IR type and name of each parameter; the number is -1 or the place in an open array's bounds."""
        out: list[tuple[str, str, Variable, int]] = []
        for i, v in enumerate(symbol.params):
            t = v.type
            open_array = isinstance(t, ArrayType) and not t.dims
            if v.kind in ("inout", "output") or is_aggregate(t):
                out.append(("ptr", f"%p{i}", v, -1))
            else:
                out.append((ir_type(t), f"%p{i}", v, -1))
            if open_array and isinstance(t, ArrayType):
                for k in range(2 * t.stars):
                    out.append(("i64", f"%p{i}b{k}", v, k))
        return out

    def function(self, symbol: PouSymbol) -> FunctionInfo:
        """The code of a FUNCTION or METHOD, written at first need."""
        key = (id(symbol), "")
        info = self.functions.get(key)
        if info is not None:
            return info
        info = self.functions[key] = FunctionInfo(self.fresh(symbol), True)
        self.write_function(symbol, info)
        return info

    def body(self, symbol: PouSymbol) -> tuple[str, bool]:
        """The code of a block's, program's or action's body; ("", False) when there is none."""
        if not symbol.body and not symbol.mocked:
            return "", False
        key = (id(symbol), "")
        info = self.functions.get(key)
        if info is None:
            info = self.functions[key] = FunctionInfo(self.fresh(symbol), True)
            self.write_body(symbol, info)
        return info.name, info.may_fault

    def emitter(self, symbol: PouSymbol, name: str) -> StatementEmitter:
        em = StatementEmitter(self, symbol, name)
        em.tagging = symbol.has_loops
        return em

    def linkage(self) -> str:
        return "dso_local" if self.export_all else "internal"

    def write_function(self, symbol: PouSymbol, info: FunctionInfo) -> None:
        em = self.emitter(symbol, info.name)
        method = symbol.kind == "METHOD"
        parameters = self.parameters(symbol)
        signature = ["ptr %ctx", *(["ptr %self"] if method else []), "ptr %ret"]
        signature.extend(f"{ir} {name}" for ir, name, _, _ in parameters)
        exits: list[str] = []
        if symbol.mocked:
            self.mock_prologue(em, symbol)
        if symbol.external:
            em.fault_now("external", symbol.tree.start)
        bounds: dict[Variable, list[str]] = {}
        for _, name, v, k in parameters:
            if k >= 0:
                bounds.setdefault(v, []).append(name)
        for _, name, v, k in parameters:
            if k >= 0:
                continue
            if v in bounds:
                names = bounds[v]
                em.slots[v] = name
                em.dope[v] = [(names[i], names[i + 1]) for i in range(0, len(names), 2)]
            elif v.kind == "inout":
                em.slots[v] = name
            elif v.kind == "output":
                em.slots[v] = name
                em.initialise(name, v.type, v.init)
            elif is_aggregate(v.type):
                self.aggregate_parameter(em, v, name)
            else:
                if v.storage == "static":
                    em.store(v.type, name, em.pointer("%ctx", v.offset))
                else:
                    em.slots[v] = em.alloca_type(ir_type(v.type))
                    em.store(v.type, name, em.slots[v])
        result = symbol.result_variable
        if result is not None:
            t = result.type
            if result.storage == "static":
                em.initialise(em.pointer("%ctx", result.offset), t, result.init)
                pointer = f"getelementptr inbounds i8, ptr %ctx, i64 {result.offset}"
                exits.append(f"  %rp = {pointer}")
                if is_aggregate(t):
                    exits.append(f"  call void @llvm.memmove.p0.p0.i64(ptr %ret, ptr %rp, i64 {t.size}, i1 false)")
                else:
                    exits.append(f"  %rv = load {ir_type(t)}, ptr %rp")
                    exits.append(f"  store {ir_type(t)} %rv, ptr %ret")
            elif is_aggregate(t):
                em.slots[result] = "%ret"
                em.initialise("%ret", t, result.init)
            else:
                slot = em.slots[result] = em.alloca_type(ir_type(t))
                em.initialise(slot, t, result.init)
                exits.append(f"  %rv = load {ir_type(t)}, ptr {slot}")
                exits.append(f"  store {ir_type(t)} %rv, ptr %ret")
        self.locals(em, symbol)
        self.depth(em, symbol, exits)
        em.statements(self.typed_body(symbol))
        info.may_fault = em.may_fault or symbol.recursive
        info.done = True
        attributes = "nounwind alwaysinline " if symbol.unchecked and lay.weight(symbol.body) <= 2 else "nounwind "
        text = em.finish(f"{self.linkage()} i32 @{info.name}({', '.join(signature)})", exits, attributes)
        self.texts.append(text)

    def typed_body(self, symbol: PouSymbol) -> list[typed.Stmt]:
        return [s for s in symbol.body if isinstance(s, typed.Stmt)]

    def aggregate_parameter(self, em: StatementEmitter, v: Variable, name: str) -> None:
        """By value: the callee works on its own copy."""
        t = v.type
        if v.storage == "static":
            target = em.pointer("%ctx", v.offset)
        else:
            target = em.alloca(t.size, max(t.align, 8))
            em.slots[v] = target
        if isinstance(t, StringType):
            function = self.library("__WASSIGN" if t.wide else "__ASSIGN")
            d, s = em.op(f"ptrtoint ptr {target} to i64"), em.op(f"ptrtoint ptr {name} to i64")
            em.call_function(function, [f"i64 {d}", f"i64 {t.length}", f"i64 {s}"], t)
        else:
            em.copy(target, name, t.size)

    def locals(self, em: StatementEmitter, symbol: PouSymbol) -> None:
        """Fresh locals for this call."""
        block = symbol.kind in ("FUNCTION_BLOCK", "PROGRAM", "CLASS")
        for v in symbol.variables.values():
            if v.owner is not symbol or v.kind not in ("local", "temp"):
                continue
            if block and v.kind != "temp":
                continue
            if v.storage == "stack":
                em.slots[v] = em.alloca(v.type.size, 8) if is_aggregate(v.type) else em.alloca_type(ir_type(v.type))
                em.initialise(em.slots[v], v.type, v.init)
            elif v.storage == "static" and v.hidden:
                em.initialise(em.pointer("%ctx", v.offset), v.type, v.init)
            else:
                continue
            if isinstance(v.dynamic, list):
                em.statements(v.dynamic)

    def depth(self, em: StatementEmitter, symbol: PouSymbol, exits: list[str]) -> None:
        """Counts nested calls of recursive POUs: a runaway recursion is a fault, not a dead process."""
        if not symbol.recursive or not em.checked:
            return
        pointer = em.header(lay.DEPTH)
        old = em.op(f"load i64, ptr {pointer}")
        new = em.op(f"add i64 {old}, 1")
        em.fault_if(em.op(f"icmp sgt i64 {new}, {MAX_DEPTH}"), "depth", symbol.tree.start, new)
        em.put(f"store i64 {new}, ptr {pointer}")
        exits.append(f"  store i64 {old}, ptr {pointer}")

    def mock_prologue(self, em: StatementEmitter, symbol: PouSymbol) -> None:
        function = symbol.kind == "FUNCTION"
        base = "%ctx" if function else "%self"
        flag = em.op(f"load i8, ptr {em.pointer(base, symbol.mock_offset)}")
        hit = em.op(f"icmp ne i8 {flag}, 0")
        yes, no = em.label("mock"), em.label("real")
        em.branch(hit, yes, no)
        em.begin(yes)
        counter = em.pointer(base, symbol.mock_offset + 4)
        n = em.op(f"load i32, ptr {counter}")
        em.put(f"store i32 {em.op(f'add i32 {n}, 1')}, ptr {counter}")
        if function and symbol.result is not None:
            em.copy("%ret", em.pointer(base, symbol.mock_offset + 16), symbol.result.size)
        em.put("ret i32 0")
        em.begin(no)

    def write_body(self, symbol: PouSymbol, info: FunctionInfo) -> None:
        em = self.emitter(symbol, info.name)
        exits: list[str] = []
        if symbol.mocked:
            self.mock_prologue(em, symbol)
        self.locals(em, symbol)
        self.depth(em, symbol, exits)
        em.statements(self.typed_body(symbol))
        info.may_fault = em.may_fault or symbol.recursive
        info.done = True
        self.texts.append(em.finish(f"{self.linkage()} i32 @{info.name}(ptr %ctx, ptr %self)", exits, "nounwind "))

    def part(self, symbol: PouSymbol, statements: list[typed.Stmt], base: str) -> tuple[str, bool, bool]:
        """An outlined part of a long body."""
        name = self.fresh(symbol, ".part")
        em = self.emitter(symbol, name)
        em.return_label = "leave"
        for s in statements:
            em.statement(s)
        text = em.finish(f"internal i32 @{name}(ptr %ctx, ptr %self)", [], "noinline nounwind ")
        self.texts.append(text)
        return name, em.may_fault, em.returns

    # -- dispatch ----------------------------------------------------------------------------------------

    def heirs(self, static: PouSymbol) -> list[PouSymbol]:
        """All blocks whose instances may stand where `static` is expected."""
        return [
            p for p in self.program.pous if p.kind in ("FUNCTION_BLOCK", "CLASS") and not p.abstract and p.is_a(static)
        ]

    def method_target(
        self, method: PouSymbol, instance: typed.Expr, exact: bool, block: PouSymbol | None = None
    ) -> tuple[str, bool]:
        t = instance.type
        static = block or (t.symbol if isinstance(t, (BlockType, InterfaceType)) else method.owner)
        assert static is not None
        upper = method.name.upper()
        if (exact and isinstance(t, BlockType)) or static.kind == "PROGRAM":
            assert isinstance(t, BlockType)
            found = t.symbol.find_method(upper) or method
            info = self.function(found)
            return info.name, info.may_fault
        table: list[tuple[PouSymbol, PouSymbol]] = []
        for heir in self.heirs(static):
            found_or_none = heir.find_method(upper)
            if found_or_none is not None and not found_or_none.abstract:
                table.append((heir, found_or_none))
        targets = {id(m) for _, m in table}
        if len(targets) == 1 and not isinstance(t, InterfaceType):
            info = self.function(table[0][1])
            return info.name, info.may_fault
        key = f"{id(static)}.{upper}"
        known = self.dispatchers.get(key)
        if known is None:
            known = self.dispatchers[key] = FunctionInfo(self.fresh(static, f".dispatch.{upper}"), True)
            parameters = self.parameters(method)
            arguments = ["ptr %ctx", "ptr %self", "ptr %ret", *(f"{ir} {n}" for ir, n, _, _ in parameters)]
            self.write_dispatch(known, method, arguments, [(h, self.function(m).name) for h, m in table])
        return known.name, True

    def body_target(self, static: PouSymbol) -> tuple[str, bool]:
        table = [(heir, self.body(heir)[0]) for heir in self.heirs(static)]
        if len({name for _, name in table}) <= 1:
            return self.body(static)
        key = f"{id(static)}.()"
        known = self.dispatchers.get(key)
        if known is None:
            known = self.dispatchers[key] = FunctionInfo(self.fresh(static, ".dispatch"), True)
            self.write_dispatch(known, static, ["ptr %ctx", "ptr %self"], table)
        return known.name, True

    def write_dispatch(
        self, info: FunctionInfo, symbol: PouSymbol, arguments: list[str], table: list[tuple[PouSymbol, str]]
    ) -> None:
        em = self.emitter(symbol, info.name)
        depth = em.header(lay.DEPTH)
        old = em.op(f"load i64, ptr {depth}")
        new = em.op(f"add i64 {old}, 1")
        em.fault_if(em.op(f"icmp sgt i64 {new}, {MAX_DEPTH}"), "depth", symbol.tree.start, new)
        em.put(f"store i64 {new}, ptr {depth}")
        which = em.op("load i32, ptr %self")
        wrong = em.label("wrong")
        entries = " ".join(f"i32 {h.type_id}, label %to{h.type_id}" for h, _ in table)
        em.put(f"switch i32 {which}, label %{wrong} [ {entries} ]")
        for heir, name in table:
            em.begin(f"to{heir.type_id}")
            if name:
                status = em.op(f"call i32 @{name}({', '.join(arguments)})")
                em.status(status, True)
            em.put(f"store i64 {old}, ptr {depth}")
            em.jump("exit")
        em.begin(wrong)
        kind = em.op(f"zext i32 {which} to i64")
        em.fault_now("type", symbol.tree.start, kind)
        self.texts.append(em.finish(f"internal i32 @{info.name}({', '.join(arguments)})", [], "nounwind "))

    # -- initialisation ----------------------------------------------------------------------------------

    def needs_init(self, t: Type, seen: frozenset[int] = frozenset()) -> bool:
        if isinstance(t, ArrayType):
            return self.needs_init(t.element, seen)
        if not isinstance(t, BlockType) or id(t) in seen:
            return False
        if t.symbol.find_method("FB_INIT") is not None:
            return True
        return any(
            isinstance(v.dynamic, list) or (v.kind != "inout" and self.needs_init(v.type, seen | {id(t)}))
            for v in t.members
        )

    def init_block(self, t: BlockType, started: bool = False) -> FunctionInfo:
        """`started`: the declaration itself calls FB_Init, with arguments."""
        symbol = t.symbol
        key = (id(symbol), "init started" if started else "init")
        info = self.functions.get(key)
        if info is not None:
            return info
        info = self.functions[key] = FunctionInfo(self.fresh(symbol, ".init"), True)
        em = self.emitter(symbol, info.name)
        for v in t.members:
            if v.kind != "inout" and self.needs_init(v.type):
                self.init_memory(em, em.pointer("%self", v.offset), v.type, starts_itself(v))
        for v in t.members:
            if isinstance(v.dynamic, list):
                em.statements(v.dynamic)
        for v in symbol.variables.values():
            if v.owner is symbol and v.storage == "static" and isinstance(v.dynamic, list) and not v.hidden:
                em.statements(v.dynamic)
        starts = [b.methods["FB_INIT"] for b in reversed(list(symbol.bases())) if "FB_INIT" in b.methods]
        for start in [] if started else starts:
            function = self.function(start)
            slot = em.alloca(8)
            args = ["ptr %ctx", "ptr %self", f"ptr {slot}"]
            for p in start.params:
                if is_aggregate(p.type):
                    memory = em.alloca(p.type.size)
                    em.initialise(memory, p.type, p.init)
                    args.append(f"ptr {memory}")
                else:
                    args.append(f"{ir_type(p.type)} {em.initial_text(p.type, p.init)}")
            em.status(em.op(f"call i32 @{function.name}({', '.join(args)})"), function.may_fault)
        self.texts.append(em.finish(f"internal i32 @{info.name}(ptr %ctx, ptr %self)", [], "noinline nounwind "))
        return info

    def init_memory(self, em: StatementEmitter, pointer: str, t: Type, started: bool = False) -> None:
        if isinstance(t, BlockType):
            info = self.init_block(t, started)
            em.status(em.op(f"call i32 @{info.name}(ptr %ctx, ptr {pointer})"), True)
        elif isinstance(t, ArrayType):
            counter = em.alloca_type("i64")
            em.put(f"store i64 0, ptr {counter}")
            head, body, done = em.label("head"), em.label("body"), em.label("done")
            em.jump(head)
            em.begin(head)
            n = em.op(f"load i64, ptr {counter}")
            em.branch(em.op(f"icmp slt i64 {n}, {t.count}"), body, done)
            em.begin(body)
            offset = em.op(f"mul i64 {n}, {t.element.size}")
            self.init_memory(em, em.op(f"getelementptr i8, ptr {pointer}, i64 {offset}"), t.element, started)
            em.put(f"store i64 {em.op(f'add i64 {n}, 1')}, ptr {counter}")
            em.jump(head)
            em.begin(done)

    def write_init(self) -> None:
        em = StatementEmitter(self, None, "vplc_init")
        image = self.layout.image
        em.put(f"call void @llvm.memset.p0.i64(ptr %ctx, i8 0, i64 {len(image)}, i1 false)")
        for start, data in runs(image):
            name = self.text_constant(data, 8)
            em.copy(em.pointer("%ctx", start), name, len(data))
        limit = em.op(f"load i64, ptr {em.header(lay.BUDGET_LIMIT)}")
        em.put(f"store i64 {limit}, ptr {em.header(lay.BUDGET)}")
        for v in self.layout.roots:
            if v.hidden:
                continue
            if self.needs_init(v.type):
                self.init_memory(em, em.pointer("%ctx", v.offset), v.type, starts_itself(v))
            if isinstance(v.dynamic, list) and (v.owner is None or v.owner.kind in ("PROGRAM", "FUNCTION", "METHOD")):
                if v.owner is not None and v.owner.kind != "PROGRAM" and v.kind not in ("static",) and not v.constant:
                    continue
                em.symbol = v.owner
                saved = em.self_pointer
                if v.owner is not None and v.owner.result_variable is not None:
                    em.self_pointer = em.pointer("%ctx", max(0, v.owner.result_variable.offset))
                em.statements(v.dynamic)
                em.self_pointer = saved
        em.symbol = None
        self.texts.append(em.finish("i32 @vplc_init(ptr %ctx)", [], "nounwind "))

    # -- entry points ------------------------------------------------------------------------------------

    def scan_prologue(self, em: StatementEmitter) -> None:
        limit = em.op(f"load i64, ptr {em.header(lay.BUDGET_LIMIT)}")
        em.put(f"store i64 {limit}, ptr {em.header(lay.BUDGET)}")
        em.put(f"store i64 0, ptr {em.header(lay.DEPTH)}")

    def write_runs(self, calls: dict[int, typed.Stmt]) -> dict[str, str]:
        out: dict[str, str] = {}
        used: set[str] = set()
        for one in self.program.instances:
            plain = re.sub(r"[^A-Za-z0-9_]", "_", one.name)
            name = f"vplc_run_{plain}"
            while name in used:
                name += "_"
            used.add(name)
            em = StatementEmitter(self, one.program, name)
            em.put(f"store i64 %now, ptr {em.header(lay.TIME_NS)}")
            self.scan_prologue(em)
            em.statements(one.before)
            call = calls.get(id(one))
            if call is not None:
                em.statement(call)
            else:
                target, may_fault = self.body(one.program)
                if target:
                    status = em.op(f"call i32 @{target}(ptr %ctx, ptr {em.pointer('%ctx', one.offset)})")
                    em.status(status, may_fault)
            em.statements(one.after)
            self.texts.append(em.finish(f"i32 @{name}(ptr %ctx, i64 %now)", [], "nounwind "))
            self.texts.append(_LOOP.format(run=name, loop=name.replace("vplc_run_", "vplc_loop_", 1)))
            out[one.name] = name
        return out

    def write_tests(self) -> list[tuple[PouSymbol, str, str]]:
        out = []
        for number, test in enumerate(self.program.tests):
            names = []
            for suffix, body in (
                ("", self.typed_body(test)),
                ("_teardown", [s for s in test.teardown if isinstance(s, typed.Stmt)]),
            ):
                name = f"vplc_test_{number}{suffix}"
                em = self.emitter(test, name)
                self.scan_prologue(em)
                if not suffix:
                    for v in test.variables.values():
                        if isinstance(v.dynamic, list):
                            em.statements(v.dynamic)
                em.statements(body)
                self.texts.append(em.finish(f"i32 @{name}(ptr %ctx)", [], "nounwind "))
                names.append(name)
            out.append((test, names[0], names[1]))
        return out

    def module_text(self) -> str:
        parts = ['source_filename = "vplc"\n']
        parts.extend(self.globals)
        parts.extend(self.declared)
        body = "\n".join(self.texts)
        parts.extend(d for d in _DECLARATIONS if d.partition("@")[2].partition("(")[0] in body)
        parts.append(body)
        parts.extend(self.metadata)
        return "\n".join(parts) + "\n"


def starts_itself(v: Variable) -> bool:
    """Whether the declaration calls FB_Init with arguments of its own."""
    return isinstance(v.dynamic, list) and any(
        isinstance(s, typed.Evaluate) and isinstance(s.value, typed.Call) and s.value.callee.name.upper() == "FB_INIT"
        for s in v.dynamic
    )


def runs(image: bytes) -> list[tuple[int, bytes]]:
    """The parts of the image that are not zero."""
    out: list[tuple[int, bytes]] = []
    for m in re.finditer(rb"[^\0](?:\0{0,63}[^\0])*", image):
        out.append((m.start(), m.group()))
    return out


def generate(program: Program, planner: Planner) -> Code:
    """IR for everything that can run: program instances, tests, or all POUs of a pure library."""
    import sys

    sys.setrecursionlimit(max(sys.getrecursionlimit(), 20_000))
    writer = ModuleWriter(program, planner)
    run_names = writer.write_runs(program.instance_calls)
    tests = writer.write_tests()
    if writer.export_all:
        for symbol in program.pous:
            if symbol.source.library or symbol.abstract:
                continue
            if symbol.kind == "FUNCTION":
                writer.function(symbol)
            elif symbol.kind in ("FUNCTION_BLOCK", "CLASS"):
                writer.body(symbol)
                for method in symbol.methods.values():
                    writer.function(method)
                for action in symbol.actions.values():
                    writer.body(action)
    writer.write_init()
    return Code(writer.module_text(), writer.sites, run_names, tests)


__all__ = ["Code", "FunctionInfo", "ModuleWriter", "Sequence", "Site", "generate"]
