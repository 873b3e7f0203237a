"""What the variables of a program are made of: types, members and sections, for those that show a running program.

The layout file's `variables` say where every leaf lies; this says how they belong together: which instance is of which
function block, which member is an input, what an enumeration's values are called. Called by `build`. Nothing here is
needed to run a program.

    {"configuration": "Plant", "resource": "Cpu",
     "types": [{"kind": "struct", "name": "Recipe", "union": false, "fields": [["speed", "REAL"], ...]},
               {"kind": "enum", "name": "Mode", "base": "INT", "values": {"Off": 0, "On": 1}},
               {"kind": "subrange", "name": "Percent", "base": "INT", "low": 0, "high": 100},
               {"kind": "block", "name": "Meter", "pou": "FUNCTION_BLOCK", "base": null,
                "members": [["step", "INT", "input"], ...]}],
     "globals": [["total", "LINT"], ...], "programs": [["One", 3], ...]}

A type is the name of an elementary one (`INT`, `STRING[80]`), a number in `types`, `{"of": type, "dims": [[1, 9]]}`, or
`{"refers": "REF_TO INT"}`. Sections are input, output, inout, local and external.
"""

from __future__ import annotations

from typing import Any

from vplc.compiler.model import Program
from vplc.compiler.symbols import Variable
from vplc.compiler.types import (
    ArrayType,
    BlockType,
    Elementary,
    EnumType,
    InterfaceType,
    PointerType,
    StringType,
    StructType,
    SubrangeType,
    Type,
)

Json = Any  # what json.dumps takes

_SECTIONS = {"input": "input", "output": "output", "inout": "inout", "global": "external"}


def structure(program: Program) -> dict[str, Json]:
    """The document above, types in the order they are met."""
    types = _Types()
    programs: list[Json] = []
    for one in program.instances:
        assert one.program.type is not None
        programs.append([one.name, types.of(one.program.type)])
    named: list[Json] = []
    for v in program.globals:
        located = v.name.startswith("__%")
        if (v.name.startswith("__") and not located) or v.storage != "static" or v.offset < 0:
            continue
        name = v.name[2:] if located else (f"{v.namespace}.{v.name}" if v.namespace else v.name)
        named.append([name, types.of(v.type)])
    return {
        "configuration": program.configuration,
        "resource": program.resource,
        "types": types.rows,
        "globals": named,
        "programs": programs,
    }


class _Types:
    """Numbers types by identity: two enumerations may share a name."""

    def __init__(self) -> None:
        self.rows: list[Json] = []
        self.numbers: dict[int, int] = {}

    def of(self, t: Type) -> Json:
        if isinstance(t, ArrayType):
            return {"of": self.of(t.element), "dims": [list(d) for d in t.dims]}
        if isinstance(t, (PointerType, InterfaceType)):
            return {"refers": t.name}
        if isinstance(t, (Elementary, StringType)):
            return t.name
        number = self.numbers.get(id(t))
        if number is None:
            number = self.numbers[id(t)] = len(self.rows)
            row: dict[str, Json] = {}
            self.rows.append(row)  # before its members: a reference may lead back here
            row.update(self._row(t))
        return number

    def _row(self, t: Type) -> dict[str, Json]:
        if isinstance(t, EnumType):
            values = {t.display.get(k, k): v for k, v in t.members.items()}
            return {"kind": "enum", "name": t.name, "base": t.base.name, "values": values}
        if isinstance(t, SubrangeType):
            return {"kind": "subrange", "name": t.name, "base": t.base.name, "low": t.low, "high": t.high}
        if isinstance(t, StructType):
            fields = [[f.name, self.of(f.type)] for f in t.fields.values()]
            return {"kind": "struct", "name": t.name, "union": t.union, "fields": fields}
        if isinstance(t, BlockType):
            base = t.symbol.extends[0].type if t.symbol.extends else None
            members = [[v.name, self.of(v.type), _SECTIONS.get(v.kind, "local")] for v in _members(t)]
            return {
                "kind": "block",
                "name": t.symbol.full_name,
                "pou": t.symbol.kind,
                "base": self.of(base) if base is not None else None,
                "members": members,
            }
        return {"kind": "unknown", "name": t.name}


def _members(t: BlockType) -> list[Variable]:
    """Those of an instance, then what its PROGRAM keeps elsewhere (located and retained variables), then what it uses
    of the globals."""
    out = [v for v in t.members if not v.name.startswith("__")]
    for v in t.symbol.variables.values():
        if v.name.startswith("__") or v.hidden or v in out or (v.constant and isinstance(v.value, (int, float))):
            continue
        kept = v.owner is t.symbol and v.storage == "static" and t.symbol.kind == "PROGRAM"
        if kept or v.kind == "global":
            out.append(v)
    return out
