"""When every site comes back at once, after a cut line or a restart of the centre: full handshakes and first polls.

A thousand sites, each with a certificate of its own, at a real orchestrator on loopback; the ten thousand of the goal
are worked out of them. Agents that were cut off come back within 30 s of each other at the least (the longest back-off,
of which each waits a random half to whole); here nothing is spread: as many at a time as the clients can open.
"""

from __future__ import annotations

import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from manifests import ceremony, keys, messages, pki
from manifests.messages import RepositoryVersions, SyncReply, SyncRequest
from manifests.model import Node, Site
from orchestrator.blobs import BlobFiles
from orchestrator.publish import Publisher
from orchestrator.store import Store, sites
from tests.bench.figure import Figure, cpu_seconds
from tests.support.procs import Program, wait_for

PREFIXES = ("reconnect_",)
SITES = 1000
GOAL_SITES = 10_000
AT_ONCE = 100
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def enrolled(folder: Path) -> list[ssl.SSLContext]:
    """A centre's folders with ``SITES`` sites in them, as after their enrolment; what each connects with."""
    now = datetime.now(UTC)
    ceremony.init_keys(folder / "keys", server_names=["localhost"], now=now)
    online = folder / "keys" / "online"
    (folder / "data").mkdir()
    store = Store(f"sqlite:///{folder / 'data' / 'sluice.db'}")
    publisher = Publisher(store, BlobFiles(folder / "data" / "blobs"), online, time.time_ns, lambda _: None)
    publisher.prepare()
    authority, chain = (online / "site-ca.pem").read_bytes(), (online / "site-ca-chain.pem").read_bytes()
    key = keys.generate_tls_key()  # one for all: what is measured has never seen a private key
    request = pki.make_csr(key)
    (folder / "key.pem").write_bytes(keys.key_pem(key))
    names = [f"site-{number:04d}" for number in range(SITES)]
    found = []
    with store.write() as conn:
        sites.put_listed(conn, "acme", {name: Site(name=name, nodes=(Node(name="edge-1"),)) for name in names})
        for name in names:
            issued = pki.issue_certificate(authority, chain, request, site=name, node="edge-1", now=now)
            not_after_ns = int(issued.not_after.timestamp()) * 10**9
            sites.add_certificate(conn, issued.serial_hex, name, "edge-1", time.time_ns(), not_after_ns)
            publisher.ensure(conn, name)
            (folder / "chain.pem").write_text(issued.chain_pem)
            context = ssl.create_default_context(cafile=str(online / "server-ca.pem"))
            context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
            found.append(context)
    store.close()
    return found


def come_back(context: ssl.SSLContext, port: int) -> float:
    """A full handshake and a first poll that fetches everything; seconds until the answer is complete."""
    body = messages.encode(SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions()))
    head = (
        f"POST /agent/v1/sync HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    began = time.perf_counter()
    plain = socket.create_connection(("127.0.0.1", port), 60)
    with context.wrap_socket(plain, server_hostname="localhost") as line:
        line.sendall(head.encode() + body)
        said = b""
        while chunk := line.recv(65536):
            said += chunk
    took = time.perf_counter() - began
    status, _, rest = said.partition(b"\r\n")
    if b" 200 " not in status:
        raise RuntimeError(f"the centre answered {status.decode(errors='replace')}")
    reply = messages.decode(rest.partition(b"\r\n\r\n")[2], SyncReply)
    if msgspec.json.decode(reply.director["1.targets.json"])["signed"]["version"] != 1:
        raise RuntimeError("the answer is not the site's first set")
    return took


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="sluice-") as name:
        folder = Path(name)
        contexts = enrolled(folder)
        agents, operators = free_port(), free_port()
        command = [sys.executable, "-m", "orchestrator", "serve", "--data", str(folder / "data")]
        command += ["--keys", str(folder / "keys" / "online"), "--agent-listen", f"127.0.0.1:{agents}"]
        command += ["--operator-listen", f"127.0.0.1:{operators}", "--public-agent-url", f"https://localhost:{agents}"]
        centre = Program("orchestrator", command, folder / "log")
        centre.start()
        try:
            wait_for("the centre", lambda: listens(agents), 60, watch=[centre])
            come_back(contexts[0], agents)  # first imports and first queries are not of the crowd
            cpu, began = cpu_seconds(centre.pid), time.perf_counter()
            with ThreadPoolExecutor(AT_ONCE) as crowd:
                waits = sorted(crowd.map(lambda context: come_back(context, agents), contexts))
            wall, spent = time.perf_counter() - began, cpu_seconds(centre.pid) - cpu
        finally:
            centre.stop()
    yield Figure(key="reconnect_per_s", value=SITES / wall, unit="full handshakes with first poll /s")
    yield Figure(key="reconnect_centre_cpu_ms", value=spent / SITES * 1000, unit="ms each, at the centre")
    yield Figure(key="reconnect_p99_s", value=waits[int(0.99 * SITES)], unit="s", goal=f"{AT_ONCE} at a time")
    many = GOAL_SITES // SITES
    yield Figure(key="reconnect_10k_s", value=wall * many, unit="s, with the clients on the same cores")
    yield Figure(key="reconnect_10k_centre_cpu_s", value=spent * many, unit="s of one core, without the clients")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
