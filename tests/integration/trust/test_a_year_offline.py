"""A plant that was cut off for over a year: it boots cold from its own disk, and comes back by itself.

The agent is a real process whose clock can be turned, the trust core and the workload are the real ones; the year
before the power cut is made with the same parts and another ``now``.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from agent import trust
from agent.blobs import BlobStore
from agent.client import BlobStream
from agent.identity import Identity, read_certificate_end, save_identity
from agent.status import read_status
from agent.verify import TrustStore
from manifests import ceremony, keys, pki, signing
from manifests.catalog import CatalogEditor
from manifests.messages import SyncReply, SyncRequest
from manifests.model import DataStream, DesiredInstance, PlacedInstance, SiteFacts, WorkloadRelease
from manifests.oci import pack_process
from orchestrator.settings import Address
from orchestrator.store import Store, sites
from orchestrator.store.sites import DirectorState
from tests.integration.orchestrator.conftest import Running, apply_fleet, fleet_documents, settings_for, start
from tests.support.procs import Program
from tests.support.releases import a_release

ROOT = Path(__file__).resolve().parents[3]
SITE, NODE = "hamburg", "edge1"
AWAY = timedelta(days=400)
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def turn_back(monkeypatch: pytest.MonkeyPatch, then: datetime) -> None:
    """What this process takes for now while it makes the past: the library has no argument for it."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return then

    times = SimpleNamespace(datetime=Clock, timezone=timezone)
    monkeypatch.setattr("tuf.ngclient._internal.trusted_metadata_set.datetime", times)
    monkeypatch.setattr(trust, "BUILT", then - AWAY)


class Then:
    """The far side as it was when the line was cut: what it signed then, with the keys it still has."""

    def __init__(self, folder: Path, release: WorkloadRelease, blobs: Path, then: datetime) -> None:
        self._blobs = blobs
        online = folder / "online"
        self.place = folder / "catalog"
        shutil.copytree(online / "catalog", self.place)
        shutil.copy(online / "roots" / "catalog.root.json", self.place / "1.root.json")
        editor = CatalogEditor.open(self.place, folder / "offline")
        editor.add(release)
        self.files = editor.sign(then)
        for name, data in self.files.items():
            (self.place / name).write_bytes(data)
        snapshot = max((n for n in self.files if n.endswith(".snapshot.json")), key=lambda n: int(n.split(".")[0]))
        stamper = signing.CatalogTimestamper((online / "catalog-timestamp.pem").read_bytes())
        catalog = {path.name: path.read_bytes() for path in self.place.glob("*.json")}
        catalog["timestamp.json"] = stamper.sign(self.files[snapshot], version=1, now=then)
        director = signing.DirectorSigner((online / "director.pem").read_bytes())
        facts = SiteFacts(site=SITE, enterprise="acme", generation=1)
        told = director.sign(facts, [placed("press", release)], version=1, now=then)
        self.reply = SyncReply(catalog=catalog, director=dict(told))

    def sync(self, request: SyncRequest, deadline_s: float = 30.0) -> SyncReply:
        return self.reply

    @contextmanager
    def get_blob(
        self, digest: str, offset: int = 0, *, deadline_s: float = 60.0, gap_s: float = 30.0
    ) -> Iterator[BlobStream]:
        yield BlobStream(offset, iter([(self._blobs / digest[7:]).read_bytes()[offset:]]))


def placed(name: str, release: WorkloadRelease) -> PlacedInstance:
    digest = signing.release_digest(signing.release_bytes(release))
    instance = DesiredInstance(name=name, node=NODE, config={"period_s": 0.5})
    return PlacedInstance(instance=instance, release=release, release_digest=digest)


