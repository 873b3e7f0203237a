"""The engine helper starts, shares and stops an engine; a small stand-in plays the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engine import answers, engine, main

DAEMON = """#!{python}
import os, pathlib, socket, sys
path = os.environ["DOCKER_HOST"].removeprefix("unix://")
pathlib.Path(path).unlink(missing_ok=True)
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(path)
    listener.listen()
    while True:
        link, _ = listener.accept()
        link.recv(1024)
        link.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nOK")
        link.close()
"""


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin/dockerd"
    program.parent.mkdir()
    program.write_text(DAEMON.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return program


def test_an_engine_is_started_and_stopped_by_its_last_user(daemon: Path, tmp_path: Path) -> None:
    assert not answers()
    with engine(tmp_path / "build") as first:
        assert first
        with engine(tmp_path / "build") as second:
            assert second
        assert answers(), "an inner user must not stop the engine of an outer one"
    assert not answers()
    assert not (tmp_path / "build/engine.pid").exists()


def test_an_engine_of_somebody_else_is_used_and_left_running(daemon: Path, tmp_path: Path) -> None:
    with engine(tmp_path / "theirs"):
        with engine(tmp_path / "ours") as available:
            assert available
            assert not (tmp_path / "ours/engine.pid").exists()
        assert answers()


def test_a_reused_process_id_is_never_signalled(daemon: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        with engine(tmp_path / "theirs"):
            (tmp_path / "ours").mkdir()
            (tmp_path / "ours/engine.pid").write_text(f"{stranger.pid} 12345\n")
            with engine(tmp_path / "ours"):
                pass
        assert stranger.poll() is None
        assert not (tmp_path / "ours/engine.pid").exists()
        stranger.communicate(b"\n")


def test_an_engine_that_cannot_start_says_why(daemon: Path, tmp_path: Path) -> None:
    daemon.write_text("#!/bin/sh\necho 'no space left on device' >&2\nexit 1\n")
    with engine(tmp_path / "build") as available:
        assert not available
        assert "no space left on device" in available.reason


def test_nobody_but_root_starts_an_engine(daemon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with engine(tmp_path / "build") as available:
        assert not available
        assert "systemctl start docker" in available.reason


def test_a_command_runs_with_or_without_an_engine_and_its_result_is_kept() -> None:
    assert main([sys.executable, "-c", "raise SystemExit(7)"]) == 7
