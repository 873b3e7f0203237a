"""The documents people write, as frozen types: Fleet, Workload, Assignment, Rollout; and what is signed of them.

YAML is Kubernetes-shaped (``apiVersion: sluice/v1``, ``kind``, ``metadata``, ``spec``) with camelCase keys; here the
same fields are snake_case. ``manifests.load`` reads them and reports every mistake at once; this module only says what
a correct document is, and has no effects.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

API_VERSION = "sluice/v1"

# DNS label: names become container, network and topic names, so the narrowest of the three rules.
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Name = Annotated[
    str, Meta(pattern=NAME_PATTERN, description="lower-case letters, digits and '-', at most 63 characters")
]
# One level of a Unified Namespace topic: MQTT forbids '+', '#' and NUL in names, '/' separates levels.
TopicLevel = Annotated[
    str, Meta(pattern=r"^[^/+#\x00-\x1f]{1,128}$", description="one level of a topic: no '/', '+' or '#'")
]
Version = Annotated[
    str,
    Meta(
        pattern=r"^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z.-]{1,64})?$",
        description="semantic version such as 1.4.2",
    ),
]
Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$", description="sha256:<64 lower-case hex digits>")]
LabelValue = Annotated[str, Meta(max_length=253)]
Labels = Mapping[str, LabelValue]
Percent = Annotated[float, Meta(ge=0, le=100)]


class Document(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """Base of all that people write: unknown keys are mistakes."""


class Metadata(Document, frozen=True):
    """Name and labels of a document."""

    name: Name
    labels: Labels = {}
    description: str = ""


# ---------------------------------------------------------------- Fleet


class Segment(Document, frozen=True):
    """A network zone of a site (IEC 62443 zone), by name; the node decides what real network it is."""

    name: Name
    description: str = ""


class Node(Document, frozen=True):
    """A machine at a site that runs an agent."""

    name: Name
    labels: Labels = {}
    segments: tuple[Name, ...] = ("ot", "site")


class Site(Document, frozen=True):
    """One plant location: one trust identity."""

    name: Name
    nodes: Annotated[tuple[Node, ...], Meta(min_length=1)]
    labels: Labels = {}
    time_zone: str = "UTC"
    description: str = ""
    vars: Mapping[str, Any] = {}


class FleetSpec(Document, frozen=True):
    """All sites under one orchestrator. ``vars`` are defaults that a site's own ``vars`` override."""

    enterprise: TopicLevel
    sites: tuple[Site, ...]
    vars: Mapping[str, Any] = {}


class Fleet(Document, frozen=True, tag_field="kind", tag="Fleet"):
    api_version: Literal["sluice/v1"]
    metadata: Metadata
    spec: FleetSpec


# ---------------------------------------------------------------- Workload


class WorkloadClass(enum.Enum):
    """What a workload may do; the class also caps its privileges."""

    TRANSLATOR = "translator"
    ANALYTICS = "analytics"
    CONTROL = "control"
    SYSTEM = "system"


class ImageSource(Document, frozen=True):
    """Where ``release build`` takes an image from: an engine's image, or Python packages for the process runtime."""

    platform: Annotated[
        str,
        Meta(
            pattern=r"^(linux/(amd64|arm64|arm/v7|riscv64)|process)$",
            description="linux/amd64, linux/arm64, linux/arm/v7, linux/riscv64 or process",
        ),
    ]
    engine: str | None = None
    packages: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


class Resources(Document, frozen=True):
    """Hard limits; every workload has them (IEC 62443-4-2 CR 7.2)."""

    memory_mb: Annotated[int, Meta(ge=8, le=65536)] = 128
    cpus: Annotated[float, Meta(gt=0, le=64)] = 0.5
    pids: Annotated[int, Meta(ge=2, le=4096)] = 64
    scratch_mb: Annotated[int, Meta(ge=1, le=4096)] = 16


Port = Annotated[int, Meta(ge=1, le=65535)]


