"""Conditional pragmas: `{IF defined (Sim)} ... {ELSE} ... {END_IF}` leave out what their conditions exclude.

Called between lexer and parser. A name is defined by `{define Name}` before it in the same file; what else CODESYS can
ask (variables, types, attributes, the project) is not known here and counts as FALSE.
"""

from __future__ import annotations

import re

from vplc.compiler.lexer import Token
from vplc.compiler.source import Diagnostics, Source, Span

_TERM = re.compile(r"\s*(?:((?:AND|OR|NOT)\b|[()])|(\w+)\s*\(([^()]*)\)|(\S))", re.IGNORECASE)


def select(source: Source, tokens: list[Token], diagnostics: Diagnostics) -> list[Token]:
    """The tokens that are meant; pragmas of other kinds stay."""
    if not any(t.kind == "PRAGMA" and _word(t) in ("IF", "DEFINE") for t in tokens):
        return tokens
    out: list[Token] = []
    defined: set[str] = set()
    # One entry for each open {IF}: whether this branch is taken, whether one was, whether the surrounding text is.
    open_ifs: list[tuple[bool, bool, bool]] = []
    for token in tokens:
        word = _word(token) if token.kind == "PRAGMA" else ""
        taken = open_ifs[-1][0] if open_ifs else True
        if word == "IF":
            here = taken and holds(token.text.strip()[2:], defined)
            open_ifs.append((here, here, taken))
        elif word in ("ELSIF", "ELSE") and open_ifs:
            _, before, around = open_ifs[-1]
            here = around and not before and (word == "ELSE" or holds(token.text.strip()[5:], defined))
            open_ifs[-1] = (here, before or here, around)
        elif word == "END_IF" and open_ifs:
            open_ifs.pop()
        elif token.kind == "EOF" or taken:
            if word == "DEFINE":
                defined.add(token.upper.split()[1] if len(token.upper.split()) > 1 else "")
            elif word == "UNDEFINE":
                defined -= set(token.upper.split()[1:2])
            out.append(token)
    if open_ifs:
        end = tokens[-1].start
        diagnostics.error("E016", "{IF} is never closed", Span(source, end, end), "add {END_IF}")
    return out


def _word(token: Token) -> str:
    parts = token.upper.split(None, 1)
    return re.split(r"\W", parts[0], maxsplit=1)[0] if parts else ""


def holds(text: str, defined: set[str]) -> bool:
    """The value of a condition; what cannot be read is FALSE."""
    terms: _Terms = [(m[1], m[2], m[3], m[4]) for m in _TERM.finditer(text)]
    value, rest = _either(terms, defined, 0)
    return value and not rest


_Terms = list[tuple[str | None, str | None, str | None, str | None]]


def _either(terms: _Terms, defined: set[str], depth: int) -> tuple[bool, _Terms]:
    value, terms = _both(terms, defined, depth)
    while terms and (terms[0][0] or "").upper() == "OR":
        more, terms = _both(terms[1:], defined, depth)
        value = value or more
    return value, terms


def _both(terms: _Terms, defined: set[str], depth: int) -> tuple[bool, _Terms]:
    value, terms = _single(terms, defined, depth)
    while terms and (terms[0][0] or "").upper() == "AND":
        more, terms = _single(terms[1:], defined, depth)
        value = value and more
    return value, terms


def _single(terms: _Terms, defined: set[str], depth: int) -> tuple[bool, _Terms]:
    if not terms or depth > 50:
        return False, terms
    sign, function, argument, _ = terms[0]
    if (sign or "").upper() == "NOT":
        value, rest = _single(terms[1:], defined, depth + 1)
        return not value, rest
    if sign == "(":
        value, rest = _either(terms[1:], defined, depth + 1)
        return (value, rest[1:]) if rest and rest[0][0] == ")" else (False, rest)
    known = (function or "").upper() == "DEFINED" and (argument or "").strip().upper() in defined
    return known, terms[1:] if function else terms
