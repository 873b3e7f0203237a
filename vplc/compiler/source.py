"""Source text, places in it, and what the compiler has to say about them.

Every stage reports through `Diagnostics`; the command line prints them. Nothing here decides
whether a program is right.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field


class Source:
    """One file: its name and text, with line lookup."""

    __slots__ = ("_words", "library", "name", "starts", "text")

    def __init__(self, name: str, text: str, library: bool = False) -> None:
        self.name = name
        self.text = text
        self.library = library
        starts = [0]
        find = text.find
        at = find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = find("\n", at + 1)
        self.starts = starts
        self._words: dict[str, bool] = {}

    def line_col(self, offset: int) -> tuple[int, int]:
        """Line and column, both counted from 1."""
        line = bisect_right(self.starts, offset)
        return line, offset - self.starts[line - 1] + 1

    def has_word(self, word: str) -> bool:
        """Whether the text has this word at all; asked once for each POU, searched once."""
        known = self._words.get(word)
        if known is None:
            known = self._words[word] = re.search(rf"\b{word}\b", self.text, re.IGNORECASE) is not None
        return known

    def line_text(self, line: int) -> str:
        start = self.starts[line - 1]
        end = self.starts[line] if line < len(self.starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one source: what an error points at."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.source.line_col(self.start)[0]


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: a code with an explanation page, a place, and what would be right."""

    code: str
    message: str
    span: Span
    hint: str = ""
    severity: str = "error"

    def render(self) -> str:
        line, col = self.span.source.line_col(self.span.start)
        text = self.span.source.line_text(line).replace("\t", " ")
        width = max(1, min(self.span.end - self.span.start, len(text) - col + 1))
        out = [f"{self.span.source.name}:{line}:{col}: {self.severity} {self.code}: {self.message}"]
        if text:
            out.append(f"    {text[:160]}")
        if text and col <= 160:
            out.append("    " + " " * (col - 1) + "^" * min(width, 160))
        if self.hint:
            out.append(f"    hint: {self.hint}")
        return "\n".join(out)

    def as_json(self) -> dict[str, object]:
        line, col = self.span.source.line_col(self.span.start)
        end_line, end_col = self.span.source.line_col(max(self.span.start, self.span.end))
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "file": self.span.source.name,
            "line": line,
            "col": col,
            "end_line": end_line,
            "end_col": end_col,
            "hint": self.hint,
        }


@dataclass(slots=True)
class Diagnostics:
    """Collects findings; at most `limit` errors are kept so that garbage stays readable."""

    limit: int = 100
    items: list[Diagnostic] = field(default_factory=list)
    errors: int = 0
    seen: set[tuple[str, int, str]] = field(default_factory=set)

    def error(self, code: str, message: str, span: Span, hint: str = "") -> None:
        key = (span.source.name, span.start, code)
        if key in self.seen:
            return
        self.seen.add(key)
        self.errors += 1
        if self.errors <= self.limit:
            self.items.append(Diagnostic(code, message, span, hint))

    def warn(self, code: str, message: str, span: Span, hint: str = "") -> None:
        key = (span.source.name, span.start, code)
        if key in self.seen or span.source.library:
            return
        self.seen.add(key)
        if len(self.items) < 4 * self.limit:
            self.items.append(Diagnostic(code, message, span, hint, "warning"))

    def sorted(self) -> list[Diagnostic]:
        return sorted(self.items, key=lambda d: (d.span.source.name, d.span.start))


class CompileError(Exception):
    """The program is wrong: `diagnostics` say where. Raised only at a stage's end."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        super().__init__(f"{diagnostics.errors} error(s)")
        self.diagnostics = diagnostics


class UnsupportedError(Exception):
    """Something the compiler knows about but cannot do; the message names it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest known name, or nothing."""
    upper = name.upper()
    table = {k.upper(): k for k in known if not k.startswith("__")}
    found = difflib.get_close_matches(upper, table, n=1, cutoff=0.7)
    return f'did you mean "{table[found[0]]}"?' if found else ""
