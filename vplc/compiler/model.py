"""The checked program: what the layout and the code generator start from."""

from __future__ import annotations

from dataclasses import dataclass, field

from vplc.compiler import typed
from vplc.compiler.source import Source
from vplc.compiler.symbols import PouSymbol, Scope, Variable
from vplc.compiler.types import Type

PROFILES = ("iec", "codesys")


@dataclass(slots=True)
class TaskInfo:
    name: str
    interval_ns: int | None
    priority: int
    single: str = ""


@dataclass(slots=True)
class ProgramInstance:
    """One instance of a PROGRAM; `offset` is its place in the state."""

    name: str
    program: PouSymbol
    task: str = ""
    offset: int = -1
    init: object = None
    before: list[typed.Stmt] = field(default_factory=list)
    after: list[typed.Stmt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AccessPath:
    """A name of VAR_ACCESS and the path, as the layout writes it, that it stands for."""

    name: str
    path: str
    type: Type
    writable: bool


@dataclass(slots=True)
class Program:
    """All POUs and global variables of one build, names resolved and bodies typed."""

    profile: str
    sources: list[Source]
    scope: Scope
    pous: list[PouSymbol] = field(default_factory=list)
    globals: list[Variable] = field(default_factory=list)
    instances: list[ProgramInstance] = field(default_factory=list)
    tasks: list[TaskInfo] = field(default_factory=list)
    tests: list[PouSymbol] = field(default_factory=list)
    statics: list[Variable] = field(default_factory=list)
    accesses: list[AccessPath] = field(default_factory=list)
    testing: bool = False
    instance_calls: dict[int, typed.Stmt] = field(default_factory=dict)
    configuration: str = ""  # names as declared, for those that show the program; empty without a CONFIGURATION
    resource: str = ""
