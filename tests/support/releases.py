"""Releases and stores to try trust with: a small signed world without a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.client import BlobStream
from agent.identity import Identity
from agent.verify import TrustStore
from manifests import pki
from manifests.errors import UnreachableError
from manifests.messages import SyncReply, SyncRequest, encode
from manifests.model import PROCESS_ARCHIVE, Artifact, Blob, WorkloadClass, WorkloadRelease
from tests.support.orchestrator_fake import OrchestratorFake

SCHEMA = {
    "type": "object",
    "properties": {"period_s": {"type": "number", "minimum": 0.1, "maximum": 60}, "host": {"type": "string"}},
    "additionalProperties": False,
}


def a_release(
    name: str = "modbus",
    version: str = "1.0.0",
    workload_class: WorkloadClass = WorkloadClass.TRANSLATOR,
    **fields: Any,
) -> WorkloadRelease:
    artifact = Artifact(
        platform="process", media_type=PROCESS_ARCHIVE, root=Blob(digest="sha256:" + "a" * 64, size=3), command=("x",)
    )
    made: dict[str, Any] = {"artifacts": (artifact,), "config_schema": SCHEMA, **fields}
    return WorkloadRelease(name=name, version=version, workload_class=workload_class, **made)


class DirectSource:
    """The far side's answers without a line between: for tests of decisions, not of the network.

    ``reply`` replaces the next sync answers; ``down`` is a cut line.
    """

    def __init__(self, far: OrchestratorFake, site: str = "hamburg", node: str = "edge-1") -> None:
        self.far = far
        self.peer = pki.PeerIdentity(site, node, "1", datetime.now(UTC))
        self.reply: SyncReply | None = None
        self.down = False

    def sync(self, request: SyncRequest, deadline_s: float = 30.0) -> SyncReply:
        if self.down:
            raise UnreachableError("the line is cut")
        if self.reply is not None:
            return self.reply
        answer = self.far.answer("/sync", encode(request), self.peer)
        assert isinstance(answer, SyncReply)
        return answer

    @contextmanager
    def get_blob(self, digest: str, offset: int = 0, *, deadline_s: float = 60.0) -> Iterator[BlobStream]:
        if self.down or digest not in self.far.blobs:
            raise UnreachableError(f"no blob {digest}")
        yield BlobStream(offset, iter([self.far.blobs[digest][offset:]]))


class Plant:
    """One enrolled node of ``hamburg`` that accepted and activated generation 1, and its far side."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.now(UTC)
        self.far = OrchestratorFake(folder / "far", now=self.now)
        self.release = self.far.publish(a_release())
        self.assign(1)
        self.state = folder / "state"
        self.identity: Identity = self.far.identity(self.state)
        self.source = DirectSource(self.far)
        self.store = self.open()
        self.good = self.store.refresh(self.source, self.now)
        self.store.activate(self.good)

    def assign(self, generation: int, *, period_s: float = 1.0, **more: Any) -> dict[str, bytes]:
        placed = [self.far.placed("press", self.release, config={"period_s": period_s})]
        return self.far.assign("hamburg", placed, generation=generation, **more)

    def open(self) -> TrustStore:
        """As after a restart."""
        return TrustStore(self.state / "trust", self.identity)
