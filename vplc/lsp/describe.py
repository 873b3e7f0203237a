"""Names and literals in words: what a person sees when the pointer rests on them."""

from __future__ import annotations

from vplc.compiler import tree
from vplc.compiler.check.arguments import NAMES
from vplc.compiler.lexer import Token, clock_ns, date_ns, duration_ns, stamp_ns
from vplc.compiler.source import Source
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import ERROR, EnumType, StructType, Type
from vplc.lsp.names import Entity, through
from vplc.lsp.project import Analysis

_BLOCKS = {
    "input": "VAR_INPUT",
    "output": "VAR_OUTPUT",
    "inout": "VAR_IN_OUT",
    "temp": "VAR_TEMP",
    "global": "VAR_GLOBAL",
    "static": "VAR_STAT",
}
MAX_MEMBERS = 40


def hover(analysis: Analysis, entity: Entity) -> str:
    """Markdown: the declaration, the comment at it, and what else is worth knowing."""
    parts = [f"```iecst\n{declaration(entity)}\n```"]
    note = comment(analysis, entity)
    if note:
        parts.append(note)
    symbol = entity.symbol
    if isinstance(symbol, Variable):
        facts = []
        if symbol.address:
            facts.append(f"address {symbol.address}")
        if symbol.retain:
            facts.append("kept over a power cycle")
        if symbol.owner is not None:
            facts.append(f"of {symbol.owner.kind} {symbol.owner.full_name}")
        t = entity.type
        if isinstance(t, EnumType):
            facts.append(
                "values " + ", ".join(f"{t.display[u]} = {v}" for u, v in list(t.members.items())[:MAX_MEMBERS])
            )
        if facts:
            parts.append("; ".join(facts))
    if entity.library and entity.kind != "builtin":
        parts.append("standard library")
    return "\n\n".join(parts)


def declaration(entity: Entity) -> str:
    """The entity as it would be declared."""
    symbol = entity.symbol
    if isinstance(symbol, Variable):
        block = _BLOCKS.get(symbol.kind, "VAR") + (" CONSTANT" if symbol.constant else "")
        address = f" AT {symbol.address}" if symbol.address else ""
        return f"{block} {symbol.name}{address} : {type_text(symbol.type)}{initial(symbol)}"
    if isinstance(symbol, PouSymbol) and entity.kind != "property":
        return signature(symbol)
    if entity.kind == "property":
        return f"PROPERTY {entity.name} : {type_text(entity.type)}"
    if entity.kind == "enum_value" and isinstance(entity.type, EnumType):
        return f"{entity.type.name}#{entity.name} = {entity.type.members[entity.name.upper()]}"
    if entity.kind == "type":
        return type_declaration(entity)
    if entity.kind == "field":
        owner = entity.owner.name if isinstance(entity.owner, StructType) else "STRUCT"
        return f"{owner}.{entity.name} : {type_text(entity.type)}"
    if entity.kind == "builtin":
        return builtin_signature(entity.name)
    return entity.name


def type_text(t: Type | None) -> str:
    return "?" if t is None or t is ERROR else t.name


def initial(variable: Variable) -> str:
    if variable.init_expr is None or variable.source is None:
        return ""
    node = variable.init_expr
    text = " ".join(variable.source.text[node.start : node.end].split())
    return f" := {text[:80]}{'...' if len(text) > 80 else ''}" if text else ""


def type_declaration(entity: Entity) -> str:
    t = entity.type
    if isinstance(t, StructType):
        fields = [f"    {f.name} : {type_text(f.type)};" for f in list(t.fields.values())[:MAX_MEMBERS]]
        word = "UNION" if t.union else "STRUCT"
        return "\n".join([f"TYPE {entity.name} : {word}", *fields, f"END_{word}"])
    if isinstance(t, EnumType):
        values = [f"    {t.display[u]} := {v}" for u, v in list(t.members.items())[:MAX_MEMBERS]]
        return f"TYPE {entity.name} : (\n" + ",\n".join(values) + f"\n) {t.underlying.name};"
    return f"TYPE {entity.name} : {type_text(t)};"


def signature(symbol: PouSymbol) -> str:
    """Header and parameters of a POU or method."""
    head = f"{symbol.kind} {symbol.full_name}"
    if symbol.extends:
        head += " EXTENDS " + ", ".join(b.name for b in symbol.extends)
    if symbol.implements:
        head += " IMPLEMENTS " + ", ".join(b.name for b in symbol.implements)
    if symbol.result is not None and symbol.kind in ("FUNCTION", "METHOD"):
        head += f" : {type_text(symbol.result)}"
    lines = [f"    {parameter(p)}" for base in reversed(list(symbol.bases())) for p in base.params]
    return "\n".join([head, *lines])


