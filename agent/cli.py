"""``python -m agent COMMAND``: parses arguments, builds the real collaborators, hands them over.

Light on purpose: the agent's memory counts, so argparse, and what only one command needs is imported by that command.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import gc
import getpass
import hashlib
import importlib.metadata
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.config import DEFAULT_STATE, FILE_NAME, AgentConfig, KubernetesConfig, load_config, write_minimal
from agent.holds import LocalHold, Signals, words
from manifests.errors import MachineError, SluiceError, TrustError
from manifests.messages import (
    AnswersReply,
    AnswersRequest,
    Hold,
    IngestReply,
    IngestRequest,
    InquiriesReply,
    InquiriesRequest,
    ReportReply,
    StatusReport,
    TrustStatus,
)
from manifests.model import Blob, DesiredState
from manifests.policy import BrokenHold

if TYPE_CHECKING:
    from agent.blobs import BlobStore
    from agent.client import OrchestratorClient
    from agent.identity import Identity
    from agent.placement import ControlNode
    from agent.runtimes.base import Runtime
    from agent.verify import TrustStore

# Long poll, report, renewal, and three for the runtime; more would only cost memory.
THREADS = 6
_log = logging.getLogger("agent")


def main(arguments: list[str] | None = None) -> int:
    """0 when it worked, 1 when not (the reason is on stderr), 3 when no agent runs (``status``)."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except SluiceError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - what a person at a prompt reads
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sluice agent", description="Runs a site's signed workloads on this node.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run until told to end; workloads outlive it")
    run.add_argument("--config", type=Path, default=Path(DEFAULT_STATE) / FILE_NAME, help="default: %(default)s")
    run.set_defaults(run=_run)
    enrol = commands.add_parser("enrol", help="make this machine a node of a site, with a one-time token")
    enrol.add_argument("--token", required=True, help="from `sluice site token SITE`; `-` reads it from stdin")
    enrol.add_argument("--url", default="", help="the orchestrator's address (default: the token's)")
    enrol.add_argument("--state", type=Path, default=Path(DEFAULT_STATE), help="state folder (default: %(default)s)")
    enrol.add_argument("--config", type=Path, help="agent.yaml to write if none (default: in the state folder)")
    enrol.add_argument("--unless-enrolled", action="store_true", help="nothing to do where it is enrolled already")
    enrol.add_argument("--force", action="store_true", help="enrol again, for the same site; workloads keep running")
    enrol.add_argument("--json", action="store_true", help="the answer as a JSON document")
    enrol.set_defaults(run=_enrol)
    clear = commands.add_parser("clear", help="stop and remove everything the agent runs here; keeps its identity")
    clear.add_argument("--config", type=Path, default=Path(DEFAULT_STATE) / FILE_NAME, help="default: %(default)s")
    clear.add_argument("--json", action="store_true", help="the answer as a JSON document")
    clear.set_defaults(run=_clear)
    guard = commands.add_parser("conduits", help="put the conduits' rules back at start, before the engine begins")
    guard.add_argument("--state", type=Path, default=Path(DEFAULT_STATE), help="state folder (default: %(default)s)")
    guard.set_defaults(run=_conduits)
    consent = commands.add_parser("consent", help="let the centre stop an instance, or set it back to an old version")
    consent.add_argument("instance", nargs="?", help="(without one: list what is consented)")
    consent.add_argument("--why", default="", help="the reason; kept and reported")
    consent.add_argument("--for", dest="lasts", default="24h", help="such as 30m, 8h, 2d (default: %(default)s)")
    consent.add_argument("--withdraw", action="store_true", help="take it back")
    consent.add_argument("--state", type=Path, default=Path(DEFAULT_STATE), help="state folder (default: %(default)s)")
    consent.add_argument("--json", action="store_true", help="the answer as a JSON document")
    consent.set_defaults(run=_consent)
    hold = commands.add_parser("hold", help="let no new generation in for a while; what runs goes on")
    hold.add_argument("--for", dest="lasts", default="", help="such as 30m, 8h, 2d")
    hold.add_argument("--until", default="", help='such as "2026-11-23 06:00", on this machine\'s clock')
    hold.add_argument("--why", default="", help="the reason; kept and reported")
    hold.add_argument("--release", nargs="?", const="", metavar="ID", help="end one hold, or all placed here by people")
    hold.add_argument("--state", type=Path, default=Path(DEFAULT_STATE), help="state folder (default: %(default)s)")
    hold.add_argument("--json", action="store_true", help="the answer as a JSON document")
    hold.set_defaults(run=_hold)
    heads = commands.add_parser(
        "heads", help="the audit log's heads this node has witnessed, for `sluice audit verify`"
    )
    heads.add_argument("--state", type=Path, default=Path(DEFAULT_STATE), help="state folder (default: %(default)s)")
    heads.set_defaults(run=_heads)
    verify = commands.add_parser(
        "verify-release", help="check a package of the agent itself against the signed catalog, before installing it"
    )
    verify.add_argument("release", type=Path, help="its release.json")
    verify.add_argument("package", type=Path, help="the archive to be installed")
    verify.add_argument("--state", type=Path, default=Path(DEFAULT_STATE), help="state folder (default: %(default)s)")
    verify.set_defaults(run=_verify_release)
    status = commands.add_parser("status", help="what the running agent of this node sees")
    status.add_argument("--state", type=Path, default=Path(DEFAULT_STATE), help="state folder (default: %(default)s)")
    status.add_argument("--json", action="store_true", help="the whole document")
    status.set_defaults(run=_status)
    return parser


