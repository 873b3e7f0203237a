"""What may be typed next, and what the call under the cursor takes."""

from __future__ import annotations

from dataclasses import dataclass

from lsprotocol import types as lsp

from vplc.compiler.lexer import RESERVED, Token, tokenize
from vplc.compiler.source import Diagnostics, Source
from vplc.compiler.symbols import PouSymbol, Variable
from vplc.compiler.types import EnumType
from vplc.lsp import describe
from vplc.lsp.names import BUILTINS, TYPE_NAMES, Entity
from vplc.lsp.project import Analysis
from vplc.lsp.walk import Walk, walk

MAX_ITEMS = 2_000
_KINDS = {
    "variable": lsp.CompletionItemKind.Variable,
    "field": lsp.CompletionItemKind.Field,
    "enum_value": lsp.CompletionItemKind.EnumMember,
    "type": lsp.CompletionItemKind.Struct,
    "method": lsp.CompletionItemKind.Method,
    "action": lsp.CompletionItemKind.Method,
    "property": lsp.CompletionItemKind.Property,
    "namespace": lsp.CompletionItemKind.Module,
    "elementary": lsp.CompletionItemKind.Keyword,
    "builtin": lsp.CompletionItemKind.Function,
}


@dataclass(slots=True)
class Before:
    """The text before the cursor, read: its last word may be half typed. `silent`: inside a comment or string."""

    walk: Walk
    tokens: list[Token]
    silent: bool


def read_before(analysis: Analysis, source: Source, offset: int) -> Before:
    """`source` is the text as it is now; `analysis` may be older."""
    cut = Source(source.name, source.text[:offset])
    found = Diagnostics()
    comments: list[Token] = []
    tokens = [t for t in tokenize(cut, found, comments) if t.kind not in ("EOF", "PRAGMA")]
    silent = any(d.code in ("E001", "E002") for d in found.items[-1:]) or (
        bool(comments) and comments[-1].end == offset and comments[-1].text.startswith("//")
    )
    if (
        tokens
        and tokens[-1].end == offset
        and tokens[-1].kind != "PREFIX"
        and f"x{tokens[-1].text[-1:]}".isidentifier()
    ):
        tokens.pop()  # the word that is being typed
    return Before(walk(analysis.names, cut, tokens), tokens, silent)


def complete(analysis: Analysis, source: Source, offset: int) -> list[lsp.CompletionItem]:
    before = read_before(analysis, source, offset)
    if before.silent:
        return []
    names = analysis.names
    seen = before.walk
    last = before.tokens[-1] if before.tokens else None
    if last is not None and last.kind == ".":
        entity, t = seen.current
        return [_item(e) for e in sorted(names.members(entity, t, seen.place.pou), key=lambda e: e.name.upper())]
    if last is not None and last.kind == "PREFIX":
        entity = seen.current[0]
        if entity is not None and isinstance(entity.type, EnumType):
            return [_item(e) for e in names.members(entity, None)]
        return []
    if seen.mode == "name":
        return [_word(w) for w in _DECLARING]
    if seen.mode == "type" and not seen.frames:
        # Variables do not hide types here: `pump : Pump` is common.
        known = (names.entity(symbol) for symbol in names.everything())
        items = [_item(e, "2" if e.library else "1") for e in known if e is not None and _is_type(e)]
        return [*items, *(_word(w, "2") for w in (*TYPE_NAMES, "ARRAY", "REF_TO", "POINTER", "REFERENCE", "STRUCT"))]
    visible = names.visible(seen.place)
    items = []
    if seen.frames and seen.frames[-1].sign == "(" and last is not None and last.kind in ("(", ","):
        items = [_argument(p) for p in names.parameters(seen.frames[-1].callee)]
    for entity in visible:
        if entity.kind != "type" or isinstance(entity.type, EnumType):
            rank = "3" if entity.library else "2" if entity.kind in ("pou", "type", "enum_value") else "1"
            items.append(_item(entity, rank))
        if len(items) >= MAX_ITEMS:
            break
    items += [_item(Entity(("b", n), "builtin", n), "4") for n in BUILTINS]
    return items + [_word(w, "5") for w in sorted(RESERVED)]


_DECLARING = sorted(w for w in RESERVED if w.startswith(("END_", "VAR")))


def _is_type(entity: Entity) -> bool:
    if entity.kind in ("type", "namespace"):
        return True
    return isinstance(entity.symbol, PouSymbol) and entity.symbol.kind in ("FUNCTION_BLOCK", "CLASS", "INTERFACE")


def _item(entity: Entity, rank: str = "1") -> lsp.CompletionItem:
    kind = _KINDS.get(entity.kind, lsp.CompletionItemKind.Function)
    if isinstance(entity.symbol, PouSymbol) and entity.symbol.kind in ("FUNCTION_BLOCK", "CLASS", "PROGRAM"):
        kind = lsp.CompletionItemKind.Class
    return lsp.CompletionItem(
        label=entity.name,
        kind=kind,
        detail=describe.declaration(entity).partition("\n")[0],
        documentation=_parameters(entity),
        sort_text=rank + entity.name.upper(),
    )


def _parameters(entity: Entity) -> str | None:
    if not isinstance(entity.symbol, PouSymbol) or entity.kind == "property":
        return None
    return "\n".join(describe.signature(entity.symbol).splitlines()[1:]) or None


def _argument(parameter: Variable) -> lsp.CompletionItem:
    sign = "=>" if parameter.kind == "output" else ":="
    return lsp.CompletionItem(
        label=f"{parameter.name} {sign}",
        insert_text=f"{parameter.name} {sign} ",
        filter_text=parameter.name,
        kind=lsp.CompletionItemKind.Property,
        detail=describe.parameter(parameter),
        sort_text="0",
    )


def _word(word: str, rank: str = "1") -> lsp.CompletionItem:
    return lsp.CompletionItem(label=word, kind=lsp.CompletionItemKind.Keyword, sort_text=rank + word)


def signature_help(analysis: Analysis, source: Source, offset: int) -> lsp.SignatureHelp | None:
    before = read_before(analysis, source, offset)
    if before.silent:
        return None
    for frame in reversed(before.walk.frames):
        if frame.sign != "(" or frame.callee is None:
            continue
        callee = frame.callee
        if callee.kind == "builtin":
            label = describe.builtin_signature(callee.name)
            inside = label.partition("(")[2].rstrip(")").split(", ")
            parts = [lsp.ParameterInformation(name) for name in inside]
            active = min(frame.index, len(parts) - 1)
        else:
            parameters = analysis.names.parameters(callee)
            texts = [
                f"{p.name} {'=>' if p.kind == 'output' else ':='} {describe.type_text(p.type)}" for p in parameters
            ]
            result = analysis.names.result_type(callee)
            label = f"{callee.name}({', '.join(texts)})" + (f" : {result.name}" if result is not None else "")
            parts = [lsp.ParameterInformation(t, describe.parameter(p)) for t, p in zip(texts, parameters, strict=True)]
            active = frame.index
            if frame.named is not None:
                upper = frame.named.name.upper()
                active = next((i for i, p in enumerate(parameters) if p.name.upper() == upper), active)
        note = describe.comment(analysis, callee)
        return lsp.SignatureHelp([lsp.SignatureInformation(label, note or None, parts)], 0, active)
    return None
