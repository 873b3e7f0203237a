"""Unit tests, simulation and libraries of one project, from the same sources, in one report.

Called by the command line; a release of class control carries the report.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from vplc.compiler.build import compile_sources, seal
from vplc.compiler.codegen.backend import compile_object
from vplc.compiler.link import link_shared
from vplc.compiler.source import Diagnostics
from vplc.runtime.testing import run_tests
from vplc.scan.errors import Problem, Refused
from vplc.scan.values import Json
from vplc.simulate.report import COMMISSION
from vplc.simulate.simulate import Opened, Simulated, simulate

LEVEL = 2


def commission(opened: Opened, out: Path) -> tuple[dict[str, Json], Simulated]:
    """Runs everything; libraries and layouts go to `out` only when tests and simulation have passed.

    Raises CompileError, Refused, or UnsupportedError when a target cannot be built here.
    """
    project = opened.project
    if not project.tests:
        raise Refused([Problem(opened.file, "names no unit tests", "add a key `tests` with files of ST tests")])
    tests = run_tests(opened.sources, opened.test_sources, project.profile, Diagnostics())
    simulated = simulate(opened)
    sound = bool(tests) and all(t.passed for t in tests) and bool(simulated.report["passed"])
    builds = _build(opened, out) if sound else []
    report: dict[str, Json] = {
        "format": COMMISSION,
        "project": project.name,
        "passed": sound,
        "profile": project.profile,
        "source_sha256": simulated.report["source_sha256"],
        "inputs": [{"path": name, "sha256": opened.hashes[name]} for name in sorted(opened.hashes)],
        "tests": [t.as_json() for t in tests],
        "simulation": simulated.report,
        "builds": builds,
    }
    return report, simulated


def _build(opened: Opened, out: Path) -> list[Json]:
    """One library per target; files appear when all targets are built."""
    out.mkdir(parents=True, exist_ok=True)
    made = compile_sources(opened.sources, opened.project.profile)
    rows: list[Json] = []
    fresh: list[tuple[Path, Path]] = []
    for target in opened.project.targets:
        ir, document = seal(made, target)
        library, layout = (out / f"{opened.project.name}.{target}{suffix}" for suffix in (".so", ".json"))
        hidden = [p.with_name(f".{p.name}") for p in (library, layout)]
        link_shared(compile_object(ir, target, LEVEL), hidden[0], target)
        hidden[1].write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        fresh.extend(zip(hidden, (library, layout), strict=True))
        rows.append(
            {
                "target": target,
                "library": library.name,
                "library_sha256": hashlib.sha256(hidden[0].read_bytes()).hexdigest(),
                "layout": layout.name,
                "layout_sha256": hashlib.sha256(hidden[1].read_bytes()).hexdigest(),
                "source_sha256": made.source_hash,
            }
        )
    for hidden_path, path in fresh:
        hidden_path.rename(path)
    return rows
