"""What agent, orchestrator and workloads say to each other.

Two lines use these types, both with MessagePack bodies (``encode``/``decode``):

* agent -> orchestrator, HTTPS with mutual TLS 1.3, always opened by the agent, under ``/agent/v1``:
  ``enrol`` (the only call without a certificate), ``renew``, ``sync``, ``report``, ``ingest``, ``inquiries`` and
  ``answers`` (all POST), and ``GET blobs/sha256/<hex>`` with Range.
* workload -> agent, a Unix socket per instance (``manifests.bus`` frames them): ``Hello``, ``Publish``, ``Heartbeat``,
  ``Answer``, ``Changed`` up; ``Welcome``, ``Ack``, ``Refused``, ``Configure``, ``Inquire``, ``Enough``, ``Change``
  down.

Times are integers, nanoseconds since the Unix epoch, UTC, in fields that end in ``_ns``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from manifests.errors import DocumentError, Problem

AGENT_API = "/agent/v1"
MEDIA_TYPE = "application/msgpack"

# Bounds on everything read from outside, bytes.
MAX_BLOCK_BYTES = 1 << 20
MAX_INGEST_BYTES = 4 << 20
MAX_REPORT_BYTES = 1 << 20
MAX_SYNC_BYTES = 16 << 20
MAX_ENROL_BYTES = 64 << 10
MAX_INQUIRY_BYTES = 64 << 10
MAX_ANSWER_BYTES = 1 << 20
MAX_ANSWERS_BYTES = 4 << 20  # one request of an agent
MAX_MEASURES = 32  # per instance


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base: unknown fields of newer versions are ignored."""


# ---------------------------------------------------------------- store-and-forward


class FrameKind(enum.IntEnum):
    DESCRIPTOR = 1  # manifests.descriptor: what the tag numbers of later blocks mean; never dropped
    SAMPLES = 2  # a block (manifests.block)
    GAP = 3  # sequence numbers ``seq..last_seq`` were dropped; ``count`` samples with them


class Frame(Message, frozen=True):
    """One numbered element of a stream, opaque to the agent.

    (site, stream, incarnation, seq) names it for ever: the workload numbers frames of one incarnation (one process
    life of the producer) from 1 without holes; whoever must drop some replaces them by a GAP that says how many.
    """

    stream: Annotated[str, Meta(max_length=200)]  # "<instance>/<stream name>"
    incarnation: Annotated[str, Meta(max_length=64)]
    seq: Annotated[int, Meta(ge=1)]
    kind: FrameKind
    count: Annotated[int, Meta(ge=0)] = 0
    first_ns: int = 0
    last_ns: int = 0
    last_seq: int = 0  # GAP only: the last number it covers
    reason: str = ""  # GAP only
    payload: Annotated[bytes, Meta(max_length=MAX_BLOCK_BYTES)] = b""

    @property
    def end(self) -> int:
        """The last sequence number this frame accounts for."""
        return self.last_seq if self.kind is FrameKind.GAP else self.seq


class TagType(enum.Enum):
    FLOAT = "float"
    INT = "int"
    BOOL = "bool"
    STRING = "string"


class Tag(Message, frozen=True):
    """A named process value. ``topic`` is its Unified Namespace path, ``id`` its number inside this stream."""

    id: Annotated[int, Meta(ge=0, lt=2**32)]
    topic: Annotated[str, Meta(max_length=1024)]
    type: TagType
    unit: str = ""
    description: str = ""
    source: str = ""  # the address in the device: "holding 12 float32 CDAB", "ns=2;s=Press.Force"
    low: float | None = None  # normal band, in unit
    high: float | None = None


class Descriptor(Message, frozen=True):
    """The first frame of every incarnation, and again whenever the tags change."""

    tags: tuple[Tag, ...]


class StreamMark(Message, frozen=True):
    """The contiguous high-water mark: everything up to and including ``seq`` is safe."""

    stream: str
    incarnation: str
    seq: int


class IngestRequest(Message, frozen=True):
    """At most 64 frames or 1 MB of payload, in order per (stream, incarnation)."""

    frames: tuple[Frame, ...]


class IngestReply(Message, frozen=True):
    """Marks of every (stream, incarnation) of the request. A frame beyond mark + 1 was not taken: send from there."""

    marks: tuple[StreamMark, ...]


# ---------------------------------------------------------------- states


