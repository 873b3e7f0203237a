"""One text formatted, and the proof that it is still the same program.

Called by the command line and by the language server. A text with syntax errors is refused, and so is a result
that would differ from the source in anything but white space and the case of keywords.
"""

from __future__ import annotations

from vplc.compiler.lexer import Token, tokenize
from vplc.compiler.parser import parse
from vplc.compiler.source import Diagnostics, Source
from vplc.fmt.pieces import read_pieces
from vplc.fmt.render import render
from vplc.fmt.shape import shape
from vplc.fmt.style import Style, is_keyword


class Refused(Exception):  # noqa: N818  # it is an answer, not a failure
    """The text was left as it is. `diagnostics` holds its syntax errors; without any, `what` says why."""

    def __init__(self, what: str, diagnostics: Diagnostics) -> None:
        super().__init__(what)
        self.what = what
        self.diagnostics = diagnostics


def format_text(text: str, name: str = "", style: Style = Style()) -> str:  # noqa: B008  # frozen
    """The formatted text. Line ends stay what most of them are. Raises Refused."""
    source = Source(name, text)
    diagnostics = Diagnostics()
    parse(source, diagnostics)
    if diagnostics.errors:
        raise Refused("it has syntax errors", diagnostics)
    plain = Source(name, text.replace("\r\n", "\n"))
    out = render(shape(read_pieces(plain, Diagnostics())), style)
    if text.count("\r\n") * 2 > text.count("\n"):
        out = out.replace("\n", "\r\n")
    if not same_program(text, out):
        raise Refused("formatting would change more than white space; this is a fault of the formatter", diagnostics)
    return out


def same_program(before: str, after: str) -> bool:
    """Whether two texts have the same tokens and comments, apart from the case of keywords."""
    old, new = _content(before), _content(after)
    if len(old) != len(new):
        return False
    for (a, x), (b, y) in zip(old, new, strict=True):
        if a.kind != b.kind or (x != y and not (x.upper() == y and is_keyword(y))):
            return False
    return True


def _content(text: str) -> list[tuple[Token, str]]:
    comments: list[Token] = []
    tokens = tokenize(Source("", text), Diagnostics(), comments)
    found = [(t, _raw(text, t)) for t in tokens if t.kind != "EOF"]
    return [*found, *((c, _raw(text, c)) for c in comments)]


def _raw(text: str, token: Token) -> str:
    raw = text[token.start : token.end].replace("\r\n", "\n")
    return raw.rstrip() if raw.startswith("//") else raw
