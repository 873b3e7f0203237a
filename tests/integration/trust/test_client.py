"""The way out against real TLS servers that misbehave: each fault ends in its own error, in bounded time and memory."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.client import OrchestratorClient
from agent.identity import Identity
from manifests.errors import MachineError, SluiceError, TrustError, UnreachableError
from manifests.messages import (
    BufferStatus,
    Frame,
    FrameKind,
    IngestRequest,
    RepositoryVersions,
    StatusReport,
    SyncRequest,
    TrustStatus,
)
from tests.support import orchestrator_fake as fake
from tests.support.orchestrator_fake import OrchestratorFake

NOTHING = SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions())


def sync_fails(client: OrchestratorClient, deadline_s: float = 10.0) -> SluiceError:
    with pytest.raises(SluiceError) as caught:
        client.sync(NOTHING, deadline_s)
    return caught.value


def test_every_call_reaches_its_route_as_the_certificates_site(
    far: OrchestratorFake, client: OrchestratorClient
) -> None:
    assert "timestamp.json" in client.sync(NOTHING).catalog
    frames = tuple(
        Frame(stream="press/values", incarnation="i", seq=n, kind=FrameKind.SAMPLES, payload=b"x") for n in (1, 2, 4)
    )
    (mark,) = client.ingest(IngestRequest(frames=frames)).marks
    assert mark.seq == 2
    assert [frame.seq for frame in far.kept("hamburg", "press/values")] == [1, 2]
    report = StatusReport(
        node="edge-1", agent_version="0", incarnation="i", at_ns=1, started_ns=1, platform="linux/amd64",
        runtime="process", trust=TrustStatus(), instances=(), buffer=BufferStatus(),
    )  # fmt: skip
    client.report(report)
    assert far.reports == [("hamburg", report)]


def test_calls_share_a_line_that_stays_open(far: OrchestratorFake, client: OrchestratorClient) -> None:
    for _ in range(5):
        client.sync(NOTHING)
    assert far._server is not None
    assert len(far._server.lines) == 1


def test_threads_call_at_the_same_time(client: OrchestratorClient) -> None:
    failures: list[Exception] = []

    def call() -> None:
        try:
            for _ in range(5):
                client.sync(NOTHING)
        except SluiceError as error:
            failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_not_followed(far: OrchestratorFake, client: OrchestratorClient, code: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.3)
    far.faults["/sync"] = fake.redirect(f"http://127.0.0.1:{listener.getsockname()[1]}/", code)
    error = sync_fails(client)
    assert isinstance(error, TrustError)
    assert error.kind == "redirect"
    with pytest.raises(TimeoutError):
        listener.accept()
    listener.close()


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "slow",
    [
        lambda released: fake.hang(released),
        lambda released: fake.drip(HEAD + b"X-A: b\r\n" * 5000, released),
        lambda released: fake.drip(HEAD + b"Content-Length: 5000\r\n\r\n" + b"x" * 5000, released),
        lambda released: fake.drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000, released),
        lambda released: fake.drip(b"H" * 5000, released),
    ],
    ids=["silence", "dripping headers", "dripping body", "dripping chunks", "dripping status line"],
)
def test_a_slow_answer_ends_at_the_deadline(
    far: OrchestratorFake,
    client: OrchestratorClient,
    released: threading.Event,
    slow: Callable[[threading.Event], fake.Fault],
) -> None:
    """The far side would go on for 30 s or more: only the deadline can end this within the test's patience."""
    far.faults["/sync"] = slow(released)
    begun = time.monotonic()
    error = sync_fails(client, 0.5)
    assert isinstance(error, UnreachableError)
    assert "within 0.5 s" in str(error)
    assert time.monotonic() - begun < 15
    far.faults.clear()
    client.sync(NOTHING)  # and the next call is none the worse


def test_a_kept_alive_line_that_turns_slow_ends_at_the_deadline(
    far: OrchestratorFake, client: OrchestratorClient, released: threading.Event
) -> None:
    client.sync(NOTHING)
    far.faults["/sync"] = fake.hang(released)
    assert "within 0.5 s" in str(sync_fails(client, 0.5))


def test_a_server_that_never_finishes_the_handshake_ends_at_the_deadline(identity: Identity) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    client = OrchestratorClient(f"https://127.0.0.1:{listener.getsockname()[1]}", identity)
    error = sync_fails(client, 0.5)
    assert isinstance(error, UnreachableError)
    listener.close()


