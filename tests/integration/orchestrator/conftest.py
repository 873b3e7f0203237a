"""A real orchestrator on real sockets with real keys, and the far side played by an HTTPS client with certificates."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import pwd
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from manifests import block, ceremony, keys, messages, pki
from manifests.catalog import CatalogEditor
from manifests.messages import (
    Descriptor,
    Frame,
    FrameKind,
    IngestRequest,
    InstanceStatus,
    RepositoryVersions,
    State,
    StatusReport,
    StreamStatus,
    SyncReply,
    SyncRequest,
    Tag,
    TagType,
    TrustStatus,
)
from manifests.model import Artifact, Blob, DataStream, WorkloadClass, WorkloadRelease
from manifests.signing import release_bytes, release_digest
from orchestrator.app import Ports, serve
from orchestrator.settings import Address, Settings

PASSWORD = "correct horse battery"


# ---------------------------------------------------------------- databases


def _postgres_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a cluster of our own behind a Unix socket; it refuses to run as root, so another user owns it."""
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is NOT tested: its server is not installed (Debian package postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="sluice-pg-", dir="/tmp"))
    demote: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        demote = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    env = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    run: Callable[..., Any] = lambda *command: subprocess.run(  # noqa: E731 - a one-line shorthand
        [str(part) for part in command], check=True, capture_output=True, env=env, cwd=folder, **demote
    )
    data = folder / "data"
    run(binaries / "initdb", "-D", data, "-U", "sluice", "-A", "trust", "-E", "UTF8")
    options = f"-k {folder} -c listen_addresses='' -c shared_buffers=32MB"
    run(binaries / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start")
    try:
        yield f"postgresql://sluice@/postgres?host={folder}"
    finally:
        run(binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same test body runs over both; each test finds an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgres")
    name = f"t{os.urandom(6).hex()}"
    import psycopg

    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}".encode())
    return url.replace("/postgres?", f"/{name}?")


# ---------------------------------------------------------------- the orchestrator


@pytest.fixture
def key_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    ceremony.init_keys(folder, server_names=["localhost", "127.0.0.1"], now=datetime.now(UTC))
    return folder


@dataclass
class Running:
    """An orchestrator in a thread of this process."""

    settings: Settings
    keys: Path
    ports: Ports
    stop: Callable[[], None]
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def operator_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.operators}"

    @property
    def agent_url(self) -> str:
        return f"https://localhost:{self.ports.agents}"

    def operator(self) -> httpx.Client:
        """A program with a bearer token."""
        client = httpx.Client(base_url=f"{self.operator_url}/api/v1", timeout=20)
        self.clients.append(client)
        answer = client.post("/tokens", json={"password": PASSWORD})
        assert answer.status_code == 200, answer.text
        client.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        return client

    def browser(self) -> httpx.Client:
        client = httpx.Client(base_url=self.operator_url, timeout=20)
        self.clients.append(client)
        return client


def settings_for(folder: Path, key_folder: Path, database: str | None = None) -> Settings:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    return Settings(
        data=data,
        keys=key_folder / "online",
        database=database or f"sqlite:///{data / 'sluice.db'}",
        agent_listen=Address("127.0.0.1", 0),
        operator_listen=Address("127.0.0.1", 0),
        public_agent_url="https://localhost:0",
        console=None,
        admin_password=PASSWORD,
        report_s=5.0,
        round_s=0.05,
    )


def start(settings: Settings, key_folder: Path) -> Running:
    ready = threading.Event()
    box: dict[str, Any] = {}

    def run() -> None:
        async def body() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()

            def started(ports: Ports) -> None:
                box["ports"] = ports
                box["stop"] = lambda: loop.call_soon_threadsafe(stop.set)
                ready.set()

            await serve(settings, started, stop)

        try:
            asyncio.run(body())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            box["error"] = error
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    if "error" in box:
        raise box["error"]

    def stop() -> None:
        box["stop"]()
        thread.join(30)
        assert not thread.is_alive()

    return Running(settings, key_folder, box["ports"], stop)


@pytest.fixture
def orchestrator(tmp_path: Path, key_folder: Path) -> Iterator[Running]:
    running = start(settings_for(tmp_path, key_folder), key_folder)
    yield running
    for client in running.clients:
        client.close()
    running.stop()


@pytest.fixture
def over_each_database(tmp_path: Path, key_folder: Path, database: str) -> Iterator[Running]:
    running = start(settings_for(tmp_path, key_folder, database), key_folder)
    yield running
    for client in running.clients:
        client.close()
    running.stop()


