"""Program organisation units, type blocks, configurations, tests: the top level of a file."""

from __future__ import annotations

from vplc.compiler import tree
from vplc.compiler.lexer import tokenize
from vplc.compiler.parser.conditional import select
from vplc.compiler.parser.cursor import SYNC_DECLARATION, SyntaxProblemError
from vplc.compiler.parser.types import VAR_KINDS, TypeParser
from vplc.compiler.source import Diagnostics, Source, Span, nearest

_MODIFIERS = frozenset({"PUBLIC", "PRIVATE", "PROTECTED", "INTERNAL", "FINAL", "ABSTRACT", "OVERRIDE"})
_TOP = frozenset(
    [
        "FUNCTION",
        "FUNCTION_BLOCK",
        "FUNCTIONBLOCK",
        "PROGRAM",
        "TYPE",
        "VAR_GLOBAL",
        "CLASS",
        "INTERFACE",
        "CONFIGURATION",
        "NAMESPACE",
        "ACTIONS",
        "ACTION",
        "METHOD",
        "PROPERTY",
        "VAR_CONFIG",
        "RESOURCE",
        "EOF",
    ]
)
_TOP_WORDS = [
    "FUNCTION",
    "FUNCTION_BLOCK",
    "PROGRAM",
    "TYPE",
    "VAR_GLOBAL",
    "CONFIGURATION",
    "INTERFACE",
    "NAMESPACE",
    "CLASS",
]


def parse(source: Source, diagnostics: Diagnostics) -> tree.Unit:
    """The syntax tree of one file. Never raises: what is wrong is in `diagnostics`."""
    tokens = select(source, tokenize(source, diagnostics), diagnostics)
    parser = FileParser(source, tokens, diagnostics)
    unit = tree.Unit(source)
    parser.unit = unit
    stuck = -1
    while True:
        try:
            parser.top(())
            break
        except SyntaxProblemError:
            parser.depth = 0
            if parser.at == stuck:
                parser.advance()
            stuck = parser.at
            parser.skip_to(_TOP)
            if parser.kind == "EOF":
                break
    return unit


