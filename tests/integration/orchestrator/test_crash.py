"""A real orchestrator process is killed with SIGKILL between the steps of a rollout, again and again; it goes on."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    def __init__(self, folder: Path, keys: Path, agents: int, operators: int, password: str) -> None:
        self.operators = operators
        (folder / "password").write_text(password)
        self._command = [
            sys.executable, "-m", "orchestrator", "serve", "--data", str(folder / "data"),
            "--keys", str(keys / "online"), "--agent-listen", f"127.0.0.1:{agents}",
            "--operator-listen", f"127.0.0.1:{operators}", "--public-agent-url", f"https://localhost:{agents}",
            "--admin-password-file", str(folder / "password"), "--report-seconds", "20",
        ]  # fmt: skip
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, stdout=log, cwd=ROOT, env={**os.environ})
        end = time.monotonic() + 40
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{self.operators}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < end
            time.sleep(0.05)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(20)


def test_a_rollout_goes_on_after_kill_9_between_any_of_its_steps(tmp_path: Path, key_folder: Path, lab: Any) -> None:
    agents, operators = free_port(), free_port()
    process = Process(tmp_path, key_folder, agents, operators, lab.PASSWORD)
    running = lab.Running(None, key_folder, type("P", (), {"agents": agents, "operators": operators}), None)
    dice = random.Random(5)
    try:
        operator = running.operator()
        digest = lab.publish(running, operator)
        sites = ("hamburg", "leipzig", "bremen")
        lab.apply_fleet(operator, lab.fleet_documents(sites=sites))
        enroller = lab.Enroller(running, tmp_path)
        nodes = [enroller.enrol(operator, site) for site in sites]
        for node in nodes:
            node.report()
        waves = [{"name": s, "selector": {"sites": [s]}} for s in sites]
        policy = {
            "apiVersion": "sluice/v1", "kind": "Rollout", "metadata": {"name": "r"},
            "spec": {"waves": waves, "gate": {"soakS": 0.5, "timeoutS": 300}},
        }  # fmt: skip
        assert operator.post("/rollouts", json={"policy": policy, "reason": "crash test"}).status_code == 201
        kills, status, end = 0, "", time.monotonic() + 100
        while status != "Done":
            assert time.monotonic() < end, operator.get("/rollouts").text
            started = time.monotonic()
            while time.monotonic() - started < (dice.uniform(0.1, 2.5) if kills < 5 else 60) and status != "Done":
                told = [node.obey(digest) for node in nodes]
                assert told == sorted(told, reverse=True), "a wave started before the one before it"
                status = operator.get("/rollouts/1").json()["status"]["state"]
                time.sleep(0.1)
            if kills < 5 and status != "Done":
                process.kill()
                process.start()
                kills += 1
        assert kills >= 3
        assert [node.generation() for node in nodes] == [1, 1, 1]
        for node, site in zip(nodes, sites, strict=True):
            (stream,) = operator.get(f"/sites/{site}/streams").json()
            assert stream["mark"] == node.sent
            assert stream["samples"] == node.sent - 1
        kinds = [e["kind"] for e in operator.get("/events", params={"limit": 1000}).json()]
        assert kinds.count("wave-passed") == 3
        assert kinds.count("site-assigned") == 3
        assert process.stop() == 0
    finally:
        process.kill()
        for client in running.clients:
            client.close()


def test_wrong_settings_are_told_all_at_once(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "orchestrator", "serve", "--data", str(tmp_path / "d"), "--keys", str(tmp_path),
        "--agent-listen", "nonsense", "--database", "mysql://x", "--console", str(tmp_path),
        "--public-agent-url", "http://x", "--report-seconds", "0",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 2
    for option in ("--keys", "--agent-listen", "--database", "--console", "--public-agent-url", "--report-seconds"):
        assert option in done.stderr
    assert "Traceback" not in done.stderr
