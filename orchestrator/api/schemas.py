"""Shapes of the operator API (``/api/v1``): what the console, the CLI and everybody else reads and writes.

JSON keys are camelCase. Times are RFC 3339 strings in UTC unless a name ends in ``Ms`` (milliseconds since the Unix
epoch, for charts). States are the two words of ``manifests.messages.State`` plus ``reason``; every state says since
when and why.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Shape(BaseModel):
    """Base: camelCase in JSON, unknown keys refused, immutable."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


# ---------------------------------------------------------------- errors


class ProblemItem(Shape):
    """One mistake in a document that was sent."""

    where: str
    path: str
    what: str
    hint: str = ""


class ProblemDetails(BaseModel):
    """RFC 9457 problem document; every error answer has this shape."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    remedy: str = ""
    errors: list[ProblemItem] = []


# ---------------------------------------------------------------- states shared by views


class StateView(Shape):
    """``Running (Ok)``: ``state`` is the first word, ``reason`` the second, ``detail`` a sentence."""

    state: str
    reason: str
    since: datetime
    detail: str = ""


class LinkState(StrEnum):
    ONLINE = "online"  # heard of within three report periods
    OFFLINE = "offline"  # enrolled, but silent
    NEVER = "never"  # not enrolled yet


class LinkView(Shape):
    state: LinkState
    last_seen: datetime | None = None
    since: datetime | None = None


class BufferView(Shape):
    """What waits at the site to be sent; ``oldest`` is the time of its oldest sample."""

    bytes: int
    cap_bytes: int
    samples: int
    oldest: datetime | None = None
    dropped_samples: int = 0


class RefusalView(Shape):
    """The agent refused the last instructions it was sent; ``kind`` is a stable word."""

    kind: str
    detail: str
    at: datetime


# ---------------------------------------------------------------- sites


class HoldView(Shape):
    """A reason why a node of the site takes no new generation now. ``kind``: local, schedule or interlock; ``until``
    null: nobody knows. ``broken``: generations that OT and IT together let in all the same."""

    id: str
    node: str
    kind: str
    who: str
    why: str
    since: datetime
    until: datetime | None
    broken: list[int]


class SiteSummary(Shape):
    """A row (or cell) of the fleet overview; ``health`` is the worst state below it."""

    name: str
    labels: dict[str, str]
    time_zone: str
    description: str
    health: StateView
    link: LinkView
    buffer: BufferView | None
    generation: int | None  # what the site runs (adopted); None before its first report
    assigned_generation: int | None  # what it was told to run
    nodes: int
    instances: int
    instances_ok: int
    tags: int
    good_tags: int
    refusal: RefusalView | None = None
    holds: list[HoldView] = []  # the site says "not now"


class DeviceView(Shape):
    name: str
    status: StateView


class StreamView(Shape):
    """A stream as the centre holds it, with what its producer says the agent has acknowledged."""

    stream: str  # "<instance>/<name>"
    incarnation: str
    mark: int
    samples: int
    chain: str  # as manifests.messages.StreamStatus.acked_chain, over what the centre stored up to ``mark``
    gaps: int
    lost_samples: int
    first_at: datetime | None
    last_at: datetime | None
    live: bool  # the incarnation that produces now
    acked_seq: int | None = None
    acked_samples: int | None = None
    acked_chain: str | None = None


class InstanceView(Shape):
    name: str
    node: str
    workload: str
    workload_class: str
    version: str
    release_digest: str
    generation: int
    status: StateView
    runtime_id: str
    started_at: datetime | None
    restarts: int
    devices: list[DeviceView]
    streams: list[StreamView]
    measures: dict[str, float] = {}  # what the workload measures of itself


class NodeView(Shape):
    name: str
    enrolled: bool
    agent_version: str | None
    platform: str | None
    runtime: str | None
    link: LinkView
    buffer: BufferView | None
    waiting: list[str]
    refusal: RefusalView | None
    certificate_not_after: datetime | None


class SiteView(Shape):
    summary: SiteSummary
    enterprise: str
    nodes: list[NodeView]
    instances: list[InstanceView]


class EnrolTokenRequest(Shape):
    node: str | None = None
    valid_hours: Annotated[float, Field(gt=0, le=24 * 7)] = 24.0


class EnrolTokenView(Shape):
    """Shown once; only its hash is kept."""

    site: str
    node: str
    token: str
    expires_at: datetime
    command: str  # ready to paste on the node


class EventView(Shape):
    id: int
    at: datetime
    site: str | None
    node: str | None
    severity: str  # info | warning | error | security
    kind: str
    subject: str
    text: str
    actor: str | None = None  # who, for acts of people


# ---------------------------------------------------------------- live parameters, inquiries


class ParameterView(Shape):
    """``value`` is what the instance is told; ``fleet_value`` what the applied fleet says. ``set_*`` are null while no
    operator has set it. ``property_schema``: the signed JSON Schema of the value, with its range."""

    name: str
    value: Any
    fleet_value: Any
    limits: str
    description: str
    unit: str
    property_schema: dict[str, Any]
    set_at: datetime | None = None
    set_by: str | None = None
    why: str | None = None


class ParametersView(Shape):
    """``adopted``: the node runs exactly this revision of this generation."""

    site: str
    instance: str
    workload: str
    version: str
    generation: int
    revision: int
    adopted: bool
    parameters: list[ParameterView]


class ParametersRequest(Shape):
    """All of it or nothing. ``clear``: back to what the fleet says."""

    values: dict[str, Any] = {}
    clear: list[str] = []
    why: Annotated[str, Field(min_length=1, max_length=1000)]


class InquiryRequest(Shape):
    """``kind`` and ``arguments`` are the workload's own words; it only reads for them."""

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    arguments: dict[str, Any] = {}
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0


