"""A real plant whose orchestrator was stolen: database, blobs and every online key, in the hands of somebody else.

The honest orchestrator runs first, with a real agent process enrolled and two workloads running: ``press``
(translator) and ``guard`` (control, approved by OT and IT). Then its disk and its online keys are copied, it is ended,
and an orchestrator over the copy takes its address. ``Thief`` writes into the copy whatever it likes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Targets

from agent.enrol import enrol
from agent.status import read_status
from manifests import ceremony, keys, signing
from manifests.catalog import CatalogEditor
from manifests.model import (
    Artifact,
    Control,
    DesiredInstance,
    PlacedInstance,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
    release_path,
)
from manifests.oci import pack_process
from manifests.policy import Approval, Approver
from orchestrator.api.agents import AgentLine
from orchestrator.settings import Address
from orchestrator.store import Store, releases, sites
from orchestrator.store.sites import DirectorState
from tests.integration.orchestrator.conftest import Running, apply_fleet, fleet_documents, settings_for, start
from tests.support.procs import Program

ROOT = Path(__file__).resolve().parents[2]
SITE, NODE = "hamburg", "edge1"
SCHEMA = {
    "type": "object",
    "properties": {"period_s": {"type": "number", "minimum": 0.05, "maximum": 10}},
    "additionalProperties": False,
}
SAID = Approval(name="Anna", meaning="approved for use", at="2026-06-01T00:00:00Z")
Files = dict[str, bytes]


class StolenCentre:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        ceremony.init_keys(self.keys, server_names=["localhost", "127.0.0.1"], now=datetime.now(UTC))
        self.offline = self.keys / "offline"
        self.artifact = self._pack("producer")
        self._may_fetch = AgentLine._may_fetch
        AgentLine._may_fetch = lambda *_: True  # type: ignore[method-assign]  # a thief hands out every blob
        self.running = start(settings_for(folder, self.keys), self.keys)
        self.press = a_release("producer", self.artifact)
        self.guard = a_release("guard", self.artifact, WorkloadClass.CONTROL)
        self.unapproved = a_release("guard", self.artifact, WorkloadClass.CONTROL, "2.0.0")
        self.older = a_release("producer", self.artifact, version="0.9.0")
        self.leipzigs = a_release("producer", self.artifact, version="1.5.0", sites=("leipzig",))
        self._publish()
        self.thief = Thief(self.running, self.keys / "online")
        self.thief.tell([self.placed("press", self.press), self.placed("guard", self.guard)])
        self.agent = self._agent()
        self.until(lambda: len(self.processes()) == 2, "the plant does not run")
        self._steal()

    def _pack(self, package: str) -> Artifact:
        source = self.folder / "source" / package
        source.mkdir(parents=True)
        (source / "__init__.py").write_text("")
        shutil.copy(ROOT / "tests/support/bus_producer.py", source / "__main__.py")
        self.blobs = self.folder / "blobs"
        return pack_process([source], ["python", "-m", package], self.blobs, base=self.folder / "source")

    def _publish(self) -> None:
        operator = self.running.operator()
        made = [self.press, self.guard, self.unapproved, self.older, self.leipzigs]
        contents = [path.read_bytes() for path in self.blobs.rglob("*") if path.is_file()]
        for content in [*contents, *(signing.release_bytes(one) for one in made)]:
            answer = operator.put(f"/blobs/sha256/{hashlib.sha256(content).hexdigest()}", content=content)
            assert answer.status_code in (200, 201), answer.text
        place = self.folder / "catalog"
        place.mkdir()
        for name, text in operator.get("/catalog").json()["files"].items():
            (place / name).write_bytes(base64.b64decode(text))
        editor = CatalogEditor.open(place, self.offline)
        for release in made:
            path = editor.add(release)
            if release is self.guard:
                for side in Approver:
                    editor.approve(side, path, SAID)
        upload = {n: base64.b64encode(d).decode() for n, d in editor.sign(datetime.now(UTC)).items()}
        answer = operator.post("/catalog", json={"files": upload})
        assert answer.status_code == 200, answer.text
        apply_fleet(operator, fleet_documents()[:1])
        token = operator.post(f"/sites/{SITE}/tokens", json={}).json()["token"]
        self.state = self.folder / "s"
        enrol("", token, self.state)

    def _agent(self) -> Program:
        settings = {
            "state": ".", "runtime": "process", "pollS": 0.2, "syncWaitS": 0, "reportS": 1, "buffer": {"capMb": 32},
            "control": {"realtime": True, "cores": [0], "maxInstances": 4},
        }  # fmt: skip
        (self.state / "agent.yaml").write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "agent", "run", "--config", str(self.state / "agent.yaml")]
        program = Program("agent", command, self.folder / "agent.log", cwd=ROOT)
        program.start()
        return program

    def _steal(self) -> None:
        """From here on only the copy speaks; of the offline keys it holds none."""
        loot = self.folder / "loot"
        loot.mkdir()
        self.thief.store.close()
        self._port = self.running.ports.agents
        self.close()
        shutil.copytree(self.running.settings.data, loot / "data")
        shutil.copytree(self.keys / "online", loot / "keys" / "online")
        self.loot = settings_for(loot, loot / "keys")
        self.restart()

    def restart(self) -> None:
        """The thief's orchestrator, at the address that the plant knows."""
        settings = replace(self.loot, agent_listen=Address("127.0.0.1", self._port))
        self.running = start(settings, settings.keys.parent)
        before = self.thief
        self.thief = Thief(self.running, settings.keys)
        self.thief.version, self.thief.generation = before.version, before.generation

    def close(self) -> None:
        for client in self.running.clients:
            client.close()
        self.running.stop()

    def end(self) -> None:
        self.agent.stop()
        for pid in self.processes():
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.thief.store.close()
        self.close()
        AgentLine._may_fetch = self._may_fetch  # type: ignore[method-assign]

    # -------------------------------------------------------- what is seen

    def placed(self, name: str, release: WorkloadRelease, **config: Any) -> PlacedInstance:
        digest = signing.release_digest(signing.release_bytes(release))
        instance = DesiredInstance(name=name, node=NODE, config=config)
        return PlacedInstance(instance=instance, release=release, release_digest=digest)

    def honest(self) -> list[PlacedInstance]:
        return [self.placed("press", self.press), self.placed("guard", self.guard)]

    def status(self) -> dict[str, Any]:
        return read_status(self.state) or {}

    def versions(self) -> dict[str, str]:
        """What each instance that runs says it is."""
        found = self.status().get("instances", [])
        return {one["name"]: one["version"] if one["state"] == "Running" else "" for one in found}

    def processes(self) -> dict[int, str]:
        """Every process that was started with this node's state folder, with the instance it is."""
        found = {}
        mark = f"SLUICE_RUN={self.state}/run/".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue
                if mark in environment:
                    found[int(entry.name)] = environment.split(mark)[1].split(b"\0")[0].decode()
        return found

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self.status()}\n{self.agent.tail(30)}"
            time.sleep(0.05)

    def refuses(self, attempt: Callable[[], None], *kinds: str) -> str:
        """Tries, waits for the refusal, and proves that the plant runs on untouched; gives the refusal's word."""
        before = self.processes()
        generation = self.status()["generation"]
        self.until(lambda: not self.status()["trust"].get("refusal"), "an earlier refusal still stands")
        kept = self.thief.everything()
        attempt()
        self.until(lambda: self.status()["trust"].get("refusal"), "nothing was refused")
        trust = self.status()["trust"]
        assert trust["refusal"] in kinds, trust
        time.sleep(0.5)  # two more polls: a refusal must not wear off
        assert self.processes() == before
        assert self.status()["generation"] == generation
        self.thief.put_back(kept)
        self.thief.generation = generation
        self.until(lambda: not self.status()["trust"].get("refusal"), "it does not recover")
        return str(trust["refusal"])

    def takes(self, attempt: Callable[[], None]) -> None:
        """The plant follows."""
        attempt()
        self.until(
            lambda: (
                self.status().get("generation") == self.thief.generation
                and self.status()["trust"].get("director_version") == self.thief.version
            ),
            "it was not taken",
        )


