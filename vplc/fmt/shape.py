"""Tokens to logical lines: which words share a line, and how deep it stands.

Follows the grammar of `vplc.compiler.parser` for texts that it accepts. It changes the case of keywords and
nothing else; how a logical line becomes printed lines is decided in `render`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vplc.compiler.lexer import RESERVED
from vplc.compiler.parser.types import VAR_KINDS
from vplc.fmt.pieces import LITERALS, Piece
from vplc.fmt.style import MODIFIERS, QUALIFIERS, TYPE_WORDS

_STATEMENTS = frozenset({"ID", "ADDR", "(", ".", ";", "IF", "CASE", "FOR", "WHILE", "REPEAT"}) | {
    "EXIT",
    "CONTINUE",
    "RETURN",
}
_LABELS = LITERALS | {"ID", "PREFIX", ".", "..", ",", "-", "+", "TRUE", "FALSE", "(", ")", "*", "#"}
_POUS = frozenset({"FUNCTION", "FUNCTION_BLOCK", "FUNCTIONBLOCK", "PROGRAM", "CLASS", "INTERFACE"})
_AFTER_NAME = frozenset({":=", "?=", "=", "(", ".", "[", "^", ";", ":"})
_OPEN = frozenset("([")
_CLOSE = frozenset(")]")


@dataclass(slots=True)
class Line:
    """role: code decl header label open mid close end comment; `blank`: an empty line stands before it."""

    level: int
    role: str
    blank: bool = False
    words: list[Piece] = field(default_factory=list)
    trailing: list[Piece] = field(default_factory=list)


def shape(pieces: list[Piece]) -> list[Line]:
    """The logical lines of a file without syntax errors."""
    return _Shaper(pieces).file()


class _Shaper:
    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        self.at = 0
        self.lines: list[Line] = []

    # -- cursor ----------------------------------------------------------------------------------------

    @property
    def here(self) -> Piece:
        return self.pieces[self.at]

    @property
    def kind(self) -> str:
        return self.pieces[self.at].kind

    def ahead(self, count: int = 1) -> Piece:
        return self.pieces[min(self.at + count, len(self.pieces) - 1)]

    def is_word(self, *words: str) -> bool:
        return self.kind == "ID" and self.here.upper in words

    # -- lines -----------------------------------------------------------------------------------------

    def begin(self, level: int, role: str, inner: int | None = None) -> Line:
        """A new line; comments before it become trailing, own or leading ones. `inner`: the level of what closes."""
        token = self.here
        lead, token.lead = token.lead, []
        count = 0
        while self.lines and count < len(lead) and lead[count].breaks == 0:
            count += 1
        if count:
            self.lines[-1].trailing.extend(lead[:count])
        rest = lead[count:]
        inline: list[Piece] = []
        follow = token
        while rest and follow.breaks == 0 and not rest[-1].multiline and token.kind != "EOF":
            follow = rest.pop()
            inline.insert(0, follow)
        for piece in rest:
            deeper = inner is not None and piece.col > follow.col
            depth = inner if deeper and inner is not None else level
            self.lines.append(Line(depth, "comment", piece.breaks > 1, [piece]))
        line = Line(level, role, follow.breaks > 1, inline)
        self.lines.append(line)
        return line

    def take(self, upper: bool = False) -> Piece:
        """The next token, with the comments before it, at the end of the current line."""
        token = self.here
        line = self.lines[-1]
        if token.lead:
            line.words.extend(token.lead)
            token.lead = []
        if token.kind != "EOF":
            if upper or self._reserved(token):
                token.text = token.upper
            line.words.append(token)
            self.at += 1
        return token

    def _reserved(self, token: Piece) -> bool:
        """A keyword, not a member or parameter that bears its name."""
        return token.kind in RESERVED and not token.member and self.ahead().kind not in (":=", "=>")

    def accept(self, *kinds: str) -> bool:
        if self.kind in kinds:
            self.take()
            return True
        return False

    def until(self, stops: tuple[str, ...]) -> None:
        """Takes words up to the first of `stops` outside brackets."""
        depth = 0
        while self.kind != "EOF":
            kind = self.kind
            if not depth and kind in stops and not self.here.member:
                return
            if kind in _OPEN:
                depth += 1
            elif kind in _CLOSE:
                depth = max(0, depth - 1)
            self.take()

    def dotted(self) -> None:
        self.take()
        while self.kind == ".":
            self.take()
            self.take()

    # -- files and POUs --------------------------------------------------------------------------------

    def file(self) -> list[Line]:
        while self.kind != "EOF":
            here = self.at
            self.top(0)
            if self.at == here:
                self.begin(0, "code")
                self.take()
        if self.here.lead:
            self.begin(0, "code")
            self.lines.pop()
        return self.lines

    def top(self, level: int) -> None:
        """Declarations up to a closing word."""
        while self.kind != "EOF":
            kind = self.kind
            if kind == ";":
                self.stray(level)
            elif kind == "@":
                self.begin(level, "code")
                self.take()
                self.take()
            elif kind in _POUS:
                self.pou(level)
            elif kind == "TYPE":
                self.type_block(level)
            elif kind in VAR_KINDS:
                self.var_block(level, "end")
            elif kind in ("CONFIGURATION", "RESOURCE"):
                self.configuration(level)
            elif kind == "NAMESPACE":
                self.block(level, self._namespace_head, self.top, "END_NAMESPACE")
            elif kind == "ACTIONS":
                self.block(level, self._actions_head, self._actions, "END_ACTIONS")
            elif kind == "ACTION":
                self.action(level)
            elif kind in ("METHOD", "PROPERTY") or (
                self.is_word(*MODIFIERS) and self.ahead().kind in ("METHOD", "PROPERTY")
            ):
                self.member(level, prototype=False)
            elif self.is_word("USING"):
                self.using(level)
            elif self.is_word("TEST") and self.ahead().kind in ("STR", "WSTR"):
                self.fixture(level, "END_TEST")
            elif self.is_word("SETUP", "TEARDOWN"):
                self.fixture(level, "END_" + self.here.upper)
            elif self.is_word(*MODIFIERS):
                self.begin(level, "code")
                while self.is_word(*MODIFIERS):
                    self.take(upper=True)
            else:
                return

    def stray(self, level: int) -> None:
        """A semicolon of its own: it stays on the line that it ends, if that is plain."""
        if not self.here.lead and self.lines and self.lines[-1].role in ("end", "close"):
            self.take()
            return
        self.begin(level, "code")
        self.take()

    def pou(self, level: int) -> None:
        prototype = self.kind == "INTERFACE"
        self.begin(level, "open")
        self.take()
        self._modifiers()
        self.dotted()
        if self.kind == "<":
            self._type_parameters()
        while self.is_word("EXTENDS", "IMPLEMENTS"):
            self.take(upper=True)
            self.dotted()
            while self.accept(","):
                self.dotted()
        if self.accept(":"):
            self.type_ref(level)
        self.accept(";")
        self.body(level, prototype)
        if self.kind.startswith("END_"):
            self.close(level, "end")

    def _type_parameters(self) -> None:
        """`<T : ANY_NUM, U : ANY>`"""
        self.take().glued = True
        self.here.glued = True
        while self.kind not in (">", "EOF"):
            self.take()
        self.take().glued = True

    def _modifiers(self) -> None:
        while self.is_word(*MODIFIERS) and self.ahead().kind in ("ID", "METHOD", "PROPERTY"):
            self.take(upper=True)

    def body(self, level: int, prototype: bool = False) -> None:
        """Variables, members and statements of a POU, method or accessor."""
        while True:
            kind = self.kind
            if kind in VAR_KINDS:
                self.var_block(level)
            elif (
                kind in ("METHOD", "PROPERTY")
                or (self.is_word(*MODIFIERS) and self.ahead().kind in ("METHOD", "PROPERTY"))
                or (self.is_word("PROPERTY_GET", "PROPERTY_SET") and self.ahead().kind == "ID")
            ):
                self.member(level + 1, prototype)
            elif kind == "ACTION":
                self.action(level + 1)
            elif self.is_word("USING") and self.ahead().kind == "ID":
                self.using(level + 1)
            elif kind in _STATEMENTS:
                here = self.at
                self.statements(level + 1)
                if self.at == here:
                    return
            else:
                return

    def member(self, level: int, prototype: bool) -> None:
        """METHOD, PROPERTY, PROPERTY_GET and PROPERTY_SET."""
        self.begin(level, "open")
        while self.is_word(*MODIFIERS):
            self.take(upper=True)
        word = self.take(upper=True).upper
        self._modifiers()
        self.dotted()
        if self.accept(":"):
            self.type_ref(level)
        self.accept(";")
        closer = "END_METHOD" if word == "METHOD" else "END_PROPERTY"
        if word == "PROPERTY":
            while self.is_word("GET", "SET", *MODIFIERS):
                self.accessor(level + 1, prototype)
        elif not (prototype and self.kind in ("METHOD", "PROPERTY")):
            self.body(level, prototype)
        if self.kind == closer:
            self.close(level, "end")
        else:
            self.lines[-1].role = "code"

    def accessor(self, level: int, prototype: bool) -> None:
        line = self.begin(level, "open")
        while self.is_word(*MODIFIERS):
            self.take(upper=True)
        self.take(upper=True)
        self.accept(";")
        if not prototype or self.kind in ("END_GET", "END_SET", "VAR"):
            self.body(level)
        if self.kind in ("END_GET", "END_SET"):
            self.close(level, "close")
        else:
            line.role = "code"

    def action(self, level: int) -> None:
        self.begin(level, "open")
        self.take()
        self.dotted()
        if self.accept(":"):
            self.lines[-1].words[-1].glued = True
        self.statements(level + 1)
        self.close(level, "end")

    def _namespace_head(self) -> None:
        self.take()
        self._modifiers()
        while self.is_word("INTERNAL") and self.ahead().kind == "ID":
            self.take(upper=True)
        self.dotted()

    def _actions_head(self) -> None:
        self.take()
        if self.kind == "ID":
            self.take()
            if self.accept(":"):
                self.lines[-1].words[-1].glued = True

    def _actions(self, level: int) -> None:
        while self.kind == "ACTION":
            self.action(level)

    def block(self, level: int, head: object, inside: object, closer: str) -> None:
        self.begin(level, "open")
        head()  # type: ignore[operator]  # a bound method of this class
        inside(level + 1)  # type: ignore[operator]  # a bound method of this class
        if self.kind == closer:
            self.close(level, "end")

    def close(self, level: int, role: str) -> None:
        self.begin(level, role, inner=level + 1)
        self.take()
        if self.kind == ";":
            self.take()

    def using(self, level: int) -> None:
        self.begin(level, "code")
        self.take(upper=True)
        self.dotted()
        while self.accept(","):
            self.dotted()
        self.accept(";")

    def fixture(self, level: int, closer: str) -> None:
        self.begin(level, "open")
        self.take(upper=True)
        if closer == "END_TEST":
            self.take()
        while self.kind in VAR_KINDS or self.kind in _STATEMENTS:
            here = self.at
            if self.kind in VAR_KINDS:
                self.var_block(level + 1)
            else:
                self.statements(level + 1)
            if self.at == here:
                break
        if self.kind == closer:
            self.close(level, "end")

    def configuration(self, level: int) -> None:
        opener = self.kind
        self.begin(level, "open")
        self.take()
        self.take()
        if self.is_word("ON"):
            self.take(upper=True)
            self.take()
        if self.kind == "(":
            self.until((")",))
            self.accept(")")
        while self.kind not in ("EOF", "END_" + opener):
            here = self.at
            if self.kind == ";":
                self.stray(level + 1)
            elif self.kind == "RESOURCE":
                self.configuration(level + 1)
            elif self.kind in VAR_KINDS:
                self.var_block(level + 1)
            elif self.is_word("TASK") or self.kind == "PROGRAM":
                self.begin(level + 1, "code")
                self.take(upper=True)
                while self.kind not in (";", "(", ":", "EOF"):
                    self.take(upper=self.here.upper in ("WITH", "RETAIN", "NON_RETAIN"))
                self.until((";",))
                self.accept(";")
            if self.at == here:
                return
        if self.kind != "EOF":
            self.close(level, "end" if level == 0 else "close")

    # -- declarations ----------------------------------------------------------------------------------

    def var_block(self, level: int, role: str = "close") -> None:
        self.begin(level, "open")
        self.take()
        while self.is_word(*QUALIFIERS) and self.ahead().kind not in (":", ","):
            self.take(upper=True)
        while self.kind in ("ID", "ADDR", ";"):
            self.declaration(level + 1)
        if self.kind == "END_VAR":
            self.close(level, role)

    def declaration(self, level: int) -> None:
        """`a, b AT %QX0.0 : type := value;`"""
        if self.kind == ";":
            self.stray(level)
            return
        self.begin(level, "decl")
        while self.kind not in (":", ";", "EOF"):
            word = self.here.upper
            self.take(upper=word == "AT" and self.ahead().kind == "ADDR")
        self.take()
        ended = self.type_ref(level)
        if self.kind == "[" and not ended:
            self.until((";", ":="))
        if self.kind == ":=" or self.is_word("REF") or not ended or self.kind == ";":
            self.until((";",))
        self.accept(";")

    def type_ref(self, level: int) -> bool:
        """Up to what follows a type; true when it was a structure, which needs no semicolon."""
        while True:
            kind = self.kind
            if kind in ("STRUCT", "UNION") and self.ahead().kind != "(":
                self.struct(level)
                return True
            if kind == "ARRAY":
                self.take()
                if self.kind in _OPEN:
                    self.bracket()
            elif kind in ("OF", "TO"):
                self.take()
            elif kind == "ID":
                upper = self.here.upper
                if upper in ("R_EDGE", "F_EDGE"):
                    self.take(upper=True)
                    return False
                self.take(upper=upper in TYPE_WORDS and not self.here.member)
                if upper in ("POINTER", "REFERENCE", "REF_TO"):
                    continue
                while self.kind == ".":
                    self.take()
                    self.take()
                if self.kind in _OPEN:
                    self.bracket()
                if self.is_word("R_EDGE", "F_EDGE"):
                    self.take(upper=True)
                if self.kind == "...":
                    self.take()
                return False
            elif kind == "(":
                self.bracket()
                if self.kind == "ID":
                    self.take(upper=self.here.upper in TYPE_WORDS)
                return False
            elif kind == "...":
                self.take()
                return False
            else:
                return False

    def bracket(self) -> None:
        """One bracket with all that is inside."""
        depth = 0
        while self.kind != "EOF":
            if self.kind in _OPEN:
                depth += 1
            elif self.kind in _CLOSE:
                depth -= 1
            self.take()
            if depth <= 0:
                return

    def struct(self, level: int) -> None:
        self.lines[-1].role = "open"
        closer = "END_" + self.take().upper
        if self.is_word("OVERLAP") and self.ahead().kind != ":":
            self.take(upper=True)
        if self.is_word("EXTENDS"):
            self.take(upper=True)
            self.dotted()
        while self.kind in ("ID", "ADDR", ";"):
            self.declaration(level + 1)
        if self.kind == closer:
            self.begin(level, "close", inner=level + 1)
            self.take()

    def type_block(self, level: int) -> None:
        self.begin(level, "open")
        self.take()
        if self.kind == "ID" and self.here.breaks == 0 and not self.here.lead and self._single():
            self.type_head()
            if self.kind in ("STRUCT", "UNION"):
                self.begin(level, "open")
                self.type_tail(level)
            else:
                self.lines[-1].role = "code"
                self.type_tail(level)
        else:
            while self.kind in ("ID", ";"):
                if self.kind == ";":
                    self.stray(level + 1)
                    continue
                self.begin(level + 1, "decl")
                self.type_head()
                self.type_tail(level + 1)
        if self.kind == "END_TYPE":
            self.close(level, "end")

    def _single(self) -> bool:
        """Whether the block at its first name declares one type only."""
        depth = struct = colons = 0
        for piece in self.pieces[self.at :]:
            kind = piece.kind
            if kind == "END_TYPE" or kind == "EOF":
                break
            depth += (kind in _OPEN) - (kind in _CLOSE)
            struct += (kind in ("STRUCT", "UNION")) - (kind in ("END_STRUCT", "END_UNION"))
            colons += kind == ":" and not depth and not struct
        return colons == 1

    def type_head(self) -> None:
        while self.is_word("PUBLIC", "INTERNAL") and self.ahead().kind == "ID":
            self.take(upper=True)
        self.take()
        if self.is_word("EXTENDS"):
            self.take(upper=True)
            self.dotted()
        self.accept(":")

    def type_tail(self, level: int) -> None:
        self.type_ref(level)
        if self.kind == ":=":
            self.until((";", "END_TYPE"))
        self.accept(";")

    # -- statements ------------------------------------------------------------------------------------

    def statements(self, level: int, in_case: bool = False) -> None:
        while self.kind in _STATEMENTS or (in_case and self.kind in _LABELS):
            if in_case and self.at_label():
                return
            if self.begins_test():
                return
            here = self.at
            self.statement(level)
            if self.at == here:
                return

    def begins_test(self) -> bool:
        """A word of test files, not a name."""
        if self.is_word("TEST"):
            return self.ahead().kind in ("STR", "WSTR")
        return self.is_word("SETUP", "TEARDOWN") and self.ahead().kind not in _AFTER_NAME

    def at_label(self) -> bool:
        at = self.at
        if self.pieces[at].kind in (".", "*", "..", ",", ")"):
            return False
        while self.pieces[at].kind in _LABELS:
            at += 1
        return self.pieces[at].kind == ":" and at > self.at

    def statement(self, level: int) -> None:
        kind = self.kind
        if kind == "IF":
            self.if_statement(level)
        elif kind == "CASE":
            self.case_statement(level)
        elif kind in ("FOR", "WHILE"):
            self.head(level, "DO")
            self.statements(level + 1)
            self.finish(level, "END_" + kind)
        elif kind == "REPEAT":
            self.begin(level, "open")
            self.take()
            self.statements(level + 1)
            self.begin(level, "mid", inner=level + 1)
            self.take()
            self.until((";", "END_REPEAT"))
            self.accept(";")
            self.finish(level, "END_REPEAT")
        elif kind == ";":
            self.stray(level)
        elif kind == "ID" and self.ahead().kind == ":":
            self.begin(level, "label")
            self.take()
            self.take().glued = True
        else:
            self.begin(level, "code")
            if self.is_word("JMP", "MOCK", "MOCK_FUNCTION") and self.ahead().kind == "ID":
                self.take(upper=True)
            self.until((";",))
            self.accept(";")

    def head(self, level: int, word: str, role: str = "open", inner: int | None = None) -> None:
        """`IF ... THEN` and its like."""
        self.begin(level, role, inner)
        self.take()
        self.until((word,))
        self.accept(word)

    def finish(self, level: int, word: str) -> None:
        if self.kind == word:
            self.begin(level, "close", inner=level + 1)
            self.take()
            if self.kind == ";" and not self.here.lead:
                self.take()

    def if_statement(self, level: int) -> None:
        self.head(level, "THEN")
        self.statements(level + 1)
        while self.kind == "ELSIF":
            self.head(level, "THEN", "mid", level + 1)
            self.statements(level + 1)
        if self.kind == "ELSE":
            self.begin(level, "mid", inner=level + 1)
            self.take()
            self.statements(level + 1)
        self.finish(level, "END_IF")

    def case_statement(self, level: int) -> None:
        self.head(level, "OF")
        inner: int | None = None
        while self.kind == ";" or (self.kind in _LABELS and self.at_label()):
            if self.kind == ";":
                self.stray(level + 1)
                continue
            self.begin(level + 1, "label", inner)
            inner = level + 2
            self.until((":",))
            self.take().glued = True
            if self.kind == ";" and not self.here.lead:
                self.take()
            else:
                self.lines[-1].role = "open"
            self.statements(level + 2, in_case=True)
        if self.kind == "ELSE":
            self.begin(level, "mid", inner=level + 2)
            self.take()
            if self.accept(":"):
                self.lines[-1].words[-1].glued = True
            self.statements(level + 1)
            inner = level + 1
        if self.kind == "END_CASE":
            self.begin(level, "close", inner=inner)
            self.take()
            if self.kind == ";" and not self.here.lead:
                self.take()