# ---------------------------------------------------------------- documents and releases


def fleet_documents(
    version: str = "1.0.0", sites: tuple[str, ...] = ("hamburg", "leipzig"), rate: int = 1
) -> list[Any]:
    return [
        {
            "apiVersion": "sluice/v1",
            "kind": "Fleet",
            "metadata": {"name": "acme"},
            "spec": {
                "enterprise": "acme",
                "sites": [
                    {"name": name, "labels": {"ring": "one" if i == 0 else "two"}, "nodes": [{"name": "edge1"}]}
                    for i, name in enumerate(sites)
                ],
            },
        },
        {
            "apiVersion": "sluice/v1",
            "kind": "Assignment",
            "metadata": {"name": "pump"},
            "spec": {"workload": "modbus", "version": version, "config": {"rate": rate}},
        },
    ]


def publish(running: Running, client: httpx.Client, version: str = "1.0.0", archive: bytes = b"an archive") -> str:
    """Build, sign offline and upload one release of ``modbus``; gives its digest."""
    digest = hashlib.sha256(archive).hexdigest()
    release = WorkloadRelease(
        name="modbus",
        version=version,
        workload_class=WorkloadClass.TRANSLATOR,
        artifacts=(
            Artifact(
                platform="process",
                media_type="application/vnd.sluice.process.v1.tar+gzip",
                root=Blob(digest=f"sha256:{digest}", size=len(archive)),
                command=("python", "-m", "workloads.modbus"),
            ),
        ),
        streams=(DataStream(name="data", max_silence_s=60.0, min_good_percent=50.0),),
    )
    document = release_bytes(release)
    for content in (archive, document):
        answer = client.put(f"/blobs/sha256/{hashlib.sha256(content).hexdigest()}", content=content)
        assert answer.status_code in (200, 201), answer.text
    current = client.get("/catalog").json()["files"]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in current.items():
            (Path(folder) / name).write_bytes(base64.b64decode(text))
        editor = CatalogEditor.open(Path(folder), running.keys / "offline", None)
        editor.add(release)
        files = editor.sign(datetime.now(UTC))
    upload = {name: base64.b64encode(data).decode() for name, data in files.items()}
    answer = client.post("/catalog", json={"files": upload})
    assert answer.status_code == 200, answer.text
    return release_digest(document)


def apply_fleet(client: httpx.Client, documents: list[Any]) -> int:
    answer = client.post("/fleet", json={"documents": documents, "reason": "test"})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["generation"])


# ---------------------------------------------------------------- the far side


def tls_context(running: Running, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(running.keys / "online" / "server-ca.pem"))
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


@dataclass
class Node:
    """A node of a site that says whatever a test wants it to say."""

    running: Running
    site: str
    name: str
    folder: Path
    client: httpx.Client
    incarnation: str = "a1"
    sent: int = 0

    def call(self, path: str, message: messages.Message) -> httpx.Response:
        return self.client.post(f"/agent/v1/{path}", content=messages.encode(message))

    def sync(self, wait_s: float = 0.0, held: SyncRequest | None = None) -> SyncReply:
        request = held or SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions())
        answer = self.call("sync", replace_wait(request, wait_s))
        assert answer.status_code == 200, answer.text
        return messages.decode(answer.content, SyncReply)

    def generation(self) -> int:
        files = self.sync().director
        name = next(n for n in files if n.endswith(".targets.json"))
        return int(msgspec.json.decode(files[name])["signed"]["x-sluice"]["generation"])

    def ingest(self, *frames: Frame) -> dict[tuple[str, str], int]:
        answer = self.call("ingest", IngestRequest(frames=frames))
        assert answer.status_code == 200, answer.text
        reply = messages.decode(answer.content, messages.IngestReply)
        return {(m.stream, m.incarnation): m.seq for m in reply.marks}

    def report(self, **changes: Any) -> messages.ReportReply:
        now = time.time_ns()
        base = StatusReport(
            node=self.name,
            agent_version="1",
            incarnation="agent-1",
            at_ns=now,
            started_ns=now,
            platform="linux/amd64",
            runtime="process",
            trust=TrustStatus(),
            instances=(),
            buffer=messages.BufferStatus(),
        )
        answer = self.call("report", msgspec.structs.replace(base, **changes))
        assert answer.status_code == 200, answer.text
        return messages.decode(answer.content, messages.ReportReply)

    def obey(self, digest: str, **changes: Any) -> int:
        """Adopt what the director says and deliver a good sample, as a healthy site would."""
        generation = self.generation()
        if generation == 0:
            self.report()
            return 0
        self.sent += 1
        if self.sent == 1:
            self.ingest(descriptor("pump/data", self.incarnation, 1, ["acme/site/flow"]))
            self.sent = 2
        self.ingest(samples("pump/data", self.incarnation, self.sent, [(0, time.time_ns(), 1.5)]))
        status = InstanceStatus(
            name="pump",
            state=State.RUNNING,
            reason="Ok",
            since_ns=time.time_ns(),
            workload="modbus",
            version="1.0.0",
            release_digest=digest,
            generation=generation,
            streams=(StreamStatus(name="data", incarnation=self.incarnation),),
        )
        status = msgspec.structs.replace(status, **changes)
        self.report(trust=TrustStatus(adopted_generation=generation), instances=(status,))
        return generation