class State(enum.Enum):
    """First word of the two-word state; the second, ``reason``, says why (``Running (Ok)``, ``Failed (ImagePull)``)."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    WAITING = "Waiting"
    STOPPING = "Stopping"
    FAILED = "Failed"
    REMOVED = "Removed"


class DeviceStatus(Message, frozen=True):
    """A device a workload talks to: state RUNNING (Ok) or FAILED (Unreachable, ...), with since and detail."""

    name: str
    state: State
    reason: str
    since_ns: int
    detail: str = ""


class StreamStatus(Message, frozen=True):
    """How a declared stream delivers, said by the producer.

    ``acked_*`` cover what the agent has acknowledged in this incarnation: frames up to ``acked_seq``, samples in them,
    and ``acked_chain``, SHA-256 chained over the acknowledged payloads of SAMPLES frames in order
    (``chain = sha256(chain + sha256(payload))``, starting from 32 zero bytes), hex: a proof of exactly once, in order.
    """

    name: str
    incarnation: str = ""
    acked_seq: int = 0
    acked_samples: int = 0
    acked_chain: str = ""
    dropped_samples: int = 0
    last_ns: int = 0
    tags: int = 0
    good_tags: int = 0


class InstanceStatus(Message, frozen=True):
    name: str
    state: State
    reason: str
    since_ns: int
    detail: str = ""
    workload: str = ""
    version: str = ""
    release_digest: str = ""
    generation: int = 0
    runtime_id: str = ""  # container id or process id: changes when it was restarted
    started_ns: int = 0
    restarts: int = 0
    devices: tuple[DeviceStatus, ...] = ()
    streams: tuple[StreamStatus, ...] = ()
    measures: Mapping[str, float] = {}


class TrustStatus(Message, frozen=True):
    """What the agent thinks of the last instructions it was sent.

    ``refusal`` is the stable word of the TrustError (``bad-signature``, ``rollback``, ``wrong-site``, ``expired``,
    ``catalog-mismatch``, ``clock``, ...), empty when the last instructions were accepted.
    """

    adopted_generation: int = 0
    adopted_revision: int = 0
    director_version: int = 0
    catalog_version: int = 0
    checked_ns: int = 0
    refusal: str = ""
    refusal_detail: str = ""
    refusal_ns: int = 0


class BufferStatus(Message, frozen=True):
    bytes: int = 0
    cap_bytes: int = 0
    frames: int = 0
    samples: int = 0
    oldest_ns: int = 0
    dropped_samples: int = 0
    dropped_frames: int = 0


class Severity(enum.Enum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    SECURITY = "security"


class Event(Message, frozen=True):
    """Something that happened at the site, numbered per agent incarnation so that none is lost or shown twice."""

    seq: int
    at_ns: int
    severity: Severity
    kind: str  # stable word: "instance-started", "trust-refused", "samples-dropped", ...
    subject: str  # instance, stream or device name
    text: str


class Hold(Message, frozen=True):
    """A reason why a site takes no new generation now. ``kind``: local, schedule or interlock.

    ``until_ns`` 0: nobody knows. ``broken``: generations that OT and IT together let in all the same.
    """

    id: str
    kind: str
    who: str
    why: str
    since_ns: int
    until_ns: int = 0
    broken: tuple[int, ...] = ()


class StatusReport(Message, frozen=True):
    node: str
    agent_version: str
    incarnation: str
    at_ns: int
    started_ns: int
    platform: str  # "linux/amd64"
    runtime: str  # "docker 20.10.24" or "process"
    trust: TrustStatus
    instances: tuple[InstanceStatus, ...]
    buffer: BufferStatus
    waiting: tuple[str, ...] = ()  # why nothing happens, in words (reasons of Wait actions)
    events: tuple[Event, ...] = ()
    certificate_not_after_ns: int = 0
    sealing_key: str = ""  # of ``manifests.secrets``: what secrets for this node are sealed with
    holds: tuple[Hold, ...] = ()


class ReportReply(Message, frozen=True):
    """``events_seen``: highest event number safely stored; ``report_s``: when to report again if nothing changes."""

    events_seen: int = 0
    report_s: float = 30.0


# ---------------------------------------------------------------- trust


class EnrolRequest(Message, frozen=True):
    """With the ``secret`` of a token; or, of a node whose certificate has ended, with that certificate and the
    signature of its key over the new request (``manifests.pki.sign_again``)."""

    node: str
    csr_pem: str
    secret: str = ""
    ended_pem: str = ""
    signature: bytes = b""


class EnrolReply(Message, frozen=True):
    """``chain_pem``: leaf first; the roots are root.json bytes, checked against the digests in the token."""

    site: str
    node: str
    chain_pem: str
    server_ca_pem: str
    catalog_root: bytes
    director_root: bytes


class RenewRequest(Message, frozen=True):
    csr_pem: str


class RenewReply(Message, frozen=True):
    chain_pem: str


class RepositoryVersions(Message, frozen=True):
    """Versions of the metadata an agent holds; 0 = none. ``roles``: the catalog's delegated roles."""

    root: int = 0
    timestamp: int = 0
    snapshot: int = 0
    targets: int = 0
    roles: Mapping[str, int] = {}


class SyncRequest(Message, frozen=True):
    """``wait_s`` > 0 asks the server to hold the answer until something is new (long poll), at most that long."""

    catalog: RepositoryVersions
    director: RepositoryVersions
    wait_s: Annotated[float, Meta(ge=0, le=300)] = 0.0


class SyncReply(Message, frozen=True):
    """The metadata files the agent lacks, by the file names TUF clients ask for (``2.root.json``, ``timestamp.json``,
    ``5.targets.json``); a name that is absent does not exist. Targets travel as blobs, by digest."""

    catalog: Mapping[str, bytes]
    director: Mapping[str, bytes]


# ---------------------------------------------------------------- inquiries

