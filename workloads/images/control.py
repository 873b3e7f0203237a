"""The native programs of the virtual PLC and compiled control programs, for the images that hold them.

Called by `build`. Compiling happens here, on the machine that makes releases: no image has a compiler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from workloads.images import ImageError

_TARGETS = {"amd64": "x86-64", "arm64": "aarch64", "arm": "armv7", "riscv64": "riscv64"}


def native(folder: Path, architecture: str) -> None:
    """Scan host, image library and keeper, for a glibc older than the base's. Raises ImageError."""
    _python(["-m", "workloads.vplc", "native", "-o", str(folder), "--target", _target(architecture)], folder)


def program(document: Path, folder: Path, root: Path, architecture: str) -> None:
    """The packed program of a control document. Raises ImageError with every mistake in it."""
    packed = root / "build" / "control" / document.parent.name
    _python(
        ["-m", "workloads.vplc", "pack", str(document), "-o", str(packed), "--target", _target(architecture)], document
    )
    shutil.copytree(packed, folder)


def _target(architecture: str) -> str:
    if architecture not in _TARGETS:
        raise ImageError(f"the virtual PLC is not compiled for {architecture}", "docker version", "build it elsewhere")
    return _TARGETS[architecture]


def _python(arguments: list[str], where: Path) -> None:
    """In a process of its own: building images needs neither compiler nor LLVM in this one."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    line = [sys.executable, *arguments]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        text = (done.stderr or done.stdout).strip()[-4000:]
        raise ImageError(text, str(where), "correct what is named, and build again")
