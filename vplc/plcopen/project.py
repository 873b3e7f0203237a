"""A project: elements to the model, for TC6 (0200, 0201) and IEC 61131-10, and what vendors put into addData.

Called by `load`. What cannot be said in Structured Text is listed in `Project.not_taken` with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vplc.plcopen import graphics, types, words
from vplc.plcopen.document import Element
from vplc.plcopen.model import (
    Configuration,
    Instance,
    Line,
    NotTaken,
    Part,
    Place,
    Pou,
    Project,
    Resource,
    Section,
    Task,
    UntranslatableError,
    Variable,
)

NAMESPACES = (
    "http://www.plcopen.org/xml/tc6_0201",
    "http://www.plcopen.org/xml/tc6_0200",
    "http://www.plcopen.org/xml/tc6.xsd",
    "www.iec.ch/public/TC65SC65BWG7TF10",
)
_SECTIONS = {
    "inputvars": "VAR_INPUT", "outputvars": "VAR_OUTPUT", "inoutvars": "VAR_IN_OUT", "localvars": "VAR",
    "vars": "VAR", "tempvars": "VAR_TEMP", "externalvars": "VAR_EXTERNAL", "globalvars": "VAR_GLOBAL",
}  # fmt: skip
_POU_KINDS = {"program": "PROGRAM", "function": "FUNCTION", "functionblock": "FUNCTION_BLOCK"}
_ISO = re.compile(r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?\Z", re.IGNORECASE)
_PLAIN = frozenset({"interfaceasplaintext", "textdeclaration"})
# Vendor data that changes nothing about what the program does.
_SILENT = frozenset(
    """objectid projectstructure projectinformation attributes pouinheritance accessmodifiers tasksettings
    interfaceasplaintext method property action pou datatype globalvars mixedattrsvarlist application
    resource buildproperties libraries contentheader""".split()  # noqa: SIM905 - a table of words reads best as text
)


def project(root: Element, name: str) -> Project:
    """Everything under the root element; a single POU (as some tools export) counts as a project."""
    out = Project(name)
    if root.name == "project":
        header = root.child("contentheader")
        out.name = header.get("name") if header is not None and header.get("name") else name
        types_el, instances = root.child("types"), root.child("instances")
        if types_el is not None:
            _types(types_el, out)
        if instances is not None:
            for conf in instances.walk():
                if conf.name == "configuration":
                    _attempt(out, _configuration, conf, out)
        for data in _vendor_data(root):
            _add_data(data, out)
    elif root.name in ("pou", *_POU_KINDS):
        _attempt(out, _take_pou, root, out, "")
    return out


def _attempt(out: Project, take: object, *args: object) -> None:
    assert callable(take)
    try:
        take(*args)
    except UntranslatableError as e:
        out.not_taken.append(NotTaken(e.place, e.why))


def _types(element: Element, out: Project, namespace: str = "") -> None:
    for e in element.children:
        if e.name in ("datatypes", "pous", "globalnamespace"):
            _types(e, out, namespace)
        elif e.name in ("datatype", "datatypedecl", "userdefinedtypedecl"):
            _attempt(out, lambda d: out.types.append(types.declaration(d)), e)
        elif e.name == "pou" or e.name in _POU_KINDS:
            _attempt(out, _take_pou, e, out, namespace)
        elif e.name == "namespacedecl":
            inner = e.get("name")
            if not words.is_name(inner):
                out.not_taken.append(NotTaken(Place("", f"namespace {inner[:40]!r}", e.line), "it has no usable name"))
                continue
            if any(c.name in ("datatypedecl", "userdefinedtypedecl") for c in e.children):
                place = Place("", f"namespace {inner}", e.line)
                out.not_taken.append(NotTaken(place, "types are taken out of their namespace", logic=False))
            _types(e, out, f"{namespace}.{inner}".strip("."))
        elif e.name in ("class", "interface", "interfacedecl"):
            what = f"{e.name} {e.get('name')}"
            out.not_taken.append(NotTaken(Place("", what, e.line), f"a {e.name} is not translated"))


def _vendor_data(element: Element) -> Iterator[Element]:
    for add_data in element.all("adddata"):
        yield from add_data.all("data")


def _add_data(data: Element, out: Project) -> None:
    """CODESYS puts an application's POUs, types and variable lists here."""
    for e in data.children:
        if e.name == "pou":
            _attempt(out, _take_pou, e, out, "")
        elif e.name == "datatype":
            _attempt(out, lambda d: out.types.append(types.declaration(d)), e)
        elif e.name == "globalvars":
            _attempt(out, _globals, e, out, out.globals)
        elif e.name == "mixedattrsvarlist":
            for part in e.all("globalvars"):
                _attempt(out, _globals, part, out, out.globals)
        elif e.name in ("interface", "itf"):
            what = f"interface {e.get('name')}"
            out.not_taken.append(NotTaken(Place("", what, e.line), "an interface is not translated"))
        elif e.name == "resource":
            for inner in _vendor_data(e):
                _add_data(inner, out)
    word = data.get("name").rpartition("/")[2].lower()
    if word not in _SILENT and not any(c.name in ("pou", "datatype", "globalvars", "interface") for c in data.children):
        place = Place("", f"data {data.get('name')[:80]}", data.line)
        out.not_taken.append(NotTaken(place, "vendor data without meaning for the program", logic=False))


