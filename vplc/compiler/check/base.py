"""What every part of the checker shares: the place it is at, the profile, and how it reports."""

from __future__ import annotations

from vplc.compiler import tree, typed
from vplc.compiler.model import Program
from vplc.compiler.source import Diagnostics, Source, Span
from vplc.compiler.symbols import PouSymbol, Scope
from vplc.compiler.types import (
    ANY_INT,
    ANY_REAL,
    ERROR,
    Elementary,
    EnumType,
    PointerType,
    StringType,
    Type,
)


class CheckerBase:
    """Holds the position (source, POU, scope); subclasses add one concern each."""

    def __init__(self, program: Program, diagnostics: Diagnostics) -> None:
        self.program = program
        self.diagnostics = diagnostics
        self.codesys = program.profile == "codesys"
        self.source: Source = program.sources[0]
        self.scope: Scope = program.scope
        self.pou: PouSymbol | None = None
        self.loops = 0
        self.trial = False

    @property
    def lenient(self) -> bool:
        """Implicit conversions as CODESYS makes them (also inside the unchecked library)."""
        return self.codesys or (self.pou is not None and self.pou.unchecked)

    def span(self, node: tree.Expr | tree.Stmt | tree.TypeRef | tree.VarDecl) -> Span:
        return Span(self.source, node.start, node.end)

    def error(
        self, code: str, message: str, node: tree.Expr | tree.Stmt | tree.TypeRef | tree.VarDecl, hint: str = ""
    ) -> None:
        self.diagnostics.error(code, message, self.span(node), hint)

    def warn(
        self, code: str, message: str, node: tree.Expr | tree.Stmt | tree.TypeRef | tree.VarDecl, hint: str = ""
    ) -> None:
        self.diagnostics.warn(code, message, self.span(node), hint)

    def bad(self, node: tree.Expr) -> typed.Expr:
        """A stand-in for what could not be checked; it silences follow-up errors."""
        return typed.Const(ERROR, node.start, 0)


def elementary(t: Type) -> Elementary | None:
    base = t.base
    return base if isinstance(base, Elementary) else None


def is_literal(e: typed.Expr) -> bool:
    return isinstance(e, typed.Const) and (e.type is ANY_INT or e.type is ANY_REAL)


def is_numeric(t: Type) -> bool:
    e = elementary(t)
    return e is not None and e.group in ("int", "uint", "real", "any_int", "any_real")


def is_bits(t: Type) -> bool:
    e = elementary(t)
    return e is not None and e.is_bits


def type_name(e: typed.Expr) -> str:
    """How a type is called in messages."""
    if isinstance(e.type, StringType) and isinstance(e, typed.Const):
        return "WSTRING" if e.type.wide else "STRING"
    return e.type.name


def describe(t: Type) -> str:
    if isinstance(t, (EnumType, PointerType)):
        return t.name
    return t.name


def conversion_hint(source: Type, target: Type) -> str:
    """The standard function that would convert, if there is one."""
    a, b = _conversion_name(source), _conversion_name(target)
    if a and b and a != b:
        return f"convert explicitly: {a}_TO_{b}(...)"
    return ""


def _conversion_name(t: Type) -> str:
    if isinstance(t, StringType):
        return "WSTRING" if t.wide else "STRING"
    base = t.base
    if isinstance(t, EnumType):
        return ""
    if isinstance(base, Elementary):
        if base is ANY_REAL:
            return "LREAL"
        if base is ANY_INT:
            return "DINT"
        return base.name if base.size else ""
    return ""
