"""One site, one node, one instance of class control: real orchestrator, command line, agent and process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from manifests.catalog import CatalogEditor
from manifests.policy import Approval
from tests.support.procs import Program

ROOT = Path(__file__).resolve().parents[2]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "level": {
            "type": "number",
            "minimum": 0,
            "maximum": 80,
            "x-sluice-live": True,
            "x-sluice-unit": "cm",
            "description": "how full the tank is kept",
        },
        "host": {"type": "string"},
        "live": {"type": "null"},
    },
    "additionalProperties": False,
}
GRANT = {"segment": "ot", "protocol": "modbus", "target": "io", "points": ["coil 0-3"]}


def workload(version: str, schema: dict[str, Any]) -> dict[str, Any]:
    packages = ["manifests", "workloads.kit", "tests.support.answering", "commissioned"]
    return {
        "apiVersion": "sluice/v1",
        "kind": "Workload",
        "metadata": {"name": "answering"},
        "spec": {
            "version": version,
            "class": "control",
            "images": [
                {
                    "platform": "process",
                    "packages": packages,
                    "command": ["python", "-m", "tests.support.answering"],
                }
            ],
            "conduits": [{"segment": "ot"}],
            "control": {"periodMs": 10, "jitterP999Us": 500, "watchdogMs": 50, "maxStopMs": 30000, "core": "any"},
            "writes": [GRANT],
            "configSchema": schema,
        },
    }


def commissioned_source(folder: Path) -> Path:
    """The packages of the release, and beside them what every release of class control carries: a program, which
    nothing runs here, with the report of its own passed tests."""
    if folder.exists():
        return folder
    for package in ("manifests", "workloads/kit", "tests/support/answering"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    place = folder / "commissioned"
    place.mkdir()
    project = str(ROOT / "vplc" / "examples" / "tank" / "project.yaml")
    command = [sys.executable, "-m", "vplc", "commission", project, "--json", "-o", str(folder / "built")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (place / "report.json").write_text(done.stdout)
    shutil.copyfile(folder / "built" / "tank.x86-64.so", place / "program.so")
    return folder


def approve(catalog: Path, keys: Path) -> None:
    """The word of OT and of IT for what drives outputs."""
    editor = CatalogEditor.open(catalog, keys)
    now = datetime.now(UTC)
    for path in editor.releases:
        for side in editor.lacking(path):
            editor.approve(side, path, Approval(name=side.value, meaning="a test", at=now.isoformat()))
    for name, data in editor.sign(now).items():
        (catalog / name).write_bytes(data)


class Plant:
    """One site with one node: its agent process, the centre, and an operator at a prompt."""

    def __init__(self, folder: Path, running: Any) -> None:
        self.folder = folder
        self.running = running
        self.state = folder / "n"
        self.operator = running.operator()
        self.generation = 0
        self.rollout = 0
        self.sides: dict[str, Any] = {}
        self.agent = Program(
            "agent",
            [sys.executable, "-m", "agent", "run", "--config", str(self.state / "agent.yaml")],
            folder / "agent.log",
            cwd=ROOT,
        )

    def sluice(self, *arguments: str, code: int = 0) -> Any:
        token = self.operator.headers["Authorization"].removeprefix("Bearer ")
        environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(self.folder),
            "SLUICE_SERVER": self.running.operator_url,
            "SLUICE_TOKEN": token,
        }
        environment.pop("COLUMNS", None)  # a narrow terminal of whoever runs the tests is none of theirs
        command = [sys.executable, "-c", "from orchestrator.cli import main; main()", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in arguments and code == 0 else done.stdout + done.stderr

    def publish(self, version: str, schema: dict[str, Any] = SCHEMA) -> None:
        document = self.folder / f"answering-{version}.yaml"
        document.write_text(yaml.safe_dump(workload(version, schema)))
        out = self.folder / "releases"
        source = str(commissioned_source(self.folder / "source"))
        built = self.sluice("release", "build", str(document), "--out", str(out), "--source", source, "--json")
        folders = [item["folder"] for item in built]
        catalog = str(self.running.keys / "online" / "catalog")
        keys = str(self.running.keys / "offline")
        self.sluice("release", "sign", *folders, "--keys", keys, "--catalog", catalog, "--yes")
        approve(Path(catalog), Path(keys))
        self.sluice("release", "publish", *folders, "--catalog", catalog)

    def fleet(self, version: str = "1.0.0", **config: Any) -> list[dict[str, Any]]:
        head = {"apiVersion": "sluice/v1"}
        site = {"name": "hamburg", "nodes": [{"name": "edge1"}]}
        spec = {"workload": "answering", "version": version, "config": {"live": None, **config}}
        return [
            {**head, "kind": "Fleet", "metadata": {"name": "acme"}, "spec": {"enterprise": "acme", "sites": [site]}},
            {**head, "kind": "Assignment", "metadata": {"name": "tank"}, "spec": spec},
        ]

    def roll_out(self, version: str = "1.0.0", **config: Any) -> Any:
        answer = self.operator.post("/fleet", json={"documents": self.fleet(version, **config)})
        assert answer.status_code == 200, answer.text
        self.generation = answer.json()["generation"]
        policy = {
            "apiVersion": "sluice/v1",
            "kind": "Rollout",
            "metadata": {"name": "quick"},
            "spec": {"gate": {"soakS": 0}},
        }
        started = self.operator.post("/rollouts", json={"reason": "test", "policy": policy})
        assert started.status_code == 201, started.text
        self.rollout = started.json()["id"]
        for side in started.json()["lacking"]:
            self.approve(side)
        return answer.json()["diff"]

    def approve(self, side: str) -> None:
        """By whoever stands for this side; the operator, where one person may stand for both."""
        body = {"side": side, "reason": "seen"}
        answer = self.sides.get(side, self.operator).post(f"/rollouts/{self.rollout}/approvals", json=body)
        assert answer.status_code == 200, answer.text

    def enrol(self) -> None:
        token = self.operator.post("/sites/hamburg/tokens", json={}).json()["token"]
        command = [sys.executable, "-m", "agent", "enrol", "--token", token, "--state", str(self.state)]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        settings = {
            "state": ".",
            "runtime": "process",
            "reportS": 1,
            "pollS": 0.5,
            "control": {"cores": [0], "realtime": True},
        }
        (self.state / "agent.yaml").write_text(yaml.safe_dump(settings))

    def instance(self) -> dict[str, Any]:
        found = self.operator.get("/sites/hamburg").json()["instances"]
        return next((one for one in found if one["name"] == "tank"), {})

    def word(self) -> str:
        status = self.instance().get("status", {})
        return f"{status.get('state')} ({status.get('reason')})"

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 40) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{what}: {self.instance()}\n{self.agent.tail(30)}"
            time.sleep(0.1)
        return found

    def runs(self, version: str = "1.0.0") -> bool:
        return self.word() == "Running (Ok)" and self.instance()["version"] == version

    def ask(self, kind: str, **arguments: Any) -> Any:
        body = {"kind": kind, "arguments": arguments, "timeoutS": 10}
        return self.operator.post("/sites/hamburg/instances/tank/inquiries", json=body)

    def level(self) -> dict[str, Any]:
        answer = self.ask("level")
        assert answer.status_code == 200, answer.text
        value: dict[str, Any] = answer.json()["value"]
        return value

    def put(self, **body: Any) -> Any:
        return self.operator.put("/sites/hamburg/instances/tank/parameters", json={"why": "a test", **body})

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.operator.get("/events?limit=500").json() if one["kind"] == kind]

    def end(self) -> None:
        self.agent.stop()
        clear = [sys.executable, "-m", "agent", "clear", "--config", str(self.state / "agent.yaml")]
        subprocess.run(clear, check=False, capture_output=True, cwd=ROOT)