class Plant:
    """The node as the power left it, and its agent."""

    def __init__(self, folder: Path, then: datetime, port: int) -> None:
        self.folder, self.then = folder, then
        self.keys = folder / "keys"
        ceremony.init_keys(self.keys, server_names=["127.0.0.1"], now=then)
        self.state = folder / "s"
        self.blobs = folder / "blobs"
        self.release = a_release(name="producer", artifacts=(self._packed(),), streams=(DataStream(name="data"),))
        (self.blobs / signing.release_digest(signing.release_bytes(self.release))[7:]).write_bytes(
            signing.release_bytes(self.release)
        )
        self.before = Then(self.keys, self.release, self.blobs, then)
        self.identity = self._identity(port)
        store = TrustStore(self.state / "trust", self.identity)
        store.activate(store.refresh(self.before, then))
        root = self.release.artifacts[0].root
        BlobStore(self.state / "blobs").fetch(self.before, root)
        self.clock = folder / "clock"
        self.agent = self._agent()

    def _packed(self) -> Any:
        package = self.folder / "source" / "producer"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        shutil.copy(ROOT / "tests/support/bus_producer.py", package / "__main__.py")
        return pack_process([package], ["python", "-m", "producer"], self.blobs, base=self.folder / "source")

    def _identity(self, port: int) -> Identity:
        online = self.keys / "online"
        key = keys.generate_tls_key()
        authority = (online / "site-ca.pem").read_bytes(), (online / "site-ca-chain.pem").read_bytes()
        self.issued = pki.issue_certificate(*authority, pki.make_csr(key), site=SITE, node=NODE, now=self.then)
        return save_identity(
            self.state,
            url=f"https://127.0.0.1:{port}",
            site=SITE,
            node=NODE,
            key_pem=keys.key_pem(key),
            chain_pem=self.issued.chain_pem,
            server_ca_pem=(online / "server-ca.pem").read_text(),
            catalog_root=(online / "roots" / "catalog.root.json").read_bytes(),
            director_root=(online / "roots" / "director.root.json").read_bytes(),
        )

    def _agent(self) -> Program:
        settings = {"state": ".", "runtime": "process", "pollS": 0.2, "syncWaitS": 0, "reportS": 1}
        (self.state / "agent.yaml").write_text(yaml.safe_dump(settings | {"buffer": {"capMb": 32}}))
        command = [sys.executable, "-m", "agent", "run", "--config", str(self.state / "agent.yaml")]
        turned = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return Program("agent", command, self.folder / "agent.log", cwd=ROOT, env=turned)

    def status(self) -> dict[str, Any]:
        return read_status(self.state) or {}

    def life(self) -> str:
        found = [one for one in self.status().get("instances", []) if one["name"] == "press"]
        return found[0]["runtime_id"] if found and found[0]["state"] == "Running" else ""

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 90) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self.status()}\n{self.agent.tail(40)}"
            time.sleep(0.1)

    def end(self) -> None:
        self.agent.stop()
        mark = f"SLUICE_RUN={self.state}/run/".encode()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and mark in (entry / "environ").read_bytes():
                    os.killpg(int(entry.name), signal.SIGKILL)
            except OSError:
                continue


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for Unix sockets."""
    made = Path(tempfile.mkdtemp(prefix="sluice-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def renewed_roots(plant: Plant, now: datetime) -> bytes:
    """What people did meanwhile, at the centre: new versions of both roots. Gives the catalog's."""
    found = {}
    for name in ("catalog", "director"):
        pinned = (plant.keys / "online" / "roots" / f"{name}.root.json").read_bytes()
        signer = keys.load_signing_key(plant.keys / "offline" / f"{name}-root.pem")
        found[name] = signing.next_root(pinned, signers=[signer], replace={}, now=now)
        (plant.keys / "online" / "roots" / f"2.{name}.root.json").write_bytes(found[name])
    return found["catalog"]


