"""TwinCAT's files (TcPOU, TcDUT, TcGVL, TcIO): XML around the text of one object, taken out as Structured Text.

Called when a source is read. Lines stay where they are in the file, so that every message points into it. Bodies that
are drawn (FBD, LD, SFC, CFC) are named and refused.
"""

from __future__ import annotations

import re
from html import unescape

from vplc.compiler.source import Diagnostics, Source, Span

_TOKEN = re.compile(
    r"<!\[CDATA\[(?P<data>.*?)\]\]>|<!--.*?-->|<\?.*?\?>"
    r"|<(?P<end>/?)(?P<tag>[A-Za-z]\w*)(?P<rest>[^<>]*?)(?P<empty>/?)>|(?P<text>[^<]+)",
    re.DOTALL,
)
_NAME = re.compile(r'\bName="([^"]*)"')
_NOISE = re.compile(r"\(\*.*?\*\)|/\*.*?\*/|//[^\r\n]*|\{[^}]*\}", re.DOTALL)
_KIND = re.compile(r"\b(FUNCTION_BLOCK|FUNCTION|PROGRAM|INTERFACE|CLASS)\b", re.IGNORECASE)
_CLOSERS = {"Method": "END_METHOD", "Property": "END_PROPERTY", "Get": "END_GET", "Set": "END_SET"}
_DRAWN = frozenset({"FBD", "LD", "SFC", "CFC", "IL", "NWL"})


def is_twincat(text: str) -> bool:
    return "<TcPlcObject" in text[:2000]


def structured_text(name: str, text: str, diagnostics: Diagnostics) -> str:
    """The Structured Text of one file, on the lines where it stands there."""
    return _Reader(name, text, diagnostics).run()


class _Reader:
    def __init__(self, name: str, text: str, diagnostics: Diagnostics) -> None:
        self.source = Source(name, text)
        self.diagnostics = diagnostics
        self.out: list[str] = []
        self.open: list[str] = []
        self.gap = ""  # what lies between two pieces of text, as written
        self.words: list[str] = []  # what has to stand there instead
        self.kind = ""
        self.named = ""
        self.qualified = False

    def run(self) -> str:
        text = self.source.text
        at = 0
        while at < len(text):
            m = _TOKEN.match(text, at)
            if m is None:
                self.diagnostics.error("E081", "this is not well-formed XML", Span(self.source, at, at + 1))
                break
            if m["data"] is not None:
                start = m.start("data")
                self.content(text[at:start], m["data"], "]]>")
            elif m["tag"] is not None:
                self.tag(m)
                self.gap += m.group()
            elif m["text"] is not None and m["text"].strip():
                self.content("", unescape(m["text"]), "")
            else:
                self.gap += m.group()
            at = m.end()
        self.flush()
        return "".join(self.out)

    def content(self, before: str, text: str, after: str) -> None:
        """A piece of character data: text when it stands in a declaration or a body, else nothing."""
        if not self.open or self.open[-1] not in ("Declaration", "ST"):
            self.gap += before + text + after
            return
        owner = self.open[-2] if len(self.open) > 1 else ""
        if self.open[-1] == "Declaration" and owner in ("POU", "Itf"):
            found = _KIND.search(_NOISE.sub(" ", text))
            self.kind = found.group(1).upper() if found else self.kind
        if owner in ("GVL", "ParameterList"):
            self.qualified = "qualified_only" in text
            self.words.append(f"NAMESPACE {self.named}" if self.qualified else f"{{list:{self.named}}}")
        self.gap += before
        self.flush()
        self.out.append(text)
        self.gap = after

    def tag(self, m: re.Match[str]) -> None:
        tag = m["tag"]
        if m["end"]:
            if tag in self.open:
                while self.open.pop() != tag:
                    pass
            self.closed(tag)
            return
        found = _NAME.search(m["rest"])
        name = unescape(found.group(1)) if found else ""
        if tag in ("GVL", "ParameterList"):
            self.named = name
        elif tag == "Action":
            self.words.append(f"ACTION {name}:")
        elif tag in ("Get", "Set"):
            self.words.append(tag.upper())
        elif tag in _DRAWN and self.open and self.open[-1] == "Implementation":
            span = Span(self.source, m.start(), m.end())
            self.diagnostics.error("E014", f"a body in {tag} is not taken from this file", span, "write it in ST")
        if m["empty"]:
            self.closed(tag)
        else:
            self.open.append(tag)

    def closed(self, tag: str) -> None:
        if tag in _CLOSERS:
            self.words.append(_CLOSERS[tag])
        elif tag == "Action":
            self.words.append("END_ACTION")
        elif tag in ("POU", "Itf") and self.kind:
            self.words.append(f"END_{self.kind}")
        elif tag in ("GVL", "ParameterList") and self.qualified:
            self.words.append("END_NAMESPACE")

    def flush(self) -> None:
        """The gap as blanks of the same shape, with the words in it: behind a line break, past any `//` comment."""
        lines = self.gap.split("\n")
        words = " ".join(self.words)
        self.gap, self.words = "", []
        if not words:
            self.out.append("\n" * (len(lines) - 1) + " " * len(lines[-1]))
        elif len(lines) > 2:
            self.out.append("\n" + words + "\n" * (len(lines) - 2) + " " * len(lines[-1]))
        else:
            pad = max(1, len(lines[-1]) - len(words) - 1)
            self.out.append("\n" * (len(lines) - 1) + " " + words + " " * pad)
