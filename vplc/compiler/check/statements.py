"""Statements: typed, with what cannot work reported."""

from __future__ import annotations

import bisect

from vplc.compiler import tree, typed
from vplc.compiler.check.base import elementary, type_name
from vplc.compiler.check.expressions import BIT_WIDTHS, WIDTH_TYPES
from vplc.compiler.check.initial import InitialValues
from vplc.compiler.symbols import PouSymbol
from vplc.compiler.types import (
    ANY_INT,
    BOOL,
    ERROR,
    LINT,
    LREAL,
    LTIME,
    TIME,
    UDINT,
    BlockType,
    Elementary,
    EnumType,
    PointerType,
    StringType,
    is_scalar,
)

_ASSERTS = {
    "ASSERT_EQ": "=",
    "ASSERT_NEQ": "<>",
    "ASSERT_GT": ">",
    "ASSERT_LT": "<",
    "ASSERT_GE": ">=",
    "ASSERT_LE": "<=",
    "ASSERT_NE": "<>",
}


class Statements(InitialValues):
    def statements(self, nodes: list[tree.Stmt]) -> list[typed.Stmt]:
        out: list[typed.Stmt] = []
        for node in nodes:
            saved, self.pending = self.pending, []
            statement = self.statement(node)
            out.extend(self.pending)
            self.pending = saved
            if statement is not None:
                out.append(statement)
        return out

    def statement(self, node: tree.Stmt) -> typed.Stmt | None:
        if isinstance(node, tree.Assign):
            return self.assign(node)
        if isinstance(node, tree.CallStmt):
            return self.call_statement(node)
        if isinstance(node, tree.If):
            branches = [(self.condition(c), self.statements(body)) for c, body in node.branches]
            return typed.If(node.start, branches, self.statements(node.otherwise))
        if isinstance(node, tree.Case):
            return self.case(node)
        if isinstance(node, tree.For):
            return self.for_loop(node)
        if isinstance(node, tree.While):
            condition = self.condition(node.condition)
            return typed.While(node.start, condition, self.loop_body(node.body))
        if isinstance(node, tree.Repeat):
            body = self.loop_body(node.body)
            return typed.Repeat(node.start, body, self.condition(node.until))
        if isinstance(node, tree.Jump):
            if node.kind != "RETURN" and not self.loops:
                self.error("E071", f"{node.kind} stands outside any loop", node)
                return None
            return typed.Jump(node.start, node.kind)
        if isinstance(node, tree.Goto):
            if node.label.upper() not in self.labels:
                self.error("E074", f"there is no label {node.label} in this body", node)
                return None
            return typed.Goto(node.start, node.label.upper())
        if isinstance(node, tree.Label):
            return typed.Label(node.start, node.name.upper())
        if isinstance(node, tree.Mock):
            return self.mock(node)
        raise AssertionError(type(node))

    labels: set[str]

    def loop_body(self, nodes: list[tree.Stmt]) -> list[typed.Stmt]:
        self.loops += 1
        if self.pou is not None:
            self.pou.has_loops = True
        body = self.statements(nodes)
        self.loops -= 1
        return body

    def condition(self, node: tree.Expr) -> typed.Expr:
        e = self.expr(node, BOOL)
        if e.type is ERROR:
            return typed.Const(BOOL, node.start, 0)
        t = elementary(e.type)
        if t is BOOL:
            return e
        if isinstance(e, typed.Const) and t is ANY_INT and e.value in (0, 1):
            return typed.Const(BOOL, node.start, e.value)
        if self.lenient and t is not None and t.group in ("bits", "int", "uint"):
            return typed.Compare(BOOL, node.start, "<>", e, typed.Const(t, node.start, 0))
        hint = "compare it with something" if t is not None else ""
        self.error("E043", f"a condition is BOOL, not {type_name(e)}", node, hint)
        return typed.Const(BOOL, node.start, 0)

    # -- assignment ----------------------------------------------------------------------------------

    def assign(self, node: tree.Assign) -> typed.Stmt | None:
        if node.op == "REF=":
            return self._reference(node)
        if isinstance(node.target, tree.Member) and node.target.name[0] == "%" and node.op == ":=":
            done = self.assign_part(node, node.target)
            if done is not None:
                return done
        place = self.target(node.target)
        t = place.type
        if node.op in ("S=", "R="):
            value = self.condition(node.value)
            if elementary(t) is not BOOL and t is not ERROR:
                self.error("E040", f"{node.op} sets a BOOL, not {type_name(place)}", node.target)
                return None
            done = typed.Assign(node.start, place, typed.Const(BOOL, node.start, int(node.op == "S=")))
            return typed.If(node.start, [(value, [done])], [])
        if isinstance(node.value, (tree.ListInit, tree.StructInit)):
            value = self.aggregate(node.value, t)
        else:
            value = self.expr(node.value, t)
        if t is ERROR or value.type is ERROR:
            return None
        if node.op == "?=":
            value = self.attempted(value, t, node.value)
        value = self.coerce(value, t, node.value)
        if value.type is ERROR:
            return None
        if isinstance(t, BlockType) and not self.codesys and not (self.pou is not None and self.pou.kind == "TEST"):
            self.error(
                "E040",
                f"{t.name} is a function block: instances are not copied",
                node.target,
                "copy its variables one by one",
            )
            return None
        return typed.Assign(node.start, place, self.lifted(value))

    def assign_part(self, node: tree.Assign, target: tree.Member) -> typed.Stmt | None:
        """`x.%Bi := value` with a variable i; None for all else."""
        number = target.name[2:]
        if not number or number.isdigit():
            return None
        place = self.target(target.base)
        t = elementary(place.type)
        width = BIT_WIDTHS.get(target.name[1].upper(), 1)
        if t is None or place.type is ERROR:
            return None
        first = self.chosen_part(place, t, width, number, target)
        if first is None:
            return None
        wanted = WIDTH_TYPES[width]
        value = self.coerce(self.expr(node.value, wanted), wanted, node.value)
        if value.type is ERROR:
            return None
        return typed.Assign(node.start, place, self.with_part(place, first, width, value))

    def _reference(self, node: tree.Assign) -> typed.Stmt | None:
        place = self.raw(node.target)
        t = place.type
        if t is ERROR:
            return None
        if not isinstance(t, PointerType):
            self.error("E040", f"REF= needs a REFERENCE on its left, not {type_name(place)}", node.target)
            return None
        self.check_writable(place, node.target)
        value = self.raw(node.value)
        if value.type is ERROR:
            return None
        if isinstance(value, typed.Const) and value.value == 0:
            value = typed.Const(t, node.start, 0)
        else:
            value = self.reference_to(value, t, node.value)
        return None if value.type is ERROR else typed.Assign(node.start, place, value)

    # -- CASE and FOR ----------------------------------------------------------------------------------

    def case(self, node: tree.Case) -> typed.Stmt | None:
        selector = self.settle(self.expr(node.selector))
        t = selector.type
        if isinstance(t, StringType):
            return self.case_of_strings(node, selector)
        e = elementary(t)
        ok = e is not None and (e.is_integer or e.group in ("bits", "char", "bool") or isinstance(t, EnumType))
        if not ok and t is not ERROR:
            self.error(
                "E041",
                f"CASE selects by an integer or an enumeration, not {type_name(selector)}",
                node.selector,
                "use IF ... ELSIF for other types",
            )
            t = ERROR
        branches: list[tuple[list[tuple[int, int]], list[typed.Stmt]]] = []
        seen: list[tuple[int, int]] = []  # in order, none touching another
        for labels, body in node.branches:
            ranges: list[tuple[int, int]] = []
            for low_node, high_node in labels:
                low = self.label(low_node, t)
                high = self.label(high_node, t) if high_node is not None else low
                if low is None or high is None:
                    continue
                if low > high:
                    self.error("E042", f"the range {low}..{high} is empty", low_node)
                    continue
                at = bisect.bisect_left(seen, (low, high))
                if any(low <= s[1] and s[0] <= high for s in seen[max(0, at - 1) : at + 1]):
                    text = str(low) if low == high else f"{low}..{high}"
                    if self.codesys:
                        self.warn("W070", f"the label {text} occurs twice; the first wins", low_node)
                    else:
                        self.error("E070", f"the label {text} occurs twice", low_node)
                else:
                    seen.insert(at, (low, high))
                ranges.append((low, high))
            branches.append((ranges, self.statements(body)))
        otherwise = self.statements(node.otherwise) if node.otherwise else []
        if t is ERROR:
            return None
        return typed.Case(node.start, selector, branches, otherwise)

    def case_of_strings(self, node: tree.Case, selector: typed.Expr) -> typed.Stmt:
        """Not in the standard, but in other compilers: the first label that equals the selector."""
        if not isinstance(selector, (typed.VariablePlace, typed.Const)):
            held = self.fixed(selector.type, "__case", node.selector)
            self.pending.append(typed.Assign(node.start, held, selector))
            selector = held
        branches: list[tuple[typed.Expr, list[typed.Stmt]]] = []
        for labels, body in node.branches:
            any_of: typed.Expr = typed.Const(BOOL, node.start, 0)
            for low, high in labels:
                value = self.expr(low)
                if high is not None or not isinstance(value, typed.Const) or not isinstance(value.type, StringType):
                    self.error("E045", "a label of a CASE over strings is one string", low)
                    continue
                equal = self.comparison("=", selector, value, low)
                any_of = typed.Logic(BOOL, low.start, "OR", any_of, equal)
            branches.append((any_of, self.statements(body)))
        return typed.If(node.start, branches, self.statements(node.otherwise) if node.otherwise else [])

    def label(self, node: tree.Expr, t: object) -> int | None:
        want = t if isinstance(t, EnumType) else None
        e = self.expr(node, want)
        if e.type is ERROR or t is ERROR:
            return None
        if not isinstance(e, typed.Const) or isinstance(e.value, float):
            self.error("E045", "a CASE label is a constant", node)
            return None
        if isinstance(e.value, str):
            if len(e.value) == 1:
                return ord(e.value)
            self.error("E040", "a CASE label is an integer or an enumeration value", node)
            return None
        if want is not None and e.type is not want and not self.lenient and e.type is not ANY_INT:
            self.error("E040", f"the label is {type_name(e)}, the selector {want.name}", node)
            return None
        base = t.base if isinstance(t, (Elementary, EnumType)) else getattr(t, "base", None)
        if isinstance(base, Elementary) and not base.low <= e.value <= base.high:
            if self.lenient or 0 <= e.value < 1 << base.bits:
                from vplc.compiler.check.constants import wrap

                return wrap(e.value, base)
            self.error("E042", f"{e.value} never occurs: the selector is {base.name}", node)
            return None
        return e.value

    def for_loop(self, node: tree.For) -> typed.Stmt | None:
        place = self.target(node.target)
        t = place.type
        e = elementary(t)
        ok = e is not None and (e.is_integer or (self.lenient and (e.is_bits or isinstance(t, EnumType))))
        if not ok and t is not ERROR:
            self.error("E075", f"a FOR loop counts with an integer variable, not {type_name(place)}", node.target)
            t = ERROR
        first = self.expr(node.first, t if t is not ERROR else None)
        last = self.expr(node.last, t if t is not ERROR else None)
        step = self.expr(node.step, t if t is not ERROR else None) if node.step is not None else None
        if t is not ERROR and e is not None:
            first = self.coerce(first, t, node.first)
            # The end may lie beyond the counter's own type; the loop counts in 64 bits.
            if not (isinstance(last, typed.Const) and last.type is ANY_INT and self.lenient):
                last = self.coerce(last, e, node.last)
            if step is not None:
                assert node.step is not None
                if isinstance(step, typed.Const) and step.value == 0:
                    self.error("E073", "a FOR loop with step 0 never ends", node.step)
                if not (isinstance(step, typed.Const) and isinstance(step.value, int)):
                    step = self.coerce(step, e, node.step)
        body = self.loop_body(node.body)
        if t is ERROR or e is None:
            return None
        if step is None:
            step = typed.Const(e, node.start, 1)
        return typed.For(node.start, place, first, last, step, body)

    # -- tests -----------------------------------------------------------------------------------------

    def test_statement(self, name: str, node: tree.Call) -> typed.Stmt | None:
        if not (name.startswith("ASSERT_") or name in ("ADVANCE_TIME", "MOCK_VERIFY_CALLED", "MOCK_VERIFY_CALL_COUNT")):
            return None
        if self.pou is None or self.pou.kind != "TEST":
            self.error("E090", f"{name} belongs into a TEST", node)
            return None
        nodes = [a.value for a in node.args if a.value is not None]
        text = self.source.text[node.start : node.end]
        if name == "ADVANCE_TIME":
            if len(nodes) != 1:
                self.error("E051", "ADVANCE_TIME takes one TIME", node)
                return None
            value = self.settle(self.expr(nodes[0], TIME))
            kind = elementary(value.type)
            if kind is not None and kind.is_integer:
                # A plain number counts nanoseconds.
                value = self.coerce(value, LINT, nodes[0])
            elif kind is not LTIME:
                value = self.coerce(value, TIME, nodes[0])
            return typed.Evaluate(node.start, typed.Intrinsic(TIME, node.start, "ADVANCE_TIME", [value]))
        if name.startswith("MOCK_"):
            return self._verify(name, nodes, node, text)
        least = {"ASSERT_TRUE": 1, "ASSERT_FALSE": 1, "ASSERT_NEAR": 3}.get(name, 2)
        if len(nodes) not in (least, least + 1):
            self.error("E051", f"{name} takes {least} values and perhaps a message", node)
            return None
        message: typed.Expr | None = None
        if len(nodes) > least:
            message = self.expr(nodes[least])
            if not isinstance(message.type, StringType):
                self.error("E040", "the message is a string", nodes[least])
                message = None
        if name in ("ASSERT_TRUE", "ASSERT_FALSE"):
            value = self.condition(nodes[0])
            if name == "ASSERT_FALSE":
                condition: typed.Expr = typed.Unary(BOOL, node.start, "NOT", value)
            else:
                condition = value
            return typed.Assert(node.start, condition, text, [value], message)
        a = self.expr(nodes[0])
        b = self.expr(nodes[1], a.type if isinstance(a.type, EnumType) else None)
        if a.type is ERROR or b.type is ERROR:
            return None
        if name == "ASSERT_NEAR":
            values = [self._number(v, n) for v, n in zip((a, b, self.expr(nodes[2])), nodes, strict=False)]
            if any(v is None for v in values):
                return None
            x, y, tolerance = (v for v in values if v is not None)
            distance = typed.Intrinsic(LREAL, node.start, "ABS", [typed.Binary(LREAL, node.start, "-", x, y)])
            condition = typed.Compare(BOOL, node.start, "<=", distance, tolerance)
            return typed.Assert(node.start, condition, text, [x, y], message)
        op = _ASSERTS.get(name)
        if op is None:
            self.error("E030", f"unknown assertion {name}", node)
            return None
        a, b = self._comparable(a, b)
        condition = self.comparison(op, a, b, node)
        if condition.type is ERROR:
            return None
        values_shown = [v for v in (a, b) if is_scalar(v.type) or isinstance(v.type, StringType)]
        if isinstance(condition, typed.Compare):
            values_shown = [condition.left, condition.right]
        return typed.Assert(node.start, condition, text, values_shown, message)

    def _comparable(self, a: typed.Expr, b: typed.Expr) -> tuple[typed.Expr, typed.Expr]:
        """Tests compare enumerations with integers and REAL variables with literals freely."""
        if isinstance(a.type, EnumType) != isinstance(b.type, EnumType):
            if isinstance(a.type, EnumType):
                a = typed.Convert(a.type.underlying, a.start, a, "wrap")
            elif isinstance(b.type, EnumType):
                b = typed.Convert(b.type.underlying, b.start, b, "wrap")
        ea, eb = elementary(a.type), elementary(b.type)
        if ea is not None and eb is not None and ea is not eb and not self.lenient:
            joined = self._lenient_common(ea, eb) if ANY_INT not in (ea, eb) and ea.size and eb.size else None
            if joined is not None and "any" not in ea.group + eb.group:
                return self._as(a, joined), self._as(b, joined)
        return a, b

    def _number(self, e: typed.Expr, node: tree.Expr) -> typed.Expr | None:
        t = elementary(e.type)
        if t is None or t.group in ("bool", "char"):
            if e.type is not ERROR:
                self.error("E041", f"ASSERT_NEAR compares numbers, not {type_name(e)}", node)
            return None
        return self._as(e, LREAL)

    def _verify(self, name: str, nodes: list[tree.Expr], node: tree.Call, text: str) -> typed.Stmt | None:
        counted = name == "MOCK_VERIFY_CALL_COUNT"
        if len(nodes) != 1 + counted:
            self.error("E051", f"{name} takes {1 + counted} arguments", node)
            return None
        found = self.lookup(nodes[0].name) if isinstance(nodes[0], tree.Name) else None
        if isinstance(found, PouSymbol) and found.kind == "FUNCTION":
            found.mocked = True
            calls: typed.Expr = typed.FunctionCalls(UDINT, node.start, found)
            return self._verified(calls, counted, nodes, node, text)
        place = self.expr(nodes[0])
        if place.type is ERROR:
            return None
        if not isinstance(place.type, BlockType):
            self.error("E040", f"{name} takes a function block instance, not {type_name(place)}", nodes[0])
            return None
        place.type.symbol.mocked = True
        calls = typed.Intrinsic(UDINT, node.start, "MOCK_CALLS", [place])
        return self._verified(calls, counted, nodes, node, text)

    def _verified(
        self, calls: typed.Expr, counted: bool, nodes: list[tree.Expr], node: tree.Call, text: str
    ) -> typed.Stmt:
        if counted:
            wanted = self.coerce(self.expr(nodes[1], UDINT), UDINT, nodes[1])
            condition: typed.Expr = typed.Compare(BOOL, node.start, "=", calls, wanted)
            return typed.Assert(node.start, condition, text, [calls, wanted], None)
        condition = typed.Compare(BOOL, node.start, ">", calls, typed.Const(UDINT, node.start, 0))
        return typed.Assert(node.start, condition, text, [], None)

    def mock(self, node: tree.Mock) -> typed.Stmt | None:
        if self.pou is None or self.pou.kind != "TEST":
            self.error("E090", "MOCK belongs into a TEST", node)
            return None
        if node.function:
            found = self.lookup(self.qualified(node.target))
            if not isinstance(found, PouSymbol) or found.kind != "FUNCTION":
                self.error("E030", "MOCK_FUNCTION takes the name of a FUNCTION", node.target)
                return None
            if found.result is None or node.returns is None:
                self.error("E051", "MOCK_FUNCTION name RETURNS value", node)
                return None
            found.mocked = True
            return typed.MockFunction(
                node.start, found, self.coerce(self.expr(node.returns, found.result), found.result, node.returns)
            )
        place = self.expr(node.target)
        if place.type is ERROR:
            return None
        if not isinstance(place.type, BlockType):
            self.error("E040", f"MOCK takes a function block instance, not {type_name(place)}", node.target)
            return None
        place.type.symbol.mocked = True
        return typed.MockBlock(node.start, place, place.type)


def collect_labels(nodes: list[tree.Stmt], into: set[str]) -> None:
    """All jump labels of a body."""
    for node in nodes:
        if isinstance(node, tree.Label):
            into.add(node.name.upper())
        elif isinstance(node, tree.If):
            for _, body in node.branches:
                collect_labels(body, into)
            collect_labels(node.otherwise, into)
        elif isinstance(node, tree.Case):
            for _, body in node.branches:
                collect_labels(body, into)
            collect_labels(node.otherwise or [], into)
        elif isinstance(node, (tree.For, tree.While, tree.Repeat)):
            collect_labels(node.body, into)