InquiryId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
InquiryKind = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,62}$")]  # the workload's own word
InquiryBody = Annotated[bytes, Meta(max_length=MAX_INQUIRY_BYTES)]
AnswerBody = Annotated[bytes, Meta(max_length=MAX_ANSWER_BYTES)]


class Inquiry(Message, frozen=True):
    """Somebody at the centre asks an instance to read something. ``body`` is a JSON object, the arguments."""

    id: InquiryId
    instance: str
    kind: InquiryKind
    body: InquiryBody = b"{}"
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0


class InquiriesRequest(Message, frozen=True):
    """A long poll of its own, so that an agent that refuses or stages instructions can be asked all the same."""

    wait_s: Annotated[float, Meta(ge=0, le=300)] = 0.0


class InquiriesReply(Message, frozen=True):
    """``enough``: inquiries nobody waits for any longer."""

    inquiries: tuple[Inquiry, ...] = ()
    enough: tuple[InquiryId, ...] = ()


class InquiryAnswer(Message, frozen=True):
    """One of an inquiry's answers; after ``final`` there is none. ``error`` says why there is nothing to read."""

    id: InquiryId
    final: bool
    media: Annotated[str, Meta(max_length=100)] = "application/json"
    payload: AnswerBody = b""
    error: Annotated[str, Meta(max_length=2000)] = ""


class AnswersRequest(Message, frozen=True):
    answers: tuple[InquiryAnswer, ...]


class AnswersReply(Message, frozen=True):
    """``enough``: of those just answered, the ones nobody waits for any longer."""

    enough: tuple[InquiryId, ...] = ()


# ---------------------------------------------------------------- the local bus

CONFIGURE, INQUIRE, CHANGE = "configure", "inquire", "change"  # what a workload may say it hears


class Hello(Message, frozen=True, tag="hello"):
    """First message of a workload. The agent answers Welcome with the marks it holds for this incarnation.

    ``hears``: messages beyond the first protocol's that it understands; it is sent no others.
    """

    protocol: int
    incarnation: str
    streams: tuple[str, ...]
    hears: tuple[str, ...] = ()


class Publish(Message, frozen=True, tag="publish"):
    """``frame.stream`` is the bare stream name; the agent knows the instance by its socket and prefixes it."""

    frame: Frame


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """At least every 5 s: how the workload is, in its own words."""

    state: State
    reason: str
    detail: str = ""
    devices: tuple[DeviceStatus, ...] = ()
    streams: tuple[StreamStatus, ...] = ()
    measures: Mapping[str, float] = {}  # numbers about itself, such as jitter_p999_us or overruns


class Answer(Message, frozen=True, tag="answer"):
    """As ``InquiryAnswer``."""

    id: InquiryId
    final: bool
    media: Annotated[str, Meta(max_length=100)] = "application/json"
    payload: AnswerBody = b""
    error: Annotated[str, Meta(max_length=2000)] = ""


class Welcome(Message, frozen=True, tag="welcome"):
    protocol: int
    marks: tuple[StreamMark, ...]  # 0 = nothing yet; resend everything above


class Ack(Message, frozen=True, tag="ack"):
    """Everything up to ``seq`` is on disk, synced: the workload may forget it."""

    stream: str
    incarnation: str
    seq: int


class Refused(Message, frozen=True, tag="refused"):
    """The frame was not taken. ``expected_seq`` > 0: send from there. ``retryable``: keep it and try later."""

    stream: str
    seq: int
    what: str
    retryable: bool
    expected_seq: int = 0


class Configure(Message, frozen=True, tag="configure"):
    """The run context was rewritten: read it again. Whoever connects later reads it at once."""

    generation: int
    revision: int


class Inquire(Message, frozen=True, tag="inquire"):
    """As ``Inquiry``. A workload only reads for it and changes nothing."""

    id: InquiryId
    kind: InquiryKind
    body: InquiryBody = b"{}"
    timeout_s: float = 30.0


class Enough(Message, frozen=True, tag="enough"):
    """Nobody waits for this inquiry any longer."""

    id: InquiryId


class Change(Message, frozen=True, tag="change"):
    """Another program lies beside the run context: let it take over between two scans. ``context`` is the run context
    (JSON) as it will be when it has. Asking again for what runs already is harmless."""

    release: str
    context: bytes


class Changed(Message, frozen=True, tag="changed"):
    """How it ended: when not ``taken``, the program before goes on and ``reason`` says all that is in the way.
    ``idle``: there is none that goes on. ``report`` names variables that begin anew or end; ``swap_us`` is what the
    change took from its scan."""

    release: str
    taken: bool
    idle: bool = False
    reason: str = ""
    report: tuple[str, ...] = ()
    swap_us: float = 0.0


Upward = Hello | Publish | Heartbeat | Answer | Changed
Downward = Welcome | Ack | Refused | Configure | Inquire | Enough | Change

# ---------------------------------------------------------------- codec

_encoder = msgspec.msgpack.Encoder()
T = TypeVar("T")


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes, kind: type[T]) -> T:
    """Raises DocumentError (never a decoder's own error) when ``data`` is not a valid ``kind``."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise DocumentError([Problem(where="message", path=name, what=str(error))]) from error