def a_release(
    name: str,
    artifact: Artifact,
    workload_class: WorkloadClass = WorkloadClass.TRANSLATOR,
    version: str = "1.0.0",
    sites: tuple[str, ...] = (),
) -> WorkloadRelease:
    control = (
        Control(period_ms=100, jitter_p999_us=100_000, watchdog_ms=1000, max_stop_ms=1000, priority=1)
        if workload_class is WorkloadClass.CONTROL
        else None
    )
    return WorkloadRelease(
        name=name,
        version=version,
        workload_class=workload_class,
        artifacts=(artifact,),
        config_schema=SCHEMA,
        control=control,
        sites=sites,
    )


class Thief:
    """Whoever holds the orchestrator's disk: writes its database and signs with its online keys."""

    def __init__(self, running: Running, online: Path) -> None:
        self.store = Store(running.settings.database)
        self.online = online
        self.key: Ed25519PrivateKey = keys.load_signing_key(online / "director.pem")
        self.director = signing.DirectorSigner((online / "director.pem").read_bytes())
        self.timestamper = signing.CatalogTimestamper((online / "catalog-timestamp.pem").read_bytes())
        self.blobs = running.settings.data / "blobs"
        self.version = 10
        self.generation = 0

    def everything(self) -> tuple[Files, Files, DirectorState | None]:
        with self.store.read() as conn:
            return (
                releases.catalog_files(conn),
                sites.director_files(conn, SITE),
                sites.director_states(conn, [SITE]).get(SITE),
            )

    def put_back(self, kept: tuple[Files, Files, DirectorState | None]) -> None:
        catalog, director, state = kept
        assert state is not None
        with self.store.write() as conn:
            releases.put_catalog(conn, catalog)
            sites.put_directors(conn, {SITE: (state, director)})

    def tell(
        self,
        placed: Sequence[PlacedInstance],
        *,
        site: str = SITE,
        generation: int | None = None,
        version: int | None = None,
    ) -> None:
        """Sign instructions for the site with the director's key, and publish them."""
        self.version = version or self.version + 1
        self.generation = generation or self.generation + 1
        self._put(self._signed(site, placed))

    def _signed(self, site: str, placed: Sequence[PlacedInstance]) -> Files:
        facts = SiteFacts(site=site, enterprise="acme", generation=self.generation)
        return dict(self.director.sign(facts, placed, version=self.version, now=datetime.now(UTC)))

    def _put(self, files: Files) -> None:
        now_ns = time.time_ns()
        state = DirectorState(self.version, self.generation, now_ns, now_ns + 30 * 86400 * 10**9)
        with self.store.write() as conn:
            sites.put_directors(conn, {SITE: (state, files)})

    def forge_release(self, role: str, release: WorkloadRelease, signer: Ed25519PrivateKey | None = None) -> None:
        """List a release in the catalog under keys that may not say so, with all that belongs to it."""
        data = signing.release_bytes(release)
        self._blob(data)
        path = release_path(release.workload_class, release.name, release.version)
        hashes = {"sha256": hashlib.sha256(data).hexdigest()}
        self.forge_targets(role, {path: TargetFile(len(data), hashes, path)}, signer or self.key)

    def forge_targets(self, role: str, targets: Mapping[str, TargetFile], signer: Ed25519PrivateKey) -> None:
        """The next version of a catalog role, its snapshot and timestamp, signed with what is at hand."""
        now = datetime.now(UTC)
        with self.store.read() as conn:
            files = releases.catalog_files(conn)
        snapshot_name = max((n for n in files if n.endswith(".snapshot.json")), key=lambda n: int(n.split(".")[0]))
        snapshot = Metadata[Snapshot].from_bytes(files[snapshot_name]).signed
        held = Metadata[Targets].from_bytes(files[f"{snapshot.meta[f'{role}.json'].version}.{role}.json"]).signed
        held.version += 1
        held.targets.update(targets)
        forged = signing.sign_metadata(held, [signer], now)
        snapshot.version += 1
        snapshot.meta[f"{role}.json"] = signing.meta_of(forged, held.version)
        above = signing.sign_metadata(snapshot, [signer], now)
        version = signing.version_of(files["timestamp.json"]) + 1
        made = {
            f"{held.version}.{role}.json": forged,
            f"{snapshot.version}.snapshot.json": above,
            "timestamp.json": self.timestamper.sign(above, version=version, now=now),
        }
        with self.store.write() as conn:
            for name, data in made.items():
                releases.put_catalog_file(conn, name, data)

    def _blob(self, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        place = self.blobs / "sha256" if (self.blobs / "sha256").is_dir() else self.blobs
        (place / digest).write_bytes(data)