# -- POUs --------------------------------------------------------------------------------------------


def _take_pou(e: Element, out: Project, namespace: str) -> None:
    what = e.get("name")
    kind = _POU_KINDS.get(e.get("poutype").lower() if e.name == "pou" else e.name, "")
    place = Place(what, "", e.line)
    if not kind:
        raise UntranslatableError(place, f"POU type {e.get('poutype')!r} is not translated")
    pou = Pou(kind, words.name(what, place), place, None, comment=types.comment(e), namespace=namespace)
    interface = e.child("interface") or e
    pou.sections, pou.result, pou.plain = _interface(interface, e, pou.name, out)
    if kind == "FUNCTION" and not pou.result and not pou.plain:
        pou.result = ""  # a function without result: legal in edition 3
    pou.modifiers = _modifiers(e, interface)
    for data in (*_vendor_data(interface), *_vendor_data(e)):
        _pou_data(data, pou, out)
    pou.body = graphics.bodies(e.all("body", "mainbody"), pou.name)
    for holder in (e, *e.all("actions", "transitions", "methods")):
        for part in holder.children:
            if part.name == "action" or part.name == "method":
                _attempt(out, _part, part, pou, out)
            elif part.name == "transition":
                where = Place(pou.name, f"transition {part.get('name')}", part.line)
                out.not_taken.append(NotTaken(where, "transitions belong to SFC", logic=False))
    out.pous.append(pou)


def _modifiers(*elements: Element) -> str:
    found = set()
    for e in elements:
        for access in (a for d in _vendor_data(e) for a in d.all("accessmodifiers")):
            found |= {k.upper() for k, v in access.attributes.items() if v.lower() == "true"}
        found |= {w.upper() for w in ("abstract", "final", "override") if e.flag(w)}
        found |= {e.get("accessspecifier").upper()}
    order = ("PUBLIC", "PRIVATE", "PROTECTED", "INTERNAL", "ABSTRACT", "FINAL", "OVERRIDE")
    return " ".join(w for w in order if w in found)


def _pou_data(data: Element, pou: Pou, out: Project) -> None:
    for e in data.children:
        if e.name == "inheritance":
            bases = [words.dotted(b.text, pou.place) for b in e.all("extends") if b.text]
            pou.extends = bases[0] if bases else ""
            pou.implements = tuple(words.dotted(b.text, pou.place) for b in e.all("implements") if b.text)
        elif e.name in ("method", "action"):
            _attempt(out, _part, e, pou, out)
        elif e.name == "property":
            _attempt(out, _property, e, pou, out)
        elif e.name == "attributes":
            for a in e.all("attribute"):
                given = f"attribute '{a.get('name')}'" + (f" := '{a.get('value')}'" if a.get("value") else "")
                if re.fullmatch(r"[\w '.:=,;\-]+", given) and given.count("'") in (2, 4):
                    pou.pragmas.append("{" + given + "}")
    word = data.get("name").rpartition("/")[2].lower()
    if word not in _SILENT and not any(c.name in _PLAIN for c in data.children):
        place = Place(pou.name, f"data {data.get('name')[:80]}", data.line)
        out.not_taken.append(NotTaken(place, "vendor data without meaning for the program", logic=False))


def _part(e: Element, pou: Pou, out: Project) -> None:
    kind = "METHOD" if e.name == "method" else "ACTION"
    place = Place(pou.name, f"{kind.lower()} {e.get('name')}", e.line)
    name = words.name(e.get("name"), place)
    body = graphics.bodies(e.all("body", "mainbody"), pou.name)
    part = Part(kind, name, body, place)
    if kind == "METHOD":
        interface = e.child("interface") or e
        part.sections, part.result, part.plain = _interface(interface, e, pou.name, out)
        part.modifiers = _modifiers(e, interface)
    pou.parts.append(part)


