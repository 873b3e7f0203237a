"""Offsets in a text to an editor's lines and columns, and back. Editors count UTF-16 units unless they agree else."""

from __future__ import annotations

from lsprotocol import types as lsp

from vplc.compiler.source import Source


def units(text: str, encoding: str) -> int:
    """How many of the editor's units `text` takes."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    if encoding == "utf-8":
        return len(text.encode("utf-8", "replace"))
    return len(text) + sum(1 for char in text if ord(char) > 0xFFFF)


def position(source: Source, offset: int, encoding: str) -> lsp.Position:
    line, column = source.line_col(max(0, min(offset, len(source.text))))
    start = source.starts[line - 1]
    return lsp.Position(line - 1, units(source.text[start : start + column - 1], encoding))


def span(source: Source, start: int, end: int, encoding: str) -> lsp.Range:
    return lsp.Range(position(source, start, encoding), position(source, max(start, end), encoding))


def offset(source: Source, place: lsp.Position, encoding: str) -> int:
    """The nearest offset: places beyond a line or the text are its end."""
    if place.line >= len(source.starts):
        return len(source.text)
    start = source.starts[place.line]
    line = source.line_text(place.line + 1)
    if encoding == "utf-32" or line.isascii():
        return start + min(place.character, len(line))
    count = 0
    for number, char in enumerate(line):
        if count >= place.character:
            return start + number
        count += units(char, encoding)
    return start + len(line)
