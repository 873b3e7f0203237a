"""Sources to IR with all tables, and the layout file that hosts read.

Called by `vplc run`, `build`, `bench` and `test`. Raises CompileError with all findings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vplc.compiler.codegen.module import Code, Site, generate
from vplc.compiler.front import front
from vplc.compiler.layout import BUDGET_LIMIT, FAULT_A, FAULT_B, FAULT_SITE, HEADER_SIZE, TIME_NS, Layout, Planner
from vplc.compiler.model import Program, ProgramInstance
from vplc.compiler.source import Diagnostics, Source
from vplc.compiler.structure import structure
from vplc.compiler.symbols import Variable
from vplc.compiler.types import ArrayType, BlockType, StructType, Type

LAYOUT_FORMAT = 1


@dataclass(slots=True)
class Build:
    """A program ready for the back end."""

    program: Program
    layout: Layout
    code: Code
    source_hash: str


def compile_sources(
    sources: Sequence[Source], profile: str = "iec", diagnostics: Diagnostics | None = None, testing: bool = False
) -> Build:
    program = front(sources, profile, diagnostics, testing)
    planner = Planner(program)
    layout = planner.plan()
    code = generate(program, planner)
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.text.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    digest.update(profile.encode())
    return Build(program, layout, code, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Entry:
    """One variable of the state: a scalar, a string, or an array of such."""

    path: str
    type: Type
    offset: int
    bit: int
    kind: str
    retain: bool
    address: str
    constant: bool


MAX_ELEMENTS = 100_000


def _leaves(
    path: str, t: Type, offset: int, bit: int, kind: str, retain: bool, address: str, constant: bool
) -> Iterator[Entry]:
    if isinstance(t, StructType):
        for f in t.fields.values():
            yield from _leaves(f"{path}.{f.name}", f.type, offset + f.offset, -1, kind, retain, "", constant)
    elif isinstance(t, BlockType):
        yield from _members(path, t, offset, retain)
    elif (
        isinstance(t, ArrayType)
        and isinstance(t.element, (StructType, BlockType, ArrayType))
        and t.count <= MAX_ELEMENTS
    ):
        for flat in range(t.count):
            rest, parts = flat, []
            for low, high in reversed(t.dims):
                parts.append(str(low + rest % (high - low + 1)))
                rest //= high - low + 1
            name = f"{path}[{','.join(reversed(parts))}]"
            yield from _leaves(name, t.element, offset + flat * t.element.size, -1, kind, retain, "", constant)
    else:
        yield Entry(path, t, offset, bit, kind, retain, address, constant)


def _members(path: str, t: BlockType, offset: int, retain: bool) -> Iterator[Entry]:
    for v in t.members:
        if v.name.startswith("__") or v.kind == "inout":
            continue
        yield from _leaves(
            f"{path}.{v.name}" if path else v.name,
            v.type,
            offset + v.offset,
            v.bit,
            v.kind,
            retain or v.retain,
            v.address,
            v.constant,
        )
    for v in t.symbol.variables.values():
        if (
            v.storage == "static"
            and not v.hidden
            and v.owner is t.symbol
            and not v.name.startswith("__")
            and t.symbol.kind == "PROGRAM"
        ):
            if v.constant and isinstance(v.value, (int, float)):
                continue
            yield from _leaves(
                f"{path}.{v.name}" if path else v.name, v.type, v.offset, v.bit, v.kind, v.retain, v.address, v.constant
            )


def instance_entries(instance: ProgramInstance, prefix: str = "") -> Iterator[Entry]:
    """Variables of one program instance; paths start inside the program unless `prefix` names it."""
    assert instance.program.type is not None
    yield from _members(prefix, instance.program.type, instance.offset, False)


def global_entries(program: Program) -> Iterator[Entry]:
    for v in program.globals:
        if v.name.startswith("__") and v.name[2:3] != "%":
            continue
        name = v.name[2:] if v.name.startswith("__%") else (f"{v.namespace}.{v.name}" if v.namespace else v.name)
        if v.storage == "static" and v.offset >= 0:
            yield from _leaves(name, v.type, v.offset, v.bit, "global", v.retain, v.address, v.constant)


_DIRECTIONS = {"input": "input", "output": "output", "local": "local", "static": "local", "global": "global"}


def _direction(e: Entry) -> str:
    if e.address.startswith("%I"):
        return "input"
    if e.address.startswith("%Q"):
        return "output"
    return _DIRECTIONS.get(e.kind, e.kind)


def fault_text(site: Site) -> str:
    """The sentence a fault record begins with."""
    kind, _, detail = site.kind.partition(":")
    return {
        "division": "division by zero",
        "overflow": "the quotient does not fit its type",
        "bounds": f"array index outside {detail}" if detail else "array index out of bounds",
        "null": "null or foreign reference",
        "unbound": "VAR_IN_OUT was never bound to a variable",
        "subrange": f"value outside the subrange {detail}",
        "range": f"value does not fit {detail}",
        "shift": "negative shift count",
        "mux": f"MUX selector outside 0..{int(detail) - 1}" if detail.isdigit() else "MUX selector out of range",
        "endless": "loop budget of the scan used up",
        "depth": "calls nested too deep",
        "type": "the instance has an unknown type",
        "external": "an external function has no body",
        "property": "the property has no GET",
        "assert": "assertion failed",
    }.get(kind, kind)


def layout_document(build: Build, target: str) -> dict[str, object]:
    """The contents of OUT.json: everything a host needs to load, scan, show and retain."""
    program, layout = build.program, build.layout
    entries: list[tuple[str, Entry]] = [("", e) for e in global_entries(program)]
    for one in program.instances:
        entries.extend((one.name, e) for e in instance_entries(one, one.name))
    return {
        "format": LAYOUT_FORMAT,
        "target": target,
        "profile": program.profile,
        "source_sha256": build.source_hash,
        "state_size": layout.size,
        "state_align": 16,
        "retain": {"offset": 0, "size": layout.retain_size},
        "header": {
            "offset": layout.header,
            "size": HEADER_SIZE,
            "time_ns": layout.header + TIME_NS,
            "fault_site": layout.header + FAULT_SITE,
            "fault_a": layout.header + FAULT_A,
            "fault_b": layout.header + FAULT_B,
            "loop_budget": layout.header + BUDGET_LIMIT,
        },
        "areas": {
            "inputs": {"offset": layout.inputs[0], "size": layout.inputs[1]},
            "outputs": {"offset": layout.outputs[0], "size": layout.outputs[1]},
            "memory": {"offset": layout.memory[0], "size": layout.memory[1]},
        },
        "symbols": {"init": "vplc_init", "run": dict(build.code.runs)},
        "programs": [
            {
                "name": one.name,
                "type": one.program.full_name,
                "task": one.task or None,
                "offset": one.offset,
                "run": build.code.runs.get(one.name),
            }
            for one in program.instances
        ],
        "tasks": [
            {"name": t.name, "interval_ns": t.interval_ns, "priority": t.priority, "single": t.single or None}
            for t in program.tasks
        ],
        "variables": [
            {
                "path": e.path,
                "program": owner or None,
                "type": e.type.name,
                "base": e.type.base.name,
                "offset": e.offset,
                "size": e.type.size,
                "bit": e.bit if e.bit >= 0 else None,
                "direction": _direction(e),
                "retain": e.retain,
                "constant": e.constant,
                "address": e.address or None,
            }
            for owner, e in entries
        ],
        "access": [
            {"name": a.name, "path": a.path, "type": a.type.name, "writable": a.writable} for a in program.accesses
        ],
        "structure": structure(program),
        "faults": [
            {
                "site": number,
                "kind": site.kind.partition(":")[0],
                "message": fault_text(site),
                "pou": site.pou,
                "file": site.source.name if site.source else None,
                "line": site.source.line_col(site.start)[0] if site.source else None,
            }
            for number, site in enumerate(build.code.sites)
            if number
        ],
    }


def seal(build: Build, target: str) -> tuple[str, dict[str, object]]:
    """IR and layout document that carry the same line, so that a host can tell a pair from a mismatch.

    The library exports it as `vplc_abi`, the document holds it as `abi`; its last word is the digest of the document
    without that key.
    """
    document = layout_document(build, target)
    digest = hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    line = f"vplc-abi {LAYOUT_FORMAT} target={target} source={build.source_hash} layout={digest}"
    text = f'@vplc_abi = constant [{len(line) + 1} x i8] c"{line}\\00"\n'
    return build.code.ir + text, {**document, "abi": line}


def find_instance(program: Program, name: str) -> ProgramInstance | None:
    """By instance name, or by the name of the PROGRAM."""
    upper = name.upper()
    for one in program.instances:
        if one.name.upper() == upper:
            return one
    for one in program.instances:
        if one.program.full_name.upper() == upper or one.program.name.upper() == upper:
            return one
    return None


__all__ = ["Build", "Entry", "Variable", "compile_sources", "find_instance", "layout_document", "seal"]
