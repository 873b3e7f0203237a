"""The native programs of the workload: scan host, image library, keeper. Called where images and releases are made.

Refuses nothing that `vplc.scan.build` takes; at a site nothing is compiled.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from vplc.scan import build as scan_build
from vplc.scan.errors import Unbuildable

SOURCE = Path(__file__).resolve().parent / "native" / "keeper.c"
KEEPER = "vplc-keeper"
FOLDER_VARIABLE = "VPLC_SCAN_BIN"  # where `vplc.scan` looks for its programs
BINARIES = (scan_build.HOST, scan_build.LIBRARY, KEEPER)
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wvla", "-Werror")
_TIMEOUT_S = 300


def digest() -> str:
    """Names the version of all sources."""
    return hashlib.sha256(scan_build.digest().encode() + SOURCE.read_bytes()).hexdigest()[:16]


def build(folder: Path, target: str = "x86-64") -> None:
    """All three into ``folder``; nothing is done when they are there for these sources. Raises Unbuildable."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / ".sources"
    wanted = f"{digest()} {target}"
    if stamp.is_file() and stamp.read_text() == wanted and all((folder / name).is_file() for name in BINARIES):
        return
    stamp.unlink(missing_ok=True)
    scan_build.build(folder, target)
    with tempfile.TemporaryDirectory(prefix="vplc-keeper") as work:
        made = Path(work) / KEEPER
        command = [*scan_build.compiler(target), *_FLAGS, "-o", str(made), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode:
            raise Unbuildable(f"{command[0]} failed: {done.stderr.strip()[-2000:]}")
        shutil.copy2(made, folder / f".{KEEPER}.new")
        (folder / f".{KEEPER}.new").rename(folder / KEEPER)
    stamp.write_text(wanted)