# ---------------------------------------------------------------- enrol, status


def _enrol(asked: argparse.Namespace) -> int:
    from agent.enrol import enrol
    from agent.identity import is_enrolled

    state: Path = asked.state.absolute()
    if asked.unless_enrolled and is_enrolled(state):
        _say(json.dumps({"enrolled": False}) if asked.json else f"{state} is enrolled already")
        return 0
    token = sys.stdin.readline().strip() if asked.token == "-" else asked.token
    identity = enrol(asked.url, token, state, force=asked.force)
    config: Path = asked.config or state / FILE_NAME
    written = write_minimal(config, state)
    if asked.json:
        answer = {"site": identity.site, "node": identity.node, "url": identity.url, "config": str(config)}
        _say(json.dumps(answer | {"configWritten": written}))
        return 0
    _say(f"enrolled as {identity.site}/{identity.node} with {identity.url}")
    _say(f"{'wrote' if written else 'kept'} {config}; now: sluice agent run --config {config}")
    return 0


def _consent(asked: argparse.Namespace) -> int:
    from agent import consent
    from agent.spans import span

    if asked.instance and asked.withdraw:
        done = consent.withdraw(asked.state, asked.instance)
        _say(json.dumps({"withdrawn": done}) if asked.json else ("withdrawn" if done else "nothing was consented"))
        return 0 if done else 1
    if asked.instance:
        now = datetime.now(UTC)
        consent.give(asked.state, asked.instance, who=_who(), why=asked.why, now=now, lasts=span(asked.lasts))
    found = consent.read(asked.state)
    if asked.json:
        _say(json.dumps([{f: getattr(one, f) for f in one.__struct_fields__} for one in found]))
        return 0
    for one in found:
        _say(f"{one.instance}: may be stopped or set back until {_moment(one.until)}, said {one.who}: {one.why}")
    if not found:
        _say("nothing is consented")
    return 0


def _hold(asked: argparse.Namespace) -> int:
    from agent import holdbook
    from agent.spans import span

    now = datetime.now(UTC)
    if asked.release is not None:
        gone = holdbook.release(asked.state, asked.release or None, who=_who(), now=now)
        _say(json.dumps({"released": [one.id for one in gone]}) if asked.json else f"released: {_names(gone)}")
        return 0 if gone else 1
    if asked.lasts or asked.until or asked.why:
        if bool(asked.lasts) == bool(asked.until):
            raise MachineError("how long is not said", where="sluice agent hold", remedy="give either --for or --until")
        until = now + span(asked.lasts) if asked.lasts else holdbook.until(asked.until)
        holdbook.place(asked.state, who=_who(), why=asked.why, now=now, until=until)
    return _holds(asked, now)


def _names(holds: Iterable[LocalHold]) -> str:
    return ", ".join(one.id for one in holds) or "nothing was held here by people"


def _holds(asked: argparse.Namespace, now: datetime) -> int:
    """What people placed here, as the file says it now; schedule and interlocks as the running agent saw them last."""
    from agent import holdbook
    from agent.holds import held
    from agent.status import read_status

    running = read_status(asked.state) or {}
    local = held(holdbook.read(asked.state), (), (), Signals(), now)
    seen = [msgspec.convert(one, Hold) for one in running.get("holds", [])]
    found = (*local, *(one for one in seen if one.kind != "local"))
    if asked.json:
        _say(msgspec.json.encode(found).decode())
        return 0
    for one in found:
        _say(f"held by {words(one)}")
    if not found:
        _say("nothing is held")
    return 0


