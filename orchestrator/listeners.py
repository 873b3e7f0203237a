"""The two listeners: TLS 1.3 for agents with their certificate visible to the application, and one for people.

uvicorn hides the client certificate, has no limit on how long a request's head may take, and installs signal handlers
per server: the classes here add what is missing and nothing else. A third listener, a Unix socket, is for a proxy that
ends the agents' TLS; there alone a header says who calls.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import uvicorn
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
TLS_KEY = "tls"  # scope["extensions"]["tls"]
PROXY_HEADER = b"x-client-cert"
SOCKET_MODE = 0o117  # taken away: only the owner and the proxy's group may connect


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose request head does not arrive in time: else half a head holds a socket for ever."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._head_arrived()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._too_slow)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()


class MutualTlsProtocol(GuardedProtocol):
    """Puts the client certificate (DER, or None) into ``scope["extensions"]["tls"]["client_cert_der"]``."""

    _tls: dict[str, Any] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls_object = transport.get_extra_info("ssl_object")
        if tls_object is not None:
            self._tls = {"client_cert_der": tls_object.getpeercert(True)}

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._tls is not None:
            extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
            extensions[TLS_KEY] = self._tls


class ForwardedTlsProtocol(GuardedProtocol):
    """Takes the client certificate from the proxy's header, on the proxy's socket only.

    The proxy has checked that the caller holds the key. That our authority issued the certificate is checked again
    here, so that a proxy that forgot to ask for one opens nothing.
    """

    def __init__(self, *arguments: Any, authorities: Sequence[x509.Certificate], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._authorities = authorities

    def on_headers_complete(self) -> None:
        said = [value for name, value in self.headers if name == PROXY_HEADER]
        der = forwarded_certificate(said[0], self._authorities) if len(said) == 1 else None
        extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
        extensions[TLS_KEY] = {"client_cert_der": der}
        super().on_headers_complete()


def forwarded_certificate(value: bytes, authorities: Sequence[x509.Certificate]) -> bytes | None:
    """DER of a certificate as haproxy (base64 of DER) or nginx (percent-escaped PEM) forwards it; None when it is not
    one that an authority of ours issued."""
    try:
        if value.startswith(b"-----BEGIN"):
            certificate = x509.load_pem_x509_certificate(unquote_to_bytes(value))
        else:
            certificate = x509.load_der_x509_certificate(base64.b64decode(value, validate=True))
    except (ValueError, binascii.Error):
        return None
    for authority in authorities:
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            certificate.verify_directly_issued_by(authority)
            return certificate.public_bytes(Encoding.DER)
    return None


def forwarded_tls(keys: Path) -> Callable[..., ForwardedTlsProtocol]:
    authorities = x509.load_pem_x509_certificates((keys / "site-ca-chain.pem").read_bytes())
    return partial(ForwardedTlsProtocol, authorities=authorities)


def proxy_socket(path: Path) -> socket.socket:
    """Bound, and closed to others from the first moment. Raises OSError; replaces an old socket file, nothing else."""
    if path.is_socket():
        path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(SOCKET_MODE)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
    except OSError:
        made.close()
        raise
    return made


class QuietServer(uvicorn.Server):
    """Leaves signals to the process, which has two of these."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def port(self) -> int:
        """The port it really listens on, once started."""
        return int(self.servers[0].sockets[0].getsockname()[1])


def agent_tls(keys: Path) -> Callable[..., ssl.SSLContext]:
    """TLS 1.3 only. A client certificate is asked for, not required: enrolment has none yet, the application denies
    everything else without one."""

    def make(_config: uvicorn.Config, _default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(keys / "server-chain.pem", keys / "server.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(keys / "site-ca-chain.pem")
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    return make


def operator_tls(certificate: Path, key: Path) -> Callable[..., ssl.SSLContext]:
    """TLS 1.3 only: browsers speak it since 2020."""

    def make(_config: uvicorn.Config, _default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(certificate, key)
        return context

    return make
