"""Tokens to syntax tree: a hand-written recursive-descent parser that recovers after each error."""

from vplc.compiler.parser.declarations import parse

__all__ = ["parse"]