class FileParser(TypeParser):
    unit: tree.Unit
    namespace = ""
    usings: tuple[str, ...] = ()

    def top(self, closers: tuple[str, ...]) -> None:
        unit = self.unit
        while self.kind != "EOF" and self.kind not in closers:
            kind = self.kind
            if kind == ";":
                self.advance()
            elif kind == "@":
                self.advance()
                self.pragmas.append(self.name("an annotation").text.lower())
            elif kind in ("FUNCTION", "FUNCTION_BLOCK", "FUNCTIONBLOCK", "PROGRAM", "CLASS", "INTERFACE"):
                unit.pous.append(self.pou())
            elif kind == "TYPE":
                self.type_block()
            elif kind == "VAR_ACCESS":
                self.access_block()
            elif kind in ("VAR_GLOBAL", "VAR_CONFIG", "VAR_EXTERNAL", "VAR"):
                pragmas = self.take_pragmas()
                block = self.var_block()
                name = next((p for p in pragmas if p.startswith("list:")), "")
                unit.globals.append(tree.Globals(block, self.source, self.namespace, self.usings, name[5:].strip()))
            elif kind in ("CONFIGURATION", "RESOURCE"):
                self.configuration()
            elif kind == "NAMESPACE":
                self.namespace_block()
            elif kind == "ACTIONS":
                self.actions_block()
            elif kind == "ACTION" and unit.pous:
                unit.pous[-1].actions.append(self.action(unit.pous[-1]))
            elif kind == "METHOD" and unit.pous:
                unit.pous[-1].methods.append(self.method(unended=True))
            elif kind == "PROPERTY" and unit.pous:
                unit.pous[-1].properties.append(self.property())
            elif kind == "ID" and self.token.upper == "USING":
                self.using()
            elif kind == "ID" and self.token.upper == "TEST" and self.peek().kind in ("STR", "WSTR"):
                unit.tests.append(self.test())
            elif kind == "ID" and self.token.upper in ("SETUP", "TEARDOWN"):
                self.fixture()
            elif kind == "ID" and self.token.upper in _MODIFIERS:
                self.advance()
            elif kind in ("END_FUNCTION", "END_FUNCTION_BLOCK", "END_PROGRAM"):
                raise self.fail("E016", f"{self.token.text} without a beginning")
            else:
                hint = nearest(self.token.text, _TOP_WORDS) if kind == "ID" else ""
                raise self.fail(
                    "E021",
                    f"expected a declaration, found {self.shown()}",
                    hint or "a file holds FUNCTION, FUNCTION_BLOCK, PROGRAM, TYPE, VAR_GLOBAL, ...",
                )

    # -- POUs --------------------------------------------------------------------------------------

    def modifiers(self) -> frozenset[str]:
        found = set()
        while self.kind == "ID" and self.token.upper in _MODIFIERS and self.peek().kind in ("ID", "METHOD", "PROPERTY"):
            found.add(self.advance().upper)
        return frozenset(found)

    def pou(self) -> tree.Pou:
        pragmas = self.take_pragmas()
        opener = self.advance()
        kind = "FUNCTION_BLOCK" if opener.kind == "FUNCTIONBLOCK" else opener.kind
        modifiers = self.modifiers()
        token = self.name(f"the name of the {kind}")
        name = token.text
        while self.kind == "." and self.peek().kind == "ID":
            self.advance()
            name += "." + self.advance().text
        pou = tree.Pou(
            token.start,
            token.end,
            kind,
            name,
            self.source,
            modifiers=modifiers,
            pragmas=pragmas,
            namespace=self.namespace,
            usings=self.usings,
        )
        if self.kind == "<":
            self.type_parameters(pou)
        self.heritage(pou)
        if self.accept(":"):
            pou.result = self.type_ref()
        self.accept(";")
        closer = "END_" + kind
        self.pou_body(pou, (closer, "END_FUNCTIONBLOCK"))
        if self.kind in (closer, "END_FUNCTIONBLOCK"):
            self.advance()
        else:
            self.unclosed(closer, kind, opener.start)
        return pou

    def type_parameters(self, pou: tree.Pou) -> None:
        """`FUNCTION f<T : ANY_NUM, U : ANY> : T`"""
        start = self.advance().start
        while True:
            name = self.name("the name of a type parameter")
            self.expect(":")
            pou.generics[name.upper] = self.name("ANY, ANY_NUM, ...").upper
            if not self.accept(","):
                break
        self.expect(">")
        if pou.kind != "FUNCTION":
            span = Span(self.source, start, self.previous.end)
            self.diagnostics.error("E014", f"a {pou.kind} has no type parameters", span, "write one for each type")

    def heritage(self, pou: tree.Pou) -> None:
        while self.is_word("EXTENDS", "IMPLEMENTS"):
            into = pou.extends if self.advance().upper == "EXTENDS" else pou.implements
            while True:
                name = self.name("a name").text
                while self.accept("."):
                    name += "." + self.name("a name").text
                into.append(name)
                if not self.accept(","):
                    break

    def pou_body(self, pou: tree.Pou, closers: tuple[str, ...]) -> None:
        while True:
            kind = self.kind
            if kind == "VAR_ACCESS":
                self.access_block(pou.name if pou.kind == "PROGRAM" else "")
            elif kind in VAR_KINDS and kind != "VAR_GLOBAL":
                pou.blocks.append(self.var_block())
            elif kind == "VAR_GLOBAL" and pou.kind in ("PROGRAM", "FUNCTION_BLOCK"):
                self.unit.globals.append(tree.Globals(self.var_block(), self.source, self.namespace, self.usings))
            elif kind == "METHOD" and pou.kind == "METHOD":
                return
            elif kind == "METHOD":
                pou.methods.append(self.method(pou.kind == "INTERFACE"))
            elif kind == "PROPERTY":
                pou.properties.append(self.property(pou.kind == "INTERFACE"))
            elif kind == "ACTION":
                pou.actions.append(self.action(pou))
            elif kind == "ID" and self.token.upper in _MODIFIERS and self.peek().kind in ("METHOD", "PROPERTY"):
                self.advance()
            elif self.is_word("PROPERTY_GET", "PROPERTY_SET") and self.peek().kind == "ID":
                self.accessor(pou)
            elif kind == "ID" and self.token.upper == "USING" and self.peek().kind == "ID":
                self.using()
                pou.usings = self.usings
            elif kind == "END_VAR":
                self.fail("E016", "END_VAR without VAR")
                self.advance()
            elif kind in closers or kind in _TOP:
                return
            else:
                here = self.at
                pou.body.extend(self.statements())
                if self.at == here:
                    if self.kind.startswith("END_") or self.kind in ("ELSE", "ELSIF", "UNTIL"):
                        if self.kind in (
                            "END_FUNCTION",
                            "END_FUNCTION_BLOCK",
                            "END_PROGRAM",
                            "END_TYPE",
                            "END_CONFIGURATION",
                            "END_NAMESPACE",
                            "END_METHOD",
                        ):
                            return
                        self.fail("E016", f"{self.token.text} without a beginning")
                        self.advance()
                    else:
                        return

    def method(self, prototype: bool = False, unended: bool = False) -> tree.Pou:
        """`unended`: a method behind its block, as CODESYS' own files have it, may end with the next declaration."""
        pragmas = self.take_pragmas()
        opener = self.advance()
        modifiers = self.modifiers()
        token = self.name("the name of the method")
        method = tree.Pou(
            token.start,
            token.end,
            "METHOD",
            token.text,
            self.source,
            modifiers=modifiers,
            pragmas=pragmas,
            namespace=self.namespace,
            usings=self.usings,
        )
        while self.accept("."):
            method.name = self.name("the name of the method").text
        if self.accept(":"):
            method.result = self.type_ref()
        self.accept(";")
        self.pou_body(method, ("END_METHOD",))
        if self.kind == "END_METHOD":
            self.advance()
        elif not prototype and not (unended and self.kind in _TOP):
            self.unclosed("END_METHOD", "METHOD", opener.start)
        return method

    def property(self, prototype: bool = False) -> tree.Property:
        start = self.advance().start
        modifiers = self.modifiers()
        name = self.name("the name of the property")
        self.expect(":")
        ref = self.type_ref()
        self.accept(";")
        getter: tree.Pou | None = None
        setter: tree.Pou | None = None
        while self.kind == "ID" or self.kind in VAR_KINDS:
            self.modifiers()
            if self.is_word("GET", "SET"):
                word = self.advance()
                accessor = tree.Pou(
                    word.start,
                    word.end,
                    "METHOD",
                    f"__{word.upper}_{name.text}",
                    self.source,
                    modifiers=modifiers,
                    namespace=self.namespace,
                    usings=self.usings,
                )
                self.accept(";")
                if not prototype or self.kind in ("END_GET", "END_SET", "VAR"):
                    self.pou_body(accessor, ("END_GET", "END_SET"))
                    if self.kind in ("END_GET", "END_SET"):
                        self.advance()
                        self.accept(";")
                if word.upper == "GET":
                    getter = accessor
                else:
                    setter = accessor
            else:
                break
        if prototype and getter is None and setter is None:
            getter = tree.Pou(start, name.end, "METHOD", f"__GET_{name.text}", self.source, modifiers=modifiers)
        if self.kind == "END_PROPERTY":
            self.advance()
        elif not prototype:
            self.unclosed("END_PROPERTY", "PROPERTY", start)
        return tree.Property(start, self.previous.end, name.text, ref, modifiers, getter, setter)

    def accessor(self, pou: tree.Pou) -> None:
        """`PROPERTY_GET name : type ... END_PROPERTY`: half a property; a second one of the same name joins it."""
        word = self.advance()
        modifiers = self.modifiers()
        name = self.name("the name of the property")
        self.expect(":")
        ref = self.type_ref()
        self.accept(";")
        kind = word.upper.removeprefix("PROPERTY_")
        half = tree.Pou(
            word.start,
            word.end,
            "METHOD",
            f"__{kind}_{name.text}",
            self.source,
            modifiers=modifiers,
            namespace=self.namespace,
            usings=self.usings,
        )
        self.pou_body(half, ("END_PROPERTY",))
        if self.kind == "END_PROPERTY":
            self.advance()
        elif pou.kind != "INTERFACE":
            self.unclosed("END_PROPERTY", word.text, word.start)
        whole = next((p for p in pou.properties if p.name.upper() == name.upper), None)
        if whole is None:
            whole = tree.Property(word.start, self.previous.end, name.text, ref, modifiers, None, None)
            pou.properties.append(whole)
        if kind == "GET":
            whole.getter = half
        else:
            whole.setter = half

    def action(self, owner: tree.Pou | None) -> tree.Pou:
        opener = self.advance()
        token = self.name("the name of the action")
        action = tree.Pou(
            token.start, token.end, "ACTION", token.text, self.source, namespace=self.namespace, usings=self.usings
        )
        while self.accept("."):
            action.name = self.name("the name of the action").text
        self.accept(":")
        action.body = self.statements()
        if self.kind == "END_ACTION":
            self.advance()
            self.accept(";")
        else:
            self.unclosed("END_ACTION", "ACTION", opener.start)
        return action

    def actions_block(self) -> None:
        self.advance()
        owner: tree.Pou | None = self.unit.pous[-1] if self.unit.pous else None
        if self.kind == "ID":
            token = self.advance()
            self.accept(":")
            owner = next((p for p in self.unit.pous if p.name.upper() == token.upper), owner)
        while self.kind == "ACTION":
            action = self.action(owner)
            if owner is not None:
                owner.actions.append(action)
        self.expect("END_ACTIONS")

    # -- types, namespaces, configurations ---------------------------------------------------------

    def type_block(self) -> None:
        opener = self.advance()
        pragmas = self.take_pragmas()
        while self.kind not in ("END_TYPE", "EOF"):
            if self.accept(";"):
                continue
            if self.kind in _TOP or self.kind.startswith("END_"):
                break
            here = self.at
            try:
                while self.kind == "ID" and self.token.upper in ("PUBLIC", "INTERNAL") and self.peek().kind == "ID":
                    self.advance()
                name = self.name("the name of a type")
                base = ""
                if self.accept_word("EXTENDS"):
                    base = self.name("a structure").text
                    while self.accept("."):
                        base += "." + self.name("a structure").text
                self.expect(":")
                ref = self.type_ref()
                if base and isinstance(ref, tree.StructRef):
                    ref.base = base
                init = self.initial_value() if self.accept(":=") else None
                if (
                    self.kind != ";"
                    and self.previous.kind not in ("END_STRUCT", "END_UNION")
                    and self.kind != "END_TYPE"
                ):
                    self.expect(";")
                pragmas += self.take_pragmas()
                self.unit.types.append(
                    tree.TypeDecl(
                        name.start, name.end, name.text, ref, init, self.source, self.namespace, self.usings, pragmas
                    )
                )
            except SyntaxProblemError:
                self.depth = 0
                self.skip_to(_TOP | {";", "END_TYPE"})
                if self.at == here:
                    self.advance()
        if self.kind == "END_TYPE":
            self.advance()
        else:
            self.unclosed("END_TYPE", "TYPE", opener.start)

    def using(self) -> None:
        self.advance()
        while True:
            name = self.name("a namespace").text
            while self.accept("."):
                name += "." + self.name("a namespace").text
            self.usings = (*self.usings, name.upper())
            if not self.accept(","):
                break
        self.accept(";")

    def namespace_block(self) -> None:
        start = self.advance().start
        self.modifiers()
        if self.is_word("INTERNAL"):
            self.advance()
        name = self.name("the name of the namespace").text
        while self.accept("."):
            name += "." + self.name("the name of the namespace").text
        outer, usings = self.namespace, self.usings
        self.namespace = f"{outer}.{name}" if outer else name
        self.top(("END_NAMESPACE",))
        self.namespace, self.usings = outer, usings
        if self.kind == "END_NAMESPACE":
            self.advance()
        else:
            self.unclosed("END_NAMESPACE", "NAMESPACE", start)

    def configuration(self) -> None:
        opener = self.advance()
        name = self.name("the name of the configuration").text
        config = tree.Configuration(name, self.source)
        if self.accept_word("ON"):
            self.name("a resource type")
        if self.accept("("):
            while self.kind not in (")", "EOF"):
                self.advance()
            self.accept(")")
        self.unit.configurations.append(config)
        closer = "END_" + opener.kind
        open_resources = 0
        while True:
            kind = self.kind
            if kind == closer and not open_resources:
                self.advance()
                return
            if kind == "END_RESOURCE":
                open_resources -= 1
                self.advance()
            elif kind == ";":
                self.advance()
            elif kind == "RESOURCE":
                self.advance()
                config.resource = self.name("the name of the resource").text
                if self.accept_word("ON"):
                    self.name("a resource type")
                open_resources += 1
            elif kind == "VAR_ACCESS":
                self.access_block()
            elif kind in VAR_KINDS:
                block = self.var_block()
                if block.kind in ("VAR_GLOBAL", "VAR_CONFIG"):
                    self.unit.globals.append(tree.Globals(block, self.source))
            elif kind == "ID" and self.token.upper == "TASK":
                config.tasks.append(self.task())
            elif kind == "PROGRAM":
                config.instances.append(self.instance())
            else:
                self.unclosed(closer, opener.kind, opener.start)
                raise SyntaxProblemError

    def access_block(self, program: str = "") -> None:
        """`VAR_ACCESS name : path : type READ_ONLY; END_VAR`: names for the outside."""
        opener = self.advance()
        while self.kind not in SYNC_DECLARATION - {";"}:
            if self.accept(";"):
                continue
            here = self.at
            try:
                name = self.name("a name for the access path")
                self.expect(":")
                path = self.postfix(self.primary())
                self.expect(":")
                ref = self.type_ref()
                writable = self.is_word("READ_WRITE")
                self.accept_word("READ_WRITE", "READ_ONLY")
                self.expect(";")
                self.unit.accesses.append(
                    tree.Access(name.start, name.end, name.text, path, ref, writable, self.source, program)
                )
            except SyntaxProblemError:
                self.depth = 0
                self.skip_to(SYNC_DECLARATION)
                if self.at == here:
                    self.advance()
        if self.kind == "END_VAR":
            self.advance()
        else:
            self.unclosed("END_VAR", "VAR_ACCESS", opener.start)

    def task(self) -> tree.Task:
        start = self.advance().start
        name = self.name("the name of the task").text
        options: dict[str, tree.Expr] = {}
        if self.accept("("):
            while self.kind != ")":
                word = self.name("INTERVAL, SINGLE or PRIORITY")
                self.expect(":=")
                options[word.upper] = self.expression()
                if not self.accept(","):
                    break
            self.expect(")")
        self.expect(";")
        return tree.Task(start, name, options)

    def instance(self) -> tree.Instance:
        start = self.advance().start
        if self.is_word("RETAIN", "NON_RETAIN") and self.peek().kind == "ID":
            self.advance()
        name = self.name("the name of the program instance").text
        task = ""
        if self.accept_word("WITH"):
            task = self.name("the name of the task").text
        self.expect(":")
        type_name = self.name("the name of a program").text
        while self.accept("."):
            type_name += "." + self.name("the name of a program").text
        args = self.arguments() if self.kind == "(" else []
        self.expect(";")
        return tree.Instance(start, name, task, type_name, args)

    # -- tests -------------------------------------------------------------------------------------

    def test(self) -> tree.Pou:
        opener = self.advance()
        title = self.advance()
        test = tree.Pou(opener.start, title.end, "TEST", title.upper, self.source)
        self.test_body(test, "END_TEST", opener.start)
        return test

    def test_body(self, test: tree.Pou, closer: str, start: int) -> None:
        while self.kind in VAR_KINDS:
            test.blocks.append(self.var_block())
        test.body = self.statements()
        while self.kind in VAR_KINDS:
            test.blocks.append(self.var_block())
            test.body.extend(self.statements())
        if self.kind == closer:
            self.advance()
            self.accept(";")
        else:
            self.unclosed(closer, closer.removeprefix("END_"), start)
            raise SyntaxProblemError

    def fixture(self) -> None:
        opener = self.advance()
        pou = tree.Pou(opener.start, opener.end, "TEST", opener.upper, self.source)
        self.test_body(pou, "END_" + opener.upper, opener.start)
        if opener.upper == "SETUP":
            self.unit.setup = pou
        else:
            self.unit.teardown = pou