def test_nobody_listening_is_unreachable(identity: Identity) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert isinstance(sync_fails(OrchestratorClient(f"https://127.0.0.1:{port}", identity)), UnreachableError)


def test_a_name_that_does_not_exist_is_unreachable(identity: Identity) -> None:
    error = sync_fails(OrchestratorClient("https://no-such-host.invalid:8443", identity), 5.0)
    assert isinstance(error, UnreachableError)


def test_an_endless_answer_is_refused_by_size(
    far: OrchestratorFake, client: OrchestratorClient, released: threading.Event
) -> None:
    far.faults["/sync"] = fake.endless(released)
    error = sync_fails(client, 60.0)
    assert isinstance(error, TrustError)
    assert error.kind == "oversized"


def test_a_declared_size_beyond_the_bound_is_refused_unread(far: OrchestratorFake, client: OrchestratorClient) -> None:
    far.faults["/sync"] = fake.raw(HEAD + b"Content-Length: 99999999999\r\n\r\nx")
    error = sync_fails(client)
    assert isinstance(error, TrustError)
    assert error.kind == "oversized"


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00\x01\x02", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 abc\r\n\r\n", HEAD + b"Content-Length: 50\r\n\r\nshort",
     HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
     HEAD + b"A: b\r\n" * 200 + b"\r\n"],
    ids=["nothing", "noise", "half a head", "no status", "cut body", "cut chunk", "long header", "many headers"],
)  # fmt: skip
def test_a_broken_answer_is_unreachable(far: OrchestratorFake, client: OrchestratorClient, answer: bytes) -> None:
    far.faults["/sync"] = fake.raw(answer)
    assert isinstance(sync_fails(client), UnreachableError)
    far.faults.clear()
    client.sync(NOTHING)


@pytest.mark.parametrize("answer", [b"", b"{}", b"\xff" * 100, b"\x81\xa7catalog\x80", b"\x91" * 5000])
def test_an_answer_that_is_no_message_is_refused(
    far: OrchestratorFake, client: OrchestratorClient, answer: bytes
) -> None:
    far.faults["/sync"] = fake.body(answer)
    error = sync_fails(client)
    assert isinstance(error, TrustError)
    assert error.kind == "malformed"


def test_a_compressed_answer_is_not_unpacked(far: OrchestratorFake, client: OrchestratorClient) -> None:
    import gzip

    packed = gzip.compress(bytes(50_000_000))

    def fault(handler: fake.Handler) -> bool:
        handler.reply(200, packed, headers={"Content-Encoding": "gzip"})
        return True

    far.faults["/sync"] = fault
    error = sync_fails(client)
    assert isinstance(error, TrustError)
    assert error.kind == "malformed"


@pytest.mark.parametrize(
    ("code", "family", "kind"),
    [
        (401, TrustError, "forbidden"),
        (403, TrustError, "forbidden"),
        (400, TrustError, "refused"),
        (413, TrustError, "refused"),
        (404, UnreachableError, ""),
        (429, UnreachableError, ""),
        (500, UnreachableError, ""),
        (503, UnreachableError, ""),
    ],
)
def test_each_status_has_its_family(
    far: OrchestratorFake, client: OrchestratorClient, code: int, family: type[SluiceError], kind: str
) -> None:
    far.faults["/sync"] = fake.status(code, b"line one\r\nline \x1b[31mtwo")
    error = sync_fails(client)
    assert isinstance(error, family)
    assert getattr(error, "kind", "") == kind
    assert "\x1b" not in str(error)
    assert "\n" not in str(error)
    assert error.retryable == (family is UnreachableError)


def test_a_problem_document_is_told_in_its_words(far: OrchestratorFake, client: OrchestratorClient) -> None:
    said = b'{"type":"about:blank","title":"Forbidden","status":403,"detail":"not this","remedy":"do that","errors":[]}'
    far.faults["/sync"] = fake.status(403, said)
    error = sync_fails(client)
    assert error.what == "the orchestrator refuses this node: not this (HTTP 403)"
    assert error.remedy == "do that"
    far.faults["/sync"] = fake.status(403, b'{"title":"Forbidden","status":403,"detail":"not allowed here"}')
    assert "enrol again" in sync_fails(client).remedy