def _property(e: Element, pou: Pou, out: Project) -> None:
    place = Place(pou.name, f"property {e.get('name')}", e.line)
    name = words.name(e.get("name"), place)
    interface = e.child("interface")
    returned = interface.child("returntype") if interface is not None else None
    result = types.reference(returned, place) if returned is not None else ""
    plain = e.child(*_PLAIN)
    if not result and plain is not None:
        found = re.search(r"\bPROPERTY\b[^:]*:\s*([^;:=]+)", plain.all_text()[:2000], re.IGNORECASE)
        result = types.named(found.group(1), place) if found else ""
    if not result:
        raise UntranslatableError(place, "the property has no type")
    for kind, accessor in (("GET", e.child("getaccessor")), ("SET", e.child("setaccessor"))):
        if accessor is not None:
            inner = accessor.child("interface") or accessor
            part = Part(kind, name, graphics.bodies(accessor.all("body"), pou.name), place, result=result)
            part.sections, _, part.plain = _interface(inner, accessor, pou.name, out)
            part.sections = [s for s in part.sections if s.variables]
            part.modifiers = _modifiers(e, interface or e)
            pou.parts.append(part)


def _interface(interface: Element, owner: Element, pou: str, out: Project) -> tuple[list[Section], str, list[Line]]:
    """VAR sections and result type; the declaration as text where the file has no other."""
    sections: list[Section] = []
    result = ""
    for e in interface.children:
        if e.name in _SECTIONS:
            sections.extend(_section(e, pou))
        elif e.name == "parameters":
            sections.extend(s for inner in e.children if inner.name in _SECTIONS for s in _section(inner, pou))
        elif e.name in ("returntype", "resulttype"):
            result = types.reference(e, Place(pou, "result", e.line))
        elif e.name == "accessvars":
            place = Place(pou, "access variables", e.line)
            out.not_taken.append(NotTaken(place, "VAR_ACCESS is not translated", logic=False))
    plain: list[Line] = []
    if not any(s.variables for s in sections):
        places = [owner, interface] if owner is not interface else [owner]
        texts = [e for p in places for a in _texts(p) for e in a.walk() if e.name in _PLAIN]
        if texts:
            plain = texts[0].lines()
            text = "\n".join(t for _, t in plain)
            if words.unclosed_comment(text):
                raise UntranslatableError(Place(pou, "declaration", texts[0].line), "a comment in it is never closed")
            if re.search(r"\b(VAR(_[A-Z]+)*|METHOD|PROGRAM|FUNCTION|FUNCTION_BLOCK)\b", text, re.IGNORECASE):
                return [], result, plain
            plain = []
    return sections, result, plain


def _texts(e: Element) -> Iterator[Element]:
    """Where declarations as text may stand: in addData of the POU or of a section, or beside the body."""
    yield from e.all("adddata", *_PLAIN)
    for section in e.children:
        if section.name in _SECTIONS:
            yield from section.all("adddata")


def _options(e: Element) -> tuple[str, ...]:
    flags = (("constant", "CONSTANT"), ("retain", "RETAIN"), ("nonretain", "NON_RETAIN"), ("persistent", "PERSISTENT"))
    found = [word for attribute, word in flags if e.flag(attribute)]
    return tuple(w for w in found if w != "RETAIN" or "PERSISTENT" not in found)


def _section(e: Element, pou: str) -> list[Section]:
    section = Section(_SECTIONS[e.name], _options(e), [], Place(pou, e.name, e.line), comment=types.comment(e))
    ordered = sorted(e.all("variable"), key=lambda v: int(o) if (o := v.get("orderwithinparamset")).isdigit() else 0)
    for v in ordered:
        place = Place(pou, f"variable {v.get('name')}", v.line)
        name = words.name(v.get("name"), place)
        where = v.child("address", "addressexpression")
        address = v.get("address") or (where.get("address") if where is not None else "")
        edge = v.get("edgedetection").lower()
        section.variables.append(
            Variable(
                name,
                types.reference(v.child("type"), place),
                place,
                types.value(v.child("initialvalue"), place),
                words.address(address, place) if address.strip() else "",
                {"rising": " R_EDGE", "falling": " F_EDGE"}.get(edge, ""),
                types.comment(v),
            )
        )
    return [section]


