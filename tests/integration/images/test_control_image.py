"""The tank's image as class control runs it: one process with capabilities, nobody root, an orderly end."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import engine
from workloads.images import build as images
from workloads.images.recipes import named

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

CONTROL = ("SYS_NICE", "IPC_LOCK", "SETUID", "SETGID", "SETPCAP")
CAPABILITIES = 1 << 23 | 1 << 14  # SYS_NICE, IPC_LOCK
PROCESSES = """
import json, os
found = {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline").read().split("\\0")
        status = open(f"/proc/{pid}/status").read().splitlines()
        lines = dict(line.split(":\\t", 1) for line in status if ":\\t" in line)
    except OSError:
        continue
    name = words[0].rsplit("/", 1)[-1] if "python" not in words[0] else words[2]
    found[name] = {"uid": lines["Uid"].split()[0], "caps": lines["CapEff"], "pid": int(pid)}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def tank() -> Iterator[images.Built]:
    with engine() as available:
        if not available:
            pytest.skip(available.reason)
        yield images.build([named("tank")])[0]


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + (done.stderr if arguments[0] == "logs" else "")


@pytest.fixture
def running(tank: images.Built, tmp_path: Path) -> Iterator[str]:
    tmp_path.chmod(0o755)
    kept = tmp_path / "kept"
    kept.mkdir()
    kept.chmod(0o1777)
    context = {
        "enterprise": "acme", "site": "hh", "node": "n", "instance": "tank", "workload": "tank", "version": "0.1.0",
        "generation": 1, "shared": "/run/shared", "kept": "/run/kept",
        "config": {"live": None, "place": {"area": "a", "line": "l", "asset": "p"}},
        "writes": [{"segment": "ot", "protocol": "modbus", "target": "tank-io", "points": ["*"]}],
        "control": {"periodMs": 10, "jitterP999Us": 20000, "watchdogMs": 50, "maxStopMs": 5000, "priority": 60},
    }  # fmt: skip
    (tmp_path / "context.json").write_text(json.dumps(context))
    name = f"sluice-test-{uuid.uuid4().hex[:8]}"
    memory = "rw,exec,nosuid,nodev,mode=1777,size=16m"
    _docker(
        "run", "--detach", "--name", name, "--network", "none", "--read-only", "--user", "0:0", "--cap-drop", "ALL",
        *(part for word in CONTROL for part in ("--cap-add", word)), "--security-opt", "no-new-privileges",
        "--pids-limit", "96", "--memory", "192m", "--tmpfs", "/tmp:rw,noexec,nosuid,nodev,mode=1777,size=16m",
        "--tmpfs", f"/run/shared:{memory}", "--volume", f"{tmp_path}:/run/sluice:ro", "--volume", f"{kept}:/run/kept",
        "--env", "SLUICE_RUN=/run/sluice", tank.digest,
    )  # fmt: skip
    try:
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True)


def _status(name: str) -> dict[str, object]:
    line = ["docker", "exec", "--user", "10001", name, "python3", "-m", "vplc.scan", "status", "/run/shared", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    found: dict[str, object] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    return found


def _scanning(name: str) -> dict[str, object]:
    deadline = time.monotonic() + 30
    while not (found := _status(name)).get("healthy"):
        assert time.monotonic() < deadline, _docker("logs", name)
        time.sleep(0.2)
    return found


def test_an_image_of_a_control_program_stays_under_its_size_goal(tank: images.Built) -> None:
    assert tank.goal is not None
    assert tank.size < tank.goal


def test_only_the_scan_host_has_capabilities_and_nobody_is_root(running: str) -> None:
    assert _scanning(running)["memory_locked"]
    found = json.loads(_docker("exec", "--user", "10001", running, "python3", "-c", PROCESSES))
    assert {"vplc-keeper", "vplc-scan-host", "workloads.vplc", "vplc.drivers", "vplc.servers"} <= set(found)
    assert {row["uid"] for row in found.values()} == {"10001"}
    assert int(found["vplc-scan-host"]["caps"], 16) == CAPABILITIES
    for name in ("workloads.vplc", "vplc.drivers", "vplc.servers"):
        assert int(found[name]["caps"], 16) == 0, name
    assert found["vplc-keeper"]["pid"] == 1


def test_a_stop_is_orderly_and_saves_what_is_retained(running: str, tmp_path: Path) -> None:
    _scanning(running)
    _docker("stop", "--time", "20", running)
    assert json.loads(_docker("inspect", running))[0]["State"]["ExitCode"] == 0
    saved = list((tmp_path / "kept" / "retain").glob("retain.*"))
    assert any(b"Tank.setpoint" in path.read_bytes() for path in saved)


def test_no_compiler_and_no_other_tool_is_inside(running: str) -> None:
    _scanning(running)
    probe = (
        "import importlib.util as u; print([n for n in ('llvmlite', 'vplc.compiler', 'yaml', 'pip') if u.find_spec(n)])"
    )
    assert _docker("exec", running, "python3", "-c", probe).strip() == "[]"
