"""The signed part of a virtual PLC: a folder with the compiled program, its source, and `control.json`.

`pack` makes the folder, the container (or the process archive) carries it, the workload reads it. Which variables are
tags, which may be set or forced from the centre and within what range, which channels exist and which of them are
written: all of it is signed with the program, so a site's configuration can only say where devices are and what value
a set-point has.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from manifests.errors import DocumentError, MachineError, Problem
from manifests.model import Name, TopicLevel
from manifests.validate import convert
from vplc.scan import values
from vplc.scan.layout import Layout, Variable
from workloads.kit.deadband import Deadband, mistakes

CONTROL_NAME = "control.json"
LIBRARY_NAME = "program.so"
LAYOUT_NAME = "program.json"
SOURCE_FOLDER = "source"
REPORT_NAME = "report.json"
MAX_BYTES = 64 << 20

VariablePath = Annotated[str, Meta(min_length=1, max_length=1000)]
Unit = Annotated[str, Meta(max_length=32)]
Description = Annotated[str, Meta(max_length=500)]
WHOLE_NUMBERS = frozenset(
    {"SINT", "INT", "DINT", "LINT", "USINT", "UINT", "UDINT", "ULINT", "BYTE", "WORD", "DWORD", "LWORD"}
)
NUMBERS = WHOLE_NUMBERS | {"REAL", "LREAL"}
DURATIONS = frozenset({"TIME", "LTIME"})


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class TagConfig(_Part, frozen=True):
    """A variable that the plant sees as a tag. ``quality`` names a byte variable that says what the value is worth, as
    the scan host's ``quality_address`` fills it; durations are told in seconds."""

    variable: VariablePath
    name: TopicLevel
    unit: Unit = ""
    description: Description = ""
    quality: VariablePath | None = None
    deadband: float | Deadband | None = None
    low: float | None = None
    high: float | None = None


class Adjustable(_Part, frozen=True):
    """A variable that may be set (``parameters``) or forced (``forces``) from the centre; numbers within a range."""

    minimum: float | None = None
    maximum: float | None = None
    unit: Unit = ""
    description: Description = ""


class Control(_Part, frozen=True):
    """``control.json``. ``scan`` is a configuration of the scan host, ``servers`` are those of ``vplc.servers``."""

    name: Name
    scan: Mapping[str, Any]
    sources: tuple[str, ...] = ()
    servers: Mapping[Name, Mapping[str, Any]] = {}
    tags: Annotated[tuple[TagConfig, ...], Meta(max_length=5000)] = ()
    parameters: Mapping[VariablePath, Adjustable] = {}
    forces: Mapping[VariablePath, Adjustable] = {}
    format: int = 1


def read(folder: Path) -> Control:
    """Raises MachineError when it is not there, DocumentError with every mistake in it."""
    path = folder / CONTROL_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MachineError(
            f"cannot read the program: {error.strerror}", where=str(path), remedy="a release carries it; build it again"
        ) from error
    try:
        raw = msgspec.json.decode(data[:MAX_BYTES])
    except msgspec.MsgspecError as error:
        raise DocumentError([Problem(str(path), "", f"is no JSON: {error}", "build the release again")]) from error
    parsed = convert(raw, Control, source=str(path))
    if isinstance(parsed, list):
        raise DocumentError(parsed)
    return parsed


def check(control: Control, layout: Layout, where: str) -> list[Problem]:
    """What does not fit between the document and the compiled program."""
    index = {variable.path.upper(): variable for variable in layout.variables}
    problems: list[Problem] = []

    def find(path: str, at: str) -> Variable | None:
        found = index.get(path.upper())
        if found is None:
            parts = [
                v.path for v in index.values() if v.path.upper().startswith((path.upper() + ".", path.upper() + "["))
            ]
            close = difflib.get_close_matches(path, [v.path for v in index.values()], 1)
            hint = f"name a part of it, such as {parts[0]}" if parts else f'did you mean "{close[0]}"?' if close else ""
            problems.append(Problem(where, at, f"the program has no variable {path}", hint))
        return found

    names: dict[str, int] = {}
    for i, tag in enumerate(control.tags):
        at = f"tags[{i}]"
        if tag.name == "journal":
            problems.append(Problem(where, f"{at}.name", '"journal" is the tag of what people change by hand'))
        if tag.name in names:
            problems.append(Problem(where, f"{at}.name", f'"{tag.name}" is tags[{names[tag.name]}] already'))
        names[tag.name] = i
        variable = find(tag.variable, f"{at}.variable")
        if variable is not None and not _scalar(variable):
            problems.append(Problem(where, f"{at}.variable", f"{tag.variable} is {variable.type}: a tag has one value"))
        quality = find(tag.quality, f"{at}.quality") if tag.quality else None
        if quality is not None and quality.size != 1:
            problems.append(Problem(where, f"{at}.quality", f"{tag.quality} is {quality.type}, not a byte"))
        problems.extend(Problem(where, f"{at}.deadband", what) for what in mistakes(tag.deadband, tag.low, tag.high))
    for kind, wanted in (("parameters", control.parameters), ("forces", control.forces)):
        for path, range_ in wanted.items():
            at = f"{kind}.{path}"
            variable = find(path, at)
            if variable is not None:
                problems.extend(Problem(where, at, what, hint) for what, hint in _adjustable(variable, range_, kind))
    return problems


def _scalar(variable: Variable) -> bool:
    """Elementary values, texts, and enumerations, of which only the name and the size are known."""
    base = variable.base.upper()
    if base in values.SIZES or base.startswith(("STRING", "WSTRING")):
        return True
    return not base.startswith("ARRAY") and not variable.refers and variable.size <= 8


def _adjustable(variable: Variable, range_: Adjustable, kind: str) -> Iterable[tuple[str, str]]:
    base = variable.base.upper()
    if variable.constant:
        yield f"{variable.path} is a constant", "declare it without CONSTANT"
    if base not in NUMBERS and base != "BOOL":
        yield f"{variable.path} is {variable.type}: only numbers and BOOL can be set from the centre", ""
    if kind == "parameters" and (variable.address or "").upper().startswith("%I"):
        yield f"{variable.path} is an input: its driver would set it back at once", "force it instead"
    low, high = range_.minimum, range_.maximum
    if base in NUMBERS and (low is None or high is None):
        yield "a number needs minimum and maximum: they are what is signed", "say how far it may be moved"
    elif low is not None and high is not None and not low <= high:
        yield f"minimum {low:g} is above maximum {high:g}", ""
    if base == "BOOL" and (low, high) != (None, None):
        yield f"{variable.path} is a BOOL and has no range", "leave minimum and maximum out"
