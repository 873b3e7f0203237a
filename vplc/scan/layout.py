"""The layout file beside a compiled library: where every variable lies. Read and checked here, once."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vplc.scan.errors import Problem, Refused
from vplc.scan.values import SIZES

FORMAT = 1
_MAX_BYTES = 256 << 20
_SIZED = ("ARRAY", "STRING", "WSTRING")
_ADDRESS = re.compile(r"%([IQM])([XBWDL]?)(\d+)(?:\.([0-7]))?$")
_UNIT = {"": 1, "X": 1, "B": 1, "W": 2, "D": 4, "L": 8}


@dataclass(frozen=True, slots=True)
class Variable:
    """A scalar, string or array; offsets in bytes from the begin of the state, bit -1 for whole bytes."""

    path: str
    program: str | None
    type: str
    base: str
    offset: int
    size: int
    bit: int
    retain: bool
    constant: bool
    address: str | None

    @property
    def refers(self) -> bool:
        """A reference, pointer or interface: it means a place of one layout only."""
        words = self.base.upper().replace("]", "] ").split()
        if "REF_TO" in words or "POINTER" in words or "REFERENCE" in words:
            return True
        return self.size == 8 and self.base not in SIZES and words[0].partition("[")[0] not in _SIZED


@dataclass(frozen=True, slots=True)
class ProgramEntry:
    name: str
    task: str | None
    run: str


@dataclass(frozen=True, slots=True)
class TaskEntry:
    name: str
    interval_ns: int | None
    priority: int


@dataclass(frozen=True, slots=True)
class Site:
    """A place that can fault."""

    pou: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Layout:
    abi: str
    target: str
    source_sha256: str
    state_size: int
    fault_site: int
    fault_a: int
    fault_b: int
    areas: dict[str, tuple[int, int]]  # I, Q, M: offset and size
    programs: tuple[ProgramEntry, ...]
    tasks: tuple[TaskEntry, ...]
    variables: tuple[Variable, ...]
    sites: dict[int, Site]
    document: bytes = field(default=b"", repr=False, compare=False)  # the file as the compiler wrote it


def parse(data: Any, where: str) -> Layout:  # Any: JSON as read
    """A layout document as types; raises Refused."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise Refused(
            [Problem(where, f"the layout has format {found!r}, this host reads {FORMAT}", "build it again: vplc build")]
        )
    abi = data.get("abi")
    plain = {k: v for k, v in data.items() if k != "abi"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    if not isinstance(abi, str) or not abi.endswith(f" layout={digest}"):
        raise Refused(
            [Problem(where, "the layout is not as the compiler wrote it (its seal is broken)", "build it again")]
        )
    try:
        return _typed(data, abi)
    except (KeyError, TypeError, ValueError) as error:
        raise Refused([Problem(where, f"the layout lacks or garbles {error}", "build it again")]) from error


def _typed(data: dict[str, Any], abi: str) -> Layout:
    header = data["header"]
    areas = {k: data["areas"][name] for k, name in (("I", "inputs"), ("Q", "outputs"), ("M", "memory"))}
    return Layout(
        abi=abi,
        target=data["target"],
        source_sha256=data["source_sha256"],
        state_size=data["state_size"],
        fault_site=header["fault_site"],
        fault_a=header["fault_a"],
        fault_b=header["fault_b"],
        areas={k: (a["offset"], a["size"]) for k, a in areas.items()},
        programs=tuple(ProgramEntry(p["name"], p["task"], p["run"]) for p in data["programs"]),
        tasks=tuple(TaskEntry(t["name"], t["interval_ns"], t["priority"]) for t in data["tasks"]),
        variables=tuple(
            Variable(
                v["path"],
                v["program"],
                v["type"],
                v["base"],
                v["offset"],
                v["size"],
                -1 if v["bit"] is None else v["bit"],
                v["retain"],
                v["constant"],
                v["address"],
            )
            for v in data["variables"]
        ),
        sites={f["site"]: Site(f["pou"], f["line"] or 0, f["message"]) for f in data["faults"]},
    )


def load(path: Path) -> Layout:
    """Reads the file; raises Refused when it is not there or not whole."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise Refused([Problem(str(path), "the layout is larger than 256 MiB")])
        document = path.read_bytes()
        data = json.loads(document)
    except OSError as error:
        raise Refused(
            [Problem(str(path), f"cannot read the layout: {error.strerror}", "vplc build writes it beside the library")]
        ) from error
    except ValueError as error:
        raise Refused([Problem(str(path), f"the layout is no JSON: {error}", "build it again")]) from error
    return replace(parse(data, str(path)), document=document)


def parse_address(text: str) -> tuple[str, int, int, int] | None:
    """Area, byte, bit (-1: none) and size of %IX0.3, %QW4, ...; None when it is no such address."""
    m = _ADDRESS.match(text.upper())
    if m is None:
        return None
    area, unit, number, bit = m.groups()
    if unit in ("", "X"):
        flat = int(number) if bit is None else int(number) * 8 + int(bit)
        return area, flat // 8, flat % 8, 1
    if bit is not None:
        return None
    return area, int(number) * _UNIT[unit], -1, _UNIT[unit]