def _heads(asked: argparse.Namespace) -> int:
    from agent.verify import read_heads

    found = read_heads(asked.state / "trust")
    _say(json.dumps([{"size": head.size, "root": head.root} for head in found], indent=1))
    return 0 if found else 1


def _verify_release(asked: argparse.Namespace) -> int:
    from agent.folders import disk_errors
    from agent.identity import load_identity
    from agent.packages import check_package
    from agent.verify import TrustStore

    with disk_errors("cannot read the release", asked.release):
        document = asked.release.read_bytes()
    catalog = TrustStore(asked.state / "trust", load_identity(asked.state)).catalog(datetime.now(UTC))
    release = check_package(catalog, document, asked.package, _version())
    _say(f"{asked.package.name} is agent {release.version}, as people signed it")
    return 0


def _who() -> str:
    """The person behind sudo, if there is one."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _status(asked: argparse.Namespace) -> int:
    from agent.status import read_status

    document = read_status(asked.state)
    if document is None:
        print(f"no agent runs with state folder {asked.state}", file=sys.stderr)  # noqa: T201 - for a person
        return 3
    _say(json.dumps(document, indent=2) if asked.json else _readable(document))
    return 0


def _conduits(asked: argparse.Namespace) -> int:
    from agent.netfilter import RULES_NAME, restore

    _say("the rules are back" if restore(asked.state / RULES_NAME) else "nothing to put back")
    return 0


def _clear(asked: argparse.Namespace) -> int:
    from agent.clear import clear
    from agent.identity import load_identity

    config = load_config(asked.config)
    identity = load_identity(config.state_folder)
    with _alone(config.state_folder):
        names = clear(_runtime(config, identity))
    if asked.json:
        _say(json.dumps({"removed": names}))
    else:
        _say(f"removed: {', '.join(names)}" if names else "nothing was running")
    return 0


def _readable(document: dict[str, Any]) -> str:
    from manifests.secrets import fingerprint

    trust, buffer, link = document["trust"], document["buffer"], document["link"]
    generation = document.get("generation")
    lines = [
        f"node      {document['node']}  agent {document['agentVersion']}  {document['runtime']}",
        f"trust     generation {generation if generation is not None else 'none yet'}"
        f"  director {trust.get('director_version', 0)}  catalog {trust.get('catalog_version', 0)}"
        f"  last checked {_moment(trust['checked_ns'] // 10**9) if trust.get('checked_ns') else 'never'}",
    ]
    if trust.get("refusal"):
        since = _moment(trust.get("refusal_ns", 0) // 10**9)
        lines.append(f"refused   {trust['refusal']} at {since}: {trust.get('refusal_detail', '')}")
    if document.get("certificateNotAfterNs"):
        lines.append(f"node      certificate until {_moment(document['certificateNotAfterNs'] // 10**9)}")
    if document.get("sealingKey"):
        lines.append(f"secrets   sealed to {fingerprint(document['sealingKey'])}")
    up = "up" if link["up"] else f"down, {link['failures']} tries: {link['reason']}" if link["failures"] else "idle"
    lines.append(f"link      {up}")
    lines.append(
        f"buffer    {buffer.get('frames', 0)} frames, {buffer.get('samples', 0)} samples, "
        f"{buffer.get('bytes', 0) / 1e6:.1f} of {buffer.get('cap_bytes', 0) / 1e6:.0f} MB, "
        f"{buffer.get('dropped_samples', 0)} samples dropped"
    )
    for found in document["instances"]:
        detail = f"  {found['detail']}" if found.get("detail") else ""
        lines.append(
            f"instance  {found['name']}  {found['state']} ({found['reason']})  "
            f"{found.get('workload', '')} {found.get('version', '')}  restarts {found.get('restarts', 0)}{detail}"
        )
    lines += [f"held      by {words(msgspec.convert(one, Hold))}" for one in document.get("holds", [])]
    lines += [f"waiting   {reason}" for reason in document["waiting"]]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the answer of the command


# ---------------------------------------------------------------- run


def _run(asked: argparse.Namespace) -> int:
    from agent import log
    from agent.identity import load_identity

    config = load_config(asked.config)
    log.set_up(config.log_level)
    state = config.state_folder
    identity = load_identity(state)
    with _alone(state):
        asyncio.run(_serve(config, identity))
    return 0


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One process per state folder. Raises MachineError when another has it."""
    with (state / "agent.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MachineError(
                "another agent uses this state folder", where=str(state), remedy="end it first"
            ) from error
        yield


