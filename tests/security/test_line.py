"""Rows 8 to 13 and 15: what an attacker on the line or with a stolen certificate can do to a node."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.blobs import BlobStore
from agent.client import Channel, OrchestratorClient
from agent.identity import Identity
from agent.verify import TrustStore
from manifests import ceremony
from manifests.errors import MachineError, SluiceError, TrustError, UnreachableError
from manifests.messages import RepositoryVersions, SyncReply, SyncRequest
from manifests.model import Blob
from tests.security.tamper import BitFlipper, Impostor
from tests.support import orchestrator_fake as fake
from tests.support.agent_node import SITE, Node
from tests.support.orchestrator_fake import OrchestratorFake
from tests.support.releases import a_release

NOTHING = SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions())
DATA = bytes(range(256)) * 4000


class Plant:
    """A node that accepted generation 2 over the real line."""

    def __init__(self, folder: Path, far: OrchestratorFake) -> None:
        self.far, self.state = far, folder / "s"
        self.release = far.publish(a_release())
        far.assign("leipzig", [], generation=9)
        self.tell(1)
        self.identity: Identity = far.identity(self.state)
        self.client = OrchestratorClient(self.identity.url, self.identity)
        self.store = self.open()
        self.old = self.client.sync(NOTHING)
        self.refresh()
        self.backup = folder / "backup"
        shutil.copytree(self.state, self.backup, symlinks=True)
        self.tell(2)
        self.good = self.refresh()

    def tell(self, generation: int) -> None:
        placed = [self.far.placed("press", self.release, config={"period_s": 1.0})]
        self.far.assign(SITE, placed, generation=generation)

    def open(self) -> TrustStore:
        return TrustStore(self.state / "trust", self.identity)

    def refresh(self) -> Any:
        state = self.store.refresh(self.client, datetime.now(UTC), deadline_s=20)
        self.store.activate(state)
        return state

    def offered(self, reply: SyncReply) -> str:
        """The word that refuses this answer; nothing that was good may change."""
        self.far.faults["/sync"] = fake.offer_only({"catalog": reply.catalog, "director": reply.director})
        try:
            with pytest.raises(TrustError) as caught:
                self.store.refresh(self.client, datetime.now(UTC))
        finally:
            self.far.faults.clear()
        assert self.open().last_good(datetime.now(UTC)) == self.good
        return caught.value.kind


@pytest.fixture
def far(folder: Path) -> Iterator[OrchestratorFake]:
    with OrchestratorFake(folder / "far") as started:
        yield started


@pytest.fixture
def plant(folder: Path, far: OrchestratorFake) -> Iterator[Plant]:
    made = Plant(folder, far)
    yield made
    made.client.close()


def test_08_stolen_site_certificate_sees_its_own_site_and_ends_when_revoked(
    orchestrator: Any, enroller: Any, lab: Any, say: Any
) -> None:
    operator = orchestrator.operator()
    lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    owner = enroller.enrol(operator, "hamburg")
    thief = enroller.node(
        "hamburg", owner.name, (owner.folder / "chain.pem").read_text(), (owner.folder / "key.pem").read_bytes()
    )
    seen = thief.sync().director
    targets = next(data for name, data in seen.items() if name.endswith(".targets.json"))
    assert b'"x-site":"hamburg"' in targets
    assert b"leipzig" not in b"".join(seen.values())
    from dataclasses import replace

    with pytest.raises(AssertionError):
        replace(thief, name="other").report()
    assert thief.client.get("/api/v1/sites").status_code == 404  # nothing of the people's interface is here
    enroller.enrol(operator, "hamburg")  # the owner enrols again: the stolen serial is off the list
    code = thief.call("sync", NOTHING).status_code  # on the connection that was open before
    assert code == 403
    say(f"saw hamburg's instructions only; after revocation {code} on the connection that was still open")


def test_09_man_in_the_middle_reads_and_changes_nothing(plant: Plant, folder: Path, say: Any) -> None:
    ceremony.init_keys(folder / "foreign", server_names=["127.0.0.1"], now=datetime.now(UTC))
    foreign, own = folder / "foreign" / "online", plant.far.online
    words = []
    for place, highest in ((foreign, ssl.TLSVersion.TLSv1_3), (own, ssl.TLSVersion.TLSv1_2)):
        with Impostor(place / "server-chain.pem", place / "server.pem", highest=highest) as impostor:
            client = OrchestratorClient(f"https://127.0.0.1:{impostor.port}", plant.identity)
            with pytest.raises(TrustError) as caught:
                client.sync(NOTHING)
            words.append(caught.value.kind)
            assert impostor.read == 0
            client.close()
    port = int(plant.far.url.rsplit(":", 1)[1])
    with BitFlipper(("127.0.0.1", port), spare=0) as middle:
        client = OrchestratorClient(f"https://127.0.0.1:{middle.port}", plant.identity)
        with pytest.raises(SluiceError):
            plant.store.refresh(client, datetime.now(UTC), deadline_s=10)
        client.close()
        assert middle.flipped
    assert plant.open().last_good(datetime.now(UTC)) == plant.good
    say(f"foreign authority: {words[0]}; TLS 1.2 only: {words[1]}; {middle.flipped} flipped bits ended the connection")


def test_10_replay_is_refused_also_after_a_restart(plant: Plant, say: Any) -> None:
    words = [plant.offered(plant.old)]
    plant.store = plant.open()
    words.append(plant.offered(plant.old))
    shutil.rmtree(plant.state)
    shutil.copytree(plant.backup, plant.state, symlinks=True)  # the disk as it was at generation 1
    plant.store = plant.open()
    assert plant.refresh() == plant.good  # first contact brings what is newest
    plant.store = plant.open()
    words.append(plant.offered(plant.old))
    say(f"captured answers: {', '.join(words)}; a restored disk took the newest state at first contact")


def test_11_freeze_raises_an_alarm_and_stops_nothing(folder: Path, say: Any) -> None:
    with OrchestratorFake(folder / "far") as far:
        node = Node(folder, far)
        try:
            placed = [far.placed("press", node.release())]
            far.assign(SITE, placed, generation=1, lifetime=timedelta(seconds=8), now=datetime.now(UTC))
            node.agent.start()
            life = node.until_running("press")
            node.until(lambda: node.status()["trust"].get("refusal") == "expired", "no alarm", 40)
            node.until(lambda: any(e.kind == "trust-refused" for _, r in far.reports for e in r.events), "not told")
            assert node.instance("press")["runtime_id"] == life
            node.agent.stop()
            node.agent.start()  # and a cold boot with what has expired
            node.until(lambda: node.word("press") == "Running (Ok)", "not running after a restart")
            assert node.instance("press")["runtime_id"] == life
        finally:
            node.end()
    say("frozen until its instructions expired: event trust-refused (expired); the same process ran on, over a restart")


def test_12_mix_and_match_and_cross_site_replay_change_nothing(plant: Plant, say: Any) -> None:
    far = plant.far
    old = dict(far.directors[SITE])
    plant.tell(3)
    new = dict(far.directors[SITE])
    stamp = {"timestamp.json": new["timestamp.json"]}
    snapshot = {name: data for name, data in new.items() if name.endswith("snapshot.json")}
    held = {name: data for name, data in old.items() if name.endswith(("snapshot.json", "targets.json"))}
    words = [
        plant.offered(SyncReply(catalog={}, director={**stamp, **held})),
        plant.offered(
            SyncReply(
                catalog={},
                director={
                    **stamp,
                    **snapshot,
                    next(iter(n for n in new if n.endswith("targets.json"))): old[
                        next(n for n in old if n.endswith("targets.json"))
                    ],
                },
            )
        ),
        plant.offered(SyncReply(catalog={}, director=dict(far.assign("leipzig", [], generation=50, version=50)))),
    ]
    assert words[2] == "wrong-site"
    say(f"new timestamp over old files: {words[0]}; old targets: {words[1]}; leipzig's files at hamburg: {words[2]}")


def test_13_endless_slow_and_redirected_answers_are_bounded(plant: Plant, say: Any) -> None:
    import gzip

    released = threading.Event()
    canary = socket.create_server(("127.0.0.1", 0))
    canary.settimeout(0.3)
    found: list[str] = []
    try:
        for fault in (
            fake.endless(released),
            fake.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000, released),
            fake.redirect(f"http://127.0.0.1:{canary.getsockname()[1]}/latest/meta-data/"),
            fake.body(gzip.compress(bytes(50 << 20))),
        ):
            plant.far.faults["/sync"] = fault
            began = time.monotonic()
            with pytest.raises((TrustError, UnreachableError)) as caught:
                plant.client.sync(NOTHING, 3.0)
            assert time.monotonic() - began < 30
            found.append(getattr(caught.value, "kind", "unreachable"))
        with pytest.raises(TimeoutError):
            canary.accept()
    finally:
        released.set()
        canary.close()
        plant.far.faults.clear()
    say(f"endless: {found[0]}; a byte now and then: {found[1]}; redirect: {found[2]}, not followed; bomb: {found[3]}")


def test_15_altered_cut_and_unstorable_blobs_leave_nothing_wrong(plant: Plant, folder: Path, say: Any) -> None:
    digest = plant.far.add_blob(DATA)
    blob = Blob(digest=digest, size=len(DATA))
    store = BlobStore(folder / "blobs")
    plant.far.blobs[digest] = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with pytest.raises(TrustError) as flipped:
        store.fetch(plant.client, blob)
    assert list((folder / "blobs" / "parts").iterdir()) == []
    plant.far.blobs[digest] = DATA
    plant.far.faults["/blobs"] = fake.CutAfter(count=100_000, times=3)
    for _ in range(3):
        with pytest.raises(UnreachableError):
            store.fetch(plant.client, blob)
    assert store.fetch(plant.client, blob).read_bytes() == DATA
    place = folder / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], check=False).returncode == 0:
        try:
            with pytest.raises(MachineError) as full:
                BlobStore(place, reserve_bytes=-(1 << 30)).fetch(plant.client, blob)
            assert list((place / "parts").iterdir()) == []
            said = full.value.what
        finally:
            subprocess.run(["umount", "-l", place], check=True)
    else:
        with pytest.raises(MachineError) as full:
            BlobStore(place, reserve_bytes=1 << 62).fetch(plant.client, blob)
        said = full.value.what
    say(f"flipped: {flipped.value.kind}, part removed; cut three times: resumed and right; full disk: {said[:60]}")


def test_the_impostor_can_be_reached_by_those_who_trust_it(folder: Path) -> None:
    """The control of row 9: it is the authority that keeps the node away, not a broken server."""
    ceremony.init_keys(folder / "foreign", server_names=["127.0.0.1"], now=datetime.now(UTC))
    online = folder / "foreign" / "online"
    with Impostor(online / "server-chain.pem", online / "server.pem") as impostor:
        pinned = (online / "server-ca.pem").read_text()
        channel = Channel(f"https://127.0.0.1:{impostor.port}", server_ca_pem=pinned)
        with pytest.raises(UnreachableError):
            channel.post("/sync", NOTHING, SyncReply, deadline_s=5)
        channel.close()
        deadline = time.monotonic() + 5
        while not impostor.read and time.monotonic() < deadline:
            time.sleep(0.02)
        assert impostor.read == 1
