"""What the loop works with: the collaborators behind their protocols, its timing, and its memory between two rounds.

``cli`` builds the real ones, tests build others. Holds values only; it decides and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from agent.busserver import BusServer
from agent.committer import Committer
from agent.events import EventLog
from agent.execute import Blobs, Executor, InThread
from agent.holding import Holding
from agent.inquiries import Inquiries
from agent.kept import Kept
from agent.ledger import Ledger
from agent.runtimes.base import Attempts, Observed, Runtime, Wanted
from agent.uplink import Uplink
from manifests.messages import BufferStatus, InstanceStatus, ReportReply, StatusReport, TrustStatus
from manifests.model import Artifact, DesiredState
from manifests.policy import BrokenHold


class Trust(Protocol):
    """``verify.TrustStore`` bound to the client; blocking."""

    def refresh(self, now: datetime, wait_s: float) -> DesiredState: ...

    def activate(self, candidate: DesiredState) -> None: ...

    def last_good(self, now: datetime) -> DesiredState | None: ...

    def remember(self, adopted: DesiredState) -> None: ...

    def status(self) -> TrustStatus: ...

    def broken_holds(self) -> Sequence[BrokenHold]: ...


class Centre(Protocol):
    """The calls of ``client.OrchestratorClient`` that the loop makes itself; blocking."""

    def report(self, report: StatusReport) -> ReportReply: ...

    def renew_if_due(self, now: datetime) -> bool: ...

    def certificate_not_after_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: between two rounds when nothing happens, of a long poll, between two reports."""

    poll_s: float = 2.0
    sync_wait_s: float = 60.0
    report_s: float = 30.0


@dataclass(slots=True)
class Parts:
    """The collaborators, built by ``cli``."""

    runtime: Runtime
    trust: Trust
    centre: Centre
    blobs: Blobs
    committer: Committer
    bus: BusServer
    uplink: Uplink
    executor: Executor
    events: EventLog
    ledger: Ledger
    in_thread: InThread
    sealing_key: str = ""  # what secrets for this node are sealed with
    inquiries: Inquiries | None = None  # None: nobody may ask
    holding: Holding = field(default_factory=Holding)
    kept: Kept | None = None  # None: what instances keep is not measured


@dataclass(slots=True)
class Memory:
    """What the loop knows between two rounds."""

    desired: DesiredState | None = None
    wanted: tuple[Wanted, ...] | None = None
    observed: Observed = field(default_factory=Observed)
    attempts: dict[str, Attempts] = field(default_factory=dict)
    statuses: dict[str, InstanceStatus] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    unplaceable: dict[str, str] = field(default_factory=dict)  # instance -> what this node cannot honour
    unconfigured: dict[str, str] = field(default_factory=dict)  # instance -> why it has not its new parameters
    engine_fault: str = ""
    adoption_fault: str = ""
    renewal_fault: str = ""
    restage: bool = False  # what runs is not what the signed files on disk say: the next verified state is activated
    buffer: BufferStatus = field(default_factory=BufferStatus)
    kept: Mapping[str, int] = field(default_factory=dict)  # bytes on disk by instance

    def artifacts(self) -> list[Artifact]:
        """Of the instances wanted here."""
        return [instance.artifact for instance in self.wanted or () if instance.artifact is not None]
