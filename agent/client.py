"""The only way out: HTTPS to the orchestrator, always opened from here, mutual TLS 1.3 against a pinned authority.

Called by the loop, the uplink and the trust store, from any thread; every call blocks, for at most its deadline. The
deadline is for the whole call: a watchdog cuts the line, so a server that drips one byte at a time, even inside the
headers, cannot hold a caller. Redirects are refused, nothing is retried here, compression is not asked for, and every
answer has a size it may not pass. Names and proxies of the environment are not consulted.

Raises UnreachableError (try again later), TrustError (the other side is not who or what it must be; kinds
``server-certificate``, ``tls``, ``client-certificate``, ``forbidden``, ``redirect``, ``oversized``, ``malformed``,
``refused``) and MachineError (our own files).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.util import parse_url

from agent.folders import disk_errors
from agent.identity import Identity, read_certificate_end
from manifests.errors import DocumentError, MachineError, TrustError, UnreachableError
from manifests.messages import (
    AGENT_API,
    MAX_ENROL_BYTES,
    MAX_SYNC_BYTES,
    MEDIA_TYPE,
    AnswersReply,
    AnswersRequest,
    EnrolReply,
    EnrolRequest,
    IngestReply,
    IngestRequest,
    InquiriesReply,
    InquiriesRequest,
    Message,
    RenewReply,
    RenewRequest,
    ReportReply,
    StatusReport,
    SyncReply,
    SyncRequest,
    decode,
    encode,
)

DEADLINE_S = 30.0
CONNECT_S = 10.0
SLOWEST_BYTES_S = 2_000
BLOB_GAP_S = 30.0  # silence inside a blob; its minimum rate is the blob store's business
MAX_REPLY_BYTES = 256 << 10  # replies to report, ingest and renew are far smaller
MAX_INQUIRIES_BYTES = 2 << 20
_CHUNK = 256 << 10
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")

R = TypeVar("R", bound=Message)
_call = threading.local()  # .deadline of the call that runs in this thread


class _Deadline:
    """Cuts the line of one call when its time is over, whatever layer is waiting on it then."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self.passed = False
        self._timer = threading.Timer(max(seconds, 0.0), self._cut)
        self._timer.daemon = True
        self._timer.name = "deadline"

    def __enter__(self) -> _Deadline:
        _call.deadline = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _call.deadline = None
        with self._lock:
            if self._line is not None:
                self._line.close()
                self._line = None

    def left_s(self) -> float:
        return max(self._at - time.monotonic(), 0.001)

    def over(self) -> bool:
        return self.passed or time.monotonic() >= self._at

    def hold(self, descriptor: int) -> None:
        """Own a duplicate of the connection's descriptor: it stays valid through TLS wrapping and early closing."""
        line = socket.socket(fileno=os.dup(descriptor))
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = line
        if self.passed:
            self._cut()

    def _cut(self) -> None:
        self.passed = True
        with self._lock:
            if self._line is not None:
                with contextlib.suppress(OSError):
                    self._line.shutdown(socket.SHUT_RDWR)


class _Connection(HTTPSConnection):
    """Puts its socket under the running call's deadline, fresh or kept alive."""

    def _new_conn(self) -> socket.socket:
        deadline: _Deadline = _call.deadline
        problem: OSError = TimeoutError("timed out")
        for family, kind, protocol, _, address in _resolve(self._dns_host, self.port, deadline.left_s()):
            line = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    line.setsockopt(*option)
                deadline.hold(line.fileno())
                line.settimeout(min(CONNECT_S, deadline.left_s()))
                line.connect(address)
            except OSError as error:
                line.close()
                problem = error
                continue
            return line
        raise problem

    def request(self, *arguments: Any, **named: Any) -> None:
        if self.sock is not None:
            deadline: _Deadline = _call.deadline
            deadline.hold(self.sock.fileno())
        super().request(*arguments, **named)


