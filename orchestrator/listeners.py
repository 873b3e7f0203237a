"""The two listeners: TLS 1.3 for agents with their certificate visible to the application, and one for people.

uvicorn hides the client certificate, has no limit on how long a request's head may take, and installs signal handlers
per server: the three classes here add what is missing and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
TLS_KEY = "tls"  # scope["extensions"]["tls"]


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
    def make(_config: uvicorn.Config, _default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # browsers of control rooms are old
        context.load_cert_chain(certificate, key)
        return context

    return make
