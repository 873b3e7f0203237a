"""Types, initial values and type declarations: XML elements to Structured Text.

Understands TC6 (`<type><array>...`) and IEC 61131-10 (`<Type><InstantlyDefinedType xsi:type="ArrayTypeSpec">`).
Called by `project`. Raises UntranslatableError for what Structured Text cannot say.
"""

from __future__ import annotations

import re

from vplc.plcopen import words
from vplc.plcopen.document import Element
from vplc.plcopen.model import Line, Place, TypeDecl, UntranslatableError

ELEMENTARY = frozenset(
    """BOOL BYTE WORD DWORD LWORD SINT INT DINT LINT USINT UINT UDINT ULINT REAL LREAL TIME LTIME DATE LDATE TOD
    LTOD TIME_OF_DAY LTIME_OF_DAY DT LDT DATE_AND_TIME LDATE_AND_TIME STRING WSTRING CHAR WCHAR""".split()  # noqa: SIM905 - a table of words reads best as text
)
_BOUND = re.compile(r"[-+\w.#()* /]+\Z")
_TEXT_TYPE = re.compile(
    r"(?P<ref>REFERENCE\s+TO|POINTER\s+TO|REF_TO)\s+(?P<target>.+)\Z"
    r"|(?P<string>W?STRING)\s*[\[(]\s*(?P<length>\w+)\s*[\])]\Z"
    r"|ARRAY\s*\[(?P<dims>[^\[\]]+)\]\s*OF\s+(?P<element>.+)\Z",
    re.IGNORECASE | re.DOTALL,
)


def named(text: str, place: Place) -> str:
    """A type written as text: a name, `STRING(20)`, `POINTER TO INT`, `ARRAY [0..3] OF INT`."""
    if len(text) > 1000:
        raise UntranslatableError(place, "the type is too long to be one")
    text = " ".join(text.split())
    m = _TEXT_TYPE.match(text)
    if m is None:
        return text.upper() if text.upper() in ELEMENTARY else words.dotted(text, place)
    if m.group("ref"):
        word = " ".join(m.group("ref").upper().split())
        return f"{word} {named(m.group('target'), place)}"
    if m.group("string"):
        return f"{m.group('string').upper()}[{m.group('length')}]"
    dims = ", ".join(_range(*_halves(part, place), place) for part in m.group("dims").split(","))
    return f"ARRAY [{dims}] OF {named(m.group('element'), place)}"


def _halves(text: str, place: Place) -> tuple[str, str]:
    low, dots, high = text.partition("..")
    if not dots:
        raise UntranslatableError(place, f"array bounds {text[:40]!r} are not lower..upper")
    return low, high


def _range(low: str, high: str, place: Place) -> str:
    low, high = low.strip(), high.strip()
    for bound in (low, high):
        if not _BOUND.match(bound) or "(*" in bound or "*)" in bound or "//" in bound:
            raise UntranslatableError(place, f"{bound[:40]!r} is not a bound")
    return f"{low}..{high}"


def reference(holder: Element | None, place: Place) -> str:
    """The type an element such as `<type>`, `<baseType>` or `<returnType>` holds."""
    if holder is None:
        raise UntranslatableError(place, "the type is missing")
    name = holder.child("typename")
    if name is not None:
        return named(name.text, place)
    spec = next((c for c in holder.children if c.name not in ("adddata", "documentation")), None)
    if spec is None:
        if holder.text:
            return named(holder.text, place)
        raise UntranslatableError(place, "the type is missing")
    return _spec(spec, place)


def _spec(spec: Element, place: Place) -> str:
    kind = spec.name
    if kind == "instantlydefinedtype" or kind == "userdefinedtypespec":
        kind = spec.kind().removesuffix("Spec").removesuffix("Type").lower()
    if kind == "derived":
        return named(spec.get("name"), place)
    if kind in ("string", "wstring"):
        return _string(spec, kind)
    if kind.upper() in ELEMENTARY:
        return kind.upper()
    if kind == "array":
        dims = [_range(e.get("lower"), e.get("upper"), place) for e in _dimensions(spec)]
        if not dims:
            raise UntranslatableError(place, "the array has no dimension")
        return f"ARRAY [{', '.join(dims)}] OF {reference(spec.child('basetype'), place)}"
    if kind in ("subrangesigned", "subrangeunsigned", "subrange"):
        bounds = spec.child("range")
        if bounds is None:
            raise UntranslatableError(place, "the subrange has no range")
        base = reference(spec.child("basetype"), place)
        return f"{base} ({_range(bounds.get('lower'), bounds.get('upper'), place)})"
    if kind in ("pointer", "pointerto"):
        return f"POINTER TO {reference(spec.child('basetype'), place)}"
    if kind in ("ref", "reference"):
        return f"REF_TO {reference(spec.child('basetype', 'referencedtype'), place)}"
    if kind in ("directlyderived", "alias"):
        return reference(spec.child("basetype"), place)
    if kind in ("enum", "enumtypewithnamedvalue", "enumwithnamedvalue"):
        return _enum(spec, place, inline=True)[0][1]
    raise UntranslatableError(place, f"the type element <{spec.name}> {spec.kind()}".rstrip() + " is not known")


