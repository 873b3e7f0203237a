"""A PLCopen project as a source of the compiler.

Called by the compiler's command line for files that end in .xml. What the compiler finds in the text is reported
at the line of the XML file, with the POU and element behind the text. Logic that was not taken is an error: the
program would act differently; a file that is no project is one too.
"""

from __future__ import annotations

from pathlib import Path

from vplc.compiler.source import Diagnostics, Source, Span
from vplc.plcopen.document import MAX_BYTES
from vplc.plcopen.importer import Imported, load
from vplc.plcopen.model import Place


class _Line(int):
    """A line of the XML that remembers the line of the Structured Text it stands for."""

    st_line: int


class ImportedSource(Source):
    """The Structured Text of a project; lines count in the XML, columns in the text."""

    __slots__ = ("imported",)

    def __init__(self, imported: Imported) -> None:
        super().__init__(imported.name, imported.st_text)
        self.imported = imported

    def line_col(self, offset: int) -> tuple[int, int]:
        st_line, col = super().line_col(offset)
        place = self.imported.source_map.locate(st_line)
        line = _Line(place.line if place is not None else 1)
        line.st_line = st_line
        return line, col

    def line_text(self, line: int) -> str:
        """The text behind a line that `line_col` gave, and which element of the project it is."""
        if not isinstance(line, _Line):
            return ""
        text = super().line_text(line.st_line)
        place = self.imported.source_map.locate(line.st_line)
        return f"{text}  (* {_element(place)} *)" if place is not None and _element(place) else text


def _element(place: Place) -> str:
    return ", ".join(part for part in (place.pou, place.what) if part)


class _XmlSource(Source):
    """The XML file itself, for what is wrong with it; offsets are line numbers."""

    __slots__ = ()

    def line_col(self, offset: int) -> tuple[int, int]:
        return min(max(offset, 1), len(self.starts)), 1


def read_project(path: str, diagnostics: Diagnostics) -> Source:
    """The project in the file `path`; what is wrong with it and what was not taken go to `diagnostics`."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as e:
        nowhere = Source(path, "")
        diagnostics.error("E081", f"cannot read {path}: {e.strerror or e}", Span(nowhere, 0, 0))
        return nowhere
    imported = load(data, path)
    xml = _XmlSource(path, data.decode("utf-8", "replace"))
    for problem in imported.problems:
        diagnostics.error("E091", problem.what, Span(xml, problem.line, problem.line), problem.remedy)
    for lost in imported.not_taken:
        where = _element(lost.place)
        message = f"not taken: {where}: {lost.why}" if where else f"not taken: {lost.why}"
        span = Span(xml, lost.place.line, lost.place.line)
        if lost.logic:
            diagnostics.error("E092", message, span)
        else:
            diagnostics.warn("W092", message, span)
    return ImportedSource(imported)
