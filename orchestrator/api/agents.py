"""The agents' line, ``/agent/v1``: enrol, renew, sync, report, ingest, inquiries, answers, blobs; MessagePack of
``manifests.messages``.

Default deny: only ``enrol`` works without a client certificate. Every other request must show one whose serial is on
the allow-list and whose time has not run out - asked anew per request, because TLS asks only at the handshake - and it
sees the site that is named in the certificate, nothing else. Headers never say who calls, but for the
proxy's own socket (``orchestrator.listeners``). Who calls too often is told to wait: 429 with ``Retry-After``.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import structlog
from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from manifests import messages, pki
from manifests.errors import DocumentError, MachineError, TrustError
from manifests.messages import Message, Severity
from orchestrator.api.guards import Counted
from orchestrator.api.limits import Limiter
from orchestrator.api.problems import ApiError, problem
from orchestrator.centre import Centre
from orchestrator.listeners import TLS_KEY
from orchestrator.publish import reachable
from orchestrator.renewals import Late
from orchestrator.store import events, fleets, sites

MAX_SYNC_REQUEST_BYTES = 64 << 10
_HEX = re.compile(r"^[0-9a-f]{64}$")
_log = structlog.get_logger(__name__)
T = TypeVar("T")
Handler = Callable[["Request", "Peer"], Awaitable[Response]]
DENIED = "this certificate is not allowed here"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls, as the certificate says."""

    site: str
    node: str
    serial: str


@lru_cache(4096)
def _identity(der: bytes) -> pki.PeerIdentity:
    return pki.peer_identity(der)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; 413 as soon as it is longer than ``limit`` bytes."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limit:
        raise ApiError(413, f"at most {limit} bytes are taken here", headers={"Connection": "close"})
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ApiError(413, f"at most {limit} bytes are taken here", headers={"Connection": "close"})
    return bytes(body)


def packed(message: Message) -> Response:
    return Response(messages.encode(message), media_type=messages.MEDIA_TYPE)