class Conduit(Document, frozen=True):
    """An outbound path a workload needs (IEC 62443 conduit): a segment it is attached to, and what it calls there.

    The hosts are those its configuration names. Without ports it is attached and calls nothing. ``inspect``:
    ``modbus-read`` lets only requests of Modbus TCP that read (functions 1 to 4) pass.
    """

    segment: Name
    purpose: str = ""
    protocol: Literal["tcp", "udp"] = "tcp"
    ports: tuple[Port, ...] = ()
    inspect: Literal["modbus-read"] | None = None


class Service(Document, frozen=True):
    """What a workload offers to its neighbours inside a segment, under its instance name."""

    name: Name
    segment: Name
    port: Port


class Health(Document, frozen=True):
    """When an instance counts as healthy: heartbeats over the local bus, after a grace at start."""

    startup_grace_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    heartbeat_timeout_s: Annotated[float, Meta(ge=1, le=3600)] = 15.0
    # A workload without the kit (a broker) has no heartbeat: running is all that can be seen.
    heartbeat: bool = True


class DataStream(Document, frozen=True):
    """A stream the workload promises to deliver; the rollout gate watches it."""

    name: Name
    max_silence_s: Annotated[float, Meta(gt=0, le=86400)] = 60.0
    min_good_percent: Percent = 50.0
    description: str = ""


class Control(Document, frozen=True):
    """What a workload of class control needs of its node, and the limits it is measured by.

    ``core`` is a processor number, or any of those the node offers. ``jitter_p999_us``: the budget that the 99.9th
    percentile of the wake-up latency must keep. ``max_stop_ms``: how long its outputs may stand while it is replaced.
    ``online_change``: its program takes over from the one that runs between two scans, or not at all.
    """

    period_ms: Annotated[float, Meta(ge=0.1, le=60_000)]
    jitter_p999_us: Annotated[float, Meta(gt=0, le=10_000_000)]
    watchdog_ms: Annotated[float, Meta(gt=0, le=600_000)]
    max_stop_ms: Annotated[float, Meta(gt=0, le=3_600_000)]
    priority: Annotated[int, Meta(ge=1, le=98)] = 50  # SCHED_FIFO; 99 is the kernel's own
    core: Annotated[int, Meta(ge=0, le=1023)] | Literal["any"] = "any"
    online_change: bool = False


class WriteGrant(Document, frozen=True):
    """What a workload may write in the plant; whatever no grant names it may only read.

    ``target`` is the device as configurations name it. ``points`` are named as the protocol's driver names them:
    exactly (``coil 4``), as a range (``coil 0-7``), by their beginning (``ns=2;s=Tank.*``), or all (``*``).
    """

    segment: Name
    protocol: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="such as modbus or opcua")]
    target: Annotated[str, Meta(min_length=1, max_length=253)]
    points: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(min_length=1)]

    def __str__(self) -> str:
        return f"{self.protocol} {self.target} ({self.segment}): {', '.join(self.points)}"


class WorkloadSpec(Document, frozen=True):
    """``control`` stands for class control and for no other (``manifests.load`` checks it).

    ``keeps``: its instances get a folder on disk that outlives restarts and releases; class control always does.
    ``returns_to``: the lowest version that a site may be set back to from this one; else what it ran before.
    ``sites``: where it may run; empty: anywhere. A program made for one plant names it.
    """

    version: Version
    workload_class: WorkloadClass = msgspec.field(name="class")
    images: Annotated[tuple[ImageSource, ...], Meta(min_length=1)]
    description: str = ""
    config_schema: Mapping[str, Any] = {}
    resources: Resources = Resources()
    conduits: tuple[Conduit, ...] = ()
    provides: tuple[Service, ...] = ()
    health: Health = Health()
    streams: tuple[DataStream, ...] = ()
    control: Control | None = None
    writes: tuple[WriteGrant, ...] = ()
    keeps: bool = False
    returns_to: Version | None = None
    sites: tuple[Name, ...] = ()


class Workload(Document, frozen=True, tag_field="kind", tag="Workload"):
    api_version: Literal["sluice/v1"]
    metadata: Metadata
    spec: WorkloadSpec


# ---------------------------------------------------------------- Assignment


