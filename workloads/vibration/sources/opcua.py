"""Records out of an OPC UA server: an array variable, plain or a YArrayItem.

Built by ``monitor``, one per machine. It reads and never writes. Of a YArrayItem it takes rate (XAxisDefinition), unit
(EngineeringUnits) and range (InstrumentRange); a variable without these properties takes what the configuration
declares. A record that changed while it was read in pieces is read again.

Source: OPC UA Part 8, 5.3.4.2 (YArrayItemType) and 5.6.3 (AxisInformation); Part 4, 7.27 (NumericRange).
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError

from manifests.errors import DocumentError, Problem, SluiceError
from workloads.kit.backoff import Backoff
from workloads.kit.opcua import secure
from workloads.vibration.record import Unit, unit_of
from workloads.vibration.sources import Report
from workloads.vibration.sources.arrival import Declared, Heard, Taken, settle
from workloads.vibration.sources.config import OpcuaRecords
from workloads.vibration.sources.line import Line, keep_trying
from workloads.vibration.sources.payload import decode_binary

log = logging.getLogger("vibration.opcua")

APPLICATION_URI = "urn:sluice:workload:vibration"
MAX_SAMPLES = 1 << 24
FALLBACK_CHUNK = 50_000
TORN_TRIES = 3
_TOO_LARGE = {
    StatusCodes.BadResponseTooLarge,
    StatusCodes.BadEncodingLimitsExceeded,
    StatusCodes.BadTcpMessageTooLarge,
}
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6}
# UNECE recommendation 20 codes as numbers (Part 8, 5.6.3): MSK, K40 and C16.
_UNIT_IDS = {5067595: Unit.METRE_PER_S2, 4928560: Unit.G, 4403510: Unit.MM_PER_S}


@dataclass(frozen=True, slots=True)
class Axes:
    """What the item's properties say; None where they do not. ``span_s`` from the first sample to the last."""

    unit: Unit | None = None
    full_scale: float | None = None
    step_s: float | None = None
    span_s: float | None = None

    def rate_hz(self, count: int) -> float | None:
        if self.step_s is not None:
            return round(1 / self.step_s, 6)
        return round((count - 1) / self.span_s, 6) if self.span_s and count > 1 else None


def axes(properties: dict[str, Any], where: str) -> Axes:
    """Raises DocumentError for axes that are none of a waveform."""
    unit = _unit(properties.get("EngineeringUnits"), where)
    full_scale = None
    # Not EURange: that is where values usually lie, not where the instrument ends.
    reach = properties.get("InstrumentRange")
    if reach is not None and reach.High > reach.Low:
        full_scale = float(max(abs(reach.High), abs(reach.Low)))
    axis = properties.get("XAxisDefinition")
    if axis is None:
        return Axes(unit, full_scale)
    text = (axis.EngineeringUnits.DisplayName.Text or "").strip()
    factor = _SECONDS.get(text)
    if factor is None:
        what = f'the x axis is in "{text}": a waveform\'s is time'
        raise DocumentError([Problem(where, "XAxisDefinition", what, "s, ms or us")])
    steps = np.asarray(axis.AxisSteps or [], dtype=np.float64)
    if len(steps) > 1:
        step = float(steps[-1] - steps[0]) / (len(steps) - 1)
        if not (step > 0 and np.abs(np.diff(steps) - step).max() < 0.01 * step):
            raise DocumentError([Problem(where, "XAxisDefinition", "the steps of the x axis are not even")])
        return Axes(unit, full_scale, step_s=step * factor)
    span = (axis.EURange.High - axis.EURange.Low) * factor
    return Axes(unit, full_scale, span_s=float(span) if math.isfinite(span) and span > 0 else None)


def _unit(information: Any, where: str) -> Unit | None:
    if information is None:
        return None
    if information.UnitId in _UNIT_IDS:
        return _UNIT_IDS[information.UnitId]
    return unit_of(information.DisplayName.Text, where=where)


