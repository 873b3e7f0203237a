"""What a PLCopen project says, whichever of the two XML dialects said it.

Filled by `project` and its helpers, read by `emit` and `translate`. Everything that goes into Structured
Text as a name, type or expression has been checked by `words` before it gets here.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: POU ("" outside any), what it is, and the line of the XML file."""

    pou: str
    what: str
    line: int

    def __str__(self) -> str:
        return f"line {self.line}: " + ", ".join(part for part in (self.pou, self.what) if part)


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Something the file holds and the Structured Text does not. `logic`: the program would act differently."""

    place: Place
    why: str
    logic: bool = True


@dataclass(frozen=True, slots=True)
class Problem:
    """The file is wrong. `line` and `column` are places in the XML, counted from 1."""

    what: str
    line: int
    column: int
    remedy: str = ""


class UntranslatableError(Exception):
    """This piece cannot become Structured Text; it is listed as not taken. Carries place and reason."""

    def __init__(self, place: Place, why: str) -> None:
        super().__init__(why)
        self.place = place
        self.why = why


Line = tuple[int, str]
"""A line of text and the XML line it came from."""


@dataclass(slots=True)
class Variable:
    name: str
    type: str
    place: Place
    initial: str = ""
    address: str = ""
    edge: str = ""
    comment: str = ""


@dataclass(slots=True)
class Section:
    """One VAR block: `kind` is VAR_INPUT ..., `options` are CONSTANT RETAIN PERSISTENT NON_RETAIN."""

    kind: str
    options: tuple[str, ...]
    variables: list[Variable]
    place: Place
    name: str = ""
    comment: str = ""


@dataclass(slots=True)
class TypeDecl:
    """`lines` is the declaration without TYPE and END_TYPE; `fields` are a structure's members and types."""

    name: str
    lines: list[Line]
    place: Place
    comment: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    alias: str = ""


@dataclass(slots=True)
class Wire:
    """One end of a connection: the element it comes from and which of its outputs ("" the only one)."""

    source: str
    pin: str
    line: int


@dataclass(slots=True)
class Pin:
    name: str
    wires: list[Wire]
    line: int
    negated: bool = False
    edge: str = ""
    storage: str = ""
    text: str = ""


@dataclass(slots=True)
class Node:
    """A graphical element.

    kind: source sink both block contact coil left connector continuation jump label return code ignore.
    `text`: expression, variable, connector name, label or block type; `inputs[0]` is the only input of
    elements that have one. `order`: None where the file gives no execution order.
    """

    kind: str
    id: str
    place: Place
    x: float
    y: float
    index: int
    order: int | None = None
    text: str = ""
    instance: str = ""
    call: str = ""
    negated: bool = False
    edge: str = ""
    storage: str = ""
    inputs: list[Pin] = field(default_factory=list)
    inouts: list[Pin] = field(default_factory=list)
    outputs: list[Pin] = field(default_factory=list)
    code: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class Network:
    """Elements that are evaluated together; TC6 bodies are one network unless the vendor marks more."""

    nodes: list[Node]
    label: str = ""
    comment: str = ""
    place: Place = field(default_factory=lambda: Place("", "network", 0))


@dataclass(slots=True)
class Body:
    """language: ST, FBD, LD, or one that is not translated (SFC, IL, CFC, ...)."""

    language: str
    place: Place
    lines: list[Line] = field(default_factory=list)
    networks: list[Network] = field(default_factory=list)


@dataclass(slots=True)
class Part:
    """A named body inside a POU: ACTION, METHOD, GET or SET (of the property `name`)."""

    kind: str
    name: str
    body: Body | None
    place: Place
    sections: list[Section] = field(default_factory=list)
    result: str = ""
    modifiers: str = ""
    plain: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class Pou:
    """kind: PROGRAM FUNCTION FUNCTION_BLOCK INTERFACE. `plain` is a declaration the file gives as text."""

    kind: str
    name: str
    place: Place
    body: Body | None
    result: str = ""
    sections: list[Section] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    comment: str = ""
    extends: str = ""
    implements: tuple[str, ...] = ()
    modifiers: str = ""
    plain: list[Line] = field(default_factory=list)
    namespace: str = ""
    pragmas: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Instance:
    name: str
    type: str
    task: str
    place: Place


@dataclass(slots=True)
class Task:
    name: str
    options: str
    place: Place


@dataclass(slots=True)
class Resource:
    name: str
    place: Place
    globals: list[Section] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)


@dataclass(slots=True)
class Configuration:
    name: str
    place: Place
    globals: list[Section] = field(default_factory=list)
    resources: list[Resource] = field(default_factory=list)

    def all_globals(self) -> list[Section]:
        return self.globals + [s for r in self.resources for s in r.globals]


@dataclass(slots=True)
class Project:
    name: str
    types: list[TypeDecl] = field(default_factory=list)
    pous: list[Pou] = field(default_factory=list)
    globals: list[Section] = field(default_factory=list)
    configurations: list[Configuration] = field(default_factory=list)
    not_taken: list[NotTaken] = field(default_factory=list)