async def _serve(config: AgentConfig, identity: Identity) -> None:
    """Build, run until SIGTERM or SIGINT, close. No workload is touched on the way out."""
    from agent.blobs import BlobStore
    from agent.buffer import Buffer
    from agent.busserver import BusServer
    from agent.client import OrchestratorClient
    from agent.committer import Committer
    from agent.events import EventLog
    from agent.execute import Executor
    from agent.holdbook import HoldBook
    from agent.holding import Holding
    from agent.inquiries import Inquiries
    from agent.kept import Kept
    from agent.ledger import Ledger
    from agent.loop import Loop
    from agent.parts import Parts, Timing
    from agent.secrets import SecretKeeper
    from agent.status import StatusServer
    from agent.uplink import Uplink
    from agent.verify import TrustStore

    state = config.state_folder
    events_loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="work")
    events_loop.set_default_executor(pool)

    def in_thread(run: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        return events_loop.run_in_executor(pool, run, *arguments)

    client = OrchestratorClient(config.url or identity.url, identity)
    committer = Committer(partial(Buffer, state, config.buffer.cap_mb << 20))

    line = ThreadPoolExecutor(1, thread_name_prefix="uplink")  # of its own: data never waits for slow containers

    async def ingest(request: IngestRequest) -> IngestReply:
        return await events_loop.run_in_executor(line, client.ingest, request)

    async def marks(lives: Any) -> Any:
        return await committer.call(lambda buffer: buffer.marks(lives))

    runtime = _runtime(config, identity)
    bus = BusServer(committer, marks, heard=lambda: loop.heard())
    inquiries = Inquiries(bus, _InquiryLine(client), clock_s=time.monotonic)
    bus.answered, bus.silenced = inquiries.answered, inquiries.silenced
    blobs = _BoundBlobs(BlobStore(state / "blobs"), client)
    uplink = Uplink(committer, ingest)
    committer.fresh = uplink.wake
    from agent.consent import consented

    executor = Executor(
        runtime,
        blobs,
        bus,
        run_root=config.run_folder,
        node=identity.node,
        hosts=config.hosts,
        in_thread=in_thread,
        one_network=isinstance(config.runtime, KubernetesConfig) and config.runtime.host_network,
        secrets=(keeper := SecretKeeper(state, identity.site, identity.node)),
    )
    loop = Loop(
        Parts(
            runtime=runtime,
            trust=_BoundTrust(TrustStore(state / "trust", identity, partial(consented, state)), client),
            centre=_BoundCentre(client, identity),
            blobs=blobs,
            committer=committer,
            bus=bus,
            uplink=uplink,
            executor=executor,
            events=EventLog(state),
            ledger=Ledger(state, _enrolment(identity)),
            in_thread=in_thread,
            sealing_key=keeper.public,
            inquiries=inquiries,
            holding=Holding(HoldBook(state, config.changes)),
            kept=Kept(config.kept_folder, config.kept.cap_mb << 20),
        ),
        node=identity.node,
        version=_version(),
        timing=Timing(poll_s=config.poll_s, sync_wait_s=config.sync_wait_s, report_s=config.report_s),
        control=_control(config),
    )
    status = StatusServer(state, loop.document)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        events_loop.add_signal_handler(number, ended.set)
    await committer.start()
    await status.start()
    _settle_memory()
    running = asyncio.create_task(loop.run())
    ending = asyncio.create_task(ended.wait())
    code = 0
    try:
        await asyncio.wait((running, ending), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    except Exception:  # noqa: BLE001 - the top of everything; it becomes a log line and an exit code
        _log.exception("ended by a fault; workloads keep running")
        code = 1
    finally:
        running.cancel()
        ending.cancel()
        await asyncio.gather(running, ending, return_exceptions=True)
        await status.stop()
        await bus.close_all()
        await committer.stop()
        client.close()
        _log.info("ended; workloads keep running")
        logging.shutdown()
        # Not by returning: the long poll's thread may be held by the centre for a minute more.
        os._exit(code)


def _enrolment(identity: Identity) -> str:
    roots = (hashlib.sha256(root).hexdigest() for root in (identity.catalog_root, identity.director_root))
    return "\n".join((identity.site, identity.node, *roots))


def _settle_memory() -> None:
    """What is imported and built by now lives as long as the process; what importing it needed goes back."""
    import ctypes

    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError, OSError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def _control(config: AgentConfig) -> ControlNode:
    from agent.placement import ControlNode

    said = config.control
    return ControlNode(said.cores, said.realtime, said.max_instances)


def _runtime(config: AgentConfig, identity: Identity) -> Runtime:
    """The configured runtime. ``auto`` is decided once per state folder, by whether the machine has an engine: an
    engine that is slow to start must not make the node run everything a second time as processes."""
    if isinstance(config.runtime, KubernetesConfig):
        return _kubernetes(config, config.runtime, identity)
    kind: str = config.runtime
    state = config.state_folder
    if kind == "auto":
        decided = state / "runtime"
        try:
            kind = decided.read_text("ascii").strip()
        except OSError:
            has_engine = bool(os.environ.get("DOCKER_HOST")) or Path("/var/run/docker.sock").exists()
            kind = "docker" if has_engine else "process"
            from agent.ledger import write_atomic

            write_atomic(decided, kind.encode())
    if kind == "docker":
        from agent.runtimes.docker_engine import DockerRuntime

        networks = {name: segment.network for name, segment in config.segments.items()}
        control = _control(config)
        return DockerRuntime(
            state, site=identity.site, node=identity.node, networks=networks, control=control, hosts=config.hosts
        )
    from agent.runtimes.process import ProcessRuntime

    return ProcessRuntime(state)


def _kubernetes(config: AgentConfig, said: KubernetesConfig, identity: Identity) -> Runtime:
    """Raises MachineError when its package is not installed, DocumentError when a segment is no address range."""
    try:
        from agent.runtimes.kubernetes.runtime import from_config
    except ModuleNotFoundError as error:
        raise MachineError(
            f"the runtime kubernetes needs the package {error.name}", remedy="install sluice[agent-kubernetes]"
        ) from error
    return from_config(config, said, site=identity.site, node=identity.node)


class _BoundTrust:
    """The trust store with its client; after a certificate problem the next call uses what is on disk by then."""

    def __init__(self, store: TrustStore, client: OrchestratorClient) -> None:
        self._store = store
        self._client = client

    def refresh(self, now: datetime, wait_s: float) -> DesiredState:
        try:
            return self._store.refresh(self._client, now, wait_s=wait_s)
        except TrustError as error:
            if error.kind in ("client-certificate", "forbidden", "server-certificate"):
                self._client.reload()  # it may have been enrolled again meanwhile
            raise

    def activate(self, candidate: DesiredState) -> None:
        self._store.activate(candidate)

    def last_good(self, now: datetime) -> DesiredState | None:
        return self._store.last_good(now)

    def remember(self, adopted: DesiredState) -> None:
        self._store.remember(adopted)

    def status(self) -> TrustStatus:
        return self._store.status()

    def broken_holds(self) -> Sequence[BrokenHold]:
        return self._store.broken_holds()


class _InquiryLine:
    """Two threads of its own: one waits for questions, one carries answers, and neither holds up the others' work."""

    def __init__(self, client: OrchestratorClient) -> None:
        self._client = client
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="inquiries")

    async def ask(self, request: InquiriesRequest) -> InquiriesReply:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._client.inquiries, request)

    async def answer(self, request: AnswersRequest) -> AnswersReply:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._client.answers, request)