class AgentLine:
    def __init__(self, centre: Centre) -> None:
        self._centre = centre
        # Per node: what asks and what carries data. An honest agent stays far below; a backlog is many frames per call.
        self._asks = Limiter(rate_per_s=50.0, burst=200.0)
        self._carries = Limiter(rate_per_s=200.0, burst=400.0)
        self._enrols = Limiter(rate_per_s=20.0, burst=100.0)  # per address: nobody has a name yet
        self._blobs: dict[str, tuple[int, dict[str, int]]] = {}  # site -> (generation, digests it may fetch)
        self._noticing = threading.Lock()
        self._went_back: dict[Peer, tuple[int, int]] = {}  # (said before, asked with), so that it is told once

    def app(self) -> ASGIApp:
        api = messages.AGENT_API
        guarded: tuple[tuple[str, str, Handler], ...] = (
            (f"{api}/renew", "POST", self.renew),
            (f"{api}/sync", "POST", self.sync),
            (f"{api}/report", "POST", self.report),
            (f"{api}/ingest", "POST", self.ingest),
            (f"{api}/inquiries", "POST", self.inquiries),
            (f"{api}/answers", "POST", self.answers),
            (f"{api}/blobs/sha256/{{digest}}", "GET", self.blob),
        )
        routes = [Route(f"{api}/enrol", self._answer(self.enrol), methods=["POST"])]
        carrying = {f"{api}/ingest", f"{api}/answers", f"{api}/blobs/sha256/{{digest}}"}
        routes += [
            Route(
                path,
                self._answer(self._guarded(do, self._carries if path in carrying else self._asks)),
                methods=[method],
            )
            for path, method, do in guarded
        ]
        routes.append(Route("/{rest:path}", self._answer(self._guarded(_nothing_here, self._asks))))
        return Counted(
            Starlette(routes=routes), self._centre.metrics, "agents", untimed={f"{api}/sync", f"{api}/inquiries"}
        )

    # ------------------------------------------------------------ who calls

    def _guarded(self, do: Handler, limiter: Limiter) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            peer = await to_thread.run_sync(self._authenticate, request)
            _limit(limiter, f"{peer.site}/{peer.node}")
            self._centre.presence.heard(peer.site, peer.node, self._centre.now_ns())
            return await do(request, peer)

        return guarded

    def _authenticate(self, request: Request) -> Peer:
        der = request.scope.get("extensions", {}).get(TLS_KEY, {}).get("client_cert_der")
        if not der:
            raise ApiError(401, "a client certificate is needed")
        try:
            identity = _identity(der)
        except TrustError as error:
            raise ApiError(403, DENIED) from error
        with self._centre.store.read() as conn:
            known = sites.find_certificate(conn, identity.serial_hex)
        now_ns = self._centre.now_ns()
        if known is None or known.revoked_ns is not None or known.not_after_ns <= now_ns:
            raise ApiError(403, DENIED)
        if (known.site, known.node) != (identity.site, identity.node):
            raise ApiError(403, DENIED)
        return Peer(identity.site, identity.node, identity.serial_hex)

    def _answer(self, do: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Every failure as a problem document that tells nothing it need not."""

        async def answer(request: Request) -> Response:
            try:
                return await do(request)
            except ApiError as error:
                return problem(error.status, error.detail, remedy=error.remedy, headers=error.headers)
            except DocumentError as error:
                return problem(400, str(error)[:1000])
            except TrustError as error:
                return problem(400, f"{error.kind}: {error.what}"[:1000])
            except (MachineError, SQLAlchemyError) as error:
                _log.error("request failed", path=request.url.path, error=str(error))
                return problem(503, "the orchestrator cannot store this now", headers={"Retry-After": "5"})
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception:  # noqa: BLE001 - top of a request: logged, and nothing of it goes outwards
                _log.exception("request failed", path=request.url.path)
                return problem(500, "the orchestrator made a mistake; its log says more")

        return answer

    # ------------------------------------------------------------ certificates

    async def enrol(self, request: Request) -> Response:
        if request.client is not None:  # behind a proxy the proxy counts
            _limit(self._enrols, _caller(request))
        wanted = messages.decode(await read_body(request, messages.MAX_ENROL_BYTES), messages.EnrolRequest)
        return packed(await to_thread.run_sync(self._enrol, wanted, _caller(request)))

    def _enrol(self, wanted: messages.EnrolRequest, caller: str) -> messages.EnrolReply:
        centre = self._centre
        pki.check_csr(wanted.csr_pem)  # before the token is burnt: a mistake must not cost it
        if wanted.ended_pem:
            return self._enrol_again(wanted, caller)
        secret_hash = hashlib.sha256(wanted.secret.encode("utf-8", "surrogatepass")).hexdigest()
        node = wanted.node.replace("\x00", "")[:63]
        now_ns = centre.now_ns()
        with centre.store.write() as conn:
            site = sites.burn_token(conn, secret_hash, node, now_ns)
            if site is None:
                again = sites.used_token(conn, secret_hash)
            else:
                issued = self._issue(wanted.csr_pem, site, node)
                not_after_ns = int(issued.not_after.timestamp()) * 10**9
                sites.add_certificate(conn, issued.serial_hex, site, node, now_ns, not_after_ns)
                replaced = sites.revoke_certificates(conn, site, node, now_ns, but=issued.serial_hex)
                centre.publisher.ensure(conn, site)
                text = f"enrolled from {caller}" + (", its earlier certificate is revoked" if replaced else "")
                events.add(conn, now_ns, Severity.SECURITY, "node-enrolled", text, subject=node, site=site, node=node)
        if site is None:
            if again is not None:
                text = f"a used enrolment token was tried again from {caller}"
                centre.tell(Severity.SECURITY, "token-reused", text, subject=again[1], site=again[0], node=again[1])
            raise ApiError(403, "the token is not valid", remedy="have a new one made")
        centre.live.site_changed(site)
        return self._enrolled(site, node, issued)

    def _enrolled(self, site: str, node: str, issued: pki.IssuedCertificate) -> messages.EnrolReply:
        centre = self._centre
        return messages.EnrolReply(
            site=site,
            node=node,
            chain_pem=issued.chain_pem,
            server_ca_pem=centre.server_ca_pem,
            catalog_root=centre.publisher.catalog_root,
            director_root=centre.publisher.director_root,
        )

    def _enrol_again(self, wanted: messages.EnrolRequest, caller: str) -> messages.EnrolReply:
        """A node whose certificate has ended proves that it holds its key: as good as a renewal for a while, later
        only with somebody's word."""
        centre, now_ns = self._centre, self._centre.now_ns()
        try:
            old = pki.check_again(wanted.ended_pem, centre.site_ca_chain, wanted.csr_pem, wanted.signature)
        except TrustError as error:
            raise ApiError(403, DENIED) from error
        with centre.store.read() as conn:
            known = sites.find_certificate(conn, old.serial_hex)
        if known is None or known.revoked_ns is not None or (known.site, known.node) != (old.site, old.node):
            raise ApiError(403, DENIED)
        days = max(0, now_ns - known.not_after_ns) // (86_400 * 10**9)
        text = f"renewed {days} days after its certificate ended, by its old key, from {caller}"
        if days >= centre.settings.renew_days:
            late, new = centre.renewals.ask(
                Late(old.site, old.node, old.serial_hex, known.not_after_ns, now_ns, caller)
            )
            remedy = f"sluice site renew {old.site} {old.node} --why TEXT"
            if not late.by:
                waits = f"its certificate ended {days} days ago: somebody must let it back"
                if new:
                    fields = {"subject": old.node, "site": old.site, "node": old.node}
                    text = f"{waits} ({remedy}); it asks from {caller}"
                    centre.tell(Severity.SECURITY, "renewal-wanted", text, **fields)
                raise ApiError(409, waits, remedy=remedy)
            text += f"; let by {late.by}: {late.why}"
        issued = self._issue(wanted.csr_pem, old.site, old.node)
        not_after_ns = int(issued.not_after.timestamp()) * 10**9
        with centre.store.write() as conn:
            sites.add_certificate(conn, issued.serial_hex, old.site, old.node, now_ns, not_after_ns)
            events.add(
                conn, now_ns, Severity.SECURITY, "certificate-renewed-late", text,
                subject=old.node, site=old.site, node=old.node,
            )  # fmt: skip
        return self._enrolled(old.site, old.node, issued)

    def _issue(self, csr_pem: str, site: str, node: str) -> pki.IssuedCertificate:
        centre = self._centre
        now = datetime.fromtimestamp(centre.now_ns() / 1e9, UTC)
        return pki.issue_certificate(centre.site_ca_key, centre.site_ca_chain, csr_pem, site=site, node=node, now=now)

    async def renew(self, request: Request, peer: Peer) -> Response:
        wanted = messages.decode(await read_body(request, messages.MAX_ENROL_BYTES), messages.RenewRequest)

        def renew() -> messages.RenewReply:
            issued = self._issue(wanted.csr_pem, peer.site, peer.node)
            now_ns = self._centre.now_ns()
            with self._centre.store.write() as conn:
                not_after_ns = int(issued.not_after.timestamp()) * 10**9
                # The old one stays allowed until the new one is used: the answer may get lost.
                sites.add_certificate(conn, issued.serial_hex, peer.site, peer.node, now_ns, not_after_ns)
                events.add(
                    conn, now_ns, Severity.INFO, "certificate-renewed", f"valid until {issued.not_after:%Y-%m-%d}",
                    subject=peer.node, site=peer.site, node=peer.node,
                )  # fmt: skip
            return messages.RenewReply(chain_pem=issued.chain_pem)

        return packed(await to_thread.run_sync(renew))

    # ------------------------------------------------------------ instructions

    async def sync(self, request: Request, peer: Peer) -> Response:
        wanted = messages.decode(await read_body(request, MAX_SYNC_REQUEST_BYTES), messages.SyncRequest)
        centre = self._centre
        deadline = asyncio.get_running_loop().time() + wanted.wait_s
        woken = centre.wakeups.register(peer.site)  # before looking: no news may fall between
        first = True
        try:
            while True:
                woken.clear()
                reply = await to_thread.run_sync(centre.publisher.bundle, peer.site, wanted)
                if first and reply.director:  # who lacks nothing has not gone back
                    await to_thread.run_sync(self._notice_old, peer, wanted.director.targets)
                first = False
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or centre.stopping or reply.catalog or reply.director:
                    return packed(reply)
                if not await self._wait(request, woken, left):
                    return Response(status_code=400)  # nobody is there to read it
                await to_thread.run_sync(self._authenticate, request)  # it may have been revoked meanwhile
                centre.presence.heard(peer.site, peer.node, centre.now_ns())
        finally:
            centre.wakeups.forget(peer.site, woken)

    def _notice_old(self, peer: Peer, version: int) -> None:
        """A node that holds older instructions than it once reported runs from a disk that was put back, or lost.
        Asked where it asks and where it reports, because either may come first."""
        centre = self._centre
        with centre.store.read() as conn:
            before = sites.reported_director(conn, peer.site, peer.node, peer.serial)
        with self._noticing:
            if version >= before or self._went_back.get(peer) == (before, version):
                return
            self._went_back[peer] = (before, version)
        text = (
            f"it holds instructions of version {version}, but reported {before} before: its disk was put back or lost"
        )
        centre.tell(Severity.SECURITY, "node-went-back", text, subject=peer.node, site=peer.site, node=peer.node)

    async def _wait(self, request: Request, woken: asyncio.Event, timeout_s: float) -> bool:
        """Until woken or time is over; False when the caller hung up."""
        waiting = asyncio.ensure_future(woken.wait())
        gone = asyncio.ensure_future(request.receive())
        try:
            done, _ = await asyncio.wait((waiting, gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            return not (gone in done and gone.result()["type"] == "http.disconnect")
        finally:
            waiting.cancel()
            gone.cancel()

    # ------------------------------------------------------------ inquiries

    async def inquiries(self, request: Request, peer: Peer) -> Response:
        """What people ask of this node; held until somebody asks."""
        wanted = messages.decode(await read_body(request, MAX_SYNC_REQUEST_BYTES), messages.InquiriesRequest)
        centre, node = self._centre, (peer.site, peer.node)
        deadline = asyncio.get_running_loop().time() + wanted.wait_s
        woken = centre.inquiries.register(node)
        try:
            while True:
                woken.clear()
                # Not before it is known that somebody is there to read it: what is fetched is told once.
                await to_thread.run_sync(self._authenticate, request)
                inquiries, enough = centre.inquiries.fetch(node)
                left = deadline - asyncio.get_running_loop().time()
                if inquiries or enough or left <= 0 or centre.stopping:
                    return packed(messages.InquiriesReply(inquiries=inquiries, enough=enough))
                if not await self._wait(request, woken, left):
                    return Response(status_code=400)  # nobody is there to read it
                centre.presence.heard(peer.site, peer.node, centre.now_ns())
        finally:
            centre.inquiries.forget(node, woken)

    async def answers(self, request: Request, peer: Peer) -> Response:
        body = await read_body(request, messages.MAX_ANSWERS_BYTES)
        said = messages.decode(body, messages.AnswersRequest)
        enough = self._centre.inquiries.answered((peer.site, peer.node), said.answers)
        return packed(messages.AnswersReply(enough=enough))

    # ------------------------------------------------------------ blobs

    async def blob(self, request: Request, peer: Peer) -> Response:
        digest = request.path_params["digest"]
        if not _HEX.fullmatch(digest) or not await to_thread.run_sync(self._may_fetch, peer.site, digest):
            raise ApiError(404, "no such blob")
        path = self._centre.blobs.path(digest)
        if self._centre.blobs.size(digest) is None:
            raise ApiError(404, "no such blob")
        return FileResponse(path, media_type="application/octet-stream", headers={"ETag": f'"{digest}"'})

    def _may_fetch(self, site: str, digest: str) -> bool:
        with self._centre.store.read() as conn:
            known = sites.get(conn, site)
            if known is None or known.assigned_generation is None:
                return False
            cached = self._blobs.get(site)
            if cached is None or cached[0] != known.assigned_generation:
                state = fleets.desired_state(conn, known.assigned_generation, site)
                cached = (known.assigned_generation, reachable([state] if state else []))
                self._blobs[site] = cached
        return digest in cached[1]

    # ------------------------------------------------------------ reports and data

    async def report(self, request: Request, peer: Peer) -> Response:
        said = messages.decode(await read_body(request, messages.MAX_REPORT_BYTES), messages.StatusReport)
        if said.node != peer.node:
            raise ApiError(403, DENIED)
        if not 0 < len(said.incarnation) <= 64 or "\x00" in said.incarnation:
            raise ApiError(400, "the report's incarnation is not 1 to 64 characters")

        def store() -> int:
            centre = self._centre
            now_ns = centre.now_ns()
            self._notice_old(peer, said.trust.director_version)
            with centre.store.write() as conn:
                sites.put_report(conn, peer.site, said, now_ns, centre.settings.offline_after_ns)
                seen, _ = events.add_reported(conn, peer.site, peer.node, said.incarnation, said.events, now_ns)
                sites.revoke_older(conn, peer.site, peer.node, peer.serial, now_ns)
            centre.live.site_changed(peer.site)
            return seen

        seen = await to_thread.run_sync(store)
        return packed(messages.ReportReply(events_seen=seen, report_s=self._centre.settings.report_s))

    async def ingest(self, request: Request, peer: Peer) -> Response:
        body = await read_body(request, messages.MAX_INGEST_BYTES)
        ingestor = self._centre.ingestor

        def put() -> Any:
            return ingestor.put(peer.site, messages.decode(body, messages.IngestRequest).frames)

        taken = await asyncio.wrap_future(await to_thread.run_sync(put))
        self._centre.metrics.bytes.labels(peer.site).inc(len(body))
        return packed(messages.IngestReply(marks=tuple(taken.marks)))


def _limit(limiter: Limiter, who: str) -> None:
    wait_s = limiter.wait_s(who)
    if wait_s:
        raise ApiError(429, "too many requests", headers={"Retry-After": str(math.ceil(wait_s)), "Connection": "close"})


async def _nothing_here(_request: Request, _peer: Peer) -> Response:
    raise ApiError(404, "nothing here")


def _caller(request: Request) -> str:
    return request.client.host if request.client else "unknown"
