"""What the configuration says of a source: where records come from and what they do not say themselves. No I/O.

Read by ``workloads.vibration.config``; ``check`` finds the contradictions between fields, ``writes`` the registers
that the signed release must grant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from manifests.errors import Problem
from manifests.grants import Write
from workloads.kit import login, opcua
from workloads.kit.backoff import BackoffConfig
from workloads.kit.context import SecretName
from workloads.kit.opcua import Security, ServerUrl
from workloads.vibration.record import unit_of
from workloads.vibration.sources.arrival import Declared

WHERE = "config"
Host = Annotated[str, Meta(min_length=1, max_length=253)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Address = Annotated[str, Meta(min_length=1, max_length=1024)]
Register = Annotated[int, Meta(ge=0, le=65535)]
LayoutName = Literal["int16", "int16-big", "float32", "float32-big"]


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pass


class Samples(Part, frozen=True, kw_only=True):
    """What records may not say themselves; where they do, it must agree. ``scale`` and ``offset`` turn what arrives
    into ``unit``; ``fullScale`` (in ``unit``) is where the instrument overloads.

    With ``tachoChannel`` the speed comes from that channel's pulses, and a varying one is tracked."""

    rate_hz: Annotated[float, Meta(gt=0)] | None = None
    unit: Literal["g", "m/s2", "mm/s"] | None = None
    scale: float = 1.0
    offset: float = 0.0
    full_scale: Annotated[float, Meta(gt=0)] | None = None
    channel: Annotated[int, Meta(ge=0, le=1023)] = 0
    tacho_channel: Annotated[int, Meta(ge=0, le=1023)] | None = None
    pulses_per_turn: Annotated[int, Meta(ge=1, le=10_000)] = 1

    def declared(self, rpm: float | None) -> Declared:
        return Declared(
            rate_hz=self.rate_hz,
            unit=unit_of(self.unit),
            scale=self.scale,
            offset=self.offset,
            full_scale=self.full_scale,
            channel=self.channel,
            tacho_channel=self.tacho_channel,
            pulses_per_turn=self.pulses_per_turn,
            rpm=rpm,
        )


class Spool(Samples, frozen=True, kw_only=True):
    """A folder into which an acquisition program writes one file per record. A file counts as complete when it did
    not change between two looks. ``existing``: what lies there at start is skipped or analysed. Nothing is deleted.

    Beside ``x.npy`` may lie ``x.npy.json`` with ``rpm``, ``load`` (share of rated) and ``startNs``. ``variable``
    names the channel where a file has names (MAT, Parquet, CSV with a header).
    """

    folder: Address
    variable: Annotated[str, Meta(max_length=200)] | None = None
    interval_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 5000
    existing: Literal["skip", "analyse"] = "skip"


