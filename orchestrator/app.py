"""One orchestrator process: both listeners, the rollout loop, the live ticker, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn
from anyio import to_thread
from starlette.types import ASGIApp

from manifests.errors import MachineError
from orchestrator.api.agents import AgentLine
from orchestrator.api.operator import guarded_operator_app
from orchestrator.centre import Centre
from orchestrator.listeners import (
    GuardedProtocol,
    MutualTlsProtocol,
    QuietServer,
    agent_tls,
    forwarded_tls,
    operator_tls,
    proxy_socket,
)
from orchestrator.retention import forget_old
from orchestrator.settings import Settings

GRACE_S = 5
RENEW_EVERY_S = 3600.0
FORGET_EVERY_S = 3600.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the two listeners really are."""

    agents: int
    operators: int


async def serve(settings: Settings, started: Callable[[Ports], None], stop: asyncio.Event) -> None:
    """Run until ``stop`` is set. Raises MachineError or TrustError when it cannot start."""
    loop = asyncio.get_running_loop()
    centre = await to_thread.run_sync(Centre, settings)
    centre.wakeups.bind(loop)
    line = AgentLine(centre).app()
    servers = [_agent_server(centre, line), _operator_server(centre)]
    jobs = [asyncio.create_task(server.serve()) for server in servers]
    if settings.agent_proxy_socket is not None:
        servers.append(_proxied_agent_server(centre, line))
        jobs.append(asyncio.create_task(servers[-1].serve([_bound(settings.agent_proxy_socket)])))
    try:
        while not all(server.started for server in servers):
            if any(job.done() for job in jobs):
                raise SystemExit(3)  # uvicorn has logged why it cannot listen
            await asyncio.sleep(0.02)
        ports = Ports(servers[0].port, servers[1].port)
        if settings.agent_listen.port == 0:
            centre.agent_url = centre.agent_url.replace(":0", f":{ports.agents}")
        code = await to_thread.run_sync(centre.access.first_start, settings.admin_password)
        if code is not None:
            _log.warning("no password is set yet: open the console and give this code", setup_code=code)
        jobs += [
            asyncio.create_task(centre.rollouts.run(stop)),
            asyncio.create_task(centre.live.run()),
            asyncio.create_task(_renew(centre, stop)),
            asyncio.create_task(_forget(centre, stop)),
        ]
        if settings.operator_certificate is None and not _loopback(settings.operator_listen.host):
            _log.warning("passwords travel unprotected: serve people by TLS, or on a loopback address")
        _log.info("serving", agents=ports.agents, operators=ports.operators, database=centre.store.engine.dialect.name)
        started(ports)
        await stop.wait()
    finally:
        centre.stopping = True
        centre.live.close()
        centre.wakeups.wake("")
        centre.inquiries.wake_all()
        for server in servers:
            server.should_exit = True
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*jobs, return_exceptions=True), GRACE_S + 2)
        await to_thread.run_sync(centre.close)
        _log.info("stopped")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def run(settings: Settings) -> None:
    """As ``serve``, until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, lambda _ports: None, stop)


def _agent_server(centre: Centre, line: ASGIApp) -> QuietServer:
    address = centre.settings.agent_listen
    return QuietServer(
        uvicorn.Config(
            line,
            host=address.host,
            port=address.port,
            http=MutualTlsProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # headers never say who calls
            timeout_keep_alive=75,  # above the agents' report period: they keep one connection
            timeout_graceful_shutdown=GRACE_S,
            ssl_context_factory=agent_tls(centre.settings.keys),
        )
    )


def _proxied_agent_server(centre: Centre, line: ASGIApp) -> QuietServer:
    """The same application behind a proxy, which has its own limits; it keeps its connections open."""
    return QuietServer(
        uvicorn.Config(
            line,
            http=forwarded_tls(centre.settings.keys),  # type: ignore[arg-type]  # a factory of protocols will do
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_S,
        )
    )


def _bound(path: Path) -> socket.socket:
    try:
        return proxy_socket(path)
    except OSError as error:
        remedy = "give --agent-proxy-socket a path in a folder of its own"
        raise MachineError(f"cannot listen: {error.strerror}", where=str(path), remedy=remedy) from error


def _operator_server(centre: Centre) -> QuietServer:
    settings = centre.settings
    factory = None
    if settings.operator_certificate is not None and settings.operator_key is not None:
        factory = operator_tls(settings.operator_certificate, settings.operator_key)
    return QuietServer(
        uvicorn.Config(
            guarded_operator_app(centre),
            host=settings.operator_listen.host,
            port=settings.operator_listen.port,
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
            ssl_context_factory=factory,
        )
    )


async def _renew(centre: Centre, stop: asyncio.Event) -> None:
    """Signs metadata again long before it ends."""
    while not stop.is_set():
        try:
            renewed = await to_thread.run_sync(centre.publisher.renew)
            if renewed:
                _log.info("metadata signed again", sites=len(renewed))
        except Exception:  # noqa: BLE001 - top of the loop: reported, and tried again in an hour
            _log.exception("metadata could not be signed again")
        try:
            await asyncio.wait_for(stop.wait(), RENEW_EVERY_S)
        except TimeoutError:
            continue


async def _forget(centre: Centre, stop: asyncio.Event) -> None:
    """Deletes what is older than people want to keep."""
    keep_days = centre.settings.keep_days
    centre.metrics.keep_days.set(keep_days)

    def one_pass() -> int:
        def told(table: str, rows: int) -> None:
            centre.metrics.forgotten.labels(table).inc(rows)

        return forget_old(centre.store, keep_days, centre.now_ns(), told, lambda: centre.stopping)

    while not stop.is_set():
        try:
            rows = await to_thread.run_sync(one_pass)
            if rows:
                _log.info("old rows deleted", rows=rows, keep_days=keep_days)
        except Exception:  # noqa: BLE001 - top of the loop: reported, and tried again in an hour
            _log.exception("old rows could not be deleted")
        try:
            await asyncio.wait_for(stop.wait(), FORGET_EVERY_S)
        except TimeoutError:
            continue
