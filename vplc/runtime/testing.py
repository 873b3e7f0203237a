"""`vplc test`: unit tests in Structured Text, each from fresh state on its own virtual clock."""

from __future__ import annotations

import argparse
import json
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from vplc.compiler.build import compile_sources
from vplc.compiler.source import Diagnostics, Source
from vplc.compiler.symbols import PouSymbol
from vplc.compiler.types import ELEMENTARY
from vplc.runtime.host import Host
from vplc.runtime.values import Json, show

_REASONS = {"=": "equal", "<>": "different"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test's verdict; `line` is that of the failed claim, else of the test."""

    name: str
    file: str
    line: int
    passed: bool
    message: str

    def as_json(self) -> dict[str, Json]:
        return {"name": self.name, "file": self.file, "line": self.line, "passed": self.passed, "message": self.message}


def run_tests(
    sources: Sequence[Source], tests: Sequence[Source], profile: str, diagnostics: Diagnostics, level: int = 0
) -> list[Outcome]:
    """Compiles and runs all tests. Raises CompileError when the files are wrong."""
    build = compile_sources([*sources, *tests], profile, diagnostics, testing=True)
    if not build.code.tests:
        return []
    host = Host(build, level)
    out = []
    for test, name, teardown in build.code.tests:
        out.append(_run_one(host, test, name, teardown))
    return out


def _run_one(host: Host, test: PouSymbol, name: str, teardown: str) -> Outcome:
    line, _ = test.source.line_col(test.tree.start)
    problem = ""
    if host.init() is not None:
        fault = host.fault()
        return Outcome(
            test.title, test.source.name, fault.line or line, False, f"fault while initialising: {fault.message}"
        )
    if host.call(name):
        line, problem = _failure(host, line, test)
    if test.teardown and host.call(teardown) and not problem:
        line, problem = _failure(host, line, test)
    return Outcome(test.title, test.source.name, line, not problem, problem)


def _failure(host: Host, line: int, test: PouSymbol) -> tuple[int, str]:
    site, a, b = host.fault_record()
    kind, _, detail = site.kind.partition(":")
    where = site.source.line_col(site.start)[0] if site.source is not None else line
    if kind != "assert":
        fault = host.fault()
        if site.source is not test.source:
            where = line
        return where, f"fault in {fault.pou}: {fault.message} ({fault.file}:{fault.line})"
    text, message, *kinds = detail.split("\x1f")
    shown = []
    for i, (name, raw) in enumerate(zip(kinds, (a, b), strict=False)):
        if name in ("text", "wtext"):
            shown.append(repr(host.text_fields()[i]))
            continue
        t = ELEMENTARY.get(name, ELEMENTARY["LINT"])
        number: int | float = raw
        if t.group == "real":
            number = struct.unpack("<d", struct.pack("<q", raw))[0]
        elif not t.signed and t.size < 8:
            number = raw & t.high
        shown.append(str(show(t, number)))
    got = ""
    if len(shown) == 2:
        got = f": got {shown[0]}, compared with {shown[1]}"
    elif shown:
        got = f": got {shown[0]}"
    return where, f"{message + ' - ' if message else ''}{' '.join(text.split())} failed{got}"


def test_command(
    sources: Sequence[Source], tests: Sequence[Source], diagnostics: Diagnostics, options: argparse.Namespace
) -> int:
    outcomes = run_tests(sources, tests, options.profile, diagnostics)
    failed = sum(1 for o in outcomes if not o.passed)
    for outcome in outcomes:
        if options.json:
            sys.stdout.write(json.dumps(outcome.as_json()) + "\n")
        else:
            mark = "PASS" if outcome.passed else "FAIL"
            sys.stdout.write(f"{mark} {outcome.name} ({outcome.file}:{outcome.line})\n")
            if outcome.message:
                sys.stdout.write(f"     {outcome.message}\n")
    if not options.json:
        sys.stdout.write(f"{len(outcomes)} tests, {len(outcomes) - failed} passed, {failed} failed\n")
    return 1 if failed else 0
