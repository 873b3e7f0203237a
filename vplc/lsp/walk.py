"""One pass over a file's tokens: what every name stands for, the outline, and what surrounds the cursor.

It goes by tokens, not by the syntax tree, so that half-typed text is no special case: what cannot be resolved is
left out, and the pass goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vplc.compiler.lexer import Token
from vplc.compiler.parser.types import VAR_KINDS
from vplc.compiler.source import Source
from vplc.compiler.symbols import PouSymbol, Scope
from vplc.compiler.types import EnumType, PointerType, StructType, Type
from vplc.lsp.names import Entity, Names, Place, element, through

_POUS = frozenset({"FUNCTION", "FUNCTION_BLOCK", "FUNCTIONBLOCK", "PROGRAM", "CLASS", "INTERFACE"})
_MEMBERS = frozenset({"METHOD", "PROPERTY", "ACTION"})
_ENDS = frozenset({"END_FUNCTION", "END_FUNCTION_BLOCK", "END_FUNCTIONBLOCK", "END_PROGRAM", "END_CLASS"}) | {
    "END_INTERFACE",
    "END_METHOD",
    "END_PROPERTY",
    "END_ACTION",
    "END_ACTIONS",
    "END_NAMESPACE",
    "END_CONFIGURATION",
    "END_RESOURCE",
    "END_TYPE",
    "END_TEST",
    "END_SETUP",
    "END_TEARDOWN",
    "END_VAR",
    "END_STRUCT",
    "END_UNION",
    "END_GET",
    "END_SET",
}
_MODIFIERS = frozenset({"PUBLIC", "PRIVATE", "PROTECTED", "INTERNAL", "FINAL", "ABSTRACT", "OVERRIDE"})
_QUALIFIERS = frozenset({"CONSTANT", "RETAIN", "NON_RETAIN", "PERSISTENT"}) | _MODIFIERS
_AFTER_NAME = frozenset({":=", "=>", "?=", "=", "(", ".", "[", "^", ";", ":", ",", ")"})
_ASSIGNS = frozenset({":=", "=>", "?="})


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One place where an entity is named."""

    start: int
    end: int
    entity: Entity
    definition: bool = False
    written: bool = False


@dataclass(slots=True)
class Block:
    """A part of the outline; `kind` is the opening word, or VARIABLE, FIELD, VALUE."""

    kind: str
    name: str
    start: int
    end: int
    name_start: int
    name_end: int
    detail: str = ""
    children: list[Block] = field(default_factory=list)


@dataclass(slots=True)
class Frame:
    """An open bracket: the callee of `f(`, the base of `a[`, or the type that a value in brackets should have."""

    sign: str
    callee: Entity | None
    base: Type | None
    expected: Type | None
    start: int
    index: int = 0
    named: Entity | None = None
    values: bool = False


@dataclass(slots=True)
class Walk:
    """What the pass found; the last four describe the place where the tokens end."""

    occurrences: list[Occurrence]
    outline: list[Block]
    place: Place
    frames: list[Frame]
    current: tuple[Entity | None, Type | None]
    mode: str


def walk(names: Names, source: Source, tokens: list[Token]) -> Walk:
    """`tokens` without EOF; they may end anywhere."""
    return _Walker(names, source, tokens).run()


