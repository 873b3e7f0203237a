"""The token cursor every part of the parser stands on, and the one exception it recovers from."""

from __future__ import annotations

from vplc.compiler.lexer import Token
from vplc.compiler.source import Diagnostics, Source, Span, nearest

SYNC_STATEMENT = frozenset(
    [
        ";",
        "END_IF",
        "ELSE",
        "ELSIF",
        "END_CASE",
        "END_FOR",
        "END_WHILE",
        "END_REPEAT",
        "UNTIL",
        "END_FUNCTION",
        "END_FUNCTION_BLOCK",
        "END_PROGRAM",
        "END_METHOD",
        "END_ACTION",
        "END_PROPERTY",
        "END_GET",
        "END_SET",
        "END_CLASS",
        "IF",
        "CASE",
        "FOR",
        "WHILE",
        "REPEAT",
        "FUNCTION",
        "FUNCTION_BLOCK",
        "PROGRAM",
        "TYPE",
        "VAR_GLOBAL",
        "CONFIGURATION",
        "END_TEST",
        "END_SETUP",
        "END_TEARDOWN",
        "EOF",
    ]
)
SYNC_DECLARATION = frozenset(
    [
        ";",
        "END_VAR",
        "END_STRUCT",
        "END_UNION",
        "END_TYPE",
        "VAR",
        "VAR_INPUT",
        "VAR_OUTPUT",
        "VAR_IN_OUT",
        "VAR_TEMP",
        "VAR_GLOBAL",
        "VAR_EXTERNAL",
        "END_FUNCTION",
        "END_FUNCTION_BLOCK",
        "END_PROGRAM",
        "FUNCTION",
        "FUNCTION_BLOCK",
        "PROGRAM",
        "METHOD",
        "EOF",
    ]
)
MAX_DEPTH = 120


class SyntaxProblemError(Exception):
    """Already reported; the caller skips to the next place it understands."""


class Cursor:
    def __init__(self, source: Source, tokens: list[Token], diagnostics: Diagnostics) -> None:
        self.source = source
        self.pragmas: list[str] = []
        self.tokens = tokens
        self.diagnostics = diagnostics
        self.at = 0
        self.depth = 0
        self.token = tokens[0]
        self.kind = self.token.kind
        self.previous = self.token
        if self.kind == "PRAGMA":
            self._skip_pragmas()

    def advance(self) -> Token:
        token = self.token
        self.previous = token
        if token.kind != "EOF":
            self.at += 1
            self.token = self.tokens[self.at]
            self.kind = self.token.kind
            if self.kind == "PRAGMA":
                self._skip_pragmas()
        return token

    def _skip_pragmas(self) -> None:
        while self.kind == "PRAGMA":
            self.pragmas.append(self.token.text)
            self.at += 1
            self.token = self.tokens[self.at]
            self.kind = self.token.kind

    def take_pragmas(self) -> tuple[str, ...]:
        found = tuple(self.pragmas)
        self.pragmas.clear()
        return found

    def peek(self, ahead: int = 1) -> Token:
        at = self.at
        tokens = self.tokens
        last = len(tokens) - 1
        while ahead and at < last:
            at += 1
            if tokens[at].kind != "PRAGMA":
                ahead -= 1
        return tokens[at]

    def is_word(self, *words: str) -> bool:
        return self.kind == "ID" and self.token.upper in words

    def accept(self, kind: str) -> bool:
        if self.kind == kind:
            self.advance()
            return True
        return False

    def accept_word(self, *words: str) -> bool:
        if self.kind == "ID" and self.token.upper in words:
            self.advance()
            return True
        return False

    def span(self, token: Token | None = None) -> Span:
        token = token or self.token
        return Span(self.source, token.start, max(token.end, token.start + 1))

    def fail(self, code: str, message: str, hint: str = "", token: Token | None = None) -> SyntaxProblemError:
        self.diagnostics.error(code, message, self.span(token), hint)
        return SyntaxProblemError()

    def shown(self) -> str:
        return "end of file" if self.kind == "EOF" else f'"{self.token.text[:40]}"'

    def expect(self, kind: str, what: str = "") -> Token:
        if self.kind == kind:
            return self.advance()
        wanted = what or f'"{kind}"'
        hint = ""
        if self.kind == "ID" and kind.isupper():
            hint = nearest(self.token.text, [kind])
        if kind == ";" or kind == ")":
            self.missing(kind, wanted, hint)
            raise SyntaxProblemError
        raise self.fail("E010", f"expected {wanted}, found {self.shown()}", hint)

    def missing(self, sign: str, wanted: str = "", hint: str = "") -> None:
        """Reports a sign that is missing after the previous token, and points there."""
        last = self.previous
        message = f"expected {wanted or chr(34) + sign + chr(34)}, found {self.shown()}"
        self.diagnostics.error("E010", message, Span(self.source, last.end - 1, last.end), hint)

    def name(self, what: str) -> Token:
        if self.kind == "ID":
            return self.advance()
        hint = ""
        if self.kind.isupper() and self.kind not in ("INT", "REAL", "STR", "EOF"):
            hint = f"{self.token.text} is a reserved word: choose another name"
        raise self.fail("E011", f"expected {what}, found {self.shown()}", hint)

    def skip_to(self, kinds: frozenset[str]) -> None:
        while self.kind not in kinds:
            self.advance()
        if self.kind == ";":
            self.advance()

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.depth = 0
            self.skip_to(frozenset({"EOF"}))
            raise self.fail("E019", f"nested deeper than {MAX_DEPTH} levels", "split the expression or the body")
