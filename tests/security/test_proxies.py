"""The production edges with the real haproxy and nginx, and the same attacks on both: rows 19 and 29 once more."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from manifests import ceremony, keys, messages, pki
from manifests.messages import RepositoryVersions, SyncRequest
from tests.support.procs import Program, wait_for
from tests.support.tls_scan import scan

ROOT = Path(__file__).resolve().parents[2]
PROXIES = ROOT / "orchestrator" / "proxy"
NOTHING = messages.encode(SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions()))
DENIED = (400, 401, 403)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass
class Edge:
    """A proxy before a real orchestrator."""

    kind: str
    port: int
    people: int
    running: Any
    socket: Path
    log: Path

    def context(self, folder: Path | None = None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(self.running.keys / "online" / "server-ca.pem"))
        if folder is not None:
            made.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        return made

    def client(self, folder: Path | None = None) -> httpx.Client:
        client = httpx.Client(base_url=f"https://localhost:{self.port}", verify=self.context(folder), timeout=20)
        self.running.clients.append(client)
        return client

    def line(self, folder: Path | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port))
        return self.context(folder).wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(params=["haproxy", "nginx"])
def edge(request: pytest.FixtureRequest, folder: Path, lab: Any) -> Iterator[Edge]:
    kind: str = request.param
    if shutil.which(kind) is None:
        pytest.skip(f"the production edge is NOT tested: {kind} is not installed")
    key_folder = folder / "keys"
    ceremony.init_keys(key_folder, server_names=["localhost", "127.0.0.1"], now=datetime.now(UTC))
    path = folder / "agents.sock"
    settings = replace(lab.settings_for(folder, key_folder), agent_proxy_socket=path)
    running = lab.start(settings, key_folder)
    port, people = free_port(), free_port()
    program = Program(kind, command(kind, folder, key_folder, port, people, running.ports.operators), folder / "log")
    program.start()
    try:
        wait_for(kind, lambda: listens(port) and listens(people), 15, watch=[program])
        yield Edge(kind, port, people, running, path, folder)
    finally:
        program.stop()
        for client in running.clients:
            client.close()
        running.stop()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def command(kind: str, folder: Path, key_folder: Path, port: int, people: int, operators: int) -> list[str]:
    """The shipped configuration with this test's places put into it; nothing else changes."""
    online = key_folder / "online"
    both = (online / "server-chain.pem").read_bytes() + (online / "server.pem").read_bytes()
    (folder / "both.pem").write_bytes(both)
    text = (PROXIES / ("haproxy.cfg" if kind == "haproxy" else "nginx.conf")).read_text()
    places = {
        "/etc/sluice/people.pem": folder / "both.pem",
        "/etc/sluice/site-ca-chain.pem": online / "site-ca-chain.pem",
        "/run/sluice/agents.sock": folder / "agents.sock",
        "127.0.0.1:8080": f"127.0.0.1:{operators}",
    }
    if kind == "haproxy":
        places |= {"/etc/sluice/server.pem": folder / "both.pem", "bind :8443": f"bind 127.0.0.1:{port}"}
        places |= {"bind :443": f"bind 127.0.0.1:{people}", "maxconn 20000": "maxconn 900"}
    else:
        places |= {
            "/etc/sluice/server-chain.pem": online / "server-chain.pem",
            "/etc/sluice/server.pem": online / "server.pem",
            "listen 8443": f"listen 127.0.0.1:{port}",
            "listen 443": f"listen 127.0.0.1:{people}",
            "user www-data;": f"user {'root' if os.geteuid() == 0 else 'nobody'};\ndaemon off;",
            "/run/nginx.pid": folder / "nginx.pid",
            "/var/log/nginx/": f"{folder}/",
            "worker_connections 20000": "worker_connections 900",
        }
    for old, new in places.items():
        assert old in text, old
        text = text.replace(old, str(new))
    made = folder / "proxy.conf"
    made.write_text(text)
    return ["haproxy", "-db", "-f", str(made)] if kind == "haproxy" else ["nginx", "-c", str(made), "-p", str(folder)]


