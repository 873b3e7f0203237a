"""What surrounds every request, as plain ASGI layers: body limits, security headers, counting.

Plain ASGI, because the framework's own middleware buffers event streams and loses disconnects.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api.problems import problem
from orchestrator.metrics import Metrics

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; "
    "img-src 'self' data:"
)
SECURITY_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
)


class _TooLongError(Exception):
    """The body grew beyond its limit."""


class BodyLimit:
    """413 for bodies over ``limit`` bytes, also when they come without a length."""

    def __init__(self, app: ASGIApp, limit: int, unlimited: Iterable[str] = ()) -> None:
        self._app, self._limit, self._unlimited = app, limit, tuple(unlimited)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._unlimited or ("\x00",)):
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._limit:
            await self._refuse(scope, receive, send)
            return
        read = 0
        started = False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._limit:
                    raise _TooLongError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLongError:
            if not started:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem(413, f"at most {self._limit} bytes are taken here", headers={"Connection": "close"})
        await answer(scope, receive, send)


class SecurityHeaders:
    def __init__(self, app: ASGIApp, *, tls: bool) -> None:
        self._app = app
        self._headers = list(SECURITY_HEADERS)
        if tls:
            self._headers.append((b"strict-transport-security", b"max-age=31536000"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        private = scope["path"].startswith("/api/")

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), *self._headers]
                if private and not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, with_headers)


class Counted:
    """Counts requests by route, not by path: paths are made by callers and would fill the memory."""

    def __init__(self, app: ASGIApp, metrics: Metrics, listener: str, untimed: Iterable[str] = ()) -> None:
        self._app, self._metrics, self._listener, self._untimed = app, metrics, listener, frozenset(untimed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", None) or scope.get("matched", "other")
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._metrics.requests.labels(self._listener, method, route, str(status)).inc()
            if route not in self._untimed:
                self._metrics.request_seconds.labels(self._listener).observe(perf_counter() - began)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
