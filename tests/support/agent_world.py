"""A whole faked machine and centre around one agent loop, with nothing running by itself: time is a value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.buffer import Buffer
from agent.busserver import Voice
from agent.events import EventLog
from agent.execute import Executor
from agent.holdbook import HoldBook
from agent.holding import Holding
from agent.holds import Changes
from agent.ledger import Ledger
from agent.loop import Loop
from agent.parts import Parts, Timing
from agent.placement import ControlNode
from agent.plan import NO_CONTROL
from agent.uplink import Uplink
from manifests.errors import UnreachableError
from manifests.messages import Change, Changed, IngestReply, IngestRequest, ReportReply, StatusReport, TrustStatus
from manifests.model import (
    PROCESS_ARCHIVE,
    Artifact,
    Blob,
    DesiredInstance,
    DesiredState,
    Health,
    PlacedInstance,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)
from manifests.policy import BrokenHold
from tests.support.runtime_fake import FakeRuntime


def state(generation: int, *names: str, version: str = "1.0.0") -> DesiredState:
    number = int(version.replace(".", ""))
    artifact = Artifact(
        platform="process",
        media_type=PROCESS_ARCHIVE,
        root=Blob(digest=f"sha256:{number:064x}", size=1),
        command=("x",),
    )
    release = WorkloadRelease(
        name="work",
        version=version,
        workload_class=WorkloadClass.SYSTEM,
        artifacts=(artifact,),
        health=Health(heartbeat=False),
    )
    placed = tuple(
        PlacedInstance(
            instance=DesiredInstance(name=name, node=name.partition("@")[2] or "edge"),
            release=release,
            release_digest=f"sha256:{number:064x}",
        )
        for name in names
    )
    return DesiredState(facts=SiteFacts(site="s", enterprise="e", generation=generation), instances=placed)


class FakeTrust:
    def __init__(self) -> None:
        self.good: DesiredState | None = None
        self.broken: tuple[BrokenHold, ...] = ()
        self.activated: list[DesiredState] = []

    def refresh(self, now: datetime, wait_s: float) -> DesiredState:
        raise UnreachableError("no line")

    def activate(self, candidate: DesiredState) -> None:
        self.activated.append(candidate)

    def last_good(self, now: datetime) -> DesiredState | None:
        return self.good

    def remember(self, adopted: DesiredState) -> None:
        self.remembered = adopted

    def status(self) -> TrustStatus:
        return TrustStatus()

    def broken_holds(self) -> tuple[BrokenHold, ...]:
        return self.broken


class FakeCentre:
    def __init__(self) -> None:
        self.reports: list[StatusReport] = []

    def report(self, report: StatusReport) -> ReportReply:
        self.reports.append(report)
        return ReportReply(events_seen=max((event.seq for event in report.events), default=0))

    def renew_if_due(self, now: datetime) -> bool:
        return False

    def certificate_not_after_ns(self) -> int:
        return 5


class FakeBlobs:
    def __init__(self) -> None:
        self.held: set[str] = set()
        self.fault: Exception | None = None

    def has(self, digest: str) -> bool:
        return digest in self.held

    def path(self, digest: str) -> Path:
        return Path(digest)

    def fetch(self, blob: Blob) -> Path:
        if self.fault is not None:
            raise self.fault
        self.held.add(blob.digest)
        return Path(blob.digest)

    def forget_except(self, digests: Collection[str]) -> None:
        self.held &= set(digests)


class FakeBus:
    def __init__(self) -> None:
        self.sockets: set[str] = set()
        self.voices: dict[str, Voice] = {}
        self.rejected: dict[str, int] = {}
        self.reasons: dict[str, str] = {}
        self.declared: dict[str, list[str]] = {}
        self.configured: list[tuple[str, int, int]] = []

        self.asked: list[tuple[str, Change]] = []
        self.verdict: Changed | Exception = Changed(release="", taken=True)

    async def change(self, instance: str, change: Change) -> Changed:
        self.asked.append((instance, change))
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def configure(self, instance: str, generation: int, revision: int) -> None:
        self.configured.append((instance, generation, revision))

    async def open(self, instance: str, run_folder: Path) -> None:
        self.sockets.add(instance)

    async def close(self, instance: str) -> None:
        self.sockets.discard(instance)

    def forget_voice(self, instance: str) -> None:
        pass

    def declare(self, instance: str, streams: Iterable[str]) -> None:
        self.declared[instance] = list(streams)

    def voice(self, instance: str) -> Voice:
        return self.voices.get(instance, Voice())

    def opened(self) -> frozenset[str]:
        return frozenset(self.sockets)

    def connected(self) -> Iterable[tuple[str, str]]:
        return []


class Direct:
    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer

    async def call(self, run: Callable[[Buffer], Any]) -> Any:
        return run(self.buffer)


class World:
    def __init__(self, folder: Path, control: ControlNode = NO_CONTROL) -> None:
        self.folder = folder
        self.control = control
        self.now_ns, self.wall_ns = 0, 1
        self.changes = Changes()
        self.runtime = FakeRuntime()
        self.trust, self.centre, self.blobs, self.bus = FakeTrust(), FakeCentre(), FakeBlobs(), FakeBus()
        self.buffer = Buffer(folder, 1 << 20)
        self.loop = self.restart()

    def restart(self) -> Loop:
        held = Direct(self.buffer)

        async def in_thread(run: Callable[..., Any], *arguments: Any) -> Any:
            return run(*arguments)

        async def ingest(request: IngestRequest) -> IngestReply:
            raise UnreachableError("no line")

        executor = Executor(
            self.runtime, self.blobs, self.bus, run_root=self.folder / "run", node="edge", hosts={}, in_thread=in_thread
        )
        parts: Any = {
            "runtime": self.runtime,
            "trust": self.trust,
            "centre": self.centre,
            "blobs": self.blobs,
            "committer": held,
            "bus": self.bus,
            "uplink": Uplink(held, ingest),
            "executor": executor,
            "events": EventLog(self.folder),
            "ledger": Ledger(self.folder),
            "in_thread": in_thread,
            "holding": Holding(HoldBook(self.folder, self.changes)),
        }
        return Loop(
            Parts(**parts),
            node="edge",
            version="0",
            timing=Timing(),
            control=self.control,
            wall_ns=lambda: self.wall_ns,
            monotonic_ns=lambda: self.now_ns,
        )

    async def settle(self) -> None:
        for _ in range(20):
            if not await self.loop.round():
                return
        raise AssertionError("did not settle")

    async def kinds(self) -> list[str]:
        return [event.kind for event in (await self.loop.report()).events]
