"""The OPC UA server: assembles the parts, keeps monitored values fresh, and follows the program that runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import PermissionRuleset, SimpleRoleRuleset, UserRole
from asyncua.crypto.security_policies import SecurityPolicyFactory, SecurityPolicyNone
from asyncua.server.server import Server as Library
from asyncua.ua.object_ids import ObjectIds

from vplc.scan.errors import Problem, Refused
from vplc.servers.configuration import OpcUa, grant_problems
from vplc.servers.model import Model
from vplc.servers.opcua.companion import DI_URI, PLC_URI, Spaces, install
from vplc.servers.opcua.security import Trust, Users, own_certificate
from vplc.servers.opcua.shapes import Shapes
from vplc.servers.opcua.source import Source
from vplc.servers.opcua.space import ProgramServer, Session
from vplc.servers.opcua.tree import Tree
from vplc.servers.program import give_back_memory
from vplc.servers.writer import Writer

log = logging.getLogger(__name__)
_POLICIES = {
    "None": ua.SecurityPolicyType.NoSecurity,
    "Basic256Sha256": ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    "Aes256Sha256RsaPss": ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
}


class _Rules(SimpleRoleRuleset):
    """Services for everybody who logged in; none that change the address space."""

    def check_validity(self, user: Any, action_type_id: Any, body: Any) -> bool:
        allowed = super().check_validity(user, action_type_id, body)  # type: ignore[no-untyped-call]  # the library's own are not typed
        return user.role == UserRole.User and bool(allowed)


class _Nothing(PermissionRuleset):
    """For the open channel that only serves to ask for endpoints."""

    def check_validity(self, _user: Any, _action_type_id: Any, _body: Any) -> bool:
        return False


class _TrustedPolicy(SecurityPolicyFactory):
    """Looks at the certificate of the channel itself: the one a client names later could be another."""

    def __init__(self, inner: SecurityPolicyFactory, trust: Trust) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # the library's own are not typed
            inner.cls, inner.mode, inner.certificate, inner.private_key, inner.permission_ruleset,
            inner.certificate_chain,
        )  # fmt: skip
        self._trust = trust

    def create(self, peer_certificate: bytes | None) -> Any:
        if self.cls is not SecurityPolicyNone:
            try:
                self._trust.check(peer_certificate or b"")
            except ServiceError as error:
                raise ua.uaerrors.BadUserAccessDenied from error  # the one that makes the library hang up
        return super().create(peer_certificate)  # type: ignore[no-untyped-call]  # the library's own are not typed


class _Library(Library):
    trust: Trust | None = None

    async def _setup_server_nodes(self) -> None:
        await super()._setup_server_nodes()
        trust = self.trust
        assert trust is not None
        self._policies[:] = [_TrustedPolicy(p, trust) for p in self._policies]
        if not any(p.cls is SecurityPolicyNone for p in self._policies):
            self._policies.append(
                SecurityPolicyFactory(  # type: ignore[no-untyped-call]  # the library's own are not typed
                    SecurityPolicyNone, ua.MessageSecurityMode.None_, self.iserver.certificate,
                    self.iserver.private_key, permission_ruleset=_Nothing(),
                )
            )  # fmt: skip


class Server:
    """`start`, then `run` until cancelled, then `close`."""

    def __init__(self, folder: Path, settings: OpcUa, where: str) -> None:
        self._folder, self._settings, self._where = folder, settings, where
        self.internal = ProgramServer(Users(settings.users, settings.anonymous), settings.grants, settings.sampling_ms)
        Session.max_connections = settings.sessions
        self.internal.max_connections = settings.sessions + 10  # some to be told that there are too many
        self._library = _Library(iserver=self.internal)
        self._spaces: Spaces | None = None
        self._source: Source | None = None
        self._writer = Writer(folder, "opcua")
        self._published: dict[str, ua.DataValue] = {}
        self._changes: Any = None
        self._begun = False

    async def start(self) -> int:
        """The port it listens on. Raises Refused when the configuration does not fit, or the address cannot be had."""
        settings, library = self._settings, self._library
        uri = f"urn:{socket.gethostname()}:sluice:vplc:{settings.name}"
        library.name = f"Sluice virtual PLC {settings.name}"
        library.manufacturer_name, library.product_uri = "Sluice", "urn:sluice:vplc"
        library.application_type = ua.ApplicationType.Server
        await library.init()
        await library.set_application_uri(uri)
        spaces = Spaces(
            await library.register_namespace(DI_URI),
            await library.register_namespace(PLC_URI),
            await library.register_namespace(f"urn:sluice:vplc:{settings.name}"),
        )
        self._spaces = spaces
        nodes = self.internal.space.nodes
        nodes.own = spaces.own
        install(nodes, spaces)
        key, certificate = await asyncio.to_thread(own_certificate, settings.certificates, uri, settings.bind)
        library.trust = await asyncio.to_thread(Trust, settings.certificates)
        await library.load_certificate(certificate)
        await library.load_private_key(key)
        rules = _Rules()  # type: ignore[no-untyped-call]  # the library's own are not typed
        library.set_security_policy([_POLICIES[p] for p in settings.policies], rules)
        tokens: list[type] = [ua.AnonymousIdentityToken] if settings.anonymous else []
        if any(u.password for u in settings.users):
            tokens.append(ua.UserNameIdentityToken)
        if any(u.certificate for u in settings.users):
            tokens.append(ua.X509IdentityToken)
        library.set_identity_tokens(tokens)
        self._source = Source(self._folder, settings.sampling_ms, lambda m: Shapes(m, spaces), self._took)
        self.internal.source, self.internal.writer = self._source, self._writer
        self._changes = await library.get_event_generator(ObjectIds.BaseModelChangeEventType)
        await self._source.refresh([])
        self._check()
        port = settings.port or _free_port(settings.bind)
        host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
        library.set_endpoint(f"opc.tcp://{host}:{port}")
        library.socket_address = (settings.bind, port)
        logging.getLogger("asyncua.server.server").setLevel(logging.CRITICAL)  # it prints a traceback for a busy port
        try:
            await library.start()
        except OSError as error:
            where = f"{settings.bind}:{port}"
            raise Refused([Problem(where, f"cannot listen: {error.strerror}", "give another bind or port")]) from error
        self._begun = True
        give_back_memory()
        return port

    def _check(self) -> None:
        tree = self.internal.space.nodes.tree
        if tree is not None:
            problems = grant_problems(self._settings.grants, tree.model, self._where)
            if problems:
                raise Refused(problems)

    async def run(self) -> None:
        """Samples what is monitored until cancelled."""
        while True:
            await asyncio.sleep(self._settings.sampling_ms / 1000)
            await self.sample()

    async def sample(self) -> None:
        """One round: fetch what clients monitor, tell them what changed."""
        source, space = self._source, self.internal.space
        assert source is not None
        before = space.nodes.tree
        watched = list(space.watched)
        await source.refresh([p for p in watched if not p.startswith("@")], max_age_ns=0)
        if before is not None and space.nodes.tree is not before:
            await self._tell(before.model, space.nodes.tree)
        for path in watched:
            now = source.changed(path, self._published.get(path))
            if now is not None:
                self._published[path] = now
                await space.publish(path, now)
        if len(self._published) > len(watched):
            self._published = {p: v for p, v in self._published.items() if p in space.watched}

    async def _tell(self, old: Model, tree: Tree | None) -> None:
        version = tree.model.version if tree else "?"
        await self._changes.trigger(message=f"version {version} of the program took over from {old.version}")

    def _took(self, shapes: Shapes) -> None:
        """Another version of the program: its nodes take the place of the ones before."""
        assert self._spaces is not None
        assert self._source is not None
        tree = Tree(shapes.model, self._spaces, self._settings, self._source.value, shapes)
        nodes = self.internal.space.nodes
        nodes.tree = tree
        tree.attach(nodes)
        if self._begun:
            for problem in grant_problems(self._settings.grants, shapes.model, self._where):
                log.warning("%s", problem)

    async def close(self) -> None:
        if self._begun:
            await self._library.stop()
        if self._source is not None:
            await self._source.close()
        self._writer.close()


async def serve(
    folder: Path, settings: OpcUa, where: str, stop: asyncio.Event, ready: Callable[[str, str, int], None]
) -> int:
    """Serves until `stop`. Raises Refused before it listens when something does not fit."""
    server = Server(folder, settings, where)
    try:
        port = await server.start()
        ready("opc ua", settings.bind, port)
        job = asyncio.create_task(server.run())
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({job, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job
    finally:
        await server.close()
    return 0


def _free_port(bind: str) -> int:
    # The library announces the port before it listens, so 0 cannot be handed to it.
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        probe.bind((bind, 0))
        return int(probe.getsockname()[1])
