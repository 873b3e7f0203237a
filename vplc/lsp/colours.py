"""Semantic tokens: what each word is, for the editor to colour."""

from __future__ import annotations

from vplc.compiler.lexer import RESERVED, Token
from vplc.compiler.source import Source
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import EnumType, InterfaceType, StructType
from vplc.lsp.names import Entity
from vplc.lsp.positions import units
from vplc.lsp.project import Analysis
from vplc.lsp.walk import Occurrence

TYPES = [
    *["namespace", "type", "class", "enum", "interface", "struct", "parameter", "variable", "property"],
    *["enumMember", "function", "method", "macro", "keyword", "comment", "string", "number", "operator"],
]
MODIFIERS = ["declaration", "readonly", "static", "modification", "defaultLibrary"]
_LITERALS = {"INT": "number", "REAL": "number", "TIME": "number", "DATE": "number", "TOD": "number", "DT": "number"} | {
    "STR": "string",
    "WSTR": "string",
    "ADDR": "number",
    "PREFIX": "type",
    "PRAGMA": "macro",
    "COMMENT": "comment",
}


def colours(analysis: Analysis, source: Source, encoding: str) -> list[int]:
    """Five numbers per word, as the protocol has them: line, column, length, type, modifiers."""
    tokens, comments = analysis.lexed(source)
    meaning = {one.start: one for one in analysis.walk(source).occurrences}
    out: list[int] = []
    last_line = last_column = 0
    for token in sorted([*tokens, *comments], key=lambda t: t.start):
        found = _of(token, meaning.get(token.start))
        if found is None:
            continue
        for start, end in _by_line(source, token.start, token.end):
            line, column = source.line_col(start)
            begin = source.starts[line - 1]
            at = units(source.text[begin : begin + column - 1], encoding)
            step = at - last_column if line - 1 == last_line else at
            out += [
                line - 1 - last_line,
                step,
                units(source.text[start:end], encoding),
                TYPES.index(found[0]),
                found[1],
            ]
            last_line, last_column = line - 1, at
    return out


def _by_line(source: Source, start: int, end: int) -> list[tuple[int, int]]:
    """Tokens of several lines in parts: editors take no others."""
    out = []
    while start < end:
        stop = source.text.find("\n", start, end)
        stop = end if stop < 0 else stop
        if stop > start:
            out.append((start, stop))
        start = stop + 1
    return out


def _of(token: Token, one: Occurrence | None) -> tuple[str, int] | None:
    if one is not None:
        return _entity(one.entity), _modifiers(one)
    if token.kind in _LITERALS:
        return _LITERALS[token.kind], 0
    if token.kind in RESERVED:
        return "keyword", 0
    if token.kind not in ("ID", "EOF"):
        return "operator", 0
    return None


def _entity(entity: Entity) -> str:
    symbol = entity.symbol
    if isinstance(symbol, Variable):
        return "parameter" if symbol.kind in ("input", "output", "inout") else "variable"
    if entity.kind in ("method", "action"):
        return "method"
    if isinstance(symbol, PouSymbol) and entity.kind == "pou":
        return {"FUNCTION": "function", "INTERFACE": "interface"}.get(symbol.kind, "class")
    if entity.kind == "type":
        if isinstance(entity.type, EnumType):
            return "enum"
        if isinstance(entity.type, InterfaceType):
            return "interface"
        return "struct" if isinstance(entity.type, StructType) else "type"
    table = {"field": "property", "property": "property", "enum_value": "enumMember", "builtin": "function"}
    return table.get(entity.kind, "namespace" if entity.kind == "namespace" else "type")


def _modifiers(one: Occurrence) -> int:
    symbol = one.entity.symbol
    bits = 0
    if one.definition:
        bits |= 1
    if one.entity.kind == "enum_value" or (isinstance(symbol, Variable) and symbol.constant):
        bits |= 2
    if isinstance(symbol, Variable) and symbol.kind in ("global", "static"):
        bits |= 4
    if one.written:
        bits |= 8
    if one.entity.library:
        bits |= 16
    return bits
