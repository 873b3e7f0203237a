"""What a user may choose, and the words that are written in capitals."""

from __future__ import annotations

from dataclasses import dataclass

from vplc.compiler.lexer import RESERVED
from vplc.compiler.types import ELEMENTARY

ALIGN_LIMIT = 40  # a name or type longer than this does not push its neighbours to the right
TAB = 4  # how wide a tab in the written text counts when comments are compared with what they belong to


@dataclass(frozen=True, slots=True)
class Style:
    """`indent` spaces per level; lines are wrapped beyond `width` characters."""

    indent: int = 4
    width: int = 120


MODIFIERS = frozenset({"PUBLIC", "PRIVATE", "PROTECTED", "INTERNAL", "FINAL", "ABSTRACT", "OVERRIDE"})
QUALIFIERS = frozenset(
    {"CONSTANT", "RETAIN", "NON_RETAIN", "PERSISTENT", "PUBLIC", "PRIVATE", "PROTECTED", "INTERNAL", "R_EDGE", "F_EDGE"}
)
TYPE_WORDS = frozenset(ELEMENTARY) | {
    "STRING",
    "WSTRING",
    "POINTER",
    "REFERENCE",
    "REF_TO",
    "R_EDGE",
    "F_EDGE",
    "OVERLAP",
    "EXTENDS",
}
# Words that are keywords only where the grammar says so; elsewhere they are names and stay as written.
CONTEXT_WORDS = (
    MODIFIERS
    | QUALIFIERS
    | TYPE_WORDS
    | {"IMPLEMENTS", "AT", "USING", "TASK", "WITH", "ON", "GET", "SET", "PROPERTY_GET", "PROPERTY_SET"}
    | {"TEST", "SETUP", "TEARDOWN", "MOCK", "MOCK_FUNCTION", "RETURNS", "JMP", "REF", "S", "R"}
)


def is_keyword(upper: str) -> bool:
    """Whether the formatter may change the case of this word."""
    return upper in RESERVED or upper in CONTEXT_WORDS