class MqttRecords(Samples, frozen=True, kw_only=True):
    """Records out of a broker. ``format``: ``binary`` has a header, ``json`` is slow, ``raw`` is bare values of
    ``layout``, ``sparkplug`` takes ``metric`` of a node's or device's ``topic``
    (``spBv1.0/GROUP/NODE/DEVICE``, without the message type).

    ``speedTopic`` carries the speed in rpm: a number, or ``{"value": number}`` as this product publishes. A Sparkplug
    record may have ``rateMetric``, ``speedMetric`` and ``overloadMetric`` beside it. Speeds older than
    ``speedMaxAgeS`` do not count.
    """

    host: Host = "broker"
    port: Port = 1883
    username: str = ""
    password: str = ""  # readable by whoever reads the configuration: better a secret
    password_secret: SecretName = ""
    topic: Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[^+#]+$")]
    format: Literal["binary", "json", "raw", "sparkplug"] = "binary"
    layout: LayoutName | None = None
    metric: Annotated[str, Meta(max_length=256)] | None = None
    rate_metric: Annotated[str, Meta(max_length=256)] | None = None
    speed_metric: Annotated[str, Meta(max_length=256)] | None = None
    overload_metric: Annotated[str, Meta(max_length=256)] | None = None
    speed_topic: Annotated[str, Meta(max_length=1024, pattern=r"^[^+#]+$")] | None = None
    speed_max_age_s: Annotated[float, Meta(gt=0, le=86_400)] = 10.0
    max_mb: Annotated[int, Meta(ge=1, le=64)] = 16
    backoff: BackoffConfig = BackoffConfig()


class OpcuaRecords(Samples, frozen=True, kw_only=True):
    """An array variable of an OPC UA server, plain or a YArrayItem, whose properties then tell rate, unit and range.

    A new record is one with another ``sequenceNode``, or without it another source time stamp. ``chunk`` values are
    asked for at once by IndexRange; without it the whole array, and in pieces where the server says it is too large.
    """

    url: ServerUrl
    security: Security | None = None
    username: str = ""
    password: str = ""  # readable by whoever reads the configuration: better a secret
    password_secret: SecretName = ""
    node: Address
    sequence_node: Address | None = None
    speed_node: Address | None = None
    load_node: Address | None = None
    overload_node: Address | None = None
    chunk: Annotated[int, Meta(ge=256, le=10_000_000)] | None = None
    interval_ms: Annotated[int, Meta(ge=50, le=3_600_000)] = 1000
    timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 4000
    backoff: BackoffConfig = BackoffConfig()


class Freeze(Part, frozen=True):
    """Hold the device's buffer while it is read: holding register ``address`` is written 1, and 0 afterwards. This is
    a write to a device: ``write: true`` says that it is meant, and the signed release must grant it."""

    address: Register
    write: bool = False


class ModbusRecords(Samples, frozen=True, kw_only=True):
    """A block of registers that holds one record. ``indexAddress`` counts records: it moves when one is complete.

    Without ``freeze`` a record during whose reading the index moved is thrown away and read again. All registers are
    in ``area``, but ``freeze`` is a holding register.
    """

    host: Host
    port: Port = 502
    device: Annotated[int, Meta(ge=0, le=255)] = 1
    area: Literal["holding", "input"] = "input"
    address: Register
    registers: Annotated[int, Meta(ge=256, le=65536)]
    layout: LayoutName = "int16"
    index_address: Register
    freeze: Freeze | None = None
    speed_address: Register | None = None
    speed_scale: float = 1.0
    overload_address: Register | None = None
    interval_ms: Annotated[int, Meta(ge=50, le=3_600_000)] = 1000
    timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 1000
    backoff: BackoffConfig = BackoffConfig()


def check_source(source: Spool | MqttRecords | OpcuaRecords | ModbusRecords, path: str) -> Iterator[Problem]:
    """Every contradiction between fields."""

    def wrong(key: str, what: str, hint: str = "") -> Problem:
        return Problem(WHERE, f"{path}.{key}", what, hint)

    if source.scale == 0:
        yield wrong("scale", "0 makes every sample 0")
    if source.tacho_channel is not None and source.tacho_channel == source.channel:
        yield wrong("tachoChannel", "the vibration's own channel cannot be the tacho's")
    match source:
        case MqttRecords():
            if source.format == "sparkplug":
                if source.metric is None:
                    yield wrong("metric", "which metric holds the samples?")
                if not source.topic.startswith("spBv1.0/") or source.topic.count("/") not in (2, 3):
                    yield wrong("topic", f'"{source.topic}" names no node or device', "spBv1.0/GROUP/NODE/DEVICE")
            elif source.metric is not None:
                yield wrong("metric", "only Sparkplug has metrics")
            if source.format == "raw" and source.layout is None:
                yield wrong("layout", "bare values do not say what they are", "int16, float32, ...")
            if source.format == "raw" and source.rate_hz is None:
                yield wrong("rateHz", "bare values do not tell their sampling rate")
            if source.backoff.max_ms < source.backoff.min_ms:
                yield wrong("backoff", "maxMs is smaller than minMs")
            for key, what, hint in login.mistakes(source):
                yield wrong(key, what, hint)
        case ModbusRecords():
            if source.rate_hz is None:
                yield wrong("rateHz", "registers do not tell their sampling rate")
            if source.address + source.registers > 65536:
                yield wrong("registers", f"{source.registers} from {source.address} on end beyond 65535")
            if source.layout.startswith("float32") and source.registers % 2:
                yield wrong("registers", "a float32 takes two registers: the number must be even")
            if source.freeze is not None and not source.freeze.write:
                what = f"freezing writes holding register {source.freeze.address}"
                yield wrong("freeze.write", what, "say write: true and have the release grant it, or leave freeze out")
        case OpcuaRecords():
            for key, what, hint in opcua.mistakes(source.security, source):
                yield wrong(key, what, hint)
        case Spool():
            pass


def freeze_write(source: ModbusRecords, path: str) -> Iterator[Write]:
    """The one write that a source may ask for."""
    if source.freeze is not None:
        yield Write("modbus", source.host, f"holding {source.freeze.address}", f"{path}.freeze")
