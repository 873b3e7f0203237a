"""Files to a checked program: reads sources, adds the library, runs parser and checker.

Called by the command line, the tests and the benchmarks. It never needs llvmlite.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from vplc.compiler import tree
from vplc.compiler.check import analyse
from vplc.compiler.model import Program
from vplc.compiler.parser import parse
from vplc.compiler.source import CompileError, Diagnostics, Source, Span
from vplc.compiler.twincat import is_twincat, structured_text
from vplc.compiler.types import ELEMENTARY

LIBRARY = Path(__file__).resolve().parent.parent / "library"
_COUNTERS = ("INT", "DINT", "LINT", "UDINT", "ULINT", "SINT", "USINT", "UINT")
MAX_BYTES = 64 << 20


def read_source(path: str, diagnostics: Diagnostics) -> Source:
    """The text of one file; unreadable files are diagnostics, odd bytes are not."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        source = Source(path, "")
        diagnostics.error("E081", f"cannot read {path}: {error.strerror or error}", Span(source, 0, 0))
        return source
    if len(data) > MAX_BYTES:
        source = Source(path, "")
        diagnostics.error("E081", f"{path} is larger than {MAX_BYTES >> 20} MB", Span(source, 0, 0))
        return source
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", "replace")
    elif data[1:8:2] == bytes(4) or data[0:8:2] == bytes(4):
        # UTF-16 without its mark: Structured Text begins with ASCII.
        text = data.decode("utf-16-le" if data[1] == 0 else "utf-16-be", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")
    if is_twincat(text):
        text = structured_text(path, text, diagnostics)
    return Source(path, text)


def library_units() -> list[tree.Unit]:
    """The standard library; every call parses afresh because checking writes into the tree."""
    diagnostics = Diagnostics()
    units = []
    for path in sorted(LIBRARY.glob("*.st")):
        text = path.read_text("utf-8")
        if path.name == "strings.st":
            text += _wide(text)
        elif path.name == "standard.st":
            text += _long_timers(text)
        elif path.name == "counters.st":
            text = "\n".join(_counter(text, t, "_" + t) for t in _COUNTERS) + _counter(text, "INT", "")
        source = Source(f"<library>/{path.name}", text, library=True)
        units.append(parse(source, diagnostics))
    if diagnostics.errors:
        raise AssertionError("\n".join(d.render() for d in diagnostics.sorted()))
    return units


def _counter(text: str, name: str, suffix: str) -> str:
    maximum = str(ELEMENTARY[name].high)
    return text.replace("@T@_MAX", maximum).replace("@T@", name).replace("@N@", suffix)


def _wide(text: str) -> str:
    """The WSTRING functions: the STRING ones over words."""
    part = text.partition("(* WIDE *)")[2]
    return (
        re.sub(r"\b__(?=[A-Z])", "__W", part).replace("POINTER TO BYTE", "POINTER TO WORD").replace("(* x2 *)", "* 2")
    )


def _long_timers(text: str) -> str:
    out = []
    for name in ("TP", "TON", "TOF"):
        m = re.search(rf"FUNCTION_BLOCK {name}\n.*?END_FUNCTION_BLOCK", text, re.S)
        assert m is not None
        body = m.group()
        out.append(body.replace(f"FUNCTION_BLOCK {name}\n", f"FUNCTION_BLOCK {name}_TIME\n"))
        long = body.replace(" : TIME", " : LTIME").replace("T#0s", "LT#0s").replace("LTIME_TO_TIME", "")
        out.append(long.replace(f"FUNCTION_BLOCK {name}\n", f"FUNCTION_BLOCK {name}_LTIME\n"))
        out.append(long.replace(f"FUNCTION_BLOCK {name}\n", f"FUNCTION_BLOCK L{name}\n"))
    return "\n" + "\n".join(out)


def front(
    sources: Sequence[Source], profile: str = "iec", diagnostics: Diagnostics | None = None, testing: bool = False
) -> Program:
    """Parses and checks. Raises CompileError with all findings when anything is wrong."""
    diagnostics = diagnostics if diagnostics is not None else Diagnostics()
    # A sum of n terms is a tree n levels deep, and checking one level takes several Python frames.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 20_000))
    units = []
    for source in sources:
        units.append(unit_of(source, diagnostics))
    library = library_units()
    program = analyse(units, library, profile, diagnostics, testing)
    if diagnostics.errors:
        raise CompileError(diagnostics)
    return program


def unit_of(source: Source, diagnostics: Diagnostics) -> tree.Unit:
    return parse(source, diagnostics)
