"""Whether a space stands between two words of one line, and which words are binary operators."""

from __future__ import annotations

from vplc.fmt.pieces import TRIVIA, Piece

_ARITHMETIC = frozenset({"+", "-", "*", "/", "**", "&", "|", "<", ">", "<=", ">=", "=", "<>"})
_WORD_OPERATORS = frozenset({"AND", "OR", "XOR", "MOD", "AND_THEN", "OR_ELSE"})
LOGIC = frozenset({"AND", "OR", "XOR", "AND_THEN", "OR_ELSE", "&", "|"})
SUMS = frozenset({"+", "-"})
# Gluing these would read as one sign or as the beginning of a comment.
_HAZARDS = frozenset({"(*", "//", "/*", "*)", "*/", "**", ":=", "<>", "<=", ">=", "=>", "..", "?="})


def mark_roles(words: list[Piece]) -> None:
    """Tells signs (`-x`, `&x`), which stand close to what follows, from operators with a value on their left."""
    previous: Piece | None = None
    for piece in words:
        if piece.kind in TRIVIA:
            continue
        valued = previous is not None and previous.is_operand
        piece.unary = piece.kind in ("+", "-", "&") and not valued
        piece.binary = valued and not piece.member and (piece.kind in _ARITHMETIC or piece.kind in _WORD_OPERATORS)
        previous = piece


def is_set_operator(piece: Piece, previous: Piece | None, before: Piece | None) -> bool:
    """The `=` of `S=`, `R=` and `REF=`."""
    return (
        piece.kind == "="
        and previous is not None
        and previous.upper in ("S", "R", "REF")
        and before is not None
        and before.is_operand
    )


def spaced(previous: Piece, piece: Piece, before: Piece | None) -> bool:
    """Whether a space stands between `previous` and `piece`; `before` precedes `previous`."""
    if previous.kind in TRIVIA or piece.kind in TRIVIA:
        return (
            not (previous.kind in ("(", "[") or piece.kind in (")", "]"))
            or previous.text[-1:] + piece.text[:1] in _HAZARDS
        )
    if previous.text[-1:] + piece.text[:1] in _HAZARDS and not (previous.kind == ".." or piece.kind == ".."):
        return True
    return _spaced(previous, piece, before)


def _spaced(previous: Piece, piece: Piece, before: Piece | None) -> bool:
    left, right = previous.kind, piece.kind
    if right == ";" and previous.glued:
        return True  # the empty branch of a CASE
    if right in (",", ";", ")", "]", "^") or piece.glued:
        return False
    if left in ("(", "[", "..", "PREFIX", "@", "#") or previous.unary:
        return False
    if is_set_operator(piece, previous, before) or right == "#":
        return False
    if right == "..":
        return False
    if right == "...":
        return left != "ID"
    if right == ".":
        return not previous.is_operand
    if left == ".":
        return False
    if left == "ADDR" and right == "ID" and previous.text[1:].isalpha() and len(previous.text) == 2:
        return False
    if right == "[":
        return not (left in ("ID", "]", ")", "^", "ARRAY") or previous.member)
    if right == "(":
        if left in ("ID", "]", ")", "^", "INT", "ARRAY") or previous.member:
            return False
        return previous.binary or left not in _WORD_OPERATORS  # AND(a, b) is a call
    return True
