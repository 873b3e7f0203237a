"""Brings the whole product up on one computer, as its users would: by the ``sluice`` command line.

Everything lives under one folder; ``close`` ends all that was started and removes all containers and networks it made.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.demo.plants import TANK_SITES, ContainerPlant, Plant, ProcessPlant, docker
from tests.support.link import Link
from tests.support.procs import Program, wait_for

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "manifests" / "examples" / "two-plants"
CATALOG = ROOT / "manifests" / "catalog"
CONSOLE = ROOT / "orchestrator" / "console" / "dist"
WORKLOADS = ("broker", "modbus", "opcua", "tank", "vibration")
SITES = ("hamburg", "leipzig")
NODE = "edge1"
READY_S = 60.0
WEAR_MINUTES = 10.0

Say = Callable[[str], None]


def free_port(wanted: int = 0) -> int:
    """``wanted`` if nobody has it, else any free loopback port."""
    for candidate in (wanted, 0):
        try:
            with socket.create_server(("127.0.0.1", candidate)) as probe:
                return int(probe.getsockname()[1])
        except OSError:
            continue
    raise RuntimeError("no free port on the loopback address")


class Stage:
    """The centre, the plants, and the links between them."""

    def __init__(
        self,
        folder: Path,
        runtime: str,
        version: str,
        *,
        report_s: float = 5,
        wear_minutes: float = WEAR_MINUTES,
        usual_ports: bool = False,
        say: Say = lambda text: None,
    ) -> None:
        self.folder = folder
        self.runtime = runtime
        self.report_s = report_s
        self.wear_minutes = wear_minutes  # until the motor's bearing is worn
        self.say = say
        self.logs = folder / "logs"
        self.password = secrets.token_urlsafe(12)
        # People find the demo where they expect it; tests that run side by side take what is free.
        self.operator_port = free_port(8080 if usual_ports else 0)
        self.agent_port = free_port(8443 if usual_ports else 0)
        self.url = f"http://127.0.0.1:{self.operator_port}"
        self.plants: dict[str, Plant] = {}
        for number, site in enumerate(SITES, start=1):
            self.plants[site] = (
                ContainerPlant(site, version, wear_minutes)
                if runtime == "docker"
                else ProcessPlant(site, number, self.logs, free_port, wear_minutes)
            )
        self.links: dict[str, Link] = {}
        self.agents: dict[str, Program] = {}
        self.orchestrator = Program("orchestrator", self._orchestrator_command(), self.logs / "orchestrator.log")
        self._http: httpx.Client | None = None

    # ---- the centre

    def _orchestrator_command(self) -> list[str]:
        return [
            sys.executable, "-m", "orchestrator", "serve",
            "--data", str(self.folder / "centre"),
            "--keys", str(self.folder / "keys" / "online"),
            "--agent-listen", f"127.0.0.1:{self.agent_port}",
            "--operator-listen", f"127.0.0.1:{self.operator_port}",
            "--public-agent-url", f"https://127.0.0.1:{self.agent_port}",
            "--console", str(CONSOLE),
            "--admin-password-file", str(self.folder / "admin-password"),
            "--report-seconds", str(max(10, self.report_s)),
            "--single-person",
        ]  # fmt: skip

    def start_centre(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        secret = self.folder / "admin-password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        self.sluice("keys", "init", str(self.folder / "keys"), "--no-passphrase", "--server-name", "127.0.0.1")
        self.start_orchestrator()
        self.sluice("login", "--server", self.url, "--password-file", str(secret))

    def start_orchestrator(self) -> None:
        self.orchestrator.start()
        wait_for("the orchestrator to answer", self._answers, READY_S, watch=[self.orchestrator])

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def sluice(self, *arguments: str, check: bool = True, parse: bool = True) -> Any:
        """Run the command line as an operator; its ``--json`` answer, or (exit code, text) when not ``check``."""
        command = [sys.executable, "-c", "from orchestrator.cli import main; main()", *arguments]
        if parse and check:
            command.append("--json")
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.folder / "config"), "SLUICE_SERVER": self.url}
        environment.pop("COLUMNS", None)  # a narrow terminal of whoever runs the tests is none of theirs
        result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
        if not check:
            return result.returncode, result.stdout + result.stderr
        if result.returncode != 0:
            raise RuntimeError(f"sluice {' '.join(arguments)} ended with {result.returncode}:\n{result.stderr}")
        return json.loads(result.stdout) if parse and result.stdout.strip() else result.stdout

    def sluice_all(self, *arguments: str) -> list[Any]:
        """Every JSON document that a command prints which prints several, one after the other."""
        text: str = self.sluice(*arguments, "--json", parse=False)
        found, reader, at = [], json.JSONDecoder(), 0
        while at < len(text.rstrip()):
            document, at = reader.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
            found.append(document)
        return found

    def get(self, path: str, **params: Any) -> Any:
        """One answer of the operator API."""
        if self._http is None:
            login = json.loads((self.folder / "config" / "sluice" / "login.json").read_text())
            headers = {"Authorization": f"Bearer {login['token']}"}
            self._http = httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=20, trust_env=False)
        answer = self._http.get(path, params=params)
        answer.raise_for_status()
        return answer.json()

    # ---- releases and fleet

    def publish(self) -> None:
        if self.runtime == "process":
            pack_control()  # the container image brings its own
        platform = "process" if self.runtime == "process" else "linux/amd64"
        self.publish_documents([CATALOG / f"{name}.yaml" for name in WORKLOADS], platform)

    def publish_documents(self, documents: Sequence[Path], platform: str) -> None:
        """Build, sign, have approved and publish."""
        builds = str(self.folder / "releases")
        built = self.sluice("release", "build", *map(str, documents), "--out", builds, "--platform", platform)
        folders = [item["folder"] for item in built]
        catalog = str(self.folder / "keys" / "online" / "catalog")
        keys = str(self.folder / "keys" / "offline")
        signed = self.sluice("release", "sign", *folders, "--keys", keys, "--catalog", catalog, "--yes")
        self._approve_control(signed["lacking"], keys, catalog)
        self.sluice("release", "publish", *folders, "--catalog", catalog)

    def _approve_control(self, lacking: dict[str, list[str]], keys: str, catalog: str) -> None:
        """The word of OT and of IT for what drives outputs; in the demo one person holds both keys."""
        blobs = str(self.folder / "releases" / "blobs")
        for path, sides in lacking.items():
            _, name, version, _ = path.split("/")
            for side in sides:
                where = ("--keys", keys, "--catalog", catalog, "--blobs", blobs)
                self.sluice("sign", name, version, "--as", side, "--name", f"demo {side}", *where, "--yes")

    def apply(self, reason: str, documents: Path = EXAMPLE) -> int:
        """The new generation."""
        return int(self.sluice("fleet", "apply", str(documents), "--reason", reason, *self.overrides())["generation"])

    def overrides(self) -> list[str]:
        return [part for plant in self.plants.values() for text in plant.overrides for part in ("--set", text)]

    def start_rollout(self, reason: str, policy: Path = EXAMPLE / "rollout.yaml") -> int:
        """The one person of the demo speaks for OT and for IT where class control is touched."""
        view = self.sluice("rollout", "start", "--policy", str(policy), "--reason", reason)
        for side in view["lacking"]:
            self.sluice("rollout", "approve", str(view["id"]), "--as", side, "--why", reason)
        return int(view["id"])

    def rollout(self, number: int) -> Any:
        return self.get(f"/rollouts/{number}")

    def wait_for_rollout(self, number: int, timeout_s: float) -> float:
        def done() -> bool:
            try:
                view = self.rollout(number)
            except httpx.HTTPError:
                return False  # the centre may be starting again
            if view["status"]["state"] in {"Paused", "Aborted"}:
                raise RuntimeError(f"rollout {number}: {json.dumps(view['status'])} {json.dumps(view['waves'])[:3000]}")
            return bool(view["status"]["state"] == "Done")

        try:
            return wait_for(f"rollout {number} to be done", done, timeout_s, every_s=0.5)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{json.dumps(self.rollout(number)['waves'], indent=1)[:4000]}") from error

    # ---- plants

    def start_plant(self, site: str) -> None:
        """Machines, link, agent: enrolled with a one-time token and running."""
        self.plants[site].start()
        self.links[site] = Link(("127.0.0.1", self.agent_port))
        state = self.folder / "sites" / site
        token = self.sluice("site", "token", site)["token"]
        url = f"https://127.0.0.1:{self.links[site].port}"
        config = self._agent_config(site, state, url)
        command = [sys.executable, "-m", "agent"]
        subprocess.run(
            [*command, "enrol", "--url", url, "--token", token, "--state", str(state)],
            check=True, capture_output=True, cwd=ROOT,
        )  # fmt: skip
        self.agents[site] = Program(
            f"agent {site}", [*command, "run", "--config", str(config)], self.logs / f"agent-{site}.log"
        )
        self.agents[site].start()

    def _agent_config(self, site: str, state: Path, url: str) -> Path:
        plant = self.plants[site]
        state.mkdir(parents=True, exist_ok=True)
        path = state / "agent.yaml"
        settings = {
            "state": str(state),
            "url": url,
            "runtime": self.runtime,
            "segments": plant.segments,
            "hosts": plant.hosts,
            "reportS": self.report_s,
        }
        if site in TANK_SITES:
            settings["control"] = {"cores": [(os.cpu_count() or 1) - 1], "realtime": True}
        path.write_text(yaml.safe_dump(settings))
        return path

    def link_state(self, site: str) -> str:
        """``online``, ``offline`` or ``never``."""
        return str(self.get(f"/sites/{site}")["summary"]["link"]["state"])

    def instance(self, site: str, name: str) -> Any:
        return next(item for item in self.get(f"/sites/{site}")["instances"] if item["name"] == name)

    def broker(self, site: str) -> tuple[str, int]:
        """Where this site's MQTT broker is reached from this computer."""
        if self.runtime == "docker":
            template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
            return docker("inspect", "--format", template, f"sluice-{site}-{NODE}-broker").split()[0], 1883
        for text in self.plants[site].overrides:
            if ".brokerPort=" in text:
                return "127.0.0.1", int(text.rsplit("=", 1)[1])
        raise RuntimeError("no broker port")

    # ---- the end

    def close(self) -> None:
        """End everything in order; what does not want to is ended all the same."""
        for agent in self.agents.values():
            agent.stop()
        self.orchestrator.stop()
        for link in self.links.values():
            link.close()
        for site in SITES:
            self._remove_workloads(site)
        for plant in self.plants.values():
            plant.stop()
        if self._http is not None:
            self._http.close()

    def _remove_workloads(self, site: str) -> None:
        """A plant keeps its workloads when agent and centre go; a demo does not."""
        if self.runtime == "docker":
            names = docker("ps", "--all", "--quiet", "--filter", f"label=sluice.site={site}", check=False).split()
            if names:
                docker("rm", "--force", *names, check=False)
            for network in docker("network", "ls", "--quiet", "--filter", f"label=sluice.site={site}").split():
                docker("network", "rm", network, check=False)
            return
        state = self.folder / "sites" / site
        if (state / "agent.yaml").exists():
            remove = [sys.executable, "-m", "agent", "clear", "--config", str(state / "agent.yaml")]
            subprocess.run(remove, check=False, capture_output=True, cwd=ROOT)


def pack_control() -> None:
    """Compile and check the control program for the process runtime, as `./run images` does for containers."""
    program = ROOT / "vplc" / "examples" / "tank" / "control.yaml"
    command = [sys.executable, "-m", "workloads.vplc", "pack", str(program), "-o", str(ROOT / "build/control/tank")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the control program could not be packed:\n{done.stdout}{done.stderr}")


def leftovers(site: str) -> list[str]:
    """Containers and networks of ``site`` that are still there."""
    found = docker("ps", "--all", "--format", "{{.Names}}", "--filter", f"label=sluice.site={site}", check=False)
    nets = docker("network", "ls", "--format", "{{.Name}}", "--filter", f"name=sluice-(demo-)?{site}", check=False)
    return [*found.split(), *nets.split()]


def elapsed(since: float) -> str:
    return f"{time.monotonic() - since:.1f} s"