class Expression(Document, frozen=True):
    """A Kubernetes-style label expression."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class Selector(Document, frozen=True):
    """Chooses sites; an empty selector chooses all. The parts are and-ed."""

    sites: tuple[Name, ...] = ()
    match_labels: Labels = {}
    match_expressions: tuple[Expression, ...] = ()


class AssignmentSpec(Document, frozen=True):
    """``config`` may use ``${enterprise}``, ``${site.name}``, ``${node.name}`` and ``${vars.x}``."""

    workload: Name
    version: Version
    selector: Selector = Selector()
    node: Name | None = None
    config: Mapping[str, Any] = {}


class Assignment(Document, frozen=True, tag_field="kind", tag="Assignment"):
    """Runs one workload release on the selected sites; its name is the instance's name there."""

    api_version: Literal["sluice/v1"]
    metadata: Metadata
    spec: AssignmentSpec


# ---------------------------------------------------------------- Rollout


class Wave(Document, frozen=True):
    """Sites moved together. Sites that no earlier wave chose and this selector matches belong to it."""

    name: Name
    selector: Selector = Selector()
    max_concurrent: Annotated[int, Meta(ge=1, le=100_000)] = 10


class Gate(Document, frozen=True):
    """A wave is passed when enough of its online sites were healthy for ``soak_s`` without a break."""

    soak_s: Annotated[float, Meta(ge=0, le=604_800)] = 30.0
    timeout_s: Annotated[float, Meta(ge=1, le=604_800)] = 900.0
    min_healthy_percent: Percent = 100.0


class RolloutSpec(Document, frozen=True):
    waves: tuple[Wave, ...] = (Wave(name="all"),)
    gate: Gate = Gate()
    on_failure: Literal["pause", "abort"] = "pause"


class Rollout(Document, frozen=True, tag_field="kind", tag="Rollout"):
    """How a fleet is moved to a new generation."""

    api_version: Literal["sluice/v1"]
    metadata: Metadata
    spec: RolloutSpec


AnyDocument = Fleet | Workload | Assignment | Rollout


# ---------------------------------------------------------------- What is signed


class Signed(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=False):
    """Base of what machines exchange: unknown keys of newer versions are ignored, never dropped from signed bytes."""


class Blob(Signed, frozen=True):
    """A content-addressed run of bytes; ``size`` in bytes."""

    digest: Digest
    size: Annotated[int, Meta(ge=0, le=8 * 2**30)]


OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
PROCESS_ARCHIVE: Final = "application/vnd.sluice.process.v1.tar+gzip"


class Artifact(Signed, frozen=True):
    """A runnable image for one platform.

    ``root`` is the OCI image manifest (container platforms) or the gzip tar of Python packages (``process``);
    ``blobs`` are all other bytes reachable from it (config and layers), so that a site can fetch and check everything
    before anything is handed to an engine. ``command`` is set for ``process`` only.
    """

    platform: str
    media_type: Literal["application/vnd.oci.image.manifest.v1+json", "application/vnd.sluice.process.v1.tar+gzip"]
    root: Blob
    blobs: tuple[Blob, ...] = ()
    command: tuple[str, ...] = ()


class BillOfMaterials(Signed, frozen=True):
    """What one artifact is made of (``manifests.sbom``): a CycloneDX document among the release's blobs."""

    platform: str
    blob: Blob
    components: Annotated[int, Meta(ge=0)]


class Provenance(Signed, frozen=True):
    """Where a release was built: the source's commit, and the versions of what built it. Said by the builder; the
    signature makes it the signer's word."""

    commit: str = ""
    changed: bool = False  # the source held changes that no commit has
    builders: Mapping[str, str] = {}


class WorkloadRelease(Signed, frozen=True):
    """What people sign: one immutable version of a workload. Its canonical JSON is the catalog target.

    The catalog path is ``<class>/<name>/<version>/release.json`` (``release_path``).
    """

    name: Name
    version: Version
    workload_class: WorkloadClass = msgspec.field(name="class")
    artifacts: tuple[Artifact, ...]
    description: str = ""
    config_schema: Mapping[str, Any] = {}
    resources: Resources = Resources()
    conduits: tuple[Conduit, ...] = ()
    provides: tuple[Service, ...] = ()
    health: Health = Health()
    streams: tuple[DataStream, ...] = ()
    control: Control | None = None
    writes: tuple[WriteGrant, ...] = ()
    keeps: bool = False
    returns_to: Version | None = None
    sites: tuple[Name, ...] = ()
    sboms: tuple[BillOfMaterials, ...] = ()
    provenance: Provenance | None = None
    format: Literal["sluice.release/1"] = "sluice.release/1"


