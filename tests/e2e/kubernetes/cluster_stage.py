"""One plant whose node is a machine of a real cluster: real orchestrator, command line, agent, machines and pods.

The demo's stage with another plant: its agent runs beside the cluster by a kubeconfig that holds the shipped role and
nothing more, and reaches the API server through a line that the test owns.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.demo.plants import ProcessPlant
from tests.demo.stage import CATALOG, EXAMPLE, Stage, free_port
from tests.support.cluster import ClusterNamespace, built_image, kubectl, load_image, on_a_line
from tests.support.procs import wait_for

SITE, PUMPS, TANK = "hamburg", "pumps", "tank"
FIRST, NEXT, CRASHING, TOO_LARGE = "0.1.0", "0.2.0", "0.3.0", "0.4.0"
BAD = {CRASHING: "CrashLoop", TOO_LARGE: "Unschedulable"}
CRASH = 'ENTRYPOINT ["python3", "-c", "raise SystemExit(3)"]'
GATE_S = 60


class ClusterStage(Stage):
    """``lives`` says which containers run; ``close`` leaves neither pods nor images behind."""

    def __init__(self, folder: Path, outside: Path) -> None:
        super().__init__(folder, "process", FIRST, report_s=1)
        self.plants = {SITE: ProcessPlant(SITE, 1, self.logs, free_port, wear_minutes=1)}
        self.space = ClusterNamespace(outside, f"{SITE}-{secrets.token_hex(3)}")
        self.line = on_a_line(self.space.kubeconfig)
        self.outside = outside
        self._made: list[str] = []

    # ---- releases: one that is next, one that ends at once, one that no node has room for

    def prepare(self) -> None:
        modbus = self._image("modbus", "first")
        documents = [
            self._document("tank", FIRST, self._image("tank", "first")),
            self._document("modbus", FIRST, modbus),
            self._document("modbus", NEXT, self._image("modbus", "next", "LABEL sluice.test=next")),
            self._document("modbus", CRASHING, self._image("modbus", "crashing", CRASH)),
            self._document("modbus", TOO_LARGE, modbus, memoryMb=65536),
        ]
        self.publish_documents(documents, "linux/amd64")

    def _image(self, recipe: str, tag: str, change: str = "") -> str:
        """A name of our own for the image of that recipe, with a change on top; on the node as well."""
        name = f"sluice-test/{recipe}:{tag}"
        text = f"FROM {built_image(recipe)}\n{change}\n"
        subprocess.run(["docker", "build", "-q", "-t", name, "-"], input=text.encode(), check=True, capture_output=True)
        self._made.append(name)
        archive = self.outside / f"{tag}.tar"
        subprocess.run(["docker", "save", "-o", str(archive), name], check=True)
        load_image(archive)
        archive.unlink()
        return name

    def _document(self, workload: str, version: str, image: str, **resources: int) -> Path:
        document = yaml.safe_load((CATALOG / f"{workload}.yaml").read_text())
        spec = document["spec"]
        spec["version"] = version
        spec["images"] = [{"platform": "linux/amd64", "engine": image}]
        spec["resources"] |= resources
        if "control" in spec:  # a gate of its own, and no rollout here is to wait for an idle machine
            spec["control"]["jitterP999Us"] = 10_000_000
        path = self.outside / f"{workload}-{version}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def roll_out(self, version: str, *, tank: bool = True) -> int:
        """The rollout's number, whatever becomes of it."""
        reason = f"modbus {version}{'' if tank else ', no tank'}"
        self.apply(reason, self._fleet(version, tank))
        policy = {
            "apiVersion": "sluice/v1",
            "kind": "Rollout",
            "metadata": {"name": "at-once"},
            "spec": {"gate": {"soakS": 1, "timeoutS": GATE_S if version in BAD else 240}},
        }
        path = self.outside / "rollout.yaml"
        path.write_text(yaml.safe_dump(policy))
        return self.start_rollout(reason, path)

    def _fleet(self, version: str, tank: bool) -> Path:
        """The example's, with one plant, without a broker."""
        folder = self.outside / "fleet"
        folder.mkdir(exist_ok=True)
        fleet = yaml.safe_load((EXAMPLE / "fleet.yaml").read_text())
        spec = fleet["spec"]
        spec["sites"] = [site for site in spec["sites"] if site["name"] == SITE]
        documents = [fleet]
        for name in (PUMPS, TANK) if tank else (PUMPS,):
            document = yaml.safe_load((EXAMPLE / f"{name}.yaml").read_text())
            document["spec"]["config"]["live"] = None
            documents.append(document)
        documents[1]["spec"]["version"] = version
        (folder / "fleet.yaml").write_text(yaml.safe_dump_all(documents))
        return folder

    def _agent_config(self, site: str, state: Path, url: str) -> Path:
        state.mkdir(parents=True, exist_ok=True)
        settings = {
            "state": str(state),
            "url": url,
            "pollS": 0.5,
            "reportS": self.report_s,
            "runtime": self.space.settings() | {"namespace": self.space.name, "runFolder": str(self.outside / "run")},
            "hosts": self.plants[site].hosts,
            "control": {"cores": [(os.cpu_count() or 1) - 1], "realtime": True},
        }
        path = state / "agent.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    # ---- looking

    @property
    def config(self) -> Path:
        return self.folder / "sites" / SITE / "agent.yaml"

    def word(self, name: str) -> str:
        """As the centre shows it."""
        found = [item for item in self.get(f"/sites/{SITE}")["instances"] if item["name"] == name]
        return f"{found[0]['status']['state']} ({found[0]['status']['reason']})" if found else ""

    def waits(self) -> list[str]:
        return list(self.get(f"/sites/{SITE}")["nodes"][0]["waiting"])

    def lives(self) -> dict[str, tuple[str, int]]:
        """Containers of the instances as the cluster says, with how often it started each anew."""
        found = {}
        for pod in self.space.get("pods")["items"]:
            for one in pod["status"].get("containerStatuses", ()):
                if "running" in one["state"] and "deletionTimestamp" not in pod["metadata"]:
                    found[pod["metadata"]["labels"]["sluice.instance"]] = (one["containerID"], one["restartCount"])
        return found

    def stream(self, name: str) -> Any:
        """What the instance's present life says was acknowledged; None before that."""
        try:
            streams = self.instance(SITE, name)["streams"]
        except StopIteration:
            return None
        return next((one for one in streams if one["live"] and one["ackedSeq"]), None)

    def until(self, what: str, condition: Any, timeout_s: float = 90) -> None:
        try:
            wait_for(what, condition, timeout_s, watch=[self.orchestrator, *self.agents.values()])
        except TimeoutError as error:
            found = {"waits": self.waits(), PUMPS: self.word(PUMPS), TANK: self.word(TANK)}
            raise TimeoutError(f"{error}\n{found}\n{kubectl('get', 'all', '-n', self.space.name)}") from error

    def until_running(self, *names: str) -> None:
        """Both, in this moment's life: the cluster has it, and the centre has heard of no other."""

        def same(name: str) -> bool:
            life = self.lives().get(name, ("", 0))[0].rpartition("//")[2]
            told = str(self.instance(SITE, name)["runtimeId"]) if self.word(name) else ""
            return self.word(name).startswith("Running") and bool(told) and life.startswith(told)

        for name in names or (PUMPS, TANK):
            self.until(f"{name} runs", lambda one=name: same(one))

    def until_data(self, name: str = PUMPS, frames: int = 5) -> None:
        """So many more frames of this life are acknowledged."""
        first = self.stream(name)
        seen = (first["incarnation"], int(first["ackedSeq"])) if first else ("", 0)

        def more() -> bool:
            now = self.stream(name)
            before = seen[1] if now and now["incarnation"] == seen[0] else 0
            return bool(now) and int(now["ackedSeq"]) >= before + frames

        self.until(f"data of {name}", more)

    # ---- doing

    def restart_agent(self) -> None:
        """Killed and started; what runs stays as it is."""
        before = self.lives()
        self.agents[SITE].kill9()
        self.agents[SITE].start()
        self.until_running(*before)
        self.until_data()
        assert self.lives() == before

    @contextmanager
    def without_api_server(self) -> Iterator[None]:
        """For everybody where the cluster's own process is known by a pid file beside the kubeconfig: it falls silent.
        Else the agent's line is cut."""
        known = Path(os.environ["KUBECONFIG"]).parent / "apiserver.pid"
        with self.space.alone():
            if known.is_file():
                server = int(known.read_text())
                os.kill(server, signal.SIGSTOP)
                try:
                    yield
                finally:
                    os.kill(server, signal.SIGCONT)
            else:
                self.line.cut()
                try:
                    yield
                finally:
                    self.line.restore()

    def close(self) -> None:
        super().close()
        kubectl("delete", "deployments,pods", "--all", "-n", self.space.name, "--grace-period=1", check=False)
        self.line.close()
        self.space.close()
        if self._made:
            subprocess.run(["docker", "rmi", *self._made], capture_output=True, check=False)
