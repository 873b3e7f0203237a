"""The model as Structured Text, and from each of its lines the way back to the XML.

Called by `load`. A POU, action or method whose body has no translation is left out as a whole and listed: what
calls it then fails to compile, instead of running without it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vplc.plcopen import words
from vplc.plcopen.model import (
    Body,
    Configuration,
    NotTaken,
    Part,
    Place,
    Pou,
    Project,
    Section,
    TypeDecl,
    UntranslatableError,
)
from vplc.plcopen.scope import Names, Scope, plain_text
from vplc.plcopen.sheet import Added, Sheet
from vplc.plcopen.translate import translate

_I = "    "
_HEADER = re.compile(r"\s*(?:\{[^}]*\}\s*)*(PROGRAM|FUNCTION_BLOCK|FUNCTION|METHOD)\b", re.IGNORECASE)


@dataclass(slots=True)
class Text:
    """Lines of Structured Text and where each comes from."""

    lines: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def add(self, text: str, place: Place, line: int = 0) -> None:
        at = Place(place.pou, place.what, line) if line and line != place.line else place
        for part in text.split("\n"):
            self.lines.append(part.rstrip("\r"))
            self.places.append(at)

    def extend(self, other: Text) -> None:
        self.lines += other.lines
        self.places += other.places

    def gap(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")
            self.places.append(self.places[-1])


def emit(project: Project) -> tuple[Text, list[NotTaken]]:
    """All of the project. What has no translation is in the list, and nowhere else."""
    out = Text()
    not_taken = list(project.not_taken)
    names = Names(project)
    for decl in project.types:
        _type(decl, out)
    # A named list is reached as LIST.variable, which only lists at the top of a file have.
    lists = [s for c in project.configurations for s in c.all_globals() if s.name]
    for section in [*project.globals, *lists]:
        out.gap()
        _section(section, out, "", "VAR_GLOBAL")
    seen: dict[str, Place] = {}
    for pou in project.pous:
        key = f"{pou.namespace}.{pou.name}".upper()
        if key in seen:
            not_taken.append(NotTaken(pou.place, f"a POU of this name is there already, line {seen[key].line}"))
            continue
        seen[key] = pou.place
        try:
            text = _pou(pou, names, not_taken)
        except UntranslatableError as e:
            not_taken.append(NotTaken(Place(pou.name, e.place.what, e.place.line), e.why))
            continue
        out.gap()
        out.extend(text)
    for conf in project.configurations:
        _configuration(conf, out, {p.name.upper() for p in project.pous})
    return out, not_taken


def _type(decl: TypeDecl, out: Text) -> None:
    out.gap()
    if decl.comment:
        out.add(f"// {decl.comment}", decl.place)
    out.add("TYPE", decl.place)
    for line, text in decl.lines:
        out.add(_I + text, decl.place, line)
    out.add("END_TYPE", decl.place)


def _section(section: Section, out: Text, indent: str, kind: str = "") -> None:
    if not section.variables:
        return
    if section.comment:
        out.add(f"{indent}// {section.comment}", section.place)
    if section.name:
        out.add(f"{indent}{{list: {section.name}}}", section.place)
    out.add(indent + " ".join((kind or section.kind, *section.options)), section.place)
    for v in section.variables:
        at = f" AT {v.address}" if v.address else ""
        start = f" := {v.initial}" if v.initial else ""
        note = f"  // {v.comment}" if v.comment else ""
        out.add(f"{indent}{_I}{v.name}{at} : {v.type}{v.edge}{start};{note}", v.place)
    out.add(f"{indent}END_VAR", section.place)


def _taken(pou: Pou) -> set[str]:
    """Every word the POU uses, so that added variables hide none."""
    texts = [plain_text(pou), pou.name]
    bodies: list[Body | None] = [pou.body]
    owners: list[Pou | Part] = [pou, *pou.parts]
    for part in pou.parts:
        texts += [part.name, plain_text(part)]
        bodies.append(part.body)
    texts += [f"{v.name} {v.type}" for o in owners for s in o.sections for v in s.variables]
    for body in bodies:
        if body is not None:
            texts += [text for _, text in body.lines]
            for node in (n for net in body.networks for n in net.nodes):
                texts += [node.text, node.instance, *(t for _, t in node.code)]
                texts += [p.text for p in (*node.inputs, *node.outputs)]
    return {w.upper() for text in texts for w in re.findall(r"[^\W\d]\w*", text)}


def _pou(pou: Pou, names: Names, not_taken: list[NotTaken]) -> Text:
    taken = _taken(pou) | set(names.globals) | set(names.pous) | set(names.fields)
    added = Added()
    body = _body(pou, None, pou.body, names, taken, added)
    parts: list[tuple[Part, Text, Added]] = []
    for part in pou.parts:
        own = added if part.kind == "ACTION" else Added()
        before = len(added.temporary), len(added.lasting)
        try:
            parts.append((part, _body(pou, part, part.body, names, taken, own), own))
        except UntranslatableError as e:
            del added.temporary[before[0] :], added.lasting[before[1] :]
            where = e.place.what if e.place.what.startswith(part.place.what) else f"{part.place.what}, {e.place.what}"
            not_taken.append(NotTaken(Place(pou.name, where, e.place.line), e.why))
    out = Text()
    if pou.namespace:
        out.add(f"NAMESPACE {pou.namespace}", pou.place)
    if pou.comment:
        out.add(f"// {pou.comment}", pou.place)
    for pragma in pou.pragmas:
        out.add(pragma, pou.place)
    _declaration(pou, out, added)
    for part, text, own in parts:
        if part.kind == "METHOD":
            _method(part, text, own, out)
    _properties(parts, out)
    out.extend(body)
    for part, text, _ in parts:
        if part.kind == "ACTION":
            out.add(f"ACTION {part.name}:", part.place)
            out.extend(text)
            out.add("END_ACTION", part.place)
    out.add(f"END_{pou.kind}", pou.place)
    if pou.namespace:
        out.add("END_NAMESPACE", pou.place)
    return out


def _declaration(pou: Pou, out: Text, added: Added) -> None:
    header = " ".join(word for word in (pou.kind, pou.modifiers, pou.name) if word)
    if pou.extends:
        header += f" EXTENDS {pou.extends}"
    if pou.implements:
        header += f" IMPLEMENTS {', '.join(pou.implements)}"
    if pou.result:
        header += f" : {pou.result}"
    if pou.plain:
        if not _HEADER.match(plain_text(pou)):
            out.add(header, pou.place)
        for line, text in pou.plain:
            out.add(text, Place(pou.name, "declaration", line))
    else:
        out.add(header, pou.place)
        for section in pou.sections:
            local = pou.kind == "FUNCTION" and section.kind == "VAR_TEMP"
            _section(section, out, "", "VAR" if local else "")
    _added(added, out, "VAR" if pou.kind == "FUNCTION" else "VAR_TEMP", "")


def _added(added: Added, out: Text, temporary: str, indent: str) -> None:
    for kind, found in (("VAR", added.lasting), (temporary, added.temporary)):
        if found:
            out.add(indent + kind, found[0][2])
            for name, type_name, place in found:
                out.add(f"{indent}{_I}{name} : {type_name};", place)
            out.add(f"{indent}END_VAR", found[0][2])


def _method(part: Part, text: Text, own: Added, out: Text) -> None:
    head = " ".join(w for w in ("METHOD", part.modifiers, part.name) if w) + (
        f" : {part.result}" if part.result else ""
    )
    if part.plain:
        plain = plain_text(part)
        if not _HEADER.match(plain):
            out.add(head, part.place)
        for line, one in part.plain:
            out.add(one, Place(part.place.pou, part.place.what, line))
    else:
        out.add(head, part.place)
        for section in part.sections:
            _section(section, out, "", "VAR" if section.kind == "VAR_TEMP" else "")
    _added(own, out, "VAR", "")
    out.extend(text)
    out.add("END_METHOD", part.place)


def _properties(parts: list[tuple[Part, Text, Added]], out: Text) -> None:
    order = list(dict.fromkeys(p.name for p, _, _ in parts if p.kind in ("GET", "SET")))
    for name in order:
        mine = [(p, t, a) for p, t, a in parts if p.name == name and p.kind in ("GET", "SET")]
        first = mine[0][0]
        head = " ".join(w for w in ("PROPERTY", first.modifiers, name) if w)
        out.add(f"{head} : {first.result}", first.place)
        for part, text, own in mine:
            out.add(part.kind, part.place)
            for section in part.sections:
                _section(section, out, "")
            for line, one in part.plain:
                out.add(one, Place(part.place.pou, part.place.what, line))
            _added(own, out, "VAR", "")
            out.extend(text)
            out.add(f"END_{part.kind}", part.place)
        out.add("END_PROPERTY", first.place)


def _body(pou: Pou, part: Part | None, body: Body | None, names: Names, taken: set[str], added: Added) -> Text:
    out = Text()
    place = part.place if part is not None else pou.place
    if body is None:
        return out
    if body.language == "ST":
        if words.unclosed_comment("\n".join(text for _, text in body.lines)):
            raise UntranslatableError(body.place, "a comment in its text is never closed")
        where = Place(pou.name, place.what or "body", body.place.line)
        for line, text in body.lines:
            out.add(text, where, line)
        return out
    if body.language not in ("FBD", "LD"):
        raise UntranslatableError(body.place, f"bodies in {body.language} are not translated")
    sheet = Sheet(Scope(names, pou, part), taken, added)
    for text, at, line in translate(body, sheet):
        what = f"{part.place.what}, {at.what}" if part is not None else at.what
        out.add(text, Place(pou.name, what, at.line), line)
    return out


def _configuration(conf: Configuration, out: Text, pous: set[str]) -> None:
    used = [r for r in conf.resources if r.instances or r.tasks or any(not s.name for s in r.globals)]
    if not used and all(s.name for s in conf.globals):
        return
    out.gap()
    out.add(f"CONFIGURATION {conf.name}", conf.place)
    for section in (s for s in conf.globals if not s.name):
        _section(section, out, _I)
    for resource in used:
        out.add(f"{_I}RESOURCE {resource.name} ON PLC", resource.place)
        for section in (s for s in resource.globals if not s.name):
            _section(section, out, _I * 2)
        for task in resource.tasks:
            out.add(f"{_I * 2}TASK {task.name}({task.options});", task.place)
        for i in resource.instances:
            with_task = f" WITH {i.task}" if i.task else ""
            out.add(f"{_I * 2}PROGRAM {i.name}{with_task} : {i.type};", i.place)
        out.add(f"{_I}END_RESOURCE", resource.place)
    out.add("END_CONFIGURATION", conf.place)