def _globals(e: Element, out: Project, into: list[Section]) -> None:
    found = _section(e, "")
    mixed = [g for d in _vendor_data(e) for m in d.all("mixedattrsvarlist") for g in m.all("globalvars")]
    if mixed and not found[0].variables:
        found = [s for g in mixed for s in _section(g, "")]
    for section in found:
        if words.is_name(e.get("name")):
            section.name = e.get("name")
    into.extend(s for s in found if s.variables)


# -- configurations ----------------------------------------------------------------------------------


def _configuration(e: Element, out: Project) -> None:
    place = Place("", f"configuration {e.get('name')}", e.line)
    conf = Configuration(_tidy(e.get("name"), "Configuration", place, out), place)
    for child in e.children:
        if child.name == "globalvars":
            _attempt(out, _globals, child, out, conf.globals)
        elif child.name == "resource":
            _attempt(out, _resource, child, conf, out)
        elif child.name in ("accessvars", "configvars"):
            where = Place("", child.name, child.line)
            out.not_taken.append(
                NotTaken(where, "VAR_ACCESS and VAR_CONFIG are not translated", child.name != "accessvars")
            )
    for data in _vendor_data(e):
        _add_data(data, out)
    out.configurations.append(conf)


def _tidy(given: str, default: str, place: Place, out: Project) -> str:
    """Configurations and resources bear free names in some tools ("PLC 1"); nothing refers to them."""
    if words.is_name(given):
        return given
    plain = re.sub(r"\W+", "_", given).strip("_")
    plain = re.sub(r"_+", "_", plain)
    name = plain if words.is_name(plain) else default
    out.not_taken.append(NotTaken(place, f"the name {given[:40]!r} became {name}", logic=False))
    return name


def _resource(e: Element, conf: Configuration, out: Project) -> None:
    place = Place("", f"resource {e.get('name')}", e.line)
    resource = Resource(_tidy(e.get("name"), "Resource1", place, out), place)
    for child in e.children:
        if child.name == "globalvars":
            _attempt(out, _globals, child, out, resource.globals)
        elif child.name == "task":
            _attempt(out, _task, child, resource, out)
        elif child.name in ("pouinstance", "programinstance"):
            _attempt(out, _instance, child, resource, "")
    for data in _vendor_data(e):
        _add_data(data, out)
    conf.resources.append(resource)


def _task(e: Element, resource: Resource, out: Project) -> None:
    place = Place("", f"task {e.get('name')}", e.line)
    name = words.name(e.get("name"), place)
    # Before anything can fail: an instance whose task is not taken must not vanish with it.
    for child in e.all("pouinstance", "programinstance"):
        _attempt(out, _instance, child, resource, name)
    options = []
    interval = _interval(e, place)
    if interval:
        options.append(f"INTERVAL := {interval}")
    if e.get("single").strip():
        options.append(f"SINGLE := {words.expression(e.get('single'), place)}")
    priority = e.get("priority").strip()
    if not re.fullmatch(r"[0-9]{1,6}", priority):
        out.not_taken.append(NotTaken(place, f"the priority {priority[:20]!r} is no number; 0 is taken", logic=False))
        priority = "0"
    options.append(f"PRIORITY := {priority}")
    resource.tasks.append(Task(name, ", ".join(options), place))


def _interval(e: Element, place: Place) -> str:
    """The task's interval as a TIME literal: a literal, an ISO duration, or CODESYS' settings."""
    given = e.get("interval").strip()
    settings = next((d for a in e.all("adddata") for d in a.walk() if d.name == "tasksettings"), None)
    if settings is not None and settings.get("interval").strip():
        given = settings.get("interval").strip()
        unit = settings.get("intervalunit").strip().lower()
        if re.fullmatch(r"\d+", given) and unit in ("us", "ms", "s"):
            return f"T#{given}{unit}"
    if not given:
        return ""
    iso = _ISO.match(given)
    if iso and any(iso.groups()):
        parts = zip(iso.groups(), "dhms", strict=True)
        used = [f"{value}{unit}" for value, unit in parts if value and float(value)]
        return "T#" + "".join(used) if used else ""
    if given == "0":
        return ""
    if re.fullmatch(r"(?:T|TIME|LT|LTIME)#[\w.]+", given, re.IGNORECASE):
        return given.upper() if given[0].islower() else given
    return words.expression(given, place)


def _instance(e: Element, resource: Resource, task: str) -> None:
    place = Place("", f"instance {e.get('name')}", e.line)
    of_type = e.get("typename").strip() or e.get("name")
    task = task or e.get("associatedtaskname") or e.get("taskname") or e.get("task")
    if task:
        task = words.name(task, place)
    resource.instances.append(Instance(words.name(e.get("name"), place), words.dotted(of_type, place), task, place))
