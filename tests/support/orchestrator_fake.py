"""The far side as a whole: a real TLS 1.3 server in a thread, over real keys, that can be told to misbehave.

It enrols, renews, answers ``sync`` from a real signed catalog and real per-site directors, serves blobs with Range,
takes reports and keeps ingested frames with contiguous marks. One per test or per module; ``with`` starts and stops it.

    with OrchestratorFake(tmp_path / "far") as far:
        release = far.publish(a_release())
        far.assign("hamburg", [far.placed("press", release)])
        identity = enrol("", far.token("hamburg", "edge-1"), tmp_path / "state")
        far.faults["/sync"] = redirect("http://169.254.169.254/")
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from agent.identity import Identity, save_identity
from manifests import catalog, ceremony, keys, pki, signing
from manifests.audit import TreeHead
from manifests.errors import SluiceError, TrustError
from manifests.messages import (
    AGENT_API,
    MEDIA_TYPE,
    EnrolReply,
    EnrolRequest,
    Frame,
    IngestReply,
    IngestRequest,
    Message,
    RenewReply,
    RenewRequest,
    ReportReply,
    StatusReport,
    StreamMark,
    SyncReply,
    SyncRequest,
    decode,
    encode,
)
from manifests.model import DesiredInstance, PlacedInstance, SiteFacts, WorkloadRelease
from manifests.policy import Approval, Approver, Unhold

Fault = Callable[["Handler"], bool]
"""Called instead of the real answer; True when it has dealt with the request."""


class OrchestratorFake:
    def __init__(
        self,
        folder: Path,
        *,
        now: datetime | None = None,
        server_names: Sequence[str] = ("localhost", "127.0.0.1"),
        tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        self.folder = folder
        self.now = now or datetime.now(UTC)
        ceremony.init_keys(folder, server_names=server_names, now=self.now)
        self.online, self.offline = folder / "online", folder / "offline"
        self.tls = tls
        self.catalog: dict[str, bytes] = {p.name: p.read_bytes() for p in (self.online / "catalog").iterdir()}
        self.directors: dict[str, dict[str, bytes]] = {}
        self.director_root = (self.online / "roots" / "director.root.json").read_bytes()
        self.director_roots = {"1.root.json": self.director_root}
        self.director = signing.DirectorSigner((self.online / "director.pem").read_bytes())
        self.timestamper = signing.CatalogTimestamper((self.online / "catalog-timestamp.pem").read_bytes())
        self.versions: dict[str, int] = {}
        self.blobs: dict[str, bytes] = {}
        self.tokens: dict[str, tuple[str, str]] = {}
        self.faults: dict[str, Fault] = {}
        self.offline_now = False  # the link is down: lines are cut without an answer
        self.syncs: list[SyncRequest] = []
        self.reports: list[tuple[str, StatusReport]] = []
        self.frames: dict[tuple[str, str, str], list[Frame]] = {}
        self.requests: list[tuple[str, str, str]] = []  # method, path, Range header
        self.revoked: set[str] = set()
        self.lock = threading.RLock()
        self._server: _Server | None = None
        self._port = 0

    # -------------------------------------------------------- life

    def __enter__(self) -> OrchestratorFake:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Again on the same port after ``stop``."""
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name="far side").start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.cut_all()
            self._server.server_close()
            self._server = None

    def cut(self) -> None:
        """Cut every open line now."""
        if self._server is not None:
            self._server.cut_all()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = self.tls
        context.load_cert_chain(self.online / "server-chain.pem", self.online / "server.pem")
        context.load_verify_locations(self.online / "site-ca-chain.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    # -------------------------------------------------------- what operators do

    def publish(
        self, *releases: WorkloadRelease, now: datetime | None = None, approved: Collection[Approver] = tuple(Approver)
    ) -> WorkloadRelease:
        """Sign releases into the catalog, offline side and online side; returns the last. ``approved``: the sides that
        approve what the policy wants approved."""
        with self._edited(now) as editor:
            said = Approval(name="Anna", meaning="approved for use", at="2026-06-01T00:00:00Z")
            for release in releases:
                path = editor.add(release)
                for side in set(editor.lacking(path)) & set(approved):
                    editor.approve(side, path, said)
                self.add_blob(signing.release_bytes(release))
        return releases[-1]

    def unhold(self, hold: str, generation: int, *sides: Approver, site: str = "hamburg", **said: str) -> None:
        """The word of these sides that a generation may pass a hold."""
        with self._edited(None) as editor:
            for side in sides:
                word = Unhold(site=site, hold=hold, generation=generation, why="recall", name=f"{side.value} person")
                editor.unhold(side, msgspec.structs.replace(word, **said))

    @contextmanager
    def _edited(self, now: datetime | None) -> Iterator[catalog.CatalogEditor]:
        with self.lock:
            place = self.folder / f"catalog-{secrets.token_hex(4)}"
            place.mkdir()
            for name, data in self.catalog.items():
                (place / name).write_bytes(data)
            editor = catalog.CatalogEditor.open(place, self.offline)
            yield editor
            files = editor.sign(now or self.now)
            signing.verify_catalog_update(self.catalog["1.root.json"], self.catalog, files, now or self.now)
            self.catalog.update(files)
            self.stamp_catalog(now=now)

    def stamp_catalog(self, *, now: datetime | None = None, lifetime: timedelta = signing.ONLINE_LIFETIME) -> None:
        newest = max((n for n in self.catalog if n.endswith(".snapshot.json")), key=lambda n: int(n.split(".")[0]))
        version = signing.version_of(self.catalog["timestamp.json"]) + 1
        self.catalog["timestamp.json"] = self.timestamper.sign(
            self.catalog[newest], version=version, now=now or self.now, lifetime=lifetime
        )

    def placed(
        self, name: str, release: WorkloadRelease, *, node: str = "edge-1", config: Mapping[str, Any] | None = None
    ) -> PlacedInstance:
        return PlacedInstance(
            instance=DesiredInstance(name=name, node=node, config=config or {}),
            release=release,
            release_digest=signing.release_digest(signing.release_bytes(release)),
        )

    def assign(
        self,
        site: str,
        placed: Sequence[PlacedInstance],
        *,
        generation: int = 1,
        version: int | None = None,
        now: datetime | None = None,
        lifetime: timedelta = signing.ONLINE_LIFETIME,
        signer: signing.DirectorSigner | None = None,
        facts: SiteFacts | None = None,
        head: TreeHead | None = None,
    ) -> dict[str, bytes]:
        """Sign the site's director anew; its version grows by one unless given."""
        with self.lock:
            number = version if version is not None else self.versions.get(site, 0) + 1
            self.versions[site] = number
            said = facts or SiteFacts(site=site, enterprise="acme", generation=generation)
            files = (signer or self.director).sign(
                said, placed, version=number, now=now or self.now, lifetime=lifetime, head=head
            )
            self.directors[site] = files
        return files

    def add_blob(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def add_blob_folder(self, folder: Path) -> None:
        for path in folder.iterdir():
            self.add_blob(path.read_bytes())

    def token(self, site: str, node: str = "edge-1", **changes: Any) -> str:
        secret = secrets.token_urlsafe(32)
        self.tokens[secret] = (site, node)
        fields: dict[str, Any] = {
            "url": self.url,
            "site": site,
            "node": node,
            "secret": secret,
            "server_ca_pem": (self.online / "server-ca.pem").read_bytes(),
            "catalog_root": self.catalog["1.root.json"],
            "director_root": self.director_root,
            **changes,
        }
        return pki.EnrolmentToken.make(**fields).encode()

    def issue(self, csr_pem: str, site: str, node: str, *, now: datetime | None = None) -> pki.IssuedCertificate:
        return pki.issue_certificate(
            (self.online / "site-ca.pem").read_bytes(),
            (self.online / "site-ca-chain.pem").read_bytes(),
            csr_pem,
            site=site,
            node=node,
            now=now or self.now,
        )

    def identity(
        self, state_folder: Path, site: str = "hamburg", node: str = "edge-1", *, now: datetime | None = None
    ) -> Identity:
        """An enrolled node without the network exchange."""
        key = keys.generate_tls_key()
        return save_identity(
            state_folder,
            url=self.url,
            site=site,
            node=node,
            key_pem=keys.key_pem(key),
            chain_pem=self.issue(pki.make_csr(key), site, node, now=now).chain_pem,
            server_ca_pem=(self.online / "server-ca.pem").read_text(),
            catalog_root=self.catalog["1.root.json"],
            director_root=self.director_root,
        )

    def kept(self, site: str, stream: str) -> list[Frame]:
        """Every frame of a stream as stored, in order of arrival, over all incarnations."""
        return [
            frame for (s, name, _), frames in self.frames.items() if (s, name) == (site, stream) for frame in frames
        ]

    # -------------------------------------------------------- answers

    def answer(self, path: str, body: bytes, peer: pki.PeerIdentity | None) -> Message:
        if path == "/enrol":
            return self._enrol(decode(body, EnrolRequest))
        if peer is None or peer.serial_hex in self.revoked:
            raise TrustError("no certificate that counts", kind="forbidden")
        if path == "/renew":
            issued = self.issue(decode(body, RenewRequest).csr_pem, peer.site, peer.node)
            return RenewReply(chain_pem=issued.chain_pem)
        if path == "/sync":
            request = decode(body, SyncRequest)
            self.syncs.append(request)
            director = {**self.director_roots, **self.directors.get(peer.site, {})}
            return SyncReply(
                catalog=signing.missing_files(self.catalog, request.catalog),
                director=signing.missing_files(director, request.director),
            )
        if path == "/report":
            report = decode(body, StatusReport)
            self.reports.append((peer.site, report))
            return ReportReply(events_seen=max((event.seq for event in report.events), default=0))
        if path == "/ingest":
            return self._ingest(peer.site, decode(body, IngestRequest))
        raise KeyError(path)

    def _enrol(self, request: EnrolRequest) -> EnrolReply:
        pki.check_csr(request.csr_pem)
        owner = self.tokens.pop(request.secret, None)
        if owner is None or owner[1] != request.node:
            raise TrustError("no such token", kind="forbidden")
        site, node = owner
        return EnrolReply(
            site=site,
            node=node,
            chain_pem=self.issue(request.csr_pem, site, node).chain_pem,
            server_ca_pem=(self.online / "server-ca.pem").read_text(),
            catalog_root=self.catalog["1.root.json"],
            director_root=self.director_root,
        )

    def _ingest(self, site: str, request: IngestRequest) -> IngestReply:
        marks: dict[tuple[str, str], int] = {}
        for frame in request.frames:
            held = self.frames.setdefault((site, frame.stream, frame.incarnation), [])
            mark = held[-1].end if held else 0
            if frame.seq == mark + 1:
                held.append(frame)
                mark = frame.end
            marks[frame.stream, frame.incarnation] = mark
        return IngestReply(marks=tuple(StreamMark(stream=s, incarnation=i, seq=mark) for (s, i), mark in marks.items()))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, far: OrchestratorFake, port: int) -> None:
        self.far = far
        self.tls_context = far.context()
        self.lines: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(30)
        line = self.tls_context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        try:
            line.do_handshake()
        except OSError:
            _linger(line)
            return
        self.lines.add(line)
        try:
            Handler(line, client_address, self)
        finally:
            self.lines.discard(line)
            with contextlib.suppress(OSError):
                line.close()

    def cut_all(self) -> None:
        for line in list(self.lines):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(line, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # lines that are cut are what this server is for


def _linger(line: socket.socket) -> None:
    """Close so that the TLS alert arrives: unread bytes at closing would reset the line and lose it."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_WR)
        line.settimeout(1)
        while socket.socket.recv(line, 4096):
            pass
    line.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.serve()

    def do_GET(self) -> None:
        self.serve()

    def serve(self) -> None:
        far = self.server.far
        if far.offline_now:
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix(AGENT_API)
        with far.lock:
            far.requests.append((self.command, path, self.headers.get("Range") or ""))
            fault = next((f for prefix, f in far.faults.items() if path.startswith(prefix)), None)
        if fault is not None and fault(self):
            return
        certificate = self.connection.getpeercert(True)  # type: ignore[attr-defined]
        try:
            peer = pki.peer_identity(certificate) if certificate else None
            if self.command == "GET":
                self._blob(path, peer)
                return
            with far.lock:
                message = far.answer(path, body, peer)
        except TrustError as error:
            self.reply(403 if error.kind == "forbidden" else 400, str(error).encode())
        except SluiceError as error:
            self.reply(400, str(error).encode())
        except KeyError:
            self.reply(404, b"no such route")
        else:
            self.reply(200, encode(message))

    def _blob(self, path: str, peer: pki.PeerIdentity | None) -> None:
        if peer is None:
            self.reply(403, b"no certificate")
            return
        data = self.server.far.blobs.get("sha256:" + path.removeprefix("/blobs/sha256/"))
        if data is None:
            self.reply(404, b"no such blob")
            return
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if match is None:
            self.reply(200, data, kind="application/octet-stream")
            return
        begin = int(match[1])
        span = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self.reply(206, data[begin:], kind="application/octet-stream", headers={"Content-Range": span})

    def reply(
        self, status: int, data: bytes, *, kind: str = MEDIA_TYPE, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


# ---------------------------------------------------------------- faults


def redirect(to: str, status: int = 302) -> Fault:
    def fault(handler: Handler) -> bool:
        handler.reply(status, b"", headers={"Location": to})
        return True

    return fault


def status(code: int, text: bytes = b"told to fail") -> Fault:
    def fault(handler: Handler) -> bool:
        handler.reply(code, text)
        return True

    return fault


def raw(data: bytes) -> Fault:
    """These bytes and the end of the line."""

    def fault(handler: Handler) -> bool:
        handler.wfile.write(data)
        handler.wfile.flush()
        handler.close_connection = True
        return True

    return fault


def body(data: bytes) -> Fault:
    """A well-formed answer with another body."""

    def fault(handler: Handler) -> bool:
        handler.reply(200, data)
        return True

    return fault


def truncated(full: bytes, sent: int) -> Fault:
    """Promises all, sends a part, cuts."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(full)}\r\n\r\n".encode()
    return raw(head + full[:sent])


def drip(data: bytes, released: threading.Event) -> Fault:
    """One byte at a time, 20 a second, until the line is cut or ``released`` is set."""

    def fault(handler: Handler) -> bool:
        handler.close_connection = True
        for byte in data:
            if released.wait(0.05):
                break
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
        return True

    return fault


def hang(released: threading.Event) -> Fault:
    """Says nothing at all."""

    def fault(handler: Handler) -> bool:
        handler.close_connection = True
        released.wait(30)
        return True

    return fault


def endless(released: threading.Event) -> Fault:
    """A body without end."""

    def fault(handler: Handler) -> bool:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not released.is_set():
            handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        return True

    return fault


@dataclass
class CutAfter:
    """Blob answers end after ``count`` bytes each, ``times`` times; then all is well."""

    count: int
    times: int
    done: int = field(default=0)

    def __call__(self, handler: Handler) -> bool:
        if self.done >= self.times:
            return False
        self.done += 1
        data = handler.server.far.blobs["sha256:" + handler.path.rsplit("/", 1)[-1]]
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        begin = int(match[1]) if match else 0
        left = data[begin:]
        code = "206 Partial Content" if match else "200 OK"
        head = f"HTTP/1.1 {code}\r\nContent-Length: {len(left)}\r\n"
        if match:
            head += f"Content-Range: bytes {begin}-{len(data) - 1}/{len(data)}\r\n"
        handler.wfile.write(head.encode() + b"\r\n" + left[: self.count])
        handler.close_connection = True
        return True


def offer_only(files: Mapping[str, Mapping[str, bytes]]) -> Fault:
    """A ``sync`` answer of exactly these files: ``{"catalog": {...}, "director": {...}}``."""
    return body(encode(SyncReply(catalog=files.get("catalog", {}), director=files.get("director", {}))))