def parameter(variable: Variable) -> str:
    return f"{_BLOCKS.get(variable.kind, 'VAR')} {variable.name} : {type_text(variable.type)}{initial(variable)}"


def builtin_signature(name: str) -> str:
    names = NAMES.get(name)
    if names is None:
        names = ("IN",) if "_TO_" in name or name.startswith(("TO_", "TRUNC")) else ("IN1", "IN2", "...")
        if name in ("SQRT", "LN", "LOG", "EXP", "SIN", "COS", "TAN", "ASIN", "ACOS", "ATAN"):
            names = ("IN",)
    return f"FUNCTION {name}({', '.join(names)})"


# -- comments --------------------------------------------------------------------------------------------


def comment(analysis: Analysis, entity: Entity) -> str:
    """The comment above the declaration, or behind it on its line."""
    place = defined(analysis, entity)
    if place is None:
        return ""
    source, start, _ = place
    comments = analysis.lexed(source)[1]
    text = source.text
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    above: list[str] = []
    edge = line_start
    for one in reversed([c for c in comments if c.end <= line_start]):
        gap = text[one.end : edge]
        begin = text.rfind("\n", 0, one.start) + 1
        if gap.strip() or gap.count("\n") > 1 or text[begin : one.start].strip():
            break
        above.insert(0, _plain(one.text))
        edge = begin
    if above:
        return "\n".join(above)
    behind = [c for c in comments if start < c.start < line_end]
    return _plain(behind[0].text) if behind else ""


def _plain(raw: str) -> str:
    body = raw[2:] if raw.startswith("//") else raw[2:-2]
    lines = [line.strip().strip("*").strip() for line in body.splitlines()]
    return "\n".join(line for line in lines if line)


def defined(analysis: Analysis, entity: Entity) -> tuple[Source, int, int] | None:
    """Where the name is declared; of a method, the declaration in the type it is called on."""
    if isinstance(entity.symbol, PouSymbol) and entity.kind in ("pou", "method", "action"):
        return entity.symbol.source, entity.symbol.tree.start, entity.symbol.tree.end
    for source, one in analysis.occurrences().get(entity.key, ()):
        if one.definition:
            return source, one.start, one.end
    symbol = entity.symbol
    if isinstance(symbol, Variable) and symbol.decl is not None and symbol.source is not None:
        return symbol.source, symbol.decl.start, symbol.decl.end
    if isinstance(symbol, tree.TypeDecl):
        return symbol.source, symbol.start, symbol.end
    return None


# -- literals --------------------------------------------------------------------------------------------


def literal(token: Token, prefix: str = "") -> str:
    """What a literal is worth, with its unit; nothing when there is nothing to add."""
    body = token.text.partition("#")[2]
    if token.kind == "TIME":
        ns = duration_ns(body)
        if ns is None:
            return ""
        seconds = abs(ns) // 1_000_000_000
        clock = f"{seconds // 86400} d {seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"duration: {ns / 1e6:,.6f}".rstrip("0").rstrip(".") + f" ms ({'-' if ns < 0 else ''}{clock})"
    if token.kind == "DATE":
        ns = date_ns(body)
        return f"date: day {ns // 86_400_000_000_000:,} since 1970-01-01" if ns is not None else ""
    if token.kind == "TOD":
        ns = clock_ns(body)
        return f"time of day: {ns // 1_000_000:,} ms since midnight" if ns is not None else ""
    if token.kind == "DT":
        ns = stamp_ns(body)
        return f"date and time: {ns // 1_000_000_000:,} s since 1970-01-01 00:00:00" if ns is not None else ""
    if token.kind == "INT":
        return _number(token.text, prefix)
    if token.kind == "REAL":
        return f"real: {float(token.text.replace('_', ''))!r}{f' ({prefix})' if prefix else ''}"
    if token.kind in ("STR", "WSTR"):
        return f"{'W' if token.kind == 'WSTR' else ''}STRING as written, {len(token.upper)} signs"
    if token.kind == "ADDR":
        area = {"I": "input", "Q": "output", "M": "memory"}.get(token.text[1:2].upper(), "part")
        width = {"B": "byte", "W": "word", "D": "double word", "L": "long word"}.get(token.text[2:3].upper(), "bit")
        return f"{area} {width} {token.text}"
    return ""


def _number(text: str, prefix: str) -> str:
    base, sign, digits = text.replace("_", "").partition("#")
    try:
        value = int(digits, int(base)) if sign else int(base)
    except ValueError:
        return ""
    return f"{prefix or 'integer'}: {value:,} = 16#{value:X} = 2#{value:b}" if value < 1 << 64 else ""


__all__ = ["builtin_signature", "comment", "declaration", "defined", "hover", "literal", "signature", "through"]
