"""How long an editor waits: the language server as a process, asked over its standard streams.

A project of about 3,000 lines in ten files; the last key makes an error, and the clock runs until the editor has
been told. The wait after the last key, which the server is started with, is taken off.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from lsprotocol import types as lsp

from tests.bench.figure import Figure, pss_mb
from tests.support.editor import Editor, place
from vplc.fmt import format_text

PREFIXES = ("lsp_",)
FILES = 10
BLOCKS = 10
ROUNDS = 15
DEBOUNCE_MS = 1


def project(folder: Path) -> int:
    """Writes the files; the number of lines."""
    lines = 0
    for number in range(FILES):
        text = "".join(block(number * BLOCKS + i) for i in range(BLOCKS))
        if number == 0:
            text += main_program()
        lines += text.count("\n")
        (folder / f"unit{number}.st").write_text(text)
    return lines


def block(number: int) -> str:
    other = f"previous : Unit{number - 1};" if number else "previous : TON;"
    steps = "\n".join(f"    {i}:\n        level := level + Mix{number}(level, {i});" for i in range(4))
    return f"""FUNCTION Mix{number} : REAL
VAR_INPUT
    a : REAL;
    b : INT;
END_VAR
    Mix{number} := a * 0.5 + INT_TO_REAL(b);
END_FUNCTION

(* Unit {number}. *)
FUNCTION_BLOCK Unit{number}
VAR_INPUT
    start : BOOL;
END_VAR
VAR
    {other}
    level : REAL;
    step  : INT;
END_VAR
    CASE step OF
{steps}
    END_CASE
    IF start AND level < 100.0 THEN
        step := (step + 1) MOD 4;
    END_IF
END_FUNCTION_BLOCK

"""


def main_program() -> str:
    return "PROGRAM Main\nVAR\n    unit : Unit99;\nEND_VAR\n    unit(start := TRUE);\nEND_PROGRAM\n"


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        lines = project(Path(folder))
        yield from asyncio.run(_measured(Path(folder), lines))
        text = (Path(folder) / "unit1.st").read_text() * 10
        begun = time.perf_counter()
        format_text(text)
        seconds = time.perf_counter() - begun
    yield Figure(key="lsp_format_3000_lines", value=1000 * seconds * 3000 / text.count("\n"), unit="ms", goal="< 1000")


async def _measured(folder: Path, lines: int) -> list[Figure]:
    return [figure async for figure in _session(folder, lines)]


async def _session(folder: Path, lines: int) -> AsyncIterator[Figure]:
    begun = time.perf_counter()
    async with Editor(folder, "--debounce", str(DEBOUNCE_MS)) as editor:
        text = editor.open("unit0.st")
        await editor.until("unit0.st", [])
        yield Figure(key="lsp_start_to_first_diagnostics", value=time.perf_counter() - begun, unit="s", goal="< 3")
        yield Figure(key="lsp_project_lines", value=lines, unit="lines")
        waits = []
        for number in range(ROUNDS):
            wrong = number % 2 == 0
            begun = time.perf_counter()
            editor.type("unit0.st", text.replace("start := TRUE", "strat := TRUE") if wrong else text)
            await editor.until("unit0.st", ["E050"] if wrong else [])
            waits.append(1000 * (time.perf_counter() - begun) - DEBOUNCE_MS)
        yield Figure(key="lsp_diagnostics_3000_lines", value=statistics.median(waits), unit="ms", goal="< 500")
        yield Figure(key="lsp_diagnostics_3000_lines_worst", value=max(waits), unit="ms")
        typed = text.replace("unit(start := TRUE);", "unit.")
        editor.type("unit0.st", typed)
        at = place(typed, "unit.\n", 5)
        waits = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            found = await editor.client.text_document_completion_async(lsp.CompletionParams(editor.doc("unit0.st"), at))
            waits.append(1000 * (time.perf_counter() - begun))
            assert isinstance(found, lsp.CompletionList)
            assert {item.label for item in found.items} >= {"start", "level", "step", "previous"}
        yield Figure(key="lsp_completion_members", value=statistics.median(waits), unit="ms", goal="< 100")
        typed = text.replace("unit(start := TRUE);", "un")
        editor.type("unit0.st", typed)
        waits = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            found = await editor.client.text_document_completion_async(
                lsp.CompletionParams(editor.doc("unit0.st"), place(typed, "un\n", 2))
            )
            waits.append(1000 * (time.perf_counter() - begun))
            assert isinstance(found, lsp.CompletionList)
            assert any(item.label == "unit" for item in found.items)
        yield Figure(key="lsp_completion_names", value=statistics.median(waits), unit="ms", goal="< 100")
        server = editor.client._server
        assert server is not None
        yield Figure(key="lsp_memory_pss", value=pss_mb(server.pid), unit="MB")