def test_a_server_of_another_authority_is_refused(tmp_path: Path, identity: Identity) -> None:
    with OrchestratorFake(tmp_path / "foreign") as foreign:
        error = sync_fails(OrchestratorClient(foreign.url, identity))
        assert foreign.requests == []
    assert isinstance(error, TrustError)
    assert error.kind == "server-certificate"


def test_a_server_under_another_name_is_refused(tmp_path: Path) -> None:
    with OrchestratorFake(tmp_path / "far2", server_names=["sluice.example"]) as other:
        identity = other.identity(tmp_path / "state2")
        error = sync_fails(OrchestratorClient(other.url, identity))
    assert isinstance(error, TrustError)
    assert error.kind == "server-certificate"


def test_a_nodes_certificate_cannot_pose_as_the_server(far: OrchestratorFake, tmp_path: Path) -> None:
    """The site authority is online; what it signs must not make a server."""
    thief = far.identity(tmp_path / "thief", "leipzig")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(thief.node_pem)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        line, _ = listener.accept()
        try:
            context.wrap_socket(line, server_side=True)
        except OSError:
            line.close()

    threading.Thread(target=serve, daemon=True).start()
    victim = far.identity(tmp_path / "victim")
    error = sync_fails(OrchestratorClient(f"https://127.0.0.1:{listener.getsockname()[1]}", victim))
    listener.close()
    assert isinstance(error, TrustError)
    assert error.kind == "server-certificate"


def test_a_server_that_speaks_only_tls_1_2_is_refused(tmp_path: Path) -> None:
    with OrchestratorFake(tmp_path / "old", tls=ssl.TLSVersion.TLSv1_2) as old:
        error = sync_fails(OrchestratorClient(old.url, old.identity(tmp_path / "state2")))
    assert isinstance(error, TrustError)
    assert error.kind == "tls"


def test_a_server_without_tls_is_refused(identity: Identity) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        line, _ = listener.accept()
        line.recv(100)
        line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        line.close()

    threading.Thread(target=serve, daemon=True).start()
    error = sync_fails(OrchestratorClient(f"https://127.0.0.1:{listener.getsockname()[1]}", identity))
    listener.close()
    assert isinstance(error, TrustError)
    assert error.kind == "tls"


def test_an_expired_certificate_is_told_with_its_remedy(far: OrchestratorFake, tmp_path: Path) -> None:
    old = far.identity(tmp_path / "old", now=datetime.now(UTC) - timedelta(days=91))
    error = sync_fails(OrchestratorClient(old.url, old))
    assert isinstance(error, TrustError)
    assert error.kind == "client-certificate"
    assert "workloads keep running" in str(error)


def test_a_certificate_of_another_installation_is_refused(far: OrchestratorFake, tmp_path: Path) -> None:
    foreign = OrchestratorFake(tmp_path / "foreign")
    stranger = foreign.identity(tmp_path / "stranger")
    stranger.server_ca_pem.write_bytes((far.online / "server-ca.pem").read_bytes())
    error = sync_fails(OrchestratorClient(far.url, stranger))
    assert isinstance(error, TrustError)
    assert error.kind == "client-certificate"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "ftp://x", "127.0.0.1:8443", "https://", "https://u:p@host", "https://h/?q", "https://[::"]
)  # fmt: skip
def test_an_address_that_is_none_is_refused(identity: Identity, url: str) -> None:
    with pytest.raises(TrustError) as caught:
        OrchestratorClient(url, identity)
    assert caught.value.kind == "bad-url"


def test_a_damaged_certificate_file_is_a_machine_error(identity: Identity) -> None:
    identity.node_pem.write_bytes(b"junk")
    with pytest.raises(MachineError, match="cannot be used"):
        OrchestratorClient(identity.url, identity)


def test_descriptors_are_given_back(
    far: OrchestratorFake, client: OrchestratorClient, released: threading.Event
) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    client.sync(NOTHING)
    before = opened()
    for fault in (fake.raw(b""), fake.status(503), fake.hang(released), fake.redirect("http://x/")):
        far.faults["/sync"] = fault
        for _ in range(5):
            sync_fails(client, 0.05)
    client.close()
    far.cut()
    released.set()
    for _ in range(200):
        if opened() <= before:
            break
        time.sleep(0.02)  # the far side's threads end in their own time
    assert opened() <= before