class _Walker:
    def __init__(self, names: Names, source: Source, tokens: list[Token]) -> None:
        self.names = names
        self.source = source
        self.tokens = [t for t in tokens if t.kind not in ("PRAGMA", "EOF")]
        self.found: list[Occurrence] = []
        self.root = Block("FILE", source.name, 0, len(source.text), 0, 0)
        self.stack: list[Block] = [self.root]
        self.place = Place(scope=names.root)
        self.frames: list[Frame] = []
        self.entity: Entity | None = None
        self.type: Type | None = None
        self.expected: Type | None = None
        self.mode = "code"  # code, name (of a declaration), type, value (of a declaration)
        self.declared: list[Entity] = []
        self.namespace = ""
        self.usings: tuple[str, ...] = ()
        self.tests = 0
        self.owner: Type | None = None  # of the fields or enumeration values that are being declared
        self.owners: list[Type | None] = []

    def run(self) -> Walk:
        at = 0
        while at < len(self.tokens):
            at = self.step(at)
        for block in self.stack:
            block.end = max(block.end, self.tokens[-1].end if self.tokens else 0)
        return Walk(self.found, self.root.children, self.place, self.frames, (self.entity, self.type), self.mode)

    # -- helpers ---------------------------------------------------------------------------------------

    def kind(self, at: int) -> str:
        return self.tokens[at].kind if 0 <= at < len(self.tokens) else "EOF"

    def note(self, token: Token, entity: Entity | None, definition: bool = False, written: bool = False) -> None:
        if entity is not None and entity.kind != "self":
            self.found.append(Occurrence(token.start, token.end, entity, definition, written))

    def reset(self) -> None:
        self.frames.clear()
        self.entity = self.type = self.expected = None

    def open(self, kind: str, name: str, start: int, token: Token | None, detail: str = "") -> Block:
        name_start, name_end = (token.start, token.end) if token is not None else (start, start + len(kind))
        block = Block(kind, name, start, name_end, name_start, name_end, detail)
        self.stack[-1].children.append(block)
        self.stack.append(block)
        return block

    def leaf(self, kind: str, token: Token, detail: str = "") -> None:
        self.stack[-1].children.append(Block(kind, token.text, token.start, token.end, token.start, token.end, detail))

    def shut(self, kinds: frozenset[str] | tuple[str, ...], end: int) -> None:
        """Closes the innermost block of one of `kinds` and all that is still open inside it."""
        for depth in range(len(self.stack) - 1, 0, -1):
            if self.stack[depth].kind in kinds:
                for block in self.stack[depth:]:
                    block.end = max(block.end, end)
                del self.stack[depth:]
                return

    def inside(self) -> str:
        return self.stack[-1].kind

    def scope(self) -> Scope:
        return Scope(self.names.root, self.namespace, self.usings)

    # -- one token -------------------------------------------------------------------------------------

    def step(self, at: int) -> int:
        token = self.tokens[at]
        kind = token.kind
        after_dot = self.kind(at - 1) == "."
        named = self.kind(at + 1) in _ASSIGNS and bool(self.frames)
        if not after_dot and not named:
            if kind in _POUS and not (kind == "PROGRAM" and self.inside() in ("CONFIGURATION", "RESOURCE")):
                return self.pou(at)
            if kind in _MEMBERS:
                return self.member(at)
            if kind in VAR_KINDS:
                return self.variables(at)
            if kind in ("STRUCT", "UNION") and self.mode == "type":
                self.open(kind, kind, token.start, None)
                self.owners.append(self.owner)
                self.owner = self.declared_struct()
                self.mode = "name"
                return at + 1
            if kind == "TYPE":
                self.reset()
                self.leave(token.start)
                self.open("TYPE", "TYPE", token.start, None)
                self.mode = "name"
                return at + 1
            if kind in ("NAMESPACE", "CONFIGURATION", "RESOURCE", "ACTIONS"):
                return self.container(at)
            if kind in _ENDS:
                return self.end(at)
            if kind == "ID":
                done = self.context_word(at)
                if done:
                    return done
        if kind == ";":
            self.reset()
            if self.mode != "code":
                self.mode = "name"
            return at + 1
        if self.mode == "name":
            return self.declaration_name(at)
        if self.mode == "type":
            return self.type_token(at)
        self.expression(at, after_dot)
        return at + 1

    def context_word(self, at: int) -> int:
        """Words that are keywords only here; 0 when this is none of them."""
        token = self.tokens[at]
        upper = token.upper
        follow = self.kind(at + 1)
        if upper == "TEST" and follow in ("STR", "WSTR"):
            self.leave(token.start)
            title = self.tokens[at + 1]
            self.open("TEST", title.upper, token.start, title)
            self.enter_test(self.tests)
            self.tests += 1
            return at + 2
        if upper in ("SETUP", "TEARDOWN") and self.mode == "code" and follow not in _AFTER_NAME:
            self.leave(token.start)
            self.open(upper, upper, token.start, token)
            self.enter_test(0)
            return at + 1
        if upper == "USING" and follow == "ID" and self.mode == "code":
            at += 1
            name = ""
            while self.kind(at) in ("ID", ".", ","):
                if self.kind(at) == ",":
                    self.usings = (*self.usings, name.upper())
                    name = ""
                else:
                    name += self.tokens[at].text
                at += 1
            self.usings = (*self.usings, name.upper())
            self.place.scope = self.scope()
            return at
        if upper in ("GET", "SET") and self.inside() == "PROPERTY" and follow not in (*_ASSIGNS, ".", "("):
            self.open(upper, upper, token.start, token)
            self.place.member = self.names.at.get((self.source.name, token.start))
            if self.place.member is None and self.place.pou is not None:
                name = f"__{upper}_{self.stack[-2].name}".upper()
                self.place.member = self.place.pou.methods.get(name)
            self.mode = "code"
            return at + 1
        return 0

    def enter_test(self, number: int) -> None:
        tests = [t for t in self.names.program.tests if t.source.name == self.source.name]
        self.reset()
        self.mode = "code"
        self.place = Place(None, tests[number] if number < len(tests) else None, self.scope())

    def leave(self, end: int) -> None:
        """A new declaration at the top ends what was not closed."""
        self.shut(_POUS | {"TYPE", "VAR_GLOBAL", "TEST", "SETUP", "TEARDOWN", "ACTIONS"}, end)
        self.place = Place(scope=self.scope())
        self.mode = "code"

    def pou(self, at: int) -> int:
        opener = self.tokens[at]
        self.reset()
        self.leave(opener.start)
        at += 1
        while self.kind(at) == "ID" and self.tokens[at].upper in _MODIFIERS and self.kind(at + 1) == "ID":
            at += 1
        if self.kind(at) != "ID":
            return at
        name = self.tokens[at]
        symbol = self.names.at.get((self.source.name, name.start))
        if symbol is None or symbol.name.upper() != name.upper:
            known = self.names.lookup(name.upper, self.place.scope)
            symbol = known if isinstance(known, PouSymbol) else None
        if symbol is not None:
            self.note(name, self.names.pou(symbol), definition=True)
        kind = "FUNCTION_BLOCK" if opener.kind == "FUNCTIONBLOCK" else opener.kind
        self.open(kind, name.text, opener.start, name)
        self.place = Place(symbol, None, self.scope())
        if self.kind(at + 1) == "<":
            while self.kind(at + 1) not in (">", ";", "EOF") and not self.kind(at + 1).startswith(("VAR", "END_")):
                at += 1
            at += self.kind(at + 1) == ">"
        return self.heading(at + 1)

    def heading(self, at: int) -> int:
        """EXTENDS, IMPLEMENTS and the result type, up to the line's end or the next word of a body."""
        while self.kind(at) == "." and self.kind(at + 1) == "ID":
            at += 2
        while self.kind(at) == "ID" and self.tokens[at].upper in ("EXTENDS", "IMPLEMENTS"):
            at += 1
            while self.kind(at) == "ID" and self.tokens[at].upper != "IMPLEMENTS":
                at = self.type_name(at)
                if self.kind(at) == ",":
                    at += 1
        if self.kind(at) == ":":
            at = self.one_type(at + 1)
        if self.kind(at) == ";":
            at += 1
        self.mode = "code"
        return at

    def one_type(self, at: int) -> int:
        """A result type: the words that can belong to one."""
        while True:
            kind = self.kind(at)
            if kind in ("ARRAY", "OF", "TO"):
                at += 1
            elif kind == "[":
                depth = 0
                while at < len(self.tokens):
                    depth += (self.kind(at) == "[") - (self.kind(at) == "]")
                    self.expression(at, False)
                    at += 1
                    if not depth or self.kind(at) in (";", "EOF"):
                        break
                self.reset()
                if self.kind(at) != "OF":
                    return at
            elif kind == "ID":
                upper = self.tokens[at].upper
                at = self.type_name(at)
                if upper not in ("POINTER", "REFERENCE", "REF_TO") and self.kind(at) != "[":
                    return at
            else:
                if kind == "EOF":
                    self.mode = "type"
                return at

    def type_name(self, at: int) -> int:
        """`Name` or `Space.Name`; the index behind it."""
        token = self.tokens[at]
        found = self.names.type_named(token.upper, self.place)
        self.note(token, found)
        at += 1
        while self.kind(at) == "." and self.kind(at + 1) == "ID":
            token = self.tokens[at + 1]
            found = self.names.member(found, None, token.upper)
            self.note(token, found)
            at += 2
        return at

    def member(self, at: int) -> int:
        opener = self.tokens[at]
        self.reset()
        self.shut((*_MEMBERS, "VAR"), opener.start)
        self.mode = "code"
        at += 1
        while (
            self.kind(at) == "ID"
            and self.tokens[at].upper in _MODIFIERS
            and self.kind(at + 1) == "ID"
            and self.tokens[at + 1].start - self.tokens[at].end < 80
        ):
            at += 1
        if self.kind(at) != "ID":
            return at
        name = self.tokens[at]
        self.open(opener.kind, name.text, opener.start, name)
        pou = self.place.pou
        symbol = self.names.at.get((self.source.name, name.start))
        if symbol is not None and symbol.owner is not None:
            pou = self.place.pou = symbol.owner
        if pou is not None:
            if opener.kind == "PROPERTY":
                self.note(name, self.names.property(pou, name.upper), definition=True)
            else:
                table = pou.methods if opener.kind == "METHOD" else pou.actions
                symbol = symbol or table.get(name.upper)
                if symbol is not None:
                    self.note(name, self.names.pou(symbol), definition=True)
        self.place = Place(pou, symbol if opener.kind == "METHOD" else None, self.scope())
        if opener.kind == "ACTION" and self.kind(at + 1) == ":":
            return at + 2
        return self.heading(at + 1)

    def container(self, at: int) -> int:
        opener = self.tokens[at]
        self.reset()
        if opener.kind != "RESOURCE":
            self.leave(opener.start)
        at += 1
        name = ""
        first = self.tokens[at] if self.kind(at) == "ID" else None
        while self.kind(at) in ("ID", "."):
            name += self.tokens[at].text
            at += 1
            if self.kind(at) == "ID" and self.kind(at - 1) == "ID":
                break
        self.open(opener.kind, name or opener.kind, opener.start, first)
        if opener.kind == "NAMESPACE":
            self.namespace = f"{self.namespace}.{name}" if self.namespace else name
        if opener.kind == "ACTIONS":
            owner = self.names.lookup(name.upper(), self.scope())
            self.place = Place(owner if isinstance(owner, PouSymbol) else None, None, self.scope())
            return at + (self.kind(at) == ":")
        self.place = Place(scope=self.scope())
        return at

    def variables(self, at: int) -> int:
        token = self.tokens[at]
        self.reset()
        self.shut(("VAR",), token.start)
        if token.kind == "VAR_GLOBAL" and self.inside() in ("FUNCTION", "FUNCTION_BLOCK"):
            self.leave(token.start)
        at += 1
        while self.kind(at) == "ID" and self.tokens[at].upper in _QUALIFIERS and self.kind(at + 1) not in (":", ","):
            at += 1
        self.open("VAR", token.kind, token.start, token)
        self.mode = "name"
        return at

    def end(self, at: int) -> int:
        token = self.tokens[at]
        kind = token.kind
        self.reset()
        opener = kind.removeprefix("END_")
        if opener == "FUNCTIONBLOCK":
            opener = "FUNCTION_BLOCK"
        if kind in ("END_STRUCT", "END_UNION"):
            self.shut((opener,), token.end)
            self.owner = self.owners.pop() if self.owners else None
            self.mode = "name"
            if self.kind(at + 1) == ":=":
                self.mode = "type"
                return at + 1
            return at + 1
        self.shut((opener,), token.end)
        self.mode = "name" if self.inside() in ("STRUCT", "UNION", "TYPE") else "code"
        if opener == "NAMESPACE":
            self.namespace = self.namespace.rpartition(".")[0] if "." in self.namespace else ""
            if self.stack and self.inside() != "NAMESPACE":
                self.namespace = ""
        if opener in ("METHOD", "GET", "SET", "ACTION", "PROPERTY"):
            self.place.member = None
        elif opener not in ("VAR", "STRUCT", "UNION"):
            last = self.place.pou
            self.place = Place(scope=self.scope())
            if self.inside() == "ACTIONS":
                self.place.pou = last
        return at + 1

    # -- declarations ----------------------------------------------------------------------------------

    def declared_struct(self) -> Type | None:
        t = self.declared[-1].type if self.declared else None
        while t is not None and not isinstance(t, (StructType, EnumType)):
            t = element(t)
        return t

    def declaration_name(self, at: int) -> int:
        token = self.tokens[at]
        kind = token.kind
        if kind == ":":
            self.mode = "type"
            self.reset()
            return at + 1
        if kind == "ID" and self.kind(at - 1) != ".":
            if token.upper == "AT" and self.kind(at + 1) == "ADDR":
                return at + 1
            if token.upper == "EXTENDS":
                return self.type_name(at + 1) if self.kind(at + 1) == "ID" else at + 1
            if self.kind(at - 1) not in (",",):
                self.declared = []
            found = self.declared_entity(token)
            self.note(token, found, definition=True)
            inside = self.inside()
            detail = found.type.name if found is not None and found.type is not None else ""
            if inside == "TYPE":
                self.leaf("TYPE", token)
            else:
                self.leaf("FIELD" if inside in ("STRUCT", "UNION") else "VARIABLE", token, detail)
            if found is not None:
                self.declared.append(found)
        return at + 1

    def declared_entity(self, token: Token) -> Entity | None:
        inside = self.inside()
        if inside == "TYPE":
            return self.names.type_named(token.upper, self.place)
        if inside in ("STRUCT", "UNION"):
            return self.names.field(self.owner, token.upper) if isinstance(self.owner, StructType) else None
        if self.place.pou is None and self.place.member is None:
            return self.names.entity(self.names.lookup(token.upper, self.place.scope))
        return self.names.find(token.upper, self.place)

    def type_token(self, at: int) -> int:
        token = self.tokens[at]
        kind = token.kind
        if kind == ":=":
            self.mode = "value"
            self.reset()
            self.expected = self.declared[-1].type if self.declared else None
            return at + 1
        if kind == "(" and self.kind(at - 1) in (":", "OF", "TO"):
            return self.enumeration(at + 1)
        if kind in ("[", "(") or self.frames:
            self.expression(at, self.kind(at - 1) == ".")
            return at + 1
        if kind == "ID" and self.kind(at - 1) != ".":
            upper = token.upper
            if upper in ("R_EDGE", "F_EDGE", "POINTER", "REFERENCE", "REF_TO", "REF"):
                return at + 1
            at = self.type_name(at)
            if self.kind(at) == "(":
                found = self.found[-1].entity if self.found else None
                self.entity, self.type = found, None
            return at
        return at + 1

    def enumeration(self, at: int) -> int:
        enum = self.declared_struct()
        depth = 0
        while at < len(self.tokens):
            kind = self.kind(at)
            if kind in ("(", "["):
                depth += 1
            elif kind in (")", "]"):
                if not depth:
                    return at + 1
                depth -= 1
            elif kind == ";" or kind in _ENDS:
                return at
            elif kind == "ID":
                token = self.tokens[at]
                if self.kind(at - 1) in ("(", ",") and not depth:
                    if isinstance(enum, EnumType):
                        self.note(token, self.names.enum_value(enum, token.upper), definition=True)
                    self.leaf("VALUE", token)
                elif isinstance(enum, EnumType) and token.upper in enum.members:
                    self.note(token, self.names.enum_value(enum, token.upper))
                else:
                    self.note(token, self.names.find(token.upper, self.place))
            at += 1
        return at

    # -- expressions -----------------------------------------------------------------------------------

    def expression(self, at: int, after_dot: bool) -> None:
        token = self.tokens[at]
        kind = token.kind
        if kind == "." or kind == "PREFIX":
            if kind == "PREFIX":
                found = self.names.type_named(token.upper, self.place)
                if found is not None and found.kind == "type":
                    self.found.append(Occurrence(token.start, token.end - 1, found))
                self.entity, self.type = found, None
            elif self.kind(at - 1) not in ("ID", "]", ")", "^", "ADDR") and not self.kind(at - 1).isidentifier():
                self.entity = self.type = None
            return
        if after_dot:
            self.selected(at)
        elif kind == "ID" or (kind.isidentifier() and self.frames and self.kind(at + 1) in _ASSIGNS):
            self.name(at)
        elif kind == "^":
            if self.entity is None or self.entity.kind != "self":
                self.type = self.type.target if isinstance(self.type, PointerType) else self.type
                self.entity = None
        elif kind == "[":
            called = None if self.kind(at - 1) in (":=", ",", "[", "(") else self.type
            self.frames.append(Frame("[", None, called, self.expected, token.start, values=called is None))
            if called is None:
                self.expected = element(self.expected)
            self.entity = self.type = None
        elif kind == "(":
            callee = (
                self.entity if at and (self.kind(at - 1) == "ID" or self.tokens[at - 1].upper.isidentifier()) else None
            )
            self.frames.append(Frame("(", callee, self.type, self.expected, token.start))
            self.entity = self.type = None
        elif kind in (")", "]"):
            self.closing()
        elif kind == ",":
            self.entity = self.type = None
            if self.frames:
                frame = self.frames[-1]
                frame.index += 1
                frame.named = None
                self.expected = element(frame.expected) if frame.values else frame.expected
        elif kind == ":=":
            frame_named = self.frames[-1].named if self.frames else None
            self.expected = frame_named.type if frame_named is not None else self.type
            self.entity = self.type = None
        else:
            self.entity = self.type = None

    def closing(self) -> None:
        if not self.frames:
            self.entity = self.type = None
            return
        frame = self.frames.pop()
        self.expected = frame.expected
        if frame.sign == "[":
            self.entity, self.type = None, element(frame.base)
        elif frame.callee is not None:
            self.entity, self.type = None, self.names.result_type(frame.callee)

    def selected(self, at: int) -> None:
        token = self.tokens[at]
        found = None
        if token.upper.isidentifier():
            found = self.names.member(self.entity, self.type, token.upper)
            self.note(token, found, written=self.is_written(at))
        self.entity = found
        self.type = self.names.value_type(found)

    def name(self, at: int) -> None:
        token = self.tokens[at]
        found: Entity | None = None
        frame = self.frames[-1] if self.frames else None
        if frame is not None and frame.sign == "(" and self.kind(at + 1) in _ASSIGNS:
            found = self.argument(frame, token.upper)
            self.note(token, found)
            frame.named = found
            self.entity = self.type = None
            return
        if self.kind(at - 1) == "PREFIX":
            t = self.entity.type if self.entity is not None else None
            found = self.names.enum_value(t, token.upper) if isinstance(t, EnumType) else None
        else:
            wanted = self.expected
            found = self.names.find(token.upper, self.place)
            if (
                isinstance(wanted, EnumType)
                and token.upper in wanted.members
                and (found is None or found.kind == "enum_value")
            ):
                found = self.names.enum_value(wanted, token.upper)
        self.note(token, found, written=self.is_written(at))
        self.entity, self.type = found, self.names.value_type(found)

    def argument(self, frame: Frame, upper: str) -> Entity | None:
        """The parameter or field that a name before `:=` or `=>` stands for."""
        if frame.callee is not None:
            for parameter in self.names.parameters(frame.callee):
                if parameter.name.upper() == upper:
                    return self.names.variable(parameter)
        wanted = through(frame.expected) or through(frame.base)
        return self.names.member(None, wanted, upper) if wanted is not None else None

    def is_written(self, at: int) -> bool:
        return not self.frames and self.kind(at + 1) in (":=", "?=")
