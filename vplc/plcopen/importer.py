"""PLCopen XML in, Structured Text out: the one door of this package.

Called by the compiler's command line for files that end in .xml, and by `python -m vplc.plcopen`. Reads one
file, writes none; raises only OSError for a file that cannot be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vplc.plcopen.document import MAX_BYTES, DocumentError, parse
from vplc.plcopen.emit import emit
from vplc.plcopen.model import NotTaken, Place, Problem
from vplc.plcopen.project import NAMESPACES, project


@dataclass(frozen=True, slots=True)
class SourceMap:
    """From lines of the Structured Text to places in the XML."""

    places: tuple[Place, ...]

    def locate(self, st_line: int) -> Place | None:
        """Where the line (counted from 1) comes from; None outside the text."""
        return self.places[st_line - 1] if 0 < st_line <= len(self.places) else None


@dataclass(frozen=True, slots=True)
class Imported:
    """`problems` is empty where the file could be read; `complete` where no logic was left behind."""

    name: str
    st_text: str
    source_map: SourceMap
    not_taken: tuple[NotTaken, ...]
    problems: tuple[Problem, ...]

    @property
    def complete(self) -> bool:
        return not self.problems and not any(n.logic for n in self.not_taken)


def load(path_or_bytes: str | Path | bytes, name: str = "") -> Imported:
    """Import a PLCopen TC6 (2.00, 2.01) or IEC 61131-10 file. Raises OSError if it cannot be read."""
    if isinstance(path_or_bytes, bytes):
        data = path_or_bytes
    else:
        path = Path(path_or_bytes)
        name = name or str(path)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)  # one byte more shows that it is too large
    try:
        root = parse(data)
    except DocumentError as e:
        return _refused(name, Problem(e.text, e.line, e.column, "export the project again as PLCopen XML"))
    if root.name not in ("project", "pou", "program", "function", "functionblock") or root.space not in NAMESPACES:
        where = f"<{root.name[:40]}> in namespace {root.space[:80]!r}"
        remedy = "supported: PLCopen TC6 2.00 and 2.01, IEC 61131-10"
        return _refused(
            name, Problem(f"this is not a PLCopen project: the root element is {where}", root.line, 1, remedy)
        )
    text, not_taken = emit(project(root, name))
    while text.lines and not text.lines[-1]:
        text.lines.pop()
        text.places.pop()
    st_text = "\n".join(text.lines) + ("\n" if text.lines else "")
    ordered = sorted(not_taken, key=lambda n: (n.place.line, n.place.pou, n.place.what))
    return Imported(name, st_text, SourceMap(tuple(text.places)), tuple(ordered), ())


def _refused(name: str, problem: Problem) -> Imported:
    return Imported(name, "", SourceMap(()), (), (problem,))
