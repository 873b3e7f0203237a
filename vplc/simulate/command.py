"""`vplc simulate` and `vplc commission`: flags, files written, words for people.

Exit codes: 0 everything holds, 1 a check, a test or the project is wrong, 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from vplc.compiler.source import UnsupportedError
from vplc.scan.errors import Refused
from vplc.simulate import plot
from vplc.simulate.commission import commission
from vplc.simulate.report import dumps, passed, render_checks, render_fault
from vplc.simulate.simulate import Simulated, open_project, simulate
from vplc.simulate.simulation import Samples

PLOTS = (".svg", ".html", ".png")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def refusal(error: Refused, as_json: bool) -> int:
    """Every mistake in the project, as text or JSON."""
    if as_json:
        rows = [{"where": p.where, "what": p.what, "hint": p.hint} for p in error.problems]
        _say(json.dumps({"ok": False, "problems": rows}))
    else:
        sys.stderr.write(f"{error}\n")
    return 1


def simulate_command(options: argparse.Namespace) -> int:
    target = Path(options.plot) if options.plot else None
    if target is not None and target.suffix.lower() not in PLOTS:
        raise UnsupportedError(f"--plot {options.plot}: the name must end in {', '.join(PLOTS)}")
    try:
        opened = open_project(Path(options.project))
        done = simulate(opened)
    except Refused as error:
        return refusal(error, options.json)
    title = opened.project.name
    if target is not None:
        if not opened.project.plots:
            raise UnsupportedError(f"--plot: {opened.file} has no key `plots`")
        if target.suffix.lower() == ".png":
            plot.png(opened.project.plots, done.run.samples, title, target)
        elif target.suffix.lower() == ".html":
            _write(target, plot.page(opened.project.plots, done.run.samples, done.outcomes, title))
        else:
            _write(target, plot.svg(opened.project.plots, done.run.samples, title))
    if options.csv:
        write_csv(Path(options.csv), done.run.samples)
    if options.json:
        _say(dumps(done.report))
    else:
        _tell(done)
    return 0 if passed(done.report) else 1


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UnsupportedError(f"cannot write {path}: {error.strerror}") from error


def _tell(done: Simulated) -> None:
    for line in render_checks(done.report):
        _say(line)
    if done.run.fault is not None:
        _say(render_fault(done.run.fault))
    simulated_s = done.run.ticks * done.run.tick_ns / 1e9
    failed = sum(1 for o in done.outcomes if not o.passed)
    verdict = "all checks passed" if passed(done.report) else f"{failed} of {len(done.outcomes)} checks failed"
    _say(
        f"{verdict}; {simulated_s:g} s simulated in {done.run_s:.3f} s ({done.ratio:,.0f} times real time), "
        f"compiled in {done.compile_s:.2f} s"
    )


def write_csv(path: Path, samples: Samples) -> None:
    """One row per sample; BOOL as 0 and 1."""
    whole = [c.kind != "real" for c in samples.columns]
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["time_s", *(c.path for c in samples.columns)])
            for i, row in enumerate(zip(*(samples.values[c.path] for c in samples.columns), strict=True)):
                cells = [int(v) if w else v for v, w in zip(row, whole, strict=True)]
                writer.writerow([f"{i * samples.step_ns / 1e9:.9g}", *cells])
    except OSError as error:
        raise UnsupportedError(f"cannot write {path}: {error.strerror}") from error


def commission_command(options: argparse.Namespace) -> int:
    path = Path(options.project)
    try:
        opened = open_project(path)
        report, done = commission(opened, Path(options.out) if options.out else path.parent / "build")
    except Refused as error:
        return refusal(error, options.json)
    good = passed(report)
    if options.json:
        _say(dumps(report))
        return 0 if good else 1
    tests = report["tests"]
    assert isinstance(tests, list)
    failed = [t for t in tests if isinstance(t, dict) and not t["passed"]]
    for t in failed:
        _say(f"FAIL  {t['name']} ({t['file']}:{t['line']}): {t['message']}")
    _say(f"unit tests: {len(tests) - len(failed)} of {len(tests)} passed")
    _tell(done)
    builds = report["builds"]
    assert isinstance(builds, list)
    for b in builds:
        assert isinstance(b, dict)
        _say(f"built {b['library']} for {b['target']}, sha256 {b['library_sha256']}")
    if not good:
        _say("not commissioned: nothing was built")
    return 0 if good else 1
