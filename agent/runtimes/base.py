"""What an agent asks of whatever runs its workloads, and what it sees there.

The loop calls ``observe``, the executor the rest; both from worker threads, so every method blocks until done. A
runtime performs and reports; it decides nothing, and it never stops or restarts an instance that it was not told to.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from manifests.configuration import without_live
from manifests.model import Artifact, PlacedInstance, SealedSecret, SiteFacts, WorkloadRelease


class Phase(enum.Enum):
    """What the runtime says of one instance; ``RESTARTING``: the engine itself is between two tries; ``STARTING``: it
    brings the first life up, and nothing is wrong so far."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class ObservedInstance:
    """One instance as found, running or not; times in ns since the epoch, 0 = unknown.

    ``core``: the processor it was given, of class control only. ``note``: what it could not be given, in words.
    ``reason``: one word for why it does not run, where the engine has one. ``drift``: how somebody else changed what
    the engine was told of it, in words; starting it again puts that right. ``denied``: packets that its conduits did
    not let through since the agent began, and the last of them, in words.
    """

    name: str
    phase: Phase
    runtime_id: str
    release_digest: str
    config_digest: str
    workload: str = ""
    version: str = ""
    generation: int = 0
    started_ns: int = 0
    exit_code: int | None = None
    restarts: int = 0
    detail: str = ""
    core: int | None = None
    note: str = ""
    reason: str = ""
    drift: str = ""
    denied: int = 0
    denied_last: str = ""


@dataclass(frozen=True, slots=True)
class Attempts:
    """Failures in a row of one instance, and the life of it that was seen last; times on the monotonic clock.

    ``ended``: the end of ``life`` is already counted.
    """

    failures: int = 0
    last_ns: int = 0
    reason: str = ""
    detail: str = ""
    life: str = ""
    life_ns: int = 0
    restarts: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a plan looks at. ``prepared`` holds root digests of artifacts the runtime can start at once.

    ``segments`` are the networks that exist; None: this runtime has no networks of its own. ``told`` is the digest of
    what lies in each instance's context file (``told_digest``), ``frames`` what that says of ``frame_digest``: the loop
    adds them, no runtime knows them.
    """

    instances: Mapping[str, ObservedInstance] = field(default_factory=dict)
    prepared: frozenset[str] = frozenset()
    segments: frozenset[str] | None = frozenset()
    attempts: Mapping[str, Attempts] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    frames: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One instance this node must run. ``artifact`` is None when the release has none for this platform.

    ``config_digest`` covers what a change of needs a new start for; ``told_digest`` the live parameters as well.
    ``core``: the processor the plan gave it, of class control only.
    """

    name: str
    release: WorkloadRelease
    release_digest: str
    config_digest: str
    facts: SiteFacts
    config: Mapping[str, object]
    artifact: Artifact | None
    segments: tuple[str, ...]
    told_digest: str = ""
    core: int | None = None
    secrets: tuple[SealedSecret, ...] = ()

    @property
    def root(self) -> str:
        return self.artifact.root.digest if self.artifact else ""


def config_digest(facts: SiteFacts, config: Mapping[str, object], secrets: Mapping[str, int] | None = None) -> str:
    """Digest of all that an instance is told about itself, except the generation: a new one must not restart it."""
    return told_digest(facts.enterprise, facts.time_zone, config, secrets)


def told_digest(
    enterprise: str, time_zone: str, config: Mapping[str, object], secrets: Mapping[str, int] | None = None
) -> str:
    """``secrets``: the version of each. Without any the digest is what it was before there were secrets."""
    told: dict[str, object] = {"enterprise": enterprise, "timeZone": time_zone, "config": config}
    if secrets:
        told["secrets"] = dict(secrets)
    canonical = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def frame_digest(release: WorkloadRelease, segments: Collection[str]) -> str:
    """Digest of what a release asks of whatever runs it, which only a new start changes: its limits, its way to
    others, its processor."""
    control = release.control
    asked = {
        "name": release.name,
        "segments": sorted(segments),
        "resources": msgspec.to_builtins(release.resources),
        "conduits": msgspec.to_builtins(release.conduits),
        "provides": msgspec.to_builtins(release.provides),
        "control": [control.core, control.priority] if control else None,
    }
    return "sha256:" + hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()


def wanted(facts: SiteFacts, placed: PlacedInstance, platform: str) -> Wanted:
    """What ``platform`` must run for one placed instance."""
    release = placed.release
    artifact = next((found for found in release.artifacts if found.platform == platform), None)
    secrets = placed.instance.secrets
    # Only the first secret and the last need a new start: a folder appears, or goes.
    some = {"": 1} if secrets else None
    segments = sorted({c.segment for c in release.conduits} | {s.segment for s in release.provides})
    return Wanted(
        name=placed.instance.name,
        release=release,
        release_digest=placed.release_digest,
        config_digest=config_digest(facts, without_live(placed.instance.config, release.config_schema), some),
        told_digest=config_digest(facts, placed.instance.config, {one.name: one.version for one in secrets}),
        facts=facts,
        config=placed.instance.config,
        artifact=artifact,
        segments=tuple(segments),
        secrets=secrets,
    )


@dataclass(frozen=True, slots=True)
class Folders:
    """As an instance sees them: ``shared`` in memory (class control), ``kept`` on disk, ``secrets`` in memory and
    read-only, ``pair`` in memory and seen by both instances of a pair. Empty: it has none."""

    shared: str = ""
    kept: str = ""
    pair: str = ""
    secrets: str = ""


class Runtime(Protocol):
    """A machine that runs instances of one site's node. All methods raise MachineError, saying what it refused, or
    UnreachableError where what manages the workloads is elsewhere and does not answer: they run on meanwhile."""

    @property
    def description(self) -> str:
        """For the status report: ``docker 20.10.24`` or ``process``."""
        ...

    @property
    def platform(self) -> str:
        """Which artifacts it takes: ``linux/amd64`` or ``process``."""
        ...

    def observe(self, artifacts: Collection[Artifact]) -> Observed:
        """All instances of this node, and which of ``artifacts`` need no ``pull``. Leaves ``attempts`` empty."""
        ...

    def pull(self, artifact: Artifact, blob_path: Callable[[str], Path]) -> None:
        """Make an artifact startable from blobs that lie on disk, verified. Harmless when it already is."""
        ...

    def connect(self, segment: str) -> None:
        """Make sure the network of a segment exists."""
        ...

    def folders(self, instance: Wanted, run_folder: Path) -> Folders:
        """Where an instance of class control, or one whose release keeps, will find its folders; makes nothing."""
        ...

    def start(self, instance: Wanted, run_folder: Path) -> str:
        """Run an instance; the identity of the new life. An exited one of the same digests may be started again, and
        so may a running one that drifted: then only what somebody changed ends."""
        ...

    def unpack_program(self, instance: Wanted, blob_path: Callable[[str], Path], folder: Path) -> None:
        """The program of a prepared release into ``folder``, which does not exist yet. MachineError when the instance
        runs with something else of another release, or this runtime cannot tell."""
        ...

    def stop(self, name: str, grace_s: float = 10.0) -> None:
        """Ask to end, then kill after ``grace_s``. Harmless when it does not run."""
        ...

    def remove(self, name: str) -> None:
        """Forget a stopped instance. Harmless when unknown."""
        ...

    def logs(self, name: str, lines: int = 50) -> Sequence[str]:
        """The last lines it wrote, oldest first; empty when unknown. Raises UnreachableError."""
        ...

    def forget_except(self, roots: Collection[str], segments: Collection[str]) -> None:
        """Drop prepared artifacts and networks that nothing needs any more."""
        ...
