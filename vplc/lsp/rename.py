"""Renaming, proved: the program with the new name must mean what it meant."""

from __future__ import annotations

import re

from vplc.compiler.lexer import RESERVED
from vplc.compiler.source import Source
from vplc.lsp.names import TYPE_NAMES, Entity
from vplc.lsp.project import Analysis, check_sources

_NAME = re.compile(r"[A-Za-z_]\w*")


class RenameRefused(Exception):  # noqa: N818  # it is an answer, not a failure
    """Says why the name must stay."""


def rename(analysis: Analysis, entity: Entity, name: str) -> dict[str, list[tuple[int, int]]]:
    """The places to replace, by file. Raises RenameRefused when the result would be another program."""
    refuse_name(entity, name)
    places: dict[str, list[tuple[int, int]]] = {}
    for source, one in analysis.occurrences().get(entity.key, ()):
        if (one.start, one.end) not in places.setdefault(source.name, []):
            places[source.name].append((one.start, one.end))
    texts = [Source(s.name, replaced(s.text, places.get(s.name, []), name)) for s in analysis.sources]
    after = check_sources(texts, analysis.profile)
    if after.diagnostics.errors > analysis.diagnostics.errors:
        known = {(d.code, d.message) for d in analysis.diagnostics.items}
        new = next((d for d in after.diagnostics.sorted() if (d.code, d.message) not in known), None)
        where = f"{new.span.source.name}:{new.span.line}: {new.message}" if new is not None else "a new error"
        raise RenameRefused(f'"{name}" would be wrong: {where}')
    if not same_meaning(analysis, after):
        raise RenameRefused(f'"{name}" already means something else where {entity.name} is used')
    return places


def refuse_name(entity: Entity, name: str) -> None:
    if entity.library:
        raise RenameRefused(f"{entity.name} belongs to the language or its standard library")
    if not _NAME.fullmatch(name):
        raise RenameRefused(f'"{name}" is no name: letters, digits and _, not beginning with a digit')
    if name.upper() in RESERVED or name.upper() in TYPE_NAMES:
        raise RenameRefused(f'"{name}" is a word of the language')


def replaced(text: str, places: list[tuple[int, int]], name: str) -> str:
    for start, end in sorted(places, reverse=True):
        text = text[:start] + name + text[end:]
    return text


def same_meaning(before: Analysis, after: Analysis) -> bool:
    """Whether every name stands for the same thing as before: the n-th name of each file is followed."""
    forth: dict[tuple[object, ...], tuple[object, ...]] = {}
    back: dict[tuple[object, ...], tuple[object, ...]] = {}
    for old, new in zip(before.sources, after.sources, strict=True):
        a, b = before.walk(old).occurrences, after.walk(new).occurrences
        if len(a) != len(b):
            return False
        for x, y in zip(a, b, strict=True):
            if forth.setdefault(x.entity.key, y.entity.key) != y.entity.key:
                return False
            if back.setdefault(y.entity.key, x.entity.key) != x.entity.key:
                return False
    return True