def centre_of_today(plant: Plant, port: int, now: datetime) -> Running:
    """The orchestrator as it is by now, with everything signed again, at the address the plant knows."""
    root = renewed_roots(plant, now - timedelta(days=50))
    settings = replace(settings_for(plant.folder, plant.keys), agent_listen=Address("127.0.0.1", port))
    running = start(settings, plant.keys)
    operator = running.operator()
    for blob in plant.blobs.rglob("*"):
        if blob.is_file():
            answer = operator.put(f"/blobs/sha256/{blob.name}", content=blob.read_bytes())
            assert answer.status_code in (200, 201), answer.text
    (plant.before.place / "2.root.json").write_bytes(root)
    editor = CatalogEditor.open(plant.before.place, plant.keys / "offline")
    signed = {**plant.before.files, "2.root.json": root, **editor.sign(now)}
    answer = operator.post("/catalog", json={"files": {n: base64.b64encode(d).decode() for n, d in signed.items()}})
    assert answer.status_code == 200, answer.text
    apply_fleet(operator, fleet_documents()[:1])
    director = signing.DirectorSigner((plant.keys / "online" / "director.pem").read_bytes())
    facts = SiteFacts(site=SITE, enterprise="acme", generation=2)
    files = director.sign(facts, [placed("press", plant.release)], version=50, now=now)
    now_ns = time.time_ns()
    store = Store(settings.database)
    with store.write() as conn:
        ended_ns = int(plant.issued.not_after.timestamp()) * 10**9
        sites.add_certificate(conn, plant.issued.serial_hex, SITE, NODE, ended_ns - 90 * 86_400 * 10**9, ended_ns)
        sites.put_directors(conn, {SITE: (DirectorState(50, 2, now_ns, now_ns + 30 * 86_400 * 10**9), dict(files))})
    store.close()
    return running


@pytest.mark.skipif(FAKETIME is None, reason="a turned clock is NOT tested: faketime is not installed")
def test_a_plant_that_was_cut_off_for_over_a_year_runs_and_comes_back_by_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    with socket.create_server(("127.0.0.1", 0)) as probe:  # free until the centre takes it
        port = probe.getsockname()[1]
    with monkeypatch.context() as past:
        turn_back(past, now - AWAY)
        plant = Plant(folder, now - AWAY, port)
    assert read_certificate_end(plant.identity.node_pem) < now - timedelta(days=300)
    try:
        plant.clock.write_text("@1970-01-02 00:00:00\n")
        plant.agent.start()
        plant.until(plant.life, "a cold boot without line, time and certificate runs nothing")
        life = plant.life()
        plant.until(lambda: plant.status()["trust"].get("refusal") == "clock", "the clock is not named")

        plant.clock.write_text("+0\n")  # time comes back; the line is still away
        plant.until(lambda: plant.status()["trust"].get("refusal") != "clock", "the right clock changes nothing")
        running = centre_of_today(plant, port, datetime.now(UTC))  # and now the line
        try:
            operator = running.operator()
            waiting = f"/sites/{SITE}/renewals"
            plant.until(lambda: operator.get(waiting).json(), "the node does not ask for a certificate")
            plant.until(
                lambda: any("sluice site renew" in one for one in plant.status()["waiting"]), "it does not say so"
            )
            assert plant.life() == life
            answer = operator.post(f"/sites/{SITE}/nodes/{NODE}/renewal", json={"reason": "it is ours"})
            assert answer.status_code == 200, answer.text
            plant.until(lambda: plant.status().get("generation") == 2, "it does not come back")
            assert read_certificate_end(plant.identity.node_pem) > now + timedelta(days=80)
            plant.until(lambda: not plant.status()["trust"].get("refusal"), "a refusal stands")
            plant.until(lambda: plant.status()["link"]["up"], "what it holds is not sent")
            assert plant.life() == life
            kinds = {one["kind"] for one in operator.get("/events", params={"site": SITE}).json()}
            assert {"renewal-wanted", "renewal-let", "certificate-renewed-late"} <= kinds
        finally:
            for client in running.clients:
                client.close()
            running.stop()
    finally:
        plant.end()
