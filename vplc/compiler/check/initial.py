"""Initial values: constant ones become data, the others statements that run when the variable is made."""

from __future__ import annotations

from vplc.compiler import tree, typed
from vplc.compiler.check.base import type_name
from vplc.compiler.check.builtins import Builtins
from vplc.compiler.check.expressions import prop_place
from vplc.compiler.source import nearest
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import (
    ERROR,
    LINT,
    ArrayType,
    BlockType,
    Field,
    PointerType,
    StringType,
    StructType,
    Type,
)

MAX_LISTED = 4_000_000  # one by one: more would cost minutes and gigabytes
MAX_STATEMENTS = 10_000


class InitialValues(Builtins):
    def evaluate_init(self, variable: Variable) -> None:
        """Fills `variable.init` (data), `.value` (scalar) and `.dynamic` (statements)."""
        if variable.init_done:
            return
        variable.init_done = True
        t = self.variable_type(variable)
        decl = variable.decl
        saved = (self.source, self.scope, self.pou)
        assert variable.source is not None
        assert variable.scope is not None
        self.source, self.scope, self.pou = variable.source, variable.scope, variable.owner
        node = variable.init_expr
        place = typed.VariablePlace(t, decl.start if decl is not None else 0, variable)
        if node is None and decl is not None:
            inherited = self.default_of(decl.type, variable.scope, variable.source)
            if inherited is not None:
                node, self.source, self.scope = inherited
        if node is not None and t is not ERROR:
            value, statements = self.init_value(t, node, place)
            variable.init = value
            if isinstance(value, (int, float, str)):
                variable.value = value
            if statements:
                if variable.constant and not isinstance(t, (PointerType, StructType, ArrayType, BlockType)):
                    self.error("E045", f"{variable.name} is CONSTANT: its value must be constant", node)
                variable.dynamic = statements
                for statement in statements:
                    if isinstance(statement, typed.Assign):
                        self._touch(statement.place)
        self.source, self.scope, self.pou = saved

    def field_init(self, struct: StructType, f: Field) -> None:
        """Replaces a field's declaration by its data."""
        pending = f.init
        if not isinstance(pending, tuple):
            return
        decl, source, scope = pending
        f.init = None
        saved = (self.source, self.scope, self.pou)
        self.source, self.scope, self.pou = source, scope, None
        node = decl.init
        if node is None:
            inherited = self.default_of(decl.type, scope, source)
            if inherited is not None:
                node, self.source, self.scope = inherited
        if node is not None and f.type is not ERROR:
            place = typed.ValuePlace(f.type, decl.start, typed.Const(f.type, decl.start, 0))
            value, statements = self.init_value(f.type, node, place)
            f.init = value
            first = statements[0] if len(statements) == 1 and isinstance(f.type, PointerType) else None
            if isinstance(first, typed.Assign) and lasting_address(first.value):
                f.init = first.value
            elif statements:
                self.error("E045", f"the initial value of field {f.name} must be constant", node)
        self.source, self.scope, self.pou = saved

    def init_value(self, t: Type, node: tree.Expr, place: typed.Expr) -> tuple[object, list[typed.Stmt]]:
        """Data for the constant part, statements for the rest."""
        if t is ERROR or (isinstance(t, ArrayType) and t.element is ERROR):
            return None, []
        if isinstance(node, tree.Construct):
            return self._construct(t, node, place)
        if isinstance(t, ArrayType):
            if isinstance(node, tree.ListInit):
                return self._array_init(t, node, place)
            value = self.expr(node, t)
            if isinstance(value.type, ArrayType) or value.type is ERROR:
                return self._constant_copy(value, t, node, place)
            # A single value: CODESYS gives it to the first element.
            if self.codesys or isinstance(node, (tree.Literal, tree.Unary)):
                return self._array_init(t, tree.ListInit(node.start, node.end, [(None, node)]), place)
            self.error("E040", f"an array is initialised with [..], not with {type_name(value)}", node)
            return None, []
        if isinstance(t, StructType):
            if isinstance(node, tree.StructInit):
                return self._struct_init(t, node, place)
            if (
                isinstance(node, tree.ListInit)
                and len(node.items) == 1
                and isinstance(node.items[0][1], tree.StructInit)
            ):
                return self._struct_init(t, node.items[0][1], place)
            if not isinstance(node, tree.ListInit):
                return self._constant_copy(self.expr(node, t), t, node, place)
            self.error("E040", f"{t.name} is initialised with (field := value, ...)", node)
            return None, []
        if isinstance(t, BlockType):
            if isinstance(node, tree.StructInit):
                return self._block_init(t, node, place)
            if isinstance(node, tree.ListInit):
                self.error("E040", f"{t.name} is initialised with (input := value, ...)", node)
                return None, []
            return self._constant_copy(self.expr(node, t), t, node, place)
        if isinstance(node, (tree.ListInit, tree.StructInit)):
            if isinstance(node, tree.ListInit) and len(node.items) == 1 and node.items[0][1] is not None:
                return self.init_value(t, node.items[0][1], place)
            self.error("E040", f"{t.name} takes a single value", node)
            return None, []
        if isinstance(t, PointerType) and t.kind == "REFERENCE":
            value = self.raw(node)
            value = (
                self.reference_to(value, t, node) if not isinstance(value, typed.Const) else self.coerce(value, t, node)
            )
        else:
            value = self.known(self.coerce(self.known(self.expr(node, t)), t, node))
        if value.type is ERROR:
            return None, []
        if isinstance(value, typed.Const):
            return value.value, []
        return None, [typed.Assign(node.start, place, value, initial=True)]

    def _constant_copy(
        self, value: typed.Expr, t: Type, node: tree.Expr, place: typed.Expr
    ) -> tuple[object, list[typed.Stmt]]:
        """The data of a constant variable of the same type, or a copying statement."""
        if value.type is ERROR:
            return None, []
        value = self.coerce(value, t, node)
        if isinstance(value, typed.VariablePlace) and value.variable.constant:
            self.constant_value(value.variable)
            if value.variable.init is not None and not value.variable.dynamic:
                return value.variable.init, []
        if value.type is ERROR:
            return None, []
        return None, [typed.Assign(node.start, place, value, initial=True)]

    def _array_init(self, t: ArrayType, node: tree.ListInit, place: typed.Expr) -> tuple[object, list[typed.Stmt]]:
        values: dict[int, object] = {}
        statements: list[typed.Stmt] = []
        if not t.dims:
            self.error("E040", "ARRAY[*] has no initial value", node)
            return None, []
        end = self._fill(t, node, 0, values, statements, place)
        if end > t.count:
            self.error("E051", f"{end} values for the {t.count} elements of {t.name}", node)
        return values, statements

    def _fill(
        self,
        t: ArrayType,
        node: tree.ListInit,
        at: int,
        values: dict[int, object],
        statements: list[typed.Stmt],
        place: typed.Expr,
    ) -> int:
        for count_node, item in node.items:
            count = 1
            if count_node is not None:
                got = self.constant_int(count_node)
                count = got if got is not None and got >= 0 else 1
            elif (
                isinstance(item, tree.Call)
                and isinstance(item.callee, tree.Name)
                and not isinstance(t.element, BlockType)
            ):
                found = self.own_member(item.callee.name.upper()) or self.lookup(item.callee.name)
                if isinstance(found, Variable) and found.constant:
                    known = self.constant_value(found)
                    if isinstance(known, int):
                        count = max(0, known)
                        item = item.args[0].value if item.args else None
            if count > t.count + 1:
                count = t.count + 1
            if count > MAX_LISTED or (count > MAX_STATEMENTS and statements):
                self.error("E042", f"{count} initial values are too many", node, "fill the array in the program")
                return at
            for repeat in range(count):
                if item is None:
                    at += 1
                    continue
                if isinstance(item, tree.ListInit) and not isinstance(t.element, ArrayType):
                    at = self._fill(t, item, at, values, statements, place)
                    continue
                if at >= t.count:
                    at += 1
                    continue
                if repeat and at - 1 in values and not statements:
                    values[at] = values[at - 1]
                    at += 1
                    continue
                element = typed.IndexPlace(t.element, item.start, place, self._indices(t, at, item.start))
                value, more = self.init_value(t.element, item, element)
                if value is not None:
                    values[at] = value
                statements.extend(more)
                at += 1
        return at

    def _indices(self, t: ArrayType, flat: int, start: int) -> list[typed.Expr]:
        out: list[typed.Expr] = []
        for low, high in reversed(t.dims):
            span = high - low + 1
            out.append(typed.Const(LINT, start, low + flat % span))
            flat //= span
        return out[::-1]

    def _struct_init(self, t: StructType, node: tree.StructInit, place: typed.Expr) -> tuple[object, list[typed.Stmt]]:
        values: dict[str, object] = {}
        statements: list[typed.Stmt] = []
        for name, item in node.fields:
            upper = name.upper()
            f = t.fields.get(upper)
            if f is None:
                self.error(
                    "E032", f"{t.name} has no field {name}", item, nearest(name, (x.name for x in t.fields.values()))
                )
                continue
            tag = "" if t.union else f"{id(t)}.{upper}"
            inner = typed.MemberPlace(f.type, item.start, place, -1, tag, None, upper)
            value, more = self.init_value(f.type, item, inner)
            if value is not None:
                values[upper] = value
            statements.extend(more)
        return values, statements

    def _block_init(self, t: BlockType, node: tree.StructInit, place: typed.Expr) -> tuple[object, list[typed.Stmt]]:
        values: dict[str, object] = {}
        statements: list[typed.Stmt] = []
        for name, item in node.fields:
            upper = name.upper()
            member = t.symbol.find_member(upper)
            prop = t.symbol.find_property(upper) if member is None else None
            if prop is not None:
                node_place = prop_place(prop, place, item.start, t.symbol)
                given = self.coerce(self.expr(item, prop[0]), prop[0], item)
                if prop[2] is None:
                    self.error("E044", "this property has no SET: it is read-only", item)
                elif given.type is not ERROR:
                    statements.append(typed.Assign(item.start, node_place, given, initial=True))
                continue
            if member is None or member.kind in ("temp", "external"):
                known = [v.name for b in t.symbol.bases() for v in b.variables.values()]
                self.error("E032", f"{t.name} has no variable {name}", item, nearest(name, known))
                continue
            mt = self.variable_type(member)
            if member.kind == "inout":
                self.error("E044", f"{name} is VAR_IN_OUT and has no initial value", item)
                continue
            owner = member.owner or t.symbol
            inner = typed.MemberPlace(mt, item.start, place, -1, f"{id(owner)}.{upper}", self.raw_edge(member))
            value, more = self.init_value(mt, item, inner)
            if value is not None:
                values[upper] = value
            statements.extend(more)
        return values, statements

    def _construct(self, t: Type, node: tree.Construct, place: typed.Expr) -> tuple[object, list[typed.Stmt]]:
        """FB_Init with arguments, then the initial values; `T(x := 1)` without FB_Init gives initial values only."""
        block = t.element if isinstance(t, ArrayType) else t
        start = block.symbol.find_method("FB_INIT") if isinstance(block, BlockType) else None
        statements: list[typed.Stmt] = []
        fields: list[tuple[str, tree.Expr]] = []
        if isinstance(t, ArrayType):
            if start is None:
                self.error("E051", f"{block.name} has no FB_Init that could take these arguments", node)
            elif len(node.args) != t.count:
                self.error("E051", f"{len(node.args)} argument lists for the {t.count} elements of {t.name}", node)
            else:
                for at, args in enumerate(node.args):
                    element = typed.IndexPlace(block, node.start, place, self._indices(t, at, node.start))
                    statements.extend(self._start_block(start, args, element, node))
        elif start is None:
            if any(not a.name for a in node.args[0]):
                self.error("E051", f"{t.name} has no FB_Init that could take these arguments", node)
            fields = [(a.name, a.value) for a in node.args[0] if a.value is not None and a.name]
        else:
            known = {p.name.upper() for p in start.params}
            mine = [a for a in node.args[0] if not a.name or a.name.upper() in known]
            fields = [(a.name, a.value) for a in node.args[0] if a not in mine and a.value is not None]
            statements.extend(self._start_block(start, mine, place, node))
        init = node.init
        if fields and isinstance(init, tree.StructInit):
            init = tree.StructInit(init.start, init.end, [*fields, *init.fields])
        elif fields:
            init = tree.StructInit(node.start, node.end, fields)
        if init is None:
            return None, statements
        value, more = self.init_value(t, init, place)
        return value, statements + more

    def _start_block(
        self, start: PouSymbol, given: list[tree.Argument], place: typed.Expr, node: tree.Construct
    ) -> list[typed.Stmt]:
        """FB_Init of the bases first, each with those of the arguments that it names."""
        from vplc.compiler.check.calls import Callee

        # The first two parameters are the runtime's (retain, online copy), never written by the user.
        hidden = ("BINITRETAINS", "BINCOPYCODE")
        names = [p.name for p in start.params if p.name.upper() not in hidden]
        args = list(given)
        if args and not args[0].name:
            if len(args) > len(names):
                self.error("E051", f"FB_Init takes {len(names)} arguments, {len(args)} given", node)
            args = [tree.Argument(a.start, n, a.value) for a, n in zip(args, names, strict=False)]
        calls: list[typed.Stmt] = []
        assert start.owner is not None
        for base in reversed(list(start.owner.bases())):
            method = base.methods.get("FB_INIT")
            if method is None:
                continue
            known = {p.name.upper() for p in method.params}
            mine = args if method is start else [a for a in args if a.name.upper() in known]
            call = tree.Call(node.start, node.end, tree.Name(node.start, node.end, start.name), mine)
            calls.append(typed.Evaluate(node.start, self.function_call(Callee("method", method, place), call)))
        return calls

    # -- aggregates inside bodies ----------------------------------------------------------------------

    def aggregate(self, node: tree.Expr, want: Type | None) -> typed.Expr:
        """`x := [1, 2, 3]` or `s := (a := 1)`: a temporary constant of the wanted type."""
        if self.pou is None or not isinstance(want, (ArrayType, StructType)):
            self.error("E040", "this list has no array or structure to go to", node)
            return self.bad(node)
        number = len(self.program.statics)
        variable = Variable(
            f"__list{number}",
            want,
            "local",
            None,
            self.pou,
            self.source,
            constant=False,
            storage="static",
            scope=self.scope,
            init_done=True,
        )
        place = typed.VariablePlace(want, node.start, variable)
        value, statements = self.init_value(want, node, place)
        variable.init = value
        variable.taken = True
        self.program.statics.append(variable)
        for statement in statements:
            self.pending.append(statement)
        return place

    pending: list[typed.Stmt]


def lasting_address(e: typed.Expr) -> bool:
    """Whether a reference to a global (or a fixed part of one) is meant, which the layout can turn into data."""
    if isinstance(e, typed.Convert):
        return lasting_address(e.operand)
    if not isinstance(e, typed.AddressOf):
        return False
    at: typed.Expr = e.place
    while isinstance(at, (typed.MemberPlace, typed.IndexPlace)):
        if isinstance(at, typed.IndexPlace) and not all(isinstance(i, typed.Const) for i in at.indices):
            return False
        at = at.base
    return isinstance(at, typed.VariablePlace) and at.variable.kind == "global"


def literal_text(value: object, t: Type) -> str:
    return f"'{value}'" if isinstance(t, StringType) else str(value)
