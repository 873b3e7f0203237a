"""Compiles the native host and the drivers' image library, with the system's compiler or one installed by pip.

Called by `python -m vplc.scan build`. The result goes to a cache folder named after the sources and the target, so a
new version never meets an old host; a container image sets VPLC_SCAN_BIN instead.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vplc.scan.errors import Unbuildable

NATIVE = Path(__file__).resolve().parent / "native"
HOST = "vplc-scan-host"
LIBRARY = "libvplc-image.so"
_SOURCES = ("host.c", "load.c", "cycle.c", "access.c", "standby.c", "memory.c", "network.c", "retain.c", "image.c")
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wvla", "-Werror")
_ZIG = {
    "x86-64": "x86_64-linux-gnu.2.28",
    "aarch64": "aarch64-linux-gnu.2.28",
    "armv7": "arm-linux-gnueabihf.2.28",
    "riscv64": "riscv64-linux-gnu.2.28",
}
TARGETS = ("native", *_ZIG)
_TIMEOUT_S = 300


def digest() -> str:
    """Names the version of the sources."""
    total = hashlib.sha256(" ".join(_FLAGS).encode())
    for path in sorted(NATIVE.iterdir()):
        if path.suffix in (".c", ".h"):
            total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]


def folder() -> Path:
    """Where host and library of this version are looked for."""
    given = os.environ.get("VPLC_SCAN_BIN")
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "vplc" / f"scan-{digest()}"


def find(name: str) -> Path:
    """The built file; raises Unbuildable with the remedy when it is not there."""
    path = folder() / name
    if not path.is_file():
        raise Unbuildable(f"{path} is not there; build it with: python -m vplc.scan build")
    return path


def compiler(target: str = "native") -> list[str]:
    """The command that compiles C for the target; raises Unbuildable."""
    if target == "native":
        for name in ("cc", "gcc", "clang"):
            if shutil.which(name):
                return [name]
    if importlib.util.find_spec("ziglang") is not None:
        command = [sys.executable, "-m", "ziglang", "cc"]
        return command if target == "native" else [*command, "-target", _ZIG[target]]
    raise Unbuildable(
        f"no C compiler for {target}: install one (gcc, clang) or: pip install ziglang"
        if target == "native"
        else f"compiling for {target} needs ziglang: pip install ziglang"
    )


def build(out: Path | None = None, target: str = "native") -> Path:
    """Builds into `out` (default: the cache) and returns the folder. Files appear there whole or not at all."""
    out = out or folder()
    out.mkdir(parents=True, exist_ok=True)
    command = compiler(target)
    with tempfile.TemporaryDirectory(prefix="vplc-scan") as work:
        sources = [str(NATIVE / name) for name in _SOURCES]
        _compile([*command, *_FLAGS, "-o", f"{work}/{HOST}", *sources, "-ldl", "-lpthread", "-lrt"], work)
        _compile([*command, *_FLAGS, "-fPIC", "-shared", "-o", f"{work}/{LIBRARY}", str(NATIVE / "image.c")], work)
        for name in (HOST, LIBRARY):
            fresh = out / f".{name}.{os.getpid()}"
            shutil.copy2(Path(work) / name, fresh)
            fresh.rename(out / name)
    return out


def _compile(command: list[str], work: str) -> None:
    environment = dict(os.environ)
    if not os.access(Path.home(), os.W_OK):
        environment["ZIG_GLOBAL_CACHE_DIR"] = work
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise Unbuildable(f"{command[0]} failed: {done.stderr.strip()[-2000:]}")
