"""Libraries of wheels lose their debug information, and nothing breaks where that cannot be done."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest

from workloads.images.wheels import strip

SOURCE = "int forty_two(void) { return 42; }\n"


@pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("strip")), reason="needs gcc and strip")
def test_debug_information_goes_and_symbols_stay(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (tmp_path / "a.c").write_text(SOURCE)
    library = package / "a.cpython-311-x86_64-linux-gnu.so"
    subprocess.run(["gcc", "-g3", "-shared", "-fPIC", "-o", library, tmp_path / "a.c"], check=True)
    assert b".debug_info" in library.read_bytes()
    strip(tmp_path)
    left = library.read_bytes()
    assert b".debug_info" not in left
    assert b"forty_two" in left


def test_bundled_libraries_whose_headers_were_edited_still_load(tmp_path: Path) -> None:
    """numpy brings its own OpenBLAS, which the tool alone would leave with segments off their pages."""
    [bundled] = Path(numpy.__file__).parents[1].glob("numpy.libs/*openblas*.so")
    [fortran] = Path(numpy.__file__).parents[1].glob("numpy.libs/libgfortran*")
    shutil.copytree(bundled.parent, tmp_path / "numpy.libs")
    strip(tmp_path)
    ctypes.CDLL(str(tmp_path / "numpy.libs" / fortran.name))
    ctypes.CDLL(str(tmp_path / "numpy.libs" / bundled.name))


def test_what_the_tool_does_not_know_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "b.so").write_bytes(b"a library of another world")
    strip(tmp_path)
    assert (tmp_path / "b.so").read_bytes() == b"a library of another world"
