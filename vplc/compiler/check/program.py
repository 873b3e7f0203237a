"""The whole program: collects every file, declares, checks bodies, then what only the whole shows."""

from __future__ import annotations

from collections.abc import Iterator

from vplc.compiler import tree, typed
from vplc.compiler.check.configuration import Configurations
from vplc.compiler.check.statements import collect_labels
from vplc.compiler.model import Program, ProgramInstance
from vplc.compiler.source import Diagnostics, Span
from vplc.compiler.symbols import PouSymbol, Scope, Variable
from vplc.compiler.types import (
    BOOL,
    ERROR,
    ArrayType,
    BlockType,
    Elementary,
    EnumType,
    Field,
    StructType,
    Type,
    same,
)


def analyse(
    units: list[tree.Unit], library: list[tree.Unit], profile: str, diagnostics: Diagnostics, testing: bool = False
) -> Program:
    """Checks everything. The program is usable only when `diagnostics.errors` stays 0."""
    library_scope = Scope()
    program = Program(profile, [u.source for u in units] or [library[0].source], Scope(library_scope), testing=testing)
    checker = Checker(program, diagnostics, library_scope)
    checker.run(units, library)
    return program


class Checker(Configurations):
    def __init__(self, program: Program, diagnostics: Diagnostics, library_scope: Scope) -> None:
        super().__init__(program, diagnostics)
        self.library_scope = library_scope
        self.clashes = {}
        self.named_types = []
        self.configs = []
        self.pending = []
        self.labels = set()
        self._lists = set()
        self._filling = []
        self._scopes = {}
        self.structs: list[StructType] = []

    def fill_struct(self, struct: StructType, ref: tree.StructRef) -> None:
        super().fill_struct(struct, ref)
        self.structs.append(struct)

    def run(self, units: list[tree.Unit], library: list[tree.Unit]) -> None:
        for unit in library:
            self.collect(unit, library=True)
        for unit in units:
            self.collect(unit, library=False)
        for named in self.named_types:
            self.define(named)
        for symbol in list(self.program.pous):
            self.declare(symbol)
        for unit in units:
            for config in unit.configurations:
                self.configure(config)
        self.default_instances()
        self.configure_addresses()
        for unit in units:
            for access in unit.accesses:
                self.configure_access(access)
        for variable in list(self.program.globals):
            self.variable_type(variable)
            self.global_variable(variable)
        for unit in units:
            self.collect_tests(unit)
        for symbol in list(self.program.pous):
            self.check_pou(symbol)
        for symbol in self.program.tests:
            self.check_pou(symbol)
        # Bodies call generic functions, whose instances are POUs of their own and may call more.
        for symbol in self.program.pous:
            self.check_pou(symbol)
        for variable in list(self.program.globals):
            self.evaluate_init(variable)
        for struct in self.structs:
            for f in struct.fields.values():
                self.field_init(struct, f)
        self.containment()
        self.recursion()

    def global_variable(self, variable: Variable) -> None:
        t = variable.type
        if isinstance(t, BlockType) and t.symbol.abstract and variable.decl is not None and variable.source is not None:
            self.diagnostics.error(
                "E064",
                f"{t.name} is ABSTRACT and has no instances",
                Span(variable.source, variable.decl.start, variable.decl.end),
            )

    def default_instances(self) -> None:
        """Every PROGRAM that no resource instantiates gets one instance under its own name."""
        have = {id(i.program) for i in self.program.instances}
        for symbol in self.program.pous:
            if symbol.kind == "PROGRAM" and id(symbol) not in have:
                one = ProgramInstance(symbol.full_name, symbol)
                one.init = symbol.result_variable
                self.program.instances.append(one)

    def collect_tests(self, unit: tree.Unit) -> None:
        for number, test in enumerate(unit.tests):
            symbol = PouSymbol(f"TEST {number + 1}", "TEST", unit.source, test)
            symbol.title = test.name
            symbol.scope = Scope(self.program.scope)
            for fixture in (unit.setup, unit.teardown):
                if fixture is not None:
                    test.blocks = fixture.blocks + test.blocks
            if unit.setup is not None:
                test.body = unit.setup.body + test.body
            if unit.teardown is not None:
                test.extra["teardown"] = unit.teardown.body
            self.declare(symbol)
            self.program.tests.append(symbol)

    # -- bodies ----------------------------------------------------------------------------------------

    def check_pou(self, symbol: PouSymbol) -> None:
        if symbol.checked:
            return
        symbol.checked = True
        self.source, self.pou = symbol.source, symbol
        assert symbol.scope is not None
        self.scope = symbol.scope
        for variable in list(symbol.variables.values()):
            if variable.owner is symbol:
                self.evaluate_init(variable)
        if symbol.kind != "INTERFACE":
            self.check_body(symbol)
        for action in symbol.actions.values():
            self.pou, self.scope = action, symbol.scope
            self.check_body(action)
        for method in symbol.methods.values():
            self.pou = method
            assert method.scope is not None
            self.scope = method.scope
            for variable in list(method.variables.values()):
                if variable.owner is method:
                    self.evaluate_init(variable)
            self.check_body(method)
        self.pou = symbol
        if symbol.kind in ("FUNCTION_BLOCK", "CLASS"):
            self.interfaces(symbol)

    def check_body(self, symbol: PouSymbol) -> None:
        self.labels = set()
        self.loops = 0
        collect_labels(symbol.tree.body, self.labels)
        if symbol.abstract and symbol.tree.body and symbol.kind == "METHOD":
            self.diagnostics.error(
                "E063",
                f"{symbol.name} is ABSTRACT and has no body",
                Span(symbol.source, symbol.tree.start, symbol.tree.end),
            )
        body = self.edges(symbol)
        eno = symbol.variables.get("ENO")
        if eno is not None and symbol.kind == "FUNCTION_BLOCK" and eno.decl is None:
            place = typed.VariablePlace(BOOL, symbol.tree.start, eno)
            body.append(typed.Assign(symbol.tree.start, place, typed.Const(BOOL, symbol.tree.start, 1)))
        body.extend(self.statements(symbol.tree.body))
        symbol.body = list(body)
        if "teardown" in symbol.tree.extra:
            symbol.teardown = list(self.statements(symbol.tree.extra["teardown"]))

    def edges(self, symbol: PouSymbol) -> list[typed.Stmt]:
        out: list[typed.Stmt] = []
        for variable in list(symbol.variables.values()):
            if not variable.edge or variable.owner is not symbol or symbol.kind == "METHOD":
                continue
            upper = variable.name.upper()
            raw, old = symbol.variables[f"__RAW_{upper}"], symbol.variables[f"__OLD_{upper}"]
            r, o, v = (typed.VariablePlace(BOOL, symbol.tree.start, x) for x in (raw, old, variable))
            if variable.edge == "R_EDGE":
                edge: typed.Expr = typed.Binary(
                    BOOL, symbol.tree.start, "AND", r, typed.Unary(BOOL, symbol.tree.start, "NOT", o)
                )
                keep: typed.Expr = r
            else:
                # The memory holds the inverted level, so that a first call with FALSE is no edge.
                inverted = typed.Unary(BOOL, symbol.tree.start, "NOT", r)
                edge = typed.Binary(BOOL, symbol.tree.start, "AND", inverted, o)
                keep = r
            out.append(typed.Assign(symbol.tree.start, v, edge))
            out.append(typed.Assign(symbol.tree.start, o, keep))
        return out

    def interfaces(self, symbol: PouSymbol) -> None:
        node = Span(symbol.source, symbol.tree.start, symbol.tree.end)
        error = self.diagnostics.error
        for method in symbol.methods.values():
            for base in list(symbol.bases())[1:]:
                other = base.methods.get(method.name.upper())
                if other is not None:
                    where = Span(method.source, method.tree.start, method.tree.end)
                    if other.final:
                        error("E065", f"{method.name} is FINAL in {base.name}", where)
                    elif "PRIVATE" not in other.tree.modifiers and method.name.upper() != "FB_INIT":
                        # FB_Init may take more than that of the base: both run, nobody calls it virtually.
                        self.signature(method, other, base)
                    break
            else:
                if "OVERRIDE" in method.tree.modifiers:
                    error(
                        "E065",
                        f"{method.name} overrides nothing",
                        Span(method.source, method.tree.start, method.tree.end),
                    )
        if symbol.abstract:
            return
        for interface in sorted(symbol.all_interfaces(), key=lambda s: s.name):
            for upper, wanted in interface.methods.items():
                method_or_none = symbol.find_method(upper)
                if method_or_none is None:
                    shown = wanted.name.replace("__GET_", "PROPERTY (GET) ").replace("__SET_", "PROPERTY (SET) ")
                    error(
                        "E063",
                        f"{symbol.name} lacks {shown} of {interface.name}",
                        node,
                        "implement it, or declare ABSTRACT",
                    )
                else:
                    self.signature(method_or_none, wanted, interface)
        for base in symbol.bases():
            for upper, method in base.methods.items():
                found = symbol.find_method(upper)
                if method.abstract and found is method:
                    error(
                        "E063",
                        f"{symbol.name} lacks the abstract method {method.name} of {base.name}",
                        node,
                        "implement it, or declare ABSTRACT",
                    )

    def signature(self, method: PouSymbol, other: PouSymbol, base: PouSymbol) -> None:
        where = Span(method.source, method.tree.start, method.tree.end)
        a, b = method.params, other.params
        problem = ""
        if len(a) != len(b):
            problem = f"{len(a)} parameters instead of {len(b)}"
        elif (method.result is None) != (other.result is None) or (
            method.result is not None and other.result is not None and not same(method.result, other.result)
        ):
            problem = "another result type"
        else:
            for x, y in zip(a, b, strict=True):
                if x.kind != y.kind or not same(x.type, y.type):
                    problem = f"parameter {x.name} differs from {y.name}"
                    break
        if problem:
            self.diagnostics.error("E063", f"{method.name} has {problem} in {base.name}", where)

    # -- the whole -------------------------------------------------------------------------------------

    def containment(self) -> None:
        """A type that contains itself has no size."""
        state: dict[int, int] = {}

        def visit(t: Type, where: Span) -> None:
            if isinstance(t, ArrayType):
                visit(t.element, where)
                return
            if not isinstance(t, (StructType, BlockType)):
                return
            mark = state.get(id(t), 0)
            if mark == 1:
                self.diagnostics.error(
                    "E061", f"{t.name} contains itself", where, "refer to it through REF_TO or POINTER TO"
                )
            if mark:
                return
            state[id(t)] = 1
            if isinstance(t, StructType):
                for f in t.fields.values():
                    visit(f.type, where)
            else:
                for base in t.symbol.bases():
                    for v in base.variables.values():
                        if v.owner is base and v.kind in ("input", "output", "local") and v.storage != "static":
                            visit(v.type, where)
            state[id(t)] = 2

        for named in self.named_types:
            if named.type is not None:
                visit(named.type, Span(named.decl.source, named.decl.start, named.decl.end))
        for symbol in self.program.pous:
            if symbol.type is not None:
                visit(symbol.type, Span(symbol.source, symbol.tree.start, symbol.tree.end))

    def recursion(self) -> None:
        """Calls that lead back to the caller (Tarjan)."""
        index: dict[int, int] = {}
        low: dict[int, int] = {}
        stack: list[PouSymbol] = []
        on_stack: set[int] = set()
        counter = 0
        everything = [*self.program.pous]
        for symbol in self.program.pous:
            everything.extend(symbol.methods.values())
            everything.extend(symbol.actions.values())
        for root in everything:
            if id(root) in index:
                continue
            work: list[tuple[PouSymbol, Iterator[PouSymbol]]] = [(root, iter(sorted(root.calls, key=lambda s: s.name)))]
            index[id(root)] = low[id(root)] = counter
            counter += 1
            stack.append(root)
            on_stack.add(id(root))
            while work:
                node, edges = work[-1]
                step = next(edges, None)
                if step is not None:
                    if id(step) not in index:
                        index[id(step)] = low[id(step)] = counter
                        counter += 1
                        stack.append(step)
                        on_stack.add(id(step))
                        work.append((step, iter(sorted(step.calls, key=lambda s: s.name))))
                    elif id(step) in on_stack:
                        low[id(node)] = min(low[id(node)], index[id(step)])
                    continue
                work.pop()
                if work:
                    low[id(work[-1][0])] = min(low[id(work[-1][0])], low[id(node)])
                if low[id(node)] == index[id(node)]:
                    group: list[PouSymbol] = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(id(member))
                        group.append(member)
                        if member is node:
                            break
                    if len(group) > 1 or node in node.calls:
                        self.recursive(group)

    def recursive(self, group: list[PouSymbol]) -> None:
        first = min(group, key=lambda s: (s.source.name, s.tree.start))
        for member in group:
            member.recursive = True
        through_instances = any(s.kind in ("FUNCTION_BLOCK", "METHOD", "ACTION") for s in group)
        span = Span(first.source, first.tree.start, first.tree.end)
        names = " -> ".join(s.full_name for s in reversed(group))
        if self.codesys or through_instances:
            self.diagnostics.warn(
                "W060", f"{first.name} may call itself ({names}); the depth is checked at run time", span
            )
        else:
            self.diagnostics.error(
                "E060",
                f"{first.name} calls itself ({names}): the standard forbids recursion",
                span,
                "use a loop, or the codesys profile",
            )


__all__ = ["ERROR", "Checker", "Elementary", "EnumType", "Field", "analyse"]
