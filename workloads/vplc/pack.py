"""Turns the folder of a control program into what a release carries: compiled, checked, its source beside it.

    python -m workloads.vplc pack vplc/examples/tank/control.yaml -o build/control/tank

Called where releases are made (`workloads.images` for the container image, by hand or script for the process archive);
never at a site. The document names the sources, the scan configuration with its channels, the tags, and what may be
set. Everything that a start would refuse is refused here, before anybody signs it: a library for another machine, a
layout that does not match, memory mapped twice, a driver without a host, a tag without a variable. Nothing is written
until all of it has passed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from manifests.errors import DocumentError, Problem
from manifests.model import RunContext
from manifests.validate import convert
from vplc.scan.errors import Refused
from vplc.scan.layout import load as load_layout
from workloads.vplc import build, program, start
from workloads.vplc.arrange import NATIVE_NAME, arrange
from workloads.vplc.config import Place, VplcConfig
from workloads.vplc.program import Control

MAX_DOCUMENT_BYTES = 4 << 20


class ControlDocument(Control, frozen=True):
    """``control.yaml``: ``sources`` are Structured Text or PLCopen XML, relative to the document."""

    sources: Annotated[tuple[str, ...], Meta(min_length=1)]


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
    missing = [name for name in parsed.sources if not (path.parent / name).is_file()]
    if missing:
        raise DocumentError([Problem(str(path), "sources", f"there is no file {name}") for name in missing])
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
        sources = [path.parent / name for name in document.sources]
        _compile(path, sources, work / program.LIBRARY_NAME, target)
        for source in sources:
            shutil.copyfile(source, work / program.SOURCE_FOLDER / source.name)
        control = Control(
            **{name: getattr(document, name) for name in Control.__struct_fields__ if name != "sources"},
            sources=tuple(source.name for source in sources),
        )
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


def _compile(document: Path, sources: list[Path], library: Path, target: str) -> None:
    """In a process of its own: the compiler brings LLVM along, which nothing else here needs."""
    command = [sys.executable, "-m", "vplc", "build", *map(str, sources), "-o", str(library), "--target", target]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        text = (done.stdout + done.stderr).strip()[-4000:]
        raise DocumentError([Problem(str(document), "sources", f"does not compile:\n{text}")])
