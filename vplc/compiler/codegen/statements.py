"""Statements: control flow, loops with their budget, long bodies in outlined parts."""

from __future__ import annotations

from vplc.compiler import layout as lay
from vplc.compiler import typed
from vplc.compiler.codegen.calls import CallEmitter, Held
from vplc.compiler.codegen.emitter import UNLIKELY, ir_type, signed
from vplc.compiler.codegen.ranges import modifies, range_of, walk
from vplc.compiler.symbols import Variable
from vplc.compiler.types import ArrayType, Elementary, StringType, is_aggregate

CHUNK = 100
SPAN = 64
FEW = 16


class StatementEmitter(CallEmitter):
    def statements(self, body: list[typed.Stmt]) -> None:
        if len(body) > CHUNK + 30 and self.outlinable(body):
            self.outline(body)
            return
        for s in body:
            self.statement(s)

    def outlinable(self, body: list[typed.Stmt]) -> bool:
        if self.symbol is None or not self.symbol.chunked or self.registers:
            return False
        return not any(
            isinstance(s, (typed.Goto, typed.Label))
            or (isinstance(s, typed.Jump) and s.kind != "RETURN" and not self._inside_loop(s, body))
            for b in body
            for s in walk(b)
        )

    def _inside_loop(self, jump: typed.Jump, body: list[typed.Stmt]) -> bool:
        """Whether EXIT or CONTINUE belongs to a loop that is part of `body`."""
        for s in body:
            if isinstance(s, (typed.For, typed.While, typed.Repeat)) and any(n is jump for n in walk(s)):
                return True
            if isinstance(s, (typed.If, typed.Case)):
                inner: list[list[typed.Stmt]] = [b for _, b in s.branches]
                if any(self._inside_loop(jump, b) for b in [*inner, s.otherwise]):
                    return True
        return False

    def outline(self, body: list[typed.Stmt]) -> None:
        """Optimisers are super-linear on long straight code: a long body becomes a row of functions."""
        part: list[typed.Stmt] = []
        size = 0
        for s in body:
            part.append(s)
            size += lay.weight([s])
            if size >= CHUNK:
                self.call_part(part)
                part, size = [], 0
        if part:
            self.call_part(part)

    def call_part(self, part: list[typed.Stmt]) -> None:
        assert self.symbol is not None
        name, may_fault, returns = self.module.part(self.symbol, part, self.name)
        status = self.op(f"call i32 @{name}(ptr %ctx, ptr {self.self_pointer})")
        if returns:
            self.returns = True
            done = self.op(f"icmp eq i32 {status}, 2")
            on = self.label("on")
            self.branch(done, self.return_label, on)
            self.begin(on)
        self.status(status, may_fault)

    def statement(self, s: typed.Stmt) -> None:
        if isinstance(s, typed.Assign):
            self.assign(s)
        elif isinstance(s, typed.CallBlock):
            self.call_block(s)
        elif isinstance(s, typed.If):
            self.if_statement(s)
        elif isinstance(s, typed.Evaluate):
            if is_aggregate(s.value.type):
                self.temporary(s.value)
            else:
                self.value(s.value)
        elif isinstance(s, typed.Case):
            self.case(s)
        elif isinstance(s, typed.For):
            self.for_loop(s)
        elif isinstance(s, (typed.While, typed.Repeat)):
            self.loop(s)
        elif isinstance(s, typed.Jump):
            self.leave(s)
        elif isinstance(s, typed.CallAction):
            self.call_action(s)
        elif isinstance(s, typed.Goto):
            self.spend("1", s.start)
            self.jump(f"L.{s.label}")
            self.begin(self.label("dead"))
        elif isinstance(s, typed.Label):
            self.jump(f"L.{s.name}")
            self.begin(f"L.{s.name}")
        elif isinstance(s, typed.Assert):
            self.assertion(s)
        elif isinstance(s, typed.MockBlock):
            self.put(f"store i8 1, ptr {self.mock_field(s.place, 0)}")
            self.put(f"store i32 0, ptr {self.mock_field(s.place, 4)}")
        elif isinstance(s, typed.MockFunction):
            self.mock_function(s)
        else:
            raise AssertionError(type(s))

    def leave(self, s: typed.Jump) -> None:
        if s.kind == "RETURN":
            self.returns = True
            self.jump(self.return_label)
        elif s.kind == "EXIT":
            self.jump(self.loops[-1][0])
        else:
            self.jump(self.loops[-1][1])
        self.begin(self.label("dead"))

    def assign(self, s: typed.Assign) -> None:
        place, e = s.place, s.value
        t = place.type
        if isinstance(e, typed.Guarded):
            guarded = e
            self.with_enable(
                e.enable,
                e.enabled_out,
                lambda: self.assign(typed.Assign(s.start, place, guarded.value)),
                e.own_enable,
            )
            return
        if isinstance(e, typed.Call) and e.enable is not None:
            # EN = FALSE leaves the target as it is.
            inner = typed.Call(e.type, e.start, e.callee, e.args, e.outputs, e.instance, e.virtual, None, None, e.extra)
            self.with_enable(
                e.enable, e.enabled_out, lambda: self.assign(typed.Assign(s.start, place, inner)), e.own_enable
            )
            return
        if isinstance(place, typed.PropertyPlace):
            self.property_set(place, self.temporary(e) if is_aggregate(t) else self.value(e))
            return
        if isinstance(t, StringType):
            if isinstance(e, typed.StringCall) and self.may_overlap(place, e):
                temp = self.alloca(e.type.size, 2)
                assert isinstance(e.type, StringType)
                self.string_into(temp, e.type.length, t.wide, e)
                function = self.module.library("__WASSIGN" if t.wide else "__ASSIGN")
                target = self.reach(self.address(place))
                d, x = self.op(f"ptrtoint ptr {target} to i64"), self.op(f"ptrtoint ptr {temp} to i64")
                self.call_function(function, [f"i64 {d}", f"i64 {t.length}", f"i64 {x}"], t)
                return
            if isinstance(e, (typed.Call, typed.PropertyPlace)):
                source = self.temporary(e)
                self.move_out(source, e.type, place)
                return
            self.string_into(self.reach(self.address(place)), t.length, t.wide, e)
            return
        if is_aggregate(t):
            source = self.temporary(e)
            self.copy(self.reach(self.address(place)), source, min(t.size, e.type.size) or t.size)
            return
        self.write(place, self.value(e))

    # -- branches --------------------------------------------------------------------------------------

    def if_statement(self, s: typed.If) -> None:
        done = self.label("endif")
        for condition, body in s.branches:
            yes, no = self.label("then"), self.label("else")
            self.branch(self.condition(condition), yes, no)
            self.begin(yes)
            self.statements(body)
            self.jump(done)
            self.begin(no)
        self.statements(s.otherwise)
        self.jump(done)
        self.begin(done)

    def case(self, s: typed.Case) -> None:
        t = s.selector.type
        ir = ir_type(t)
        value = self.value(s.selector)
        done, default = self.label("endcase"), self.label("default")
        seen: set[int] = set()
        entries: list[str] = []
        wide: list[tuple[int, int, str]] = []
        labels: list[str] = []
        for ranges, _ in s.branches:
            label = self.label("case")
            labels.append(label)
            for low, high in ranges:
                if high - low < SPAN and not wide:
                    for i in range(low, high + 1):
                        if i not in seen:
                            seen.add(i)
                            entries.append(f"{ir} {i}, label %{label}")
                else:
                    wide.append((low, high, label))
        self.put(f"switch {ir} {value}, label %{default} [ {' '.join(entries)} ]")
        for label, (_, body) in zip(labels, s.branches, strict=True):
            self.begin(label)
            self.statements(body)
            self.jump(done)
        self.begin(default)
        sign = "s" if signed(t) else "u"
        for low, high, label in wide:
            above = self.op(f"icmp {sign}ge {ir} {value}, {low}")
            below = self.op(f"icmp {sign}le {ir} {value}, {high}")
            both = self.op(f"and i1 {above}, {below}")
            on = self.label("on")
            self.branch(both, label, on)
            self.begin(on)
        self.statements(s.otherwise)
        self.jump(done)
        self.begin(done)

    # -- loops -----------------------------------------------------------------------------------------

    def spend(self, amount: str, start: int) -> None:
        """Takes `amount` (i64) turns from the scan's loop budget."""
        if not self.checked:
            return
        pointer = self.header(lay.BUDGET)
        tag = self.tag("header.budget")
        left = self.op(f"load i64, ptr {pointer}, align 8{tag}")
        rest = self.op(f"sub i64 {left}, {amount}")
        self.put(f"store i64 {rest}, ptr {pointer}, align 8{tag}")
        self.fault_if(self.op(f"icmp slt i64 {rest}, 0"), "endless", start)

    def count_turn(self, turns: str, start: int) -> None:
        """One more turn of a loop, counted in a register; the shared budget is charged every 4096 turns."""
        n = self.op(f"load i64, ptr {turns}")
        more = self.op(f"add i64 {n}, 1")
        self.put(f"store i64 {more}, ptr {turns}")
        low = self.op(f"and i64 {more}, 4095")
        due = self.op(f"icmp eq i64 {low}, 0")
        charge, on = self.label("charge"), self.label("on")
        self.branch(due, charge, on, UNLIKELY)
        self.begin(charge)
        self.spend("4096", start)
        self.jump(on)
        self.begin(on)

    def loop(self, s: typed.While | typed.Repeat) -> None:
        head, body, after, done = (self.label(n) for n in ("head", "body", "next", "endloop"))
        turns = self.alloca_type("i64") if self.checked else ""
        if turns:
            self.put(f"store i64 0, ptr {turns}")
        self.jump(head)
        self.begin(head)
        if isinstance(s, typed.While):
            self.branch(self.condition(s.condition), body, done)
        else:
            self.jump(body)
        self.begin(body)
        self.loops.append((done, after))
        charged, self.charged = self.charged, False
        self.statements(s.body)
        self.charged = charged
        self.loops.pop()
        self.jump(after)
        self.begin(after)
        if turns:
            self.count_turn(turns, s.start)
        if isinstance(s, typed.Repeat):
            self.branch(self.condition(s.until), done, head)
        else:
            self.jump(head)
        self.begin(done)
        if turns:
            n = self.op(f"load i64, ptr {turns}")
            rest = self.op(f"and i64 {n}, 4095")
            some = self.op(f"icmp ugt i64 {rest}, {FEW}")
            charge, on = self.label("charge"), self.label("on")
            self.branch(some, charge, on)
            self.begin(charge)
            self.spend(rest, s.start)
            self.jump(on)
            self.begin(on)

    def for_loop(self, s: typed.For) -> None:
        """Bounds are evaluated once; counting is in 64 bits, so an end at the type's limit terminates."""
        t = s.place.type
        base = t.base
        assert isinstance(base, Elementary)
        variable = s.place.variable if isinstance(s.place, typed.VariablePlace) else None
        held = variable is not None and variable.kind != "inout" and not modifies(s.body, variable)
        ir = ir_type(t)
        first = self.wide(s.first)
        last = self.wide(s.last)
        step = self.wide(s.step)
        constant_step = int(step) if step.lstrip("-").isdigit() else None
        word = "s" if base.signed or base.size < 8 else "u"
        trips: int | None = None
        if isinstance(s.first, typed.Const) and isinstance(s.last, typed.Const) and constant_step:
            trips = max(0, (int(s.last.value) - int(s.first.value)) // constant_step + 1)
        charged = self.charged
        if held and trips is not None:
            total = trips * self.nested_trips(s.body)
            if not charged and total > FEW:
                self.spend(str(total), s.start)
            self.charged = True
        else:
            self.charged = False
        self.assign_scalar(s.place, self.narrow(first, ir))
        head, body, after, done = (self.label(n) for n in ("head", "body", "next", "endfor"))
        counter = self.alloca_type("i64")
        self.put(f"store i64 {first}, ptr {counter}")
        turns = ""
        if self.checked and not (held and trips is not None):
            turns = self.alloca_type("i64")
            self.put(f"store i64 0, ptr {turns}")
        self.jump(head)
        self.begin(head)
        n = self.op(f"load i64, ptr {counter}")
        up = self.op(f"icmp {word}le i64 {n}, {last}") if constant_step is None or constant_step > 0 else ""
        down = self.op(f"icmp {word}ge i64 {n}, {last}") if constant_step is None or constant_step < 0 else ""
        if constant_step is None:
            positive = self.op(f"icmp sgt i64 {step}, -1")
            go = self.op(f"select i1 {positive}, i1 {up}, i1 {down}")
        else:
            go = up or down
        self.branch(go, body, done)
        self.begin(body)
        saved_range = None
        if held:
            assert variable is not None
            self.registers[variable] = self.narrow(n, ir)
            saved_range = self.ranges.get(variable)
            a, b = range_of(s.first, self.ranges), range_of(s.last, self.ranges)
            if a is not None and b is not None and constant_step is not None:
                own = range_of(typed.Const(t, s.start, 0), {})
                del own
                low, high = (a[0], b[1]) if constant_step > 0 else (b[0], a[1])
                self.ranges[variable] = (min(low, high), max(low, high)) if low <= high else (low, low)
        self.loops.append((done, after))
        self.statements(s.body)
        self.loops.pop()
        self.jump(after)
        self.begin(after)
        self.charged = charged
        if held:
            assert variable is not None
            del self.registers[variable]
            if saved_range is None:
                self.ranges.pop(variable, None)
            else:
                self.ranges[variable] = saved_range
        if turns:
            self.count_turn(turns, s.start)
        current = self.op(f"load i64, ptr {counter}") if held else self.to_i64(self.value(s.place), t)
        if base.size == 8:
            sign = "s" if base.signed else "u"
            negative = constant_step is not None and constant_step < 0
            if sign == "u" and constant_step is None:
                sign = "s"
            if negative and sign == "u":
                down_by = -constant_step if constant_step else 0
                pair = self.op(f"call {{ i64, i1 }} @llvm.usub.with.overflow.i64(i64 {current}, i64 {down_by})")
            else:
                pair = self.op(f"call {{ i64, i1 }} @llvm.{sign}add.with.overflow.i64(i64 {current}, i64 {step})")
            following = self.op(f"extractvalue {{ i64, i1 }} {pair}, 0")
            over = self.op(f"extractvalue {{ i64, i1 }} {pair}, 1")
            on = self.label("on")
            self.branch(over, done, on)
            self.begin(on)
        else:
            following = self.op(f"add i64 {current}, {step}")
        self.put(f"store i64 {following}, ptr {counter}")
        self.assign_scalar(s.place, self.narrow(following, ir))
        self.jump(head)
        self.begin(done)
        if turns:
            c = self.op(f"load i64, ptr {turns}")
            rest = self.op(f"and i64 {c}, 4095")
            some = self.op(f"icmp ugt i64 {rest}, {FEW}")
            charge, on = self.label("charge"), self.label("on")
            self.branch(some, charge, on)
            self.begin(charge)
            self.spend(rest, s.start)
            self.jump(on)
            self.begin(on)

    def nested_trips(self, body: list[typed.Stmt]) -> int:
        """Turns of all counted loops inside one turn of a counted loop, 1 when there are none."""
        total = 1
        for s in body:
            for node in walk(s):
                if (
                    isinstance(node, typed.For)
                    and isinstance(node.first, typed.Const)
                    and isinstance(node.last, typed.Const)
                    and isinstance(node.step, typed.Const)
                    and node.step.value
                ):
                    total += max(0, (int(node.last.value) - int(node.first.value)) // int(node.step.value) + 1)
        return min(total, 1 << 40)

    def narrow(self, value: str, ir: str) -> str:
        if ir == "i64":
            return value
        if value.lstrip("-").isdigit():
            return value
        return self.op(f"trunc i64 {value} to {ir}")

    # -- actions and tests -----------------------------------------------------------------------------

    def call_action(self, s: typed.CallAction) -> None:
        pointer = (
            self.self_pointer
            if s.instance is None or isinstance(s.instance, typed.SelfPlace)
            else self.reach(self.address(s.instance))
        )
        name, may_fault = self.module.body(s.action)
        if not name:
            return
        status = self.op(f"call i32 @{name}(ptr %ctx, ptr {pointer})")
        self.status(status, may_fault)

    def assertion(self, s: typed.Assert) -> None:
        """Evaluates each side once, compares, and keeps both for the message."""
        ready: dict[int, Held] = {}
        for e in s.values[:2]:
            operand = self.string(e) if isinstance(e.type, StringType) else self.value(e)
            ready[id(e)] = Held(e.type, e.start, operand)
        good = self.condition(substitute(s.condition, ready))
        bad = self.op(f"xor i1 {good}, true")
        values = ["0", "0"]
        kinds: list[str] = []
        fields = (lay.TEXT_A, lay.TEXT_B)
        for i, e in enumerate(s.values[:2]):
            held = ready[id(e)]
            if isinstance(e.type, StringType):
                self.string_into(self.header(fields[i]), 120, e.type.wide, held)
                kinds.append("wtext" if e.type.wide else "text")
            else:
                values[i] = self.to_i64(held.operand, e.type)
                kinds.append(e.type.base.name if isinstance(e.type.base, Elementary) else "LWORD")
        message = str(s.message.value) if isinstance(s.message, typed.Const) else ""
        self.fault_if(bad, "assert:" + "\x1f".join([s.text, message, *kinds]), s.start, values[0], values[1])

    def mock_function(self, s: typed.MockFunction) -> None:
        offset = s.function.mock_offset
        self.put(f"store i8 1, ptr {self.pointer('%ctx', offset)}")
        self.put(f"store i32 0, ptr {self.pointer('%ctx', offset + 4)}")
        assert s.function.result is not None
        self.assign_into(self.pointer("%ctx", offset + 16), s.function.result, s.value)


def substitute(e: typed.Expr, ready: dict[int, Held]) -> typed.Expr:
    """`e` with the operands that have been evaluated already."""
    held = ready.get(id(e))
    if held is not None:
        return held
    if isinstance(e, typed.Compare):
        return typed.Compare(e.type, e.start, e.op, substitute(e.left, ready), substitute(e.right, ready))
    if isinstance(e, typed.Binary):
        return typed.Binary(e.type, e.start, e.op, substitute(e.left, ready), substitute(e.right, ready))
    if isinstance(e, typed.Unary):
        return typed.Unary(e.type, e.start, e.op, substitute(e.operand, ready))
    if isinstance(e, typed.Intrinsic):
        return typed.Intrinsic(e.type, e.start, e.name, [substitute(a, ready) for a in e.args])
    return e


__all__ = ["ArrayType", "StatementEmitter", "Variable"]
