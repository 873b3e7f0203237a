"""Where the variables of a running program lie, by path: what watching, writing and forcing look up.

A host's run folder holds one description per version of the program. A path names a variable, an element of an array,
or a structure or instance with all its parts.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path

from vplc.scan.configuration import Configuration
from vplc.scan.errors import NotRunning, Problem
from vplc.scan.layout import Variable
from vplc.scan.values import SIZES

_ELEMENT = re.compile(r"(.+)\[([-\d,\s]+)\]$")
_ARRAY = re.compile(r"ARRAY\s*\[([^\]]*)\]\s*OF\s+(.+)$", re.IGNORECASE)
_BY_SIZE = {1: "SINT", 2: "INT", 4: "DINT", 8: "LINT"}  # of derived types of which only the name is known


@dataclass(frozen=True)
class Fed:
    """Memory that a driver writes before each scan."""

    offset: int
    size: int
    bit: int
    driver: str
    channel: str


@dataclass(frozen=True)
class Variables:
    """All variables of one version of a program, and what its drivers feed."""

    version: int
    rows: tuple[Variable, ...]
    fed: tuple[Fed, ...]

    @cached_property
    def _by_path(self) -> dict[str, Variable]:
        return {v.path.upper(): v for v in self.rows}

    def one(self, path: str) -> Variable | None:
        """A scalar, text, array or element of an array; None when there is no such thing."""
        return self._by_path.get(path.upper()) or self._element(path)

    def find(self, path: str) -> list[Variable]:
        """`one`, or all parts of a structure or instance."""
        single = self.one(path)
        if single is not None:
            return [single]
        begin = path.upper()
        return [v for v in self.rows if v.path.upper().startswith((begin + ".", begin + "["))]

    def at(self, offset: int, size: int, bit: int) -> Variable | None:
        """The variable, or element of an array, at a place; the first of those that share it."""
        for v in self.rows:
            if (v.offset, v.size, v.bit) == (offset, size, bit):
                return v
        for v in self.rows:
            if v.offset <= offset and offset + size <= v.offset + v.size and bit < 0 and v.base.startswith("ARRAY"):
                return next((e for e in self._elements(v) if (e.offset, e.size) == (offset, size)), None)
        return None

    def _elements(self, whole: Variable) -> Iterator[Variable]:
        array = _ARRAY.match(whole.base)
        spans = [[int(n) for n in span.split("..")] for span in array.group(1).split(",")] if array else []
        for index in itertools.product(*(range(low, high + 1) for low, high in spans)):
            element = self._element(f"{whole.path}[{','.join(map(str, index))}]")
            if element is not None:
                yield element

    def unknown(self, path: str) -> Problem:
        close = difflib.get_close_matches(path, [v.path for v in self.rows], 1)
        return Problem(path, "there is no such variable", f'did you mean "{close[0]}"?' if close else "")

    def _element(self, path: str) -> Variable | None:
        match = _ELEMENT.match(path)
        whole = self._by_path.get(match.group(1).upper()) if match else None
        array = _ARRAY.match(whole.base) if whole else None
        if match is None or whole is None or array is None:
            return None
        index, count = 0, 1
        wanted = match.group(2).split(",")
        spans = array.group(1).split(",")
        if len(wanted) != len(spans):
            return None
        for text, span in zip(wanted, spans, strict=True):
            low, high = (int(n) for n in span.split(".."))
            if not text.strip().lstrip("-").isdigit() or not low <= int(text) <= high:
                return None
            index = index * (high - low + 1) + int(text) - low
            count *= high - low + 1
        size = whole.size // count
        kind = array.group(2)
        base = kind if kind.upper() in SIZES or kind.upper().startswith(("STRING", "WSTRING")) else _BY_SIZE.get(size)
        if base is None or whole.bit >= 0:
            return None
        place = ",".join(str(int(n)) for n in wanted)
        return replace(
            whole,
            path=f"{whole.path}[{place}]",
            type=kind,
            base=base,
            offset=whole.offset + index * size,
            size=size,
            address=None,
        )

    def feeder(self, v: Variable) -> Fed | None:
        """The channel that writes a part of the variable before each scan."""
        return next((f for f in self.fed if _overlap((f.offset, f.size, f.bit), (v.offset, v.size, v.bit))), None)


def overlap(a: Variable, b: Variable) -> bool:
    """Whether two variables share memory."""
    return _overlap((a.offset, a.size, a.bit), (b.offset, b.size, b.bit))


def _overlap(a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:
    (at, size, bit), (other, length, other_bit) = a, b
    return at < other + length and other < at + size and (bit < 0 or other_bit < 0 or bit == other_bit)


def file(folder: Path, version: int) -> Path:
    return folder / f"variables.{version}.json"


def layout_file(folder: Path, version: int) -> Path:
    """The compiler's whole layout document of that version, for those that serve it to others."""
    return folder / f"layout.{version}.json"


def versions(folder: Path) -> Sequence[int]:
    return [int(p.suffixes[0][1:]) for p in folder.glob("variables.*.json")]


def forget(folder: Path, keep: int) -> None:
    """Deletes the descriptions of other versions: the run folder lies in memory."""
    for version in versions(folder):
        if version != keep:
            file(folder, version).unlink(missing_ok=True)
            layout_file(folder, version).unlink(missing_ok=True)


def document(configuration: Configuration) -> bytes:
    """The description of a program, in the order of the fields of `Variable` and `Fed`."""
    fed = [
        [c.offset, c.size, c.bit, d.name, c.name]
        for d in configuration.drivers
        for c in d.inputs
    ]  # fmt: skip
    fed += [
        [c.quality_at, 1, -1, d.name, f"quality of {c.name}"]
        for d in configuration.drivers
        for c in d.inputs
        if c.quality_at >= 0
    ]
    rows = [astuple(v) for v in configuration.layout.variables]
    return json.dumps({"variables": rows, "fed": fed}, separators=(",", ":")).encode()


def read(folder: Path, version: int) -> Variables:
    """Raises NotRunning when this version was never described."""
    try:
        data = json.loads(file(folder, version).read_bytes())
    except OSError as error:
        raise NotRunning(f"{folder}: version {version} of the program is not described") from error
    return describe(version, data["variables"], data["fed"])


def describe(version: int, rows: Sequence[Sequence[object]], fed: Sequence[Sequence[object]] = ()) -> Variables:
    return Variables(
        version,
        tuple(Variable(*row) for row in rows),  # type: ignore[arg-type] # JSON written by `document`
        tuple(Fed(*row) for row in fed),  # type: ignore[arg-type] # the same
    )


def of(configuration: Configuration, version: int) -> Variables:
    """What `read` will give once the configuration runs as that version."""
    data = json.loads(document(configuration))
    return describe(version, data["variables"], data["fed"])