def release_path(workload_class: WorkloadClass, name: str, version: str) -> str:
    """The target path of a workload release in the catalog; the class is a prefix so that signers can own a class."""
    return f"{workload_class.value}/{name}/{version}/release.json"


MAX_SEALED_CHARACTERS: Final = 32 << 10
MAX_SECRETS: Final = 32  # of one instance


class SealedSecret(Signed, frozen=True):
    """One secret as it travels (``manifests.secrets``): ``recipient`` is the fingerprint of the node's key, ``sealed``
    base64 of the HPKE encapsulated key and ciphertext. ``version`` grows with every new value."""

    name: Name
    version: Annotated[int, Meta(ge=1)]
    recipient: str
    sealed: Annotated[str, Meta(max_length=MAX_SEALED_CHARACTERS)]


class DesiredInstance(Signed, frozen=True):
    """One instance a site must run: carried in the director target's ``custom`` of the release it runs."""

    name: Name
    node: Name
    config: Mapping[str, Any] = {}
    secrets: Annotated[tuple[SealedSecret, ...], Meta(max_length=MAX_SECRETS)] = ()


class SiteFacts(Signed, frozen=True):
    """What a site must know of itself, signed in the director's targets (``x-sluice``).

    ``revision`` counts changes of live parameters within a generation. Instructions are ordered by (generation,
    revision) and never go backwards.
    """

    site: Name
    enterprise: str
    generation: Annotated[int, Meta(ge=0)]
    time_zone: str = "UTC"
    revision: Annotated[int, Meta(ge=0)] = 0

    @property
    def order(self) -> tuple[int, int]:
        return (self.generation, self.revision)


class PlacedInstance(Signed, frozen=True):
    """A desired instance with the release it runs, after both repositories agreed on it."""

    instance: DesiredInstance
    release: WorkloadRelease
    release_digest: Digest


class DesiredState(Signed, frozen=True):
    """What one site should run: verified, complete, and kept on disk as the last good state."""

    facts: SiteFacts
    instances: tuple[PlacedInstance, ...]


class RunContext(Signed, frozen=True):
    """What the agent tells an instance about itself: ``$SLUICE_RUN/context.json``, read-only for the workload.

    ``hosts`` maps names used in configurations to addresses where the runtime has no name service of its own (the
    process runtime: every neighbour is a loopback address). Beside it lies ``bus.sock`` (``manifests.bus``).

    A change of live parameters rewrites the file while the instance runs (``revision``). ``writes`` are the signed
    grants of the release. ``kept``: a writable folder on disk that outlives the instance's releases, of class control
    and of releases that say ``keeps``. Of class control only: ``control`` as signed; ``core``, the processor it was
    given; ``shared``, a folder in memory, writable, empty at each start; ``pair``, one that both instances of a hot
    standby pair see, when the configuration names one. ``secrets``: a folder in memory with one file
    per secret, replaced when its version in ``secret_versions`` changes.

    ``release`` is the digest of the release in force. ``program`` names a folder below ``programs`` beside the file:
    the program of that release, which took over online from what the instance came with; empty: that runs. ``frame``
    is a digest of what only a new start changes.
    """

    enterprise: str
    site: str
    node: str
    instance: str
    workload: str
    version: str
    generation: int
    time_zone: str = "UTC"
    config: Mapping[str, Any] = {}
    hosts: Mapping[str, str] = {}
    revision: int = 0
    writes: tuple[WriteGrant, ...] = ()
    control: Control | None = None
    core: int | None = None
    shared: str = ""
    kept: str = ""
    pair: str = ""
    secrets: str = ""
    secret_versions: Mapping[str, int] = {}
    release: str = ""
    program: str = ""
    frame: str = ""


RUN_VARIABLE = "SLUICE_RUN"
CONTEXT_NAME = "context.json"
PROGRAMS_NAME = "programs"  # the folder beside it