class _BoundBlobs:
    def __init__(self, store: BlobStore, client: OrchestratorClient) -> None:
        self._store = store
        self._client = client

    def has(self, digest: str) -> bool:
        return self._store.has(digest)

    def path(self, digest: str) -> Path:
        return self._store.path(digest)

    def fetch(self, blob: Blob) -> Path:
        return self._store.fetch(self._client, blob)

    def forget_except(self, digests: Collection[str]) -> None:
        self._store.forget_except(digests)


class _BoundCentre:
    def __init__(self, client: OrchestratorClient, identity: Identity) -> None:
        self._client = client
        self._identity = identity
        self._not_after_ns = 0

    def report(self, report: StatusReport) -> ReportReply:
        return self._client.report(report)

    def renew_if_due(self, now: datetime) -> bool:
        if not self._not_after_ns:
            self._look()
        if not self._identity.renewal_due(now):
            return False
        from agent.enrol import renew_if_due

        done = renew_if_due(self._client, self._identity, now)
        self._look()
        return done

    def certificate_not_after_ns(self) -> int:
        return self._not_after_ns

    def _look(self) -> None:
        self._not_after_ns = int(self._identity.not_after().timestamp() * 1e9)


def _version() -> str:
    try:
        return importlib.metadata.version("sluice")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
