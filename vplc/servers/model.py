"""A running program as a tree of what clients see: programs, instances, structures, arrays and variables.

Made from the compiler's layout document in the run folder, once per version of the program. Pure apart from `load`.
Both servers use it; neither reads the document itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vplc.scan import layout, variables
from vplc.scan.errors import NotRunning, Problem, Refused
from vplc.scan.layout import Variable

MAX_ELEMENTS = 100_000  # the compiler describes larger arrays of structures as one block of bytes


@dataclass(frozen=True, slots=True)
class Elementary:
    """INT, BOOL, STRING[80], ..."""

    name: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A pointer, reference or interface: means a place of one layout, so it is not shown."""

    name: str


@dataclass(frozen=True, slots=True)
class Enumeration:
    number: int
    name: str
    base: str
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Subrange:
    number: int
    name: str
    base: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Structure:
    number: int
    name: str
    union: bool
    fields: tuple[tuple[str, Type], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A function block, class or program; members are name, type and section."""

    number: int
    name: str
    pou: str
    base: int | None
    members: tuple[tuple[str, Type, str], ...]


@dataclass(frozen=True, slots=True)
class Array:
    of: Type
    dims: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        total = 1
        for low, high in self.dims:
            total *= max(0, high - low + 1)
        return total


@dataclass(frozen=True, slots=True)
class Named:
    """A type by its number, so that types may lead back to themselves."""

    number: int


Type = Elementary | Reference | Array | Named
Definition = Enumeration | Subrange | Structure | Block


@dataclass(eq=False, slots=True)
class Item:
    """Something with a path. A leaf has a variable; others have parts. `section` says how its owner declares it."""

    path: str
    name: str
    type: Type
    section: str
    parent: Item | None
    variable: Variable | None = None
    parts: list[Item] = field(default_factory=list)
    externals: tuple[str, ...] = ()

    def leaves(self) -> Iterator[Item]:
        if self.variable is not None:
            yield self
        for part in self.parts:
            yield from part.leaves()


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    interval_ns: int | None
    priority: int
    single: str | None


@dataclass(frozen=True)
class Model:
    """One version of a program. `feeds` names driver and channel that write a variable before each scan."""

    version: int
    configuration: str
    resource: str
    tasks: tuple[Task, ...]
    program_tasks: Mapping[str, str | None]
    types: tuple[Definition, ...]
    globals: tuple[Item, ...]
    programs: tuple[Item, ...]
    areas: Mapping[str, tuple[int, int]]
    known: variables.Variables
    source_sha256: str = ""

    @cached_property
    def items(self) -> dict[str, Item]:
        """By path, in capitals: paths are not case sensitive."""
        out: dict[str, Item] = {}
        todo = [*self.globals, *self.programs]
        while todo:
            item = todo.pop()
            out[item.path.upper()] = item
            todo.extend(item.parts)
        return out

    @cached_property
    def feeds(self) -> dict[str, list[tuple[str, str]]]:
        out: dict[str, list[tuple[str, str]]] = {}
        if not self.known.fed:
            return out
        begin, size = self.areas["I"]
        for v in self.known.rows:
            if not begin <= v.offset < begin + size:
                continue
            for fed in self.known.fed:
                if variables.overlap(v, _place(fed)):
                    out.setdefault(v.path.upper(), []).append((fed.driver, fed.channel))
        return out

    def item(self, path: str) -> Item | None:
        return self.items.get(path.upper())

    def definition(self, t: Type) -> Definition | None:
        return self.types[t.number] if isinstance(t, Named) else None

    def program_of(self, item: Item) -> str | None:
        """The program instance an item lies in; None for globals."""
        while item.parent is not None:
            item = item.parent
        return item.path if item.section == "program" else None

    def is_structure(self, t: Type) -> bool:
        """Whether a value of this type is data only: no instances, no overlays."""
        if isinstance(t, Array):
            return self.is_structure(t.of)
        found = self.definition(t)
        if isinstance(found, Structure):
            return not found.union and all(self.is_data(f) for _, f in found.fields)
        return False

    def is_data(self, t: Type) -> bool:
        found = self.definition(t)
        if isinstance(t, Array):
            return self.is_data(t.of)
        return not isinstance(found, (Block, Structure)) or self.is_structure(t)


def _place(fed: variables.Fed) -> Variable:
    return Variable("", None, "", "", fed.offset, fed.size, fed.bit, False, False, None)


def load(folder: Path, version: int) -> Model:
    """The model of a version that runs in a run folder. Raises NotRunning without its description, Refused when it was
    built before layouts told their structure."""
    path = variables.layout_file(folder, version)
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise NotRunning(f"{folder}: version {version} of the program is not described") from error
    except ValueError as error:
        raise Refused([Problem(str(path), f"the layout is no JSON: {error}", "build the program again")]) from error
    return parse(document, variables.read(folder, version), str(path))


def parse(document: Any, known: variables.Variables, where: str) -> Model:  # Any: JSON as read
    """Raises Refused when the document is not whole."""
    if isinstance(document, dict) and "structure" not in document:
        what = "the layout does not say how its variables belong together"
        raise Refused([Problem(where, what, "build the program again: vplc build")])
    plain = layout.parse(document, where)
    try:
        return _Builder(document["structure"], known).model(document, plain)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Refused([Problem(where, f"the structure lacks or garbles {error}", "build it again")]) from error


class _Builder:
    def __init__(self, structure: Mapping[str, Any], known: variables.Variables) -> None:
        self.structure, self.known = structure, known
        self.types = tuple(_definition(i, row) for i, row in enumerate(structure["types"]))
        self.by_path = {v.path.upper(): v for v in known.rows}

    def model(self, document: Mapping[str, Any], plain: layout.Layout) -> Model:
        programs = []
        for name, number in self.structure["programs"]:
            found = self.item(name, name, Named(number), "program", None)
            if found is not None:
                programs.append(found)
        shared = [self.item(name, name, _type(t), "global", None) for name, t in self.structure["globals"]]
        return Model(
            version=self.known.version,
            configuration=self.structure["configuration"] or "Configuration",
            resource=self.structure["resource"] or "Resource",
            tasks=tuple(Task(t["name"], t["interval_ns"], t["priority"], t["single"]) for t in document["tasks"]),
            program_tasks={p.name: p.task for p in plain.programs},
            types=self.types,
            globals=tuple(g for g in shared if g is not None),
            programs=tuple(programs),
            areas=plain.areas,
            known=self.known,
            source_sha256=plain.source_sha256,
        )

    def item(self, path: str, name: str, t: Type, section: str, parent: Item | None) -> Item | None:
        """None for what has no place or cannot be shown."""
        if isinstance(t, Reference):
            return None
        here = Item(path, name, t, section, parent)
        found = self.types[t.number] if isinstance(t, Named) else None
        if isinstance(found, Structure):
            self._add(here, [(f"{path}.{n}", n, of, "local") for n, of in found.fields])
        elif isinstance(found, Block):
            inside = [m for m in found.members if m[2] not in ("inout", "external")]
            self._add(here, [(f"{path}.{n}", n, of, s) for n, of, s in inside])
            here.externals = tuple(n for n, _, s in found.members if s == "external")
        elif isinstance(t, Array) and self._expanded(t):
            self._add(here, [(path + n, n, t.of, "local") for n in _indices(t.dims)])
        else:
            here.variable = self.by_path.get(path.upper())
            if here.variable is None:
                return None
        return here

    def _add(self, here: Item, rows: Sequence[tuple[str, str, Type, str]]) -> None:
        for path, name, t, section in rows:
            part = self.item(path, name, t, section, here)
            if part is not None:
                here.parts.append(part)

    def _expanded(self, t: Array) -> bool:
        of = self.types[t.of.number] if isinstance(t.of, Named) else t.of
        return isinstance(of, (Structure, Block, Array)) and t.count <= MAX_ELEMENTS


def _indices(dims: Sequence[tuple[int, int]]) -> Iterator[str]:
    if not dims:
        return
    rows = [""]
    for low, high in dims:
        rows = [f"{r},{n}" if r else str(n) for r in rows for n in range(low, high + 1)]
    yield from (f"[{r}]" for r in rows)


def _type(raw: Any) -> Type:
    if isinstance(raw, str):
        return Elementary(raw)
    if isinstance(raw, int):
        return Named(raw)
    if "refers" in raw:
        return Reference(raw["refers"])
    return Array(_type(raw["of"]), tuple((low, high) for low, high in raw["dims"]))


def _definition(number: int, row: Mapping[str, Any]) -> Definition:
    kind, name = row["kind"], row["name"]
    if kind == "enum":
        return Enumeration(number, name, row["base"], tuple((n, int(v)) for n, v in row["values"].items()))
    if kind == "subrange":
        return Subrange(number, name, row["base"], row["low"], row["high"])
    if kind == "struct":
        return Structure(number, name, row["union"], tuple((n, _type(t)) for n, t in row["fields"]))
    if kind == "block":
        members = tuple((n, _type(t), s) for n, t, s in row["members"])
        return Block(number, name, row["pou"], row["base"], members)
    raise ValueError(f"the type kind {kind!r}")