def _resolve(host: str, port: int | None, timeout_s: float) -> list[Any]:
    """getaddrinfo with an end: the resolver's own may be minutes away."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    asking = threading.Thread(target=ask, daemon=True, name="resolve")
    asking.start()
    asking.join(timeout_s)
    if not found:
        raise TimeoutError(f"the name {host} was not resolved in time")
    if isinstance(found[0], OSError):
        raise found[0]
    answer: list[Any] = found[0]
    return answer


class Channel:
    """Bounded HTTPS calls to one server whose certificate authority is pinned; the base of ``OrchestratorClient``.

    ``node_pem``: a file with the client key and chain; without it only enrolment will be answered.
    """

    def __init__(self, url: str, *, server_ca_pem: str, node_pem: str | None = None) -> None:
        self._not_after: datetime | None = None
        try:
            parsed = parse_url(url)
        except urllib3.exceptions.LocationParseError as error:
            raise TrustError(f"not an address: {error}", kind="bad-url", where=repr(url[:200])) from error
        if parsed.scheme != "https" or not parsed.host or parsed.auth or parsed.query or parsed.fragment:
            raise TrustError(
                "not the address of an orchestrator", kind="bad-url", where=repr(url[:200]), remedy="https://HOST:PORT"
            )
        self.where = f"{parsed.host}:{parsed.port or 443}"
        self._prefix = (parsed.path or "").rstrip("/")
        self._host = parsed.host.strip("[]")
        self._port = parsed.port or 443
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default of later Pythons; our authorities hold to it
        try:
            context.load_verify_locations(cadata=server_ca_pem)
        except (ssl.SSLError, ValueError) as error:
            raise MachineError(f"the pinned server authority cannot be used: {error}", remedy="enrol again") from error
        if node_pem is not None:
            try:
                context.load_cert_chain(node_pem)
                self._not_after = read_certificate_end(Path(node_pem))
            except (OSError, ValueError) as error:
                raise MachineError(
                    f"this node's certificate cannot be used: {error}", where=node_pem, remedy="enrol again"
                ) from error
        self._pool = urllib3.HTTPSConnectionPool(
            self._host, self._port, maxsize=8, block=False, retries=False, ssl_context=context
        )
        self._pool.ConnectionCls = _Connection

    def close(self) -> None:
        self._pool.close()

    def post(
        self,
        path: str,
        message: Message,
        reply: type[R],
        *,
        deadline_s: float,
        max_bytes: int = MAX_REPLY_BYTES,
    ) -> R:
        headers = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}
        with self.open("POST", path, body=encode(message), headers=headers, deadline_s=deadline_s) as answer:
            if answer.status != 200:
                raise self._refusal(answer)
            data = answer.read_all(max_bytes)
        try:
            return decode(data, reply)
        except DocumentError as error:
            what = f"the answer is no {reply.__name__}: {error.problems[0].what}"
            raise TrustError(what, kind="malformed", where=self.where) from error

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        deadline_s: float,
        gap_s: float | None = None,
    ) -> Iterator[Answer]:
        """One exchange; the answer may be read until the deadline. Refuses redirects."""
        with _Deadline(deadline_s) as deadline:
            left_s = deadline.left_s()
            try:
                response = self._pool.urlopen(
                    method,
                    self._prefix + AGENT_API + path,
                    body=body,
                    headers={"User-Agent": "sluice-agent", "Accept-Encoding": "identity", **(headers or {})},
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                    # Without a gap of its own the deadline alone ends a read; a second later is never reached.
                    timeout=urllib3.Timeout(connect=min(CONNECT_S, left_s), read=gap_s or left_s + 1.0),
                )
            except (urllib3.exceptions.HTTPError, HTTPException, OSError) as error:
                raise self._mapped(error, deadline, deadline_s) from error
            answer = Answer(self, response, deadline, deadline_s)
            try:
                if 300 <= response.status < 400:
                    what = "the orchestrator's address answers with a redirect"
                    raise TrustError(what, kind="redirect", where=self.where)
                if not answer.header("Content-Length") and not answer.header("Transfer-Encoding"):
                    # A line cut inside the headers looks just like this; taken as empty it would raise a false alarm.
                    raise UnreachableError("no answer: cut inside its headers", where=self.where)
                yield answer
            finally:
                if answer.complete:
                    response.release_conn()
                else:
                    response.close()  # never reuse a line with unread bytes on it

    def _mapped(self, error: Exception, deadline: _Deadline, deadline_s: float) -> TrustError | UnreachableError:
        if deadline.over():
            return UnreachableError(f"no complete answer within {deadline_s:g} s", where=self.where)
        tls = _tls_error(error)
        if isinstance(tls, ssl.SSLCertVerificationError):
            return TrustError(
                f"the server's certificate is not trusted: {tls.verify_message}",
                kind="server-certificate",
                where=self.where,
                remedy="check the address; if the server authority was replaced, enrol again",
            )
        reason = (tls.reason or "") if tls is not None else ""
        if "PROTOCOL_VERSION" in reason or reason in ("UNSUPPORTED_PROTOCOL", "WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return TrustError(f"the server does not speak TLS 1.3 ({reason})", kind="tls", where=self.where)
        alert = "ALERT" in reason and any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS"))
        # A server that refuses the certificate may cut the line before its alert arrives.
        cut = tls is not None or isinstance(error, urllib3.exceptions.ProtocolError)
        expired = cut and self._not_after is not None and datetime.now(UTC) > self._not_after
        if alert or expired:
            why = f"expired at {self._not_after:%Y-%m-%d %H:%M} UTC" if expired else reason
            return TrustError(
                f"the server does not take this node's certificate ({why})",
                kind="client-certificate",
                where=self.where,
                remedy=("it asks for a new one by its old key" if expired else "have a new token made and enrol again")
                + "; workloads keep running",
            )
        return UnreachableError(f"no answer: {_say(error)}", where=self.where)

    def _refusal(self, answer: Answer) -> TrustError | UnreachableError:
        status, said = answer.status, answer.text()
        found = _problem(said)
        remedy = found.remedy if found else ""
        what = f"{found.detail or found.title} (HTTP {status})" if found else f"HTTP {status}: {said}".rstrip(": ")
        if status in (401, 403):
            what = f"the orchestrator refuses this node: {what}"
            if not remedy and self._not_after is not None:
                remedy = "was another machine enrolled as this node? to take it back, enrol again; workloads go on"
            return TrustError(what, kind="forbidden", where=self.where, remedy=remedy)
        if 400 <= status < 500 and status not in (404, 408, 425, 429):
            what = f"the orchestrator refuses the request: {what}"
            return TrustError(what, kind="refused", where=self.where, remedy=remedy)
        return UnreachableError(f"the orchestrator cannot answer now: {what}", where=self.where, remedy=remedy)


class _Refused(msgspec.Struct, frozen=True):
    """What people read of a problem document (RFC 9457)."""

    title: str = ""
    detail: str = ""
    remedy: str = ""


def _problem(said: str) -> _Refused | None:
    try:
        found = msgspec.json.decode(said, type=_Refused)
    except msgspec.MsgspecError:
        return None  # a proxy's page, or a long one that was cut
    return found if found.detail or found.title else None


class Answer:
    """A response whose body is still on the line."""

    def __init__(
        self, channel: Channel, response: urllib3.BaseHTTPResponse, deadline: _Deadline, deadline_s: float
    ) -> None:
        self._channel = channel
        self._response = response
        self._deadline = deadline
        self._deadline_s = deadline_s
        self.status = response.status
        self.complete = False

    def header(self, name: str) -> str:
        return self._response.headers.get(name, "")

    def chunks(self) -> Iterator[bytes]:
        while True:
            try:
                chunk = self._response.read(_CHUNK, decode_content=False)
            except (urllib3.exceptions.HTTPError, HTTPException, OSError) as error:
                raise self._channel._mapped(error, self._deadline, self._deadline_s) from error
            if self._deadline.passed:
                what = f"no complete answer within {self._deadline_s:g} s"
                raise UnreachableError(what, where=self._channel.where)
            if not chunk:
                self.complete = True
                return
            yield chunk

    def read_all(self, max_bytes: int) -> bytes:
        declared = self.header("Content-Length")
        data = bytearray()
        if not declared.isdigit() or int(declared) <= max_bytes:
            for chunk in self.chunks():
                data += chunk
                if len(data) > max_bytes:
                    break
            else:
                return bytes(data)
        what = f"the answer is larger than {max_bytes} bytes"
        raise TrustError(what, kind="oversized", where=self._channel.where)

    def text(self) -> str:
        """The start of an error answer, fit for one line of a log."""
        data = b""
        with contextlib.suppress(UnreachableError, TrustError):
            for chunk in self.chunks():
                data += chunk
                if len(data) >= 2000:
                    break
        return "".join(c if c.isprintable() else " " for c in data[:500].decode("utf-8", "replace")).strip()


class BlobStream:
    """The bytes of a blob from ``offset`` on; the server may have chosen to start at 0."""

    def __init__(self, offset: int, chunks: Iterator[bytes]) -> None:
        self.offset = offset
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


class OrchestratorClient:
    """The calls an enrolled agent makes."""

    def __init__(self, url: str, identity: Identity) -> None:
        self._url = url
        self._identity = identity
        self._channel = self._open()

    def _open(self) -> Channel:
        with disk_errors("cannot read the pinned server authority", self._identity.server_ca_pem):
            server_ca = self._identity.server_ca_pem.read_text(encoding="ascii")
        return Channel(self._url, server_ca_pem=server_ca, node_pem=str(self._identity.node_pem))

    def reload(self) -> None:
        """Use the certificate as it is on disk now; calls that run keep their line."""
        old, self._channel = self._channel, self._open()
        old.close()

    def close(self) -> None:
        self._channel.close()

    def sync(self, request: SyncRequest, deadline_s: float = DEADLINE_S) -> SyncReply:
        """Metadata this agent lacks. With ``request.wait_s`` the deadline must be longer than that."""
        return self._channel.post("/sync", request, SyncReply, deadline_s=deadline_s, max_bytes=MAX_SYNC_BYTES)

    def report(self, report: StatusReport, deadline_s: float = DEADLINE_S) -> ReportReply:
        return self._channel.post("/report", report, ReportReply, deadline_s=deadline_s)

    def ingest(self, request: IngestRequest) -> IngestReply:
        return self._channel.post("/ingest", request, IngestReply, deadline_s=ingest_deadline_s(request))

    def inquiries(self, request: InquiriesRequest, deadline_s: float = DEADLINE_S) -> InquiriesReply:
        """What people ask of this node; held by the server for up to ``request.wait_s``."""
        deadline_s += request.wait_s
        return self._channel.post(
            "/inquiries", request, InquiriesReply, deadline_s=deadline_s, max_bytes=MAX_INQUIRIES_BYTES
        )

    def answers(self, request: AnswersRequest, deadline_s: float = DEADLINE_S) -> AnswersReply:
        return self._channel.post("/answers", request, AnswersReply, deadline_s=deadline_s)

    def renew(self, request: RenewRequest, deadline_s: float = DEADLINE_S) -> RenewReply:
        return self._channel.post("/renew", request, RenewReply, deadline_s=deadline_s)

    @contextmanager
    def get_blob(
        self, digest: str, offset: int = 0, *, deadline_s: float = 600.0, gap_s: float = BLOB_GAP_S
    ) -> Iterator[BlobStream]:
        """The bytes of a blob; nothing about them is checked here. UnreachableError when there is no such blob."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise TrustError("not a SHA-256 digest", kind="bad-digest", where=repr(digest[:100]))
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        path = f"/blobs/sha256/{match[1]}"
        with self._channel.open("GET", path, headers=headers, deadline_s=deadline_s, gap_s=gap_s) as answer:
            if answer.status == 404:
                raise UnreachableError(f"the orchestrator has no blob {digest}", where=self._channel.where)
            if answer.status == 206:
                begin = _RANGE.fullmatch(answer.header("Content-Range"))
                if begin is None or int(begin[1]) > offset:
                    raise TrustError("a range that was not asked for", kind="malformed", where=digest)
                yield BlobStream(int(begin[1]), answer.chunks())
            elif answer.status == 200:
                yield BlobStream(0, answer.chunks())
            else:
                raise self._channel._refusal(answer)


def ingest_deadline_s(request: IngestRequest) -> float:
    """A frame that is alone cannot be made smaller: it gets the time that a line of 16 kbit/s needs for it."""
    if len(request.frames) != 1:
        return DEADLINE_S
    return DEADLINE_S + len(request.frames[0].payload) / SLOWEST_BYTES_S


def enrol_call(url: str, server_ca_pem: str, request: EnrolRequest, deadline_s: float = DEADLINE_S) -> EnrolReply:
    """The one call without a client certificate; the server authority comes from the token."""
    channel = Channel(url, server_ca_pem=server_ca_pem)
    try:
        return channel.post("/enrol", request, EnrolReply, deadline_s=deadline_s, max_bytes=MAX_ENROL_BYTES + (1 << 20))
    finally:
        channel.close()


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """The TLS library's own error, wherever the layers above have put it."""
    seen: list[object] = [error]
    for item in seen:
        if isinstance(item, ssl.SSLError):
            return item
        if isinstance(item, BaseException) and len(seen) < 50:
            seen += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]
    return None


def _say(error: BaseException) -> str:
    inner = next((a for a in error.args if isinstance(a, BaseException)), None)
    text = str(inner if inner is not None else error) or type(error).__name__
    return text[:300]
