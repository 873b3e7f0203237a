"""The text as tokens that know what stood before them: comments, pragmas and line breaks.

Raw texts are slices of the source, so that literals and names come out exactly as they were written.
"""

from __future__ import annotations

from vplc.compiler.lexer import Token, tokenize
from vplc.compiler.source import Diagnostics, Source
from vplc.fmt.style import TAB

LITERALS = frozenset({"INT", "REAL", "STR", "WSTR", "TIME", "DATE", "TOD", "DT"})
TRIVIA = frozenset({"COMMENT", "PRAGMA"})


class Piece:
    """A token, comment or pragma. `breaks`: line breaks before it in the source; `col`: its column there.

    `lead` holds the comments and pragmas before a token. The rest is decided by the shaper and the renderer:
    `broken` starts a new line, `glued` and `pad` change the space before it, `unary`, `binary` and `member` tell
    its role.
    """

    __slots__ = (
        "binary",
        "breaks",
        "broken",
        "col",
        "glued",
        "kind",
        "lead",
        "member",
        "pad",
        "text",
        "unary",
        "upper",
    )

    def __init__(self, kind: str, text: str, breaks: int, col: int) -> None:
        self.kind = kind
        self.text = text
        self.upper = text.upper()
        self.breaks = breaks
        self.col = col
        self.lead: list[Piece] = []
        self.broken = False
        self.glued = False
        self.member = False
        self.unary = False
        self.binary = False
        self.pad = 0

    @property
    def ends_line(self) -> bool:
        """Nothing may follow on the same line."""
        return self.kind == "COMMENT" and self.text.startswith("//")

    @property
    def multiline(self) -> bool:
        return "\n" in self.text or "\r" in self.text

    @property
    def is_operand(self) -> bool:
        """A value can end here: what follows is a binary operator, a call or an index."""
        return self.kind in _OPERAND_ENDS or self.kind in LITERALS or self.member


_OPERAND_ENDS = frozenset({"ID", "ADDR", "TRUE", "FALSE", ")", "]", "^"})


def read_pieces(source: Source, diagnostics: Diagnostics) -> list[Piece]:
    """The tokens of `source`, EOF last, each with the comments and pragmas that stand before it."""
    comments: list[Token] = []
    tokens = tokenize(source, diagnostics, comments)
    text = source.text
    out: list[Piece] = []
    lead: list[Piece] = []
    at = 0
    for token in sorted([*tokens, *comments], key=lambda t: (t.start, t.kind == "EOF")):
        gap = text[at : token.start]
        raw = text[token.start : token.end]
        breaks = gap.count("\n") + gap.replace("\r\n", "").count("\r")
        piece = Piece(token.kind, raw.rstrip() if raw.startswith("//") else raw, breaks, _column(text, token.start))
        at = token.end
        if token.kind in TRIVIA:
            lead.append(piece)
            continue
        piece.lead, lead = lead, []
        previous = out[-1] if out else None
        piece.member = previous is not None and previous.kind == "." and piece.upper.isidentifier()
        out.append(piece)
    return out


def _column(text: str, at: int) -> int:
    begin = max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1
    return len(text[begin:at].expandtabs(TAB))
