"""Turns a commissioned project into what a release carries: compiled, tested, simulated, checked, its source beside it.

    python -m workloads.vplc pack vplc/examples/tank/control.yaml -o build/control/tank

Called where releases are made (`workloads.images` for the container image, by hand or script for the process archive);
never at a site. `control.yaml` names the project, the scan configuration with its channels, the tags, and what may be
set. The library is the one that commissioning built after the project's unit tests and simulation checks had passed,
and the report goes with it, so it is signed with the program. Everything that a start would refuse is refused here,
before anybody signs it: a library for another machine, a layout that does not match, memory mapped twice, a driver
without a host, a tag without a variable. Nothing is written until all of it has passed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from manifests.errors import DocumentError, Problem
from manifests.model import Name, RunContext
from manifests.validate import convert
from vplc.scan.errors import Refused
from vplc.scan.layout import load as load_layout
from workloads.vplc import build, program, start
from workloads.vplc.arrange import NATIVE_NAME, arrange
from workloads.vplc.config import Place, VplcConfig
from workloads.vplc.program import Control

MAX_DOCUMENT_BYTES = 4 << 20


class ControlDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``control.yaml``: as ``Control``, but it names a ``project`` (``vplc commission``), relative to the document."""

    name: Name
    project: Annotated[str, Meta(min_length=1)]
    scan: Mapping[str, Any]
    servers: Mapping[Name, Mapping[str, Any]] = {}
    tags: Annotated[tuple[program.TagConfig, ...], Meta(max_length=5000)] = ()
    parameters: Mapping[str, program.Adjustable] = {}
    forces: Mapping[str, program.Adjustable] = {}


def read(path: Path) -> ControlDocument:
    """Raises DocumentError with every mistake."""
    try:
        text = path.read_bytes()[:MAX_DOCUMENT_BYTES]
        raw: Any = yaml.safe_load(text)
    except OSError as error:
        raise DocumentError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from error
    except yaml.YAMLError as error:
        raise DocumentError([Problem(str(path), "", f"is no YAML: {error}")]) from error
    parsed = convert(raw, ControlDocument, source=str(path))
    if isinstance(parsed, list):
        raise DocumentError(parsed)
    if not (path.parent / parsed.project).is_file():
        raise DocumentError([Problem(str(path), "project", f"there is no file {parsed.project}")])
    return parsed


def pack(path: Path, out: Path, target: str = "x86-64") -> Control:
    """Writes the program folder ``out``, whole or not at all, and the native programs into the folder ``native`` beside
    it. Raises DocumentError, MachineError, Unbuildable."""
    document, out = read(path), out.absolute()
    native = out.parent / NATIVE_NAME
    build.build(native, target)
    os.environ[build.FOLDER_VARIABLE] = str(native)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as place:
        work = Path(place) / out.name
        (work / program.SOURCE_FOLDER).mkdir(parents=True)
        report = _commission(path, path.parent / document.project, Path(place) / "built", target)
        built = next(row for row in report["builds"] if row["target"] == target)
        shutil.copyfile(Path(place) / "built" / built["library"], work / program.LIBRARY_NAME)
        shutil.copyfile(Path(place) / "built" / built["layout"], work / program.LAYOUT_NAME)
        (work / program.REPORT_NAME).write_text(json.dumps(report, sort_keys=True), encoding="utf-8")
        project = yaml.safe_load((path.parent / document.project).read_bytes())
        sources = [(path.parent / document.project).parent / name for name in project["sources"]]
        for source in sources:
            shutil.copyfile(source, work / program.SOURCE_FOLDER / source.name)
        given = {name: getattr(document, name) for name in document.__struct_fields__ if name != "project"}
        control = Control(**given, sources=tuple(source.name for source in sources))
        (work / program.CONTROL_NAME).write_bytes(_canonical(control))
        check(control, work, str(path))
        gone = Path(place) / "gone"
        if out.exists():
            out.rename(gone)
        work.rename(out)
    return control


def check(control: Control, folder: Path, where: str) -> None:
    """Everything a start at a site checks, with a site that says nothing of its own. Raises DocumentError."""
    try:
        layout = load_layout(folder / program.LAYOUT_NAME)
    except Refused as error:
        raise start.refused(error) from error
    context = RunContext(
        enterprise="e", site="s", node="n", instance=control.name, workload=control.name, version="0.0.0", generation=1
    )
    config = VplcConfig(place=Place(area="a", line="l", asset="p"))
    arrangement = arrange(control, config, context, layout, folder, Path("/dev/shm"), sys.executable)
    problems = program.check(control, layout, where)
    problems += arrangement.problems
    problems += start.scan_problems(arrangement, folder, None)
    if problems:
        raise DocumentError(problems)


def _canonical(control: Control) -> bytes:
    return json.dumps(msgspec.to_builtins(control), sort_keys=True, indent=1, ensure_ascii=False).encode()


def _commission(document: Path, project: Path, out: Path, target: str) -> dict[str, Any]:
    """The report of `vplc commission`, which has passed and built for the target. In a process of its own: the compiler
    brings LLVM along, which nothing else here needs."""
    command = [sys.executable, "-m", "vplc", "commission", str(project), "-o", str(out), "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        report = {}
    failed = [Problem(str(project), "", text) for text in _failed(report)]
    if done.returncode or not report.get("passed"):
        said = done.stdout if not report else done.stderr
        raise DocumentError(failed or [Problem(str(project), "", f"is not commissioned:\n{said.strip()[-4000:]}")])
    if target not in [row["target"] for row in report["builds"]]:
        hint = f"add {target} to the project's targets"
        raise DocumentError([Problem(str(document), "project", f"the project is not built for {target}", hint)])
    return report


def _failed(report: dict[str, Any]) -> list[str]:
    """Every mistake, unit test and simulation check that stands in the way, in words."""
    texts = [f"{row['file']}:{row['line']} {row['code']} {row['message']}" for row in report.get("diagnostics", ())]
    texts += [f"{row['where']}: {row['what']}" for row in report.get("problems", ())]
    texts += [f"unit test {row['name']!r} failed" for row in report.get("tests", ()) if not row.get("passed", True)]
    checks = report.get("simulation", {}).get("checks", ())
    return texts + [f"check {row['name']!r}: {row['text']}" for row in checks if not row.get("passed", True)]