class AnswerView(Shape):
    """``value`` for JSON, ``text`` for text of any kind, ``base64`` for anything else, as ``media`` says."""

    id: str
    site: str
    instance: str
    kind: str
    at: datetime
    media: str
    value: Any = None
    text: str | None = None
    base64: str | None = None


class InquiryEnd(Shape):
    """SSE event ``end``, the last one. ``reason``: final, refused, timeout, unreachable, or ended (the session);
    ``dropped`` answers came faster than they were read."""

    id: str
    reason: str
    detail: str = ""
    dropped: int = 0


# ---------------------------------------------------------------- values


class ValueView(Shape):
    """The last value of a tag. ``value`` is null when bad or text; ``text`` holds strings."""

    topic: str
    name: str
    value: float | None
    text: str | None = None
    type: str  # float | int | bool | string
    unit: str
    quality: str  # good | uncertain | bad
    quality_code: int
    at: datetime
    received_at: datetime
    instance: str
    description: str = ""
    low: float | None = None
    high: float | None = None


class SeriesView(Shape):
    """One tag between two times. Raw when it has at most ``points`` samples, else buckets with first, min, max and last
    kept. Columns of equal length; null where a bucket holds no good value, so that gaps are drawn as gaps."""

    site: str
    topic: str
    unit: str
    type: str
    downsampled: bool
    samples: int
    t_ms: list[float]
    value: list[float | None]  # last in bucket
    min: list[float | None]
    max: list[float | None]
    quality: list[int]  # worst in bucket
    text: list[str | None] | None = None


class SparklineView(Shape):
    topic: str
    t_ms: list[float]
    value: list[float | None]


# ---------------------------------------------------------------- fleet, releases


class DocumentsRequest(Shape):
    """Documents as JSON (``Fleet`` and ``Assignment``), each with the file it came from, for error messages."""

    documents: list[dict[str, Any]]
    sources: list[str] = []
    reason: Annotated[str, Field(max_length=1000)] = ""


class ChangeAction(StrEnum):
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    CONFIGURE = "configure"  # live parameters only: it goes on running
    KEEP = "keep"


class ChangeView(Shape):
    site: str
    node: str
    instance: str
    workload: str
    workload_class: str
    action: ChangeAction
    version_from: str | None
    version_to: str | None
    because: list[str]  # "version 1.0.0 -> 1.1.0", "config.groups[0].intervalMs 1000 -> 500"


