"""Syntax tree to typed tree: names, types, calls, constants, and everything that can be wrong about them."""

from vplc.compiler.check.program import analyse

__all__ = ["analyse"]