def enrolled(edge: Edge, lab: Any) -> Any:
    """A node enrolled through the proxy."""
    operator = edge.running.operator()
    lab.publish(edge.running, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    token = pki.EnrolmentToken.decode(operator.post("/sites/hamburg/tokens", json={}).json()["token"])
    key = keys.generate_tls_key()
    wanted = messages.EnrolRequest(secret=token.secret, node=token.node, csr_pem=pki.make_csr(key))
    answer = edge.client().post("/agent/v1/enrol", content=messages.encode(wanted))
    assert answer.status_code == 200, answer.text
    made = edge.log / "node"
    made.mkdir()
    (made / "chain.pem").write_text(messages.decode(answer.content, messages.EnrolReply).chain_pem)
    (made / "key.pem").write_bytes(keys.key_pem(key))
    return made


def test_19_an_agent_works_through_the_proxy_and_forged_headers_do_not(edge: Edge, lab: Any, say: Any) -> None:
    folder = enrolled(edge, lab)
    pem = (folder / "chain.pem").read_text()
    leaf = x509.load_pem_x509_certificates(pem.encode())[0]
    der = base64.b64encode(leaf.public_bytes(Encoding.DER)).decode()
    good = edge.client(folder)
    assert good.post("/agent/v1/sync", content=NOTHING).status_code == 200
    forged = {"X-Client-Cert": der}
    assert edge.client().post("/agent/v1/sync", content=NOTHING, headers=forged).status_code == 401
    both = good.post("/agent/v1/sync", content=NOTHING, headers={"X-Client-Cert": "bm9uc2Vuc2U="})
    assert both.status_code == 200  # overwritten, not believed
    direct = httpx.Client(base_url=edge.running.agent_url, verify=edge.context())
    assert direct.post("/agent/v1/sync", content=NOTHING, headers=forged).status_code == 401
    people = httpx.post(f"{edge.running.operator_url}/agent/v1/sync", content=NOTHING, headers=forged)
    assert people.status_code in (401, 404, 405)
    direct.close()
    answers = []
    for head in (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
    ):
        with edge.line(folder) as line:
            line.settimeout(10)
            line.sendall(b"POST /agent/v1/sync HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n0\r\n\r\n")
            smuggled = b"GET /agent/v1/blobs/sha256/" + b"0" * 64 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
            with contextlib.suppress(OSError):
                line.sendall(smuggled)
            said = b""
            with contextlib.suppress(OSError):
                while chunk := line.recv(65536):
                    said += chunk
            assert said.count(b"HTTP/1.1 ") <= 1, said
            answers.append(said[9:12].decode() or "cut")
    assert set(answers) <= {"400", "501", "cut"}, answers
    say(f"{edge.kind}: forged X-Client-Cert 401 or overwritten; ambiguous lengths {', '.join(answers)}")


def test_a_scan_of_the_proxy_finds_tls_1_3_and_nothing_older(edge: Edge) -> None:
    for port in (edge.port, edge.people):
        found = scan(port)
        assert list(found) == ["TLSv1.3"], found
        assert not [suite for suite in found["TLSv1.3"] if "CCM" in suite]


def test_certificates_of_others_are_refused_by_the_proxy(edge: Edge, lab: Any, folder: Path) -> None:
    ceremony.init_keys(folder / "foreign", server_names=["localhost"], now=datetime.now(UTC))
    online = folder / "foreign" / "online"
    key = keys.generate_tls_key()
    chain, authority = (online / "site-ca-chain.pem").read_bytes(), (online / "site-ca.pem").read_bytes()
    issued = pki.issue_certificate(
        authority, chain, pki.make_csr(key), site="hamburg", node="edge1", now=datetime.now(UTC)
    )
    (folder / "chain.pem").write_text(issued.chain_pem)
    (folder / "key.pem").write_bytes(keys.key_pem(key))
    try:
        assert edge.client(folder).post("/agent/v1/sync", content=NOTHING).status_code in DENIED
    except httpx.TransportError:
        pass  # refused in the handshake


def test_29_slow_heads_are_cut_by_the_proxy(edge: Edge, lab: Any, say: Any) -> None:
    folder = enrolled(edge, lab)
    slow = []
    for _ in range(60):
        line = edge.line()
        line.sendall(b"POST /agent/v1/enrol HTTP/1.1\r\nHost: loc")
        slow.append(line)
    began = time.monotonic()
    assert edge.client(folder).post("/agent/v1/sync", content=NOTHING).status_code == 200
    for line in slow:
        line.settimeout(max(0.1, 25 - (time.monotonic() - began)))
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while line.recv(4096):
                pass
        line.close()
    say(f"{edge.kind}: 60 half heads cut within {time.monotonic() - began:.0f} s, an agent served meanwhile")


def test_only_the_proxys_group_may_open_the_socket(edge: Edge) -> None:
    assert stat.S_IMODE(edge.socket.stat().st_mode) & 0o007 == 0


def test_on_the_socket_a_certificate_must_still_be_of_our_authority(edge: Edge, lab: Any, folder: Path) -> None:
    """What a proxy that forgot to verify would let through."""
    node = enrolled(edge, lab)
    leaf = x509.load_pem_x509_certificates((node / "chain.pem").read_bytes())[0]
    genuine = base64.b64encode(leaf.public_bytes(Encoding.DER)).decode()
    ceremony.init_keys(folder / "other", server_names=["localhost"], now=datetime.now(UTC))
    online = folder / "other" / "online"
    issued = pki.issue_certificate(
        (online / "site-ca.pem").read_bytes(), (online / "site-ca-chain.pem").read_bytes(),
        pki.make_csr(keys.generate_tls_key()), site="hamburg", node="edge1", now=datetime.now(UTC),
    )  # fmt: skip
    foreign = x509.load_pem_x509_certificates(issued.chain_pem.encode())[0]
    forged = base64.b64encode(foreign.public_bytes(Encoding.DER)).decode()
    transport = httpx.HTTPTransport(uds=str(edge.socket))
    with httpx.Client(base_url="http://localhost", transport=transport) as proxy:

        def code(*headers: tuple[str, str]) -> int:
            return proxy.post("/agent/v1/sync", content=NOTHING, headers=list(headers)).status_code

        assert code(("X-Client-Cert", genuine)) == 200
        assert code(("X-Client-Cert", forged)) == 401
        assert code(("X-Client-Cert", genuine), ("X-Client-Cert", forged)) == 401
        assert code(("X-Client-Cert", "rubbish")) == 401
        assert code(("Client-Cert", genuine)) == 401
        assert code() == 401


def test_people_get_a_secure_cookie_through_the_proxy(edge: Edge, lab: Any) -> None:
    client = httpx.Client(base_url=f"https://localhost:{edge.people}", verify=edge.context(), timeout=20)
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert "max-age" in answer.headers["strict-transport-security"]
    assert client.get("/metrics").status_code == 404
    client.close()


def test_the_proxys_log_holds_no_query(edge: Edge) -> None:
    client = httpx.Client(base_url=f"https://localhost:{edge.people}", verify=edge.context(), timeout=20)
    client.get("/api/v1/about", params={"token": "canary-in-the-address"})
    client.close()
    time.sleep(0.3)
    for name in ("log", "access.log"):
        file = edge.log / name
        if file.is_file():
            assert "canary-in-the-address" not in file.read_text()