def _dimensions(spec: Element) -> list[Element]:
    return [e for c in spec.children if c.name != "basetype" for e in c.walk() if e.name in ("dimension", "indexrange")]


def _string(spec: Element, kind: str) -> str:
    length = spec.get("length") or spec.get("maxlength")
    return f"{kind.upper()}[{length}]" if re.fullmatch(r"\w+", length) else kind.upper()


def value(holder: Element | None, place: Place) -> str:
    """The initial value in an element such as `<initialValue>`; "" where there is none."""
    if holder is None:
        return ""
    simple, array, struct = holder.child("simplevalue"), holder.child("arrayvalue"), holder.child("structvalue")
    if simple is not None:
        given = simple.get("value") or simple.text
        return words.initial(given, place) if given.strip() else ""
    if array is not None:
        items = []
        for item in array.all("value"):
            one = value(item, place) or "0"
            times = item.get("repetitionvalue").strip()
            if times and not re.fullmatch(r"\w+", times):
                raise UntranslatableError(place, f"{times[:40]!r} is not a repetition count")
            items.append(f"{times}({one})" if times and times != "1" else one)
        return f"[{', '.join(items)}]"
    if struct is not None:
        members = [f"{words.name(e.get('member'), place)} := {value(e, place)}" for e in struct.all("value")]
        return f"({', '.join(members)})"
    return words.initial(holder.text, place) if holder.text else ""


def comment(element: Element) -> str:
    """The documentation of an element as one line."""
    doc = element.child("documentation")
    return words.one_line(" ".join(text for _, text in doc.lines())) if doc is not None else ""


def declaration(element: Element) -> TypeDecl:
    """A `<dataType>` or `<DataTypeDecl>`. Raises UntranslatableError."""
    place = Place("", f"type {element.get('name')}", element.line)
    name = words.name(element.get("name"), place)
    holder = element.child("basetype", "userdefinedtypespec")
    if holder is None:
        raise UntranslatableError(place, "the type has no definition")
    spec = holder
    if holder.name == "basetype":
        spec = next((c for c in holder.children if c.name not in ("adddata", "documentation")), holder)
    kind = spec.kind().lower() if spec.name == "userdefinedtypespec" else spec.name
    start = value(element.child("initialvalue"), place) or (
        value(spec.child("initialvalue"), place) if spec is not element else ""
    )
    tail = f" := {start}" if start else ""
    decl = TypeDecl(name, [], place, comment(element))
    if kind in ("struct", "structtypespec"):
        if spec.flag("overlap"):
            raise UntranslatableError(place, "overlapping structures are not supported")
        members = _members(spec, place, decl.fields)
        decl.lines = [(place.line, f"{name} : STRUCT"), *members, (place.line, f"END_STRUCT{tail};")]
    elif kind in ("enum", "enumtypespec", "enumtypewithnamedvaluespec"):
        lines = _enum(spec, place)
        decl.lines = [(lines[0][0], f"{name} : {lines[0][1]}"), *lines[1:]]
        decl.lines[-1] = (decl.lines[-1][0], decl.lines[-1][1] + tail + ";")
        decl.alias = "<enum>"
    else:
        decl.alias = _spec(spec, place) if spec is not holder or holder.name != "basetype" else reference(holder, place)
        decl.lines = [(place.line, f"{name} : {decl.alias}{tail};")]
    return decl


def _members(spec: Element, place: Place, fields: dict[str, str]) -> list[Line]:
    out = []
    for member in spec.all("variable", "member"):
        name = words.name(member.get("name"), place)
        of_type = reference(member.child("type"), place)
        start = value(member.child("initialvalue"), place)
        note = comment(member)
        fields[name.upper()] = of_type
        tail = (f" := {start}" if start else "") + ";" + (f"  // {note}" if note else "")
        out.append((member.line, f"    {name} : {of_type}{tail}"))
    if not out:
        raise UntranslatableError(place, "the structure has no member")
    return out


def _enum(spec: Element, place: Place, inline: bool = False) -> list[Line]:
    values = [e for e in spec.walk() if e.name in ("value", "enumerator") and e.get("name")]
    if not values:
        raise UntranslatableError(place, "the enumeration has no value")
    base = ""
    holder = spec.child("basetype")
    if holder is not None:
        base = " " + reference(holder, place)
    parts = []
    for e in values:
        number = e.get("value").strip()
        name = words.name(e.get("name"), place)
        parts.append((e, f"{name} := {words.expression(number, place)}" if number else name))
    if inline:
        return [(spec.line, f"({', '.join(p for _, p in parts)}){base}")]
    out: list[Line] = [(spec.line, "(")]
    for i, (e, part) in enumerate(parts):
        note = comment(e)
        out.append((e.line, f"    {part}{',' if i + 1 < len(parts) else ''}" + (f"  // {note}" if note else "")))
    out.append((spec.line, f"){base}"))
    return out
