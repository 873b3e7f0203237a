"""The tank's program, packed once as a release would carry it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "vplc/examples/tank/control.yaml"


def pack(document: Path, out: Path, target: str = "x86-64") -> subprocess.CompletedProcess[str]:
    """As whoever makes a release does it."""
    command = [sys.executable, "-m", "workloads.vplc", "pack", str(document), "-o", str(out), "--target", target]
    environment = {key: value for key, value in os.environ.items() if key != "VPLC_SCAN_BIN"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("control") / "tank"
    done = pack(DOCUMENT, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out