class FleetDiffView(Shape):
    """What applying would change, compared with the last applied generation; nothing happens before a rollout."""

    generation: int  # the one compared with; 0 = none yet
    changes: list[ChangeView]
    sites_added: list[str]
    sites_removed: list[str]


class FleetView(Shape):
    generation: int
    applied_at: datetime | None
    applied_by: str | None
    reason: str
    enterprise: str | None
    documents: list[dict[str, Any]]


class ApplyView(Shape):
    generation: int
    diff: FleetDiffView


class ReleaseView(Shape):
    name: str
    version: str
    workload_class: str
    path: str
    digest: str
    description: str
    platforms: list[str]
    size_bytes: int
    published_at: datetime
    running_on: int  # sites that run it now


class CatalogUpload(Shape):
    """Public catalog metadata files by name, base64. Refused as a whole unless it verifies against the known root and
    every release it lists, with all its blobs, has been uploaded."""

    files: dict[str, str]


class CatalogView(Shape):
    files: dict[str, str]
    releases: list[ReleaseView]


# ---------------------------------------------------------------- rollouts


class RolloutRequest(Shape):
    """``policy``: a Rollout document as JSON; None = one wave with everything. ``generation``: None = the newest."""

    policy: dict[str, Any] | None = None
    generation: int | None = None
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class ActRequest(Shape):
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class Side(StrEnum):
    """Whom an approval speaks for."""

    OT = "ot"
    IT = "it"


class ApproveRequest(Shape):
    side: Side
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class RolloutApprovalView(Shape):
    """``content``: digest of what was approved."""

    side: Side
    who: str
    at: datetime
    reason: str
    content: str


class SiteProgress(Shape):
    """State of one site within a rollout: Pending, Waiting, Moving, Soaking, Passed, Failed, Offline, each with its
    reason. Waiting (Held): the site says not now; no time counts until it lets go."""

    site: str
    status: StateView


class WaveView(Shape):
    name: str
    status: StateView  # Pending | Running | Passed | Failed
    sites: list[SiteProgress]
    passed: int
    failed: int
    offline: int
    held: int = 0
    soak_s: float
    deadline: datetime | None


class RolloutView(Shape):
    id: int
    generation: int
    status: StateView  # Waiting | Running | Paused | Done | Aborted; reason and detail say why it waits
    started_at: datetime
    started_by: str
    ended_at: datetime | None
    reason: str
    waves: list[WaveView]
    sites_total: int
    sites_passed: int
    changes: list[ChangeView]
    approvals: list[RolloutApprovalView] = []  # those that count
    lacking: list[Side] = []  # whose approval it waits for


class RolloutPreview(Shape):
    """What moving every site of the fleet to a generation would change, against what each was told to run."""

    generation: int  # 0 = no fleet has been applied
    applied_at: datetime | None
    applied_by: str | None
    reason: str
    changes: list[ChangeView]  # without those that keep running
    approvals_needed: list[Side] = []  # whose approval such a rollout would wait for
    behind: list[str]  # sites that would be told something new
    ahead: list[str]  # sites that were told something newer, for which such a rollout is refused


# ---------------------------------------------------------------- audit


class AuditEntryView(Shape):
    """``entry`` is the exact text that is hashed; the other fields are what it says. ``reported``: a site said so."""

    number: int
    at: datetime
    kind: str
    actor: str | None
    site: str | None
    node: str | None
    subject: str
    text: str
    reported: bool
    entry: str


class AuditHeadView(Shape):
    """The Merkle tree's head (RFC 9162) over the first ``size`` entries; ``root`` in hex."""

    size: int
    root: str


class AuditProofView(Shape):
    """Hashes of the proof, in hex, from the leaves up."""

    hashes: list[str]


# ---------------------------------------------------------------- live


class LiveValues(Shape):
    """SSE event ``values``: what changed at a site since the last one."""

    site: str
    values: list[ValueView]


class AboutView(Shape):
    version: str
    enterprise: str | None
    started_at: datetime
    agent_url: str
