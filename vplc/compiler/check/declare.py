"""Declarations: POUs and globals into scopes, variables into POUs."""

from __future__ import annotations

from dataclasses import fields

from vplc.compiler import tree
from vplc.compiler.check.resolve import NamedType
from vplc.compiler.check.statements import Statements
from vplc.compiler.source import Span
from vplc.compiler.symbols import EnumValue, PouSymbol, Scope, Variable
from vplc.compiler.types import (
    BOOL,
    ERROR,
    ArrayType,
    BlockType,
    InterfaceType,
)

_KINDS = {
    "VAR": "local",
    "VAR_INPUT": "input",
    "VAR_OUTPUT": "output",
    "VAR_IN_OUT": "inout",
    "VAR_TEMP": "temp",
    "VAR_EXTERNAL": "external",
    "VAR_STAT": "static",
    "VAR_INST": "instance",
    "VAR_GLOBAL": "global",
}


class Declarations(Statements):
    def collect(self, unit: tree.Unit, library: bool) -> None:
        """Names of one file into the global scope; bodies are looked at later."""
        root = self.library_scope if library else self.program.scope
        for decl in unit.types:
            scope = self.file_scope(root, decl.namespace, decl.usings)
            named = NamedType(decl, scope)
            self.enter(root, decl.namespace, decl.name, named, decl, unit)  # type: ignore[arg-type]  # a late type
            self.named_types.append(named)
        for pou in unit.pous:
            self.collect_pou(pou, root, unit, library)
        for group in unit.globals:
            if group.list_name:
                self._lists.add(group.list_name.upper())
            if group.block.kind == "VAR_CONFIG":
                self.configs.append(group)
                continue
            self.collect_globals(group, root, library)

    _lists: set[str]
    named_types: list[NamedType]
    configs: list[tree.Globals]

    def file_scope(self, root: Scope, namespace: str, usings: tuple[str, ...]) -> Scope:
        key = (id(root), namespace.upper(), usings)
        scope = self._scopes.get(key)
        if scope is None:
            scope = self._scopes[key] = Scope(root, namespace, usings)
        return scope

    _scopes: dict[tuple[int, str, tuple[str, ...]], Scope]

    def enter(
        self,
        scope: Scope,
        namespace: str,
        name: str,
        symbol: Variable | PouSymbol,
        node: tree.VarDecl | tree.Pou | tree.TypeDecl,
        unit: tree.Unit | None = None,
        source: object = None,
    ) -> None:
        upper = name.upper()
        key = f"{namespace.upper()}.{upper}" if namespace else upper
        there = scope.names.get(key)
        if there is not None and not isinstance(there, EnumValue):
            src = unit.source if unit is not None else self.source
            self.diagnostics.error("E033", f"{name} is declared twice", Span(src, node.start, node.end))
            return
        scope.names[key] = symbol

    def collect_pou(self, pou: tree.Pou, root: Scope, unit: tree.Unit, library: bool) -> None:
        symbol = PouSymbol(pou.name, pou.kind, pou.source, pou, pou.namespace)
        symbol.abstract = "ABSTRACT" in pou.modifiers
        symbol.final = "FINAL" in pou.modifiers
        pragmas = [p.strip().lower() for p in pou.pragmas]
        external = any(p == "external" or p.startswith("external ") for p in pragmas)
        symbol.external = external and not pou.body
        if symbol.external and self.stands_in(symbol):
            return
        symbol.unchecked = library and any("unchecked" in p for p in pragmas)
        if pou.kind in ("FUNCTION_BLOCK", "CLASS", "PROGRAM"):
            symbol.type = BlockType(pou.name, symbol)
        elif pou.kind == "INTERFACE":
            symbol.interface = InterfaceType(pou.name, symbol)
        symbol.scope = Scope(self.file_scope(root, pou.namespace, pou.usings))
        if pou.kind == "PROGRAM":
            assert symbol.type is not None
            symbol.result_variable = Variable(
                pou.name,
                symbol.type,
                "program",
                None,
                None,
                pou.source,
                storage="static",
                scope=symbol.scope,
                init_done=True,
            )
        self.enter(root, pou.namespace, pou.name, symbol, pou, unit)
        if self.is_generic(symbol):
            return
        self.program.pous.append(symbol)
        for method in pou.methods:
            self.add_method(symbol, method)
        for action in pou.actions:
            one = PouSymbol(action.name, "ACTION", action.source, action, "", symbol)
            one.unchecked = symbol.unchecked
            one.scope = symbol.scope
            if action.name.upper() in symbol.actions:
                self.diagnostics.error(
                    "E033", f"action {action.name} is declared twice", Span(action.source, action.start, action.end)
                )
            symbol.actions[action.name.upper()] = one

    def stands_in(self, symbol: PouSymbol) -> bool:
        """Whether a prototype only repeats what the compiler or its library already has."""
        upper = symbol.name.upper()
        if symbol.kind == "FUNCTION":
            return self.is_intrinsic(upper) or isinstance(self.library_scope.names.get(upper), PouSymbol)
        known = self.library_scope.names.get(upper)
        if not isinstance(known, PouSymbol):
            return False
        ours = {d.name.upper() for b in known.tree.blocks if b.kind in ("VAR_INPUT", "VAR_OUTPUT") for d in b.decls}
        theirs = {d.name.upper() for b in symbol.tree.blocks if b.kind in ("VAR_INPUT", "VAR_OUTPUT") for d in b.decls}
        return theirs <= ours

    def add_method(self, symbol: PouSymbol, method: tree.Pou) -> PouSymbol:
        one = PouSymbol(method.name, "METHOD", method.source, method, "", symbol)
        one.abstract = "ABSTRACT" in method.modifiers or symbol.kind == "INTERFACE"
        one.final = "FINAL" in method.modifiers
        one.unchecked = symbol.unchecked
        one.scope = Scope(symbol.scope)
        if method.name.upper() in symbol.methods:
            self.diagnostics.error(
                "E033", f"method {method.name} is declared twice", Span(method.source, method.start, method.end)
            )
        symbol.methods[method.name.upper()] = one
        return one

    def collect_globals(self, group: tree.Globals, root: Scope, library: bool) -> None:
        scope = self.file_scope(root, group.namespace, group.usings)
        qualifiers = group.block.qualifiers
        for decl in group.block.decls:
            variable = Variable(
                decl.name,
                ERROR,
                "global",
                decl,
                None,
                group.source,
                storage="static",
                scope=scope,
                namespace=group.namespace,
                address=decl.address,
                init_expr=decl.init,
                cell="pending",
            )
            variable.retain = bool(qualifiers & {"RETAIN", "PERSISTENT"})
            variable.constant = "CONSTANT" in qualifiers
            variable.has_default = variable.constant
            saved, self.source = self.source, group.source
            there = root.names.get(decl.name.upper())
            if (
                isinstance(there, Variable)
                and not group.namespace
                and self.codesys
                and there.source is not None
                and there.source is not group.source
            ):
                self.warn("W033", f"{decl.name} is declared in several global lists; the first is taken", decl)
                self.source = saved
                continue
            self.enter(root, group.namespace, decl.name, variable, decl)
            self.source = saved
            self.program.globals.append(variable)

    # -- the inside of POUs --------------------------------------------------------------------------

    def declare(self, symbol: PouSymbol) -> None:
        """Variables, result and heritage of one POU and of its methods."""
        if symbol.declared:
            return
        symbol.declared = True
        pou = symbol.tree
        saved = (self.source, self.scope, self.pou)
        assert symbol.scope is not None
        self.source, self.scope, self.pou = symbol.source, symbol.scope, symbol
        self.heritage(symbol)
        if pou.result is not None:
            symbol.result = self.resolve(pou.result)
            if pou.kind in ("FUNCTION_BLOCK", "PROGRAM", "CLASS"):
                self.error("E021", f"a {pou.kind} has no result type", pou.result, "declare outputs in VAR_OUTPUT")
                symbol.result = None
            else:
                result = Variable(pou.name, symbol.result, "result", None, symbol, symbol.source, scope=symbol.scope)
                inherited = self.default_of(pou.result, symbol.scope, symbol.source)
                if inherited is not None:
                    result.init_expr = inherited[0]
                else:
                    result.init_done = True
                symbol.result_variable = result
                symbol.variables[pou.name.rpartition(".")[2].upper()] = result
        for block in pou.blocks:
            self.declare_block(symbol, block)
        self.implicit_eno(symbol)
        for one in list(symbol.methods.values()):
            self.declare(one)
        for prop in pou.properties:
            self.declare_property(symbol, prop)
        self.source, self.scope, self.pou = saved

    def heritage(self, symbol: PouSymbol) -> None:
        pou = symbol.tree
        for names, into, wanted in (
            (pou.extends, symbol.extends, None),
            (pou.implements, symbol.implements, "INTERFACE"),
        ):
            for name in names:
                node = tree.Name(pou.start, pou.end, name)
                found = self.lookup(name)
                if found is None and self.codesys and "." in name:
                    # A library's name before the block's: text files do not carry libraries.
                    found = self.lookup(name.rpartition(".")[2])
                if found is None and self.codesys and name.upper() == "__SYSTEM.IQUERYINTERFACE":
                    continue  # every interface can be asked here
                if not isinstance(found, PouSymbol):
                    self.error("E062", f'"{name}" is unknown', node)
                    continue
                want = wanted or ("INTERFACE" if pou.kind == "INTERFACE" else None)
                ok = found.kind == want if want else found.kind in ("FUNCTION_BLOCK", "CLASS")
                if not ok:
                    self.error(
                        "E062",
                        f"{name} is a {found.kind}",
                        node,
                        "EXTENDS takes function blocks and classes, IMPLEMENTS interfaces",
                    )
                    continue
                if found.final and into is symbol.extends:
                    self.error("E065", f"{name} is FINAL and cannot be extended", node)
                self.declare(found)
                if any(b is symbol for b in found.bases()):
                    self.error("E061", f"{symbol.name} extends itself", node)
                    continue
                into.append(found)
        if len(symbol.extends) > 1 and symbol.kind != "INTERFACE":
            self.error("E062", f"{symbol.name} extends more than one block", tree.Name(pou.start, pou.end, ""))
            del symbol.extends[1:]

    def declare_block(self, symbol: PouSymbol, block: tree.VarBlock) -> None:
        kind = _KINDS.get(block.kind, "local")
        if symbol.kind == "TEST" and kind == "temp":
            kind = "local"
        retain = bool(block.qualifiers & {"RETAIN", "PERSISTENT"})
        constant = "CONSTANT" in block.qualifiers
        for decl in block.decls:
            if isinstance(decl.type, tree.VariadicRef):
                symbol.variadic = True
                continue
            upper = decl.name.upper()
            if upper in symbol.variables:
                self.error("E033", f"{decl.name} is declared twice in {symbol.name}", decl)
                continue
            if kind == "external":
                self.external(symbol, decl)
                continue
            variable = Variable(
                decl.name,
                ERROR,
                kind,
                decl,
                symbol,
                symbol.source,
                scope=symbol.scope,
                retain=retain,
                constant=constant,
                by_ref=block.by_ref,
                init_expr=decl.init,
                address=decl.address,
                edge=decl.edge,
                cell="pending",
            )
            if kind in ("local", "temp") and constant:
                variable.has_default = True
            t = self.variable_type(variable)
            if isinstance(t, BlockType) and t.symbol.abstract and kind != "inout":
                self.error("E064", f"{t.name} is ABSTRACT and has no instances", decl.type)
            if isinstance(t, BlockType) and symbol.kind == "FUNCTION" and kind == "local" and not self.codesys:
                self.error(
                    "E018",
                    f"a FUNCTION has no memory for an instance of {t.name}",
                    decl.type,
                    "make it a FUNCTION_BLOCK, or pass the instance as VAR_IN_OUT",
                )
            if isinstance(t, BlockType) and constant and not self.codesys and kind != "inout":
                self.error("E044", f"{decl.name} is CONSTANT: an instance of {t.name} changes when it runs", decl)
            if kind == "instance":
                self.instance_variable(symbol, variable)
                continue
            if kind == "static" or (constant and kind == "local"):
                variable.storage = "static"
                self.program.statics.append(variable)
            symbol.variables[upper] = variable
            if kind in ("input", "output", "inout"):
                symbol.params.append(variable)
            if variable.edge:
                self.edge_variables(symbol, variable)
            elif kind == "inout" and decl.init is not None:
                self.error("E044", f"{decl.name} is VAR_IN_OUT and has no initial value", decl)

    def implicit_eno(self, symbol: PouSymbol) -> None:
        """A body that names ENO has it as an output, TRUE at the beginning of each call."""
        if symbol.kind not in ("FUNCTION", "METHOD", "FUNCTION_BLOCK") or "ENO" in symbol.variables:
            return
        if not symbol.source.has_word("ENO") or not names_eno(symbol.tree.body):
            return
        eno = Variable("ENO", BOOL, "output", owner=symbol, source=symbol.source, scope=symbol.scope)
        eno.value, eno.init, eno.init_done = None, 1, True
        symbol.variables["ENO"] = eno
        symbol.params.append(eno)

    def instance_variable(self, symbol: PouSymbol, variable: Variable) -> None:
        """VAR_INST of a method lives in the instance."""
        owner = symbol.owner or symbol
        hidden = f"__{symbol.name.upper()}_{variable.name.upper()}"
        variable.kind = "local"
        variable.owner = owner
        owner.variables[hidden] = variable
        symbol.variables[variable.name.upper()] = variable

    def edge_variables(self, symbol: PouSymbol, variable: Variable) -> None:
        for prefix in ("__RAW_", "__OLD_"):
            hidden = Variable(
                prefix + variable.name, BOOL, "local", None, symbol, symbol.source, scope=symbol.scope, init_done=True
            )
            if prefix == "__OLD_" and variable.edge == "F_EDGE":
                pass
            symbol.variables[hidden.name.upper()] = hidden

    def external(self, symbol: PouSymbol, decl: tree.VarDecl) -> None:
        upper = decl.name.upper()
        found = self.lookup(upper, symbol.scope.outer if symbol.scope else None)
        if not isinstance(found, Variable):
            root = self.program.scope
            found = Variable(
                decl.name,
                ERROR,
                "global",
                decl,
                None,
                symbol.source,
                storage="static",
                scope=symbol.scope,
                cell="pending",
                init_expr=decl.init,
                address=decl.address,
            )
            root.names[upper] = found
            self.program.globals.append(found)
            self.warn("W030", f"no VAR_GLOBAL declares {decl.name}; it is made from this VAR_EXTERNAL", decl)
        elif found.kind == "global":
            from vplc.compiler.types import StringType, same

            have, want = self.variable_type(found), self.resolve(decl.type)
            loose = isinstance(have, StringType) and isinstance(want, StringType)
            if not same(have, want) and not loose and not (isinstance(want, ArrayType) and not want.dims):
                self.error("E040", f"VAR_GLOBAL {found.name} is {have.name}, not {want.name}", decl.type)
        symbol.variables[upper] = found

    def declare_property(self, symbol: PouSymbol, prop: tree.Property) -> None:
        t = self.resolve(prop.type)
        accessors: list[PouSymbol | None] = []
        for which, accessor in (("GET", prop.getter), ("SET", prop.setter)):
            if accessor is None:
                accessors.append(None)
                continue
            method = self.add_method(symbol, accessor)
            method.declared = True
            saved = (self.scope, self.pou)
            assert method.scope is not None
            self.scope, self.pou = method.scope, method
            value = Variable(
                prop.name,
                t,
                "result" if which == "GET" else "input",
                None,
                method,
                method.source,
                scope=method.scope,
                init_done=True,
            )
            method.variables[prop.name.upper()] = value
            if which == "GET":
                method.result, method.result_variable = t, value
            else:
                method.params.append(value)
            for block in accessor.blocks:
                self.declare_block(method, block)
            self.scope, self.pou = saved
            accessors.append(method)
        symbol.properties[prop.name.upper()] = (t, accessors[0], accessors[1])


def names_eno(node: object) -> bool:
    """Whether ENO is used as a variable anywhere in a body; in a call it is the callee's."""
    if isinstance(node, list):
        return any(names_eno(one) for one in node)
    if isinstance(node, tuple):
        return any(names_eno(one) for one in node)
    if isinstance(node, tree.Name):
        return node.name.upper() == "ENO"
    if isinstance(node, (tree.Expr, tree.Stmt, tree.Argument)):
        return any(names_eno(getattr(node, f.name)) for f in fields(node))
    return False
