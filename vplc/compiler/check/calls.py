"""Calls: what is called, which argument goes to which parameter, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

from vplc.compiler import tree, typed
from vplc.compiler.check.base import elementary, type_name
from vplc.compiler.check.generic import Generics
from vplc.compiler.check.resolve import NamedType
from vplc.compiler.source import nearest
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import (
    BOOL,
    ELEMENTARY,
    ERROR,
    VOID,
    ArrayType,
    BlockType,
    InterfaceType,
    PointerType,
    StringType,
    StructType,
    Type,
    same,
)

_CONVERTIBLE = [*ELEMENTARY, "STRING", "WSTRING"]


@dataclass(slots=True)
class Callee:
    """What stands before the round bracket. kind: function method block action intrinsic"""

    kind: str
    symbol: PouSymbol | None = None
    instance: typed.Expr | None = None
    virtual: bool = False
    name: str = ""
    block: BlockType | None = None


class Calls(Generics):
    def intrinsic(self, name: str, node: tree.Call, want: Type | None) -> typed.Expr:
        raise NotImplementedError

    # -- what is called ------------------------------------------------------------------------------

    def callee(self, node: tree.Expr) -> Callee | None:
        if isinstance(node, tree.Name):
            return self._named_callee(node)
        if isinstance(node, tree.Member):
            return self._member_callee(node)
        place = self.raw(node)
        return self._instance_callee(place, node)

    def _named_callee(self, node: tree.Name) -> Callee | None:
        upper = node.name.upper()
        member = self.own_member(upper)
        if member is not None and not (member.kind == "result" or self._is_plain_value(member)):
            return self._instance_callee(self.variable(member, node), node)
        owner = self.owner_block()
        if owner is not None:
            method = owner.find_method(upper)
            if method is not None:
                assert owner.type is not None
                return Callee("method", method, typed.SelfPlace(owner.type, node.start), virtual=True)
            action = owner.find_action(upper)
            if action is not None:
                return Callee("action", action, None)
        found = self.lookup(upper)
        if isinstance(found, PouSymbol):
            if found.kind == "FUNCTION":
                return Callee("function", found)
            if found.kind == "PROGRAM" and found.result_variable is not None:
                place = typed.VariablePlace(
                    self.variable_type(found.result_variable), node.start, found.result_variable
                )
                return self._instance_callee(place, node)
            if found.kind in ("FUNCTION_BLOCK", "CLASS"):
                self.error(
                    "E034",
                    f"{found.name} is a {found.kind}: it is called through an instance",
                    node,
                    f"declare VAR x : {found.name}; END_VAR and call x(...)",
                )
                return None
        if isinstance(found, Variable) and not self._is_plain_value(found):
            return self._instance_callee(self.variable(found, node), node)
        if self.is_intrinsic(upper):
            return Callee("intrinsic", name=upper)
        if upper in ("THIS", "SUPER"):
            return self._instance_callee(self.this(node, upper), node)
        if isinstance(found, Variable) or member is not None:
            self.error("E034", f"{node.name} is a variable and cannot be called", node)
            return None
        if isinstance(found, NamedType):
            self.error("E034", f"{node.name} is a type and cannot be called", node)
            return None
        names = [k for k, v in self.program.scope.names.items() if isinstance(v, PouSymbol)]
        hint = nearest(node.name, [*names, *self.visible_names(), *self.intrinsic_names()])
        if not hint and "_TO_" in upper:
            hint = nearest(node.name, [f"{a}_TO_{b}" for a in _CONVERTIBLE for b in _CONVERTIBLE])
        self.error("E030", f'unknown function "{node.name}"', node, hint)
        return None

    def intrinsic_names(self) -> list[str]:
        return []

    def _is_plain_value(self, variable: Variable) -> bool:
        t = self.variable_type(variable)
        if isinstance(t, PointerType):
            t = t.target
        return not isinstance(t, (BlockType, InterfaceType)) and t is not ERROR

    def _member_callee(self, node: tree.Member) -> Callee | None:
        upper = node.name.upper()
        text = self.qualified(node.base)
        if text and self.own_member(text.partition(".")[0].upper()) is None:
            full = self.lookup(f"{text}.{node.name}")
            if isinstance(full, PouSymbol) and full.kind == "FUNCTION":
                return Callee("function", full)
            if isinstance(full, Variable) and not self._is_plain_value(full):
                return self._instance_callee(self.variable(full, node), node)
            plain = self.lookup(text)
            if plain is None and isinstance(node.base, tree.Name) and text.upper() not in ("THIS", "SUPER"):
                inner = self.program.scope.find(upper)
                known = self.has_namespace(text.upper())
                if isinstance(inner, PouSymbol) and inner.kind == "FUNCTION" and (known or self.codesys):
                    return Callee("function", inner)
                if isinstance(inner, Variable) and self.codesys and self.own_property(text.upper()) is None:
                    # The name of a global variable list before an instance.
                    return self._instance_callee(self.variable(inner, node), node)
                if known and inner is None:
                    self.error("E030", f'unknown function "{text}.{node.name}"', node)
                    return None
                if self.is_intrinsic(upper) and (known or self.codesys) and self.own_property(text.upper()) is None:
                    return Callee("intrinsic", name=upper)
        base = self.raw(node.base)
        is_super = self._is_super(node.base)
        t = base.type
        if t is ERROR:
            return None
        while isinstance(t, PointerType):
            base = base.place if isinstance(base, typed.AddressOf) else typed.DerefPlace(t.target, node.start, base)
            t = base.type
        if isinstance(t, BlockType):
            method = t.symbol.find_method(upper)
            if method is not None:
                if is_super:
                    base = typed.SelfPlace(t, node.start)
                self.check_access(method, node)
                return Callee("method", method, base, virtual=not is_super)
            action = t.symbol.find_action(upper)
            if action is not None:
                return Callee("action", action, typed.SelfPlace(t, node.start) if is_super else base)
            member = self.member_of(base, node)
            return None if member.type is ERROR else self._instance_callee(member, node)
        if isinstance(t, InterfaceType):
            method = t.symbol.find_method(upper)
            if method is not None:
                return Callee("method", method, base, virtual=True)
            self.error(
                "E032",
                f"{t.name} has no method {node.name}",
                node,
                nearest(node.name, [m for b in t.symbol.bases() for m in b.methods]),
            )
            return None
        member = self.member_of(base, node)
        return None if member.type is ERROR else self._instance_callee(member, node)

    def check_access(self, method: PouSymbol, node: tree.Expr) -> None:
        modifiers = method.tree.modifiers
        here = self.owner_block()
        if "PRIVATE" in modifiers and here is not method.owner:
            self.error("E067", f"{method.name} is PRIVATE to {method.owner.name if method.owner else '?'}", node)
        elif "PROTECTED" in modifiers and (here is None or method.owner is None or not here.is_a(method.owner)):
            self.error("E067", f"{method.name} is PROTECTED in {method.owner.name if method.owner else '?'}", node)

    def _instance_callee(self, place: typed.Expr, node: tree.Expr) -> Callee | None:
        t = place.type
        if t is ERROR:
            return None
        is_super = self._is_super(node)
        while isinstance(t, PointerType):
            place = place.place if isinstance(place, typed.AddressOf) else typed.DerefPlace(t.target, node.start, place)
            t = place.type
        if isinstance(t, BlockType):
            if t.symbol.kind == "CLASS":
                self.error("E034", f"{t.name} is a CLASS: it has methods but no body to call", node)
                return None
            if is_super:
                place = typed.SelfPlace(t, node.start)
            virtual = not is_super and not isinstance(place, typed.VariablePlace)
            return Callee("block", t.symbol, place, block=t, virtual=virtual)
        self.error("E034", f"{type_name(place)} cannot be called", node)
        return None

    # -- arguments -----------------------------------------------------------------------------------

    def bind(self, callee: PouSymbol, params: list[Variable], node: tree.Call) -> dict[str, tree.Argument] | None:
        """Arguments by the parameter's capital name; EN and ENO under their own names."""
        found: dict[str, tree.Argument] = {}
        by_name = {p.name.upper(): p for p in params}
        positional = [a for a in node.args if not a.name]
        for arg in node.args:
            if not arg.name:
                continue
            upper = arg.name.upper()
            if upper in by_name:
                if upper in found:
                    self.error("E050", f"{arg.name} is given twice", self._arg_node(arg, node))
                param = by_name[upper]
                if arg.output and param.kind not in ("output", "inout"):
                    self.error(
                        "E055", f"{param.name} is an input", self._arg_node(arg, node), f"write {param.name} := ..."
                    )
                    continue
                if not arg.output and param.kind == "output":
                    self.error(
                        "E055", f"{param.name} is an output", self._arg_node(arg, node), f"write {param.name} => ..."
                    )
                    continue
                found[upper] = arg
            elif upper in ("EN", "ENO") and arg.output == (upper == "ENO"):
                found[upper] = arg
            else:
                self.error(
                    "E050",
                    f"{callee.name} has no parameter {arg.name}",
                    self._arg_node(arg, node),
                    nearest(arg.name, [p.name for p in params]),
                )
        inputs = [p for p in params if p.name.upper() not in found or not node.args]
        if positional and len(positional) != len(node.args):
            order = iter([p for p in params if p.name.upper() not in found])
        else:
            order = iter(params if positional else [])
        del inputs
        for arg in positional:
            param_or_none = next(order, None)
            if param_or_none is None:
                if callee.variadic:
                    continue
                self.error(
                    "E051",
                    f"{callee.name} takes {len(params)} arguments, {len(node.args)} given",
                    self._arg_node(arg, node),
                )
                break
            found[param_or_none.name.upper()] = arg
        return found

    def _arg_node(self, arg: tree.Argument, node: tree.Call) -> tree.Expr:
        return tree.Name(arg.start, arg.value.end if arg.value is not None else arg.start + max(1, len(arg.name)), "")

    def input_value(self, param: Variable, arg: tree.Argument) -> typed.Expr | None:
        if arg.value is None:
            return None
        t = self.variable_type(param)
        if isinstance(t, PointerType) and t.kind == "REFERENCE":
            if t.target is VOID:
                return self.expr(arg.value)
            place = self.raw(arg.value)
            return self.reference_to(place, t, arg.value)
        if isinstance(arg.value, (tree.ListInit, tree.StructInit)):
            return self.aggregate(arg.value, t)
        if self.is_any(t):
            return self.described(arg.value, t)
        value = self.expr(arg.value, t)
        return self.coerce(value, t, arg.value, param.name)

    def reference_to(self, place: typed.Expr, t: PointerType, node: tree.Expr) -> typed.Expr:
        """The address for a REFERENCE."""
        if isinstance(place.type, PointerType) and same(place.type.target, t.target):
            return place
        if place.type is ERROR:
            return place
        if not isinstance(place, typed.Place) or isinstance(place, (typed.BitPlace, typed.PropertyPlace)):
            self.error("E053", "a reference needs a variable", node)
            return self.bad(node)
        ok = (
            same(place.type, t.target)
            or (
                isinstance(place.type, BlockType)
                and isinstance(t.target, BlockType)
                and place.type.symbol.is_a(t.target.symbol)
            )
            or (self.lenient and isinstance(place.type, StringType) and isinstance(t.target, StringType))
        )
        if not ok:
            self.error("E040", f"cannot refer to {type_name(place)} as {t.target.name}", node)
            return self.bad(node)
        self.take_address(place)
        return typed.AddressOf(t, node.start, place)

    def inout_place(self, param: Variable, arg: tree.Argument, node: tree.Call) -> typed.Expr | None:
        value = arg.value
        if value is None:
            return None
        t = self.variable_type(param)
        place = self.expr(value, t)
        if place.type is ERROR or t is ERROR:
            return place
        constant_ok = param.constant or param.by_ref
        if not isinstance(place, typed.Place) or (isinstance(place, typed.SelfPlace) and not self.lenient):
            if constant_ok or isinstance(place, typed.SelfPlace):
                return self.coerce(place, t, value, param.name)
            self.error("E053", f"{param.name} is VAR_IN_OUT and needs a variable, not an expression", value)
            return None
        if not constant_ok:
            self.check_writable(place, value)
        source = place.type
        ok = same(source, t)
        if not ok and isinstance(t, ArrayType) and isinstance(source, ArrayType):
            ok = same(source.element, t.element) and (
                (not t.dims and (len(source.dims) or source.stars) == t.stars)
                or (self.lenient and source.size >= t.size)
            )
        if not ok and isinstance(t, BlockType) and isinstance(source, BlockType):
            ok = source.symbol.is_a(t.symbol)
        if not ok and isinstance(t, StringType) and isinstance(source, StringType):
            ok = source.wide == t.wide
        if not ok and isinstance(t, InterfaceType) and isinstance(source, BlockType):
            return self.implicit(place, t)
        if not ok:
            a, b = elementary(source), elementary(t)
            ok = a is not None and a is b
            if not ok and self.lenient and a is not None and b is not None and a.size == b.size:
                ok = a.is_discrete and b.is_discrete
        if not ok:
            self.error(
                "E040",
                f"VAR_IN_OUT {param.name} is {t.name}: a variable of type {type_name(place)} does not fit",
                value,
                "the types must be the same",
            )
            return None
        if not isinstance(place, (typed.BitPlace, typed.PropertyPlace)):
            self.take_address(place)
        return place

    def output_place(self, param: Variable, arg: tree.Argument) -> typed.Expr | None:
        if arg.value is None:
            return None
        place = self.target(arg.value)
        if place.type is ERROR:
            return None
        t = self.variable_type(param)
        probe = self.implicit(typed.ValuePlace(t, arg.start, typed.Const(t, arg.start, 0)), place.type)
        if probe is None and param.source is not None and param.source.library and self._both_integers(t, place.type):
            probe = place  # ANY_INT in the standard: the value is checked
        if probe is None:
            self.error("E040", f"the output {param.name} is {t.name} and cannot go to {type_name(place)}", arg.value)
            return None
        return typed.Unary(BOOL, arg.start, "NOT", place) if arg.negated else place

    def _both_integers(self, a: Type | None, b: Type | None) -> bool:
        ea, eb = elementary(a) if a is not None else None, elementary(b) if b is not None else None
        return ea is not None and eb is not None and ea.is_integer and eb.is_integer

    def enable(
        self, found: dict[str, tree.Argument], params: list[Variable]
    ) -> tuple[typed.Expr | None, typed.Expr | None]:
        names = {p.name.upper() for p in params}
        en: typed.Expr | None = None
        eno: typed.Expr | None = None
        if "EN" in found and "EN" not in names and found["EN"].value is not None:
            en = self.coerce(self.expr(found["EN"].value), BOOL, found["EN"].value)
        if "ENO" in found and "ENO" not in names and found["ENO"].value is not None:
            eno = self.target(found["ENO"].value)
        return en, eno

    def guarded(self, e: typed.Expr, node: tree.Call) -> typed.Expr:
        """A standard function's value under its EN and ENO."""
        found = {a.name.upper(): a for a in node.args if a.name.upper() in ("EN", "ENO")}
        if not found or e.type is ERROR:
            return e
        en, eno = self.enable(found, [])
        e = self.settle(e)
        return typed.Guarded(e.type, e.start, en, eno, e)

    def lifted(self, value: typed.Expr) -> typed.Expr:
        """A converted value under EN: the conversion goes inside, so that EN = FALSE keeps the target."""
        if not isinstance(value, typed.Convert):
            return value
        inner = self.lifted(value.operand)
        if isinstance(inner, typed.Call) and inner.enable is not None:
            plain = typed.Call(
                inner.type, inner.start, inner.callee, inner.args, inner.outputs, inner.instance, inner.virtual
            )
            plain.extra = inner.extra
            inner = typed.Guarded(inner.type, inner.start, inner.enable, inner.enabled_out, plain, inner.own_enable)
        if not isinstance(inner, typed.Guarded):
            return value
        done = typed.Convert(value.type, value.start, inner.value, value.mode)
        return typed.Guarded(value.type, value.start, inner.enable, inner.enabled_out, done, inner.own_enable)

    # -- calls ---------------------------------------------------------------------------------------

    def call(self, node: tree.Call, want: Type | None) -> typed.Expr:
        """A call used as a value."""
        callee = self.callee(node.callee)
        if callee is None:
            for arg in node.args:
                if arg.value is not None and not isinstance(arg.value, (tree.ListInit, tree.StructInit)):
                    self.expr(arg.value)
            return self.bad(node)
        if callee.kind == "intrinsic":
            return self.guarded(self.intrinsic(callee.name, node, want), node)
        if callee.kind in ("block", "action"):
            name = callee.symbol.name if callee.symbol else "?"
            self.error(
                "E054",
                f"calling {name} gives no value",
                node,
                "call it on its own line, then read its outputs" if callee.kind == "block" else "",
            )
            return self.bad(node)
        e = self.function_call(callee, node, want)
        if e.type is VOID:
            self.error("E054", f"{callee.symbol.name if callee.symbol else '?'} has no result", node)
            return self.bad(node)
        library = callee.symbol is not None and callee.symbol.source.library
        if library and want is not None and not self.lenient and self._both_integers(e.type, want):
            return typed.Convert(want, node.start, e, "check")  # ANY_INT in the standard
        return e

    def function_call(self, callee: Callee, node: tree.Call, want: Type | None = None) -> typed.Expr:
        symbol = callee.symbol
        assert symbol is not None
        if symbol.tree.generics and symbol.kind == "FUNCTION" and not symbol.declared:
            instance = self.instantiate(symbol, node, want)
            if instance is None:
                return self.bad(node)
            symbol = instance
        params = symbol.params
        found = self.bind(symbol, params, node) or {}
        args: list[typed.Expr | None] = []
        outputs: list[tuple[Variable, typed.Expr]] = []
        for param in params:
            arg = found.get(param.name.upper())
            if param.kind == "output":
                if arg is not None:
                    place = self.output_place(param, arg)
                    if place is not None:
                        outputs.append((param, place))
                args.append(None)
            elif param.kind == "inout":
                if arg is None or arg.value is None:
                    self.error("E052", f"VAR_IN_OUT {param.name} of {symbol.name} must be given", node.callee)
                    args.append(None)
                else:
                    args.append(self.inout_place(param, arg, node))
            else:
                args.append(self.input_value(param, arg) if arg is not None else None)
                t = self.variable_type(param)
                if arg is None and isinstance(t, ArrayType) and not t.dims:
                    self.error("E052", f"{param.name} of {symbol.name} must be given", node.callee)
        extra: list[typed.Expr] = []
        if symbol.variadic:
            positional = [a for a in node.args if not a.name][len(params) :]
            extra = [self.settle(self.expr(a.value)) for a in positional if a.value is not None]
        en, eno = self.enable(found, params)
        result = symbol.result if symbol.result is not None else VOID
        self.note_call(symbol, callee)
        if symbol.external:
            self.warn("W083", f"{symbol.name} is external: there is no body to run", node)
        call = typed.Call(result, node.start, symbol, args, outputs, callee.instance, callee.virtual, en, eno, extra)
        call.own_enable = self.own_enable(symbol, call)
        return call

    def own_enable(self, symbol: PouSymbol, call: typed.Call | typed.CallBlock) -> bool:
        """Whether the body sets ENO itself; the place that takes it is then FALSE when EN is."""
        if "ENO" not in symbol.variables:
            return False
        call.enabled_out = next((place for v, place in call.outputs if v.name.upper() == "ENO"), None)
        return True

    def note_call(self, symbol: PouSymbol, callee: Callee | None = None) -> None:
        if self.pou is not None:
            self.pou.calls.add(symbol)

    def block_call(self, callee: Callee, node: tree.Call, runs: PouSymbol | None = None) -> typed.Stmt:
        """A call of an instance; `runs` is what runs when it is not the block's body."""
        symbol, block = callee.symbol, callee.block
        assert symbol is not None
        assert block is not None
        assert callee.instance is not None
        params = [p for base in reversed(list(symbol.bases())) for p in base.params]
        found = self.bind(symbol, params, node) or {}
        inputs: list[tuple[Variable, typed.Expr]] = []
        inouts: list[tuple[Variable, typed.Expr]] = []
        outputs: list[tuple[Variable, typed.Expr]] = []
        for param in params:
            arg = found.get(param.name.upper())
            if arg is None:
                if (
                    param.kind == "inout"
                    and symbol.kind == "FUNCTION_BLOCK"
                    and not self.codesys
                    and not self._is_super(node.callee)
                ) and not (callee.instance is not None and isinstance(callee.instance, typed.SelfPlace)):
                    self.error("E052", f"VAR_IN_OUT {param.name} of {symbol.name} must be given", node.callee)
                continue
            if param.kind == "output":
                place = self.output_place(param, arg)
                if place is not None:
                    outputs.append((param, place))
            elif param.kind == "inout":
                place = self.inout_place(param, arg, node)
                if place is not None:
                    inouts.append((param, place))
            else:
                value = self.input_value(param, arg)
                if value is not None:
                    inputs.append((self.raw_edge(param), value))
        en, eno = self.enable(found, params)
        self.note_call(runs or symbol)
        if isinstance(callee.instance, typed.Place):
            self._touch(callee.instance)
        call = typed.CallBlock(node.start, callee.instance, block, inputs, inouts, outputs, en, eno, callee.virtual)
        call.own_enable = self.own_enable(symbol, call)
        return call

    def raw_edge(self, param: Variable) -> Variable:
        """R_EDGE inputs are stored raw; the body sees the edge."""
        if param.edge and param.owner is not None:
            return param.owner.variables.get(f"__RAW_{param.name.upper()}", param)
        return param

    def _touch(self, place: typed.Expr) -> None:
        at: typed.Expr = place
        while True:
            if isinstance(at, typed.VariablePlace):
                at.variable.written = True
                return
            if isinstance(at, (typed.MemberPlace, typed.IndexPlace)):
                at = at.base
                continue
            return

    def call_statement(self, node: tree.CallStmt) -> typed.Stmt | None:
        call = node.call
        if not isinstance(call, tree.Call):
            e = self.expr(call)
            if e.type is not ERROR:
                owner = self.owner_block()
                if isinstance(call, tree.Name) and owner is not None and isinstance(e, typed.VariablePlace):
                    pass
                self.warn("W003", "this expression does nothing", call)
            return None
        callee = self.callee(call.callee)
        if callee is None:
            for arg in call.args:
                if arg.value is not None and not isinstance(arg.value, (tree.ListInit, tree.StructInit)):
                    self.expr(arg.value)
            return None
        if callee.kind == "block":
            return self.block_call(callee, call)
        if callee.kind == "action":
            assert callee.symbol is not None
            instance = callee.instance
            owner = self.owner_block()
            if instance is None and owner is not None and owner.type is not None:
                instance = typed.SelfPlace(owner.type, call.start)
            if call.args and instance is not None and isinstance(instance.type, BlockType):
                # The arguments are those of the block; the action runs in place of its body.
                block = Callee("block", instance.type.symbol, instance, block=instance.type)
                run = self.block_call(block, call, callee.symbol)
                assert isinstance(run, typed.CallBlock)
                run.action = callee.symbol
                return run
            if call.args:
                self.error("E051", f"the action {callee.symbol.name} takes no arguments", call)
            self.note_call(callee.symbol)
            return typed.CallAction(call.start, callee.symbol, callee.instance)
        if callee.kind == "intrinsic":
            statement = self.test_statement(callee.name, call)
            if statement is not None:
                return statement
            e = self.guarded(self.intrinsic(callee.name, call, None), call)
            return None if e.type is ERROR else typed.Evaluate(call.start, e)
        return typed.Evaluate(call.start, self.function_call(callee, call))

    def test_statement(self, name: str, node: tree.Call) -> typed.Stmt | None:
        raise NotImplementedError


__all__ = ["Callee", "Calls", "StructType"]
