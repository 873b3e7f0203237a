"""What values an integer expression can have, and whether evaluating an expression can be seen.

Used to leave out checks that cannot fail and to evaluate AND/OR without branches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from vplc.compiler import typed
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import Elementary, SubrangeType, Type

Range = tuple[int, int]


def type_range(t: Type) -> Range | None:
    if isinstance(t, SubrangeType):
        return t.low, t.high
    base = t.base
    if isinstance(base, Elementary) and base.is_discrete and base.size:
        return base.low, base.high
    return None


def range_of(e: typed.Expr, known: dict[Variable, Range]) -> Range | None:
    """Bounds of an integer expression; None when nothing is known."""
    if isinstance(e, typed.Const):
        return (e.value, e.value) if isinstance(e.value, int) else None
    if isinstance(e, typed.VariablePlace):
        found = known.get(e.variable)
        return found if found is not None else type_range(e.type)
    if isinstance(e, typed.Convert):
        inner = range_of(e.operand, known)
        own = type_range(e.type)
        if inner is not None and own is not None and own[0] <= inner[0] and inner[1] <= own[1]:
            return inner
        return own
    if isinstance(e, typed.Binary):
        own = type_range(e.type)
        a, b = range_of(e.left, known), range_of(e.right, known)
        if own is None or a is None or b is None:
            return own
        result: Range | None = None
        if e.op == "+":
            result = (a[0] + b[0], a[1] + b[1])
        elif e.op == "-":
            result = (a[0] - b[1], a[1] - b[0])
        elif e.op == "*":
            corners = [x * y for x in a for y in b]
            result = (min(corners), max(corners))
        elif e.op == "/" and b[0] > 0:
            corners = [int(x / y) if abs(x) < 1 << 50 else x // y for x in a for y in b]
            result = (min(corners) - 1, max(corners) + 1) if abs(a[0]) >= 1 << 50 else (min(corners), max(corners))
        elif e.op == "MOD" and b[0] > 0:
            top = b[1] - 1
            result = (0 if a[0] >= 0 else -top, min(top, a[1]) if a[0] >= 0 else top)
        elif e.op == "AND" and (a[0] >= 0 or b[0] >= 0):
            tops = [r[1] for r in (a, b) if r[0] >= 0]
            result = (0, min(tops))
        if result is not None and own[0] <= result[0] and result[1] <= own[1]:
            return result
        return own
    if isinstance(e, typed.Intrinsic):
        if e.name in ("MIN", "MAX") and len(e.args) == 2:
            a, b = range_of(e.args[0], known), range_of(e.args[1], known)
            if a is not None and b is not None:
                pick = min if e.name == "MIN" else max
                return pick(a[0], b[0]), pick(a[1], b[1])
        if e.name == "SHR" and isinstance(e.args[1], typed.Const) and isinstance(e.args[1].value, int):
            a = range_of(e.args[0], known)
            if a is not None and a[0] >= 0:
                return a[0] >> e.args[1].value, a[1] >> e.args[1].value
    if isinstance(e, typed.BitPlace):
        return 0, (1 << e.width) - 1
    return type_range(e.type)


_FIELDS: dict[type, tuple[str, ...]] = {}


def _names(node: typed.Expr | typed.Stmt) -> tuple[str, ...]:
    kind = type(node)
    names = _FIELDS.get(kind)
    if names is None:
        names = _FIELDS[kind] = tuple(f.name for f in fields(node) if f.name not in ("type", "start"))
    return names


def children(node: object) -> Iterator[object]:
    """The typed nodes directly inside `node`."""
    if not isinstance(node, (typed.Expr, typed.Stmt)):
        return
    for name in _names(node):
        value = getattr(node, name)
        if isinstance(value, (typed.Expr, typed.Stmt)):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _inside(value)


def _inside(values: list[object] | tuple[object, ...]) -> Iterator[object]:
    for value in values:
        if isinstance(value, (typed.Expr, typed.Stmt)):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _inside(value)


def walk(node: object) -> Iterator[object]:
    todo = [node]
    while todo:
        one = todo.pop()
        yield one
        todo.extend(children(one))


def plain(e: typed.Expr, known: dict[Variable, Range]) -> bool:
    """No calls and nothing that can fault: may be evaluated even when its value is not needed."""
    if isinstance(e, (typed.Const, typed.SelfPlace)):
        return True
    if isinstance(e, typed.VariablePlace):
        return e.variable.kind != "inout" or e.variable.storage == "param"
    if isinstance(e, typed.MemberPlace):
        return plain(e.base, known)
    if isinstance(e, typed.Compare):
        from vplc.compiler.types import StringType

        return not isinstance(e.left.type, StringType) and plain(e.left, known) and plain(e.right, known)
    if isinstance(e, (typed.Unary, typed.BitPlace)):
        return plain(e.operand if isinstance(e, typed.Unary) else e.base, known)
    if isinstance(e, typed.Binary):
        if e.op in ("/", "MOD"):
            base = e.type.base
            if not (isinstance(base, Elementary) and base.group == "real"):
                b = range_of(e.right, known)
                if b is None or b[0] <= 0:
                    return False
        return plain(e.left, known) and plain(e.right, known)
    if isinstance(e, typed.Convert):
        return e.mode in ("wrap", "same") and plain(e.operand, known)
    return False


def has_call(e: typed.Expr) -> bool:
    return any(isinstance(n, (typed.Call, typed.StringCall, typed.PropertyPlace)) for n in walk(e))


def root_variable(place: typed.Expr) -> Variable | None:
    at = place
    while isinstance(at, (typed.MemberPlace, typed.IndexPlace, typed.BitPlace, typed.CharPlace)):
        at = at.base
    return at.variable if isinstance(at, typed.VariablePlace) else None


def modifies(body: list[typed.Stmt], variable: Variable) -> bool:
    """Whether running `body` may change `variable`, which then cannot live in a register."""
    if variable.taken or variable.bit >= 0:
        return True
    shared = variable.owner is None or (variable.owner.kind != "METHOD" and variable.storage != "stack")
    for statement in body:
        for node in walk(statement):
            if isinstance(node, typed.Assign) and _is(node.place, variable):
                return True
            if isinstance(node, typed.For) and _is(node.place, variable):
                return True
            if isinstance(node, (typed.Call, typed.CallBlock)):
                for _, place in node.outputs:
                    target = place.operand if isinstance(place, typed.Unary) else place
                    if root_variable(target) is variable:
                        return True
            if isinstance(node, typed.CallBlock):
                if any(root_variable(p) is variable for _, p in node.inouts):
                    return True
                if shared and isinstance(node.place, typed.SelfPlace):
                    return True
            if isinstance(node, typed.Call):
                for param, arg in zip(node.callee.params, node.args, strict=False):
                    if param.kind == "inout" and arg is not None and root_variable(arg) is variable:
                        return True
                if shared and _may_write(node.callee, variable):
                    return True
            if isinstance(node, (typed.CallAction, typed.PropertyPlace)) and shared:
                return True
            if isinstance(node, typed.CallBlock) and variable.owner is None:
                return True
    return False


def _is(place: typed.Expr, variable: Variable) -> bool:
    return root_variable(place) is variable


def _may_write(callee: PouSymbol, variable: Variable) -> bool:
    if callee.unchecked:
        return False
    if callee.kind == "METHOD":
        return True
    return variable.owner is None
