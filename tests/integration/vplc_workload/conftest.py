"""The tank's program, packed once as a release would carry it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.workload_process import free_port

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "vplc/examples/tank/control.yaml"


def pack(document: Path, out: Path, target: str = "x86-64") -> subprocess.CompletedProcess[str]:
    """As whoever makes a release does it."""
    command = [sys.executable, "-m", "workloads.vplc", "pack", str(document), "-o", str(out), "--target", target]
    environment = {key: value for key, value in os.environ.items() if key != "VPLC_SCAN_BIN"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control")
    document, out = shutil.copytree(DOCUMENT.parent, folder / "source") / DOCUMENT.name, folder / "tank"
    text = document.read_text()
    assert "port: 1502}" in text
    # Without containers the HMI's port is the machine's: another worker's tank, or a demo, may have it.
    document.write_text(text.replace("port: 1502}", f"port: {free_port()}}}"))
    done = pack(document, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out
