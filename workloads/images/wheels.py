"""Third-party Python for the images: fetched once by hash, installed without network, stripped.

Called by `build`. The wheelhouse under `build/wheelhouse` is all that an air-gapped site needs to carry.
Only wheels are taken: nothing of a third party runs on the machine that builds.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from workloads.images import ImageError
from workloads.images.recipes import PYTHON_VERSION

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "arm": "armv7l", "riscv64": "riscv64"}
_GLIBC_MINOR = 36  # Debian bookworm's

# Not needed at run time. Licences and the rest of the metadata stay.
_SUFFIXES = frozenset({".pyi", ".pyx", ".pxd", ".h", ".hpp", ".c", ".cpp", ".a", ".lib", ".pyc"})
_FOLDERS = frozenset({"tests", "__pycache__"})
_UNUSED = (
    "bin",
    "*.dist-info/RECORD",
    "zstandard/_cffi.*",  # the back end for PyPy: 12 MB
    "numpy/f2py",
    "numpy/_pyinstaller",
)


def machine_of(architecture: str) -> str:
    """The wheel's name for an engine's architecture: amd64 is x86_64."""
    return _MACHINES.get(architecture, platform.machine())


def target_options(architecture: str) -> list[str]:
    """pip's options for Debian bookworm's Python, whatever Python runs pip."""
    machine = machine_of(architecture)
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC_MINOR, 16, -1)]
    tags += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}"]
    tags += [f"manylinux_2_{minor}_{machine}" for minor in (12, 5)]
    options = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON_VERSION]
    for tag in tags:
        options += ["--platform", tag]
    return options


def fetch(requirements: Path, wheelhouse: Path, architecture: str) -> None:
    """Fill the wheelhouse for one requirement file; a second call touches no network."""
    content = hashlib.sha256(requirements.read_bytes() + architecture.encode()).hexdigest()[:16]
    stamp = wheelhouse / f".complete-{content}"
    if stamp.exists():
        return
    wheelhouse.mkdir(parents=True, exist_ok=True)
    _pip(
        "download",
        "--no-deps",
        "--require-hashes",
        *target_options(architecture),
        "--dest",
        str(wheelhouse),
        "-r",
        str(requirements),
    )
    stamp.touch()


def install(requirements: Path, wheelhouse: Path, target: Path, architecture: str, unused: Sequence[str] = ()) -> None:
    """Unpack the wheels, hashes checked, into `target` and strip what no run needs."""
    shutil.rmtree(target, ignore_errors=True)
    _pip(
        "install",
        "--no-index",
        "--no-deps",
        "--require-hashes",
        "--no-compile",
        *target_options(architecture),
        "--find-links",
        str(wheelhouse),
        "--target",
        str(target),
        "-r",
        str(requirements),
    )
    note_hashes(requirements.read_text(encoding="utf-8"), wheelhouse, target, architecture)
    strip(target, unused)


def note_hashes(lock: str, wheelhouse: Path, target: Path, architecture: str) -> None:
    """Into each dist-info, the hash of the wheel it came from, as the lock pins it: for the bill of materials."""
    for folder in target.glob("*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        for wheel in sorted(wheelhouse.glob("*.whl")):
            parts = wheel.name.split("-")
            same = (_plain(parts[0]), parts[1]) == (_plain(name), version)
            if same and (machine_of(architecture) in parts[-1] or parts[-1] == "any.whl"):
                digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
                if f"sha256:{digest}" in lock:
                    (folder / "WHEEL.sha256").write_text(digest + "\n")


def _plain(name: str) -> str:
    return name.replace(".", "_").replace("-", "_").lower()


def strip(target: Path, unused: Sequence[str] = ()) -> None:
    """Remove tests, stubs, headers, entry points and the `unused` patterns from an installed tree."""
    _remove(path for pattern in (*_UNUSED, *unused) for path in list(target.glob(pattern)))
    _remove(path for path in sorted(target.rglob("*")) if path.is_dir() and path.name in _FOLDERS)
    _remove(path for path in sorted(target.rglob("*")) if path.is_file() and path.suffix in _SUFFIXES)
    _remove_debug_information(sorted(target.rglob("*.so")))


def _remove_debug_information(libraries: Sequence[Path]) -> None:
    """Some wheels come with it: of zstandard's 12 MB it is 11. Without the tool, for another processor's libraries
    where the tool knows only this one, and where it would leave one that does not load, they stay as they are."""
    tool = shutil.which("strip")
    for library in libraries if tool else ():
        work = library.with_name(f".{library.name}")
        line = [str(tool), "--strip-debug", "-o", str(work), str(library)]
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode == 0 and _loads(work):
            work.replace(library)
        work.unlink(missing_ok=True)


def _loads(library: Path) -> bool:
    """Whether the loader could map its segments: of libraries whose headers were edited after linking, as those bundled
    into wheels are, the tool moves segments off their pages."""
    data = library.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":  # 64 bit, little endian
        return False
    (table,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    for place in range(table, table + size * count, size):
        kind, _, offset, address = struct.unpack_from("<IIQQ", data, place)
        (align,) = struct.unpack_from("<Q", data, place + 48)
        if kind == 1 and align > 1 and (address - offset) % align:
            return False
    return True


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _pip(command: str, *arguments: str) -> None:
    line = [sys.executable, "-m", "pip", "--disable-pip-version-check", command, "--quiet", *arguments]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise ImageError(
            f"pip {command} failed:\n{done.stderr.strip()[-2000:]}",
            arguments[-1],
            "check that pip reaches its index; `./run setup` repairs the Python environment",
        )