def replace_wait(request: SyncRequest, wait_s: float) -> SyncRequest:
    return msgspec.structs.replace(request, wait_s=wait_s)


def descriptor(stream: str, incarnation: str, seq: int, topics: list[str]) -> Frame:
    tags = tuple(Tag(id=i, topic=topic, type=TagType.FLOAT, unit="m3/h") for i, topic in enumerate(topics))
    payload = msgspec.json.encode(Descriptor(tags=tags))
    return Frame(stream=stream, incarnation=incarnation, seq=seq, kind=FrameKind.DESCRIPTOR, payload=payload)


def samples(stream: str, incarnation: str, seq: int, values: list[tuple[int, int, float]], quality: int = 192) -> Frame:
    payload = block.encode(
        [v[0] for v in values], [v[1] for v in values], [v[2] for v in values], [quality] * len(values)
    )
    times = [v[1] for v in values]
    return Frame(
        stream=stream, incarnation=incarnation, seq=seq, kind=FrameKind.SAMPLES, payload=payload,
        count=len(values), first_ns=min(times), last_ns=max(times),
    )  # fmt: skip


@dataclass
class Enroller:
    running: Running
    folder: Path

    def token(self, client: httpx.Client, site: str) -> pki.EnrolmentToken:
        answer = client.post(f"/sites/{site}/tokens", json={})
        assert answer.status_code == 201, answer.text
        return pki.EnrolmentToken.decode(answer.json()["token"])

    def anonymous(self) -> httpx.Client:
        client = httpx.Client(base_url=self.running.agent_url, verify=tls_context(self.running), timeout=20)
        self.running.clients.append(client)
        return client

    def enrol(self, client: httpx.Client, site: str) -> Node:
        token = self.token(client, site)
        key = keys.generate_tls_key()
        request = messages.EnrolRequest(secret=token.secret, node=token.node, csr_pem=pki.make_csr(key))
        answer = self.anonymous().post("/agent/v1/enrol", content=messages.encode(request))
        assert answer.status_code == 200, answer.text
        reply = messages.decode(answer.content, messages.EnrolReply)
        assert (reply.site, reply.node) == (site, token.node)
        assert hashlib.sha256(reply.director_root).hexdigest() == token.director_root_sha256
        return self.node(site, reply.node, reply.chain_pem, keys.key_pem(key))

    def node(self, site: str, name: str, chain_pem: str, key_pem: bytes) -> Node:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        (folder / "chain.pem").write_text(chain_pem)
        (folder / "key.pem").write_bytes(key_pem)
        context = tls_context(self.running, folder / "chain.pem", folder / "key.pem")
        client = httpx.Client(base_url=self.running.agent_url, verify=context, timeout=60)
        self.running.clients.append(client)
        return Node(self.running, site, name, folder, client)


@pytest.fixture
def enroller(orchestrator: Running, tmp_path: Path) -> Enroller:
    return Enroller(orchestrator, tmp_path)


@pytest.fixture
def lab() -> Any:
    """The helpers of this file, for tests that build their own arrangement."""
    import types

    return types.SimpleNamespace(
        start=start, settings_for=settings_for, Enroller=Enroller, publish=publish, apply_fleet=apply_fleet,
        fleet_documents=fleet_documents, descriptor=descriptor, samples=samples, tls_context=tls_context,
        PASSWORD=PASSWORD, replace=replace, Running=Running,
    )  # fmt: skip


def wait_for(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Until ``condition`` gives something; fails with its last answer."""
    end = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(0.05)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return wait_for
