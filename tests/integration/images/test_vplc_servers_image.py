"""The image for programs that speak OPC UA, in a container: npm's node-opcua and mbpoll read what is scanned."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import engine
from tests.support.peers import PeerFailedError, mbpoll_read, node_opcua_read
from workloads.images import build as images
from workloads.images.recipes import named

pytestmark = [pytest.mark.engine, pytest.mark.peer, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
ST = """
TYPE Point : STRUCT x : REAL := 1.5; y : REAL := -2.0; END_STRUCT; END_TYPE
PROGRAM Main
VAR
  counter : UDINT;
  level AT %QW0 : INT := 1234;
  name : STRING := 'ale';
  at : Point;
END_VAR
  counter := counter + 1;
END_PROGRAM
CONFIGURATION Plant
  RESOURCE Station ON PLC
    TASK Fast (INTERVAL := T#10ms, PRIORITY := 1);
    PROGRAM One WITH Fast : Main;
  END_RESOURCE
END_CONFIGURATION
"""
CONTROL = {
    "name": "count",
    "scan": {},
    "servers": {
        "opcua": {"kind": "opcua", "bind": "0.0.0.0", "port": 4840, "policies": ["None"], "name": "count"},
        "hmi": {"kind": "modbus", "bind": "0.0.0.0", "port": 1502},
    },
}


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where a container of the image answers, with a program of ours in it."""
    with engine() as available:
        if not available:
            pytest.skip(available.reason)
        built = images.build([named("vplc-opcua")])[0]
        tmp_path.chmod(0o755)
        program, kept = tmp_path / "program", tmp_path / "kept"
        for folder in (program, kept):
            folder.mkdir()
        kept.chmod(0o1777)
        (tmp_path / "main.st").write_text(ST)
        line = [sys.executable, "-m", "vplc", "build", str(tmp_path / "main.st"), "-o", str(program / "program.so")]
        subprocess.run([*line, "--target", "x86-64"], cwd=ROOT, check=True, capture_output=True)
        (program / "control.json").write_text(json.dumps(CONTROL))
        context = {
            "enterprise": "acme", "site": "hh", "node": "n", "instance": "count", "workload": "count",
            "version": "0.1.0", "generation": 1, "shared": "/run/shared", "kept": "/run/kept",
            "config": {"live": None, "place": {"area": "a", "line": "l", "asset": "p"}},
            "control": {"periodMs": 10, "jitterP999Us": 1e5, "watchdogMs": 50, "maxStopMs": 5000, "priority": 60},
        }  # fmt: skip
        (tmp_path / "context.json").write_text(json.dumps(context))
        name = f"sluice-test-{uuid.uuid4().hex[:8]}"
        _docker(
            "run", "--detach", "--name", name, "--read-only", "--cap-drop", "ALL", "--pids-limit", "96",
            "--security-opt", "no-new-privileges", "--memory", "256m", "--tmpfs", "/tmp:rw,mode=1777,size=16m",
            "--tmpfs", "/run/shared:rw,exec,mode=1777,size=16m", "--volume", f"{tmp_path}:/run/sluice:ro",
            "--volume", f"{kept}:/run/kept", "--volume", f"{program}:/app/program:ro",
            "--env", "SLUICE_RUN=/run/sluice", built.digest,
        )  # fmt: skip
        try:
            yield _docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)
        finally:
            print(_docker("logs", name))
            subprocess.run(["docker", "rm", "--force", name], capture_output=True)


def test_independent_clients_read_both_servers_of_a_container(address: str) -> None:
    nodes = [f"ns=4;s=One.{path}" for path in ("counter", "level", "name", "at.y", "absent")]
    deadline = time.monotonic() + 60
    while True:
        try:
            first = node_opcua_read(f"opc.tcp://{address}:4840", nodes)
            break
        except PeerFailedError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert [first[node]["value"] for node in nodes[1:4]] == [1234, "ale", -2.0]
    assert [first[node]["statusCode"] for node in nodes[:4]] == ["Good"] * 4
    assert first[nodes[4]]["statusCode"] == "BadNodeIdUnknown"
    second = node_opcua_read(f"opc.tcp://{address}:4840", nodes[:1])
    assert second[nodes[0]]["value"] > first[nodes[0]]["value"]
    assert mbpoll_read(address, 1502, 1, "holding", 0, "int16", 1) == [1234]
