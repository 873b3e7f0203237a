"""Objects to shared libraries, for this machine or another, with a linker installed by pip."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vplc.compiler.source import UnsupportedError

_ZIG = {
    "x86-64": "x86_64-linux-gnu.2.28",
    "aarch64": "aarch64-linux-gnu.2.28",
    "armv7": "arm-linux-gnueabihf.2.28",
    "riscv64": "riscv64-linux-gnu.2.28",
}
_TIMEOUT_S = 300


def link_shared(objects: bytes, out: Path, target: str) -> None:
    """Writes the shared library `out`; raises UnsupportedError when no linker can do it."""
    with tempfile.TemporaryDirectory(prefix="vplc") as folder:
        obj = Path(folder) / "program.o"
        obj.write_bytes(objects)
        result = Path(folder) / "program.so"
        environment = dict(os.environ)
        if importlib.util.find_spec("ziglang") is not None:
            command = [
                sys.executable,
                "-m",
                "ziglang",
                "cc",
                "-target",
                _ZIG[target],
                "-shared",
                "-o",
                str(result),
                str(obj),
                "-lm",
            ]
            if not os.access(Path.home(), os.W_OK):
                environment["ZIG_GLOBAL_CACHE_DIR"] = folder
        elif target == "x86-64" and shutil.which("cc"):
            command = ["cc", "-shared", "-o", str(result), str(obj), "-lm"]
        else:
            raise UnsupportedError(f"linking for {target} needs ziglang: pip install 'sluice[vplc-build]'")
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_TIMEOUT_S, check=False)
        if done.returncode:
            raise UnsupportedError(f"the linker failed for {target}: {done.stderr.strip()[-400:]}")
        out.write_bytes(result.read_bytes())
        out.chmod(0o755)
