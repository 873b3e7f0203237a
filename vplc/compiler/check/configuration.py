"""Configurations: tasks, program instances, VAR_CONFIG and VAR_ACCESS."""

from __future__ import annotations

from vplc.compiler import tree, typed
from vplc.compiler.check.declare import Declarations
from vplc.compiler.model import AccessPath, ProgramInstance, TaskInfo
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import ERROR, TIME, ArrayType, BlockType, StructType, Type, same


class Configurations(Declarations):
    def configure(self, config: tree.Configuration) -> None:
        self.source, self.scope, self.pou = config.source, self.program.scope, None
        self.program.configuration, self.program.resource = config.name, config.resource
        names = set()
        for task in config.tasks:
            interval: int | None = None
            priority = 0
            single = ""
            if "INTERVAL" in task.options:
                node = task.options["INTERVAL"]
                value = self.coerce(self.expr(node), TIME, node)
                if isinstance(value, typed.Const) and isinstance(value.value, int):
                    interval = value.value
                    if interval <= 0:
                        self.error("E042", "INTERVAL is longer than zero", node)
            if "PRIORITY" in task.options:
                got = self.constant_int(task.options["PRIORITY"])
                priority = got or 0
            if "SINGLE" in task.options:
                node = task.options["SINGLE"]
                single = self.qualified(node) or "?"
            names.add(task.name.upper())
            self.program.tasks.append(TaskInfo(task.name, interval, priority, single))
        first: set[int] = {id(i.program) for i in self.program.instances}
        for instance in config.instances:
            node = tree.Name(instance.start, instance.start + len("PROGRAM"), instance.name)
            found = self.lookup(instance.type_name)
            if not isinstance(found, PouSymbol) or found.kind not in ("PROGRAM", "FUNCTION_BLOCK"):
                self.error("E080", f"{instance.type_name} is no PROGRAM", node)
                continue
            if instance.task and instance.task.upper() not in names:
                self.error("E085", f"there is no TASK {instance.task}", node)
            one = ProgramInstance(instance.name, found, instance.task)
            if id(found) in first or found.result_variable is None:
                assert found.type is not None
                variable = Variable(
                    instance.name,
                    found.type,
                    "program",
                    None,
                    None,
                    config.source,
                    storage="static",
                    scope=self.program.scope,
                    init_done=True,
                )
            else:
                first.add(id(found))
                variable = found.result_variable
            one.init = variable
            key = instance.name.upper()
            if key not in self.program.scope.names:
                self.program.scope.names[key] = variable
            self.program.instances.append(one)
            if instance.args:
                self.instance_args(one, instance, variable, node)

    def instance_args(self, one: ProgramInstance, instance: tree.Instance, variable: Variable, node: tree.Expr) -> None:
        """`PROGRAM p WITH t : P(in := x, out => y)`: done around each scan."""
        from vplc.compiler.check.calls import Callee

        assert one.program.type is not None
        place = typed.VariablePlace(one.program.type, instance.start, variable)
        call = tree.Call(instance.start, node.end, node, instance.args)
        params = {p.name.upper() for p in one.program.params}
        call.args = [a for a in call.args if a.name.upper() in params]
        self.pou = one.program
        saved, self.pou = self.pou, None
        self.program.instance_calls[id(one)] = self.block_call(
            Callee("block", one.program, place, block=one.program.type), call
        )
        self.pou = saved

    def configure_addresses(self) -> None:
        """VAR_CONFIG: addresses and initial values for variables of single instances."""
        self.pou = None
        for group in self.configs:
            self.source, self.scope = group.source, self.program.scope
            for decl in group.block.decls:
                chain = self.configured(decl.name)
                if len(chain) < 2:
                    self.error(
                        "E032", f"{decl.name} leads to no variable of a program", decl, "write instance.variable"
                    )
                    continue
                found = chain[-1]
                t = self.variable_type(found)
                if decl.type is not None and not same(self.resolve(decl.type), t) and t is not ERROR:
                    self.error("E040", f"{decl.name} is {t.name} where it is declared", decl)
                    continue
                found.written = True
                place: typed.Expr = typed.VariablePlace(chain[0].type, decl.start, chain[0])
                for v in chain[1:]:
                    owner = v.owner
                    place = typed.MemberPlace(
                        self.variable_type(v), decl.start, place, -1, f"{id(owner)}.{v.name.upper()}", self.raw_edge(v)
                    )
                if decl.address:
                    self.give_address(chain, decl, place)
                if decl.init is not None:
                    value, statements = self.init_value(t, decl.init, place)
                    statements = [*self.assignments(place, value), *statements]
                    root = chain[0]
                    root.dynamic = [*(root.dynamic if isinstance(root.dynamic, list) else []), *statements]

    def assignments(self, place: typed.Expr, value: object) -> list[typed.Stmt]:
        """An initial value as assignments, one for each elementary part that it names."""
        t, start = place.type, place.start
        out: list[typed.Stmt] = []
        if isinstance(value, (int, float, str)):
            return [typed.Assign(start, place, typed.Const(t, start, value), initial=True)]
        if not isinstance(value, dict):
            return out
        for key, item in value.items():
            inner: typed.Expr
            if isinstance(t, ArrayType):
                inner = typed.IndexPlace(t.element, start, place, self._indices(t, key, start))
            elif isinstance(t, StructType):
                f = t.fields[key]
                tag = "" if t.union else f"{id(t)}.{key}"
                inner = typed.MemberPlace(f.type, start, place, -1, tag, None, key)
            else:
                assert isinstance(t, BlockType)
                member = t.symbol.find_member(key)
                assert member is not None
                owner = member.owner or t.symbol
                tag = f"{id(owner)}.{key}"
                inner = typed.MemberPlace(self.variable_type(member), start, place, -1, tag, self.raw_edge(member))
            out.extend(self.assignments(inner, item))
        return out

    def configured(self, path: str) -> list[Variable]:
        """The variables a path of VAR_CONFIG runs through, from the instance on; empty when it leads nowhere."""
        chain: list[Variable] = []
        for part in path.upper().split("."):
            if not chain:
                symbol = self.program.scope.find(part)
                if isinstance(symbol, PouSymbol):
                    symbol = symbol.result_variable
                # Anything else is the name of the configuration or of a resource.
                if isinstance(symbol, Variable):
                    chain.append(symbol)
                continue
            t = self.variable_type(chain[-1])
            member = t.symbol.find_member(part) if isinstance(t, BlockType) else None
            if member is None:
                return []
            chain.append(member)
        return chain

    def give_address(self, chain: list[Variable], decl: tree.VarDecl, place: typed.Expr) -> None:
        """A variable that exists once lives at its address; one of several is copied around each scan."""
        found = chain[-1]
        mine = [one for one in self.program.instances if one.init is chain[0]]
        if not mine:
            found.address = decl.address
            return
        same_program = [one for one in self.program.instances if one.program is mine[0].program]
        if len(chain) == 2 and len(same_program) == 1:
            found.address = decl.address
            return
        # Shown as its address, as other direct addresses are, unless the program names the same address itself.
        taken = any(v.address == decl.address for v in self.program.globals)
        spot = Variable(
            f"__config{len(self.program.globals)}" if taken else f"__{decl.address}",
            place.type,
            "global",
            None,
            None,
            self.source,
            address=decl.address,
            scope=self.program.scope,
            init_done=True,
            written=True,
            taken=True,
            hidden=True,
        )
        self.program.globals.append(spot)
        there = typed.VariablePlace(place.type, decl.start, spot)
        area = decl.address.lstrip("%")[0]
        if area in "IM":
            mine[0].before.append(typed.Assign(decl.start, place, there))
        if area in "QM":
            mine[0].after.append(typed.Assign(decl.start, there, place))

    # -- VAR_ACCESS ------------------------------------------------------------------------------------

    def configure_access(self, access: tree.Access) -> None:
        """A name under which the outside reaches a variable; goes to the layout."""
        self.source, self.scope, self.pou = access.source, self.program.scope, None
        roots: list[Variable] = []
        if access.program:
            mine = [one for one in self.program.instances if one.program.name.upper() == access.program.upper()]
            roots = [one.init for one in mine if isinstance(one.init, Variable)]
        else:
            roots = [v for v in self._access_roots(access.path) if v is not None]
        if not roots:
            self.error("E032", "this path leads to no variable", access.path, "write instance.variable or a global")
            return
        wanted = self.resolve(access.type)
        for root in roots:
            shown = self._access_path(access.path, root, bool(access.program))
            if shown is None:
                self.error("E032", "this path leads to no variable", access.path, "write instance.variable or a global")
                return
            path, t = shown
            if not same(t, wanted) and t is not ERROR and wanted is not ERROR:
                self.error("E040", f"{path} is {t.name}, not {wanted.name}", access.type)
                return
            name = access.name if len(roots) == 1 else f"{path.partition('.')[0]}.{access.name}"
            self.program.accesses.append(AccessPath(name, path, t, access.writable))

    def _steps(self, node: tree.Expr) -> list[tree.Expr | str]:
        """The parts of a path from left to right: names, addresses, and index expressions as nodes."""
        if isinstance(node, tree.Name):
            return [node.name]
        if isinstance(node, tree.Address):
            return [node.text]
        if isinstance(node, tree.Member):
            return [*self._steps(node.base), node.name]
        if isinstance(node, tree.Index):
            return [*self._steps(node.base), node]
        return []

    def _is_frame(self, step: str) -> bool:
        """Whether a first name only says in which configuration or resource."""
        found = self.program.scope.find(step.upper())
        return not isinstance(found, (Variable, PouSymbol)) and not step.startswith("%")

    def _access_roots(self, path: tree.Expr) -> list[Variable | None]:
        steps = self._steps(path)
        while len(steps) > 1 and isinstance(steps[0], str) and self._is_frame(steps[0]):
            steps = steps[1:]
        if not steps or not isinstance(steps[0], str):
            return []
        if steps[0].startswith("%"):
            return [self.located(steps[0].upper(), path)]
        found = self.program.scope.find(steps[0].upper())
        if isinstance(found, PouSymbol):
            found = found.result_variable
        return [found if isinstance(found, Variable) else None]

    def _access_path(self, node: tree.Expr, root: Variable, inside: bool) -> tuple[str, Type] | None:
        steps = self._steps(node)
        if not inside:
            while len(steps) > 1 and isinstance(steps[0], str) and self._is_frame(steps[0]):
                steps = steps[1:]
            steps = steps[1:]
        t = self.variable_type(root)
        root.written = True
        instance = next((one.name for one in self.program.instances if one.init is root), "")
        name = instance or (root.name.removeprefix("__") if root.name.startswith("__%") else root.name)
        shown = f"{root.namespace}.{name}" if root.namespace else name
        for step in steps:
            if isinstance(step, tree.Index):
                indices = [self.constant_int(one) for one in step.indices]
                if not isinstance(t, ArrayType) or len(indices) != len(t.dims) or None in indices:
                    return None
                shown += f"[{','.join(str(i) for i in indices)}]"
                t = t.element
            elif isinstance(t, BlockType) and isinstance(step, str):
                member = t.symbol.find_member(step.upper())
                if member is None:
                    return None
                member.written = True
                t, shown = self.variable_type(member), f"{shown}.{member.name}"
            elif isinstance(t, StructType) and isinstance(step, str) and step.upper() in t.fields:
                f = t.fields[step.upper()]
                t, shown = f.type, f"{shown}.{f.name}"
            else:
                return None
        return shown, t