class OpcuaSource:
    def __init__(self, config: OpcuaRecords, declared: Declared, line: Line) -> None:
        self._config = config
        self._declared = declared
        self._line = line
        self._now_ns = line.now_ns
        self._backoff = Backoff(config.backoff, line.random)
        self._chunk = config.chunk
        self._last: Any = None

    async def run(self, report: Report) -> None:
        # A node that is not what it should be (DocumentError) is looked at again later too.
        errors = (OSError, TimeoutError, UaError, SluiceError, ValueError)
        await keep_trying(self._session, report, where=self._config.url, backoff=self._backoff, errors=errors)

    async def _session(self, report: Report) -> None:
        config = self._config
        timeout_s = config.timeout_ms / 1000
        client = Client(self._line.address, timeout=timeout_s, watchdog_intervall=max(2.0, timeout_s))
        client.application_uri = APPLICATION_URI
        await secure(client, config.security, config, self._line.secret)
        async with asyncio.timeout(4 * timeout_s):
            await client.connect()
        try:
            node = await _node(client, config.node)
            about = axes(await _properties(node), config.node)
            beside = {
                key: await _node(client, text)
                for key, text in (
                    ("sequence", config.sequence_node),
                    ("speed", config.speed_node),
                    ("load", config.load_node),
                    ("overload", config.overload_node),
                )
                if text is not None
            }
            while True:
                await self._look(node, about, beside, report)
                self._backoff.reset()
                report.reached()
                await asyncio.sleep(config.interval_ms / 1000)
        finally:
            try:
                async with asyncio.timeout(timeout_s):
                    await client.disconnect()
            except (OSError, TimeoutError, UaError):
                client.disconnect_socket()

    async def _look(self, node: Any, about: Axes, beside: dict[str, Any], report: Report) -> None:
        counted = beside.get("sequence")
        mark = await counted.read_value() if counted is not None else None
        if counted is not None and mark == self._last:
            return
        for _ in range(TORN_TRIES):
            value, stamp = await self._read(node)
            others = {key: await one.read_value() for key, one in beside.items()}
            after = others.get("sequence")
            if stamp is not None and (counted is None or after == mark):
                break
            mark = after
        else:
            report.lost(1, "the array changes faster than it can be read")
            self._last = mark
            return
        this = mark if counted is not None else stamp
        if this == self._last:
            return
        if counted is not None and isinstance(self._last, int) and isinstance(this, int) and this - self._last > 1:
            report.lost(this - self._last - 1, "the sequence moved on by more than one")
        self._last = this
        where = f"{self._config.node} {this}"
        arrived_ns = self._now_ns()
        await report.offer(where, lambda: self._make(value, stamp, others, about, arrived_ns, where))

    async def _read(self, node: Any) -> tuple[Any, Any]:
        """The array and its time stamp; no time stamp when it changed between two pieces."""
        if self._chunk is None:
            try:
                data = await node.read_attribute(AttributeIds.Value)
            except UaError as error:
                if getattr(error, "code", None) not in _TOO_LARGE:
                    raise
                log.info("array too large for one response", extra={"node": self._config.node})
                self._chunk = FALLBACK_CHUNK
            else:
                return data.Value.Value, data.SourceTimestamp or data.ServerTimestamp or self._now_ns()
        pieces: list[Any] = []
        stamps = set()
        while len(pieces) < MAX_SAMPLES:
            span = f"{len(pieces)}:{len(pieces) + self._chunk - 1}"
            data = await node.read_attribute(AttributeIds.Value, indexrange=span, raise_on_bad_status=False)
            status = data.StatusCode
            if status is not None and status.value == StatusCodes.BadIndexRangeNoData and pieces:
                break
            if status is not None:
                status.check()
            stamps.add(data.SourceTimestamp or data.ServerTimestamp)
            piece = data.Value.Value
            if pieces and len(piece) > self._chunk:
                break  # it gave the whole again
            pieces += piece
            if len(piece) != self._chunk:
                break  # the end, or a server that knows no ranges and gave all
        stamp = next(iter(stamps)) or self._now_ns()
        return pieces, stamp if len(stamps) == 1 else None

    def _make(self, value: Any, stamp: Any, others: dict[str, Any], about: Axes, arrived_ns: int, where: str) -> Taken:
        if isinstance(value, bytes):
            samples = decode_binary(value, "int16", where=where)
        else:
            try:
                samples = np.asarray(value, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise DocumentError([Problem(where, "value", f"no array of numbers: {error}")]) from error
        if samples.ndim != 1:
            what = f"an array of shape {samples.shape}; one channel is one-dimensional"
            raise DocumentError([Problem(where, "value", what)])
        ended_ns = int(stamp.timestamp() * 1e9) if hasattr(stamp, "timestamp") else arrived_ns
        heard = Heard(
            channels=samples[:, None],
            rate_hz=about.rate_hz(len(samples)),
            unit=about.unit,
            full_scale=about.full_scale,
            rpm=_number(others, "speed", where),
            load=_number(others, "load", where),
            overload=bool(others.get("overload", False)),
        )
        return settle(heard, self._declared, arrived_ns=ended_ns, source=where)


def _number(others: dict[str, Any], key: str, where: str) -> float | None:
    if key not in others:
        return None
    try:
        return float(others[key])
    except (TypeError, ValueError) as error:
        raise DocumentError([Problem(where, key, f"{others[key]!r} is no number")]) from error


async def _node(client: Client, text: str) -> Any:
    if text.startswith("nsu="):
        uri, _, rest = text[4:].partition(";")
        text = f"ns={await client.get_namespace_index(uri)};{rest}"
    return client.get_node(text)


async def _properties(node: Any) -> dict[str, Any]:
    return {(await one.read_browse_name()).Name: await one.read_value() for one in await node.get_properties()}
